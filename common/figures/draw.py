"""The chapters' figures, drawn from one implementation's own numbers.

python -m common.figures.draw pytorch_impl build/figures/torch
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if not __package__:  # run as a file, python common/figures/draw.py, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtri

from common import draws
from common.data import datasets
from common.figures import chapters as chapter_figures
from common.figures import runs as figures
from common.figures.plates import graphical_models
from common.mixtures.mixture_prior import MixturePrior, default_prior
from common.mixtures.priors import VariationalPosterior, VariationalPrior, make_prior
from common.mixtures.start import initial_responsibilities
from common.networks.training import trained
from common.runs.script import implementation, without_native_stderr
from common.runs.terminal import are_words, help_shown

CHAPTERS = ("coin", "conjugate", "em", "estimators", "gmm", "singularity", "variational_gmm", "networks", "autoencoder",
            "vae", "optimizer", "backend")  # fmt: skip
WEIGHTS = np.array([0.5, 0.5])
FEW_COMPONENTS = {
    "weight_concentration_prior_type": "dirichlet_distribution",
    "weight_concentration_prior": 1e-3,
    "mean_precision_prior": 1.0,
    "degrees_of_freedom_prior": 2.0,
    "covariance_prior": np.eye(2),
}


def main(argv: Sequence[str]) -> int:
    """Draw every figure with the implementation and into the folder named; the exit code is 0, or 2 for bad input."""
    if help_shown(argv, __doc__):
        return 0
    try:
        if not are_words(argv, 2) or argv[0] not in ("pytorch_impl", "tf2_impl"):
            raise ValueError(f"{' '.join(argv)!r}: name an implementation, pytorch_impl or tf2_impl, and a folder")
        with without_native_stderr():
            maths = implementation(argv[0], CHAPTERS)
        with maths.backend.device("cpu", 1):
            for path in draw_all(maths, maths.backend.evaluate, Path(argv[1])):
                print(path)
    except (ValueError, OSError) as error:
        print(f"common.figures.draw: error: {error}", file=sys.stderr)
        return 2
    return 0


def draw_all(maths: SimpleNamespace, evaluate: Callable[..., Any], out: Path) -> list[Path]:
    """Draw every figure into the folder ``out``; returns the files.

    ``maths`` holds an implementation's modules by name; ``evaluate(function, *arrays)`` calls one of their functions
    with its tensors and gives NumPy arrays back.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror}); choose another folder") from error
    written = []
    for function in FIGURES:
        path = out / f"{function.__name__}.png"
        function(maths, evaluate).savefig(path)
        written.append(path)
    return written


def coin(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """Prior to posterior for a prior Beta(2, 2) and a coin that shows heads seven times in ten."""
    theta, tosses = np.linspace(0.001, 0.999, 400), (draws.uniforms(4, "sample", (100,)) < 0.7).astype(float)
    beliefs, estimates = [], []
    for n in (0, 3, 10, 100):
        seen = maths.estimators.BetaBernoulli(2, 2).update(tosses[:n])
        a, b = seen.posterior
        log_density = evaluate(maths.coin.beta_log_density, theta, np.array(a), np.array(b))
        beliefs.append((f"{seen.heads} heads in {n} tosses" if n else "prior, Beta(2, 2)", np.exp(log_density)))
        found = {"MAP": seen.map(), "predictive": seen.predictive()}
        estimates.append(({"MLE": seen.mle()} if n else {}) | found)
    return chapter_figures.coin(theta, beliefs, estimates)


def mixture_density(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """The mixture of two Gaussians fitted to Old Faithful: its density, and 400 samples from it."""
    data = datasets.load("old-faithful")
    fit = maths.estimators.GaussianMixture(2, tol=1e-10, max_iter=500, random_state=0).fit(data.x)
    grid = np.meshgrid(np.linspace(1, 5.8, 160), np.linspace(34, 104, 160))
    points = np.stack([axis.ravel() for axis in grid], axis=1)
    parameters = fit.weights_, fit.means_, fit.covariances_
    log_density, _ = evaluate(maths.gmm.e_step, points, *parameters)
    uniforms, noise = draws.uniforms(0, "component", (400,)), draws.normals(0, "sample", (400, 2))
    samples, _ = evaluate(maths.gmm.sample, *parameters, uniforms, noise)
    gamma = evaluate(maths.gmm.responsibilities, samples, *parameters)
    return chapter_figures.mixture_density(
        data.feature_names, tuple(grid), log_density.reshape(grid[0].shape), samples, gamma
    )


def em_snapshots(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """EM on Old Faithful from a poor start, after 0, 1, 2, 5 and 20 iterations."""
    x = datasets.load("old-faithful").x
    parameters = WEIGHTS, np.array([[2.5, 82.0], [4.5, 56.0]]), np.array([np.diag([0.15, 100.0])] * 2)
    snapshots = []
    for iteration in range(21):
        log_density, gamma = evaluate(maths.gmm.e_step, x, *parameters)
        if iteration in (0, 1, 2, 5, 20):
            snapshots.append((iteration, parameters[1], parameters[2], gamma, float(log_density.sum())))
        parameters = evaluate(maths.gmm.m_step, x, gamma)
    return chapter_figures.em_snapshots(x, snapshots)


def restarts(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """Where EM for three components ends on Old Faithful from sixteen random starts, and what one Gaussian reaches."""
    x = datasets.load("old-faithful").x
    arguments = {"init_params": "random_from_data", "tol": 1e-6, "max_iter": 4000}
    fits = [maths.estimators.GaussianMixture(3, random_state=seed, **arguments).fit(x) for seed in range(16)]
    single = maths.estimators.GaussianMixture(1).fit(x)
    return chapter_figures.restarts(np.array([fit.score(x) for fit in fits]) * len(x), single.score(x) * len(x))


def decomposition(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """L and KL on the waiting times, from a q that knows nothing through two rounds of EM."""
    x = datasets.load("old-faithful").x[:, 1:]
    q, parameters = np.full((len(x), 2), 0.5), (WEIGHTS, np.array([[60.0], [75.0]]), np.full((2, 1, 1), 90.0))
    steps = []

    def note(name: str) -> None:
        joint = evaluate(maths.gmm.log_joint, x, *parameters)
        divergence = evaluate(maths.em.kl_divergence, q, evaluate(maths.em.log_posterior, joint))
        steps.append((name, float(evaluate(maths.em.lower_bound, q, joint)), float(divergence)))

    note("start")
    for round_ in (1, 2):
        q = evaluate(maths.em.posterior, evaluate(maths.gmm.log_joint, x, *parameters))
        note(f"E step {round_}")
        parameters = evaluate(maths.gmm.m_step, x, q)
        note(f"M step {round_}")
    return chapter_figures.decomposition(steps)


def lower_bounds(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """The log likelihood of the waiting times over the mean of one component, and the bounds that EM climbs."""
    x = datasets.load("old-faithful").x[:, 1:]
    place, trial = 82.0, np.linspace(40, 88, 240)

    def joint(mean: float) -> np.ndarray:
        return evaluate(maths.gmm.log_joint, x, WEIGHTS, np.array([[mean], [80.0]]), np.full((2, 1, 1), 70.0))

    joints = [joint(mean) for mean in trial]
    objective = np.array([float(evaluate(maths.em.log_evidence, j)) for j in joints])
    bounds, visited = [], []
    for _ in range(5):
        q = evaluate(maths.em.posterior, joint(place))
        visited.append((place, float(evaluate(maths.em.log_evidence, joint(place)))))
        bounds.append(np.array([float(evaluate(maths.em.lower_bound, q, j)) for j in joints]))
        place = float((q[:, 0] @ x[:, 0]) / q[:, 0].sum())
    return chapter_figures.lower_bounds(trial, objective, bounds, visited)


def components_dying_out(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """Six components on Old Faithful (standardised), of which variational inference leaves two."""
    data = datasets.load("old-faithful")
    x = (data.x - data.x.mean(axis=0)) / data.x.std(axis=0)
    chapter, prior = maths.variational_gmm, make_prior(x, 6, **FEW_COMPONENTS)

    def iterate(x: Any, *fields: Any) -> tuple:
        posterior, bound = chapter.variational_iteration(
            x, VariationalPosterior(*fields[5:]), VariationalPrior(*fields[:5])
        )
        return *posterior, bound

    def m_step(x: Any, gamma: Any, *fields: Any) -> tuple:
        return chapter.m_step(chapter.statistics(x, gamma), VariationalPrior(*fields))

    def e_step(x: Any, *fields: Any) -> tuple:
        return chapter.e_step(x, VariationalPosterior(*fields))

    gamma = initial_responsibilities(x, 6, "kmeans", np.random.RandomState(0))
    posterior = evaluate(m_step, x, gamma, *prior)
    snapshots = []
    for iteration in range(1, 61):
        *posterior, bound = evaluate(iterate, x, *prior, *posterior)
        if iteration in (1, 5, 15, 30, 60):
            weights = evaluate(maths.conjugate.expected_weights, posterior[0])
            _, gamma = evaluate(e_step, x, *posterior)
            snapshots.append((iteration, weights, posterior[2], posterior[4], gamma, float(bound)))
    names = tuple(f"{name.partition(' (')[0]} (standardised)" for name in data.feature_names)
    return chapter_figures.components_dying_out(names, x, snapshots)


def choosing_components(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """The lower bound and the log likelihood, from k-means, for one to six components on Old Faithful."""
    x = datasets.load("old-faithful").x
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    counts, bounds, log_likelihoods = range(1, 7), [], []
    prior = FEW_COMPONENTS | {"weight_concentration_prior": 1.0}
    arguments = {"random_state": 0, "max_iter": 1000}
    for k in counts:
        fit = maths.estimators.BayesianGaussianMixture(k, reg_covar=0, tol=0.05, **prior, **arguments).fit(x)
        bounds.append(fit.lower_bound_)
        fit = maths.estimators.GaussianMixture(k, tol=1e-4, **arguments).fit(x)
        log_likelihoods.append(fit.score(x) * len(x))
    return chapter_figures.choosing_components(counts, np.array(bounds), np.array(log_likelihoods))


def singularity(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """Four objectives when a component shrinks onto one point of Old Faithful (standardised)."""
    x = datasets.load("old-faithful").x
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    prior = default_prior(x, 2)

    def penalised(x: Any, deviations: Any, *fields: Any) -> Any:
        return maths.singularity.penalised_curve(x, deviations, MixturePrior(*fields))

    widths = np.geomspace(0.1, 10, 150), np.geomspace(1e-36, 1e-2, 30), np.geomspace(1e-2, 3, 150)
    alone = evaluate(maths.singularity.single_gaussian_curve, x, widths[0])
    curves = {
        "log likelihood": [evaluate(maths.singularity.mixture_curve, x, w) for w in widths[1:]],
        "with reg_covar = 1e-6": [evaluate(maths.singularity.regularised_curve, x, w, 1e-6) for w in widths[1:]],
        "log posterior (MAP)": [evaluate(penalised, x, w, *prior) for w in widths[1:]],
    }
    return chapter_figures.singularity(widths, alone, curves)


def plates(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """The graphical models; nothing is computed."""
    return graphical_models()


def vae_manifold(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """The decoder's images of a grid of codes that share the prior's probability evenly, z = Φ^-1(u)."""
    u = (np.arange(20) + 0.5) / 20
    down, right = np.meshgrid(ndtri(u)[::-1], ndtri(u), indexing="ij")
    images = evaluate(trained(maths, "vae of 2").decoder, np.stack([right.ravel(), down.ravel()], axis=1))
    return chapter_figures.manifold(images, datasets.load("fashion").image_shape, ndtri(u))


def vae_latent_space(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """The means of the held-out images' codes."""
    held_out = datasets.load("fashion").split()[1]
    codes = evaluate(trained(maths, "vae of 2").encoder, held_out.x.astype(np.float64))[0]
    return figures.latent_space(codes, held_out.labels, held_out.label_names)


def vae_reconstructions(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """Held-out images, one of each class, and what two numbers keep of them."""
    held_out, model = datasets.load("fashion").split()[1], trained(maths, "vae of 2")
    x = held_out.x[np.unique(held_out.labels, return_index=True)[1]].astype(np.float64)
    codes = evaluate(model.encoder, x)[0]
    return figures.reconstructions(x, evaluate(model.decoder, codes), held_out.image_shape)


def vae_samples(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """The decoder's mean for codes drawn from the prior."""
    images = evaluate(trained(maths, "vae of 2").decoder, draws.normals(0, "prior", (100, 2)))
    return figures.samples(images, datasets.load("fashion").image_shape)


def samples_compared(maths: SimpleNamespace, evaluate: Callable[..., Any]) -> Figure:
    """The plain autoencoder sampled in two ways, beside the VAE sampled in its one way: codes of 16 dimensions."""
    data, prior = datasets.load("digits"), draws.normals(0, "prior", (64, 16))
    plain = trained(maths, "autoencoder")
    codes = evaluate(plain.encoder, data.split()[0].x)
    panels = {
        "autoencoder, codes from N(0, I)": evaluate(plain.decoder, prior),
        "autoencoder, codes from a fitted Gaussian": evaluate(plain.decoder, draws.like(codes, 0, 64)),
        "VAE, codes from its prior N(0, I)": evaluate(trained(maths, "vae").decoder, prior),
    }
    return chapter_figures.sample_sheets(panels, data.image_shape)


FIGURES = (
    coin,
    mixture_density,
    em_snapshots,
    restarts,
    decomposition,
    lower_bounds,
    components_dying_out,
    choosing_components,
    singularity,
    plates,
    vae_manifold,
    vae_latent_space,
    vae_reconstructions,
    vae_samples,
    samples_compared,
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
