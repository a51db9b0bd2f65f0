"""The training scripts' command line: one set of options for both frameworks.

An option is a field of a frozen dataclass: its name, default and help stand in one place, and the same fields are
what a run writes to ``config.json``. Fields with underscores are flags with dashes: ``latent_dim``, ``--latent-dim``.
"""

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, Self, get_args

from common.data.datasets import NAMES
from common.data.download import SOURCES
from common.data.messages import reason
from common.mixtures.priors import PRIOR_TYPES
from common.networks.input import ACTIVATIONS, MODELS
from common.runs.command_line import Parser, choice
from common.runs.tensorboard import check_tensorboard

DATA = f"{', '.join(NAMES)}, or a path: a text table (.csv, .csv.gz, .tsv, ...), .npy, .npz or IDX file, or a folder"


def option(default: Any, help: str, **argparse_arguments: Any) -> Any:
    """A dataclass field that is also a flag; its type is that of the default unless ``type`` says otherwise."""
    return field(default=default, metadata={"help": help} | argparse_arguments)


@dataclass(frozen=True)
class RunOptions:
    """The options of every training script."""

    data: str = option("digits", DATA)
    data_dir: str | None = option(
        None, f"folder with the IDX files of {', '.join(SOURCES)} (default: download them, once)", type=str
    )
    label_column: str | None = option(
        None, "column that holds labels, not data: its header, or its number (-1 is the last)",
        type=str,
    )  # fmt: skip
    columns: str | None = option(
        None, "columns that hold data: names and numbers, such as age,3-5,-1 (default: all but labels and row numbers)",
        type=str,
    )  # fmt: skip
    seed: int = option(0, "seed of all random numbers")
    precision: str = option(
        "float64",
        "arithmetic; reproducible rounds float64 updates, so that both frameworks give the same bytes",
        choices=("float64", "float32", "reproducible"),
    )
    out: str | None = option(None, "run folder to write; required unless --resume is given", type=str)
    resume: str | None = option(None, "run folder, of either framework, to continue", type=str)
    overwrite: bool = option(False, "replace an earlier run in the folder")
    threads: int = option(1, "number of threads for the framework's arithmetic")
    device: str = option("cpu", "device to compute on, by the framework's name for it: cpu, cuda, ...")
    log_interval: int = option(0, "print progress to stderr every N steps; 0 = never")
    quiet: bool = option(False, "print nothing but errors")
    verbose: bool = option(False, "show the framework's own messages", short="-v")
    json: bool = option(False, "print the results as one JSON object")
    tensorboard: bool = option(False, "also write curves and figures for TensorBoard to the run folder")

    def check(self) -> Self:
        """Return the options; ValueError, naming the flag, if one is out of range."""
        for name, least in self.at_least().items():
            value = getattr(self, name)
            if isinstance(value, int | float) and not least <= value < math.inf:
                raise ValueError(f"{flag(name)} {value}: must be at least {least}")
            if isinstance(value, int) and value >= 2**64:
                raise ValueError(f"{flag(name)} {reason(str(value))}: must be below 2^64")
        if "" in (self.out, self.resume):
            raise ValueError("--out and --resume: an empty name is no folder; name one, such as build/runs/first")
        if self.threads > (most := 8 * (os.cpu_count() or 1)):
            raise ValueError(f"--threads {self.threads}: must be at most {most} on this machine")
        if self.out is None and self.resume is None:
            raise ValueError("--out is missing: name the folder that the run is to write, such as build/runs/first")
        if self.tensorboard:
            check_tensorboard()
        return self

    @property
    def dtype(self) -> str:
        """The floating-point type that the precision computes in."""
        return "float32" if self.precision == "float32" else "float64"

    def at_least(self) -> dict[str, float]:
        """The least value of each numeric option."""
        return {"seed": 0, "threads": 1, "log_interval": 0}


@dataclass(frozen=True)
class GMMOptions(RunOptions):
    """Fit a mixture of Gaussians by expectation maximisation or by variational inference."""

    data: str = option("old-faithful", DATA)
    components: int = option(2, "number of components K")
    covariance: str = option("full", "form of the covariances", choices=("full", "tied", "diag", "spherical"))
    method: str = option(
        "em",
        "maximum likelihood (em), maximum a posteriori (map) or a posterior over all parameters (variational)",
        choices=("em", "map", "variational"),
    )
    missing: str = option("error", "treatment of empty cells: an error, or hidden data (em)", choices=("error", "em"))
    init: str = option(
        "kmeans", "how the starting point is chosen", choices=("kmeans", "k-means++", "random", "random_from_data")
    )
    steps: int = option(1000, "maximum number of iterations")
    tol: float = option(1e-10, "stop when the objective changes by less than this (nats per point)")
    reg_covar: float | None = option(
        None, "added to the diagonal of every covariance (default: 1e-6; give a value to allow constant columns)",
        type=float,
    )  # fmt: skip

    weight_concentration_prior_type: str | None = option(
        None,
        "variational: prior of the weights, stick-breaking or one Dirichlet distribution (default: dirichlet_process)",
        choices=PRIOR_TYPES,
    )
    weight_concentration_prior: float | None = option(
        None, "variational: prior number of points per component (default: 1 / components)", type=float
    )
    mean_precision_prior: float | None = option(
        None, "variational: number of points that the prior mean, the data's mean, counts for (default: 1)", type=float
    )
    degrees_of_freedom_prior: float | None = option(
        None, "variational: degrees of freedom of the Wishart prior, above D - 1 for D columns (default: D)", type=float
    )
    covariance_prior: float | None = option(
        None, "variational: inverse scale of the Wishart prior, times the identity (default: the data's covariance)",
        type=float,
    )  # fmt: skip

    def at_least(self) -> dict[str, float]:
        """The least value of each numeric option."""
        return super().at_least() | {"components": 1, "steps": 1, "tol": 0, "reg_covar": 0}

    def check(self) -> Self:
        """Return the options; ValueError, naming the flag, if one is out of range or does not go with another."""
        for name, value in (("method", "map"), ("missing", "em")):
            if getattr(self, name) == value and self.covariance != "full":
                raise ValueError(f"{flag(name)} {value}: needs --covariance full, not {self.covariance}")
        if self.method != "em" and self.missing == "em":
            raise ValueError(f"--method {self.method}: cannot be had with --missing em; choose one of them")
        for name in VARIATIONAL_ONLY:
            if (value := getattr(self, name)) is not None and self.method != "variational":
                raise ValueError(f"{flag(name)} {value}: only --method variational has one; leave it out")
        if self.method == "map" and self.reg_covar is not None:
            raise ValueError(f"--reg-covar {self.reg_covar}: --method map has its prior instead; leave it out")
        return super().check()

    def check_workers(self, size: int) -> None:
        """ValueError, naming the flag, if several processes cannot share this run."""
        if size > 1 and (self.method != "em" or self.missing == "em"):
            what = "--missing em" if self.missing == "em" else f"--method {self.method}"
            remedy = "use one process" if self.missing == "em" else "use one process, or --method em"
            raise ValueError(f"{what}: cannot be shared by {size} workers; {remedy}")


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
        choices=("bernoulli", "gaussian"),
    )
    variance: float | str | None = option(
        None,
        "fixed variance of a gaussian pixel, or per-pixel to learn one for each (default: learn one for all pixels)",
        type=_variance,
    )
    activation: str = option("tanh", "activation of the hidden layers", choices=ACTIVATIONS)
    latent_dim: int = option(10, "dimension L of the code")
    hidden_dim: int = option(400, "number of units H in each dense hidden layer")
    channels: int | None = option(
        None, "channels of a conv model's first convolution; the second has twice as many (default: 32)", type=int
    )
    epochs: int | None = option(
        None, "passes over the training data (default: 20, or more if needed for 1,000 updates)", type=int
    )
    steps: int | None = option(None, "stop after this many updates, whatever --epochs says", type=int)
    batch_size: int = option(128, "number of images in a minibatch")
    learning_rate: float = option(1e-3, "learning rate of Adam")
    compile: bool = option(False, "PyTorch: fuse the training step by torch.compile (TensorFlow's is always compiled)")
    importance_samples: int = option(0, "draws per held-out image to estimate log p(x) at the end; 0 = no estimate")
    pixel_max: float = option(1.0, "value of a white pixel in a file; pixels are divided by it")

    def at_least(self) -> dict[str, float]:
        """The least value of each numeric option."""
        sizes = ("latent_dim", "hidden_dim", "channels", "epochs", "steps", "batch_size")
        return (
            super().at_least()
            | dict.fromkeys(sizes, 1)
            | {"variance": 1e-6, "learning_rate": 1e-12, "pixel_max": 1e-6}
            | {"importance_samples": 0}
        )

    def check(self) -> Self:
        """Return the options; ValueError, naming the flag, if one is out of range or does not go with another."""
        if self.likelihood is None:
            return replace(self, likelihood="gaussian" if self.model == "autoencoder" else "bernoulli").check()
        if self.model == "autoencoder" and self.likelihood != "gaussian":
            raise ValueError(
                f"--likelihood {self.likelihood}: squared error is a gaussian likelihood; leave it out, or train a VAE"
            )
        if self.model == "autoencoder" and self.variance == "per-pixel":
            raise ValueError(
                "--variance per-pixel: squared error has one for all pixels; give a number or leave it out"
            )
        if self.model == "autoencoder" and self.importance_samples:
            raise ValueError(
                f"--importance-samples {self.importance_samples}: a plain autoencoder has no q(z|x) to draw from; "
                "leave it out, or train a VAE"
            )
        if self.variance is not None and self.likelihood != "gaussian":
            raise ValueError(f"--variance {self.variance}: only a gaussian likelihood has one; leave it out")
        if self.channels is not None and self.model != "conv":
            raise ValueError(
                f"--channels {self.channels}: only a conv model has them; leave it out or add --model conv"
            )
        return super().check()

    def check_workers(self, size: int) -> None:
        """ValueError, naming the flag, if several processes cannot share this run."""
        if size > 1 and self.model == "autoencoder" and self.variance is None:
            raise ValueError(f"--model autoencoder: {size} workers need its --variance, since the most likely one is "
                             "no average of theirs; give one, or use one process")  # fmt: skip


VARIATIONAL_ONLY = tuple(f.name for f in fields(GMMOptions) if "_prior" in f.name)

# --resume takes these from the command line; all other options are the earlier run's and must not be contradicted.
SPOKEN = {"log_interval", "quiet", "verbose", "json", "tensorboard"}
OF_THIS_RUN = {"out", "resume", "overwrite", "threads", "device", "compile", "importance_samples"} | SPOKEN
FREE_ON_RESUME = OF_THIS_RUN | {"data_dir", "epochs", "steps", "tol"}


GROUPS = {
    "data": ("data", "data_dir", "label_column", "columns", "pixel_max", "missing"),
    "run": ("seed", "precision", "out", "resume", "overwrite", "threads", "device", "compile"),
    "output": ("log_interval", "quiet", "verbose", "json", "tensorboard", "importance_samples"),
    "variational inference": VARIATIONAL_ONLY,
}
EXAMPLES = {
    "train_gmm": ("--data old-faithful --components 3 --out build/runs/first",
                  "--data iris.csv --label-column species --components 3 --out build/runs/iris"),
    "train_vae": ("--data digits --epochs 20 --out build/runs/vae", "--resume build/runs/vae --epochs 40"),
}  # fmt: skip


def parse(kind: type[RunOptions], argv: Sequence[str] | None, prog: str) -> tuple[RunOptions, set[str]]:
    """Options from the command line and the names of those given there. A wrong one ends in one line, exit code 2."""
    examples = (f"\n  python -m {prog} {more}" for more in EXAMPLES.get(prog.rpartition(".")[2], ()))
    usage = f"python -m {prog} [--data DATA] --out FOLDER [more options]\nexamples:{''.join(examples)}"
    parser = Parser(prog=prog, usage=usage, description=kind.__doc__)
    titles = {name: title for title, names in GROUPS.items() for name in names}
    groups = {title: parser.add_argument_group(title) for title in ("data", "model and training", *list(GROUPS)[1:])}
    for f in fields(kind):
        arguments = dict(f.metadata)
        names = [name for name in (arguments.pop("short", None), flag(f.name)) if name]
        arguments["help"] += "" if f.default in (None, False) else f" (default: {f.default})"
        if f.default is False:
            arguments["action"] = "store_true"
        elif choices := arguments.pop("choices", None):
            arguments |= {"type": choice(choices), "metavar": f"{{{','.join(choices)}}}"}
        else:
            arguments.setdefault("type", type(f.default))
        group = groups[titles.get(f.name, "model and training")]
        group.add_argument(*names, default=argparse.SUPPRESS, **arguments)
    given = vars(parser.parse_args(argv))
    try:
        return kind(**given).check(), set(given)
    except ValueError as error:
        parser.error(str(error))


def resumed(options: RunOptions, given: set[str], earlier: dict[str, Any]) -> RunOptions:
    """The earlier run's options with those of this command line that may change; ValueError naming any other."""
    for name in sorted(given - FREE_ON_RESUME):
        if getattr(options, name) != earlier.get(name):
            had = reason(str(earlier.get(name)))
            raise ValueError(f"{flag(name)} {getattr(options, name)}: the run to resume has {had}; leave the flag out")
    names = {f.name for f in fields(options)} - OF_THIS_RUN
    earlier = {f.name: None for f in fields(options) if f.default is None} | earlier  # written before there was one
    if missing := sorted(names - earlier.keys()):
        raise ValueError(f"--resume {options.resume}: config.json lacks {missing}; is it a run of this script?")
    for f in fields(options):
        if f.name in names and not _fits(f, earlier[f.name]):
            value = reason(repr(earlier[f.name]))
            raise ValueError(f"--resume {options.resume}: config.json has {f.name} = {value}; restore the file")
    changed = {name: getattr(options, name) for name in given & FREE_ON_RESUME}
    if "epochs" in given and "steps" not in given:
        changed["steps"] = None  # more epochs are meant, wherever the earlier run was told to stop
    own = {name: getattr(options, name) for name in OF_THIS_RUN if hasattr(options, name)}
    return type(options)(**{name: earlier[name] for name in names} | own | changed).check()


def _fits(option: Field, value: Any) -> bool:
    """Whether a value out of a file is one that the command line could have given."""
    types = get_args(option.type) or (option.type,)
    whole = type(value) is int and float in types
    chosen = value == option.default or value in option.metadata.get("choices", (value,))
    return (type(value) in types or whole) and chosen


def as_dict(options: RunOptions) -> dict[str, Any]:
    """The options as config.json holds them."""
    return asdict(options)


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")
