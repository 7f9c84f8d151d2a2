"""A rule around a rule: outputs hold learned vectors of distances beside the values (Shaw et al. 2018, eq. 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.attention.rules.softmax import Softmax, at_least_float32, full_precision
from attnviz.types import AttentionCall, NamedMap, Rule, Stage

Index = Callable[[list[int], torch.device], Tensor]
CAVEAT = "Outputs also hold learned vectors of distances, which map times values leaves out."


@dataclass(frozen=True, eq=False, kw_only=True)
class DistanceValues(Softmax):
    """y_i = sum over j of A_ij (v_j + a_clip(j-i)), with the weights A of another rule."""

    inner: Rule
    table: Tensor  # [distance value_dim]
    index: Index  # rows, where -> [row key], one past the table for none

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """Those of the rule inside."""
        return self.inner.scores(call, heads, rows, stage)

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """Those of the rule inside."""
        return self.inner.weights(call, heads, rows)

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """That of the rule inside."""
        return self.inner.token_map(call, heads, rows)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """Those of the rule inside."""
        return self.inner.maps(call)

    def mix(self, call: AttentionCall) -> Tensor:
        """What the rule inside mixes, and what the vectors of distances add."""
        extra = self.extra(call)
        return self.inner.mix(call) + (extra if call.gate is None else call.gate * extra)

    @full_precision
    def extra(self, call: AttentionCall) -> Tensor:
        """The weight on each distance times its vector [*batch head query value_dim], by row blocks."""
        heads, blocks = list(range(call.heads)), []
        for rows in call.blocks():
            weights = self.inner.token_map(call, heads, rows)
            summed = weights.new_zeros(*weights.shape[:-1], len(self.table) + 1)
            summed = summed.scatter_add(-1, self.index(rows, weights.device).expand_as(weights), weights)
            blocks.append((summed[..., :-1] @ self.table.to(summed.dtype)).to(call.value.dtype))
        return torch.cat(blocks, -2)

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d A_ij = d_output_i . (v_j + a_clip(j-i)); masked entries are 0."""
        gated = d_output if call.gate is None else d_output * call.gate
        d_rows = at_least_float32(gated[..., heads, :, :][..., rows, :])
        by_distance = F.pad(d_rows @ self.table.to(d_rows.dtype).T, (0, 1))
        index = self.index(rows, d_rows.device)
        extra = by_distance.gather(-1, index.expand(*by_distance.shape[:-1], len(call.keys)))
        if call.mask is not None:
            keep = call.mask.rows(heads, rows, call.query.shape[-2], call.key.shape[-2], extra.device)
            extra = extra.masked_fill(~keep, 0)
        return self.inner.map_gradient(call, d_output, heads, rows) + extra


def with_distance_values(inner: Rule, table: Tensor, index: Index) -> DistanceValues:
    """The rule, with learned vectors of distances in its outputs; its map means what it meant."""
    caveat = f"{inner.caveat} {CAVEAT}".strip()
    return DistanceValues(
        map_type=inner.map_type,
        axes=inner.axes,
        stochastic=inner.stochastic,
        exact=False,
        caveat=caveat,
        inner=inner,
        table=table,
        index=index,
    )
