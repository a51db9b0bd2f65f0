"""Runs of the training scripts once more: from the bytes of a folder, scikit-learn's digits and the definitions.

Nothing of the project is called here. Random numbers are drawn row by row, as `common/draws.py` defines them;
checkpoints are parsed as the safetensors format says; the maths is `oracle.py`'s, by hand.
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import digamma, gammaln, logsumexp, multigammaln, xlogy
from scipy.stats import dirichlet, invwishart, multivariate_normal, norm
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from parity_tests.support import oracle
from parity_tests.support.oracle import Arrays, affine

PURPOSES = {"split": 0, "initial values": 1, "order": 2, "noise": 3, "start": 4, "sample": 6, "prior": 7, "held-out": 8}
PURPOSES |= {"validation": 9, "dequantisation": 10}
DATA = Path(__file__).parents[2] / "common" / "data"
MOMENTS = ("optimizer.first_moment.", "optimizer.second_moment.")


def uniforms(seed: int, purpose: str, shape: tuple[int, ...], step: int = 0) -> np.ndarray:
    """A row at a time: Philox keyed by seed and purpose, at the counter of row and step, four words a counter."""
    width = prod(shape[1:])
    words = [
        np.random.Philox(key=seed + (PURPOSES[purpose] << 64), counter=row * -(-width // 4) + (step << 128)).random_raw(
            width
        )
        for row in range(shape[0])
    ]
    return ((np.array(words, dtype=np.uint64).reshape(shape) >> np.uint64(12)) + 0.5) / 2**52


def normals(seed: int, purpose: str, shape: tuple[int, ...], step: int = 0) -> np.ndarray:
    """The quantiles of these uniform numbers, in single precision."""
    return norm.ppf(uniforms(seed, purpose, shape, step)).astype(np.float32).astype(np.float64)


def order(seed: int, purpose: str, n: int, step: int = 0) -> np.ndarray:
    """The order that ranks n uniform numbers."""
    return np.argsort(uniforms(seed, purpose, (n,), step))


def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and held-out images and labels: the last sixth of an order of seed 0 is held out."""
    published, rows = load_digits(), order(0, "split", 1797)
    return tuple((published.data[part] / 16, published.target[part]) for part in (rows[:-300], rows[-300:]))


def checkpoint(folder: Path) -> tuple[Arrays, dict[str, Any]]:
    """The tensors of a checkpoint, read byte by byte, and what its header says of it."""
    content = (folder / "checkpoint.safetensors").read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header, arrays = json.loads(content[8:end]), {}
    about = json.loads(header.pop("__metadata__")["about"])
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        kind = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}[entry["dtype"]]
        arrays[name] = np.frombuffer(content[end + first : end + last], kind).reshape(entry["shape"])
    return arrays, about


def network_shapes(d: int, h: int, codes: int, model: str, variance: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a dense network's parameters, in the order of their names, in which they are drawn."""
    layers = {"encoder.hidden": (h, d)}
    layers |= {f"encoder.{head}": (codes, h) for head in (("code",) if model == "autoencoder" else ("mean", "log_var"))}
    layers |= {"decoder.hidden": (h, codes), "decoder.out": (d, h)}
    shapes = {f"{name}.weight": shape for name, shape in layers.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    shapes |= {"log_var": () if variance is None else (d,)} if variance in (None, "per-pixel") else {}
    return dict(sorted(shapes.items()))


def network_start(seed: int, shapes: Mapping[str, tuple[int, ...]], x: np.ndarray | None) -> Arrays:
    """Glorot's uniform weights, zeros; of a Gaussian decoder the mean image and what principal components leave."""
    start = {name: np.zeros(shape) for name, shape in shapes.items()}
    for position, (name, shape) in enumerate(shapes.items()):
        if name.endswith("weight"):
            start[name] = (2 * uniforms(seed, "initial values", shape, position) - 1) * np.sqrt(6 / sum(shape))
    if x is not None:
        start["decoder.out.bias"] = x.mean(axis=0)
        if "log_var" in shapes:
            some = x[np.linspace(0, len(x) - 1, min(len(x), 1000)).astype(int)]
            components = PCA(shapes["decoder.hidden.weight"][1], svd_solver="full").fit(some)
            left = (some - components.inverse_transform(components.transform(some))).var(axis=0)
            left = np.maximum(left, some.var(axis=0).mean() / 100)
            start["log_var"] = np.log(left if shapes["log_var"] else left.mean())
    return {name: np.float64(np.float32(value)) for name, value in start.items()}


class NetworkRun:
    """A reproducible run of `train_vae` on the digits: its metrics, its checkpoint and its summary."""

    def __init__(self, model: str = "dense", likelihood: str = "bernoulli", variance: Any = None, *, codes: int,
                 hidden: int, activation: str, batch_size: int, seed: int, learning_rate: float) -> None:  # fmt: skip
        (x, _), (held_out, self.labels) = digits()
        is_gaussian, self.is_plain = likelihood == "gaussian", model == "autoencoder"
        self.x, self.held_out = (x, held_out) if is_gaussian else (1.0 * (x > 0.5), 1.0 * (held_out > 0.5))
        self.seed, self.batch_size, self.codes = seed, batch_size, codes
        self.log_var = np.log(variance) if isinstance(variance, float) else None
        learned = None if is_gaussian and not self.is_plain else 0.0
        shapes = network_shapes(64, hidden, codes, model, variance if learned is None else learned)
        self.adam = oracle.Adam(network_start(seed, shapes, x if is_gaussian else None), learning_rate, True)
        self.network, self.rows = (activation, likelihood), []

    def update(self) -> None:
        """One update: the next rows of the epoch's order, noise by their place in the minibatch."""
        n, done = len(self.x), self.adam.step
        epoch, batch = divmod(done, -(-n // self.batch_size))
        rows = order(self.seed, "order", n, epoch)[batch * self.batch_size :][: self.batch_size]
        noise = None if self.is_plain else normals(self.seed, "noise", (len(rows), self.codes), done + 1)
        p = self.adam.parameters
        terms, gradients = oracle.terms_and_gradients(p, self.x[rows], noise, *self.network, self.log_var)
        self.adam.update(gradients)
        objective, *parts = terms
        row = {"step": done + 1, "loss": -terms[objective]} | {name: terms[name] for name in parts}
        if len(rows) < self.batch_size:  # the last of an epoch
            row["held_out_loss"] = -self.held_out_terms()[objective]
        self.rows.append(row)

    def held_out_terms(self) -> dict[str, float]:
        """The objective of the held-out images and its parts."""
        p, log_var = self.adam.parameters, self.log_var
        if self.is_plain and log_var is None:  # the variance that is most likely for the training images
            log_var = np.log(oracle.terms_and_gradients(p, self.x, None, *self.network)[0]["squared_error"])
        noise = normals(self.seed, "held-out", (len(self.held_out), self.codes))
        return oracle.terms_and_gradients(p, self.held_out, noise, *self.network, log_var)[0]

    def log_evidence(self, s: int) -> np.ndarray:
        """The log of the mean of p(x|z) p(z) / q(z|x) over s draws from q(z|x), of every held-out image."""
        p, x = self.adam.parameters, self.held_out
        h = oracle.BENDS[self.network[0]][0](affine(p, "encoder.hidden", x))
        mean, deviation = affine(p, "encoder.mean", h), np.exp(affine(p, "encoder.log_var", h) / 2)
        noise = normals(self.seed, "held-out", (len(x), s, self.codes), step=1)
        z = mean[:, None] + deviation[:, None] * noise  # (N, S, L)
        prior_to_q = norm.logpdf(z) - norm.logpdf(z, mean[:, None], deviation[:, None])
        output = self.output(z)
        if self.network[1] == "bernoulli":
            likelihood = x[:, None] * output - np.logaddexp(0, output)
        else:
            log_var = self.log_var if self.log_var is not None else p["log_var"]
            likelihood = norm.logpdf(x[:, None], output, np.exp(log_var / 2))
        return logsumexp(likelihood.sum(axis=2) + prior_to_q.sum(axis=2), axis=1) - np.log(s)

    def output(self, z: np.ndarray) -> np.ndarray:
        """The decoder's output for codes."""
        p = self.adam.parameters
        return affine(p, "decoder.out", oracle.BENDS[self.network[0]][0](affine(p, "decoder.hidden", z)))

    def pictures(self) -> dict[str, np.ndarray]:
        """The arrays that the figures of the end show."""
        p = self.adam.parameters
        code, expected = "encoder.code" if self.is_plain else "encoder.mean", lambda output: output
        if self.network[1] == "bernoulli":
            expected = lambda output: 1 / (1 + np.exp(-output))  # noqa: E731
        codes, of_training = (
            affine(p, code, oracle.BENDS[self.network[0]][0](affine(p, "encoder.hidden", x)))
            for x in (self.held_out, self.x)
        )
        if self.is_plain:  # draws with the mean and the covariance of the training images' codes
            centred = of_training - of_training.mean(axis=0)
            mix = normals(self.seed, "prior", (100, len(centred))) / np.sqrt(len(centred))
            drawn = of_training.mean(axis=0) + mix @ centred
        else:
            drawn = normals(self.seed, "prior", (100, self.codes))
        decoded = {"reconstructions": expected(self.output(codes[:10])), "samples": expected(self.output(drawn))}
        return {"latent_space": codes, "original": self.held_out[:10]} | decoded

    def checkpoint(self) -> Arrays:
        """The checkpoint's arrays: parameters in single precision, both moments, the count of updates."""
        adam = self.adam
        arrays = {name: np.float32(value) for name, value in adam.parameters.items()}
        for prefix, moment in zip(MOMENTS, (adam.first_moment, adam.second_moment), strict=True):
            arrays |= {prefix + name: np.asarray(value) for name, value in moment.items()}
        return arrays | {"step": np.array(adam.step)}


def table(name: str) -> np.ndarray:
    """The columns that a shipped table is fitted to, NaN where nothing was observed."""
    x = np.genfromtxt(DATA / f"{name}.csv", delimiter=",", skip_header=1, missing_values="NA")
    return x[:, : {"old_faithful": 2, "airquality": 4}[name]]


def mixture_start(seed: int, x: np.ndarray, k: int, is_random: bool) -> np.ndarray:
    """The responsibilities (K, N) before the first M step: uniform, or the clusters that k-means finds."""
    state = np.random.RandomState(int(uniforms(seed, "start", (1,))[0] * 2**32))
    if is_random:
        gamma = state.uniform(size=(len(x), k)).T
        return gamma / gamma.sum(axis=0)
    distinct, places, counts = np.unique(x, axis=0, return_inverse=True, return_counts=True)
    labels = KMeans(k, n_init=1, random_state=state).fit(distinct, sample_weight=counts).labels_[places.ravel()]
    return 1.0 * (labels == np.arange(k)[:, None])


def log_joint(x: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, kind: str) -> np.ndarray:
    """log pi_k p(what was observed of x_n | k), (K, N)."""
    if not np.isnan(x).any():
        return oracle.log_joint(x, weights, means, covariances, kind)
    found = np.empty((len(weights), len(x)))
    for n, row in enumerate(x):
        o = ~np.isnan(row)
        for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
            found[k, n] = np.log(weights[k]) + multivariate_normal(mean[o], covariance[np.ix_(o, o)]).logpdf(row[o])
    return found


def log_prior(x: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> float:
    """Fraley and Raftery's: Dir(1); IW(S_0, D + 2), S_0 the covariance of x / K^(2/D); N(mean of x, Sigma / 0.01)."""
    (k, d), centre = means.shape, x.mean(axis=0)
    scale = np.cov(x.T).reshape(d, d) / k ** (2 / d)
    of_components = sum(
        invwishart.logpdf(covariance, d + 2, scale) + multivariate_normal.logpdf(mean, centre, covariance / 0.01)
        for mean, covariance in zip(means, covariances, strict=True)
    )
    return dirichlet.logpdf(weights / weights.sum(), np.ones(k)) + of_components


def expected_log_joint(x: np.ndarray, q: Arrays) -> np.ndarray:
    """E[log pi_k N(x_n | mu_k, Lambda_k^-1)] under a posterior with full covariances, (K, N): Bishop (10.46)."""
    alpha, (_, d), found = q["weight_concentration"], q["means"].shape, []
    shares = digamma(alpha) - digamma(alpha.sum(axis=0))
    log_weights = shares if alpha.ndim == 1 else shares[0] + np.cumsum(shares[1]) - shares[1]
    for k, (nu, beta) in enumerate(zip(q["degrees_of_freedom"], q["mean_precision"], strict=True)):
        plug_in = multivariate_normal.logpdf(x, q["means"][k], q["covariances"][k])
        gap = digamma((nu - np.arange(d)) / 2).sum() - d * np.log(nu / 2)  # E log |Lambda| - log |E Lambda|
        found.append(log_weights[k] + plug_in + (gap - d / beta) / 2)
    return np.array(found)


def variational_bound(x: np.ndarray, gamma: np.ndarray, q: Arrays, prior: Mapping[str, Any]) -> float:
    """E[log joint] + entropy of gamma (K, N) - the divergences of weights, means and precisions from their priors.

    The M step adds `reg_covar` to every empirical covariance, and so does the bound.
    """
    d, alpha, c = x.shape[1], q["weight_concentration"], prior["concentration"]
    precisions = np.linalg.inv(q["covariances"])  # (K, D, D), expected
    bound = (gamma * expected_log_joint(x, q)).sum() - xlogy(gamma, gamma).sum()
    bound -= prior["reg_covar"] * (gamma.sum(axis=1) * np.trace(precisions, axis1=1, axis2=2)).sum() / 2
    of_prior = np.full_like(alpha, c)
    of_prior[: alpha.ndim - 1] = 1  # the first parameter of a stick's Beta distributions
    log_beta = [gammaln(a).sum(axis=0) - gammaln(a.sum(axis=0)) for a in (alpha, of_prior)]
    shares = digamma(alpha) - digamma(alpha.sum(axis=0))
    bound -= np.sum(log_beta[1] - log_beta[0] + ((alpha - of_prior) * shares).sum(axis=0))
    nu_0, beta_0, scale_0 = prior["degrees_of_freedom"], prior["mean_precision"], prior["covariance"]
    for mean, nu, beta, precision in zip(
        q["means"], q["degrees_of_freedom"], q["mean_precision"], precisions, strict=True
    ):
        log_determinant = np.linalg.slogdet(precision / nu)[1]
        expected = digamma((nu - np.arange(d)) / 2).sum() + d * np.log(2) + log_determinant
        log_z = nu * (log_determinant + d * np.log(2)) / 2 + multigammaln(nu / 2, d)
        log_z_0 = nu_0 * (d * np.log(2) - np.linalg.slogdet(scale_0)[1]) / 2 + multigammaln(nu_0 / 2, d)
        bound -= log_z_0 - log_z + ((nu - nu_0) * expected - nu * d + np.trace(scale_0 @ precision)) / 2
        gap = mean - x.mean(axis=0)
        bound -= (d * (beta_0 / beta - 1 - np.log(beta_0 / beta)) + beta_0 * gap @ precision @ gap) / 2
    return float(bound)


def expected_weights(alpha: np.ndarray) -> np.ndarray:
    """Of a Dirichlet, or of a stick, whose last piece is divided among all."""
    shares = alpha / alpha.sum(axis=0)
    weights = shares if alpha.ndim == 1 else shares[0] * np.cumprod(shares[1]) / shares[1]
    return weights / weights.sum()
