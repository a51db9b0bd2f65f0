"""The training scripts' command line: one set of options for both frameworks.

An option is a field of a frozen dataclass, which holds its default, help, choices and least value. The fields
are also what a run writes to ``config.json``. A field ``latent_dim`` is the flag ``--latent-dim``.
"""

import argparse
import functools
import importlib.util
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Self, get_args

from common.data.datasets import NAMES
from common.data.download import SOURCES
from common.data.messages import InputError, flag, reason, require
from common.mixtures.input import REG_COVAR
from common.mixtures.parameters import COVARIANCE_TYPES, PRIOR_TYPES
from common.mixtures.start import INIT_PARAMS
from common.networks.input import ACTIVATIONS, DEFAULT_CHANNELS, LIKELIHOODS, MODELS
from common.runs.launch_workers import usable_cores
from common.runs.terminal import Parser, chosen_from

DATA = f"{', '.join(NAMES)}, or a path: a text table (.csv, .csv.gz, .tsv, ...), .npy, .npz or IDX file, or a folder"
SECTIONS = ("data", "model and training", "run", "output", "variational inference")  # of --help
EXAMPLES = {
    "train_gmm": (
        "--data old-faithful --components 3 --out build/runs/first",
        "--data iris.csv --label-column species --components 3 --out build/runs/iris",
    ),
    "train_vae": ("--data digits --epochs 20 --out build/runs/vae", "--resume build/runs/vae --epochs 40"),
}
# With --resume these come from the command line; the others are those of the earlier run.
OF_THIS_RUN = {"out", "resume", "overwrite", "threads", "device", "compile", "importance_samples"}
OF_THIS_RUN |= {"log_interval", "hash_interval", "quiet", "verbose", "json", "tensorboard"}
FREE_ON_RESUME = OF_THIS_RUN | {"data_dir", "epochs", "steps", "tol"}


def option(default: Any, help: str, section: str = "model and training", **more: Any) -> Any:
    """A dataclass field that is also a flag; ``more`` holds its choices, least value, type or short name."""
    return field(default=default, metadata={"help": help, "section": section} | more)


of_data, of_run, of_output = (functools.partial(option, section=name) for name in ("data", "run", "output"))
of_variational = functools.partial(option, None, section="variational inference")


@dataclass(frozen=True)
class RunOptions:
    """The options of every training script."""

    data: str = of_data("digits", DATA)
    data_dir: str | None = of_data(None, f"folder with the IDX files of {', '.join(SOURCES)} (default: download once)")
    label_column: str | None = of_data(None, "column that holds labels, not data: its header or number (-1 = last)")
    columns: str | None = of_data(
        None, "columns that hold data: names and numbers, such as age,3-5,-1 (default: all but labels and row numbers)"
    )
    seed: int = of_run(0, "seed of all random numbers", least=0)
    precision: str = of_run(
        "float64",
        "arithmetic; reproducible rounds float64 updates, so that both frameworks give the same bytes",
        choices=("float64", "float32", "reproducible"),
    )
    out: str | None = of_run(None, "run folder to write; required unless --resume is given")
    resume: str | None = of_run(None, "run folder, of either framework, to continue")
    overwrite: bool = of_run(False, "replace an earlier run in the folder")
    threads: int = of_run(
        0,
        "threads of the framework's arithmetic; 0 = OMP_NUM_THREADS if it is set, else one for every core. Results in "
        "reproducible precision do not depend on it",
        least=0,
    )
    device: str = of_run("cpu", "device to compute on, by the framework's name for it: cpu, cuda, ...")
    log_interval: int = of_output(0, "print progress to stderr every N steps; 0 = never", least=0)
    hash_interval: int = of_output(0, "write a hash of every tensor to the metrics every N steps; 0 = never", least=0)
    quiet: bool = of_output(False, "print nothing but errors")
    verbose: bool = of_output(False, "show the framework's own messages", short="-v")
    json: bool = of_output(False, "print the results as one JSON object")
    tensorboard: bool = of_output(False, "also write curves and figures for TensorBoard to the run folder")

    @property
    def thread_count(self) -> int:
        """How many threads compute: as asked for, else as OMP_NUM_THREADS has it, else one for each usable core."""
        of_environment = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
        return self.threads or (int(of_environment) if of_environment.isdecimal() else 0) or usable_cores()

    @property
    def dtype(self) -> str:
        """The floating-point type that the precision computes in."""
        return "float32" if self.precision == "float32" else "float64"

    def problems(self) -> Iterable[tuple[str, bool, str]]:
        """For each rule between options: the option at fault, whether the rule is broken, and the problem."""
        most = 8 * (os.cpu_count() or 1)
        yield "threads", self.threads > most, f"must be at most {most} on this machine"
        is_lacking = self.tensorboard and importlib.util.find_spec("tensorboard") is None
        yield "tensorboard", is_lacking, "is not installed; run `python -m pip install tensorboard`, or leave it out"
        for name in ("out", "resume"):
            yield name, getattr(self, name) == "", "an empty name is not a folder; name one, such as build/runs/first"

    def check(self) -> Self:
        """Return the options; InputError if one is out of range or contradicts another."""
        for f in fields(self):
            value, least = getattr(self, f.name), f.metadata.get("least")
            if least is not None and isinstance(value, int | float):
                require(least <= value < math.inf, f.name, f"must be at least {least}", value)
                require(isinstance(value, float) or value < 2**64, f.name, "must be below 2^64", value)
        for name, is_broken, problem in self.problems():
            require(not is_broken, name, problem, getattr(self, name))
        if self.out is None and self.resume is None:
            raise ValueError("--out is missing: name the folder that the run is to write, such as build/runs/first")
        return self


@dataclass(frozen=True)
class GMMOptions(RunOptions):
    """Fit a mixture of Gaussians by expectation maximisation or by variational inference."""

    data: str = of_data("old-faithful", DATA)
    components: int = option(2, "number of components K", least=1)
    covariance: str = option("full", "form of the covariances", choices=COVARIANCE_TYPES)
    method: str = option(
        "em",
        "maximum likelihood (em), maximum a posteriori (map) or a posterior over all parameters (variational)",
        choices=("em", "map", "variational"),
    )
    missing: str = of_data("error", "treatment of empty cells: an error, or hidden data (em)", choices=("error", "em"))
    init: str = option("kmeans", "how the starting point is chosen", choices=INIT_PARAMS)
    steps: int = option(1000, "maximum number of iterations", least=1)
    tol: float = option(1e-10, "stop when the objective changes by less than this (nats per point)", least=0)
    reg_covar: float | None = option(
        None,
        f"added to the diagonal of every covariance (default: {REG_COVAR}; give a value to allow constant columns)",
        least=0,
    )
    weight_concentration_prior_type: str | None = of_variational(
        "variational: prior of the weights, stick-breaking or one Dirichlet distribution (default: dirichlet_process)",
        choices=PRIOR_TYPES,
    )
    weight_concentration_prior: float | None = of_variational(
        "variational: prior number of points per component (default: 1 / components)"
    )
    mean_precision_prior: float | None = of_variational(
        "variational: number of points that the prior mean, the data's mean, counts for (default: 1)"
    )
    degrees_of_freedom_prior: float | None = of_variational(
        "variational: degrees of freedom of the Wishart prior, above D - 1 for D columns (default: D)"
    )
    covariance_prior: float | None = of_variational(
        "variational: inverse scale of the Wishart prior, times the identity (default: the data's covariance)"
    )

    def problems(self) -> Iterable[tuple[str, bool, str]]:
        """For each rule between options: the option at fault, whether the rule is broken, and the problem."""
        form = f"needs {{covariance=full}}, not {self.covariance}"
        yield "method", self.method == "map" and self.covariance != "full", form
        yield "missing", self.missing == "em" and self.covariance != "full", form
        both = self.missing == "em" and self.method != "em"
        yield "method", both, "cannot be combined with {missing=em}; choose one of them"
        for name in (f.name for f in fields(self) if f.metadata["section"] == "variational inference"):
            given = getattr(self, name) is not None
            yield name, given and self.method != "variational", "only {method=variational} has one; leave it out"
        has_no_use = self.method == "map" and self.reg_covar is not None
        yield "reg_covar", has_no_use, "{method=map} has its prior instead; leave it out"
        yield from super().problems()

    def check_workers(self, size: int) -> None:
        """InputError if several processes cannot share this run."""
        problem = f"cannot be shared by {size} workers; use one process"
        require(size == 1 or self.missing != "em", "missing", problem, self.missing)
        require(size == 1 or self.method == "em", "method", f"{problem}, or {{method=em}}", self.method)


def _variance(text: str) -> float | str:
    return text if text == "per-pixel" else float(text)


@dataclass(frozen=True)
class VAEOptions(RunOptions):
    """Train a variational autoencoder, or a plain one, on images."""

    model: str = option(
        "dense",
        "a VAE with a dense or, for images, a conv network; or a plain autoencoder, trained on squared error",
        choices=(*MODELS, "autoencoder"),
    )
    likelihood: str | None = option(
        None,
        "distribution of a pixel; for bernoulli, pixels become 0 or 1 (default: bernoulli; autoencoder: gaussian)",
        choices=LIKELIHOODS,
    )
    variance: float | str | None = option(
        None,
        "fixed variance of a gaussian pixel, or per-pixel to learn one for each (default: learn one for all pixels)",
        type=_variance,
        least=1e-6,
    )
    activation: str = option("tanh", "activation of the hidden layers", choices=ACTIVATIONS)
    latent_dim: int = option(10, "dimension L of the code", least=1)
    hidden_dim: int = option(400, "number of units H in each dense hidden layer", least=1)
    channels: int | None = option(
        None,
        f"channels of a conv model's first convolution; the second has twice as many (default: {DEFAULT_CHANNELS})",
        least=1,
    )
    epochs: int | None = option(None, "passes over the training data (default: 20, at least 1,000 updates)", least=1)
    steps: int | None = option(None, "stop after this many updates, whatever --epochs says", least=1)
    batch_size: int = option(128, "number of images in a minibatch", least=1)
    learning_rate: float = option(1e-3, "learning rate of Adam", least=1e-12)
    compile: bool = of_run(False, "PyTorch: fuse the training step by torch.compile (TensorFlow's is always compiled)")
    importance_samples: int = of_output(
        0, "draws per held-out image to estimate log p(x) at the end; 0 = no estimate", least=0
    )
    pixel_max: float = of_data(1.0, "value of a white pixel in a file; pixels are divided by it", least=1e-6)

    def problems(self) -> Iterable[tuple[str, bool, str]]:
        """For each rule between options: the option at fault, whether the rule is broken, and the problem."""
        is_plain, is_gaussian = self.model == "autoencoder", self.likelihood == "gaussian"
        without = "leave it out, or train a VAE"
        yield "likelihood", is_plain and not is_gaussian, f"squared error is a gaussian likelihood; {without}"
        each = is_plain and self.variance == "per-pixel"
        yield "variance", each, "squared error has one for all pixels; give a number or leave it out"
        draws = is_plain and self.importance_samples > 0
        yield "importance_samples", draws, f"a plain autoencoder has no q(z|x) to draw from; {without}"
        without_one = self.variance is not None and not is_gaussian
        yield "variance", without_one, "only a gaussian likelihood has one; leave it out"
        needless = self.channels is not None and self.model != "conv"
        yield "channels", needless, "only a conv model has them; leave it out or add {model=conv}"
        yield from super().problems()

    def check(self) -> Self:
        """Return the options with a likelihood; InputError if one is out of range or contradicts another."""
        if self.likelihood is None:
            return replace(self, likelihood="gaussian" if self.model == "autoencoder" else "bernoulli").check()
        return super().check()

    def check_workers(self, size: int) -> None:
        """InputError if several processes cannot share this run."""
        problem = f"{size} workers need its {{variance}}: the most likely one is not an average of theirs"
        is_average = size == 1 or self.model != "autoencoder" or self.variance is not None
        require(is_average, "model", f"{problem}; give one, or use one process", self.model)


def parse(kind: type[RunOptions], argv: Sequence[str] | None, prog: str) -> tuple[RunOptions, set[str]]:
    """Return the options and the names of those on the command line; exit with code 2 if one is wrong."""
    examples = (f"\n  python -m {prog} {more}" for more in EXAMPLES.get(prog.rpartition(".")[2], ()))
    usage = f"python -m {prog} [--data DATA] --out FOLDER [more options]\nexamples:{''.join(examples)}"
    parser = Parser(prog=prog, usage=usage, description=kind.__doc__)
    sections = {title: parser.add_argument_group(title) for title in SECTIONS}
    for f in fields(kind):
        names = [*filter(None, [f.metadata.get("short")]), flag(f.name)]
        sections[f.metadata["section"]].add_argument(*names, default=argparse.SUPPRESS, **_of_argparse(f))
    given = vars(parser.parse_args(argv))
    try:
        return kind(**given).check(), set(given)
    except ValueError as error:
        parser.error(error.on_command_line({}, given) if isinstance(error, InputError) else str(error))


def _of_argparse(option: Field) -> dict[str, Any]:
    text = option.metadata["help"] + ("" if option.default in (None, False) else f" (default: {option.default})")
    if option.default is False:
        return {"help": text, "action": "store_true"}
    if choices := option.metadata.get("choices"):
        chosen = functools.partial(chosen_from, choices=choices)
        return {"help": text, "type": chosen, "metavar": f"{{{','.join(choices)}}}"}
    return {"help": text, "type": option.metadata.get("type", _types(option)[0])}


def resumed(options: RunOptions, given: set[str], earlier: dict[str, Any]) -> RunOptions:
    """Return the earlier run's options, changed where that is allowed; InputError naming any other."""
    for name in sorted(given - FREE_ON_RESUME):
        value, had = getattr(options, name), earlier.get(name)
        require(value == had, name, f"the run to resume has {reason(str(had))}; leave the flag out", value)
    names = {f.name for f in fields(options)} - OF_THIS_RUN
    earlier = {f.name: None for f in fields(options) if f.default is None} | earlier  # of older runs
    missing = sorted(names - earlier.keys())
    require(not missing, "resume", f"config.json lacks {missing}; is it a run of this script?", options.resume)
    for f in fields(options):
        problem = f"config.json has {f.name} = {reason(repr(earlier.get(f.name)))}; restore the file"
        require(f.name not in names or _fits(f, earlier[f.name]), "resume", problem, options.resume)
    changed = {name: getattr(options, name) for name in given & FREE_ON_RESUME}
    if "epochs" in given and "steps" not in given:
        changed["steps"] = None  # the steps at which the earlier run was to stop no longer matter
    current = {name: getattr(options, name) for name in OF_THIS_RUN if hasattr(options, name)}
    return type(options)(**{name: earlier[name] for name in names} | current | changed).check()


def _fits(option: Field, value: Any) -> bool:
    """Whether a value from a file is one that the command line could have given."""
    is_whole = type(value) is int and float in _types(option)
    is_chosen = value == option.default or value in option.metadata.get("choices", (value,))
    return (type(value) in _types(option) or is_whole) and is_chosen


def _types(option: Field) -> tuple[type, ...]:
    return get_args(option.type) or (option.type,)
