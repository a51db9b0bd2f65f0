"""Where a port between PyTorch and Keras first leaves the original, and why.

port = Port(model, keras_model, x, y, loss=F.cross_entropy, port_loss=keras_loss)
print(port.check())
"""

from portparity.port import Port

__all__ = ["Port"]
