"""Numbers that describe a map and compare two: rank, diversity of heads, similarity, matching heads, errors.

Maps of two models may lie on different grids. `on_one_grid` brings both onto the finer of the two, axis by axis, in
normalised coordinates (a picture reaches from 0 to 1 in each axis): a query takes the rows of the coarse queries it
lies in, by shared area, and the weight of a coarse key is spread over the fine keys it covers: rows keep their sum.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from attnviz.measures.heads import entropy_rows, measure_call
from attnviz.types import AttentionCall, NoTokenMap, Tokens

FLAT = 1e-6  # a map whose departure from its row means is smaller than this share of it has nothing that stands out


def effective_rank(maps: Float[Tensor, "*batch query key"]) -> Float[Tensor, "*batch"]:
    """How many directions a matrix uses: exp of the entropy of its singular values' shares (Roy & Vetterli 2007).

    1 where all rows are multiples of one, n for the identity of n tokens, 0 for a matrix of zeros.
    """
    values = torch.linalg.svdvals(maps.double())
    total = values.sum(-1, keepdim=True)
    shares = values / total.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.special.entr(shares).sum(-1).exp() * (total[..., 0] > 0)


def row_distance(
    one: Float[Tensor, "*batch query key"], other: Float[Tensor, "*batch query key"]
) -> Float[Tensor, "*batch query"]:
    """Jensen-Shannon distance of two rows of weights: 0 for equal rows, 1 for rows that share no key (Lin 1991).

    The root of the divergence in bits. Not a number where one of the rows is empty.
    """
    entropies = [torch.special.entr(rows.double()).sum(-1) for rows in ((one + other) / 2, one, other)]
    divergence = (entropies[0] - (entropies[1] + entropies[2]) / 2) / np.log(2)
    empty = (one.sum(-1) == 0) | (other.sum(-1) == 0)
    return divergence.clamp(0, 1).sqrt().masked_fill(empty, float("nan"))


@torch.no_grad()
def head_diversity(weights: Float[Tensor, "head query key"]) -> float:
    """Head diversity: mean Jensen-Shannon distance over rows and pairs of heads, 0 if equal, 1 if disjoint.

    Rows must sum to 1; empty rows are left out. Not a number where there is only one head.
    """
    sums = weights.sum(-1)
    if (weights < 0).any() or not (((sums - 1).abs() < 1e-3) | (sums == 0)).all():
        raise ValueError("head diversity compares distributions: the rows of the map must sum to 1")
    pairs = [row_distance(weights[a], weights[b]).nanmean() for a, b in combinations(range(len(weights)), 2)]
    return float(torch.stack(pairs).nanmean()) if pairs else float("nan")


def overlap(old: int, new: int) -> Float[Tensor, "old new"]:
    """How much of each of `new` equal parts of a length lies in each of `old` equal parts; columns sum to one."""
    edges = [torch.arange(count + 1, dtype=torch.float64) / count for count in (old, new)]
    stop = torch.minimum(edges[0][1:, None], edges[1][None, 1:])
    start = torch.maximum(edges[0][:-1, None], edges[1][None, :-1])
    return (stop - start).clamp_min(0) * new


def shape_of(tokens: Tokens) -> tuple[int, int]:
    """Rows and columns of the tokens after the prefix; tokens in a line are one row."""
    return tokens.grid or (1, len(tokens) - tokens.prefix)


def resample(
    maps: Float[Tensor, "*batch query key"], tokens: Tokens, grid: tuple[int, int]
) -> Float[Tensor, "*batch new_query new_key"]:
    """A map of `tokens` onto itself, moved to another grid; the prefix is left out.

    Queries are averaged and keys are split by shared area, so that a row of weights keeps its sum over the patches.
    """
    if maps.shape[-2:] != (len(tokens), len(tokens)):
        raise ValueError(f"the map is {tuple(maps.shape)} but there are {len(tokens)} tokens")
    maps = maps[..., tokens.prefix :, tokens.prefix :]
    rows, columns = shape_of(tokens)
    if (rows, columns) == grid:
        return maps
    down, across = (overlap(old, new).to(maps) for old, new in zip((rows, columns), grid, strict=True))
    maps = maps.unflatten(-1, (rows, columns)).unflatten(-3, (rows, columns))  # [*batch row column key_row key_column]
    spread_down, spread_across = down / down.sum(1, keepdim=True), across / across.sum(1, keepdim=True)
    maps = torch.einsum("...rckl,rR,cC,kK,lL->...RCKL", maps, down, across, spread_down, spread_across)
    return maps.flatten(-2).flatten(-3, -2)


def on_one_grid(
    one: Float[Tensor, "head query key"],
    other: Float[Tensor, "other_head other_query other_key"],
    tokens: Tokens | None = None,
    other_tokens: Tokens | None = None,
) -> tuple[Tensor, Tensor]:
    """Both maps on the finer grid, axis by axis; maps of one shape need no tokens and then keep everything."""
    if tokens is None or other_tokens is None:
        if one.shape[-2:] != other.shape[-2:]:
            raise ValueError(f"maps of {tuple(one.shape[-2:])} and {tuple(other.shape[-2:])} need their tokens")
        return one, other
    if (tokens.grid is None) != (other_tokens.grid is None):
        raise ValueError("maps of patches and of words have no common positions")
    (rows, columns), (other_rows, other_columns) = shape_of(tokens), shape_of(other_tokens)
    grid = (max(rows, other_rows), max(columns, other_columns))
    return resample(one, tokens, grid), resample(other, other_tokens, grid)


@torch.no_grad()
def similarities(
    one: Float[Tensor, "head query key"],
    other: Float[Tensor, "other_head other_query other_key"],
    tokens: Tokens | None = None,
    other_tokens: Tokens | None = None,
) -> Float[np.ndarray, "head other_head"]:
    """Correlation of every head of one map with every head of another, from -1 to 1; 1 = the same pattern.

    Each row's mean is taken away first, so that two maps are alike by what stands out in them and not because both
    spread their weight. A flat map has nothing that stands out: it is 1 like another flat map and 0 like any other.
    """
    one, other = on_one_grid(one, other, tokens, other_tokens)
    departures, flat = [], []
    for maps in (one, other):
        maps = maps.double()
        departure = (maps - maps.mean(-1, keepdim=True)).flatten(1)
        length = departure.norm(dim=1, keepdim=True)
        flat.append(length[:, 0] <= FLAT * maps.flatten(1).norm(dim=1))
        departures.append(departure / length.clamp_min(torch.finfo(torch.float64).tiny))
    found = (departures[0] @ departures[1].T).clamp(-1, 1)
    found = found.masked_fill(flat[0][:, None] | flat[1][None], 0)
    return found.masked_fill(flat[0][:, None] & flat[1][None], 1).cpu().numpy()


def match_heads(
    one: Float[Tensor, "head query key"],
    other: Float[Tensor, "other_head other_query other_key"],
    tokens: Tokens | None = None,
    other_tokens: Tokens | None = None,
) -> list[tuple[int, float]]:
    """For each head of one map the head of the other that is most like it, and how much; one may be chosen twice."""
    table = similarities(one, other, tokens, other_tokens)
    return [(int(row.argmax()), float(row.max())) for row in table]


def assign_heads(
    one: Float[Tensor, "head query key"],
    other: Float[Tensor, "other_head other_query other_key"],
    tokens: Tokens | None = None,
    other_tokens: Tokens | None = None,
) -> list[tuple[int, int, float]]:
    """Heads of two maps in pairs, each used once, so that the sum of similarities is largest (Kuhn 1955)."""
    table = similarities(one, other, tokens, other_tokens)
    heads, others = linear_sum_assignment(table, maximize=True)
    return [(int(a), int(b), float(table[a, b])) for a, b in zip(heads, others, strict=True)]


def difference(
    one: Float[Tensor, "head query key"],
    other: Float[Tensor, "head other_query other_key"],
    tokens: Tokens | None = None,
    other_tokens: Tokens | None = None,
) -> Float[Tensor, "head new_query new_key"]:
    """One map minus another, head by head, on the finer grid: signed, and rows of two weights sum to zero."""
    one, other = on_one_grid(one, other, tokens, other_tokens)
    return one - other


class Error(NamedTuple):
    """How far a formula is from another on the same query, key and value: ||A - B|| / ||B||, Frobenius, by head."""

    map: Float[np.ndarray, "*batch head"] | None  # None where one of them has no token map
    output: Float[np.ndarray, "*batch head"]


@torch.no_grad()
def relative_error(call: AttentionCall, exact: AttentionCall) -> Error:
    """Error of a call's map and output against exact attention, for example `call.with_rule(Softmax())`.

    By row blocks, so that memory stays linear in tokens. Whether a formula is meant as an approximation at all is for
    the caller to know: one that is not deserves no score.
    """
    if call.output is None or exact.output is None:
        raise ValueError(f"{call.name} recorded no output, so its error is not known")
    output = (call.output - exact.output).double().flatten(-2).norm(dim=-1)
    size = exact.output.double().flatten(-2).norm(dim=-1)
    wrong, whole = torch.zeros_like(size), torch.zeros_like(size)
    try:
        for rows in exact.blocks():
            true = exact.token_map(rows=rows).double()
            wrong = wrong + (call.token_map(rows=rows) - true).square().sum((-1, -2))
            whole = whole + true.square().sum((-1, -2))
    except NoTokenMap:
        return Error(None, (output / size).cpu().numpy())
    return Error((wrong / whole).sqrt().cpu().numpy(), (output / size).cpu().numpy())


@torch.no_grad()
def describe(call: AttentionCall) -> dict[str, float | None]:
    """Numbers of one call, heads averaged; None where one is not defined for its map.

    `rank`: effective rank. `entropy` (as a share of log n), `diversity` and `distance` (in patches) need rows of
    weights, `distance` also needs queries and keys to be the same tokens.
    """
    found: dict[str, float | None] = dict.fromkeys(("entropy", "distance", "rank", "diversity"))
    try:
        whole = call.token_map().detach()
    except NoTokenMap:
        return found
    found["rank"] = float(effective_rank(whole).mean())
    if call.rule.stochastic:
        found["diversity"] = head_diversity(whole) if call.heads > 1 else None
        if call.queries == call.keys:
            measured = measure_call(call)
            found |= {name: float(measured[name].mean()) for name in ("entropy", "distance")}
        else:
            found["entropy"] = float(entropy_rows(whole, call.keys, torch.arange(len(call.queries))).mean())
    return found
