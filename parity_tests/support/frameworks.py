"""The two frameworks side by side, for tests that run the same lines on both."""

from types import ModuleType

import pytorch_impl.estimators
import tf2_impl.estimators


def estimators(page: ModuleType) -> ModuleType:
    """The estimators of the implementation that a page belongs to."""
    return {"pytorch_impl": pytorch_impl.estimators, "tf2_impl": tf2_impl.estimators}[page.__name__.partition(".")[0]]
