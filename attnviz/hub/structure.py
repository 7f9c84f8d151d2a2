"""Where the layers of somebody else's network are: lists of modules of one class that hold its attention."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from torch import Tensor, nn

CROSS = re.compile(r"cross|enc(oder)?_?(dec|attn)", re.IGNORECASE)
LISTS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers of one class that follow each other; one module may be passed several times (ALBERT)."""

    path: str
    stream: str  # of the tokens that pass through
    layers: tuple[nn.Module, ...]


@dataclass(frozen=True, eq=False)
class Output:
    """How the outputs of an attention module reach the residual: by a projection, times a scale of each feature."""

    module: nn.Module
    feature_first: bool  # whether the weight is [feature in], as that of nn.Linear
    scale: Tensor | None = None

    def by_head(self, heads: int) -> Tensor:
        """The projection [head value_dim feature], detached."""
        weight = cast(Tensor, self.module.weight).detach()
        found = (weight.T if self.feature_first else weight).unflatten(0, (heads, -1))
        return found if self.scale is None else found * self.scale.detach().to(found)


@dataclass(eq=False)
class Structure:
    """What is known of a network: its stacks, its attention modules by name, and what the first pass found out."""

    stacks: tuple[Stack, ...]
    attention: dict[nn.Module, str]  # the innermost modules named so, with their paths
    outputs: dict[nn.Module, Output | None] = field(default_factory=dict)
    cross: set[nn.Module] = field(default_factory=set)  # attention over the other sequence of an encoder-decoder
    results: dict[nn.Module, int | None] = field(default_factory=dict)  # layer -> length of its tuple; None = a tensor

    def stack_of(self, layer: nn.Module) -> Stack:
        """The stack that a layer belongs to."""
        return next(stack for stack in self.stacks if any(layer is member for member in stack.layers))

    def inside(self, module: nn.Module) -> bool:
        """Whether a module lies in a layer of a stack."""
        return any(module is part for stack in self.stacks for layer in stack.layers for part in layer.modules())

    def is_cross(self, module: nn.Module) -> bool:
        """Whether an attention module reads another sequence: seen in the first pass, else by its name."""
        return module in self.cross or bool(CROSS.search(self.attention.get(module, "")))


def structure_of(network: nn.Module) -> Structure:
    """The stacks of a network: for each attention module the nearest list of modules of one class."""
    attention = dict(attention_modules(network))
    found: dict[str, nn.Module] = {}
    for path in attention.values():
        if (listed := nearest_list(network, path)) is not None:
            found.setdefault(listed, network.get_submodule(listed))
    streams = stream_names(list(found))
    stacks = [Stack(path, streams[path], tuple(members(module))) for path, module in found.items()]
    return Structure(tuple(stacks), attention)


def attention_modules(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The innermost modules whose class is named after attention, each with its path."""
    for path, module in network.named_modules():
        inner = (part for part in module.modules() if part is not module)
        if named_attention(module) and not any(named_attention(part) for part in inner):
            yield module, path


def named_attention(module: nn.Module) -> bool:
    """Whether the class of a module is named after attention."""
    return "Attention" in type(module).__name__


def nearest_list(network: nn.Module, path: str) -> str | None:
    """The path of the nearest list above a module whose members are of one class; None where there is none."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        above = ".".join(parts[:end])
        module = network.get_submodule(above)
        if isinstance(module, LISTS) and len({type(member) for member in members(module)}) == 1:
            return above
    return None


def members(module: nn.Module) -> Sequence[nn.Module]:
    """The modules of a list."""
    return list(module.children())


def stream_names(paths: Sequence[str]) -> dict[str, str]:
    """What the streams are called: "main" if there is one, else by where their paths part; stages are counted."""
    if len(paths) == 1:
        return {paths[0]: "main"}
    parts = [path.split(".") for path in paths]
    at = next((i for i, part in enumerate(zip(*parts, strict=False)) if len(set(part)) > 1), None)
    names = [path if at is None else split[at] for path, split in zip(paths, parts, strict=True)]
    names = [f"stage {int(name) + 1}" if name.isdigit() else name for name in names]
    return dict(zip(paths, names if len(set(names)) == len(names) else paths, strict=True))
