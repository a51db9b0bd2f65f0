"""The known mistakes, in the order in which they are tried.

normalisation   epsilon, axes, statistics, groups
convolutions    convolutions and dense layers: padding, stride, the kernel's layout
attention       masks, packed projections, the scores' factor and order
sequences       embeddings and recurrent layers
losses          reductions, logits and probabilities, smoothing, the order of arguments
activations     activations and dropout
images          pooling, resizing, the order of pixels
tensors         the order of axes and entries, reductions, constants
edges           functions of one name that do two things; kinks, ties and zeros
flow            what reads what, and gradients that stop
"""

from portparity.causes.calls import MISTAKES

from portparity.causes.known import normalisation, convolutions, attention, sequences, losses  # isort: skip
from portparity.causes.known import activations, images, tensors, edges, flow  # isort: skip

PAGES = (normalisation, convolutions, attention, sequences, losses, activations, images, tensors, edges, flow)
JOINED = set(  # functions with so many settings that two of them may be wrong
    f"{normalisation.NORMS} {convolutions.CONVOLUTIONS} {convolutions.TRANSPOSED} {losses.ALL} linear embedding "
    "lstm gru max_pool1d max_pool2d avg_pool1d avg_pool2d".split()
)
__all__ = ["JOINED", "MISTAKES", "PAGES"]
