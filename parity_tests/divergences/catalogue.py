"""An entry of the catalogue, how it is measured, and the register of all entries."""

import ast
import builtins
import inspect
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import torch

from common.data.arrays import as_array
from common.parity import difference
from parity_tests.tolerances import TOLERANCES

CATALOGUE: list["Entry"] = []
DOCSTRING = re.compile(r"(.*?) (?:Both: (.*)|PyTorch: (.*) TensorFlow: (.*) Remedy(?: (in .*?|for both.*?))?: (.*))")


class Measured(NamedTuple):
    """The difference of the two frameworks, with their defaults and after the remedy."""

    default: float
    remedied: float


@dataclass(frozen=True)
class Entry:
    """One divergence, or one proof that there is none: then ``size`` is None and the remedy is empty."""

    row: str  # O1: optimizer, L: layer, S: loss, R: random numbers and arithmetic, G: gradient or algebra, T: tensors
    title: str
    size: tuple[float, float] | None  # the band that the default difference lies in
    float32: tuple[float, float] | None  # the same in float32
    unit: str  # "relative" to the largest entry, "absolute", a share "of entries", or a noun
    after: str  # a row of parity_tests/tolerances.py
    function: Callable[..., Any]
    prose: str
    pytorch: str
    tensorflow: str
    stated: str | None  # the side that the remedy changes, where the names in it do not say so
    remedy: str  # code, which stands in the function's body too

    @property
    def page(self) -> Any:
        """The module that the entry stands in."""
        return inspect.getmodule(self.function)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The precisions in which the entry is measured."""
        return ("float64", "float32") if "dtype" in inspect.signature(self.function).parameters else ("float64",)

    def band(self, dtype: str) -> tuple[float, float] | None:
        """Lower and upper bound of the default difference."""
        return self.size if dtype == "float64" else self.float32

    def tolerance(self, dtype: str) -> float:
        """What may be left after the remedy, or, if there is no divergence, at all."""
        return TOLERANCES[self.after].of(dtype)

    def measure(self, dtype: str) -> Measured:
        """Run the entry, and leave the process as it was before."""
        with untouched_settings(), tf.device("CPU"):
            values = self.function(**{"dtype": dtype} if len(self.dtypes) > 1 else {})
        if self.size is None:
            return Measured(float(values), float(values))
        if len(values := tuple(values)) > 2:
            ours, theirs, *remedied = values
            apart = {"relative": relative, "of entries": unequal}.get(self.unit, absolute)
            values = apart(ours, theirs), apart(*(remedied if len(remedied) == 2 else (ours, *remedied)))
        return Measured(*map(float, values))

    def holds(self, dtype: str, measured: Measured) -> bool:
        """Whether the measured values are what the entry states."""
        in_band = self.size is None or self.band(dtype)[0] <= measured.default <= self.band(dtype)[1]
        return in_band and measured.remedied <= self.tolerance(dtype)

    def in_words(self, value: float) -> str:
        """A measured size with its unit."""
        if self.unit == "of entries":
            return "every entry" if value == 1 else f"{value:.0%} of entries"
        return f"{value:.3g}" if self.unit in ("relative", "absolute") else f"{value:.3g} {self.unit}"

    @property
    def yours(self) -> list[str]:
        """The names in the remedy that stand for the reader's own tensors, layers and optimizers."""
        free, bound = set(), {*definitions(self.page), *vars(builtins)}
        for statement in ast.parse(self.remedy).body:
            running = [part.target for part in ast.walk(statement) if isinstance(part, ast.comprehension)]
            free |= names(statement, ast.Load) - bound - set().union(*(names(target) for target in running))
            bound |= names(statement, ast.Store)
        return sorted(free)

    @property
    def code(self) -> str:
        """The remedy as it stands alone: the imports and definitions of the page that it uses, then itself."""
        statements, used, waiting = definitions(self.page), set(), [self.remedy]
        while waiting:
            new = names(ast.parse(waiting.pop())) & set(statements) - used
            waiting += [statements[name] for name in new]
            used |= new
        above = [statement for name, statement in statements.items() if name in used]
        imports = "\n".join(statement for statement in above if statement.startswith(("import ", "from ")))
        own = [statement for statement in above if not statement.startswith(("import ", "from "))]
        remedy = f"# yours: {', '.join(self.yours)}\n" * bool(self.yours) + self.remedy.replace("; ", "\n")
        return ("\n\n\n" if own else "\n\n").join([imports, *own, remedy]).strip()

    def remedy_is_in_the_code(self) -> bool:
        """Whether the entry runs every statement of the remedy, itself or through a function it calls."""
        page = vars(self.page)
        called = [page[name] for name in self.function.__code__.co_names if inspect.isfunction(page.get(name))]
        trees = [ast.parse(inspect.getsource(function)).body[0] for function in (self.function, *called)]
        code = "\n".join(ast.unparse(statement) for tree in trees for statement in tree.body[1:])
        return all(ast.unparse(statement) in code for statement in ast.parse(self.remedy).body)


def divergence(
    row: str,
    title: str,
    size: tuple[float, float] | None,
    *,
    float32: tuple[float, float] | None = None,
    unit: str = "relative",
    after: str = "exact",
) -> Callable[[Callable], Callable]:
    """Enter a function that measures a difference with both defaults and with the remedy.

    The function returns the two differences; or ours, theirs and theirs with the remedy; or two pairs of ours
    and theirs: these are then compared in the entry's unit. With an argument ``dtype`` it runs in float64 and
    float32. Its docstring says what goes wrong, then `PyTorch: ... TensorFlow: ... Remedy: ...`,
    or `Remedy in PyTorch:`, `in TensorFlow:`, `in both:`, `for both, in NumPy:` where its names do not say so.
    """

    def enter(function: Callable) -> Callable:
        prose, both, *sides = DOCSTRING.fullmatch(" ".join(function.__doc__.split())).groups()
        sides = (both, both, "", "") if both else sides
        CATALOGUE.append(Entry(row, title, size, float32 or size, unit, after, function, prose, *sides))
        return function

    return enter


def agreement(row: str, title: str, *, after: str = "exact") -> Callable[[Callable], Callable]:
    """Enter a function that returns one difference, which is none; its docstring ends with `Both: ...`."""
    return divergence(row, title, None, after=after)


def names(tree: ast.AST, context: type = ast.expr_context) -> set[str]:
    """The names in a piece of code, of those that it reads or binds."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


@cache
def definitions(page: Any) -> dict[str, str]:
    """What a page binds at its top level: each name with the import or the source of the definition that binds it."""
    source, bound = inspect.getsource(page), {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                one = ast.Import([alias])
                if isinstance(statement, ast.ImportFrom):
                    one = ast.ImportFrom(statement.module, [alias], statement.level)
                bound[alias.asname or alias.name] = ast.unparse(one)
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            bound[statement.name] = ast.get_source_segment(source, statement)
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            bound[statement.targets[0].id] = ast.get_source_segment(source, statement)
    return bound


def relative(a: Any, b: Any) -> float:
    """The largest difference, relative to the largest entry of a. Shapes are equal; dtypes need not be."""
    return difference(np.asarray(as_array(a), np.float64), np.asarray(as_array(b), np.float64)).nmax


def absolute(a: Any, b: Any) -> float:
    """The largest difference."""
    return difference(np.asarray(as_array(a), np.float64), np.asarray(as_array(b), np.float64)).max_abs


def unequal(a: Any, b: Any) -> float:
    """The share of entries that differ; NaN equals NaN, and None (no gradient) does not equal zero."""
    a, b = (np.array(None if value is None else as_array(value), dtype=object) for value in (a, b))
    if a.shape != b.shape:
        return 1.0
    pairs = list(zip(a.ravel(), b.ravel(), strict=True))
    return float(np.mean([x is not y and not (x == y or (x != x and y != y)) for x, y in pairs]))


def dtype_name(value: torch.Tensor | tf.Tensor) -> str:
    """float32, int64, ... in either framework."""
    return str(value.dtype).removeprefix("torch.") if isinstance(value, torch.Tensor) else value.dtype.name


def torch_gradient(function: Callable, *arrays: np.ndarray) -> torch.Tensor:
    """The gradient of the sum of a function's values with respect to its first argument."""
    tensors = [torch.tensor(array) for array in arrays]
    return torch.autograd.grad(function(tensors[0].requires_grad_(), *tensors[1:]).sum(), tensors[0])[0]


def tf_gradient(function: Callable, *arrays: np.ndarray) -> tf.Tensor | None:
    """The gradient of the sum of a function's values with respect to its first argument."""
    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors[0])
        value = tf.reduce_sum(function(*tensors))
    return tape.gradient(value, tensors[0])


@contextmanager
def untouched_settings() -> Iterator[None]:
    """Restore, at the end, every setting that an entry changes and every random generator it draws from."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    tensorflow_tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        tf.config.experimental.enable_tensor_float_32_execution(tensorflow_tf32)
