"""PyTorch's optimizers in NumPy, one update at a time, and the mistakes that a port's optimizer makes.

An update is replayed from the gradients that the port itself had, so that a mistake shows at its first wrong step
and does not feed back.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

Settings = dict[str, Any]
DEFAULTS = {
    "lr": 1e-3,
    "momentum": 0.0,
    "dampening": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
    "betas": (0.9, 0.999),
    "powers": None,  # betas in the bias correction, if they are others
    "eps": 1e-8,
    "amsgrad": False,
    "alpha": 0.99,
    "centered": False,
    "initial_accumulator_value": 0.0,
    "lr_decay": 0.0,
    "decoupled": False,
    "maximize": False,
    "place": "after",
    "form": "torch",
    "clip": None,
    "correction": True,
    "l2": 0.0,
    "late": 0,
    "factor": 1.0,
}


class Mistake(NamedTuple):
    """A row of the catalogue, or none, what is wrong, its remedy, and the settings that the port has instead."""

    row: str
    text: str
    remedy: str
    settings: Settings


def settings_of(kind: str, group: Settings) -> Settings:
    """A parameter group's settings with everything that a replay reads."""
    given = {name: value for name, value in group.items() if name in DEFAULTS and value is not None}
    decoupled = kind == "AdamW" or bool(group.get("decoupled_weight_decay"))
    return DEFAULTS | given | {"kind": "Adam" if kind == "AdamW" else kind, "decoupled": decoupled}


def update(w: np.ndarray, g: np.ndarray, state: dict[str, Any], s: Settings) -> np.ndarray:
    """The parameter after one update; ``state`` is the optimizer's, changed in place."""
    state["t"] = t = state.get("t", 0) + 1
    lr, decay = s["lr"] * s["factor"], s["weight_decay"]
    g = g + s["l2"] * w
    if decay and s["decoupled"]:
        w = w - lr * decay * w
    elif decay:
        g = g + decay * w
    return {"SGD": _sgd, "Adam": _adam, "RMSprop": _rmsprop, "Adagrad": _adagrad}[s["kind"]](w, g, state, s, lr, t)


def _sgd(w: np.ndarray, g: np.ndarray, state: dict, s: Settings, lr: float, t: int) -> np.ndarray:
    if not (m := s["momentum"]):
        return w - lr * g
    if s["form"] == "keras":  # the rate is inside of the velocity
        state["v"] = m * state.get("v", 0) - lr * g
        return w + (m * state["v"] - lr * g if s["nesterov"] else state["v"])
    state["v"] = g if t == 1 else m * state["v"] + (1 - s["dampening"]) * g
    return w - lr * (g + m * state["v"] if s["nesterov"] else state["v"])


def _adam(w: np.ndarray, g: np.ndarray, state: dict, s: Settings, lr: float, t: int) -> np.ndarray:
    (a, b), eps = s["betas"], s["eps"]
    t = t + s["late"]
    state["m"] = a * state.get("m", 0) + (1 - a) * g
    state["v"] = v = b * state.get("v", 0) + (1 - b) * g * g
    if s["amsgrad"]:
        state["largest"] = v = np.maximum(state.get("largest", 0), v)
    first, second = (1 - beta**t if s["correction"] else 1 for beta in s["powers"] or (a, b))
    root = np.sqrt(v)
    if s["place"] == "before":  # the paper's epsilon-hat
        return w - lr * np.sqrt(second) / first * state["m"] / (root + eps)
    if s["powers"] and s["correction"]:  # epsilon is told by the program, with the betas as they are
        eps *= np.sqrt((1 - b**t) / second)
    inner = np.sqrt(v / second + eps) if s["place"] == "inside" else root / np.sqrt(second) + eps
    return w - lr / first * state["m"] / inner


def _rmsprop(w: np.ndarray, g: np.ndarray, state: dict, s: Settings, lr: float, t: int) -> np.ndarray:
    state["v"] = v = s["alpha"] * state.get("v", 0) + (1 - s["alpha"]) * g * g
    if s["centered"]:
        state["g"] = s["alpha"] * state.get("g", 0) + (1 - s["alpha"]) * g
        v = v - state["g"] ** 2
    step = g / (np.sqrt(v + s["eps"]) if s["place"] == "inside" else np.sqrt(v) + s["eps"])
    if not s["momentum"]:
        return w - lr * step
    if s["form"] == "keras":
        state["b"] = s["momentum"] * state.get("b", 0) + lr * step
        return w - state["b"]
    state["b"] = s["momentum"] * state.get("b", 0) + step
    return w - lr * state["b"]


def _adagrad(w: np.ndarray, g: np.ndarray, state: dict, s: Settings, lr: float, t: int) -> np.ndarray:
    state["v"] = state.get("v", s["initial_accumulator_value"]) + g * g
    root = np.sqrt(state["v"] + s["eps"]) if s["place"] == "inside" else np.sqrt(state["v"]) + s["eps"]
    return w - lr / (1 + (t - 1) * s["lr_decay"]) * g / root


def clipped(gradients: dict[str, np.ndarray], clip: tuple[str, float] | None) -> dict[str, np.ndarray]:
    """The gradients after clipping: ("global", 1.0), ("variable", 1.0) or ("value", 1.0), or as they are."""
    if clip is None:
        return gradients
    kind, most = clip
    if kind == "value":
        return {name: np.clip(g, -most, most) for name, g in gradients.items()}
    norms = {name: float(np.linalg.norm(g)) for name, g in gradients.items()}
    whole = float(np.sqrt(sum(norm**2 for norm in norms.values())))
    small = 1e-6 if kind == "torch" else 0.0
    shares = {name: min(1.0, most / ((norms[name] if kind == "variable" else whole) + small or 1.0)) for name in norms}
    return {name: g * shares[name] for name, g in gradients.items()}


def mistakes(s: Settings, read: Settings) -> Iterator[Mistake]:
    """The mistakes of a port whose original has settings ``s``, most frequent first.

    ``read`` are the settings of the port's optimizer as Keras states them: values to try.
    """
    kind = s["kind"]
    yield from _read(s, read)
    if kind == "Adam":
        yield from _of_adam(s)
    if kind in ("SGD", "RMSprop"):
        yield from _of_momentum(s)
    if kind in ("RMSprop", "Adagrad"):
        yield from _of_squares(s)
    for eps in (1e-7, 1e-8, 1e-10, 1e-6, 1e-5, 1e-3, 1e-4):
        yield Mistake("", f"the port's epsilon is {eps:g}", f"port: epsilon={s['eps']:g}", {"eps": eps})
    yield from _of_decay(s, read) if s["weight_decay"] else _of_needless_decay()
    yield from _of_clipping(s["clip"])
    for other in ("SGD", "Adam", "RMSprop", "Adagrad"):
        if other != kind:
            yield Mistake("", f"the port's optimizer is {other}", f"port: keras.optimizers.{kind}", {"kind": other})
    for factor in (0.1, 10.0, 0.5, 2.0, 0.01, 100.0):
        row = "O6c" if kind == "SGD" and np.isclose(factor * s["lr"], 0.01) else ""  # Keras's default, of SGD alone
        said = f"the port's learning rate is {factor:g} times the original's"
        yield Mistake(row, said, f"port: {s['lr']:g}", {"factor": factor})


def _read(s: Settings, read: Settings) -> Iterator[Mistake]:
    # single settings in which Keras's optimizer says that it differs
    if "beta_1" in read and not np.allclose(betas := (read["beta_1"], read["beta_2"]), s["betas"]):
        yield Mistake("", f"the port's betas are {betas}", f"port: beta_1, beta_2 = {s['betas']}", {"betas": betas})
    for theirs, mine in (("momentum", "momentum"), ("rho", "alpha")):
        value = read.get(theirs)
        if value is not None and not np.isclose(value, s[mine]):
            row = "O7" if theirs == "rho" else ""
            yield Mistake(row, f"the port's {theirs} is {value:g}", f"port: {theirs}={s[mine]:g}", {mine: value})


def _of_adam(s: Settings) -> Iterator[Mistake]:
    said = "Keras adds epsilon before the bias correction"
    remedy = "port: before step t, optimizer.epsilon = eps * (1 - beta_2**t) ** 0.5"
    for eps in dict.fromkeys((s["eps"], 1e-7, 1e-8)):
        row = ("O4" if s["amsgrad"] else "O1b") if eps == s["eps"] else "O1"
        yield Mistake(row, f"{said}; the port's epsilon is {eps:g}", remedy, {"eps": eps, "place": "before"})
    yield Mistake("", "the port has epsilon under the root", "port: outside of it", {"place": "inside"})
    for betas in ((0.9, 0.999), (0.9, 0.99), (0.95, 0.999), (0.5, 0.999), (0.9, 0.98), s["betas"][::-1]):
        if not np.allclose(betas, s["betas"]):
            yield Mistake("", f"the port's betas are {betas}", f"port: beta_1, beta_2 = {s['betas']}", {"betas": betas})
    yield Mistake("", "the port has no bias correction", "port: keras.optimizers.Adam", {"correction": False})
    is_on, change = "off" if s["amsgrad"] else "on", {"amsgrad": not s["amsgrad"]}
    yield Mistake("O4", f"AMSGrad is {is_on} in the port", "port: amsgrad=...", change)
    yield Mistake("", "the port's step count is one too high", "port: start at step 1", {"late": 1})


def _of_momentum(s: Settings) -> Iterator[Mistake]:
    if s["momentum"]:
        said = "the port's velocity holds the rate: old steps keep the old rate"
        yield Mistake("O6", said, "port: rescale the velocities when the rate changes", {"form": "keras"})
        yield Mistake("", "the port has no dampening", "port: write the update out", {"dampening": 0.0})
    if s["kind"] == "SGD":
        is_on, change = "off" if s["nesterov"] else "on", {"nesterov": not s["nesterov"]}
        yield Mistake("", f"Nesterov is {is_on} in the port", "port: nesterov=...", change)
    for momentum in (0.0, 0.9, 0.99, 0.5, 0.8, 0.95):
        said, remedy = f"the port's momentum is {momentum:g}", f"port: momentum={s['momentum']}"
        yield Mistake("", said, remedy, {"momentum": momentum})


def _of_squares(s: Settings) -> Iterator[Mistake]:
    row, remedy = "O7" if s["kind"] == "RMSprop" else "O13", "port: write the update out, epsilon outside of the root"
    for eps in dict.fromkeys((s["eps"], 1e-7, 1e-8, 1e-10)):
        yield Mistake(row, f"the port has epsilon {eps:g} under the root", remedy, {"eps": eps, "place": "inside"})
    for alpha in (0.9, 0.99, 0.95):
        yield Mistake("", f"the port's rho is {alpha:g}", f"port: rho={s['alpha']}", {"alpha": alpha})
    said = "the port is not centered" if s["centered"] else "the port is centered"
    yield Mistake("", said, "port: centered=...", {"centered": not s["centered"]})
    for start in (0.1, 0.0):
        said, remedy = f"the port's sum of squares starts at {start:g}", "port: initial_accumulator_value=..."
        yield Mistake("O13", said, remedy, {"initial_accumulator_value": start})


def _of_decay(s: Settings, read: Settings) -> Iterator[Mistake]:
    decay = s["weight_decay"]
    remedy = f"port: weight_decay={decay:g}"
    said = "the port's weight decay leaves vectors out"
    yield Mistake("", said, "port: decay every parameter", {"weights_alone": True})
    said = "added to the gradient" if s["decoupled"] else "decoupled, as every weight_decay of Keras is"
    both, change = "one and the same in both: AdamW, or an L2 penalty", {"decoupled": not s["decoupled"]}
    yield Mistake("O5" if s["kind"] == "Adam" else "O14", f"the port's weight decay is {said}", both, change)
    is_adam = s["decoupled"] and read.get("name", "").startswith("adam") and read.get("weight_decay") is None
    said = f"the port has no weight decay{': its optimizer is Adam, not AdamW' if is_adam else ''}"
    yield Mistake("O5" if is_adam else "", said, remedy, {"weight_decay": 0.0})
    for other in (0.004, 0.01, decay * 2, decay / 2):
        row, said = "O5b" if other in (0.004, 0.01) else "O11", f"the port's weight decay is {other:g}"
        for decoupled in (True, False):
            yield Mistake(row, said, remedy, {"weight_decay": other, "decoupled": decoupled})


def _of_needless_decay() -> Iterator[Mistake]:
    for other in (0.004, 0.01, 0.1, 1e-4, 1e-3):
        row, change = "O5b" if other == 0.004 else "", {"weight_decay": other, "decoupled": True}
        yield Mistake(row, f"the port's weight decay is {other:g}", "port: none", change)
        yield Mistake("O11", f"the port has an L2 penalty of {other / 2:g}", "port: no regularizer", {"l2": other})


def _of_clipping(clip: tuple[str, float] | None) -> Iterator[Mistake]:
    if clip is None:
        for most in (1.0, 0.5, 0.1, 5.0):
            for other in ("variable", "global", "value"):
                yield Mistake("", f"the port clips: {other}, {most:g}", "port: no clipping", {"clip": (other, most)})
        return
    for row, other, said in (
        ("O8b", "variable", "each variable by its own norm: clipnorm"),
        ("", "global", "all by their common norm"),
        ("O16", "value", "each entry: clipvalue"),
        ("", None, "nothing"),
    ):
        change = {"clip": None if other is None else (other, clip[1])}
        yield Mistake(row, f"the port clips {said}", "port: global_clipnorm", change)
