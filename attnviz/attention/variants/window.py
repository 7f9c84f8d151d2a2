"""Local attention: a band along a sequence (Longformer), or square windows of an image (Swin)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.attention.positions.relative import WindowBias, patch_coordinates
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.multihead import MultiHead
from attnviz.types import AttentionCall, Mask, Tokens, UnsupportedMask


class Window(MultiHead):
    """Each token attends only to tokens within a few positions of it (Beltagy et al. 2020, section 3.1).

    `radius` tokens on either side. Prefix tokens are refused, unless `global_prefix` gives them global attention: then
    they attend to all tokens and all tokens to them (section 3.1 there).
    """

    title = "Window attention"
    paper = "Beltagy et al. 2020, arXiv 2004.05150"
    formula = r"\mathrm{softmax}_{|i-j| \le w}\!\left(Q K^\top / \sqrt{d_h}\right) V"
    meaning = "Row i holds the weights of token i over the tokens of its window; all others are exactly 0."
    supported_masks = frozenset({"keep", "key_padding", "causal", "band", "groups"})
    requires_order = True

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        radius: int = 8,
        global_prefix: bool = False,
        **options: Any,
    ):
        super().__init__(width, heads, tokens=tokens, **options)
        if radius < 0:
            raise ValueError(f"the window's radius is {radius}, expected 0 or more")
        self.radius, self.global_prefix = radius, global_prefix
        if global_prefix:  # a band of the caller cannot be combined with global tokens
            self.supported_masks = (self.supported_masks | {"prefix"}) - {"band"}

    def mix_and_project(self, fields: dict[str, Any], *, mask: Mask | None, queries: Tokens, **named: Any) -> Any:
        """As every variant, within the band."""
        own = Mask(band=self.radius, global_tokens=queries.prefix if self.global_prefix else 0)
        return super().mix_and_project(fields, mask=own & mask, queries=queries, **named)

    def decode(
        self,
        x: Tensor,
        past: tuple[Tensor, Tensor] | None = None,
        *,
        queries: Tokens,
        keys: Tokens,
        name: str = "attention",
        layer: int = 0,
    ) -> tuple[Tensor, tuple[AttentionCall, ...], tuple[Tensor, Tensor]]:
        """New tokens after a cached past, of which only the last `radius` tokens are kept; the call holds those."""
        if keys.prefix:
            raise UnsupportedMask(
                self.title, f"it decodes without {keys.labels[0]}: its cache holds the last window only"
            )
        labels = queries.labels if past is None else keys.labels[-past[0].shape[-2] - len(queries) :]
        near = Tokens(labels, stream=keys.stream)
        y, calls, (key, value) = super().decode(x, past, queries=queries, keys=near, name=name, layer=layer)
        start = max(0, key.shape[-2] - self.radius)
        return y, calls, (key[..., start:, :], value[..., start:, :])

    def cost(self, n_q: int, n_k: int) -> Cost:
        """As multi-head attention, with windows of s = 2 w + 1 keys: 2 n s d multiply-adds, h n s map entries."""
        state = 4 * 2 * min(n_k, self.radius + 1) * self.kv_heads * self.dim
        return limit_keys(super().cost(n_q, n_k), self, n_q, n_k, 2 * self.radius + 1, state)


class Window2d(MultiHead):
    """The grid is cut into windows, and each patch attends only within its own (Liu et al. 2021, section 3.2).

    `tile` is rows x columns of a window in patches, and `shift` moves the cuts down and right. Swin rolls the image and
    masks across the edge; here windows at the edges are smaller, which is equivalent. So are windows where the size
    does not divide the grid: nothing is padded. Scores get a learned bias for each head and each offset within a window
    (their eq. 4).
    """

    title = "Window attention in tiles"
    paper = "Liu et al. 2021, arXiv 2103.14030"
    formula = r"\mathrm{softmax}_{\mathrm{tile}}\!\left(Q K^\top / \sqrt{d_h} + B_{\Delta r, \Delta c}\right) V"
    meaning = "Row i holds the weights of patch i over the patches of its window; all others are exactly 0."
    supported_masks = frozenset({"keep", "key_padding", "groups"})
    requirements = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        tile: tuple[int, int] = (4, 4),
        shift: tuple[int, int] = (0, 0),
        **options: Any,
    ):
        super().__init__(width, heads, tokens=tokens, **options)
        for size, moved in zip(tile, shift, strict=True):
            if size < 1 or not 0 <= moved < size:
                raise ValueError(
                    f"windows of {size} patches shifted by {moved}; expected 1 or more, shifted by 0 to size - 1"
                )
        self.tile, self.shift = (tile[0], tile[1]), (shift[0], shift[1])
        self.offsets = nn.Parameter(torch.randn(heads, 2 * tile[0] - 1, 2 * tile[1] - 1) * 0.02)

    @classmethod
    def options_for_layer(cls, index: int, tokens: Tokens, options: Mapping[str, Any]) -> dict[str, Any]:
        """Every other layer shifts its windows by half their size, as in Swin, so that patches meet across cuts.

        An axis of the grid that one window covers is not shifted.
        """
        if index % 2 == 0 or tokens.grid is None or "shift" in options:
            return dict(options)
        sides = zip(tokens.grid, options.get("tile", (4, 4)), strict=True)
        return {**options, "shift": tuple(size // 2 if side > size else 0 for side, size in sides)}

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, with a relative position bias."""
        term = WindowBias(self.offsets, *patch_coordinates(queries, x.device))
        return super().project_inputs(x, context, queries, keys) | {"biases": (("relative position bias", term),)}

    def mix_and_project(self, fields: dict[str, Any], *, mask: Mask | None, queries: Tokens, **named: Any) -> Any:
        """As every variant, within the windows."""
        ids = tiles(queries, self.tile, self.shift, fields["query"].device)
        return super().mix_and_project(fields, mask=Mask(groups=(ids, ids)) & mask, queries=queries, **named)

    def cost(self, n_q: int, n_k: int) -> Cost:
        """As multi-head attention, with windows of s patches: 2 n s d multiply-adds, h n s map entries."""
        size = self.tile[0] * self.tile[1]
        return limit_keys(super().cost(n_q, n_k), self, n_q, n_k, size, 0, self.offsets.numel())


def tiles(tokens: Tokens, tile: tuple[int, int], shift: tuple[int, int], device: torch.device) -> Tensor:
    """The window of each patch [token]: cuts at shift, shift + size, ..., and none across an edge."""
    axes = zip(patch_coordinates(tokens, device), tile, shift, strict=True)
    row, column = ((coordinate + size - moved) // size for coordinate, size, moved in axes)
    return row * (int(column.max()) + 1) + column


def limit_keys(full: Cost, variant: MultiHead, n_q: int, n_k: int, size: int, state_bytes: int, added: int = 0) -> Cost:
    """The cost of full attention with `size` keys per query instead of all, and parameters added."""
    size = min(size, n_k)
    return Cost(
        parameters=full.parameters + added,
        multiply_adds=full.multiply_adds - 2 * n_q * (n_k - size) * variant.width,
        map_bytes=4 * variant.heads * n_q * size,
        state_bytes=state_bytes,
    )
