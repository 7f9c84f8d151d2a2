"""Which keys each query may attend to, and the error of a variant that does not support a mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor


class UnsupportedMask(ValueError):
    """A variant was given a mask, grid or context that it does not support; `reason` is a clause that stands alone."""

    def __init__(self, variant: str, reason: str):
        super().__init__(f"{variant}: {reason}")
        self.variant, self.reason = variant, reason


@dataclass(frozen=True)
class Mask:
    """Which keys each query may attend to; True = may attend, and all given conditions must hold.

    `mask & other` is the mask of both; `other` may be None.
    """

    # Plain tensors: any other dtype than bool is refused below, with a reason, and not only under test.
    keep: Tensor | None = None  # [*batch head|1 query key]
    key_padding: Tensor | None = None  # [*batch key]
    causal: bool = False  # bottom-right aligned: query i attends to keys j <= i + keys - queries
    band: int | None = None  # abs(i + keys - queries - j) <= band
    groups: tuple[Tensor, Tensor] | None = None  # ids [(head) query] and [(head) key]: only equal ids attend
    global_tokens: int = 0  # the first tokens, exempt from the band: they attend to all keys and all queries to them

    def __post_init__(self):
        for name, value in (("keep", self.keep), ("key_padding", self.key_padding)):
            if value is not None and value.dtype != torch.bool:
                raise TypeError(
                    f"mask {name} is {value.dtype}; it must be bool, True = may attend (a bias is separate)"
                )
        if self.keep is not None and self.keep.ndim < 3:
            raise ValueError(f"mask keep has shape {tuple(self.keep.shape)}; it needs [head|1 query key]")

    @property
    def kinds(self) -> frozenset[str]:
        """Which conditions are set, by the names in a variant's `supported_masks`."""
        named = {"keep": self.keep, "key_padding": self.key_padding, "band": self.band, "groups": self.groups}
        return frozenset([n for n, v in named.items() if v is not None] + ["causal"] * self.causal)

    def check(self, heads: int, queries: int, keys: int) -> None:
        """Raise ValueError where a condition does not fit heads x queries x keys."""
        if self.keep is not None and (self.keep.shape[-2:] != (queries, keys) or self.keep.shape[-3] not in (1, heads)):
            raise ValueError(f"mask keep is {tuple(self.keep.shape)}, expected [{heads}|1 {queries} {keys}]")
        if self.key_padding is not None and self.key_padding.shape[-1] != keys:
            raise ValueError(f"mask key_padding has {self.key_padding.shape[-1]} keys, expected {keys}")
        if self.groups is not None:
            members = tuple(ids.shape[-1] for ids in self.groups)
            if members != (queries, keys) or any(ids.ndim > 1 and len(ids) != heads for ids in self.groups):
                expected = f"expected {queries} x {keys}, for all heads or for each of {heads}"
                raise ValueError(f"mask groups are {members[0]} x {members[1]}, {expected}")

    def __and__(self, other: Mask | None) -> Mask:
        """The mask of both: allowed where both allow. Raises ValueError where no single mask can express it."""
        if other is None:
            return self
        if self.band is not None and other.band is not None and self.global_tokens != other.global_tokens:
            raise ValueError(
                f"two bands with {self.global_tokens} and {other.global_tokens} global tokens; one band cannot be both"
            )
        banded = [mask for mask in (self, other) if mask.band is not None]
        return Mask(
            keep=intersect(self.keep, other.keep),
            key_padding=intersect(self.key_padding, other.key_padding),
            causal=self.causal or other.causal,
            band=min((mask.band for mask in banded if mask.band is not None), default=None),
            groups=intersect_groups(self.groups, other.groups),
            global_tokens=banded[0].global_tokens if banded else 0,
        )

    def __rand__(self, other: None) -> Mask:
        """None & mask: the mask."""
        return self

    def rows(
        self, heads: list[int], rows: list[int], queries: int, keys: int, device: Any = None
    ) -> Bool[Tensor, "*batch head row key"]:
        """True = may attend, for a block of rows (head may be 1); never n x n unless all rows are requested."""
        index = torch.as_tensor(rows, device=device)
        i = (index + keys - queries)[:, None]
        j = torch.arange(keys, device=device)[None]
        block = torch.ones(len(rows), keys, dtype=torch.bool, device=device)
        if self.causal:
            block = block & (j <= i)
        if self.band is not None:  # compared with both ends: cheaper than a matrix of distances
            near = (j >= i - self.band) & (j <= i + self.band)
            if self.global_tokens:
                near = near | (i < self.global_tokens) | (j < self.global_tokens)
            block = block & near
        block = block[None]  # [1 row key]
        if self.groups is not None:
            query_ids, key_ids = compact_ids(*self.groups, index.device)
            query_ids, key_ids = (ids[heads] if ids.ndim > 1 else ids for ids in (query_ids[..., index], key_ids))
            block = block & (query_ids[..., None] == key_ids[..., None, :])
        if self.key_padding is not None:
            block = block & self.key_padding[..., None, None, :]
        if self.keep is not None:
            chosen = self.keep[..., index, :]
            block = block & (chosen if chosen.shape[-3] == 1 else chosen[..., heads, :, :])
        return block

    def all_rows(
        self, heads: list[int], queries: int, keys: int, device: Any = None
    ) -> Bool[Tensor, "*batch head row key"]:
        """Every row, cached because each layer of a network asks for the same; for short inputs only."""
        return cached_rows(self, tuple(heads), queries, keys, device)

    def key_range(self, rows: list[int], queries: int, keys: int) -> tuple[int, int]:
        """Start and stop of the keys that `causal` and `band` allow to consecutive rows; at least one key."""
        first, last = rows[0] + keys - queries, rows[-1] + keys - queries
        start = 0 if self.band is None or self.global_tokens else first - self.band
        stop = min(keys, last + 1) if self.causal else keys
        if self.band is not None and first >= self.global_tokens:
            stop = min(stop, max(self.global_tokens, last + self.band + 1))
        start = min(max(start, 0), keys - 1)
        return start, max(stop, start + 1)


@lru_cache(maxsize=8)
def cached_rows(mask: Mask, heads: tuple[int, ...], queries: int, keys: int, device: Any) -> Tensor:
    """Every row of a mask [*batch head row key]. The mask is frozen, so its rows cannot change."""
    return mask.rows(list(heads), list(range(queries)), queries, keys, device)


def intersect(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Two conditions that must both hold; None is no condition."""
    if one is None or other is None:
        return other if one is None else one
    return one & other.to(one.device)


def intersect_groups(
    one: tuple[Tensor, Tensor] | None, other: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor] | None:
    """Groups of the tokens that share both ids; None is one group of all."""
    if one is None or other is None:
        return other if one is None else one
    queries, device = one[0].shape[-1], one[0].device
    first, second = (consecutive_ids(*groups, device) for groups in (one, other))
    joint = first * (second.max() + 1) + second
    return joint[..., :queries], joint[..., queries:]


@lru_cache(maxsize=16)
def compact_ids(query_ids: Tensor, key_ids: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Group ids as small integers, which are compared faster; cached by tensor, because every block of rows asks."""
    ids = consecutive_ids(query_ids, key_ids, device)
    ids = ids.to(torch.int16 if ids.numel() < 2**15 else torch.int64)
    return ids[..., : query_ids.shape[-1]], ids[..., query_ids.shape[-1] :]


def consecutive_ids(query_ids: Tensor, key_ids: Tensor, device: torch.device) -> Tensor:
    """The group ids of queries and then of keys, renumbered from 0."""
    return torch.cat([query_ids, key_ids], -1).unique(return_inverse=True)[1].to(device)
