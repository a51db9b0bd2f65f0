"""Mistakes in losses: reductions, logits and probabilities, smoothing, the order of arguments."""

import math

import torch
import torch.nn.functional as F

from portparity.causes.calls import Call, Changes, enter, mistake, others

ALL = (
    "cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss huber_loss "
    "smooth_l1_loss kl_div gaussian_nll_loss poisson_nll_loss soft_margin_loss cosine_embedding_loss "
    "margin_ranking_loss triplet_margin_loss multi_margin_loss hinge_embedding_loss"
)
CLIP = 1e-7  # keras.config.epsilon()


enter(
    "",
    "cross_entropy",
    "the port's label smoothing is {}",
    "port: label_smoothing={given[label_smoothing]}",
    others("label_smoothing", (0.0, 0.1, 0.05, 0.2, 0.01, 0.3), 0.0),
)
enter(
    "",
    "binary_cross_entropy_with_logits binary_cross_entropy",
    "the port's label smoothing is {}",
    "port: 0",
    lambda c: [(s, lambda c, s=s: c.again(target=c["target"] * (1 - s) + s / 2)) for s in (0.1, 0.05, 0.2)],
)
enter(
    "",
    "cross_entropy nll_loss",
    "the port {}",
    "pass class weights and ignored classes as sample weights",
    lambda c: [
        ("has no class weights", lambda c: c.again(weight=None), "S8"),
        ("does not ignore the class that the original ignores", lambda c: c.again(ignore_index=-100)),
        ("divides by all labels, the ignored ones too", lambda c: c.again(reduction="sum") / c["target"].numel(), "S8"),
    ],
)
enter(
    "",
    "binary_cross_entropy_with_logits",
    "the port has no pos_weight",
    "keras: class weights, or write the loss out",
    lambda c: [("", lambda c: c.again(pos_weight=None))] if c.get("pos_weight") is not None else [],
)
enter(
    "S8",
    "binary_cross_entropy_with_logits binary_cross_entropy mse_loss huber_loss l1_loss",
    "the port {}",
    "port: the mean over entries; Keras's mean_with_sample_weight divides by the weights' sum",
    lambda c: [
        ("divides by the sum of the weights", lambda c: c.result() * c.x.numel() / c["weight"].expand(c.x.shape).sum()),
        ("has no weights", lambda c: c.again(weight=None), ""),
    ],
)


@mistake("S2c", "cross_entropy", "the port {}", "keras.losses.SparseCategoricalCrossentropy(from_logits=True)")
def logits(call: Call) -> Changes:
    def renormalised(c: Call, p: torch.Tensor) -> torch.Tensor:  # as Keras's sparse loss of probabilities
        return c.again(input=p.clamp(CLIP, 1 - CLIP).log())

    def whole(c: Call, p: torch.Tensor) -> torch.Tensor:  # as its loss of one-hot targets
        p, target = (p / p.sum(1, keepdim=True)).clamp(CLIP, 1 - CLIP), c["target"]
        if not target.dtype.is_floating_point:
            target = F.one_hot(target, p.shape[1]).movedim(-1, 1).to(p)
        smooth, weight = c.get("label_smoothing", 0.0), c.get("weight")
        each = -((target * (1 - smooth) + smooth / p.shape[1]) * p.log()).sum(1)
        if weight is not None:
            each = each * weight[c["target"]]
            return each.sum() / (weight[c["target"]].sum() if c["reduction"] == "mean" else 1)
        return each.mean() if c["reduction"] == "mean" else each.sum()

    for said, p in (
        ("takes the logits for probabilities: from_logits=False", lambda x: x),
        ("clips the probabilities at 1e-7", lambda x: torch.softmax(x, 1)),
    ):
        yield said, lambda c, p=p: renormalised(c, p(c.x))
        yield said, lambda c, p=p: whole(c, p(c.x))
        if call.get("weight") is not None:
            yield f"{said}, and divides by the number of labels", lambda c, p=p: _plain_mean(c, p(c.x), CLIP)
    yield "has the softmax twice", lambda c: c.again(input=torch.softmax(c.x, 1))


def _plain_mean(call: Call, p: torch.Tensor, clip: float) -> torch.Tensor:
    return call.again(input=p.clamp(clip, 1 - clip).log(), reduction="sum") / call["target"].numel()


@mistake("S2", "binary_cross_entropy_with_logits", "the port {}", "keras.losses.BinaryCrossentropy(from_logits=True)")
def binary_logits(call: Call) -> Changes:
    def bce(c: Call, p: torch.Tensor) -> torch.Tensor:
        weight, target = c.get("pos_weight"), c["target"]
        each = -(target * p.log() * (1 if weight is None else weight) + (1 - target) * (1 - p).log())
        return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[c["reduction"]]()

    yield "takes the logits for probabilities: from_logits=False", lambda c: bce(c, c.x.clamp(CLIP, 1 - CLIP))
    yield "has the sigmoid twice", lambda c: c.again(input=torch.sigmoid(c.x))
    yield "clips the probabilities at 1e-7", lambda c: bce(c, torch.sigmoid(c.x).clamp(CLIP, 1 - CLIP))
    yield "adds 1e-7 to the probabilities", lambda c: _with_epsilon(c, torch.sigmoid(c.x).clamp(CLIP, 1 - CLIP))


def _with_epsilon(call: Call, p: torch.Tensor) -> torch.Tensor:
    target = call["target"]
    each = -(target * (p + CLIP).log() + (1 - target) * (1 - p + CLIP).log())
    return each.mean() if call["reduction"] == "mean" else each.sum()


enter(
    "S1",
    "binary_cross_entropy",
    "the port {}",
    "logits in both: BCEWithLogitsLoss, from_logits=True",
    lambda c: [
        ("clips the probabilities at 1e-7", lambda c: c.again(input=c.x.clamp(CLIP, 1 - CLIP))),
        ("clips the probabilities at 1e-7 and adds 1e-7", lambda c: _with_epsilon(c, c.x.clamp(CLIP, 1 - CLIP))),
        (
            "takes the probabilities for logits",
            lambda c: F.binary_cross_entropy_with_logits(c.x, c["target"], reduction=c["reduction"]),
        ),
    ],
)
enter(
    "",
    "huber_loss",
    "the port's delta is {}",
    "port: delta={given[delta]}",
    others("delta", (1.0, 0.5, 2.0, 0.1, 1.35, 0.25), 1.0),
)
enter(
    "",
    "smooth_l1_loss",
    "the port {}",
    "huber(x, delta) / delta",
    lambda c: [
        (
            f"is a Huber loss with delta {d:g}",
            lambda c, d=d: F.huber_loss(c.x, c["target"], delta=d, reduction=c["reduction"]),
        )
        for d in (1.0, 0.5, 2.0, 0.1, c["beta"])
    ],
)
enter(
    "",
    "mse_loss l1_loss huber_loss smooth_l1_loss",
    "the port {}",
    "port: the original's loss",
    lambda c: [
        ("takes the absolute difference", lambda c: F.l1_loss(c.x, c["target"], reduction=c["reduction"])),
        ("takes the square", lambda c: F.mse_loss(c.x, c["target"], reduction=c["reduction"])),
        ("takes a Huber loss", lambda c: F.huber_loss(c.x, c["target"], reduction=c["reduction"])),
        ("takes half the square", lambda c: F.mse_loss(c.x, c["target"], reduction=c["reduction"]) / 2),
        ("takes the root", lambda c: c.result().sqrt()),
    ],
)
enter(
    "S3c",
    "mse_loss l1_loss huber_loss smooth_l1_loss",
    "the port pairs each prediction with each target",
    "y[:, None]",
    lambda c: [("", lambda c: c.again(input=c.x.reshape(-1, 1), target=c["target"].reshape(1, -1)))],
)
enter(
    "S5",
    "gaussian_nll_loss",
    "the port {}",
    "write the density out in both, with its constant",
    lambda c: [
        ("has the constant log(2 pi) / 2", lambda c: c.again(full=True)),
        ("does not have the constant", lambda c: c.again(full=False)),
    ],
)
enter(
    "S7",
    "poisson_nll_loss",
    "the port {}",
    "F.poisson_nll_loss(rate, y, log_input=False, eps=1e-7)",
    lambda c: [
        ("takes the rate, not its logarithm", lambda c: c.again(log_input=False, eps=1e-7)),
        ("takes the logarithm", lambda c: c.again(log_input=True)),
        ("adds 1e-7 in the logarithm", lambda c: c.again(eps=1e-7)),
    ],
)


@mistake("S4", "kl_div", "the port {}", "(p * (p.log() - q.log())).sum(1).mean() in both")
def divergence(call: Call) -> Changes:
    p = call["target"].exp() if call.get("log_target") else call["target"]

    def kl(c: Call, exchanged: bool, clip: float) -> torch.Tensor:
        a = c["target"].exp() if c.get("log_target") else c["target"]
        a, b = a.clamp(clip, 1), c.x.exp().clamp(clip, 1)
        a, b = (b, a) if exchanged else (a, b)
        return (a * (a / b).log()).sum(-1).mean()

    for said, exchanged in (("", False), ("has the arguments exchanged and ", True)):
        for clip in (0.0, CLIP):
            yield (
                f"{said}sums over the last axis and averages over the rest",
                lambda c, e=exchanged, k=clip: kl(c, e, k),
            )
    for reduction in ("mean", "sum", "batchmean"):
        yield f"has the reduction {reduction}", lambda c, r=reduction: c.again(reduction=r)
    yield "exchanges the arguments", lambda c: c.again(input=p.log(), target=c.x.exp(), log_target=False)


@mistake(
    "S2e",
    "mse_loss l1_loss huber_loss smooth_l1_loss binary_cross_entropy cross_entropy kl_div cosine_similarity "
    "binary_cross_entropy_with_logits",
    "the port has prediction and target exchanged",
    "Keras: loss(y_true, y_pred); PyTorch: loss(input, target)",
)
def exchanged(call: Call) -> Changes:
    first, second = call.names[:2]
    yield "", lambda c: c.again(**{first: c[second], second: c[first]})


enter(
    "",
    "cosine_similarity cosine_embedding_loss",
    "the port has the opposite sign",
    "keras.losses.cosine_similarity is negative",
    lambda c: [("", lambda c: -c.result())],
)


@mistake("S3", ALL, "the port {}", "port: reduction as the original's")
def reductions(call: Call) -> Changes:
    x = call.x
    rows, entries = x.shape[0], math.prod(x.shape)
    kind = call.get("reduction", "mean")
    if kind != "sum":
        yield "sums", lambda c: c.again(reduction="sum")
    if kind != "mean":
        yield "averages over all entries", lambda c: c.again(reduction="mean")
    yield "sums over features and averages over rows", lambda c: c.again(reduction="sum") / rows
    for size in sorted({n for n in (*x.shape, entries, entries // rows) if n > 1}):
        yield f"divides by {size}, too", lambda c, n=size: c.result() / n
        yield f"multiplies by {size}, too", lambda c, n=size: c.result() * n
        yield f"divides the sum by {size}", lambda c, n=size: c.again(reduction="sum") / n
    yield "has half of it", lambda c: c.result() / 2
    yield "has twice of it", lambda c: c.result() * 2
    yield "has the opposite sign", lambda c: -c.result()
