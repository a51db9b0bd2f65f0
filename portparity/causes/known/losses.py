"""Mistakes in losses: reductions, logits and probabilities, smoothing, the order of arguments."""

import math
from typing import Any

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


def _by_number(call: Call) -> torch.Tensor:
    target = call["target"]
    number = len(target) if target.is_floating_point() else (target != call.get("ignore_index", -100)).sum()
    return call.again(reduction="sum") / number


enter(
    "",
    "cross_entropy nll_loss",
    "the port {}",
    "pass class weights and ignored classes as sample weights",
    lambda c: [
        ("has no class weights", lambda c: c.again(weight=None), "S8"),
        ("counts ignored labels as class 0", lambda c: c.again(target=c["target"].clamp(min=0))),
        ("counts the ignored class", lambda c: c.again(ignore_index=-100)),
        ("divides by all labels, the ignored ones too", lambda c: c.again(reduction="sum") / c["target"].numel(), "S8"),
        ("divides by the number of labels, not by their weights", _by_number, "S8"),
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
        ("divides by the sum of the weights", lambda c: c.result() * c.x.numel() / _mass(c)),
        ("has no weights", lambda c: c.again(weight=None), ""),
    ],
)


def _mass(call: Call) -> torch.Tensor:
    weight, positive = (1.0 if call.get(n) is None else call[n] for n in ("weight", "pos_weight"))
    return (torch.ones_like(call.x) * weight * (1 + (positive - 1) * call["target"])).sum()


@mistake("S2c", "cross_entropy", "the port {}", "keras.losses.SparseCategoricalCrossentropy(from_logits=True)")
def logits(call: Call) -> Changes:
    read = "takes the logits for probabilities: from_logits=False"
    clips = {
        "clips the probabilities at 1e-7": lambda p: p.clamp(CLIP, 1 - CLIP),
        "clips the probabilities at 1e-7 from below": lambda p: p.clamp(CLIP, 1),
        "adds 1e-7 to the probabilities": lambda p: p + CLIP,
        "adds 1e-8 to the probabilities": lambda p: p + 1e-8,
        "does not clip": lambda p: p,
    }
    for clipped, clip in clips.items():
        for said, p in ((read, lambda x: x), (clipped, lambda x: torch.softmax(x, 1))):
            yield said, lambda c, p=p, clip=clip: _of_logs(c, clip(p(c.x)).log())
            yield said, lambda c, p=p, clip=clip: _of_logs(c, clip(p(c.x) / p(c.x).sum(1, keepdim=True)).log())
            yield said, lambda c, p=p, clip=clip: _of_logs(c, torch.log_softmax(clip(p(c.x)).log(), 1))
    yield "has the softmax twice", lambda c: _of_logs(c, torch.log_softmax(torch.softmax(c.x, 1), 1))


def _of_logs(call: Call, logs: torch.Tensor) -> torch.Tensor:
    """The cross entropy of log probabilities, which need not sum to one, with all that the call says besides."""
    target, smooth, weight = call["target"], call.get("label_smoothing", 0.0), call.get("weight")
    weight = torch.ones_like(logs[0]) if weight is None else weight
    if target.is_floating_point():
        mass = torch.ones_like(logs[:, 0])
    else:
        kept = target != call.get("ignore_index", -100)
        target = (F.one_hot(target.clamp(min=0), logs.shape[1]) * kept[:, None]).to(logs)
        mass = (target * weight).sum(1)
    even = weight / logs.shape[1] * (mass > 0)[:, None]
    each = -(((1 - smooth) * target * weight + smooth * even) * logs).sum(1)
    return {"mean": each.sum() / mass.sum(), "sum": each.sum(), "none": each}[call.get("reduction", "mean")]


@mistake("S2c", "binary_cross_entropy_with_logits", "the port {}", "keras.losses.BinaryCrossentropy(from_logits=True)")
def binary_logits(call: Call) -> Changes:
    yield "takes the logits for probabilities: from_logits=False", lambda c: _binary(c, c.x.clamp(CLIP, 1 - CLIP))
    yield "has the sigmoid twice", lambda c: c.again(input=torch.sigmoid(c.x))
    yield "keeps the digits of a small loss", _stable, "S2"
    for said, p in _clipped():
        yield said, lambda c, p=p: _binary(c, p(torch.sigmoid(c.x))), "S1"


def _stable(call: Call) -> torch.Tensor:
    x = call.x
    each = x.clamp(min=0) - x * call["target"] + torch.log1p(torch.exp(-x.abs()))
    return {"mean": each.mean(), "sum": each.sum(), "none": each}[call.get("reduction", "mean")]


def _clipped() -> list:
    return [
        ("clips the probabilities at 1e-7", lambda p: p.clamp(CLIP, 1 - CLIP)),
        ("clips the probabilities at 1e-7 and adds 1e-7", lambda p: (p.clamp(CLIP, 1 - CLIP), CLIP)),
        ("adds 1e-7 to the probabilities", lambda p: (p, CLIP)),
        ("adds 1e-8 to the probabilities", lambda p: (p, 1e-8)),
    ]


def _binary(call: Call, p: Any) -> torch.Tensor:
    p, small = p if isinstance(p, tuple) else (p, 0.0)
    weight, target, every = call.get("pos_weight"), call["target"], call.get("weight")
    each = -(target * (p + small).log() * (1 if weight is None else weight) + (1 - target) * (1 - p + small).log())
    each = each if every is None else each * every
    return {"mean": each.mean(), "sum": each.sum(), "none": each}[call.get("reduction", "mean")]


enter(
    "S1",
    "binary_cross_entropy",
    "the port {}",
    "logits in both: BCEWithLogitsLoss, from_logits=True",
    lambda c: [
        *((said, lambda c, p=p: _binary(c, p(c.x))) for said, p in _clipped()),
        (
            "takes the probabilities for logits",
            lambda c: F.binary_cross_entropy_with_logits(c.x, c["target"], reduction=c["reduction"]),
            "S2c",
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
    lambda c: (
        [
            (
                f"has delta {d:g}",
                lambda c, d=d: F.huber_loss(c.x, c["target"], delta=d, reduction=c["reduction"]) / c["beta"],
            )
            for d in (1.0, 0.5, 2.0, 0.1)
            if d != c["beta"]
        ]
        + [
            (
                f"is a Huber loss with delta {d:g}",
                lambda c, d=d: F.huber_loss(c.x, c["target"], delta=d, reduction=c["reduction"]),
            )
            for d in (1.0, 0.5, 2.0, 0.1, c["beta"])
        ]
    ),
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
    lambda c: [("", _each_with_each)] if c.x.dim() == 1 or c.x.shape[1:] == (1,) else [],
)


def _each_with_each(call: Call) -> torch.Tensor:
    pairs = torch.broadcast_tensors(call.x.reshape(-1, 1), call["target"].reshape(1, -1))
    return call.again(input=pairs[0], target=pairs[1])


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
    if call.name == "binary_cross_entropy":  # as Keras computes it
        yield "", lambda c: _binary(c.over(**{first: c[second], second: c[first]}), c[second].clamp(CLIP, 1 - CLIP))


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
    yield "has half of it", lambda c: c.result() / 2, ""
    yield "has twice of it", lambda c: c.result() * 2, ""
    yield "has the opposite sign", lambda c: -c.result()
