"""Mistakes in normalisation: epsilon, axes, statistics, groups."""

import torch
import torch.nn.functional as F

from portparity.causes.calls import Call, Change, Changes, enter, mistake, others

EPSILONS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 1e-2, 1e-4, 0.0)
NORMS = "layer_norm group_norm instance_norm batch_norm rms_norm"


enter(
    "L6c",
    "batch_norm",
    "the port's epsilon is {}",
    "keras.layers.BatchNormalization(epsilon={given[eps]})",
    others("eps", EPSILONS, 1e-5),
)
enter(
    "L7",
    "layer_norm group_norm instance_norm rms_norm",
    "the port's epsilon is {}",
    "port: epsilon={given[eps]} in the layer",
    others("eps", EPSILONS, 1e-5),
)
enter(
    "L14",
    "batch_norm",
    "the port normalises with {}",
    "call the port with training={given[training]}",
    lambda c: (
        [
            (
                "the batch's own statistics: it trains",
                lambda c: c.again(training=True, running_mean=None, running_var=None),
            )
        ]
        if not c["training"]
        else [("its moving averages: it predicts", lambda c: c.again(training=False))]
    ),
)
enter(
    "",
    NORMS,
    "the port has {}",
    "port: center=True, scale=True, and copy both weights",
    lambda c: (
        ("no scale", lambda c: c.again(weight=None)),
        ("no offset", lambda c: c.again(bias=None)),
        ("neither scale nor offset", lambda c: c.again(weight=None, bias=None)),
        ("scale and offset exchanged", lambda c: c.again(weight=c["bias"], bias=c["weight"])),
    ),
)


@mistake("", "batch_norm", "in the port {}", "copy running_mean to moving_mean, running_var to moving_variance")
def running_statistics(call: Call) -> Changes:
    mean, variance = call["running_mean"], call["running_var"]
    if mean is None or call["training"]:
        return
    initial = torch.zeros_like(mean), torch.ones_like(variance)
    yield "moving_mean was not copied", lambda c: c.again(running_mean=initial[0])
    yield "moving_variance was not copied", lambda c: c.again(running_var=initial[1])
    yield "the moving averages were not copied", lambda c: c.again(running_mean=initial[0], running_var=initial[1])
    yield "mean and variance are exchanged", lambda c: c.again(running_mean=variance, running_var=mean)
    yield "the variance is a standard deviation", lambda c: c.again(running_var=variance.sqrt())
    yield "the standard deviation is a variance", lambda c: c.again(running_var=variance**2)


@mistake("", "layer_norm", "the port normalises {}", "port: axis=-1, with the original's normalized_shape")
def axes(call: Call) -> Changes:
    def over(dims: tuple[int, ...], correction: int, root: bool = False) -> Change:
        def change(c: Call) -> torch.Tensor:
            x, eps = c.x, c.get("eps", 1e-5)
            variance = x.var(dims, correction=correction, keepdim=True)
            x = (x - x.mean(dims, keepdim=True)) / (variance.sqrt() + eps if root else (variance + eps).sqrt())
            x = x * c["weight"] if c.get("weight") is not None else x
            return x + c["bias"] if c.get("bias") is not None else x

        return change

    last = tuple(range(-len(call["normalized_shape"]), 0))
    for axis in range(1, call.x.dim()):
        yield f"axis {axis} instead of the last", over((axis,), 0)
    yield "every axis but the batch's", over(tuple(range(1, call.x.dim())), 0)
    yield "with the variance over n - 1", over(last, 1)
    yield "with epsilon outside of the root", over(last, 0, True)
    yield "with the variance over n - 1 and epsilon outside of the root", over(last, 1, True)


@mistake("", "layer_norm rms_norm", "the port {}", "use the original's kind of normalisation in the port")
def mean_or_none(call: Call) -> Changes:
    if call.name == "layer_norm":
        yield "does not subtract the mean", lambda c: F.rms_norm(c.x, c["normalized_shape"], c.get("weight"), c["eps"])
    else:
        yield "subtracts the mean", lambda c: F.layer_norm(c.x, c["normalized_shape"], c.get("weight"), None, c["eps"])


@mistake("L28", "group_norm", "the port has {} groups", "keras.layers.GroupNormalization(groups={given[num_groups]})")
def groups(call: Call) -> Changes:
    channels = call.x.shape[1]
    for number in range(1, channels + 1):
        if channels % number == 0 and number != call["num_groups"]:
            yield number, lambda c, number=number: c.again(num_groups=number)

    def interleaved(c: Call) -> torch.Tensor:
        order = torch.arange(channels).reshape(c["num_groups"], -1).T.ravel()
        back = torch.argsort(order)
        mixed = F.group_norm(c.x[:, back], c["num_groups"], None, None, c["eps"])[:, order]
        shape = (1, -1) + (1,) * (c.x.dim() - 2)
        return mixed * c["weight"].reshape(shape) + c["bias"].reshape(shape)

    yield "interleaved", interleaved
