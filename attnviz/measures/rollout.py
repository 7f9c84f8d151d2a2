"""How strong the residual path is: what an honest residual weight of a rollout would be.

To add a measure about depth, write a function of a trace here.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.types import AttentionCall, Trace


@torch.no_grad()
def residual_norms(trace: Trace, stream: str = "main") -> tuple[Float[Tensor, " layer"], Float[Tensor, " layer"]]:
    """Mean length over tokens of what enters each layer and of what its attention adds: ||x|| and ||attention(x)||.

    The bias of the output projection is left out: it is the same for every token and moves nothing between them.
    Raises ValueError where a call recorded no output or no projection.
    """
    own = [c for c in trace.calls if c.queries.stream == stream == c.keys.stream]
    calls = list({c.layer: c for c in own}.values())  # of chained calls the last one adds
    first = calls[0].layer  # layers count on through the stages of a network, residuals begin with their stage
    before = [trace.residuals[stream][c.layer - first].norm(dim=-1).mean(-1) for c in calls]
    added = [branch_output(c).norm(dim=-1).mean(-1) for c in calls]
    return torch.stack(before, -1), torch.stack(added, -1)


def branch_output(call: AttentionCall) -> Float[Tensor, "*batch query feature"]:
    """What one call adds to the residual, its heads projected and summed."""
    if call.output is None or call.projection is None:
        raise ValueError(f"{call.name} recorded no output or no projection, so its length is not known")
    return torch.einsum("...hqd,hdf->...qf", call.output, call.projection.to(call.output))
