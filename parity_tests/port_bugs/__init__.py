"""Ports with a planted bug: does the porting tool find them, say where they are, and name them?

A pair is a function that builds a PyTorch model and its Keras port. What the port gets wrong is one of the
function's settings; with the defaults the port is correct. Each page lists its bugs below its pairs:

    problem          what a pair is, and what a bug
    recurrent        LSTM, GRU
    attention        multi-head attention, encoder block, rotary attention
    convolutions     strided, depthwise, transposed, resized, shuffled, causal
    normalisation    batch normalisation that trains, a residual block, layer and RMS normalisation
    losses           classes, labels, regression, distillation
    training         Adam, AdamW with clipping, SGD, RMSprop, schedules
    latent           a VAE, EM for a mixture

`make port-bugs` checks every pair and every bug and prints the table. The pairs were written by someone who had not
seen the tool's hypotheses.
"""

from common.runs.script import without_native_stderr

with without_native_stderr():
    import tf2_impl  # noqa: F401  (silences TensorFlow's log before its first import)
    from parity_tests.port_bugs import attention, convolutions, latent, losses, normalisation, recurrent, training

PAGES = (recurrent, attention, convolutions, normalisation, losses, training, latent)
BUGS = tuple(bug for page in PAGES for bug in page.BUGS)
