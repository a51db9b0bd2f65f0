"""How long a check takes of a large port, right and wrong: python -m parity_tests.port_bugs.large"""

from time import perf_counter

from common.runs.script import without_native_stderr

with without_native_stderr():
    import keras

    import tf2_impl  # noqa: F401  (silences TensorFlow's log before its first import)
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from portparity import Port
from portparity.report import Report

WRONG = {
    "none": {},
    "epsilon of the first norm of each layer": {"epsilon": 1e-3},
    "epsilon of the last layer alone": {"last": 1e-3},
    "ReLU for GELU": {"activation": "relu"},
    "maximum for mean over tokens": {"pool": keras.layers.GlobalMaxPooling1D},
}


class Encoder(nn.Module):
    """Token ids (N, T) to logits (N, 5)."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.embedding, self.head = nn.Embedding(100, width), nn.Linear(width, 5)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embedding(tokens)).mean(1))


def port_of(
    layers: int, width: int, epsilon=1e-5, last=None, activation="gelu", pool=keras.layers.GlobalAveragePooling1D
) -> keras.Model:
    """Its port; each setting is a mistake that it may have."""
    tokens = keras.Input((16,), dtype="int32")
    x = keras.layers.Embedding(100, width)(tokens)
    for number in range(layers):
        first = last if last is not None and number == layers - 1 else epsilon
        h = keras.layers.LayerNormalization(epsilon=first)(x)
        x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(8, width // 8)(h, h)])
        h = keras.layers.Dense(4 * width, activation)(keras.layers.LayerNormalization(epsilon=1e-5)(x))
        x = keras.layers.Add()([x, keras.layers.Dense(width)(h)])
    return keras.Model(tokens, keras.layers.Dense(5)(pool()(keras.layers.LayerNormalization(epsilon=1e-5)(x))))


def checked(layers: int = 12, width: int = 256, **wrong) -> Report:
    """The report of an encoder's port."""
    tokens, loss = np.random.default_rng(0).integers(0, 100, (4, 16)), keras.losses.SparseCategoricalCrossentropy
    port = port_of(layers, width, **wrong)
    return Port(Encoder(layers, width), port, tokens, np.arange(4), F.cross_entropy, loss(from_logits=True)).check()


def main() -> None:
    """Print how long each check takes, and what it finds."""
    print(f"{sum(parameter.numel() for parameter in Encoder(12, 256).parameters()):,} weights")
    for name, wrong in WRONG.items():
        start = perf_counter()
        report = checked(**wrong)
        cause = f"{report.first.original}: {report.first.cause} {report.first.also}" if report.first else "agrees"
        print(f"{perf_counter() - start:4.0f} s, mistake: {name}; {cause}", flush=True)


if __name__ == "__main__":
    main()
