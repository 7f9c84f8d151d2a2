"""What one small pass finds out of somebody else's network: which attention was recorded, and where its outputs go.

Names differ from family to family, so none are asked: the output projection is whoever first reads the memory that
attention wrote; a scale of the layer (layer scale) is the parameter that makes the residual come out right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.hub.errors import CannotRecord
from attnviz.hub.recorder import Recorder
from attnviz.hub.structure import Output, Structure

TOLERANCE = 1e-4


@dataclass(eq=False)
class Seen:
    """What passed through the modules of one layer."""

    inputs: list[Tensor] = field(default_factory=list)  # of every module inside, in order
    outputs: list[Tensor] = field(default_factory=list)
    added: list[tuple[nn.Module, nn.Module, Tensor, int]] = field(default_factory=list)  # attention, projection, output


@contextmanager
def outputs_found(structure: Structure, recorder: Recorder) -> Iterator[None]:
    """While a pass runs, find the projection of each attention module; at its end they stand in the structure."""
    hooks: list[Any] = []
    layers = list(dict.fromkeys(layer for stack in structure.stacks for layer in stack.layers))
    for layer in layers:
        seen = Seen()
        for part in list(layer.modules())[1:]:
            hooks.append(part.register_forward_pre_hook(reading(structure, recorder, seen), with_kwargs=True))
            hooks.append(part.register_forward_hook(writing(structure, seen)))
        hooks.append(layer.register_forward_pre_hook(beginning(seen), with_kwargs=True))
        hooks.append(layer.register_forward_hook(ending(structure, layer, seen)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def beginning(seen: Seen) -> Any:
    """A hook that clears what was seen in an earlier pass, and notes what enters."""

    def hook(layer: nn.Module, args: Any, kwargs: Any) -> None:
        for part in (seen.inputs, seen.outputs, seen.added):
            part.clear()
        seen.inputs.extend(tensors([*args, *kwargs.values()])[:1])

    return hook


def reading(structure: Structure, recorder: Recorder, seen: Seen) -> Any:
    """A hook that notes who reads what attention has written."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        read = tensors([*args, *kwargs.values()])
        seen.inputs.extend(read)
        written = recorder.written
        weight = getattr(module, "weight", None)
        if written is None or not read or not isinstance(weight, Tensor) or weight.ndim != 2:
            return
        if read[0].untyped_storage().data_ptr() == written.untyped_storage().data_ptr():
            structure.outputs[recorder.modules[-1]] = None  # until the residual comes out right
            seen.added.append((recorder.modules[-1], module, read[0], len(seen.inputs)))
            recorder.written = None

    return hook


def writing(structure: Structure, seen: Seen) -> Any:
    """A hook that notes what modules give, and what the projection gives."""

    def hook(module: nn.Module, args: Any, result: Any) -> None:
        found = tensors(result if isinstance(result, tuple | list) else [result])
        if seen.added and seen.added[-1][1] is module and found:
            attention, _, _, count = seen.added[-1]
            seen.added[-1] = (attention, module, found[0], count)
        seen.outputs.extend(found[:1])

    return hook


def ending(structure: Structure, layer: nn.Module, seen: Seen) -> Any:
    """A hook that looks for the sums of the residual and what attention added, once a layer has ended."""

    def hook(module: nn.Module, args: Any, result: Any) -> None:
        final = tensors(result if isinstance(result, tuple | list) else [result])[:1]
        x = seen.inputs[0] if seen.inputs else None
        if x is None:
            return
        for attention, projection, output, count in seen.added:
            bases = [x, *(t for t in [*seen.inputs[:count], *seen.outputs] if t.shape == x.shape)]
            sums = [t for t in [*seen.inputs[count:], *final] if t.shape == x.shape]
            scale = scale_of(layer, bases, sums, output)
            for beside in (one for one in seen.outputs if final and one.shape == final[0].shape):
                if scale is False:  # in parallel with the MLP, whose output is part of the sum
                    scale = scale_of(layer, [x], [final[0] - beside], output)
            if scale is not False:
                is_linear = isinstance(projection, nn.Linear)  # GPT-2 has Conv1D, whose weight is the other way round
                structure.outputs[attention] = Output(projection, is_linear, scale if scale is not True else None)
        for part in (seen.inputs, seen.outputs, seen.added):  # nothing of a layer is kept while the next computes
            part.clear()

    return hook


def scale_of(layer: nn.Module, bases: Sequence[Tensor], sums: Sequence[Tensor], output: Tensor) -> Tensor | bool:
    """The scale by which an output is added: True for 1, a parameter of the layer, or False where it is not added."""
    width = output.shape[-1]
    scales = [p for name, p in layer.named_parameters() if p.shape == (width,) and not name.endswith("bias")]
    for candidate in [True, *scales]:
        added = output if candidate is True else output * candidate  # type: ignore[operator]
        for base in unlike(bases):
            if any(is_sum(total, base, added) for total in unlike(sums)):
                return candidate
    return False


def unlike(found: Sequence[Tensor]) -> list[Tensor]:
    """The tensors without those that are one and the same."""
    return list({id(one): one for one in found}.values())


def is_sum(total: Tensor, base: Tensor, added: Tensor) -> bool:
    """Whether a tensor is the sum of two; of windows, in another order, whether their sums over tokens are."""
    if total.shape != base.shape or total.shape[-1] != added.shape[-1] or total.numel() != added.numel():
        return False
    if total.shape == added.shape:
        found, expected = total - base, added
    else:
        found, expected = (t.flatten(0, -2).sum(0) for t in (total - base, added))
    size = expected.norm()
    return bool(size > 0) and bool((found - expected).norm() <= TOLERANCE * size)


def tensors(values: Any) -> list[Tensor]:
    """The tensors of numbers among some values."""
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]


def check_recorded(structure: Structure, recorder: Recorder, ran: set[nn.Module]) -> None:
    """Raise CannotRecord unless every attention module that ran in a layer recorded a call."""
    inside = [module for module in ran if structure.inside(module)] or list(ran)
    recorded = sum(module in set(recorder.modules) for module in inside)
    if recorded < len(inside):
        kinds = ", ".join(sorted({type(module).__name__ for module in inside if module not in set(recorder.modules)}))
        raise CannotRecord(
            f"recorded {recorded} of {len(inside)} attention layers: {kinds} computes attention by itself, "
            "so its weights cannot be shown truly; choose a model of another family"
        )
    if not recorder.calls:
        raise CannotRecord("it has no attention that can be recorded; choose a transformer")


@contextmanager
def running(structure: Structure, recorder: Recorder) -> Iterator[set[nn.Module]]:
    """Which attention modules compute in the meantime; the recorder is told which one it is in."""
    ran: set[nn.Module] = set()

    def begins(module: nn.Module, args: Any) -> None:
        ran.add(module)
        recorder.within.append(module)

    def ends(module: nn.Module, args: Any, result: Any) -> None:
        recorder.within.pop()

    hooks: list[Any] = [module.register_forward_pre_hook(begins) for module in structure.attention]
    hooks += [module.register_forward_hook(ends, always_call=True) for module in structure.attention]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def relative_difference(one: Tensor, other: Tensor) -> float:
    """The norm of a difference, relative to that of the second."""
    one, other = one.detach().float(), other.detach().float()
    return float((one - other).norm() / other.norm().clamp_min(torch.finfo(torch.float32).tiny))
