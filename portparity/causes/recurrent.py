"""PyTorch's recurrent layers, step by step, with each choice open."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from portparity.causes.calls import Call


def step(
    kind: str, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor | None, w: dict[str, torch.Tensor], s: dict
) -> Any:
    """One step; ``s`` holds the activations and what `run` was told."""
    gate, state = s["gate"], s["state"]
    a, b = x @ w["ih"].T + w["b_ih"], h @ w["hh"].T + w["b_hh"]
    if kind == "lstm":
        i, f, g, o = torch.chunk(a + b, 4, -1)
        c = gate(f + s["forget"]) * c + gate(i) * state(g)
        return gate(o) * state(c), c
    if kind == "gru":
        (r, z, n), (r2, z2, n2) = torch.chunk(a, 3, -1), torch.chunk(b, 3, -1)
        r, z = gate(r + r2), gate(z + z2)
        size = h.shape[-1]
        late = w["b_hh"][-size:]
        inner = r * (n2 - late) + late if s["reset_after"] else (r * h) @ w["hh"][-size:].T + late
        n = state(n + (inner if s["joined"] or not s["reset_after"] else r * n2))
        return (z * n + (1 - z) * h if s["mixed"] else (1 - z) * n + z * h), None
    return state(a + b), None


def run(
    call: Call,
    *,
    order: Sequence[int] | None = None,
    without: Sequence[str] = (),
    forget: float = 0.0,
    gate: Callable = torch.sigmoid,
    state: Callable | None = None,
    transposed: bool = False,
    exchanged: bool = False,
    zeros: bool = False,
    backwards: str = "",
    reset_after: bool = True,
    mixed: bool = False,
    joined: bool = False,
) -> Any:
    """The result of a recurrent call with something done in another way; as PyTorch returns it."""
    kind = call.name.partition("_")[0]
    state = state or (torch.relu if "relu" in call.name else torch.tanh)
    s = {"gate": gate, "state": state, "forget": forget, "reset_after": reset_after, "mixed": mixed, "joined": joined}

    def changed(tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        w = dict(zip(("ih", "hh", "b_ih", "b_hh"), tensors, strict=False))
        for name in ("b_ih", "b_hh"):
            w[name] = torch.zeros_like(w.get(name, w["hh"][:, 0])) if name in without or name not in w else w[name]
        if exchanged:
            w["ih"], w["hh"] = w["hh"], w["ih"]
        size = w["hh"].shape[1]
        if transposed:
            w["hh"] = torch.cat([block.T for block in w["hh"].split(size)])
        if order is not None:
            w = {name: torch.cat([value.split(size)[n] for n in order]) for name, value in w.items()}
        return w

    if call.name.endswith("cell"):
        hx = call["hx"]
        h, c = hx if kind == "lstm" else (hx, None)
        h, c = (torch.zeros_like(h), None if c is None else torch.zeros_like(c)) if zeros else (h, c)
        new = step(kind, call["input"], h, c, changed([call[n] for n in ("w_ih", "w_hh", "b_ih", "b_hh")]), s)
        return new if kind == "lstm" else new[0]
    return _layers(call, kind, changed, s, zeros, backwards)


def _layers(call: Call, kind: str, changed: Callable, s: dict, zeros: bool, backwards: str) -> Any:
    x = call["input"].transpose(0, 1) if call["batch_first"] else call["input"]
    hx = call["hx"] if kind == "lstm" else (call["hx"], None)
    both, each = 1 + bool(call["bidirectional"]), 4 if call["has_biases"] else 2
    last: list[tuple] = []
    for layer in range(call["num_layers"]):
        directions = []
        for direction in range(both):
            k = layer * both + direction
            w = changed(call["params"][k * each : (k + 1) * each])
            h, c = (None if part is None else torch.zeros_like(part[k]) if zeros else part[k] for part in hx)
            turn = (direction == 1) != (backwards == "all") and backwards != "none"
            outputs = []
            for t in range(len(x))[:: -1 if turn else 1]:
                h, c = step(kind, x[t], h, c, w, s)
                outputs.append(h)
            last.append((h, c))
            outputs = outputs[::-1] if turn and direction == 1 and backwards != "unturned" else outputs
            directions.append(torch.stack(outputs))
        x = torch.cat(directions, -1)
    output = x.transpose(0, 1) if call["batch_first"] else x
    states = [torch.stack(part) for part in zip(*last, strict=True) if part[0] is not None]
    return (output, *states)
