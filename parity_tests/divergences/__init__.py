"""The divergence catalogue: where PyTorch and TensorFlow 2 or Keras differ by default, how much, and what to do.

Read the pages before porting a model. Each entry is a function that measures the difference twice, with the
defaults of both frameworks and with the remedy, and states the band that the first lies in and what the
second may not exceed:

    optimizers          O    settings, formulas, schedules
    layers              L    initial values, layouts, padding, normalisation
    images              L    depthwise kernels, pooling, resizing, channels
    sequences           L    recurrent layers, attention, embeddings
    activations         L    slopes, approximations
    losses              S    reductions, clipping, logits or probabilities
    random_numbers      R    seeds, number types, tracing, TF32, tapes
    linear_algebra      G    factorisations, eigenvectors, norms
    edge_gradients      G    kinks, ties, zeros and infinities
    tensor_functions    T    one name, two functions

Entries whose docstring ends with `Both:` show that the frameworks agree where one might fear otherwise.
`make divergences` measures all of it and prints the table, `bites` counts in how many ports a row would bite;
`test_catalogue.py` asserts it.
"""

from parity_tests.divergences import activations, edge_gradients, images, layers, linear_algebra, losses, optimizers

from parity_tests.divergences import random_numbers, sequences, tensor_functions  # isort: skip
from parity_tests.divergences.catalogue import CATALOGUE

PAGES = (
    *(optimizers, layers, images, sequences, activations, losses),
    *(random_numbers, linear_algebra, edge_gradients, tensor_functions),
)
# In the order of the pages, whatever the order of imports.
ENTRIES = tuple(entry for page in PAGES for entry in CATALOGUE if entry.page is page)
