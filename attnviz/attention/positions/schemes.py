"""Positions told by distance: nothing is added to the tokens, each layer's scores learn how far apart two tokens lie.

To add a scheme: a `Relative` whose `change` puts places into the fields of an attention call, and one line in POSITIONS
with `relative`. Prefix tokens lie nowhere: biases leave their pairs as they are, and `Rotary` turns them by nothing, so
that a pair of one of them and a patch changes with the patch's own turn. The queries of a call are the last of its
keys, which is where new tokens stand while decoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnviz.attention.rules.softmax import at_least_float32
from attnviz.attention.rules.values import with_distance_values
from attnviz.types import AttentionCall, Bias, Tokens, UnsupportedMask


@dataclass(frozen=True, eq=False)
class Places:
    """Where the keys of a call lie: (row, column) on a grid, else one number."""

    spots: Float[Tensor, "key axis"]
    placed: Bool[Tensor, " key"]  # False for prefix tokens
    queries: int  # the last so many keys

    def apart(self, rows: list[int], device: torch.device) -> Float[Tensor, "row key axis"]:
        """Place of the key minus place of the query, where the call is; places themselves stay on the processor."""
        spots = self.spots.to(device)
        return spots[None] - spots[-self.queries :][rows][:, None]

    def both(self, rows: list[int], device: torch.device) -> Bool[Tensor, "row key"]:
        """Whether query and key both lie somewhere."""
        placed = self.placed.to(device)
        return placed[None] & placed[-self.queries :][rows][:, None]


@dataclass(frozen=True, eq=False)
class Fall:
    """ALiBi's bias: minus the slope of each head times the distance."""

    places: Places
    slopes: Float[Tensor, " head"]

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[head row key]."""
        device = call.query.device
        distance = torch.linalg.vector_norm(self.places.apart(rows, device), dim=-1) * self.places.both(rows, device)
        return -self.slopes.to(device)[heads, None, None] * distance


@dataclass(frozen=True, eq=False)
class Steps:
    """Which row of Shaw's table each pair reads: its distance, up to `clip` either way."""

    places: Places
    clip: int

    def __call__(self, rows: list[int], device: torch.device) -> Int[Tensor, "row key"]:
        """One past the table where a token lies nowhere."""
        clipped = self.places.apart(rows, device)[..., 0].long().clamp(-self.clip, self.clip) + self.clip
        return clipped.masked_fill(~self.places.both(rows, device), 2 * self.clip + 1)


@dataclass(frozen=True, eq=False)
class ByDistance:
    """Shaw's bias: scale * query_i · table[distance of key j]."""

    steps: Steps
    table: Float[Tensor, "distance dim"]

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        query = at_least_float32(call.query[..., heads, :, :][..., rows, :])
        by_distance = F.pad(query @ self.table.to(query).T, (0, 1))
        found = self.steps(rows, query.device).expand(*by_distance.shape[:-1], len(call.keys))
        scale = call.scale[heads, None, None] if isinstance(call.scale, Tensor) else call.scale
        return by_distance.gather(-1, found) * scale


@dataclass(frozen=True, eq=False)
class Stairs:
    """T5's bias: one learned number for each head and bucket of distances."""

    places: Places
    table: Float[Tensor, "head bucket"]
    longest: int
    causal: bool

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[head row key]."""
        device = call.query.device
        offset = self.places.apart(rows, device)[..., 0].long()
        bucket = t5_bucket(offset, self.table.shape[-1], self.longest, causal=self.causal)
        return self.table.to(device)[heads][:, bucket] * self.places.both(rows, device)


class Relative(nn.Module):
    """A scheme that tells scores how far apart two tokens lie."""

    title: str
    planar = False  # reads rows and columns where there is a grid; else patches are numbered in raster order

    def __init__(self, heads: int, dim: int, *, tokens: Tokens | None = None):
        super().__init__()
        self.heads, self.dim = heads, dim
        self.for_grid = tokens is not None and tokens.grid is not None

    def forward(self, fields: dict[str, Any], queries: Tokens, keys: Tokens, how: str = "own") -> dict[str, Any]:
        """The fields of a call with positions in them. `how`: "own", "none" or "shuffled" places of the patches."""
        if how == "none":
            return fields
        return self.change(fields, self.places(queries, keys, how))

    def change(self, fields: dict[str, Any], places: Places) -> dict[str, Any]:
        """The fields of a call, changed by where its tokens lie; those given stay as they are."""
        raise NotImplementedError

    def places(self, queries: Tokens, keys: Tokens, how: str) -> Places:
        """Where the keys lie. Raises UnsupportedMask for patches that have lost their place on the grid."""
        if self.for_grid and keys.grid is None:
            raise UnsupportedMask(self.title, "needs the place of every patch, and these tokens have lost theirs")
        count = len(keys) - keys.prefix
        spots = torch.arange(count, dtype=torch.float32)[:, None]
        if self.planar and self.for_grid and keys.grid is not None:
            spots = torch.cat([spots // keys.grid[1], spots % keys.grid[1]], -1)
        if how == "shuffled":
            spots = spots[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
        elif how != "own":
            raise ValueError(f"positions is {how!r}; known: own, none, shuffled")
        spots = torch.cat([spots.new_zeros(keys.prefix, spots.shape[-1]), spots])
        return Places(spots, torch.arange(len(keys)) >= keys.prefix, len(queries))


class Rotary(Relative):
    """Queries and keys are turned by angles that grow with their place, so a score knows the distance alone.

    Su et al. 2021, arXiv 2104.09864, eq. 15: pair i of the channels turns by place * base^(-2i / d). Channels i and
    i + d/2 are a pair. On a grid the first half of the channels turns by row, the second by column; channels that
    fill no pair stay as they are.
    """

    title = "Rotary"
    planar = True

    def __init__(self, heads: int, dim: int, *, tokens: Tokens | None = None, base: float = 1e4):
        super().__init__(heads, dim, tokens=tokens)
        if base <= 0:
            raise ValueError(f"the base of rotary positions is {base}, expected a number above 0")
        self.axes, self.base = 2 if self.for_grid else 1, base
        self.waves = dim // (2 * self.axes)  # for each axis
        if not self.waves:
            raise ValueError(f"rotary positions need {2 * self.axes} channels a head, got {dim}")

    def change(self, fields: dict[str, Any], places: Places) -> dict[str, Any]:
        """Query and key turned, values not. Lengths stay, so unit queries and keys stay unit."""
        spots = places.spots  # zero for prefix tokens, which turn by nothing
        turned = {"key": self.turn(fields["key"], spots)}
        turned["query"] = self.turn(fields["query"], spots[-places.queries :])
        return {**fields, **turned}

    def turn(
        self, x: Float[Tensor, "*batch head token dim"], spots: Float[Tensor, "token axis"]
    ) -> Float[Tensor, "*batch head token dim"]:
        """Every pair of channels turned by its angle."""
        angles = spots.double()[..., None] * frequencies(self.waves, self.base)  # [token axis wave]
        wide, paired = at_least_float32(x), 2 * self.axes * self.waves
        whole = paired == wide.shape[-1]  # the usual case, spared a slice and its gradient
        cos, sin = (wave.to(wide.dtype).to(x.device) for wave in (angles.cos(), angles.sin()))
        turning = (wide if whole else wide[..., :paired]).unflatten(-1, (self.axes, 2, self.waves))
        first, second = turning.unbind(-2)  # [*batch head token axis wave]
        turned = torch.stack([first * cos - second * sin, second * cos + first * sin], -2).flatten(-3)
        return (turned if whole else torch.cat([turned, wide[..., paired:]], -1)).to(x.dtype)


class Alibi(Relative):
    """Each head takes off the score what is far, by its own slope times the distance.

    Press et al. 2021, arXiv 2108.12409. Distance is abs(i - j); on a grid it is Euclidean, in patches. `strength`
    multiplies all slopes; 0 turns the scheme off.
    """

    title = "ALiBi"
    planar = True
    slopes: Tensor

    def __init__(self, heads: int, dim: int, *, tokens: Tokens | None = None, strength: float = 1.0):
        super().__init__(heads, dim, tokens=tokens)
        self.register_buffer("slopes", strength * alibi_slopes(heads).float(), persistent=False)

    def change(self, fields: dict[str, Any], places: Places) -> dict[str, Any]:
        """One more bias."""
        return with_bias(fields, "ALiBi", Fall(places, self.slopes))


class Shaw(Relative):
    """Every distance, up to a limit, has a learned vector that is added to the key it is seen at.

    Shaw et al. 2018, arXiv 1803.02155, eq. 3 and 4: e_ij = q_i . (k_j + a_clip(j-i)) / sqrt(d_h), one table for all
    heads. Patches are numbered in raster order. With `values`, outputs hold learned vectors of distances as well.
    """

    title = "Shaw"
    value_table: nn.Parameter | None

    def __init__(self, heads: int, dim: int, *, tokens: Tokens | None = None, clip: int = 16, values: bool = False):
        super().__init__(heads, dim, tokens=tokens)
        if clip < 0:
            raise ValueError(f"the furthest distance with a vector of its own is {clip}, expected 0 or more")
        self.clip = clip
        self.key_table = nn.Parameter(torch.randn(2 * clip + 1, dim) * 0.02)
        self.register_parameter("value_table", nn.Parameter(torch.randn(2 * clip + 1, dim) * 0.02) if values else None)

    def change(self, fields: dict[str, Any], places: Places) -> dict[str, Any]:
        """A bias from query and distance; with values, a rule whose outputs hold more than values."""
        steps = Steps(places, self.clip)
        fields = with_bias(fields, "Shaw", ByDistance(steps, self.key_table))
        if self.value_table is None:
            return fields
        return {**fields, "rule": with_distance_values(fields["rule"], self.value_table, steps)}


class T5Buckets(Relative):
    """Every head learns a bias for each bucket of distances: single steps near by, wider and wider ones far away.

    Raffel et al. 2019, arXiv 1910.10683, section 2.1. Patches are numbered in raster order. T5 does not divide its
    scores by the root of d_h and has one table for all layers; here scores are scaled as their variant scales them,
    and every layer has a table of its own.
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

    def change(self, fields: dict[str, Any], places: Places) -> dict[str, Any]:
        """One more bias."""
        return with_bias(fields, "T5 buckets", Stairs(places, self.table, self.longest, self.causal))


def with_bias(fields: dict[str, Any], name: str, bias: Bias) -> dict[str, Any]:
    """The fields of a call with one more bias; the fields given stay as they are."""
    return {**fields, "biases": (*fields.get("biases", ()), (name, bias))}


def frequencies(waves: int, base: float) -> Float[Tensor, " wave"]:
    """base^(-i / waves) for each wave i, in float64."""
    return base ** (-torch.arange(waves, dtype=torch.float64) / waves)


def alibi_slopes(heads: int) -> Float[Tensor, " head"]:
    """2^(-8t / heads) for t = 1 ...; between powers of two, those of the lower one, then every second of its double."""
    lower = 2 ** math.floor(math.log2(heads))

    def fan(count: int) -> Tensor:
        return 2.0 ** (-8 / count * torch.arange(1, count + 1, dtype=torch.float64))

    return torch.cat([fan(lower), fan(2 * lower)[::2][: heads - lower]])


def t5_bucket(
    offset: Int[Tensor, "*shape"], buckets: int = 32, longest: int = 128, *, causal: bool = False
) -> Int[Tensor, "*shape"]:
    """The bucket of an offset j - i; half of the buckets are for keys after the query, unless causal.

    Raises ValueError where buckets and `longest` leave no room for both single steps and wide ones.
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
    """How many buckets of a side are single steps: half of them. Raises ValueError where none is, or none is wider."""
    exact = (buckets if causal else buckets // 2) // 2
    if exact < 1:
        raise ValueError(f"{buckets} buckets; expected at least {2 if causal else 4}, half of each side single steps")
    if longest <= exact:
        raise ValueError(f"the longest distance is {longest}; with {buckets} buckets expected more than {exact}")
    return exact
