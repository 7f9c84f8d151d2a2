"""Relative positions: nothing is added to the tokens; the scores of each layer depend on distances instead.

To add a scheme: a `Relative` whose `apply_to` puts positions into the fields of an attention call, and one line in
POSITIONS with `relative`. Prefix tokens have no position: biases are 0 for their pairs, and `Rotary` does not rotate
them, so that a pair of one of them and a patch depends on the patch's rotation alone. The queries of a call are the
last of its keys, which is where new tokens are while decoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnviz.attention.rules.softmax import at_least_float32, select
from attnviz.attention.rules.values import with_distance_values
from attnviz.types import AttentionCall, Bias, Tokens, UnsupportedMask


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The positions of the keys of a call: (row, column) on a grid, else one number. Kept in main memory."""

    values: Float[Tensor, "key axis"]
    defined: Bool[Tensor, " key"]  # False for prefix tokens
    queries: int  # how many of the last keys are queries

    def offsets(self, rows: list[int], device: torch.device) -> Float[Tensor, "row key axis"]:
        """Position of the key minus position of the query."""
        values = self.values.to(device)
        return values[None] - values[-self.queries :][rows][:, None]

    def valid(self, rows: list[int], device: torch.device) -> Bool[Tensor, "row key"]:
        """Whether query and key both have a position."""
        defined = self.defined.to(device)
        return defined[None] & defined[-self.queries :][rows][:, None]


@dataclass(frozen=True, eq=False)
class AlibiBias:
    """ALiBi's bias: minus the slope of each head times the distance."""

    coordinates: Coordinates
    slopes: Float[Tensor, " head"]

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[head row key]."""
        device = call.query.device
        offsets, valid = self.coordinates.offsets(rows, device), self.coordinates.valid(rows, device)
        distance = torch.linalg.vector_norm(offsets, dim=-1) * valid
        return -self.slopes.to(device)[heads, None, None] * distance


@dataclass(frozen=True, eq=False)
class ClippedDistance:
    """The row of Shaw's table for each pair: its distance, clipped to `clip` on either side."""

    coordinates: Coordinates
    clip: int

    def __call__(self, rows: list[int], device: torch.device) -> Int[Tensor, "row key"]:
        """One past the table for pairs without a distance."""
        clipped = self.coordinates.offsets(rows, device)[..., 0].long().clamp(-self.clip, self.clip) + self.clip
        return clipped.masked_fill(~self.coordinates.valid(rows, device), 2 * self.clip + 1)


@dataclass(frozen=True, eq=False)
class ShawBias:
    """Shaw's bias: scale * query_i · table[clipped distance of key j]."""

    index: ClippedDistance
    table: Float[Tensor, "distance dim"]

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        query = select(call.query, heads, rows)
        by_distance = F.pad(query @ self.table.to(query).T, (0, 1))
        index = self.index(rows, query.device).expand(*by_distance.shape[:-1], len(call.keys))
        return by_distance.gather(-1, index) * call.scale_of(heads)


@dataclass(frozen=True, eq=False)
class T5Bias:
    """T5's bias: one learned number for each head and bucket of distances."""

    coordinates: Coordinates
    table: Float[Tensor, "head bucket"]
    longest: int
    causal: bool

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[head row key]."""
        device = call.query.device
        offset = self.coordinates.offsets(rows, device)[..., 0].long()
        bucket = t5_bucket(offset, self.table.shape[-1], self.longest, causal=self.causal)
        return self.table.to(device)[heads][:, bucket] * self.coordinates.valid(rows, device)


class Relative(nn.Module):
    """A scheme of relative positions: scores depend on the distance between two tokens."""

    title: str
    two_dimensional = False  # uses rows and columns of a grid; else patches are numbered in raster order

    def __init__(self, heads: int, dim: int, *, tokens: Tokens | None = None):
        super().__init__()
        self.heads, self.dim = heads, dim
        self.for_grid = tokens is not None and tokens.grid is not None

    def forward(self, fields: dict[str, Any], queries: Tokens, keys: Tokens, positions: str = "own") -> dict[str, Any]:
        """The fields of a call with positions applied: "own", "none" or "shuffled" (permuted) ones."""
        if positions == "none":
            return fields
        return self.apply_to(fields, self.coordinates(queries, keys, positions))

    def apply_to(self, fields: dict[str, Any], coordinates: Coordinates) -> dict[str, Any]:
        """New fields of a call, with the positions of its tokens applied."""
        raise NotImplementedError

    def coordinates(self, queries: Tokens, keys: Tokens, positions: str) -> Coordinates:
        """The positions of the keys. Raises UnsupportedMask for patches without a grid."""
        if self.for_grid and keys.grid is None:
            raise UnsupportedMask(self.title, "it needs the position of every patch, and these tokens have no grid")
        count = len(keys) - keys.prefix
        values = torch.arange(count, dtype=torch.float32)[:, None]
        if self.two_dimensional and self.for_grid and keys.grid is not None:
            values = torch.cat([values // keys.grid[1], values % keys.grid[1]], -1)
        if positions == "shuffled":
            values = values[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
        elif positions != "own":
            raise ValueError(f"positions is {positions!r}; known: own, none, shuffled")
        values = torch.cat([values.new_zeros(keys.prefix, values.shape[-1]), values])
        return Coordinates(values, torch.arange(len(keys)) >= keys.prefix, len(queries))


class Rotary(Relative):
    """Queries and keys are rotated by angles that grow with their position, so scores depend on the distance alone.

    RoPE (Su et al. 2021, arXiv 2104.09864, eq. 15): pair i of the channels is rotated by position * base^(-2i / d).
    Channels i and i + d/2 are a pair. On a grid the first half of the channels rotates by row, the second by column;
    channels left without a pair are not rotated.
    """

    title = "Rotary"
    two_dimensional = True

    def __init__(self, heads: int, dim: int, *, tokens: Tokens | None = None, base: float = 1e4):
        super().__init__(heads, dim, tokens=tokens)
        if base <= 0:
            raise ValueError(f"the base of rotary positions is {base}, expected a number above 0")
        self.axes, self.base = 2 if self.for_grid else 1, base
        self.waves = dim // (2 * self.axes)  # for each axis
        if not self.waves:
            raise ValueError(f"rotary positions need {2 * self.axes} channels a head, got {dim}")

    def apply_to(self, fields: dict[str, Any], coordinates: Coordinates) -> dict[str, Any]:
        """Query and key rotated, values unchanged. Rotation keeps lengths, so unit queries and keys stay unit."""
        positions = coordinates.values  # zero for prefix tokens, which are not rotated
        key = self.rotate(fields["key"], positions)
        return {**fields, "query": self.rotate(fields["query"], positions[-coordinates.queries :]), "key": key}

    def rotate(
        self, x: Float[Tensor, "*batch head token dim"], positions: Float[Tensor, "token axis"]
    ) -> Float[Tensor, "*batch head token dim"]:
        """Every pair of channels rotated by its angle."""
        angles = positions.double()[..., None] * frequencies(self.waves, self.base)  # [token axis wave]
        wide, paired = at_least_float32(x), 2 * self.axes * self.waves
        whole = paired == wide.shape[-1]  # the usual case, without a slice and its gradient
        cos, sin = (wave.to(wide.dtype).to(x.device) for wave in (angles.cos(), angles.sin()))
        pairs = (wide if whole else wide[..., :paired]).unflatten(-1, (self.axes, 2, self.waves))
        first, second = pairs.unbind(-2)  # [*batch head token axis wave]
        rotated = torch.stack([first * cos - second * sin, second * cos + first * sin], -2).flatten(-3)
        return (rotated if whole else torch.cat([rotated, wide[..., paired:]], -1)).to(x.dtype)


class Alibi(Relative):
    """Each head subtracts its own slope times the distance from the scores.

    Press et al. 2021, arXiv 2108.12409. Distance is abs(i - j); on a grid it is Euclidean, in patches. `strength`
    multiplies all slopes; 0 disables the scheme.
    """

    title = "ALiBi"
    two_dimensional = True
    slopes: Tensor

    def __init__(self, heads: int, dim: int, *, tokens: Tokens | None = None, strength: float = 1.0):
        super().__init__(heads, dim, tokens=tokens)
        self.register_buffer("slopes", strength * alibi_slopes(heads).float(), persistent=False)

    def apply_to(self, fields: dict[str, Any], coordinates: Coordinates) -> dict[str, Any]:
        """Adds one bias."""
        return with_bias(fields, "ALiBi", AlibiBias(coordinates, self.slopes))


class Shaw(Relative):
    """Every distance, up to a limit, has a learned vector that is added to the keys at that distance.

    Shaw et al. 2018, arXiv 1803.02155, eq. 3 and 4: e_ij = q_i . (k_j + a_clip(j-i)) / sqrt(d_h), one table for all
    heads. Patches are numbered in raster order. With `values`, learned vectors are added to the values as well.
    """

    title = "Shaw"
    value_table: nn.Parameter | None

    def __init__(self, heads: int, dim: int, *, tokens: Tokens | None = None, clip: int = 16, values: bool = False):
        super().__init__(heads, dim, tokens=tokens)
        if clip < 0:
            raise ValueError(f"distances are clipped to {clip}, expected 0 or more")
        self.clip = clip
        self.key_table = nn.Parameter(torch.randn(2 * clip + 1, dim) * 0.02)
        self.register_parameter("value_table", nn.Parameter(torch.randn(2 * clip + 1, dim) * 0.02) if values else None)

    def apply_to(self, fields: dict[str, Any], coordinates: Coordinates) -> dict[str, Any]:
        """Adds a bias from query and distance; with `values`, also a rule that adds vectors to the values."""
        index = ClippedDistance(coordinates, self.clip)
        fields = with_bias(fields, "Shaw", ShawBias(index, self.key_table))
        if self.value_table is None:
            return fields
        return {**fields, "rule": with_distance_values(fields["rule"], self.value_table, index)}


class T5Buckets(Relative):
    """Every head learns a bias for each bucket of distances: exact for near tokens, logarithmic for far ones.

    Raffel et al. 2019, arXiv 1910.10683, section 2.1. Patches are numbered in raster order. T5 does not divide its
    scores by the root of d_h and shares one table between all layers; here scores are scaled as in their variant, and
    every layer has its own table.
    """

    title = "T5 buckets"

    def __init__(
        self,
        heads: int,
        dim: int,
        *,
        tokens: Tokens | None = None,
        buckets: int = 32,
        longest: int = 128,
        causal: bool = False,
    ):
        super().__init__(heads, dim, tokens=tokens)
        t5_exact(buckets, longest, causal)
        self.longest, self.causal = longest, causal
        self.table = nn.Parameter(torch.randn(heads, buckets) * 0.02)

    def apply_to(self, fields: dict[str, Any], coordinates: Coordinates) -> dict[str, Any]:
        """Adds one bias."""
        return with_bias(fields, "T5 buckets", T5Bias(coordinates, self.table, self.longest, self.causal))


def with_bias(fields: dict[str, Any], name: str, bias: Bias) -> dict[str, Any]:
    """New fields of a call, with one more bias."""
    return {**fields, "biases": (*fields.get("biases", ()), (name, bias))}


def frequencies(waves: int, base: float) -> Float[Tensor, " wave"]:
    """base^(-i / waves) for each wave i, in float64."""
    return base ** (-torch.arange(waves, dtype=torch.float64) / waves)


def alibi_slopes(heads: int) -> Float[Tensor, " head"]:
    """2^(-8t / heads) for t = 1 ...; between powers of two, those of the lower one, then every second of its double."""
    lower = 2 ** math.floor(math.log2(heads))

    def geometric(count: int) -> Tensor:
        return 2.0 ** (-8 / count * torch.arange(1, count + 1, dtype=torch.float64))

    return torch.cat([geometric(lower), geometric(2 * lower)[::2][: heads - lower]])


def t5_bucket(
    offset: Int[Tensor, "*shape"], buckets: int = 32, longest: int = 128, *, causal: bool = False
) -> Int[Tensor, "*shape"]:
    """The bucket of an offset j - i; half of the buckets are for keys after the query, unless causal.

    Raises ValueError where buckets and `longest` do not allow both exact and logarithmic buckets.
    """
    exact = t5_exact(buckets, longest, causal)
    if causal:
        side, distance = torch.zeros_like(offset), (-offset).clamp_min(0)
    else:
        buckets //= 2
        side, distance = (offset > 0).long() * buckets, offset.abs()
    steps = (distance.clamp_min(1).float() / exact).log() / math.log(longest / exact) * (buckets - exact)
    far = (exact + steps.long()).clamp_max(buckets - 1)
    return side + torch.where(distance < exact, distance, far)


def t5_exact(buckets: int, longest: int, causal: bool) -> int:
    """How many buckets of a side hold one distance: half of them. Raises ValueError if none do, or all."""
    exact = (buckets if causal else buckets // 2) // 2
    if exact < 1:
        raise ValueError(f"{buckets} buckets; expected at least {2 if causal else 4}, half of them exact")
    if longest <= exact:
        raise ValueError(f"the longest distance is {longest}; with {buckets} buckets expected more than {exact}")
    return exact
