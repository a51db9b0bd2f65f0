"""From the coin toss to the variational autoencoder, in TensorFlow 2."""

import os

# TensorFlow reads this once, when it is first imported: 2 leaves out its start-up information and warnings.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
