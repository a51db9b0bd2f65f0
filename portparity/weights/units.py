"""Weights without a converter: layers of both sides are paired by kind, shape and order of execution."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from portparity.weights.landed import Layout, Terms


class Unit(NamedTuple):
    """Parameters that belong together: a dense layer's kernel and bias, the gates of one recurrent layer."""

    kind: str
    name: str
    parts: dict[str, np.ndarray]  # by role; positions for the original, the variable's positions for the port


KINDS = {  # the class of a module or layer: its kind
    "Linear": "dense",
    "Dense": "dense",
    "EinsumDense": "dense",
    "LazyLinear": "dense",
    "Conv1d": "conv",
    "Conv2d": "conv",
    "Conv3d": "conv",
    "Conv1D": "conv",
    "Conv2D": "conv",
    "Conv3D": "conv",
    "DepthwiseConv1D": "conv",
    "DepthwiseConv2D": "conv",
    "ConvTranspose1d": "transposed",
    "ConvTranspose2d": "transposed",
    "ConvTranspose3d": "transposed",
    "Conv1DTranspose": "transposed",
    "Conv2DTranspose": "transposed",
    "Conv3DTranspose": "transposed",
    "BatchNorm1d": "norm",
    "BatchNorm2d": "norm",
    "BatchNorm3d": "norm",
    "BatchNormalization": "norm",
    "LayerNorm": "norm",
    "LayerNormalization": "norm",
    "GroupNorm": "norm",
    "GroupNormalization": "norm",
    "RMSNorm": "norm",
    "RMSNormalization": "norm",
    "InstanceNorm1d": "norm",
    "InstanceNorm2d": "norm",
    "Embedding": "embedding",
    "PReLU": "slope",
    "LSTM": "lstm",
    "LSTMCell": "lstm",
    "GRU": "gru",
    "GRUCell": "gru",
    "RNN": "rnn",
    "RNNCell": "rnn",
    "SimpleRNNCell": "rnn",
    "MultiheadAttention": "attention",
}
ROLES = {  # a variable's or parameter's own name: its role
    "weight": "weight",
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "pointwise_kernel": "weight",
    "embeddings": "weight",
    "alpha": "weight",
    "gamma": "weight",
    "scale": "weight",
    "bias": "bias",
    "beta": "bias",
    "running_mean": "mean",
    "moving_mean": "mean",
    "running_var": "variance",
    "moving_variance": "variance",
    "recurrent_kernel": "recurrent",
}


def kind_of(thing: Any) -> str:
    """The kind of a module or layer, by the framework's class that it is or derives from."""
    names = [c.__name__ for c in type(thing).__mro__ if c.__module__.partition(".")[0] in ("torch", "keras")]
    return next((KINDS[name] for name in names if name in KINDS), "raw")


def original_units(modules: dict[str, Any], layout: Layout, order: list[str]) -> list[Unit]:
    """The units of a PyTorch model, in the order in which they run."""
    units, rank = [], {name: place for place, name in enumerate(order)}
    for path, module in modules.items():
        prefix = f"{path}." if path else ""
        own = {
            n[len(prefix) :]: p
            for n, p in layout.positions.items()
            if n.startswith(prefix) and "." not in n[len(prefix) :]
        }
        own.pop("num_batches_tracked", None)
        kind = kind_of(module)
        if kind == "attention" and "in_proj_weight" in own:
            for number, part in enumerate(("query", "key", "value")):
                cut = {"weight": np.split(own["in_proj_weight"], 3)[number]}
                cut |= {"bias": np.split(own["in_proj_bias"], 3)[number]} if "in_proj_bias" in own else {}
                units.append(Unit("dense", f"{path}.{part}", cut))
        elif kind in ("lstm", "gru", "rnn"):
            for suffix in sorted({name.partition("hh")[2] for name in own if name.startswith("weight_hh")}):
                parts = {"weight": own[f"weight_ih{suffix}"], "recurrent": own[f"weight_hh{suffix}"]}
                if f"bias_ih{suffix}" in own:
                    parts |= {"bias": own[f"bias_ih{suffix}"], "second": own[f"bias_hh{suffix}"]}
                units.append(Unit(kind, f"{path}{suffix}", parts))
        elif kind != "raw" and own:
            units.append(Unit(kind, path, {ROLES[name]: p for name, p in own.items() if name in ROLES}))
        else:
            units += [Unit("raw", prefix + name, {"weight": positions}) for name, positions in own.items()]
    return sorted(
        units, key=lambda unit: min((rank.get(layout.owner(p.flat[0]), 10**6), p.flat[0]) for p in unit.parts.values())
    )


def port_units(layers: list[Any], shapes: dict[str, tuple[int, ...]], order: list[str]) -> list[Unit]:
    """The units of a Keras model, in the order in which they run."""
    rank, kinds = {path: place for place, path in enumerate(order)}, {}
    for layer in layers:
        for variable in getattr(layer, "_trainable_variables", []) + getattr(layer, "_non_trainable_variables", []):
            kinds[getattr(variable, "path", "")] = (layer, kind_of(layer))
    units: dict[Any, Unit] = {}
    for path in sorted(shapes, key=lambda p: rank.get(p, 10**6)):
        layer, kind = kinds.get(path.rstrip("'"), (None, "raw"))
        role = ROLES.get(path.rpartition("/")[2].rstrip("'"), "weight")
        size = int(np.prod(shapes[path]))
        key = path if kind == "raw" else (id(layer), "pointwise" in path)
        unit = units.setdefault(key, Unit(kind, path if kind == "raw" else path.rpartition("/")[0], {}))
        unit.parts[role] = np.arange(size).reshape(shapes[path])
        unit.parts[f"{role} path"] = path
    return list(units.values())


def arrangements(kind: str, role: str, positions: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The ways in which the original's numbers may lie in a variable of this shape, the usual one first."""
    p, size = positions, int(np.prod(shape))
    if p.size != size:
        return
    if kind == "gru" and role in ("weight", "recurrent", "bias", "second"):
        reset, update, new = np.split(p, 3)
        p = np.concatenate([update, reset, new])
    if p.ndim == 2 and kind in ("dense", "lstm", "gru", "rnn", "conv", "raw"):
        if kind == "raw" and p.shape == shape:
            yield p
        if p.shape[1] in np.cumprod(shape):
            yield p.T.reshape(shape)
    elif p.ndim >= 3 and kind in ("conv", "transposed", "dense"):
        spatial = tuple(range(2, p.ndim))
        depthwise = kind == "conv" and p.shape[1] == 1 and len(shape) == p.ndim and shape[-2] > 1
        if depthwise and p.shape[0] == shape[-2] * shape[-1]:  # depthwise: (C m, 1, ...) to (..., C, m)
            yield p.reshape(shape[-2], shape[-1], *p.shape[2:]).transpose(*(n for n in spatial), 0, 1).reshape(shape)
        elif p.transpose(*spatial, 1, 0).shape == shape or p[..., 0].size == p.size:
            yield p.transpose(*spatial, 1, 0).reshape(shape)
    if p.shape == shape or p.ndim == 1 or kind in ("norm", "slope", "embedding"):
        yield p.reshape(shape)


def paired(original: Unit, port: Unit) -> dict[str, list[Terms]] | None:
    """For each variable of the port's unit the ways to fill it from the original's; None if they do not fit."""
    roles = [role for role in port.parts if " " not in role]
    if not set(roles) <= set(original.parts) or {"weight", "bias"} & set(original.parts) - set(roles):
        return None
    filled: dict[str, list[Terms]] = {}
    for role in roles:
        shape, path = port.parts[role].shape, port.parts[f"{role} path"]
        if role == "bias" and "second" in original.parts:
            both = [original.parts[part] for part in ("bias", "second")]
            if len(shape) == 2:  # a GRU that resets after the product keeps both
                ways = [[np.stack([next(arrangements(original.kind, "bias", b, b.shape)) for b in both])]]
            else:
                ways = [[next(arrangements(original.kind, "bias", b, shape), None) for b in both]]
        else:
            ways = [[way] for way in arrangements(original.kind, role, original.parts[role], shape)]
        ways = [way for way in ways if all(term is not None and term.shape == shape for term in way)]
        if not ways:
            return None
        filled[path] = ways
    return filled


def pair_units(originals: list[Unit], ports: list[Unit]) -> list[tuple[Unit, Unit]]:
    """Each unit of the original with the first free one of the port that it fits; equal kinds first."""
    pairs, free = [], list(ports)
    for same in (True, False):
        taken = {id(a) for a, _ in pairs}
        for unit in originals:
            if id(unit) in taken:
                continue
            for other in free:
                if (unit.kind == other.kind) is same and paired(unit, other) is not None:
                    pairs.append((unit, other))
                    free.remove(other)
                    break
    return pairs
