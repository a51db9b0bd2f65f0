"""A penalty on weights in the port's loss: what its loss and its gradients have besides says of which, and how much."""

from typing import Any

import numpy as np

from portparity.records.floor import scale
from portparity.records.match import Comparison

KINDS = {"L2": (lambda w: w, lambda w: np.sum(w * w) / 2), "L1": (np.sign, lambda w: np.sum(np.abs(w)))}


def penalty(port: Any, found: Comparison) -> tuple[str, str] | None:
    """What the port adds to the loss, and the catalogue's row, if the loss alone differs, by a penalty.

    The gradient of each penalised variable w has c w besides, or c sign(w), and the loss the sum of c |w|² / 2,
    or c |w|, over them, with one c.
    """
    if found.outputs != found.original.outputs[-1:] or found.original.values[found.outputs[0]].array.size != 1:
        return None
    apart = float(found.port.values[found.port.outputs[-1]].array - found.original.values[found.outputs[0]].array)
    flat, owners = port.layout.flat(found.original.gradients), []
    more = {
        path: np.asarray(gradient) - flat[port.terms[path][0]]
        for path, gradient in found.port.gradients.items()
        if gradient is not None and len(port.terms.get(path, ())) == 1
    }
    largest = max([1e-9 * scale(flat), *(1e-9 * scale(extra) for extra in more.values())])
    more = {path: extra for path, extra in more.items() if scale(extra) > largest}
    for name, (slope, size) in KINDS.items():
        weights = {path: port.flat[port.terms[path][0]] for path in more}
        shares = [float(np.sum(more[p] * slope(w)) / np.sum(slope(w) ** 2)) for p, w in weights.items()]
        fits = [scale(more[p] - c * slope(w)) <= largest for c, (p, w) in zip(shares, weights.items(), strict=True)]
        whole = sum(c * size(w) for c, w in zip(shares, weights.values(), strict=True))
        if fits and all(fits) and np.allclose(shares, shares[0], rtol=1e-6) and np.isclose(whole, apart, rtol=1e-6):
            owners = ", ".join(port.layout.owner(port.terms[path][0].flat[0]) for path in more)
            strength = shares[0] / 2 if name == "L2" else shares[0]
            return f"the port's loss has an {name} penalty of {strength:g} on {owners}", "O11" if name == "L2" else ""
    return None


def copies(port: Any, found: Comparison, name: str) -> str:
    """What the port has in the place of a parameter, if its gradient is the sum of those of several numbers there."""
    positions, total = port.layout.positions[name].ravel(), np.zeros(port.layout.size)
    many = np.zeros(port.layout.size)
    for path, gradient in found.port.gradients.items():
        if gradient is not None and len(port.terms.get(path, ())) == 1:
            np.add.at(total, port.terms[path][0], gradient)
            np.add.at(many, port.terms[path][0], 1)
    wanted = port.layout.flat(found.original.gradients)
    if many[positions].min() < 2 or scale(total - wanted) > 1e-9 * scale(wanted):
        return ""
    number = int(many[positions].max())
    return f"the port has {number} numbers for each one of {name}: equal at first, they train apart"
