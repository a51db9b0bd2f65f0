"""From the coin toss to the variational autoencoder, in TensorFlow 2."""

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any

from common.runs.terminal import without_native_stderr


class _SilentImport:
    """Suppresses the native messages of TensorFlow's first import, which its log level does not cover."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(_SilentImport)
        if (spec := find_spec(name)) is not None and os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3":
            spec.loader.exec_module = without_native_stderr()(spec.loader.exec_module)
        return spec


# TensorFlow reads the level once, when it is first imported. At 3 its native log is silent; errors are exceptions
# anyway. Whoever sets another level sees it all.
if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3" and "tensorflow" not in sys.modules:
    sys.meta_path.insert(0, _SilentImport)
