"""Attention of the MobileViT networks: between pixels of equal phase, and by one shared row of context scores.

Cut a grid into patches of a few rows and columns: the pixels at one position within their patches are one *phase*. The
tokens of a grid are its pixels here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax, at_least_float32, expand_kv, full_precision
from attnviz.attention.variants.base import Cost, Variant
from attnviz.attention.variants.multihead import MultiHead
from attnviz.attention.variants.projections import refuse_unsupported
from attnviz.types import AttentionCall, MapType, Mask, NamedMap, Stage, Tokens, UnsupportedMask

Grid = tuple[int, int]  # rows, columns


def unfold(
    pixels: Float[Tensor, "*batch pixel feature"], grid: Grid, patch: Grid
) -> Float[Tensor, "*batch phase patch feature"]:
    """Pixels in raster order as one sequence of patches per phase (Mehta & Rastegari 2022, section 3.1)."""
    (rows, columns), (high, wide) = grid, patch
    blocks = pixels.unflatten(-2, (rows // high, high, columns // wide, wide))
    return blocks.transpose(-4, -3).movedim((-3, -2), (-5, -4)).flatten(-3, -2).flatten(-4, -3)


def fold(
    phases: Float[Tensor, "*batch phase patch feature"], grid: Grid, patch: Grid
) -> Float[Tensor, "*batch pixel feature"]:
    """Pixels in raster order again: the inverse of unfold."""
    (rows, columns), (high, wide) = grid, patch
    blocks = phases.unflatten(-2, (rows // high, columns // wide)).unflatten(-4, (high, wide))
    # [.. high wide rows columns feature] -> [.. rows high columns wide feature]
    return blocks.movedim((-5, -4), (-4, -2)).flatten(-5, -2)


@lru_cache(maxsize=64)
def phase_ids(grid: Grid, patch: Grid) -> Int[Tensor, " pixel"]:
    """The phase of every pixel of the grid, in raster order."""
    row, column = torch.arange(grid[0]) % patch[0], torch.arange(grid[1]) % patch[1]
    return (row[:, None] * patch[1] + column).flatten()


def checked_patch(patch: Any) -> Grid:
    """Rows and columns of a patch. Raises ValueError for anything else: a single number could be a side or an area."""
    if not isinstance(patch, Sequence) or len(patch) != 2 or not all(isinstance(p, int) and p > 0 for p in patch):
        raise ValueError(f"patch is {patch!r}; give its rows and columns, such as (2, 2)")
    return patch[0], patch[1]


def check_grid(title: str, tokens: Tokens, patch: Grid) -> None:
    """Raise UnsupportedMask where the patches do not cover the grid of the tokens exactly."""
    if tokens.grid and (tokens.grid[0] % patch[0] or tokens.grid[1] % patch[1]):
        (rows, columns), (high, wide) = tokens.grid, patch
        raise UnsupportedMask(
            title, f"it cannot cut a grid of {rows} x {columns} into whole patches of {high} x {wide}"
        )


def mask_phases(mask: Mask | None, tokens: Tokens, patch: Grid) -> Mask | None:
    """The caller's mask, with attention only between pixels of equal phase."""
    if patch == (1, 1) or tokens.grid is None:
        return mask
    ids = phase_ids(tokens.grid, patch)
    return Mask(groups=(ids, ids)) & mask


@dataclass(frozen=True)
class PhaseSoftmax(Softmax):
    """Softmax between pixels of equal phase; its native map is one square per phase."""

    caveat: str = (
        "Pixels attend only to pixels at the same position within their patch, so the map is zero elsewhere. "
        "Convolutions around the attention mix neighbours as well, and this map leaves them out."
    )

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One map of patches by patches for each phase: together n² / phases weights a head."""
        if call.mask is None or call.mask.groups is None:
            return super().maps(call)
        phases = call.mask.groups[0]
        members = [(phases == p).nonzero().flatten().tolist() for p in phases.unique().tolist()]
        squares = [call.weights(rows=rows)[..., rows] for rows in members]
        axes = ("head", "phase", "query patch", "key patch")
        return {"weights by phase": NamedMap(torch.stack(squares, -3), axes, self.map_type, self.stochastic)}


class PhaseVariant(Variant):
    """A variant with attention between pixels of equal phase only."""

    patch: tuple[int, int]

    def check(self, mask: Mask | None, cross: bool, queries: Tokens, keys: Tokens) -> None:
        """Refuse also a grid that the patches do not divide: nothing is padded or resized silently."""
        super().check(mask, cross, queries, keys)
        check_grid(self.title, queries, self.patch)

    def mix_and_project(self, fields: dict[str, Any], **named: Any) -> tuple[Tensor, tuple[AttentionCall, ...]]:
        """As every variant, with attention restricted to equal phases."""
        named["mask"] = mask_phases(named.get("mask"), named["queries"], self.patch)
        return super().mix_and_project(fields, **named)


class MobileViT2d(PhaseVariant, MultiHead):
    """Every pixel attends to the pixels at the same position within their patches, and to no others.

    MobileViT v1 (Mehta & Rastegari 2022). Phases do not mix here: in the full network the 3 x 3 convolutions mix them.
    """

    title = "MobileViT attention"
    paper = "Mehta & Rastegari 2022, arXiv 2110.02178"
    formula = r"\mathrm{softmax}\!\left(Q_p K_p^\top / \sqrt{d_h}\right) V_p \quad \text{for each pixel phase } p"
    meaning = (
        "Row i holds the weights of pixel i over the pixels at the same position within their patches; "
        "it sums to 1 and is zero everywhere else."
    )
    supported_masks = frozenset({"keep", "key_padding"})
    requirements = frozenset({"grid"})
    supports_options = False

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, patch: Any = (2, 2), bias: bool = True):
        super().__init__(width, heads, tokens=tokens, bias=bias)
        self.patch, self.rule = checked_patch(patch), PhaseSoftmax()

    def cost(self, n_q: int, n_k: int) -> Cost:
        """As multi-head attention, but each query attends to the keys of its phase only: n² / phases."""
        whole, phases = super().cost(n_q, n_k), self.patch[0] * self.patch[1]
        products = 2 * n_q * n_k * self.width
        return Cost(
            parameters=whole.parameters,
            multiply_adds=whole.multiply_adds - products + products // phases,
            map_bytes=whole.map_bytes // phases,
            state_bytes=0,
        )


@dataclass(frozen=True)
class ContextScores(Softmax):
    """One row of weights, shared by all queries: a softmax over one learned score per token.

    In the call: query = ones, key = score, value = K, gate = ReLU(V). Scores and weights are those of Softmax with
    queries of 1.
    """

    title = "Separable attention"
    map_type: MapType = "context scores"
    caveat: str = (
        "All queries share one row (one for each pixel phase), whose weights apply to the keys K. The values V enter "
        "afterwards, as the gate ReLU(V)."
    )

    def check(self, call: AttentionCall) -> None:
        """Raise UnsupportedMask for a call with more than one score for each token, or a mask that differs by query."""
        refuse_unsupported(call, self.title, {"key_padding", "groups"})
        if call.key.shape[-1] != 1:
            raise UnsupportedMask(self.title, f"it reads one score for each token, not {call.key.shape[-1]} numbers")
        if call.mask is not None and call.mask.groups is not None and max(ids.ndim for ids in call.mask.groups) > 1:
            raise UnsupportedMask(self.title, "it needs equal groups for all heads")

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]: every row is the row of context scores."""
        self.check(call)
        return super().scores(replace(call, query=torch.ones_like(call.query[..., :1])), heads, rows, stage)

    def phase_rows(self, call: AttentionCall) -> tuple[Float[Tensor, "*batch head phase key"], Int[Tensor, " query"]]:
        """The row of weights of each phase, and the phase of each query; never n x n."""
        self.check(call)
        heads = list(range(call.heads))
        scores = (at_least_float32(expand_kv(call.key, call, heads)) * call.scale_of(heads))[..., 0]
        member = torch.ones(1, scores.shape[-1], dtype=torch.bool, device=scores.device)
        phase = torch.zeros(call.query.shape[-2], dtype=torch.long, device=scores.device)
        if call.mask is not None and call.mask.groups is not None:
            queries, keys = (ids.to(scores.device) for ids in call.mask.groups)
            ids, phase = queries.unique(return_inverse=True)
            member = ids[:, None] == keys
        if call.mask is not None and call.mask.key_padding is not None:
            member = member & call.mask.key_padding[..., None, None, :]
        empty = ~member.any(-1, keepdim=True)
        scores = scores[..., None, :].masked_fill(~member, float("-inf")).masked_fill(empty, 0)
        return scores.softmax(-1).masked_fill(empty, 0), phase

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """The rows of weights, and the gate of the output."""
        rows, _ = self.phase_rows(call)
        found = {"context scores": NamedMap(rows, ("head", "phase", "key"), self.map_type, self.stochastic)}
        if call.gate is not None:
            found["gate"] = NamedMap(call.gate, ("head", "query", "dim"), "channel", False)
        return found

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (row of the phase @ value) [*batch head query value_dim], in n d operations."""
        rows, phase = self.phase_rows(call)
        value = at_least_float32(expand_kv(call.value, call, list(range(call.heads))))
        context = (rows @ value).to(call.value.dtype)  # [*batch head phase value_dim]
        return call.gated(context[..., phase, :])


class Separable(PhaseVariant):
    """Keys are summed once, weighted by one learned score per token, and each token multiplies that sum by its gate.

    MobileViT v2 (Mehta & Rastegari 2022b, section 3.1): there are no scores of token pairs, so the cost is linear.
    """

    title = "Separable attention"
    paper = "Mehta & Rastegari 2022, arXiv 2206.02680"
    formula = r"\Big(\mathrm{ReLU}(V) \odot \sum_j \mathrm{softmax}_j(x w)_j \, K_j\Big) W_O"
    meaning = (
        "All queries share one row of context scores: the weight of each token in a common sum of keys. "
        "The gate of a token selects what it receives from that sum."
    )
    supported_masks = frozenset({"key_padding", "prefix"})

    def __init__(
        self, width: int, heads: int = 1, *, tokens: Tokens | None = None, patch: Any = (1, 1), bias: bool = True
    ):
        super().__init__(width, 1, tokens=tokens)  # it has one head, whatever number is requested
        self.patch, self.rule = checked_patch(patch), ContextScores()
        if self.patch != (1, 1):
            self.supported_masks, self.requirements = frozenset({"key_padding"}), frozenset({"grid"})
        self.score = nn.Linear(width, 1, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Ones as query, the context score as key, K as value, ReLU(V) as gate."""
        score = self.score(context)[..., None, :, :]  # [*batch head token 1]
        value, gate = self.key(context)[..., None, :, :], self.value(x).relu()[..., None, :, :]
        return {"query": torch.ones_like(score), "key": score, "value": value, "gate": gate}

    def cost(self, n_q: int, n_k: int) -> Cost:
        """3 d² + d parameters and biases; n (3 d² + d) + 2 n d multiply-adds; maps: n context scores and the gate."""
        d = self.width
        return Cost(
            parameters=3 * d * d + d + (0 if self.out.bias is None else 3 * d + 1),
            multiply_adds=2 * n_q * d * d + n_k * (d * d + d) + (n_q + n_k) * d,
            map_bytes=4 * (n_k + n_q * d),
            state_bytes=0,
        )
