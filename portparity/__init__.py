"""Where a port between PyTorch and Keras first leaves the original, and why.

    port = Port(model, keras_model, x, y, loss=F.cross_entropy, port_loss=keras_loss)
    print(port.check())

`record` and `compare` do the same for two processes, without causes. Neither framework is imported before it is needed.
"""

from portparity.files import compare, record
from portparity.port import Port

__all__ = ["Port", "compare", "record"]
