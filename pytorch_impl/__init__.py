"""From the coin toss to the variational autoencoder, in PyTorch."""
