"""Sanity check by cascading randomisation: a map must change as its network loses what it has learned.

Layers are randomised one after the other from the answer downwards (Adebayo et al. 2018, section 3). A parameter's
entries are shuffled, so that their distribution stays. A map whose rank correlation with the first one stays high does
not depend on what was learned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.measures.faithfulness import rank_correlation
from attnviz.types import Model


@torch.no_grad()
def shuffle_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Shuffle the entries of every parameter of a module, in place."""
    for parameter in module.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


def cascade(modules: Sequence[nn.Module], seed: int = 0) -> Iterator[int]:
    """Shuffle these modules in place, one at a time, the last first; yields how many are shuffled, 0 to all.

    Give it the modules of a copy of the network: nothing is put back.
    """
    generator = torch.Generator().manual_seed(seed)
    yield 0
    for done, module in enumerate(reversed(modules)):
        shuffle_parameters(module, generator)
        yield done + 1


def cascade_correlation(
    maps: Callable[[], Float[Tensor, "*map part"]], modules: Sequence[nn.Module], seed: int = 0
) -> Float[Tensor, "step *map"]:
    """Rank correlation of the maps of ever more randomised networks with those of the network itself; the first is 1.

    `maps` computes them with the modules as they are at that moment. Not a number where a map is flat.
    """
    found = [maps().clone() for _ in cascade(modules, seed)]
    return torch.stack([rank_correlation(found[0], each) for each in found])


def random_twin(model: Model, seed: int = 0) -> Model | None:
    """A copy of a model in which every parameter of its network is shuffled, with a digest of its own.

    The last step of the cascade at once: the twin has the same shape and the same values, and has learned nothing.
    Buffers stay, so positions that are computed do too. None where the model holds no `network`.
    """
    if not isinstance(getattr(model, "network", None), nn.Module):
        return None
    twin: Any = copy.deepcopy(model)
    shuffle_parameters(twin.network, torch.Generator().manual_seed(seed))
    twin.digest = f"{model.digest} shuffled {seed}"
    return twin
