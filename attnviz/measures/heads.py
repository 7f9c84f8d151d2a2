"""Measures of attention heads: attention distance, entropy, and the weight on CLS and registers, itself or neighbours.

Every measure is a mean over patch queries; the rows of CLS and registers are not counted. Where tokens have no grid,
the distance is in positions of the sequence. To add a measure: one function of rows and one line in MEASURES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.measures.blocks import spread
from attnviz.types import AttentionCall, Tokens, block_size


@dataclass(frozen=True)
class Measure:
    """One number about a head: what it is called, how it is printed, what finds it, and how it is computed."""

    title: str
    unit: str  # "patches", "%", or "" for a plain number
    low: str  # what the head with the smallest value is called, for a button; empty where none is needed
    high: str
    rows: Callable[[Tensor, Tokens, Tensor], Tensor]  # weights [head row key], tokens, rows -> [head row]


def attention_distance(
    weights: Float[Tensor, "head query key"], tokens: Tokens, patch: float = 1.0
) -> Float[Tensor, " head"]:
    """Mean attention distance of each head (Dosovitskiy et al. 2021, figure 11): sum_j A_ij * patch * |pos_i - pos_j|.

    Rows are renormalised after the prefix is dropped, since CLS and registers have no position; `prefix_mass` is the
    weight dropped. `patch` is the side of a patch: 1 gives patch widths, the model's own patch size gives pixels.
    """
    return patch * mean_of_patch_rows(distance_rows, weights, tokens)


def prefix_mass(weights: Float[Tensor, "head query key"], tokens: Tokens) -> Float[Tensor, " head"]:
    """Mean weight of each head on CLS and registers."""
    return mean_of_patch_rows(prefix_rows, weights, tokens)


def entropy(weights: Float[Tensor, "head query key"], tokens: Tokens) -> Float[Tensor, " head"]:
    """Entropy of each head's rows in nats, divided by log n: 0 attends to one token, 1 to all n equally."""
    return mean_of_patch_rows(entropy_rows, weights, tokens)


def self_mass(weights: Float[Tensor, "head query key"], tokens: Tokens) -> Float[Tensor, " head"]:
    """Mean weight of each head on the diagonal: from a patch to itself."""
    return mean_of_patch_rows(self_rows, weights, tokens)


def neighbour_mass(weights: Float[Tensor, "head query key"], tokens: Tokens) -> Float[Tensor, " head"]:
    """Mean weight of each head on the adjacent patches: up to eight, diagonals included."""
    return mean_of_patch_rows(neighbour_rows, weights, tokens)


def uniform_distance(grid: tuple[int, int]) -> float:
    """The mean distance of two random patches: the attention distance of a uniform head.

    Offsets are counted by how many pairs of patches have them, so that memory grows with the patches alone.
    """
    down, right = (torch.arange(1 - side, side, dtype=torch.float64) for side in grid)
    pairs = (grid[0] - down.abs())[:, None] * (grid[1] - right.abs())  # [down right]
    return float((pairs * torch.hypot(down[:, None], right)).sum() / pairs.sum())


def mean_of_patch_rows(
    rows: Callable[[Tensor, Tokens, Tensor], Tensor], weights: Float[Tensor, "head query key"], tokens: Tokens
) -> Float[Tensor, " head"]:
    """One row measure averaged over the patch queries of whole matrices."""
    if weights.shape[-2:] != (len(tokens), len(tokens)):
        raise ValueError(f"weights are {tuple(weights.shape)} but there are {len(tokens)} tokens")
    patches = torch.arange(tokens.prefix, len(tokens), device=weights.device)
    return rows(weights[..., tokens.prefix :, :], tokens, patches).nanmean(-1)


def patch_offsets(tokens: Tokens, rows: Int[Tensor, " row"] | None = None) -> Float[Tensor, "row patch axis"]:
    """Offset from each query row's patch to every patch, in patch widths."""
    count = len(tokens) - tokens.prefix
    index = torch.arange(count)
    columns = tokens.grid[1] if tokens.grid else count
    places = torch.stack([index // columns, index % columns], -1).to(torch.float64)  # [patch axis]
    own = places if rows is None else places[rows.cpu() - tokens.prefix]
    return places[None] - own[:, None]


def distance_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]; not a number where all of a row's weight lies on the prefix."""
    distances = patch_offsets(tokens, rows).norm(dim=-1).to(weights)  # [row patch]
    patches = weights[..., tokens.prefix :]
    return (patches * distances).sum(-1) / patches.sum(-1)


def prefix_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]: the weight on the first `prefix` keys."""
    return weights[..., : tokens.prefix].sum(-1)


def entropy_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row], with 0 log 0 = 0."""
    return torch.special.entr(weights).sum(-1) / np.log(len(tokens))


def self_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]: the entry on the diagonal."""
    return weights.gather(-1, rows[:, None].expand(*weights.shape[:-1], 1))[..., 0]


def neighbour_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]: the weight on patches one step away, diagonal steps included."""
    steps = patch_offsets(tokens, rows).abs().amax(-1)  # [row patch]
    return (weights[..., tokens.prefix :] * (steps == 1).to(weights)).sum(-1)


MEASURES: dict[str, Measure] = {
    "distance": Measure("Mean attention distance", "patches", "Most local", "Most global", distance_rows),
    "entropy": Measure("Attention entropy / log n", "", "Sharpest", "", entropy_rows),
    "prefix": Measure("Attention to CLS and registers", "%", "", "Most on CLS and registers", prefix_rows),
    "self": Measure("Attention to itself", "%", "", "", self_rows),
    "neighbours": Measure("Attention to neighbours", "%", "", "", neighbour_rows),
}


def measure_call(call: AttentionCall, most: int | None = None) -> dict[str, np.ndarray]:
    """Every measure of every head of one call, name -> [head], by row blocks so that memory stays linear in tokens.

    `most`: over so many query rows at most, spread evenly; None = all of them.
    """
    tokens, count = call.keys, len(call.queries)
    found: dict[str, list[Tensor]] = {name: [] for name in MEASURES}
    chosen = spread(tokens.prefix, count, count if most is None else most)
    size = block_size(2 * call.heads, len(call.keys))  # in float64
    for start in range(0, len(chosen), size):
        patches = chosen[start : start + size]
        weights = call.token_map(rows=patches).to(torch.float64)
        for name, measure in MEASURES.items():
            found[name].append(measure.rows(weights, tokens, torch.tensor(patches, device=weights.device)))
    return {name: torch.cat(rows, -1).nanmean(-1).cpu().numpy() for name, rows in found.items()}


def measure_heads(
    calls: Sequence[AttentionCall], most: int | None = None
) -> dict[str, Float[np.ndarray, "layer head"]]:
    """Every measure of every head of a trace, `most` as in `measure_call`; heads a layer does not have are NaN."""
    each = [measure_call(call, most) for call in calls]
    table = {name: np.full((len(calls), max(c.heads for c in calls)), np.nan) for name in MEASURES}
    for layer, values in enumerate(each):
        for name, row in values.items():
            table[name][layer, : len(row)] = row
    return table


def ranking(values: Float[np.ndarray, "layer head"], descending: bool = False) -> list[tuple[int, int]]:
    """(layer, head) in order of a measure; missing heads are left out and ties keep network order."""
    flat = np.where(np.isnan(values), np.inf, -values if descending else values).ravel()
    order = [i for i in np.argsort(flat, kind="stable") if not np.isnan(values.flat[i])]
    return [(int(i) // values.shape[1], int(i) % values.shape[1]) for i in order]


def value_weighted(call: AttentionCall, heads: Sequence[int], rows: Sequence[int]) -> Float[Tensor, "head row key"]:
    """Weights times the norm of the projected value, |v_j W_O|, normalised by row (Kobayashi et al. 2020).

    A large weight on a value of norm 0 contributes nothing: where the two differ, this is the better measure.
    """
    value = call.value[call.kv_heads_of(heads)]  # [head key value_dim]
    if call.projection is not None:
        value = value @ call.projection[list(heads)]  # [head key feature]
    moved = call.token_map(heads, rows) * value.norm(dim=-1)[:, None]
    return moved / moved.sum(-1, keepdim=True).clamp_min(1e-12)


def drop_prefix(row: Float[Tensor, "*map key"], prefix: int) -> tuple[Float[Tensor, "*map patch"], Tensor]:
    """Weights over the patches alone, renormalised to sum to 1, and the weight that was dropped [*map]."""
    kept = row[..., prefix:]
    return kept / kept.sum(-1, keepdim=True).clamp_min(1e-12), row[..., :prefix].sum(-1)
