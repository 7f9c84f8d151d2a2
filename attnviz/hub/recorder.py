"""What one forward pass of somebody else's network records, and what an edit changes on its way.

The recorder of a pass stands in a context variable: several visitors compute with one network, each with its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.attention import Softmax
from attnviz.attention.rules.normalisers import SINK, NormalisedAttention
from attnviz.edits import Edit
from attnviz.hub.biases import SoftCap, StoredBias
from attnviz.hub.errors import CannotRecord
from attnviz.hub.masks import ReducedMask, reduced, split
from attnviz.hub.structure import Stack, Structure
from attnviz.hub.windows import Windows, windows_of
from attnviz.types import AttentionCall, Bias, Mask, Tokens

Added = tuple[tuple[str, Bias], ...]


@dataclass(eq=False)
class Frame:
    """A layer that is being passed."""

    stack: Stack
    layer: nn.Module
    index: int  # how many layers of its stack came before
    grid: tuple[int, int] | None = None  # of its tokens, where the layer is told so
    branches: int = 0


@dataclass(eq=False)
class Recorder:
    """One forward pass: what it recorded, what is to be changed, and which layers are skipped."""

    structure: Structure
    edit: Edit = field(default_factory=Edit)
    tokens: Mapping[str, Tokens] = field(default_factory=dict)
    single: bool | None = None  # whether a batch of one has no axis; None = wherever the batch is one
    content_enters: bool = False  # embeddings are what enters the first layer, not what a table gives
    start: tuple[int, Tensor] | None = None  # skip all layers but this one, which reads this residual
    end: Tensor | None = None  # skip all layers; the last gives this residual
    depth: int = 0  # layers in all, where layers are skipped
    calls: list[AttentionCall] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)  # of each call
    residuals: dict[str, list[Tensor]] = field(default_factory=dict)
    content: Tensor | None = None
    written: Tensor | None = None  # what the last attention gave the network
    frames: list[Frame] = field(default_factory=list)
    within: list[nn.Module] = field(default_factory=list)  # the attention modules that compute, where they are watched
    counts: dict[str, int] = field(default_factory=dict)
    seen: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # masks and biases that were read already
    counted: dict[tuple[str, int], Tokens] = field(default_factory=dict)  # tokens without labels of their own
    busy: bool = False  # while attention is mixed by our own rule

    def embed(self, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The table of token embeddings: its rows are recorded, or others take their place."""
        found = forward(*args, **kwargs)
        if self.content is None and isinstance(found, Tensor):
            self.content, found = self.kept(found, None if self.content_enters else self.edit.embeddings)
        return found

    def kept(self, found: Tensor, instead: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is recorded of a tensor [item token feature], and what the network goes on with, which comes from it.

        So that gradients reach what was recorded, also where a batch of one has no axis. Raises CannotRecord for more.
        """
        if self.single:
            if len(found) != 1:
                raise CannotRecord(f"its layers read one input as {len(found)} items, whose order is not known")
            own = found[0] if instead is None else instead
            return own, own[None]
        own = found if instead is None else instead.expand(found.shape)
        return own, own

    def layer(self, layer: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """One layer of a stack: the residual before the first and after each is recorded, or patched, or skipped."""
        stack = self.structure.stack_of(layer)
        index = self.counts.get(stack.stream, 0)
        self.counts[stack.stream] = index + 1
        at, x = hidden(args, kwargs)
        if x is None:
            return self.inside(Frame(stack, layer, index), forward, args, kwargs)
        if index == 0:
            x = self.entering(stack, x)
        if self.end is not None or self.start is not None:
            if (chosen := self.skipped(layer, index, x)) is not None:
                return chosen
            x = x if self.start is None else self.start[1]
        args, kwargs = replaced(args, kwargs, at, x)
        result = self.inside(Frame(stack, layer, index, grid_in(args, kwargs)), forward, args, kwargs)
        self.structure.results.setdefault(layer, len(result) if isinstance(result, tuple) else None)
        own, _ = self.kept(result[0] if isinstance(result, tuple) else result)
        own = self.edit.patched(index + 1, own) if stack.stream == "main" else own
        self.residuals[stack.stream].append(own)
        y = own[None] if self.single else own
        return (y, *result[1:]) if isinstance(result, tuple) else y

    def inside(self, frame: Frame, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What a layer computes."""
        self.frames.append(frame)
        try:
            return forward(*args, **kwargs)
        finally:
            self.frames.pop()

    def entering(self, stack: Stack, x: Tensor) -> Tensor:
        """What enters the first layer of a stack, changed by the edit."""
        own, _ = self.kept(x)
        if stack.stream == "main":
            if self.content_enters:
                own, _ = self.kept(x, self.edit.embeddings)
                self.content = own
            own = self.edit.patched(0, own)
        self.residuals[stack.stream] = [own]
        return own[None] if self.single else own

    def skipped(self, layer: nn.Module, index: int, x: Tensor) -> Any:
        """What a layer that is skipped hands on, in the form it usually does; None for the one that is not."""
        if self.start is not None and index == self.start[0]:
            return None
        last = self.end is not None and index == self.depth - 1
        x = self.end if last and self.end is not None else x
        length = self.structure.results.get(layer)
        return x if length is None else (x, *[None] * (length - 1))

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: Any
    ) -> Tensor:
        """One attention computation: recorded, and mixed by our own rule. [item head query value_dim]."""
        windows, added = None, list[Any]()
        frame = self.frames[-1] if self.frames else None
        if frame is not None and len(query) != self.items(frame):
            windows, conditions, added = self.in_windows(frame, query, mask, self.items(frame))
            query, key, value = (windows.to_raster(tensor) for tensor in (query, key, value))
        else:
            conditions, added = self.conditions(module, query, key, mask, options)
        single = len(query) == 1 if self.single is None else self.single
        if single:
            query, key, value = query[0], key[0], value[0]
        call = self.call(module, frame, (query, key, value), conditions, tuple(added), options)
        self.busy = True
        try:
            output = call.rule.mix(call)
        finally:
            self.busy = False
        ablation = None if frame is None else self.edit.ablation(frame.index)
        output = output if ablation is None else ablation.filled(output)
        self.calls.append(replace(call, output=output, graph=output if output.requires_grad else None))
        self.modules.append(module)
        output = output[None] if single else output
        return output if windows is None else windows.to_windows(output)

    def items(self, frame: Frame) -> int:
        """How many items the residual before this layer has."""
        return 1 if self.single else len(self.residuals[frame.stack.stream][-1])

    def in_windows(
        self, frame: Frame, query: Tensor, mask: Tensor | None, batch: int
    ) -> tuple[Windows, Mask, list[tuple[str, Bias]]]:
        """The windows of a layer that attends within them, and what it adds to the scores there."""
        side, shift = getattr(frame.layer, "window_size", None), getattr(frame.layer, "shift_size", None)
        if frame.grid is None or side is None or shift is None or mask is None or isinstance(mask, ReducedMask):
            raise CannotRecord("it attends within windows whose order is not known; nothing of it can be shown truly")
        windows = windows_of(frame.grid, int(side), int(shift), query.device)
        conditions, bias = windows.conditions(mask, batch)
        return windows, conditions, [("relative position bias", bias)]

    def conditions(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: Mapping[str, Any]
    ) -> tuple[Mask | None, list[tuple[str, Bias]]]:
        """The mask of a call and what is added to its scores."""
        added: list[tuple[str, Bias]] = []
        queries, keys = query.shape[-2], key.shape[-2]
        if mask is None:
            causal = options.get("is_causal")
            causal = getattr(module, "is_causal", True) if causal is None else causal
            if causal and queries > 1 and queries != keys:
                raise CannotRecord("its causal attention has more keys than queries, aligned at their beginning")
            found = Mask(causal=True) if causal and queries > 1 else None
        elif isinstance(mask, ReducedMask):
            found = mask.mask
        elif mask.dtype == torch.bool:
            found = self.once(mask, lambda: reduced(mask))
        else:
            found, rest = self.once(mask, lambda: split(mask.detach()))
            if rest is not None:
                added.append(("bias", self.once(rest, lambda: stored(rest, self.single))))
        if (cap := options.get("softcap")) is not None:
            added.insert(0, ("soft-cap", SoftCap(float(cap))))
        bias = options.get("position_bias")
        if bias is not None and self.once(bias, bias.any):  # T5's cross-attention is given zeros
            added.append(("position bias", stored(bias.detach(), self.single)))
        return found, added

    def once(self, tensor: Tensor, read: Callable[[], Any]) -> Any:
        """What was read of a tensor that every layer is given; the tensor is kept, so that its number stays its own."""
        if id(tensor) not in self.seen:
            self.seen[id(tensor)] = (tensor, read())
        return self.seen[id(tensor)][1]

    def call(
        self,
        module: nn.Module,
        frame: Frame | None,
        vectors: tuple[Tensor, Tensor, Tensor],
        mask: Mask | None,
        added: Added,
        options: Mapping[str, Any],
    ) -> AttentionCall:
        """The call itself: its place in the network, its tokens, its rule."""
        query, key, value = vectors
        heads, index = query.shape[-3], 0 if frame is None else frame.index
        queries, keys = self.sides(module, frame, query.shape[-2], key.shape[-2])
        if (sink := options.get("s_aux")) is None:
            sink = options.get("sinks")
        rule = Softmax()
        if sink is not None:
            rule = NormalisedAttention(stochastic=False, caveat=SINK, sink=sink.detach().flatten())
        scale, output = options.get("scaling"), self.structure.outputs.get(module)
        call = AttentionCall(
            name=named(self.structure, module, queries, keys, index, frame),
            layer=index if frame is not None else len(self.calls),
            rule=rule,
            query=query,
            key=key,
            value=value,
            queries=queries,
            keys=keys,
            scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
            mask=self.edited(mask, queries, keys, index),
            biases=added,
            gate=self.gate(frame, heads, query),
            projection=None if output is None else output.by_head(heads),
            branch=0 if frame is None else frame.branches,
        )
        if frame is not None:
            frame.branches += 1
        return call

    def edited(self, mask: Mask | None, queries: Tokens, keys: Tokens, index: int) -> Mask | None:
        """The mask without removed tokens and blocked edges."""
        if queries.stream != keys.stream:
            return mask
        own = self.edit.mask(index)
        if self.edit.keep_tokens is not None:
            own = Mask(key_padding=self.edit.keep_tokens) & own
        return mask if own is None else own & mask

    def gate(self, frame: Frame | None, heads: int, like: Tensor) -> Tensor | None:
        """0 for ablated heads and 1 for the others [*edit head 1 1]; None where none is ablated."""
        ablation = None if frame is None else self.edit.ablation(frame.index)
        if ablation is None:
            return None
        if ablation.off.shape[-1] != heads:
            raise ValueError(f"ablated_heads has {ablation.off.shape[-1]} heads; this network has {heads}")
        return (~ablation.off).to(like.dtype)[..., None, None]

    def sides(self, module: nn.Module, frame: Frame | None, queries: int, keys: int) -> tuple[Tokens, Tokens]:
        """The tokens of both sides of a call: of one stream, unless it reads another sequence."""
        stream = "main" if frame is None else frame.stack.stream
        own = self.numbered(stream, queries)
        others = [name for name in self.residuals if name != stream]
        if queries == keys and not (others and self.structure.is_cross(module)):
            return own, own
        fitting = [name for name in others if self.residuals[name][-1].shape[-2] == keys]
        return own, self.numbered(fitting[-1] if fitting else f"{stream} keys", keys)

    def numbered(self, stream: str, count: int) -> Tokens:
        """The tokens of a stream as they were given; else counted from 1."""
        given = self.tokens.get(stream)
        if given is not None and len(given) == count:
            return given
        if (stream, count) not in self.counted:
            self.counted[stream, count] = Tokens(tuple(str(i + 1) for i in range(count)), stream=stream)
        return self.counted[stream, count]


ACTIVE: ContextVar[Recorder | None] = ContextVar("attnviz_recorder", default=None)


def stored(values: Tensor, single: bool | None) -> StoredBias:
    """A bias for all calls that share it; where a batch of one has no axis, it has none either."""
    return StoredBias(values[0] if len(values) == 1 and single is not False else values)


def named(
    structure: Structure, module: nn.Module, queries: Tokens, keys: Tokens, index: int, frame: Frame | None
) -> str:
    """What a call is called: "layer 2"; of several stacks "encoder.2.self"; outside of layers by its module."""
    if frame is None:
        return structure.attention.get(module) or type(module).__name__
    if len(structure.stacks) == 1:
        return f"layer {index + 1}"
    return f"{queries.stream}.{index + 1}.{'self' if queries.stream == keys.stream else 'cross'}"


def hidden(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int | str, Tensor | None]:
    """The residual among what a layer is given, and where it stands; None where it is given none."""
    for at, value in [*enumerate(args), *kwargs.items()]:
        if isinstance(value, Tensor) and value.is_floating_point():
            return at, value
    return 0, None


def replaced(args: Sequence[Any], kwargs: Mapping[str, Any], at: int | str, value: Tensor) -> tuple[Any, Any]:
    """What a layer is given, with another residual."""
    if isinstance(at, str):
        return args, {**kwargs, at: value}
    return (*args[:at], value, *args[at + 1 :]), kwargs


def grid_in(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, int] | None:
    """The rows and columns of the tokens, where a layer is told them."""
    for value in [*args, *kwargs.values()]:
        if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(side, int) for side in value):
            return int(value[0]), int(value[1])
    return None
