"""A rule around a rule: learned relative-position vectors are added to the values (Shaw et al. 2018, eq. 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.attention.rules.softmax import Softmax, full_precision, select
from attnviz.types import AttentionCall, NamedMap, Rule, Stage

Index = Callable[[list[int], torch.device], Tensor]
CAVEAT = "Outputs also contain learned relative-position vectors, which the product of map and values leaves out."


@dataclass(frozen=True, eq=False, kw_only=True)
class DistanceValues(Softmax):
    """y_i = sum over j of A_ij (v_j + a_clip(j-i)), with the weights A of the inner rule."""

    inner: Rule
    table: Tensor  # [distance value_dim]
    index: Index  # (rows, device) -> row of the table [row key]; one past the table for pairs without a distance

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """Delegates to the inner rule."""
        return self.inner.scores(call, heads, rows, stage)

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """Delegates to the inner rule."""
        return self.inner.weights(call, heads, rows)

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """Delegates to the inner rule."""
        return self.inner.token_map(call, heads, rows)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """Delegates to the inner rule."""
        return self.inner.maps(call)

    def mix(self, call: AttentionCall) -> Tensor:
        """The output of the inner rule plus the weighted relative-position vectors."""
        return self.inner.mix(call) + call.gated(self.mix_distances(call))

    @full_precision
    def mix_distances(self, call: AttentionCall) -> Tensor:
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
        d_rows = select(call.gated(d_output), heads, rows)
        by_distance = F.pad(d_rows @ self.table.to(d_rows.dtype).T, (0, 1))
        index = self.index(rows, d_rows.device)
        of_pairs = by_distance.gather(-1, index.expand(*by_distance.shape[:-1], len(call.keys)))
        return self.inner.map_gradient(call, d_output, heads, rows) + call.masked(of_pairs, heads, rows, 0)


def with_distance_values(inner: Rule, table: Tensor, index: Index) -> DistanceValues:
    """The rule with relative-position vectors added to its values; the map keeps its meaning."""
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
