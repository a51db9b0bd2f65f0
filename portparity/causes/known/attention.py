"""Mistakes in attention: masks, packed projections, the scores' factor and order."""

import math
from collections.abc import Iterator
from itertools import permutations

import torch

from portparity.causes.calls import Call, Changes, enter, mistake

enter(
    "L24",
    "masked_fill where",
    "the port's mask {}",
    "Keras's attention_mask is True where it attends; PyTorch's masks are the opposite",
    lambda c: [(said, lambda c, m=m: _masked(c, m)) for said, m in _masks(c)],
    inside=False,
)


def _masks(call: Call) -> Iterator[tuple[str, torch.Tensor]]:
    mask = call["mask"] if call.name == "masked_fill" else call["condition"]
    yield "is the opposite", ~mask
    yield "masks nothing", torch.zeros_like(mask) if call.name == "masked_fill" else torch.ones_like(mask)
    if mask.dim() >= 2:
        square = torch.ones(mask.shape[-2:], dtype=torch.bool, device=mask.device)
        for said, causal in (
            ("is causal", square.tril()),
            ("is causal without the diagonal", square.tril(-1)),
            ("lets one step of the future through", square.tril(1)),
            ("is upside down", square.triu()),
        ):
            yield said, (~causal if call.name == "masked_fill" else causal).expand(mask.shape)
        yield "has queries and keys exchanged", mask.transpose(-1, -2)


def _masked(call: Call, mask: torch.Tensor) -> torch.Tensor:
    if call.name == "where":
        return call.again(condition=mask)
    value = call.get("value")
    low = torch.finfo(call.x.dtype).min / 2 if isinstance(value, float) and math.isinf(value) else value
    return call.again(mask=mask, value=low)


@mistake(
    "L24", "add iadd baddbmm", "the port's mask {}", "Keras's attention_mask is True where it attends", inside=False
)
def added_mask(call: Call) -> Changes:
    value = next((v for v in call.args if isinstance(v, torch.Tensor) and torch.isinf(v).any()), None)
    if value is None:
        return
    place = next(n for n, v in enumerate(call.args) if v is value)
    masked = torch.isinf(value)
    square = torch.ones(masked.shape[-2:], dtype=torch.bool, device=masked.device)
    options = {
        "is the opposite": ~masked,
        "masks nothing": torch.zeros_like(masked),
        "is causal": ~square.tril(),
        "is upside down": ~square.triu(),
        "is causal the other way": ~square.triu(),
        "has queries and keys exchanged": masked.transpose(-1, -2),
        "is the opposite, and causal": ~masked | ~square.tril(),
        "is causal, too": masked | ~square.tril(),
        "lets one step of the future through": ~square.tril(1),
        "hides the step itself": ~square.tril(-1),
    }
    keys = masked.all(-2, keepdim=True).expand(masked.shape)  # what no query sees: the padding
    options |= {
        "leaves the padding out": masked & ~keys,
        "is the padding alone": keys,
        "has the opposite for the padding": (masked & ~keys) | ~keys,
        "is the padding's opposite": ~keys,
        "is upside down, beside the padding": keys | ~square.triu(),
    }
    for causal, said in ((square.tril(), "causal"), (square.triu(), "upside down")):
        rest = (masked & causal).any(-2, keepdim=True).expand(masked.shape)  # the padding, beside a causal mask
        options |= {
            f"leaves the padding out of a mask that is {said}": ~causal,
            f"has the opposite for the padding, and is {said}": ~causal | ~rest,
            f"is {said}, beside the padding": ~causal | rest,
            f"is the padding alone, for {said}": rest,
        }
    for said, mask in options.items():

        def change(c: Call, mask: torch.Tensor = mask) -> torch.Tensor:
            args = list(c.args)
            args[place] = torch.where(mask, torch.finfo(value.dtype).min / 2, 0.0).to(value).expand(value.shape)
            return c.function(*args, **c.kwargs)

        yield said, change, "L24" if "opposite" in said or "the other way" in said or "leaves" in said else ""


@mistake("", "mul div truediv rmul rdiv imul idiv", "the port {}", "port: the original's factor", inside=False)
def factor(call: Call) -> Changes:
    numbers = [value for value in call.args[1:] if isinstance(value, int | float)]
    if numbers:
        yield (
            f"has no factor {numbers[0]:.6g}" if "mul" in call.name else f"does not divide by {numbers[0]:.6g}",
            lambda c: c.x * 1,
        )
        inverse = (lambda c: c.x / numbers[0]) if "mul" in call.name else (lambda c: c.x * numbers[0])
        yield "has the inverse of the factor", inverse
        yield "has the factor's square", lambda c: c.result() * (c.result() / c.x).nan_to_num(0)
    for size in sorted({n for n in call.x.shape if n > 1}):
        yield f"multiplies by the root of {size}, too", lambda c, n=size: c.result() * n**0.5
        yield f"divides by the root of {size}, too", lambda c, n=size: c.result() / n**0.5
        yield f"divides by the root of {size} instead", lambda c, n=size: c.x / n**0.5
        yield f"divides by {size} instead", lambda c, n=size: c.x / n


enter(
    "",
    "matmul bmm mm baddbmm",
    "the port {}",
    "port: the original's order of axes",
    lambda c: [
        ("has the second factor transposed", lambda c: c.args[0] @ c.args[1].transpose(-1, -2)),
        ("has the first factor transposed", lambda c: c.args[0].transpose(-1, -2) @ c.args[1]),
        ("has queries and keys exchanged", lambda c: c.result().transpose(-1, -2), "L24b"),
    ],
)


@mistake(
    "L24b", "linear", "the port has {}", "split in_proj_weight into q, k, v; a head's rows lie together", inside=False
)
def packed(call: Call) -> Changes:
    weight, bias = call["weight"], call.get("bias")
    for parts in (3, 2):
        if weight.shape[0] == parts * weight.shape[1]:
            for order in list(permutations(range(parts)))[1:]:

                def exchanged(c: Call, order: tuple[int, ...] = order, parts: int = parts) -> torch.Tensor:
                    return torch.cat([c.result().chunk(parts, -1)[n] for n in order], -1)

                said = " ".join(("query", "key", "value")[n] for n in order)
                yield f"the projections in the order {said}", exchanged
            for heads in (h for h in range(2, weight.shape[1]) if weight.shape[1] % h == 0):

                def inner(c: Call, heads: int = heads, parts: int = parts) -> torch.Tensor:
                    y = c.result()
                    return y.unflatten(-1, (parts, -1, heads)).transpose(-1, -2).flatten(-3).reshape(y.shape)

                yield f"the {heads} heads as the inner axis of the projections", inner
    if bias is not None and weight.shape[0] == 3 * weight.shape[1]:
        yield "no bias in the projections", lambda c: c.again(bias=None), ""
