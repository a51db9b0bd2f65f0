r"""Beliefs that add: the Dirichlet, the stick and the Wishart, and what is expected under each.

A coin's bias had a Beta distribution, and tossing only added to its two counts (see `coin.py`). The same
convenience exists for everything in a mixture of Gaussians. Weights are a coin of K sides: their belief is a
Dirichlet, a count for each side. If K itself is unknown, break a stick instead: the first component takes a
share $v_1$ of it, the second a share $v_2$ of what is left, and so on for ever; each share is again a coin,
with a Beta belief. And the precision $\Lambda = \Sigma^{-1}$ of a Gaussian has a Wishart distribution, to
which every point adds one degree of freedom and its squared deviation. Such beliefs are called conjugate:
data change their numbers and never their kind.

Variational inference asks little of a belief: the expectation of a logarithm, here and there of a trace, and
the constant that makes the density integrate to one. They are all here. Since every density below is written
with its constant, differences of them are honest.

The four kinds of covariance are four ways of putting a precision together from independent Wisharts of
dimension P:

    full       K of dimension D, one a component
    tied       one of dimension D, to which all components contribute: K times the degrees of freedom and the scale
    diag       K D of dimension 1, one a component and feature
    spherical  K of dimension 1, to which all features contribute: D times the degrees of freedom and the scale

Shapes: `concentration` (K,) for a Dirichlet, (2, K) for the Betas of K sticks; `degrees_of_freedom` (...),
and `inverse_scale` (..., P, P), the inverse $W^{-1}$ of what Bishop calls W. Everything is in nats.

Source: Bishop (2006), appendix B; D. Blei, M. Jordan, "Variational inference for Dirichlet process mixtures",
Bayesian Analysis 1 (2006).
"""

import math

import torch
from torch import Tensor

from pytorch_impl.gaussian import cholesky
from pytorch_impl.log_factorials import deviance, digamma_correction, log_gamma_ratio, stirling_correction


def counts_of_shares(counts: Tensor, concentration: Tensor) -> Tensor:
    """What counts (K,) add to a concentration: (K,), or (2, K) to sticks', for the piece broken off and all later."""
    if concentration.ndim == 1:
        return counts
    later = torch.cat([torch.cumsum(counts.flip(0), dim=0).flip(0)[1:], torch.zeros_like(counts[:1])])  # (K,)
    return torch.stack([counts, later])  # (2, K)


def expected_log_shares(concentration: Tensor) -> Tensor:
    r"""The expected logarithm of every share, of the shape of the concentration, whose first axis holds the shares.

    $$\mathbb{E}[\log \pi_k] = \psi(\alpha_k) - \psi \left( \sum_j \alpha_j \right)$$

    A Beta is a Dirichlet of two shares: rows of (2, K) are the piece broken off and what is left.

    Source: Bishop (2006), equation B.21.
    """
    return torch.digamma(concentration) - torch.digamma(concentration.sum(dim=0))


def expected_log_weights(concentration: Tensor) -> Tensor:
    r"""The expected logarithm of every weight, (K,): of a Dirichlet (K,), or broken off a stick (2, K).

    $$\pi_k = v_k \prod_{j<k} (1 - v_j), \qquad
      \mathbb{E}[\log \pi_k] = \mathbb{E}[\log v_k] + \sum_{j<k} \mathbb{E}[\log (1 - v_j)]$$

    Source: Bishop (2006), equation 10.66; Blei and Jordan (2006), section 3.2.
    """
    log_shares = expected_log_shares(concentration)
    if concentration.ndim == 1:
        return log_shares
    broken_off, left = log_shares  # (K,), (K,)
    # sum over j < k, which is none for the first
    return broken_off + torch.cat([torch.zeros_like(left[:1]), torch.cumsum(left, dim=0)[:-1]])  # (K,)


def expected_weights(concentration: Tensor) -> Tensor:
    r"""The expected weights, (K,), summing to one: of a Dirichlet (K,), or broken off a stick (2, K).

    $$\mathbb{E}[\pi_k] = \frac{\alpha_k}{\sum_j \alpha_j}, \qquad
      \mathbb{E}[\pi_k] \propto \mathbb{E}[v_k] \prod_{j<k} \mathbb{E}[1 - v_j]$$

    What the K-th break leaves of the stick belongs to components beyond K, which no point has; it is divided
    among the K in proportion, as in scikit-learn.

    Source: Bishop (2006), equations B.17 and 10.69; Blei and Jordan (2006), section 2.
    """
    shares = concentration / concentration.sum(dim=0)
    if concentration.ndim == 1:
        return shares
    broken_off, left = shares  # (K,), (K,)
    weights = broken_off * torch.cat([torch.ones_like(left[:1]), torch.cumprod(left, dim=0)[:-1]])  # (K,)
    return weights / weights.sum()


def expected_log_dirichlet(concentration: Tensor, of: Tensor) -> Tensor:
    r"""The expected log density of a Dirichlet `of` $\alpha'$, or of K Betas, under that of $\alpha$, a scalar.

    $$\mathbb{E}_\alpha[\log \mathrm{Dir}(\pi \mid \alpha')] = \log \Gamma \left( \sum_k \alpha'_k \right)
      - \sum_k \log \Gamma(\alpha'_k) + \sum_k (\alpha'_k - 1) \, \mathbb{E}_\alpha[\log \pi_k]$$

    With $\alpha' = \alpha$ it is the negative entropy. Where counts are large, these terms cancel. With
    $\delta(x) = \psi(x) - \log x$, the `deviance` D, the `stirling_correction` r, and sums $\alpha_0$ and
    $\alpha'_0$, they leave

    $$\sum_k \Bigl( \alpha'_k (\delta(\alpha_k) - \delta(\alpha_0))
      - D \left( \alpha'_k, \alpha'_0 \frac{\alpha_k}{\alpha_0} \right) - \mathbb{E}_\alpha[\log \pi_k]
      - r(\alpha'_k) + \log \alpha'_k \Bigr) + r(\alpha'_0) - \log \alpha'_0$$

    Source: Bishop (2006), equations B.16, B.22 and B.23.
    """
    total, total_of = concentration.sum(dim=0), of.sum(dim=0)  # (), or (K,) for K Betas
    off = digamma_correction(concentration) - digamma_correction(total)
    of_each = of * off - deviance(of, total_of * (concentration / total)) - expected_log_shares(concentration)
    rest = stirling_correction(total_of) - torch.log(total_of)
    return (of_each - stirling_correction(of) + torch.log(of)).sum() + rest.sum()


def dirichlet_log_evidence(counts: Tensor, concentration: Tensor) -> Tensor:
    r"""The log probability of so many choices of each kind, in a given order, the weights averaged out, a scalar.

    $$\log \int \mathrm{Dir}(\pi \mid \alpha) \prod_k \pi_k^{N_k} \, d\pi
      = \sum_k \log \frac{\Gamma(\alpha_k + N_k)}{\Gamma(\alpha_k)}
      - \log \frac{\Gamma(\sum_k \alpha_k + N_k)}{\Gamma(\sum_k \alpha_k)}$$

    The counts are (K,), the concentration (K,), or (2, K) of K sticks. It is the coin's evidence with more sides.

    Source: Bishop (2006), equation B.16.
    """
    both = concentration, counts_of_shares(counts, concentration)
    x, more = (torch.cat([shares, shares.sum(dim=0, keepdim=True)]) for shares in both)
    ratios = log_gamma_ratio(x, more)  # (K + 1,), (3, K)
    return ratios[:-1].sum() - ratios[-1].sum()


def log_determinant(matrix: Tensor) -> Tensor:
    r"""The log determinant of positive definite matrices, (...): $\log |S| = 2 \sum_i \log L_{ii}$ with $S = L L^T$."""
    return 2 * torch.log(torch.diagonal(cholesky(matrix), dim1=-2, dim2=-1)).sum(dim=-1)  # (...)


def log_determinant_gap(degrees_of_freedom: Tensor, dimension: int) -> Tensor:
    r"""How far the expected log determinant of a Wishart lies below that of its mean, (...); never above zero.

    $$\mathbb{E}[\log |\Lambda|] - \log |\mathbb{E}[\Lambda]|
      = \sum_{i=1}^{P} \psi \left( \frac{\nu + 1 - i}{2} \right) - P \log \frac{\nu}{2}$$

    It is the price of not knowing the precision, and vanishes like $-P (P + 1) / (2 \nu)$.

    Source: Bishop (2006), equations B.80 and B.81.
    """
    i = torch.arange(dimension, dtype=degrees_of_freedom.dtype, device=degrees_of_freedom.device)  # (P,)
    nu = degrees_of_freedom[..., None]  # (..., 1)
    # psi(z) - log(nu / 2) with z = (nu + 1 - i) / 2, from the digamma's distance to log z
    return (digamma_correction(0.5 * (nu - i)) + torch.log1p(-i / nu)).sum(dim=-1)  # (...)


def expected_log_determinant(degrees_of_freedom: Tensor, inverse_scale: Tensor) -> Tensor:
    r"""The expected log determinant of a Wishart, (...).

    $$\mathbb{E}[\log |\Lambda|] = \sum_{i=1}^{P} \psi \left( \frac{\nu + 1 - i}{2} \right) + P \log 2 + \log |W|$$

    Source: Bishop (2006), equations 10.65 and B.81.
    """
    p = inverse_scale.shape[-1]
    log_determinant_of_mean = p * torch.log(degrees_of_freedom) - log_determinant(inverse_scale)  # E[Lambda] = nu W
    return log_determinant_gap(degrees_of_freedom, p) + log_determinant_of_mean


def expected_trace(matrix: Tensor, degrees_of_freedom: Tensor, inverse_scale: Tensor) -> Tensor:
    r"""The expected trace of a symmetric matrix (..., P, P) times a Wishart, (...).

    $$\mathbb{E}[\mathrm{tr}(A \Lambda)] = \nu \, \mathrm{tr}(A W)$$

    Source: Bishop (2006), equation B.80.
    """
    product = torch.cholesky_solve(matrix, cholesky(inverse_scale))  # (..., P, P)
    return degrees_of_freedom * torch.diagonal(product, dim1=-2, dim2=-1).sum(dim=-1)  # (...)


def wishart_log_normaliser(degrees_of_freedom: Tensor, inverse_scale: Tensor) -> Tensor:
    r"""The log of the constant that makes a Wishart density integrate to one, (...).

    $$\log B(W, \nu) = \frac{\nu}{2} \log |W^{-1}| - \frac{\nu P}{2} \log 2 - \frac{P (P - 1)}{4} \log \pi
      - \sum_{i=1}^{P} \log \Gamma \left( \frac{\nu + 1 - i}{2} \right)$$

    Source: Bishop (2006), equation B.79.
    """
    p = inverse_scale.shape[-1]
    i = torch.arange(p, dtype=inverse_scale.dtype, device=inverse_scale.device)  # (P,)
    log_gammas = torch.lgamma(0.5 * (degrees_of_freedom[..., None] - i)).sum(dim=-1)  # (...)
    determinant = 0.5 * degrees_of_freedom * (log_determinant(inverse_scale) - p * math.log(2))
    return determinant - 0.25 * p * (p - 1) * math.log(math.pi) - log_gammas


def wishart_log_evidence(
    before: Tensor, inverse_scale_before: Tensor, after: Tensor, inverse_scale_after: Tensor
) -> Tensor:
    r"""How much data raised the log of a Wishart's integral, (...), from $W_0, \nu_0$ before them to $W, \nu$ after.

    $$\log \frac{B(W_0, \nu_0)}{B(W, \nu)} + \frac{\nu - \nu_0}{2} P \log 2
      = \sum_{i=1}^{P} \log \frac{\Gamma((\nu + 1 - i) / 2)}{\Gamma((\nu_0 + 1 - i) / 2)}
      + \frac{\nu_0}{2} \log |W_0^{-1}| - \frac{\nu}{2} \log |W^{-1}|$$

    Source: Bishop (2006), equation B.79.
    """
    i = torch.arange(inverse_scale_after.shape[-1], dtype=after.dtype, device=after.device)  # (P,)
    ratios = log_gamma_ratio(0.5 * (before[..., None] - i), 0.5 * (after - before)[..., None])  # (..., P)
    volumes = 0.5 * log_determinant(torch.stack([inverse_scale_before, inverse_scale_after]))  # (2, ...)
    return ratios.sum(dim=-1) + before * volumes[0] - after * volumes[1]


def expected_log_wishart(
    degrees_of_freedom: Tensor, inverse_scale: Tensor, of_degrees_of_freedom: Tensor, of_inverse_scale: Tensor
) -> Tensor:
    r"""The expected log density of the Wishart `of` $W', \nu'$ under that of $W, \nu$, (...).

    $$\mathbb{E}[\log \mathcal{W}(\Lambda \mid W', \nu')] = \log B(W', \nu')
      + \frac{\nu' - P - 1}{2} \mathbb{E}[\log |\Lambda|] - \frac{1}{2} \nu \, \mathrm{tr}(W'^{-1} W)$$

    With $W' = W$ and $\nu' = \nu$ it is the negative entropy.

    Source: Bishop (2006), equations 10.74, B.78 and B.82.
    """
    log_normaliser = wishart_log_normaliser(of_degrees_of_freedom, of_inverse_scale)
    log_power = 0.5 * (of_degrees_of_freedom - inverse_scale.shape[-1] - 1)
    log_power = log_power * expected_log_determinant(degrees_of_freedom, inverse_scale)
    return log_normaliser + log_power - 0.5 * expected_trace(of_inverse_scale, degrees_of_freedom, inverse_scale)


def independent_wisharts(
    degrees_of_freedom: Tensor, inverse_scale: Tensor, k: int, d: int, covariance_type: str
) -> tuple[Tensor, Tensor]:
    r"""The independent Wisharts of a kind of covariance: degrees of freedom (...), inverse scales (..., P, P).

    `inverse_scale` is (K, D, D) or (D, D) full | (D, D) tied | (K, D) or (D,) diag | (K,) or () spherical,
    with the degrees of freedom (K,) or (). For P, and for how many there are, see the top of this page.
    """
    if covariance_type == "full":
        return degrees_of_freedom.expand(k), inverse_scale.expand(k, d, d)
    if covariance_type == "tied":
        return k * degrees_of_freedom.reshape(1), k * inverse_scale[None]
    if covariance_type == "diag":
        return degrees_of_freedom.expand(k)[:, None].expand(k, d), inverse_scale.expand(k, d)[:, :, None, None]
    return d * degrees_of_freedom.expand(k), d * inverse_scale.expand(k)[:, None, None]


def of_components(log_determinants: Tensor, k: int, d: int, covariance_type: str) -> Tensor:
    r"""The log determinant of every component's precision, (K,), from those of the independent Wisharts, (...).

    $$\log |\Lambda_k| = \sum_d \log \lambda_{kd} \quad \mathrm{diag}, \qquad
      \log |\lambda_k I| = D \log \lambda_k \quad \mathrm{spherical}$$
    """
    if covariance_type == "diag":
        return log_determinants.sum(dim=1)
    return (d if covariance_type == "spherical" else 1) * log_determinants.expand(k)


def student_log_densities(
    x: Tensor, means: Tensor, shapes: Tensor, degrees_of_freedom: Tensor, covariance_type: str = "full"
) -> Tensor:
    r"""The log density of every point under every Student t, (N, K): a Gaussian of unknown precision.

    $$\log \mathrm{St}(x \mid \mu, \Sigma, \eta) = \log \Gamma \left( \frac{\eta + D}{2} \right)
      - \log \Gamma \left( \frac{\eta}{2} \right) - \frac{1}{2} \log |\eta \pi \Sigma|
      - \frac{\eta + D}{2} \log \left( 1 + \frac{(x - \mu)^T \Sigma^{-1} (x - \mu)}{\eta} \right)$$

    `shapes` $\Sigma$ and `degrees_of_freedom` $\eta$ have the shapes of a mixture's covariances and (K,),
    with one exception: features of a diagonal kind are independent, each with a t of its own.

    Source: Bishop (2006), equations B.68 to B.72.
    """
    k, d = means.shape
    difference = x[:, None, :] - means  # (N, K, D)
    eta = degrees_of_freedom.expand(k)  # (K,)
    if covariance_type in ("full", "tied"):
        factor = cholesky(shapes.expand(k, d, d))  # (K, D, D)
        y = torch.linalg.solve_triangular(factor, difference.permute(1, 2, 0), upper=False)  # (K, D, N)
        squared_distance = torch.square(y).sum(dim=1).T  # (N, K)
        log_volume = torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(dim=-1)  # (K,)
    elif covariance_type == "spherical":
        squared_distance = torch.square(difference).sum(dim=-1) / shapes  # (N, K)
        log_volume = 0.5 * d * torch.log(shapes)  # (K,)
    else:
        eta, d = eta[:, None], 1  # (K, 1)
        squared_distance = torch.square(difference) / shapes  # (N, K, D)
        log_volume = 0.5 * torch.log(shapes)  # (K, D)
    constant = log_gamma_ratio(0.5 * eta, 0.5 * d) - 0.5 * d * torch.log(math.pi * eta) - log_volume
    log_density = constant - 0.5 * (eta + d) * torch.log1p(squared_distance / eta)
    return log_density.sum(dim=-1) if covariance_type == "diag" else log_density  # (N, K)
