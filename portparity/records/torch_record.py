"""Record a PyTorch model: every call of a function, in order, with its arguments, its result and its gradient.

No hooks on tensors of the model and no tracing: see `torch_calls`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from portparity.records.recording import Recording, parts
from portparity.records.torch_calls import Edit, Recorder, last_bit, replaced
from portparity.records.torch_functions import as_array, real, tensors


def eagerly() -> AbstractContextManager:
    """Run what `torch.compile` has made as it was written; nothing is compiled where Dynamo was never loaded."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _paths(recorder: Recorder, model: Any) -> Iterator[None]:
    # keeps the module that is running on a stack
    names = {id(module): name for name, module in model.named_modules()} if isinstance(model, torch.nn.Module) else {}

    def enter(module: torch.nn.Module, args: Any) -> None:
        recorder.where.append(names.get(id(module), recorder.where[-1] if recorder.where else type(module).__name__))

    def leave(module: torch.nn.Module, args: Any, result: Any) -> None:
        recorder.where.pop()

    modules = list(model.modules()) if names else []
    if any(isinstance(module, torch.jit.ScriptModule) for module in modules):
        raise ValueError("the original is TorchScript, whose operations do not show: give the module it was made from")
    if any(getattr(module, "_compiled_call_impl", None) or hasattr(module, "_orig_mod") for module in modules):
        recorder.recording.notes.append("what torch.compile makes of the original, which was run eagerly")
    hooks = torch.nn.modules.module
    with eagerly(), ExitStack() as stack:
        stack.callback(hooks.register_module_forward_pre_hook(enter).remove)
        stack.callback(hooks.register_module_forward_hook(leave, always_call=True).remove)
        yield


def as_inputs(x: Any, wide: bool) -> Any:
    """Arrays as tensors, in float64 if ``wide``; float inputs have gradients."""
    if isinstance(x, dict):
        return {name: as_inputs(value, wide) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return tuple(as_inputs(value, wide) for value in x)
    if x is None:
        return None
    array = np.asarray(x)
    if array.dtype.kind == "f":
        return torch.tensor(array, dtype=torch.float64 if wide else torch.get_default_dtype()).requires_grad_()
    return torch.tensor(array.astype(np.int64) if array.dtype.kind in "iu" else array)


def record(
    model: Any,
    x: Any,
    y: Any = None,
    loss: Callable | None = None,
    *,
    edits: dict[int, Edit] | None = None,
    seed: int | None = None,
    training: bool = False,
    wide: bool = True,
) -> tuple[Recording, Recorder]:
    """Run the model, its loss and the backward pass; the recording, and the calls for a replay.

    ``loss(output, y)`` is a scalar, the sum of sin(output) if None. ``edits`` replaces operations by number,
    ``seed`` moves every number by a last bit. The model's buffers are as before afterwards. Raises ValueError for
    TorchScript, whose calls do not show.
    """
    named = dict(model.named_parameters()) | dict(model.named_buffers()) if isinstance(model, torch.nn.Module) else {}
    before = {name: tensor.detach().clone() for name, tensor in named.items()}
    leaves, target = as_inputs(x, wide), None if y is None else as_inputs(y, wide)
    recorder = Recorder({id(tensor): name for name, tensor in named.items()}, edits or {}, seed, wide)
    recorder.held, recorder.trains = set(recorder.names), training
    default = torch.get_default_dtype()
    modes = {module: module.training for module in model.modules()} if named else {}
    try:
        if isinstance(model, torch.nn.Module):
            model.train(training)
        torch.set_default_dtype(torch.float64 if wide else default)
        if seed is not None:
            _move_leaves([*named.values(), *tensors(leaves)], seed)
        with torch.enable_grad(), _paths(recorder, model):
            inputs = replaced(leaves, {id(leaf): leaf.clone() for leaf in tensors(leaves)})  # may be written to
            recorder.names |= {id(tensor): f"input {number}" for number, tensor in enumerate(tensors(inputs))}
            recorder.names |= {id(tensor): "target" for tensor in tensors(target)}
            with recorder:
                output = _called(model, inputs)
                recorder.where.append("loss")
                total = _loss(output, target, loss)
        _finish(recorder, output, total, named, list(tensors(leaves)))
        recorder.recording.after = {name: as_array(tensor) for name, tensor in named.items()}
    finally:
        recorder.unhook()
        torch.set_default_dtype(default)
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, tensor in named.items():
                tensor.data.copy_(before[name])
    return recorder.recording, recorder


def _called(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _loss(output: Any, target: Any, loss: Callable | None) -> torch.Tensor:
    if loss is not None:
        return loss(output) if target is None else loss(output, target)
    results = [real(tensor) for tensor in returned(output).values()]
    summed = [torch.sin(tensor).sum() for tensor in results if tensor.is_floating_point()]
    return sum(summed) if summed else torch.zeros(())


def returned(output: Any) -> dict[str, torch.Tensor]:
    """The tensors that a model returned, by place."""
    return {place: part for place, part in parts(output) if isinstance(part, torch.Tensor)}


def _move_leaves(leaves: list[torch.Tensor], seed: int) -> None:
    with torch.no_grad():
        for number, tensor in enumerate(leaves):
            if tensor.is_floating_point():
                tensor.data.copy_(last_bit(tensor, seed + 7 * number))


def _finish(recorder: Recorder, output: Any, total: torch.Tensor, named: dict, inputs: list[torch.Tensor]) -> None:
    recording = recorder.recording
    for where in dict.fromkeys(recorder.hidden):
        recording.notes.append(f"what no call of PyTorch shows (TorchScript, C++, vmap) before {where}")
    if recorder.autocast:
        recording.notes.append("autocast in the original, which was run in float64")
    results = returned(output)
    recording.outputs = [recorder.number(tensor) for tensor in (*results.values(), total)]
    recording.places = list(results)
    leaves = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    recording.frozen = dict.fromkeys(named.keys() - leaves.keys())
    if leaves and not total.requires_grad:
        recording.notes.append("gradients, of which the original's loss has none (no_grad, detach, whole numbers)")
    sources = [*leaves.values(), *(tensor for tensor in inputs if tensor.requires_grad)]
    if total.requires_grad and sources:
        gradients = torch.autograd.grad(total, sources, allow_unused=True)
        kept = [None if gradient is None else as_array(gradient) for gradient in gradients]
        recording.gradients = dict(zip(leaves, kept, strict=False))
    recording.parameters = {name: as_array(tensor) for name, tensor in named.items()}


def halves(model: Any) -> list[str]:
    """What is rounded more coarsely than in float32, which a recording does not show."""
    kinds = {t.dtype for t in model.parameters()} if isinstance(model, torch.nn.Module) else set()
    coarse = sorted(str(kind).partition(".")[2] for kind in kinds & {torch.bfloat16, torch.float16})
    return [f"rounding to {kind}, in which the original computes: it was run in float64" for kind in coarse]


def promote(model: Any) -> Callable[[], None]:
    """Turn a module to float64 in place; the function returned turns it back."""
    if not isinstance(model, torch.nn.Module):
        return lambda: None
    held = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    before = [tensor.data for tensor in held]
    for tensor in held:
        tensor.data = tensor.data.double()

    def restore() -> None:
        for tensor, data in zip(held, before, strict=True):
            tensor.data = data

    return restore
