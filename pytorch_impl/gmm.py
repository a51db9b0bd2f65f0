r"""The mixture of Gaussians, fitted by expectation maximisation.

One Gaussian has one hump; real data often have several. A mixture explains each point in two steps that we do
not get to see: first a component $z$ is drawn with probabilities $\pi_k$, then the point is drawn from that
component's Gaussian. If we knew the $z$, fitting would be easy: split the points by component and take the
mean and the covariance of each heap. If we knew the Gaussians, guessing $z$ would be easy: Bayes' rule.
Expectation maximisation starts from a guess and does the two in turn. Since the guesses are probabilities
(the *responsibilities*), every point counts for every component, by a fraction; and each round can only raise
the likelihood.

![Eruptions of the geyser Old Faithful: the density that EM fitted, and points drawn from
it.](mixture_density.svg)

![EM from a poor start. Colours are responsibilities, ellipses the components; no iteration lowers log
p.](em_snapshots.svg)

![EM from four starts. Components that are alike at the start stay alike: nothing tells them
apart.](em_from_four_starts.svg)

![Where EM for three components ends from sixteen random starts, each grey line a maximum: the likelihood has
several, and few starts find the best of them.](restarts.svg)

Shapes: N points of D features, K components.

    x                 (N, D)
    responsibilities  (N, K)      rows sum to one
    weights           (K,)        sum to one
    means             (K, D)
    covariances       (K, D, D) full | (D, D) tied | (K, D) diag | (K,) spherical

Everything is in log space and in nats. Where a covariance is not positive definite, its densities are NaN:
the maths does not stop to look, and `GaussianMixture` and the training script turn it into an error that says
what to do.

Source: C. Bishop, "Pattern Recognition and Machine Learning" (2006), section 9.2, equations 9.7 to 9.28.
"""

import math

import torch
from torch import Tensor

from pytorch_impl.gaussian import cholesky


def component_log_densities(x: Tensor, means: Tensor, covariances: Tensor, covariance_type: str = "full") -> Tensor:
    r"""The log density of every point under every component, (N, K).

    $$\log \mathcal{N}(x_n \mid \mu_k, \Sigma_k) = -\frac{D}{2} \log 2\pi - \frac{1}{2} \log |\Sigma_k|
      - \frac{1}{2} (x_n - \mu_k)^T \Sigma_k^{-1} (x_n - \mu_k)$$

    With Cholesky factors, as in `gaussian.log_density`, no covariance is ever inverted. What all points share is
    the inverse of the factor, a triangle, so that they take a product: a GPU solves for each of a million points.

    Source: Bishop (2006), equation 2.43.
    """
    k, d = means.shape
    difference = x[:, None, :] - means  # (N, K, D)
    if covariance_type in ("full", "tied"):
        factor = cholesky(covariances.expand(k, d, d))  # (K, D, D)
        whiten = torch.linalg.solve_triangular(factor, torch.eye(d, dtype=x.dtype, device=x.device), upper=False)
        # y = L^-1 (x - mu), all points of a component at once
        y = whiten @ difference.permute(1, 2, 0)  # (K, D, N)
        # log|Sigma_k| = 2 sum_i log L_ii
        log_determinant = 2 * torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(dim=-1)  # (K,)
        # (x_n - mu_k)' Sigma_k^-1 (x_n - mu_k) = |y|²
        squared_length = torch.square(y).sum(dim=1).T  # (N, K)
    else:
        variances = covariances.reshape(k, -1).expand(k, d)  # (K, D)
        # log|Sigma_k| = sum_i log sigma_i²
        log_determinant = torch.log(variances).sum(dim=-1)  # (K,)
        squared_length = (torch.square(difference) / variances).sum(dim=-1)  # (N, K)
    # log N(x_n | mu_k, Sigma_k) = -1/2 (D log 2 pi + log|Sigma_k| + |y|²)
    return -0.5 * (d * math.log(2 * math.pi) + log_determinant + squared_length)  # (N, K)


def log_joint(x: Tensor, weights: Tensor, means: Tensor, covariances: Tensor, covariance_type: str = "full") -> Tensor:
    r"""The log of the joint density of a point and its component, (N, K).

    $$\log p(x_n, z_n = k) = \log \pi_k + \log \mathcal{N}(x_n \mid \mu_k, \Sigma_k)$$

    Source: Bishop (2006), equations 9.10 and 9.11.
    """
    return torch.log(weights) + component_log_densities(x, means, covariances, covariance_type)  # (N, K)


def complete_data_log_likelihood(
    x: Tensor, z: Tensor, weights: Tensor, means: Tensor, covariances: Tensor, covariance_type: str = "full"
) -> Tensor:
    r"""The log likelihood if the choices z (N, K) were known too, a scalar: no sum stands inside a logarithm.

    $$\log p(X, Z) = \sum_n \log p(z_n) + \log p(x_n \mid z_n)
      = \sum_n \sum_k z_{nk} \left( \log \pi_k + \log \mathcal{N}(x_n \mid \mu_k, \Sigma_k) \right)$$

    Each row of z has a one where the choice is, else zeros. Summing $p(X, Z)$ over all choices gives $p(X)$,
    the mixture.

    Source: Bishop (2006), equations 9.10, 9.11 and 9.36.
    """
    joint = log_joint(x, weights, means, covariances, covariance_type)  # (N, K)
    # z log p(x, z), with 0 log 0 = 0
    return torch.where(z > 0, z * joint, 0.0).sum()


def log_likelihood(
    x: Tensor, weights: Tensor, means: Tensor, covariances: Tensor, covariance_type: str = "full"
) -> Tensor:
    r"""The log likelihood of the mixture, a scalar in nats, summed over the points.

    $$\log p(X) = \sum_n \log \sum_k \pi_k \, \mathcal{N}(x_n \mid \mu_k, \Sigma_k)$$

    The sum inside the logarithm is the trouble: it ties every parameter to all the others.

    Source: Bishop (2006), equation 9.14.
    """
    return torch.logsumexp(log_joint(x, weights, means, covariances, covariance_type), dim=1).sum()


def e_step(
    x: Tensor, weights: Tensor, means: Tensor, covariances: Tensor, covariance_type: str = "full"
) -> tuple[Tensor, Tensor]:
    r"""E step: the log density of every point, (N,), and the responsibilities, (N, K), under these parameters.

    $$\log p(x_n) = \log \sum_k p(x_n, z_n = k), \qquad \gamma(z_{nk}) = p(z_n = k \mid x_n)
      = \frac{\pi_k \, p(x_n \mid z_n = k)}{\sum_j \pi_j \, p(x_n \mid z_n = j)}$$

    The responsibility $\gamma(z_{nk})$ is the probability that component k drew point n, by Bayes' rule.

    Source: Bishop (2006), equations 9.12 and 9.13.
    """
    joint = log_joint(x, weights, means, covariances, covariance_type)  # (N, K)
    # log p(x_n) = log sum_k p(x_n, z_n = k)
    log_density = torch.logsumexp(joint, dim=1)  # (N,)
    # gamma_nk = p(x_n, z_n = k) / p(x_n)
    return log_density, torch.exp(joint - log_density[:, None])  # (N,), (N, K)


def m_step(
    x: Tensor,
    responsibilities: Tensor,
    covariance_type: str = "full",
    reg_covar: float = 0.0,
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""M step: the weights, means and covariances that maximise the expected complete-data log likelihood.

    $$N_k = \sum_n \gamma(z_{nk}), \qquad \pi_k = \frac{N_k}{N}, \qquad
      \mu_k = \frac{1}{N_k} \sum_n \gamma(z_{nk}) \, x_n$$

    $$\Sigma_k = \frac{1}{N_k} \sum_n \gamma(z_{nk}) (x_n - \mu_k)(x_n - \mu_k)^T + \epsilon I$$

    At a maximum $0 = \sum_n \gamma(z_{nk}) \Sigma_k^{-1} (x_n - \mu_k)$, which is the gradient of one
    Gaussian with each point's pull weighted by its responsibility; multiplied by $\Sigma_k$ it gives the mean
    above.

    A tied covariance is the average of the $\Sigma_k$ weighted by $N_k$; a diagonal one keeps only the
    diagonal; a spherical one only its mean. $\epsilon$ is `reg_covar`, 0 in the book: it keeps a component
    from collapsing onto a point. A `sample_weight` $w_n$ multiplies row n of the responsibilities, as if the
    point had been seen $w_n$ times. As in scikit-learn, ten machine epsilons are added to $N_k$, so that an
    empty component divides by no zero.

    Source: Bishop (2006), equations 9.24 to 9.27.
    """
    if sample_weight is not None:
        responsibilities = responsibilities * sample_weight[:, None]
    # N_k = sum_n gamma_nk
    counts = responsibilities.sum(dim=0) + 10 * torch.finfo(x.dtype).eps  # (K,)
    # pi_k = N_k / N
    weights = counts / counts.sum()  # (K,)
    # mu_k = 1/N_k sum_n gamma_nk x_n
    means = responsibilities.T @ x / counts[:, None]  # (K, D)
    difference = (x[:, None, :] - means).transpose(0, 1)  # (K, N, D)
    if covariance_type in ("full", "tied"):
        # sum_n gamma_nk (x_n - mu_k)(x_n - mu_k)'
        scatter = (responsibilities.T[:, :, None] * difference).mT @ difference  # (K, D, D)
        scatter = 0.5 * (scatter + scatter.mT)
        regularisation = reg_covar * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)  # (D, D)
        if covariance_type == "full":
            # Sigma_k = 1/N_k sum_n gamma_nk (x_n - mu_k)(x_n - mu_k)' + epsilon I
            return weights, means, scatter / counts[:, None, None] + regularisation
        return weights, means, scatter.sum(dim=0) / counts.sum() + regularisation
    # the diagonal of the same: sum_n gamma_nk (x_nd - mu_kd)²
    squares = responsibilities.T[:, :, None] * torch.square(difference)  # (K, N, D)
    variances = squares.sum(dim=1) / counts[:, None] + reg_covar
    return weights, means, variances if covariance_type == "diag" else variances.mean(dim=1)


def em_iteration(
    x: Tensor,
    weights: Tensor,
    means: Tensor,
    covariances: Tensor,
    covariance_type: str = "full",
    reg_covar: float = 0.0,
    sample_weight: Tensor | None = None,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    r"""One E step and one M step: the new parameters, and the log likelihood of the *old* ones, in nats.

    $$\theta^{\mathrm{new}} = \arg\max_\theta \sum_n \sum_k \gamma(z_{nk}) \log p(x_n, z_n = k \mid \theta),
      \qquad \log p(X \mid \theta^{\mathrm{new}}) \ge \log p(X \mid \theta^{\mathrm{old}})$$

    Source: Bishop (2006), section 9.2.2 and equation 9.33.
    """
    log_density, gamma = e_step(x, weights, means, covariances, covariance_type)
    total = (log_density if sample_weight is None else sample_weight * log_density).sum()
    return m_step(x, gamma, covariance_type, reg_covar, sample_weight), total


def sample(
    weights: Tensor, means: Tensor, covariances: Tensor, uniforms: Tensor, noise: Tensor, covariance_type: str = "full"
) -> tuple[Tensor, Tensor]:
    r"""Ancestral sampling: S points, (S, D), and the components that drew them, (S,).

    $$z_s = \min \left\{ k : u_s < \sum_{j \le k} \pi_j \right\}, \qquad
      x_s = \mu_{z_s} + L_{z_s} \epsilon_s, \qquad \Sigma_k = L_k L_k^T$$

    The randomness is given: `uniforms` $u$, (S,), in (0, 1) and standard normal `noise` $\epsilon$, (S, D).

    Source: Bishop (2006), section 8.1.2; 9.2.
    """
    k, d = means.shape
    # z = the first component whose cumulative weight exceeds u
    z = torch.searchsorted(torch.cumsum(weights, dim=0), uniforms, right=True).clamp(max=k - 1)  # (S,)
    if covariance_type in ("full", "tied"):
        factor = cholesky(covariances.expand(k, d, d))  # (K, D, D)
        return means[z] + (factor[z] @ noise[:, :, None])[:, :, 0], z
    deviations = torch.sqrt(covariances.reshape(k, -1).expand(k, d))  # (K, D)
    return means[z] + deviations[z] * noise, z
