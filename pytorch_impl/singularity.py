r"""Singularities: why the likelihood of a mixture has no maximum, and what to do about it.

One Gaussian cannot collapse. If its width $\sigma$ shrinks, the point at its centre gains density, but every
other point loses more, and the log likelihood falls without end. A mixture can. Give one component a single
point as its mean and let it shrink: that point's density grows as $\sigma^{-D}$, while all the other points
are looked after by the other component. The log likelihood then grows without bound, and the "best" mixture
is a spike on one point, which has learned nothing. This is no fault of EM: it climbs faithfully, and now and
then it climbs one of these. It is maximum likelihood itself that has no answer here, for the same reason for
which three heads in three tosses made it certain of heads: it trusts the data in front of it without reserve.

![Left: one Gaussian's log likelihood falls as it shrinks onto a point. Middle: the mixture's rises without
end, in equal steps for equal factors of the width, and passes the sensible maximum (dashed); a floor under
the width stops it. Right: at widths near that maximum, a prior turns the objective back before it can climb
the spike.](singularity.svg)

![EM on its way into the spike, and stopped by a floor under the covariances.](collapse_onto_a_point.svg)

Three remedies appear in this project. Adding $\epsilon$ to the diagonal of each covariance (`reg_covar`) puts
a floor under the width: the spike remains, but it is finite. A prior that finds tiny covariances improbable
(MAP, see `em.py`) removes it: the penalised objective falls again as $\sigma$ goes to zero. And starting
again elsewhere helps, since the sensible maxima are wide and the spikes are narrow;
`common.mixtures.collapse` says when a component has collapsed.

Shapes: N points of D features, S trial widths.

    x            (N, D)
    deviations   (S,)     the widths sigma, in the units of x
    curves       (S,)     an objective at each width, in nats

Source: C. Bishop, "Pattern Recognition and Machine Learning" (2006), section 9.2.1.
"""

import math

import torch
from torch import Tensor

from common.mixtures.parameters import MixturePrior
from pytorch_impl.em import log_prior
from pytorch_impl.gmm import log_likelihood


def log_density_at_own_centre(deviations: Tensor, d: int) -> Tensor:
    r"""The log density of an isotropic Gaussian of D dimensions at its mean, (S,): what a collapse gains.

    $$\log \mathcal{N}(\mu \mid \mu, \sigma^2 I) = -\frac{D}{2} \log (2 \pi \sigma^2)$$

    The density is $(2 \pi \sigma^2)^{-D/2}$: every dimension contributes a factor
    $1 / (\sqrt{2 \pi} \, \sigma)$, so that the power of $\sigma$ is $-D$, and in many dimensions a collapse
    gains much more than the $1 / \sigma$ of one.

    Source: Bishop (2006), equation 9.15, which is for one dimension.
    """
    return -0.5 * d * torch.log(2 * math.pi * torch.square(deviations))  # (S,)


def single_gaussian_curve(x: Tensor, deviations: Tensor) -> Tensor:
    r"""The log likelihood of one isotropic Gaussian that sits on the first point, for every width, (S,).

    $$\log p(X) = \sum_n \log \mathcal{N}(x_n \mid x_1, \sigma^2 I) \to -\infty \quad \mathrm{as} \quad \sigma \to 0$$

    It falls as soon as two points differ.

    Source: Bishop (2006), section 9.2.1.
    """
    n, d = x.shape
    # sum_n log N(x_n | x_1, sigma² I) = N log N(mu | mu, sigma² I) - sum_n |x_n - x_1|² / (2 sigma²)
    squared_distance = torch.square(x - x[0]).sum()
    return n * log_density_at_own_centre(deviations, d) - 0.5 * squared_distance / torch.square(deviations)  # (S,)


def collapsing_mixture(x: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Weights, means and covariances of a mixture whose first component sits on the first point.

    $$p(x) = \frac{1}{2} \mathcal{N}(x \mid x_1, \sigma^2 I) + \frac{1}{2} \mathcal{N}(x \mid \bar{x}, S)$$

    The second component has the mean and the covariance of all the data, and accounts for every other point.

    Source: Bishop (2006), section 9.2.1, figure 9.7.
    """
    n, d = x.shape
    mean = x.mean(dim=0)  # (D,)
    centred = x - mean  # (N, D)
    covariance = centred.T @ centred / n  # (D, D)
    spike = torch.square(deviation) * torch.eye(d, dtype=x.dtype, device=x.device)  # (D, D)
    weights = torch.full((2,), 0.5, dtype=x.dtype, device=x.device)
    return weights, torch.stack([x[0], mean]), torch.stack([spike, covariance])


def mixture_curve(x: Tensor, deviations: Tensor) -> Tensor:
    r"""The log likelihood of the collapsing mixture for every width, (S,): it grows without bound.

    $$\log p(X) = \sum_n \log p(x_n) \to +\infty \quad \mathrm{as} \quad \sigma \to 0$$

    Source: Bishop (2006), section 9.2.1.
    """
    return torch.stack([log_likelihood(x, *collapsing_mixture(x, deviation)) for deviation in torch.unbind(deviations)])


def regularised_curve(x: Tensor, deviations: Tensor, reg_covar: float) -> Tensor:
    r"""The same with $\epsilon$ added to the variances, (S,): a spike of finite height.

    $$\sigma^2 \to \sigma^2 + \epsilon$$

    Source: the covariance floor of scikit-learn's `reg_covar`.
    """
    return mixture_curve(x, torch.sqrt(torch.square(deviations) + reg_covar))


def penalised_curve(x: Tensor, deviations: Tensor, prior: MixturePrior) -> Tensor:
    r"""Log likelihood plus log prior of the collapsing mixture for every width, (S,): it falls as sigma goes to 0.

    $$\log p(X \mid \theta) + \log p(\theta) \to -\infty \quad \mathrm{as} \quad \sigma \to 0$$

    Source: Fraley and Raftery (2007), section 2.
    """
    mixtures = [collapsing_mixture(x, deviation) for deviation in torch.unbind(deviations)]
    return torch.stack([log_likelihood(x, *mixture) + log_prior(*mixture, prior) for mixture in mixtures])
