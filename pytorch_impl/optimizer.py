r"""Adam, the same Adam in both frameworks, and the rounding that makes two trained models equal to the last bit.

Where the frameworks differ: PyTorch and Keras both ship an Adam, with different defaults and different
formulas: Keras adds $\epsilon$ before the bias correction (the paper's "$\hat\epsilon$"), and keeps its
learning rate and betas in single precision. The one below is Algorithm 1 of the paper, written out.

The frameworks' gradients agree to about $10^{-15}$, and no better: sums are added in different orders. In
`reproducible` training, all arithmetic is in double precision and the differences are rounded away before
they can grow: each gradient is rounded to a fixed grid. From there on the update takes sums, products and
quotients alone, which IEEE 754 makes equal everywhere, and a square root that is built of them, since
libraries' own differ in the last bit. What reaches the checkpoint is the same bytes, unless a gradient falls
within $10^{-15}$ of the boundary between two grid points. Parameters are rounded to single precision too, so
that the model is one that either precision can hold.

Source: D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, Algorithm 1.
"""

import math

import torch
from torch import Tensor
from torch.optim.adam import adam as fused_adam

from pytorch_impl.cuda import adam_of_lists

GRADIENT_BITS = 11
_EXPONENT = 0x7FF0000000000000  # the bits of a double that hold its exponent
_LEAST_GRADIENT = 2.0**-400  # so that its square, and what decays from it, is still a normal number
_LEAST_MOMENT = 2.0**-960
_LEAST_FLOAT32 = 2.0**-126  # the least normal number of single precision
_SPLITTER = 2.0**27 + 1  # splits the 53 digits of a double into halves of 26, whose products are exact


def round_to_grid(gradient: Tensor, second_moment: Tensor | None = None, bits: int = GRADIENT_BITS) -> Tensor:
    r"""A gradient tensor rounded to a grid of its own: `bits` binary digits below its largest entry.

    $$\hat g = h \, \mathrm{round}(g / h), \qquad h = 2^{1-b} \, 2^{\lfloor \log_2 s \rfloor},
      \qquad s = \max \left( \max |g|, \sqrt{\max v} \right)$$

    Where all of a gradient nearly cancels, as that of a single parameter does at its optimum, few of its
    digits agree, and a grid by its own size would look at the others. So the grid is no finer than what the
    second moments $v$ have seen: they are what Adam will divide by. The power of two is read from the bits of
    s, float64, since a computed logarithm may be too small.
    """
    largest = torch.clamp(gradient.abs().amax(), min=_LEAST_GRADIENT)  # ()
    if second_moment is not None:
        largest = torch.maximum(largest, torch.sqrt(second_moment.amax()))
    # 2^floor(log2 s): the double with the mantissa cleared
    power = (largest.view(torch.int64) & _EXPONENT).view(torch.float64)  # ()
    grid = power * 2.0 ** (1 - bits)  # ()
    return torch.round(gradient / grid) * grid


def round_to_float32(parameter: Tensor) -> Tensor:
    """The nearest single-precision number, kept in double precision; zero where that is subnormal, without a sign."""
    return parameter.to(torch.float32).to(torch.float64).masked_fill(parameter.abs() < _LEAST_FLOAT32, 0.0)


def square_root(x: Tensor) -> Tensor:
    """The double nearest to the square root, whatever the last bit of the library's own."""
    return newton_step(x, torch.sqrt(x))


def newton_step(x: Tensor, y: Tensor) -> Tensor:
    r"""The double nearest to $\sqrt{x}$, from y, a root that may be wrong in its last bits.

    $$y' = y + \frac{x - y^2}{2 y}$$

    The residual is exact: $y = h + l$ in two halves, so that $x - y^2 = ((x - h^2) - 2 h l) - l^2$ loses no
    digit.

    Source: T. Dekker, "A floating-point technique for extending the available precision", Numerische
    Mathematik 18 (1971), section 5.
    """
    high = _SPLITTER * y - (_SPLITTER * y - y)
    low = y - high
    residual = ((x - high * high) - 2.0 * high * low) - low * low
    return torch.where(y > 0, y + residual / (2.0 * y), y)


def bias_corrections(step: int, beta_1: float = 0.9, beta_2: float = 0.999) -> tuple[float, float]:
    r"""The divisors of the moments, which start from zero, at step t = 1, 2, ...: $1 - \beta_1^t, 1 - \beta_2^t$.

    Source: Kingma and Ba (2015), section 3.
    """
    return 1 - beta_1**step, 1 - beta_2**step


def adam_update(
    parameter: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    corrections: tuple[float | Tensor, float | Tensor],
    learning_rate: float = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    reproducible: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""One update of one tensor: the new parameter and its two moments.

    $$m_t = \beta_1 m_{t-1} + (1 - \beta_1) g, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g^2$$

    $$\theta_t = \theta_{t-1} - \alpha \, \frac{m_t / c_1}{\sqrt{v_t / c_2} + \epsilon}$$

    The `corrections` $c_1, c_2$ are those of `bias_corrections`. The moments take products and sums only,
    each rounded on its own. The square is one operation, since a graph of TensorFlow turns `c * (g * g)` into
    `(c * g) * g`, which differs in the last bit. `reproducible` (float64 only) takes the square root that is
    the same everywhere.

    Source: Kingma and Ba (2015), Algorithm 1.
    """
    # m_t = beta_1 m_(t-1) + (1 - beta_1) g
    first_moment = beta_1 * first_moment + (1 - beta_1) * gradient
    # v_t = beta_2 v_(t-1) + (1 - beta_2) g²
    second_moment = beta_2 * second_moment + (1 - beta_2) * torch.square(gradient)
    # m_t / c_1
    corrected_first = first_moment / corrections[0]
    # v_t / c_2
    corrected_second = second_moment / corrections[1]
    root = square_root(corrected_second) if reproducible else torch.sqrt(corrected_second)
    # theta_t = theta_(t-1) - alpha (m_t / c_1) / (sqrt(v_t / c_2) + epsilon)
    parameter = parameter - learning_rate * corrected_first / (root + epsilon)
    return parameter, first_moment, second_moment


class Adam:
    """Adam over named parameters, updated in place.

    `reproducible` (float64 only) rounds as the top of this page says, and sets parameters below 2^-126 and
    moments below 2^-960 to zero, since TensorFlow treats subnormal numbers as zero and PyTorch does not.
    """

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        reproducible: bool = False,
    ) -> None:
        self.parameters = parameters
        self.settings = (learning_rate, beta_1, beta_2, epsilon)
        self.reproducible = reproducible
        self.step = 0
        self.first_moment = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.second_moment = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def resume(self, step: int, first_moment: dict[str, Tensor], second_moment: dict[str, Tensor]) -> None:
        """Continue from the step and the moments of an earlier training."""
        self.step = step
        for name in self.parameters:
            self.first_moment[name].copy_(first_moment[name])
            self.second_moment[name].copy_(second_moment[name])

    def update(self, gradients: dict[str, Tensor]) -> None:
        """Take one step down the gradients, which have the parameters' names."""
        self.apply(gradients, self.count_step())

    def count_step(self) -> tuple[float, float]:
        """Begin the next step; returns its bias corrections."""
        self.step += 1
        return bias_corrections(self.step, *self.settings[1:3])

    @torch.no_grad()
    def apply(self, gradients: dict[str, Tensor], corrections: tuple[float, float] | Tensor) -> None:
        """Update all parameters and moments with these bias corrections."""
        if not self.reproducible:
            # the kernel takes the entries as they lie in memory, whatever the strides say
            strided = [name for name, p in self.parameters.items() if gradients[name].stride() != p.stride()]
            copies = {name: torch.empty_like(self.parameters[name]).copy_(gradients[name]) for name in strided}
            tables = (self.parameters, gradients | copies, self.first_moment, self.second_moment)
            lists = ([table[name] for name in self.parameters] for table in tables)
            if isinstance(corrections, Tensor) and not corrections.is_cpu:  # numbers that a card keeps to itself
                adam_of_lists(*lists, corrections, *self.settings)
                return
            # PyTorch's kernel computes corrections from the step. At step infinity they are 1, and those given go into
            # the rate and epsilon: (m / c1) / (sqrt(v / c2) + eps) = sqrt(c2) / c1 * m / (sqrt(v) + eps sqrt(c2))
            (c1, c2), (rate, beta_1, beta_2, epsilon) = map(float, corrections), self.settings
            steps = [p.new_tensor(math.inf, dtype=torch.float32) for p in self.parameters.values()]
            settings = dict(lr=rate * math.sqrt(c2) / c1, beta1=beta_1, beta2=beta_2, eps=epsilon * math.sqrt(c2))
            fused_adam(*lists, [], steps, fused=True, amsgrad=False, weight_decay=0.0, maximize=False, **settings)
            return
        for name, parameter in self.parameters.items():
            moments = self.first_moment[name], self.second_moment[name]
            gradient = round_to_grid(gradients[name], moments[1])
            updated, first, second = adam_update(parameter, gradient, *moments, corrections, *self.settings, True)
            updated = round_to_float32(updated)
            first = first.masked_fill(first.abs() < _LEAST_MOMENT, 0.0)
            second = second.masked_fill(second < _LEAST_MOMENT, 0.0)
            parameter.copy_(updated)
            moments[0].copy_(first)
            moments[1].copy_(second)
