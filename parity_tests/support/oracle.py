r"""The dense VAE, its Adam and EM for the mixture once more, in NumPy, with every derivative written by hand.

A third implementation that shares no line with the other two: no autograd, no framework's kernels, another
author of exp and log. What PyTorch and TensorFlow agree on but get wrong, this one shows; and where all three
are rounded by the recipe of `optimizer.py` and `common/runs/rounding.py`, all three must end in the same
bytes.

Names and layouts of the parameters are the canonical ones, weights (out, in). Shapes: N images of D pixels, H
hidden units, codes of L dimensions; the letter G stands for the derivative of the loss with respect to what
follows it.
"""

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import expit, logsumexp

Arrays = dict[str, np.ndarray]
BENDS = {
    "tanh": (np.tanh, lambda h: 1 - h * h),
    "relu": (lambda a: np.maximum(a, 0), lambda h: (h > 0) * 1.0),
    "linear": (lambda a: a, np.ones_like),
}


def affine(p: Arrays, layer: str, entered: np.ndarray) -> np.ndarray:
    """W i + b of a layer's parameters."""
    return entered @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]


def terms_and_gradients(
    p: Arrays,
    x: np.ndarray,
    noise: np.ndarray | None,
    activation: str,
    likelihood: str,
    log_var: np.ndarray | float | None = None,
) -> tuple[dict[str, float], Arrays]:
    r"""The objective and its parts, and the loss's gradient by every parameter, from the chain rule, last step first.

    h = f(W x + b), mu = W_mu h + b_mu, s = W_s h + b_s, z = mu + e^{s/2} eps, k = f(V z + c), o = U k + d,
    and

    $$N \cdot \mathrm{loss} = -\log p(x \mid o) + \frac{1}{2} \sum \left( \mu^2 + e^s - 1 - s \right)$$

    A plain autoencoder has a code z = W_z h + b_z and no divergence. `log_var` is the fixed one of a Gaussian
    decoder; None takes it from the parameters, where it is learned, a plain autoencoder's from its squared error.
    """
    n, (f, slope), is_plain = len(x), BENDS[activation], "encoder.code.weight" in p
    h = f(affine(p, "encoder.hidden", x))  # (N, H)
    if is_plain:
        z = affine(p, "encoder.code", h)  # (N, L)
    else:
        mean, s = affine(p, "encoder.mean", h), affine(p, "encoder.log_var", h)  # (N, L)
        deviation = np.exp(s / 2)  # (N, L)
        z = mean + deviation * noise  # (N, L)
    k = f(affine(p, "decoder.hidden", z))  # (N, H)
    o = affine(p, "decoder.out", k)  # (N, D)
    gradients: Arrays = {}

    def through(layer: str, g: np.ndarray, entered: np.ndarray) -> np.ndarray:
        """Of o = W i + b: G W = (G o)' i, G b = sum_n G o; returns G i = (G o) W."""
        gradients[f"{layer}.weight"], gradients[f"{layer}.bias"] = g.T @ entered, g.sum(axis=0)
        return g @ p[f"{layer}.weight"]

    if likelihood == "bernoulli":
        # -log p = sum log(1 + e^o) - x o, whose derivative is sigmoid(o) - x
        reconstruction = (x * o - np.logaddexp(0, o)).sum(axis=1)  # (N,)
        g_o = (expit(o) - x) / n  # (N, D)
    else:
        # -log p = 1/2 sum log 2 pi + v + (x - o)² e^-v; where v follows the squared error, its own derivative is zero
        learned = np.log(np.square(x - o).mean()) if is_plain else p.get("log_var")
        v = learned if log_var is None else log_var
        square = (x - o) ** 2 * np.exp(-v)  # (N, D)
        reconstruction = -0.5 * (np.log(2 * np.pi) + v + square).sum(axis=1)  # (N,)
        g_o = (o - x) * np.exp(-v) / n  # (N, D)
        if log_var is None and not is_plain:
            gradients["log_var"] = 0.5 * (1 - square).sum(axis=0 if np.ndim(v) else None) / n
    g_z = through("decoder.hidden", through("decoder.out", g_o, k) * slope(k), z)  # (N, L)
    if is_plain:
        through("encoder.hidden", through("encoder.code", g_z, h) * slope(h), x)
        return {"log_likelihood": reconstruction.mean(), "squared_error": np.square(x - o).mean()}, gradients
    # z = mu + e^{s/2} eps, and the divergence adds mu and (e^s - 1) / 2
    g_mean = g_z + mean / n  # (N, L)
    g_s = g_z * noise * deviation / 2 + np.expm1(s) / (2 * n)  # (N, L)
    g_h = through("encoder.mean", g_mean, h) + through("encoder.log_var", g_s, h)  # (N, H)
    through("encoder.hidden", g_h * slope(h), x)
    kl = 0.5 * (mean**2 + np.expm1(s) - s).sum(axis=1)  # (N,)
    parts = {"reconstruction": reconstruction.mean(), "kl": kl.mean()}
    return {"elbo": (reconstruction - kl).mean()} | parts, gradients


class Adam:
    """Algorithm 1 of Kingma and Ba (2015); `reproducible` rounds as `optimizer.py` says."""

    def __init__(self, parameters: Arrays, learning_rate: float = 1e-3, reproducible: bool = False) -> None:
        self.parameters, self.learning_rate, self.reproducible, self.step = parameters, learning_rate, reproducible, 0
        self.first_moment = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.second_moment = {name: np.zeros_like(p) for name, p in parameters.items()}

    def update(self, gradients: Arrays) -> None:
        """One step down the gradients, in place."""
        self.step += 1
        for name, gradient in gradients.items():
            g = on_grid(gradient, self.second_moment[name]) if self.reproducible else gradient
            m = 0.9 * self.first_moment[name] + (1 - 0.9) * g
            v = 0.999 * self.second_moment[name] + (1 - 0.999) * (g * g)
            m_hat, v_hat = m / (1 - 0.9**self.step), v / (1 - 0.999**self.step)
            p = self.parameters[name] - self.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)
            if self.reproducible:
                p = np.where(np.abs(p) < 2.0**-126, 0.0, p.astype(np.float32).astype(np.float64))
                m, v = (np.where(np.abs(moment) < 2.0**-960, 0.0, moment) for moment in (m, v))
            self.parameters[name], self.first_moment[name], self.second_moment[name] = p, m, v


def grid_of(gradient: np.ndarray, second_moment: np.ndarray, bits: int = 11) -> float:
    """The spacing on which a gradient tensor is rounded: `bits` binary digits, the first that of its largest entry,

    or of the largest root mean square that its second moments remember, if that is larger.
    """
    largest = max(np.abs(gradient).max(), np.sqrt(second_moment.max()), 2.0**-400)
    return 2.0 ** (np.frexp(largest)[1] - bits)


def on_grid(gradient: np.ndarray, second_moment: np.ndarray) -> np.ndarray:
    """The nearest point of the gradient's own grid, a tie going to the even one."""
    grid = grid_of(gradient, second_moment)
    return np.rint(gradient / grid) * grid


def log_joint(x: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, kind: str) -> np.ndarray:
    """log pi_k N(x_n | mu_k, Sigma_k), (K, N), component by component, for the four covariance types."""
    d, found = x.shape[1], []
    for k in range(len(weights)):
        covariance = covariances if kind == "tied" else covariances[k]
        factor = np.linalg.cholesky(np.eye(d) * covariance if kind in ("diag", "spherical") else covariance)
        y = solve_triangular(factor, (x - means[k]).T, lower=True)  # (D, N)
        log_determinant = 2 * np.log(np.diag(factor)).sum()
        found.append(np.log(weights[k]) - 0.5 * (d * np.log(2 * np.pi) + log_determinant + (y * y).sum(axis=0)))
    return np.array(found)


def m_step(x: np.ndarray, gamma: np.ndarray, kind: str, reg_covar: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances of a kind from responsibilities (K, N): Bishop (2006), equations 9.24 to 9.26."""
    d, counts = x.shape[1], gamma.sum(axis=1) + 10 * np.finfo(x.dtype).eps  # (K,)
    means = np.stack([g @ x / count for g, count in zip(gamma, counts, strict=True)])  # (K, D)
    scatter = np.stack([(x - mean).T @ (g[:, None] * (x - mean)) for g, mean in zip(gamma, means, strict=True)])
    full = scatter / counts[:, None, None] + reg_covar * np.eye(d)  # (K, D, D)
    variances = np.diagonal(full, axis1=1, axis2=2)  # (K, D)
    covariances = {
        "full": (full + np.swapaxes(full, 1, 2)) / 2,
        "tied": scatter.sum(axis=0) / counts.sum() + reg_covar * np.eye(d),
        "diag": variances.copy(),
        "spherical": variances.mean(axis=1),
    }[kind]
    if kind == "tied":
        covariances = (covariances + covariances.T) / 2
    return counts / counts.sum(), means, covariances


def em_iteration(
    x: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, kind: str, reg_covar: float
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], float]:
    """One iteration of EM: the new parameters, and the log likelihood of the old ones."""
    joint = log_joint(x, weights, means, covariances, kind)
    log_density = logsumexp(joint, axis=0)  # (N,)
    return m_step(x, np.exp(joint - log_density), kind, reg_covar), float(log_density.sum())
