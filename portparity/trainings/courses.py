"""Two trainings next to each other, and the search for what makes them differ: gradients, then the updates."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from portparity.causes import optimizers
from portparity.records.floor import scale
from portparity.trainings.runs import Step


class Courses:
    """Both trainings, and the search for what makes them differ. ``terms`` maps parameters as in `weights`."""

    def __init__(self, port: Any, original: list[Step], other: list[Step], start: dict[str, np.ndarray]) -> None:
        self.port, self.original, self.other, self.start = port, original, other, start
        self.layout, self.terms, self.cache = port.layout, port.terms, {}
        self.owners = {path: self.layout.owner(terms[0].flat[0]) for path, terms in self.terms.items()}
        for step in other if not any(step.used for step in other) else ():
            step.used = step.gradients  # updated without an optimizer
        self.patience = 0  # of the original's ReduceLROnPlateau
        self.seen = bool(other[0].used) and bool(original[0].used)  # optimizers at work
        self.paths = [path for path, terms in self.terms.items() if len(terms) == 1 and path in other[0].used]
        wide = next(iter(other[0].after.values())).dtype == np.float64 if other[0].after else True
        self.eps = float(np.finfo(np.float64 if wide else np.float32).eps)
        self.done: dict[str, Any] = {}  # settings that the port's gradients have in them already

    def mapped(self, arrays: dict[str, np.ndarray], path: str) -> np.ndarray:
        """The original's numbers as the port's variable holds them."""
        flat = self.layout.flat(arrays)
        return sum(flat[term] for term in self.terms[path])

    def parting(self, allowed: float) -> tuple[int, str, float] | None:
        """The first step after which weights differ by more than a share of their movement, which, and by how much."""
        trained = {name for step in self.original for name in (*step.used, *step.after)}
        for number, (mine, theirs) in enumerate(zip(self.original, self.other, strict=True), start=1):
            paths = [p for p in self.terms if self.owners[p] in trained and "running" not in self.owners[p]]
            here = {path: self.mapped(mine.after, path) for path in paths}
            most = max((scale(here[path] - self.start[path]) for path in paths), default=0.0)
            apart = {}
            for path in paths:
                a, b = here[path] - self.start[path], theirs.after[path] - self.start[path]
                if max(scale(a), scale(b)) > 1e-8 * most:  # less is rounding: of a bias before a normalisation
                    apart[path] = self._apart(a, b, 100 * self.eps * scale(here[path]))
            single = {path: size for path, size in apart.items() if len(self.terms[path]) == 1}
            for sizes in (single, apart):
                if sizes and max(sizes.values()) > allowed:
                    worst = max(sizes, key=sizes.get)
                    return number, worst, sizes[worst]
        return None

    def first_gradient(self) -> list[tuple[str, str, str]] | None:
        """Row, cause and remedy of a gradient that differs at step 1, where the weights are equal; [] if none does.

        A port may clip and decay before its optimizer does; ``done`` says what it did. None: nothing fits.
        """
        mine, theirs = self.original[0], self.other[0]
        if theirs.layers and any(m.training for m in self.port.model.modules()):
            return [
                (
                    "L14",
                    f"{sorted(theirs.layers)[0]} is called as in prediction",
                    "port: keras_model(x, training=True) in the training step",
                )
            ]
        raw, used = (self._mapped_gradients(g) for g in (mine.gradients, mine.used))
        clip = mine.clip or ("global", 1.0)
        wd = {p: self.settings(0, p)["weight_decay"] for p in self.paths}
        decay = {p: wd[p] * self.start[p] for p in self.paths}
        options = [(raw, {}, None), (used, {"clip": None}, None)]
        if mine.clip:
            remedy = "tf.clip_by_global_norm in the port"
            for kind, row, said in (
                ("global", "O8", "all by their common norm, without PyTorch's 1e-6"),
                ("variable", "O8b", "each variable by its own norm"),
                ("value", "O16", "each entry"),
            ):
                options.append(
                    (optimizers.clipped(raw, (kind, clip[1])), {"clip": None}, (row, f"the port clips {said}", remedy))
                )
        if any(wd.values()):
            options += [
                ({p: g[p] + decay[p] for p in self.paths}, done | {"weight_decay": 0.0}, said)
                for g, done, said in options
            ]
        for which, vectors in (("", 0), (" of matrices", 2)):  # a penalty in the loss of weight_decay's strength
            pull = {p: 2 * decay[p] * (self.start[p].ndim >= vectors) for p in self.paths}
            said = f"the port's L2 penalty{which} has weight_decay for its strength: it pulls twice as hard"
            told = ("O11", said, f"port: keras.regularizers.L2({max(wd.values(), default=0) / 2:g})")
            options.append(({p: raw[p] + pull[p] for p in self.paths}, {"weight_decay": 0.0}, told))
        for gradients, done, said in options:
            if self._same_gradients(gradients, theirs.used):
                self.done = done
                if said and said[0] == "O8":
                    self.port.report.note(said[1], "O8")
                return [said] if said and said[0] != "O8" else []
        ratios = [np.sum(used[p] * theirs.used[p]) / np.sum(used[p] ** 2) for p in self.paths if np.any(used[p])]
        if ratios and self._same_gradients({p: ratios[0] * used[p] for p in self.paths}, theirs.used):
            return [("S3", f"the port's gradient is {ratios[0]:.6g} times the original's: the loss's reduction", "")]
        return None

    def _mapped_gradients(self, gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        flat = self.layout.flat(gradients)
        return {path: flat[self.terms[path][0]] for path in self.paths}

    def _same_gradients(self, a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
        least = 1e3 * self.eps * max((float(np.max(np.abs(g), initial=0)) for g in a.values()), default=0.0)
        loose = 1e-7 if self.eps < 1e-10 else 1e-3
        # another optimizer's gradients are of weights that the first one has moved already
        later = {path for path, (number, *_) in self.other[0].by.items() if number}
        return all(self._apart(a[p], b[p], least) < (1e-2 if p in later else loose) for p in self.paths)

    def of_each_optimizer(self) -> Iterator[None]:
        """Once for each optimizer of the port, with its variables, its rates and its settings."""
        whole, by = self.paths, self.other[0].by
        for number in sorted({number for number, *_ in by.values()}) or [0]:
            self.paths = [path for path in whole if by.get(path, (0,))[0] == number]
            for k, (mine, theirs) in enumerate(zip(self.original, self.other, strict=True)):
                if by and self.paths:
                    mine.rate = self.settings(k, self.paths[0])["lr"]
                    _, theirs.rate, theirs.read = theirs.by.get(self.paths[0], by[self.paths[0]])
            self.cache.clear()
            if self.paths:
                yield
        self.paths = whole

    @staticmethod
    def _apart(a: np.ndarray, b: np.ndarray, least: float = 0.0) -> float:
        scale, apart = float(np.max(np.abs(a), initial=0)), float(np.max(np.abs(a - b), initial=0))
        return apart / max(scale, least, 1e-300) if apart > least else 0.0

    def later_gradient(self, step: int) -> tuple[str, str, str]:
        """Why a gradient differs at a later step, as far as that is known."""
        if step < 2 or not self.seen:
            return "", "", ""
        summed = [self._mapped_gradients(s.gradients) for s in self.original[:step]]
        total = {p: sum(g[p] for g in summed) for p in self.paths}
        if self._same_gradients(total, self.other[step - 1].used):
            return "R10", "the port adds the gradients of all steps up", "a new GradientTape, or zeroed sums, each step"
        return "", "", ""

    # ---- the updates

    def settings(self, step: int, path: str) -> dict[str, Any]:
        """The original's settings for a variable at a step."""
        now = self.original[step]
        given = now.settings.get(self.owners[path]) or next(iter(now.settings.values()))
        return optimizers.settings_of(now.kind, given) | {"clip": now.clip}

    def errors(self, changes: dict[str, Any], rates: list[float] | None = None) -> list[float]:
        """How far the port's weights are from a replay with changed settings, at each step, of the update's size.

        Each update starts from the port's own weights and takes its gradients, so that a mistake does not feed back.
        """
        weights = {path: self.picked(self.start[path], path) for path in self.paths}
        state, course = {path: {} for path in self.paths}, []
        for number, now in enumerate(self.other):
            clip = (self.settings(number, self.paths[0]) | self.done | changes)["clip"]
            gradients = self._gradients(number, clip)
            worst = 0.0
            for path in self.paths:
                s = self.settings(number, path) | self.done | changes
                if changes.get("weights_alone") and self.start[path].ndim < 2:
                    s["weight_decay"] = 0.0
                s["lr"] = s["lr"] if rates is None else rates[number]
                new = optimizers.update(weights[path], gradients[path], state[path], s)
                after = self.picked(now.after[path], path)
                moved = max(float(np.max(np.abs(after - weights[path]), initial=0)), 1e-300)
                rounding = 8 * self.eps * float(np.max(np.abs(new), initial=0))
                worst = max(worst, (float(np.max(np.abs(after - new), initial=0)) - rounding) / moved)
                weights[path] = after
            course.append(worst)
        return course

    @staticmethod
    def picked(array: np.ndarray, path: str, many: int = 200) -> np.ndarray:
        """Entries of a variable, spread over all of it: an optimizer treats each alike."""
        return array.ravel()[:: max(1, array.size // many)].astype(np.float64)

    def _gradients(self, number: int, clip: tuple[str, float] | None) -> dict[str, np.ndarray]:
        if (number, clip) not in self.cache:
            whole = {path: self.other[number].used[path].astype(np.float64) for path in self.paths}
            clipped = optimizers.clipped(whole, clip)
            self.cache[number, clip] = {path: self.picked(g, path) for path, g in clipped.items()}
        return self.cache[number, clip]

    @property
    def tight(self) -> float:
        """How far an update may be from its replay, of its size."""
        return 1e-9 if self.eps < 1e-10 else 2e-5

    def borrow_gradients(self, until: int) -> None:
        """Take the original's gradients for the port's, whose optimizer was not seen, while weights are equal."""
        del self.other[until:], self.original[until:]
        self.paths = [
            p for p, terms in self.terms.items() if len(terms) == 1 and self.owners[p] in self.original[0].used
        ]
        for mine, theirs in zip(self.original, self.other, strict=True):
            theirs.used = self._mapped_gradients(mine.used)
        self.done = {"clip": None}

    def update_rule(self) -> list[tuple[str, str, str, int]]:
        """Row, cause, remedy and first wrong step of what makes the updates differ; [] if nothing does."""
        base, float32 = self.errors({}), 1e-4 if self.eps < 1e-10 else 2e-4
        if max(base) < self.tight:
            return []
        wrong = next(k for k, error in enumerate(base, 1) if error >= min(float32, max(base)))
        known = optimizers.mistakes(self.settings(0, self.paths[0]) | self.done, self.other[0].read)
        options = [*self._rates(), *((*m, None) for m in known)]
        found = self._passing(options, float32) or self._passing(list(self._both(options)), float32)
        if found is None:
            return [("", "", "", wrong)]
        rows, said, remedies = (found[k] if isinstance(found[k], tuple) else (found[k],) for k in range(3))
        return [(row, text, remedy, wrong) for row, text, remedy in zip(rows, said, remedies, strict=True)]

    def _both(self, options: list) -> Iterator[tuple]:
        for k, first in enumerate(options):
            for second in options[k + 1 :]:
                if not first[3].keys() & second[3].keys():
                    texts = [(first[n], second[n]) for n in range(3)]
                    yield *texts, first[3] | second[3], first[4] or second[4]

    def _passing(self, options: list, allowed: float) -> Any:
        scored = [(max(self.errors(o[3], o[4])), k) for k, o in enumerate(options)]
        best = min(scored, default=(np.inf, 0))[0]
        near = [k for error, k in scored if error < max(10 * best, 1e-9)]
        return options[near[0]] if best < allowed else None

    def float32_settings(self) -> str:
        # what Keras keeps in float32 whatever the models' precision, and the 1e-6 in PyTorch's clipping: no mistakes
        s = self.settings(0, self.paths[0])
        rounded = {
            "O2": {"powers": tuple(float(np.float32(b)) for b in s["betas"])},
            "O2c": {"momentum": float(np.float32(s["momentum"])), "alpha": float(np.float32(s["alpha"]))},
            "O5b": {"weight_decay": float(np.float32(s["weight_decay"]))},
        }
        norm = {"clip": ("global", s["clip"][1])} if s["clip"] is not None and s["clip"][0] == "torch" else {}
        changes = {"O2b": {}, **rounded, "O8": norm, **{f"{row}, O8": c | norm for row, c in rounded.items() if norm}}
        changes["O2, O5b"] = rounded["O2"] | rounded["O5b"] | norm
        rates = [float(np.float32(step.rate)) for step in self.original]
        scheduled = "O9b" if np.ptp(rates) else "O2b"
        theirs = [step.rate or 0.0 for step in self.other]  # a schedule that is computed in float32
        read = [theirs] if np.max(np.abs(np.subtract(theirs, rates))) < 1e-6 * max(rates) and theirs != rates else []
        for lrs in (None, rates, *read):
            for row, changed in changes.items():
                if max(self.errors(changed, lrs)) < max(self.tight, 3e-8 if lrs is None else 0.0):
                    known = row.split(", ") if changed else []
                    return row if lrs is None else ", ".join([scheduled, *known])
        return ""

    def implied_rates(self) -> list[float] | None:
        """The rate of each of the port's updates, if all are the original's but for a factor."""
        weights = {path: self.picked(self.start[path], path) for path in self.paths}
        state, rates = {path: {} for path in self.paths}, []
        for number, now in enumerate(self.other):
            moves, wanted = [], []
            for path in self.paths:
                s = self.settings(number, path) | self.done | {"lr": 1.0}
                gradient = self._gradients(number, s["clip"])[path]
                wanted.append(optimizers.update(weights[path], gradient, state[path], s) - weights[path])
                after = self.picked(now.after[path], path)
                moves.append(after - weights[path])
                weights[path] = after
            moved, unit = np.concatenate(moves), np.concatenate(wanted)
            rates.append(float(moved @ unit / max(unit @ unit, 1e-300)))
            if np.max(np.abs(moved - rates[-1] * unit)) > 1e-6 * np.max(np.abs(moved), initial=1e-300):
                return None
        return rates

    def _rates(self) -> Iterator[tuple]:
        mine, theirs = [step.rate for step in self.original], [step.rate for step in self.other]
        theirs = theirs if None not in theirs else self.implied_rates()
        if len(mine) > 2 and theirs and not np.allclose(mine, theirs, rtol=1e-5):
            remedy = "port: step the schedule where the original steps it"
            if np.allclose(mine[1:], theirs[:-1], rtol=1e-5):
                row, also = ("O12", "patience=" + str(self.patience + 1)) if self.patience else ("O15", remedy)
                yield row, "the port's learning rate is a step early", also, {}, theirs
            elif np.allclose(mine[:-1], theirs[1:], rtol=1e-5):
                yield "O15", "the port's learning rate is a step late", remedy, {}, theirs
            elif np.ptp(theirs) <= 1e-6 * max(theirs):
                said = "constant" if np.ptp(mine) else f"{theirs[0]:g}, not {mine[0]:g}"
                default = self.original[0].kind == "SGD" and np.isclose(theirs[0], 0.01)  # Keras's, of SGD alone
                row = "O6c" if default and not np.ptp(mine) else ""
                yield row, f"the port's learning rate is {said}", "port: the original's rate", {}, theirs
            else:
                k = next(
                    k for k, (a, b) in enumerate(zip(mine, theirs, strict=True)) if not np.isclose(a, b, rtol=1e-5)
                )
                peak = int(np.argmin(mine))  # of a cosine that comes up again, while Keras's stays down
                stays = (
                    k == peak + 1 and np.ptp(theirs[peak:]) < 1e-6 * np.ptp(theirs) and np.all(np.diff(mine[peak:]) > 0)
                )
                yield (
                    "O9" if stays else "",
                    f"the port's schedule is another from step {k + 1} on: {theirs[k]:g}, not {mine[k]:g}",
                    "port: the original's schedule",
                    {},
                    theirs,
                )
