"""Why a map may mislead: tokens with outlying norms, and attention that is parked on special tokens.

Tokens of large norm that stand for nothing in the picture are artifacts of large vision transformers (Darcet et al.,
ICLR 2024). Their cut-off is no constant of nature, so the rule here is relative.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.measures.blocks import spread
from attnviz.measures.faithfulness import parts_of
from attnviz.types import AttentionCall, Trace, block_size

FACTOR = 6.0  # median absolute deviations above the median


class NormOutliers(NamedTuple):
    """Lengths of the residual at every token, and which are outliers; depth 0 is what enters the first layer."""

    norms: Float[Tensor, "depth token"]
    median: Float[Tensor, " depth"]
    limit: Float[Tensor, " depth"]  # median + FACTOR * MAD
    outlying: Bool[Tensor, "depth token"]


@torch.no_grad()
def norm_outliers(trace: Trace, stream: str = "main", factor: float = FACTOR) -> NormOutliers:
    """Tokens whose norm is above median + factor * MAD over the tokens of that depth.

    MAD is the median absolute deviation, unscaled. Where most norms are equal it is taken as a millionth of the median,
    so that rounding makes no outlier. Raises KeyError for a stream there is not.
    """
    norms = torch.stack([residual.to(torch.float64).norm(dim=-1) for residual in trace.residuals[stream]])
    median = norms.quantile(0.5, dim=-1)
    deviation = (norms - median[:, None]).abs().quantile(0.5, dim=-1)
    limit = median + factor * torch.maximum(deviation, 1e-6 * median)
    return NormOutliers(norms, median, limit, norms > limit[:, None])


@torch.no_grad()
def special_share(call: AttentionCall, most: int | None = None) -> float | None:
    """Share of attention that patches or words give to special tokens: a mean over heads and those queries.

    `most`: over so many queries at most, spread evenly; None = all of them. Returns None where queries and keys differ,
    where there are no special tokens or nothing else, and for a map whose rows do not sum to 1. Raises NoTokenMap where
    there is no map.
    """
    special = parts_of(call.keys) < 0
    if call.queries is not call.keys and call.queries.labels != call.keys.labels:
        return None
    if not special.any() or special.all() or not call.rule.stochastic:
        return None
    inside = (~special).nonzero().flatten()
    rows = inside if most is None else inside[spread(0, len(inside), most)]
    parts = rows.split(block_size(call.heads, len(call.keys)))
    given = [call.token_map(rows=part.tolist())[..., special.to(call.query.device)].sum(-1) for part in parts]
    return float(torch.cat(given, -1).to(torch.float64).mean())
