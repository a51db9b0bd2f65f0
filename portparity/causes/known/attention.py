"""Mistakes in attention: masks, packed projections, the scores' factor and order."""

import math
from collections.abc import Iterator
from itertools import permutations

import torch

from portparity.causes.calls import Call, Changes, enter, mistake

MASKED = ("the port's mask {}", "Keras's attention_mask is True where it attends; PyTorch's masks are the opposite")


@mistake("L24", "masked_fill where", *MASKED, inside=False)
def mask(call: Call) -> Changes:
    name = "mask" if call.name == "masked_fill" else "condition"
    out = call[name] if call.name == "masked_fill" else ~call[name]
    for said, other, row in _masks(out):
        value = call.get("value")
        if name == "condition":
            yield said, lambda c, m=other: c.again(condition=~m), row
        elif isinstance(value, float) and math.isinf(value):
            for low in _lows(call.x):
                yield said, lambda c, m=other, low=low: c.again(mask=m, value=low), row
        else:
            yield said, lambda c, m=other: c.again(mask=m), row


@mistake("L24", "add iadd baddbmm", *MASKED, inside=False)
def added_mask(call: Call) -> Changes:
    value = next((v for v in call.args if isinstance(v, torch.Tensor) and v.is_floating_point() and _hides(v)), None)
    if value is None:
        return
    place = next(n for n, v in enumerate(call.args) if v is value)
    for said, other, row in _masks(value <= HIDDEN):
        for low in _lows(value):

            def change(c: Call, other: torch.Tensor = other, low: float = low) -> torch.Tensor:
                args = list(c.args)
                args[place] = torch.where(other, low, 0.0).to(value).expand(value.shape)
                return c.function(*args, **c.kwargs)

            yield said, change, row


HIDDEN = -1e4  # what is added to a score that is left out, at most


def _hides(value: torch.Tensor) -> bool:
    return bool(torch.all((value <= HIDDEN) | (value == 0)) and torch.any(value <= HIDDEN))


def _lows(x: torch.Tensor) -> tuple[float, ...]:
    # what stands for minus infinity: where a query sees no key, the choice shows
    return torch.finfo(x.dtype).min / 2, -1e9


def _masks(out: torch.Tensor) -> Iterator[tuple[str, torch.Tensor, str]]:
    """Other masks than this one, which is True for what is left out: what they are, and the row of those in L24."""
    none = torch.zeros_like(out)
    yield "is the opposite", ~out, "L24"
    if out.dim() < 2 or out.shape[-2] != out.shape[-1]:
        yield "masks nothing", none, ""
        return
    future = ~torch.ones(out.shape[-2:], dtype=torch.bool, device=out.device).tril()
    past = future.mT
    for hidden, causal in ((future, "causal"), (past, "causal the other way"), (none, "")):
        if torch.any(hidden & ~out):
            continue  # what the original sees
        keys = (out & ~hidden).any(-2, keepdim=True).expand(out.shape)  # the padding, beside a causal mask
        if torch.any(out & ~hidden & ~keys) or not torch.equal(out, hidden | keys):
            continue
        if torch.any(keys & ~hidden):
            yield "leaves the padding out" if causal else "masks nothing", hidden.expand(out.shape), "L24"
            yield "has the opposite for the padding", hidden | ~keys, "L24"
            yield "is the padding alone", keys, ""
            yield "is the padding's opposite, and nothing else", ~keys, "L24"
        for said, other in (
            ("causal the other way" if causal == "causal" else "causal", past if causal == "causal" else future),
            ("causal without the step itself", future | future.new_ones(future.shape[-1:]).diag()),
            ("causal but for one step of the future", future.triu(2)),
        ):
            yield f"is {said}", other | keys, "L24" if "other way" in said else ""
            yield f"is {said}, without the padding", other.expand(out.shape), ""
        break
    yield "masks nothing", none, ""
    yield "has queries and keys exchanged", out.mT, ""


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
            for place in range(parts):

                def square(c: Call, place: int = place, parts: int = parts) -> torch.Tensor:
                    blocks = list(c["weight"].chunk(parts))
                    blocks[place] = blocks[place].T
                    return c.again(weight=torch.cat(blocks))

                yield f"the {('query', 'key', 'value')[place - parts]} projection untransposed", square
    if bias is not None and weight.shape[0] == 3 * weight.shape[1]:
        yield "no bias in the projections", lambda c: c.again(bias=None), ""
