"""From the coin toss to the variational autoencoder, in TensorFlow 2."""

import os

# TensorFlow reads this once, when it is first imported. Its native log then stays silent; errors are exceptions anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
