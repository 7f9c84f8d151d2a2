"""Attention with relative positions in two dimensions: offsets in rows and in columns (BoTNet)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from attnviz.attention.positions.relative import Offsets, QueryOffsetBias, check_grid, offset_table, patch_coordinates
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.multihead import MultiHead
from attnviz.types import Mask, Tokens


class BotNet2d(MultiHead):
    """Each query is multiplied with the key and with learned vectors of the key's offset in rows and in columns.

    Bottleneck transformer (Srinivas et al. 2021, fig. 4): one vector for each offset in rows and one for each in
    columns, shared by the heads. Grids smaller than the one it was built for read the same tables.
    """

    title = "Relative positions in two dimensions"
    paper = "Srinivas et al. 2021, arXiv 2101.11605"
    formula = (
        r"\mathrm{softmax}\!\left(\left(Q K^\top + q_i\!\cdot\!(E^h_{\Delta r} + E^w_{\Delta c})\right)"
        r" / \sqrt{d_h}\right) V"
    )
    meaning = (
        "Row i holds the weights of patch i over all patches; it sums to 1. Its scores are a content term plus one "
        "term for the distance in rows and one for the distance in columns."
    )
    supported_masks = frozenset({"keep", "key_padding", "groups"})
    requirements = frozenset({"grid"})

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, **options: Any):
        super().__init__(width, heads, tokens=tokens, **options)
        if tokens is None or tokens.grid is None:
            raise ValueError(f"{self.title}: its tables are built for a grid; name it: tokens=Tokens.patches(...)")
        self.by_row = offset_table(tokens.grid[0], self.dim)
        self.by_column = offset_table(tokens.grid[1], self.dim)

    def check(self, mask: Mask | None, cross: bool, queries: Tokens, keys: Tokens) -> None:
        """Refuse also a grid larger than the tables."""
        super().check(mask, cross, queries, keys)
        check_grid(self.title, self.built_for, queries)

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, with two relative position biases."""
        row, column = patch_coordinates(queries, x.device)
        terms = (
            ("distance in rows", QueryOffsetBias(Offsets(self.by_row, row))),
            ("distance in columns", QueryOffsetBias(Offsets(self.by_column, column))),
        )
        return super().project_inputs(x, context, queries, keys) | {"biases": terms}

    def cost(self, n_q: int, n_k: int) -> Cost:
        """As multi-head attention, with (2 H - 1 + 2 W - 1) d_h parameters more and n (H + W) d multiply-adds.

        The products are counted for the H + W offsets that occur for each query.
        """
        offsets = len(self.by_row) + len(self.by_column)  # 2 H - 1 + 2 W - 1
        whole = super().cost(n_q, n_k)
        return replace(
            whole,
            parameters=whole.parameters + offsets * self.dim,
            multiply_adds=whole.multiply_adds + n_q * (offsets + 2) // 2 * self.width,
            state_bytes=0,  # nothing is decoded token by token
        )
