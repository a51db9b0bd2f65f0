"""The moving figures of the book, drawn from the recorded traces.

The docstring of each says what is to be seen, for those who do not see it.
"""

from collections.abc import Iterable

import numpy as np

from common.figures.moving import BOTTOM, HEIGHT, LEFT, TOP, Panel, Replay, short
from common.figures.traces import BIAS, FLOORS, PRIORS, SIDE, STARTS, Trace


def replays(trace: Trace) -> dict[str, Replay]:
    """Every replay by its name, from the arrays that ``common.figures.traces.record`` names ``trace/array``."""
    made = (coin_tosses, em_from_four_starts, bound_and_divergence, bound_touches_likelihood, hidden_coins, gaps_filled)
    made += (collapse_onto_a_point, components_die_out, codes_find_their_places, picture_of_a_code)
    return {draw.__name__: draw(trace) for draw in made}


def _of(trace: Trace, name: str) -> dict:
    # the arrays of one trace by their own names
    return {key.partition("/")[2]: array for key, array in trace.items() if key.startswith(f"{name}/")}


def coin_tosses(trace: Trace) -> Replay:
    """A density over the bias of a coin, which narrows toss by toss; lines mark the MLE and the prediction."""
    t = _of(trace, "coin_tosses")
    runs, heads = range(len(PRIORS)), t["heads"].astype(int)
    top = 1.05 * max(t[f"density {i}"].max() for i in runs)
    panel = Panel("the belief after every toss", (0, 1), (0, top), ("θ, probability of heads", "density"))
    panel.key(0.04, 0.95 * top, ("line own1 dashed", "MLE"), ("line own2", "prediction"))
    answers = Panel("the two answers", (0, len(heads) - 1), (0, 1), ("tosses", "probability of heads"))
    answers.still(f'<path class="truth" d="{answers.curve(answers.x, np.full(2, BIAS))}"/>')
    answers.key(16, 0.24, ("line own1 dashed", "MLE"), ("line own2", "prediction"), ("line truth", "the coin's own"))
    curves = [[[panel.curve(t["theta"], y)] for y in t[f"density {i}"]] for i in runs]
    panel.moving("curve own0", ["path"], "d", curves)
    for j, kind in enumerate(("line own1 dashed", "line own2")):
        places = [[[short(panel.at(v[j], 0)[0])] * 2 for v in t[f"estimates {i}"]] for i in runs]
        panel.moving(kind, [f'line y1="{TOP}" y2="{HEIGHT - BOTTOM}"'], "x1 x2", places)
        first = 1 - j  # the MLE needs a toss
        paths = [
            [[answers.curve(np.arange(first, n + 1), t[f"estimates {i}"][first : n + 1, j])] for n in range(len(heads))]
            for i in runs
        ]
        answers.moving(f"curve {kind}", ["path"], "d", paths)
    said = [
        [
            f"{h} heads in {n} tosses: MLE {v[0]:.2f} (dashed), prediction of full Bayes {v[1]:.2f}"
            if n
            else f"no toss yet: prediction {v[1]:.2f}"
            for n, (h, v) in enumerate(zip(heads, t[f"estimates {i}"], strict=True))
        ]
        for i in runs
    ]
    return Replay(coin_tosses.__doc__, [f"prior {name}" for name in PRIORS], said, [panel, answers])


def _two_gaussians(panel: Panel, t: dict, runs: Iterable[int]) -> None:
    # points coloured by responsibility, and an ellipse for each of two components
    panel.moving(
        "mix", _circles(panel, t["x"]), "mix", [np.rint(100 * t[f"gamma {i}"]).astype(int).tolist() for i in runs]
    )
    for k in range(2):
        shapes = [
            [panel.ellipse(m[k], c[k]) for m, c in zip(t[f"means {i}"], t[f"covariances {i}"], strict=True)]
            for i in runs
        ]
        panel.moving(f"ellipse own{k}", ["ellipse"], "rx ry transform", shapes)


def _circles(panel: Panel, points: np.ndarray) -> list[str]:
    return [f'circle cx="{a:.0f}" cy="{b:.0f}" r="2.5"' for a, b in zip(*panel.at(*points.T), strict=True)]


def _climb(title: str, values: list[np.ndarray], label: str = "iteration", unit: str = "nats") -> Panel:
    # a curve that grows to the right, one value a frame
    low, high = min(v[1:].min() for v in values), max(v[1:].max() for v in values)  # the start may lie far off
    steps = max(map(len, values)) - 1
    panel = Panel(title, (0, steps), (low - 0.05 * (high - low), high + 0.05 * (high - low)), (label, unit))
    paths = [[[panel.curve(np.arange(n + 1), v[: n + 1])] for n in range(len(v))] for v in values]
    panel.moving("curve line own0", ["path"], "d", paths)
    ends = [[[short(p) for p in panel.at(n, y)] for n, y in enumerate(np.clip(v, *panel.y))] for v in values]
    panel.moving("own0 filled", ['circle r="4"'], "cx cy", ends)
    return panel


def em_from_four_starts(trace: Trace) -> Replay:
    """Points of Old Faithful change colour as two ellipses find the groups; the log likelihood rises."""
    t, runs = _of(trace, "em_from_four_starts"), range(len(STARTS))
    panel = Panel("Old Faithful", (0.8, 5.8), (30, 106), ("eruption (minutes)", "waiting (minutes)"))
    _two_gaussians(panel, t, runs)
    values = [t[f"log likelihood {i}"] for i in runs]
    said = [[f"iteration {n}: log likelihood {v:.1f}" for n, v in enumerate(value)] for value in values]
    return Replay(em_from_four_starts.__doc__, list(STARTS), said, [panel, _climb("log likelihood", values)])


def bound_and_divergence(trace: Trace) -> Replay:
    """Bars of the lower bound and, on top, of the divergence; the E step closes the gap, the M step lifts the bound."""
    t = _of(trace, "bound_and_divergence")
    bounds, gaps, steps = t["bound 0"], np.maximum(t["divergence 0"], 0), len(t["bound 0"])
    totals = bounds + gaps
    floor = bounds.min() - 0.1 * np.ptp(totals)
    names = ["start", *(f"{'E' if n % 2 else 'M'} step {(n + 1) // 2}" for n in range(1, steps))]
    across, top = (-0.6, steps - 0.4), totals.max() + 0.35 * np.ptp(totals)
    bars = Panel("L + KL = log p(X)", across, (floor, top), ("step", "nats"), names=["start", *"EMEMEMEM"])
    bars.key(-0.4, top - 0.08 * np.ptp(totals), ("own4 filled", "divergence KL"), ("own0 filled", "lower bound L"))
    for kind, low, high in (("own0 filled", np.full(steps, floor), bounds), ("own4 filled", bounds, totals)):
        heights = [[bars.bar(n, 0.7, low[n], high[n])[3] * (n <= now) for n in range(steps)] for now in range(steps)]
        places = [bars.bar(n, 0.7, low[n], high[n]) for n in range(steps)]
        marks = [f'rect x="{x}" y="{y}" width="{width}"' for x, y, width, _ in places]
        bars.moving(kind, marks, "height", [heights])
    data = Panel("the two components", (38, 100), (0, 1.1 * t["densities 0"].max()), ("waiting (minutes)", "density"))
    edges = np.arange(40, 100, 3)
    counts, _ = np.histogram(t["x"], edges, density=True)
    for edge, count in zip(edges, counts, strict=False):
        a, b, c, d = data.bar(edge + 1.5, 2.8, 0, min(count, data.y[1]))
        data.still(f'<rect class="quiet" x="{a}" y="{b}" width="{c}" height="{d}"/>')
    for k in range(2):
        data.moving(f"curve line own{k}", ["path"], "d", [[[data.curve(t["grid"], y[k])] for y in t["densities 0"]]])
    said = [f"{n}: L = {b:.1f}, KL = {g:.1f}, log p = {b + g:.1f}" for n, b, g in zip(names, bounds, gaps, strict=True)]
    return Replay(bound_and_divergence.__doc__, ["EM"], [said], [bars, data])


def bound_touches_likelihood(trace: Trace) -> Replay:
    """The log likelihood over one mean, and bounds that touch it at a dot, which moves to their tops."""
    t = _of(trace, "bound_touches_likelihood")
    curve, bounds = t["log likelihood"], t["bound 0"]
    low = curve.min() - 0.15 * np.ptp(curve)
    panel = Panel("over one parameter", (40, 88), (low, curve.max() + 5), ("μ₁ (minutes)", "nats"))
    panel.still(f'<path class="likelihood" d="{panel.curve(t["trial"], curve)}"/>')
    panel.key(71, curve.max() - 0.02 * np.ptp(curve), ("line own8", "log likelihood"), ("line own1", "lower bound"))
    panel.moving("curve line own1", ["path"], "d", [[[panel.curve(t["trial"], y)] for y in bounds]])
    dots = [[short(p) for p in panel.at(m, h)] for m, h in zip(t["mean 0"], t["height 0"], strict=True)]
    panel.moving("own1 filled", ['circle r="5"'], "cx cy", [dots])
    said = [
        f"{'M' if n % 2 else 'E'} step {n // 2 + 1}: μ₁ = {m:.2f}, {'bound' if n % 2 else 'log likelihood'} {h:.2f}"
        for n, (m, h) in enumerate(zip(t["mean 0"], t["height 0"], strict=True))
    ]
    return Replay(bound_touches_likelihood.__doc__, ["EM"], [said], [panel])


def hidden_coins(trace: Trace) -> Replay:
    """A table of five lines of ten tosses: the share of each coin, the expected heads and tails, and the new biases."""
    t = _of(trace, "hidden_coins")
    gamma, heads = t["gamma 0"], t["heads"]
    table = Panel("expected heads and tails", (0, 6), (0, 7.5), ticks=(False, False))
    columns = ("line", "heads", "p(A)", "A: H, T", "p(B)", "B: H, T")
    cells = [(c + 0.5, 7, name) for c, name in enumerate(columns)]
    cells += [(0.5, 6 - n, str(n + 1)) for n in range(5)] + [
        (1.5, 6 - n, f"{h:.0f} of 10") for n, h in enumerate(heads)
    ]
    cells.append((1.0, 0.6, "sum"))
    for x, y, text in cells:
        a, b = table.at(x, y)
        table.still(f'<text class="cell" x="{a:.0f}" y="{b:.0f}">{text}</text>')
    frames = []
    for g in gamma:  # (5, 2)
        texts = []
        for k in range(2):
            texts += [f"{share:.2f}" for share in g[:, k]]
            texts += [f"{share * h:.1f}, {share * (10 - h):.1f}" for share, h in zip(g[:, k], heads, strict=True)]
            texts.append(f"{g[:, k] @ heads:.1f}, {g[:, k] @ (10 - heads):.1f}")
        frames.append(texts)
    places = [(2.5 + 2 * k + c, 6 - n) for k in range(2) for c in range(2) for n in range(5 + c)]
    places = [(x, 0.6 if y == 1 else y) for x, y in places]
    marks = [f'text class="cell" x="{a:.0f}" y="{b:.0f}"' for a, b in (table.at(x, y) for x, y in places)]
    table.moving("", marks, "text", [frames])
    biases = Panel("the biases", (0, 10), (0.45, 0.85), ("iteration", "θ"))
    biases.key(7.5, 0.68, ("line own0", "coin A"), ("line own1", "coin B"))
    for k in range(2):
        path = [[biases.curve(np.arange(n + 1), t["biases 0"][: n + 1, k])] for n in range(len(gamma))]
        biases.moving(f"curve line own{k}", ["path"], "d", [path])
        dots = [[short(p) for p in biases.at(n, v[k])] for n, v in enumerate(t["biases 0"])]
        biases.moving(f"own{k} filled", ['circle r="4"'], "cx cy", [dots])
    said = [f"iteration {n}: coin A {a:.2f}, coin B {b:.2f}" for n, (a, b) in enumerate(t["biases 0"])]
    return Replay(hidden_coins.__doc__, ["EM"], [said], [table, biases])


def gaps_filled(trace: Trace) -> Replay:
    """Ozone over temperature: days that lack ozone move from its mean to where the regression expects them."""
    t = _of(trace, "gaps_filled")
    panel = Panel("air quality in New York, 1973", (55, 100), (-20, 175), ("temperature (°F)", "ozone (ppb)"))
    panel.still(f'<g class="quiet">{panel.dots(*t["seen"].T)}</g>')
    panel.key(56, 165, ("quiet", "measured"), ("own1 filled", "expected"))
    marks = [f'circle cx="{a:.0f}" r="3.5"' for a in panel.at(t["temperature of gaps"], 0)[0]]
    panel.moving("own1 filled", marks, "cy", [[[short(p) for p in panel.at(0, y)[1]] for y in t["ozone 0"]]])
    values = t["log likelihood 0"]
    said = [
        f"iteration {n}: mean ozone {m:.2f} ppb, log likelihood {v:.2f}"
        for n, (m, v) in enumerate(zip(t["mean 0"], values, strict=True))
    ]
    return Replay(gaps_filled.__doc__, ["EM"], [said], [panel, _climb("log likelihood of what was observed", [values])])


def collapse_onto_a_point(trace: Trace) -> Replay:
    """An ellipse shrinks to a speck, without end where the covariances have no floor under them."""
    t, runs = _of(trace, "collapse_onto_a_point"), range(len(FLOORS))
    panel = Panel("Old Faithful (standardised)", (-2.6, 2.6), (-2.8, 2.8), ("eruption", "waiting"))
    _two_gaussians(panel, t, runs)
    places = [[[short(p) for p in panel.at(*m[0])] for m in t[f"means {i}"]] for i in runs]
    panel.moving("cross", ['circle r="7"'], "cx cy", places)  # where the narrow one is, however narrow
    widths = [np.log10(np.sqrt(np.linalg.eigvalsh(t[f"covariances {i}"][:, 0])[:, 0])) for i in runs]
    said = [
        [
            f"iteration {n}: narrowest width {10**w:.1e}, log likelihood {v:.1f}"
            for n, (w, v) in enumerate(zip(widths[i], t[f"log likelihood {i}"], strict=True))
        ]
        for i in runs
    ]
    said[0][-1] += "; next, the width is that of rounding"
    narrow = _climb("how narrow the component is", widths, unit="log₁₀ of the width")
    return Replay(collapse_onto_a_point.__doc__, list(FLOORS), said, [panel, narrow])


def components_die_out(trace: Trace) -> Replay:
    """Six ellipses on Old Faithful; four lose their points and fade, and the bars of their weights fall to zero."""
    t = _of(trace, "components_die_out")
    weights, gamma = t["weights 0"], t["gamma 0"]
    panel = Panel("Old Faithful (standardised)", (-2.6, 2.6), (-2.8, 2.8), ("eruption", "waiting"))
    chosen = [["".join(map(str, frame.argmax(axis=1)))] for frame in gamma]
    panel.moving("coloured", _circles(panel, t["x"]), "colour", [[frame[0] for frame in chosen]])
    for k in range(6):
        shapes = [
            [*panel.ellipse(m[k], c[k]), round(float(w[k] / w.max()), 2)]
            for m, c, w in zip(t["means 0"], t["covariances 0"], weights, strict=True)
        ]
        panel.moving(f"ellipse own{k}", ["ellipse"], "rx ry transform opacity", [shapes])
    bars = Panel("expected weights", (0.4, 6.6), (0, 0.72), ("component", "E[weight]"))
    for k in range(6):
        bars.moving(f"own{k} filled", ["rect"], "x y width height", [[bars.bar(k + 1, 0.7, 0, w[k]) for w in weights]])
    said = [
        f"iteration {2 * n}: bound {b:.1f}, {int((g.sum(axis=0) >= 1).sum())} components have a point or more"
        for n, (b, g) in enumerate(zip(t["bound 0"], gamma, strict=True))
    ]
    return Replay(components_die_out.__doc__, ["variational inference"], [said], [panel, bars])


def codes_find_their_places(trace: Trace) -> Replay:
    """Held-out digits as points in the plane of codes, coloured by class, which part as the VAE is trained."""
    t = _of(trace, "codes_find_their_places")
    panel = Panel("codes of held-out digits", (-3, 3), (-3, 3), ("z₁", "z₂"))
    colours = [f'circle r="3" style="--own: var(--c{label})"' for label in t["labels"]]
    frames = [
        np.stack(panel.at(*np.clip(codes, -3, 3).T), axis=1).round().astype(int).ravel().tolist()
        for codes in t["codes 0"]
    ]
    panel.moving("coloured", colours, "cx cy", [frames])
    panel.moving("", ['text class="name"'] * 10, "x y text", [[_digits(panel, t, codes) for codes in t["codes 0"]]])
    bounds = np.append(-np.inf, t["bounds"])
    said = [
        f"epoch {n}: ELBO {b:.2f} nats an image, in the mean of the epoch" if n else "before training"
        for n, b in enumerate(bounds)
    ]
    return Replay(codes_find_their_places.__doc__, ["training"], [said], [panel, _climb("ELBO", [bounds], "epoch")])


def _digits(panel: Panel, t: dict, codes: np.ndarray) -> list:
    # place and text of each class's name, at the median of its codes
    found = [panel.at(*np.median(codes[t["labels"] == digit], axis=0)) for digit in range(10)]
    return [value for digit, (a, b) in enumerate(found) for value in (round(float(a)), round(float(b)) + 4, str(digit))]


def picture_of_a_code(trace: Trace) -> Replay:
    """The plane of codes with held-out digits, one code in it, and the decoder's picture of that code."""
    t = _of(trace, "codes_find_their_places")
    plane = Panel("pick a code", (-2.2, 2.2), (-2.2, 2.2), ("z₁", "z₂"))
    inside = np.abs(t["codes 0"][-1]).max(axis=1) < 2.2
    for (a, b), label in zip(np.transpose(plane.at(*t["codes 0"][-1][inside].T)), t["labels"][inside], strict=True):
        plane.still(f'<circle class="coloured" cx="{a:.0f}" cy="{b:.0f}" r="3" style="--own: var(--c{label})"/>')
    names = iter(_digits(plane, t, t["codes 0"][-1]))
    for a, b, digit in zip(names, names, names, strict=True):
        plane.still(f'<text class="name" x="{a}" y="{b}">{digit}</text>')
    places = [[short(p) for p in plane.at(a, b)] for b in t["grid"] for a in t["grid"]]
    plane.moving("cross", ['circle r="8"'], "cx cy", [places])
    picture = Panel("its picture", (0, 8), (0, 8), ticks=(False, False))
    side = (HEIGHT - TOP - BOTTOM) / 8
    size = f'width="{side + 0.5:.1f}" height="{side + 0.5:.1f}"'  # a little more, so that no line shows between two
    corners = [(LEFT + side * column, TOP + side * row) for row in range(8) for column in range(8)]
    marks = [f'rect x="{left:.1f}" y="{top:.1f}" {size}' for left, top in corners]
    shades = np.rint(15 * np.clip(t["decoded"], 0, 1)).astype(int)  # (225, 64)
    picture.moving("", marks, "grey", [["".join(f"{shade:x}" for shade in image) for image in shades]])
    said = [f"z = ({a:.2f}, {b:.2f})" for b in t["grid"] for a in t["grid"]]
    return Replay(picture_of_a_code.__doc__, ["the trained decoder"], [said], [plane, picture], plane=SIDE)
