"""Which keys each query may attend to, and the refusal of a variant that cannot honour it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor


class UnsupportedMask(ValueError):
    """A variant was asked for a mask, grid or context that it does not serve."""

    def __init__(self, variant: str, reason: str):
        super().__init__(f"{variant}: {reason}")
        self.variant, self.reason = variant, reason


@dataclass(frozen=True)
class Mask:
    """Which keys each query may attend to; True = may attend, and all given conditions must hold.

    `mask & other` is the mask of both; `other` may be None.
    """

    # Plain tensors: what is not bool is refused below, in words, and not only under test.
    keep: Tensor | None = None  # [*batch head|1 query key]
    key_padding: Tensor | None = None  # [*batch key]
    causal: bool = False  # bottom-right aligned: query i sees keys j <= i + keys - queries
    band: int | None = None  # abs(i + keys - queries - j) <= band
    groups: tuple[Tensor, Tensor] | None = None  # ids [(head) query] and [(head) key]: only equal ids attend
    free: int = 0  # the first tokens, which the band does not bind: they see all keys and all queries see them

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
        """Which conditions are set, by the names variants list in `serves`."""
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
        """The mask of both: what either closes is closed. Raises ValueError where no one mask says it."""
        if other is None:
            return self
        if self.band is not None and other.band is not None and self.free != other.free:
            raise ValueError(f"two bands free {self.free} and {other.free} tokens; one band cannot say both")
        banded = [mask for mask in (self, other) if mask.band is not None]
        return Mask(
            keep=both(self.keep, other.keep),
            key_padding=both(self.key_padding, other.key_padding),
            causal=self.causal or other.causal,
            band=min((mask.band for mask in banded if mask.band is not None), default=None),
            groups=paired(self.groups, other.groups) if self.groups and other.groups else self.groups or other.groups,
            free=banded[0].free if banded else 0,
        )

    def __rand__(self, other: None) -> Mask:
        """None & mask: the mask."""
        return self

    def rows(
        self, heads: list[int], rows: list[int], queries: int, keys: int, device: Any = None
    ) -> Bool[Tensor, "*batch head row key"]:
        """A block of True = may attend (head may be 1); never n x n unless all rows are asked for."""
        index = torch.as_tensor(rows, device=device)
        i = (index + keys - queries)[:, None]
        j = torch.arange(keys, device=device)[None]
        block = torch.ones(len(rows), keys, dtype=torch.bool, device=device)
        if self.causal:
            block = block & (j <= i)
        if self.band is not None:  # compared with both ends: cheaper than a matrix of distances
            near = (j >= i - self.band) & (j <= i + self.band)
            block = block & (near | (i < self.free) | (j < self.free) if self.free else near)
        block = block[None]  # [1 row key]
        if self.groups is not None:
            groups = self.groups
            mine, theirs = self.remembered("ids", str(index.device), lambda: small_ids(*groups, index.device))
            mine, theirs = (ids[heads] if ids.ndim > 1 else ids for ids in (mine[..., index], theirs))
            block = block & (mine[..., None] == theirs[..., None, :])
        if self.key_padding is not None:
            block = block & self.key_padding[..., None, None, :]
        if self.keep is not None:
            chosen = self.keep[..., index, :]
            block = block & (chosen if chosen.shape[-3] == 1 else chosen[..., heads, :, :])
        return block

    def whole(
        self, heads: list[int], queries: int, keys: int, device: Any = None
    ) -> Bool[Tensor, "*batch head row key"]:
        """All rows at once, remembered; for short inputs only."""
        asked = (tuple(heads), queries, keys, str(device))
        return self.remembered("rows", asked, lambda: self.rows(heads, list(range(queries)), queries, keys, device))

    def remembered(self, what: str, asked: object, make: Callable[[], Any]) -> Any:
        """What was made for this mask last, where the same is asked again, as the next layer does.

        A mask is frozen, so what follows from it cannot change.
        """
        kept = self.__dict__.setdefault("kept", {})
        if what not in kept or kept[what][0] != asked:
            kept[what] = (asked, make())
        return kept[what][1]

    def reach(self, rows: list[int], queries: int, keys: int) -> tuple[int, int]:
        """Start and stop of the keys that `causal` and `band` leave to consecutive rows; at least one key."""
        first, last = rows[0] + keys - queries, rows[-1] + keys - queries
        start = 0 if self.band is None or self.free else first - self.band
        stop = min(keys, last + 1) if self.causal else keys
        stop = stop if self.band is None or first < self.free else min(stop, max(self.free, last + self.band + 1))
        start = min(max(start, 0), keys - 1)
        return start, max(stop, start + 1)


def both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Two conditions that must both hold; None is no condition."""
    if one is None or other is None:
        return other if one is None else one
    return one & other.to(one.device)


def paired(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Groups whose members share both ids."""
    mine, theirs = (numbered(*groups, one[0].device) for groups in (one, other))
    queries = one[0].shape[-1]
    joined = mine * (theirs.max() + 1) + theirs
    return joined[..., :queries], joined[..., queries:]


def small_ids(query_ids: Tensor, key_ids: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The same groups by small numbers, which are compared faster."""
    ids = numbered(query_ids, key_ids, device)
    ids = ids.to(torch.int16 if ids.numel() < 2**15 else torch.int64)
    return ids[..., : query_ids.shape[-1]], ids[..., query_ids.shape[-1] :]


def numbered(query_ids: Tensor, key_ids: Tensor, device: torch.device) -> Tensor:
    """The ids of queries and then of keys, as numbers from 0."""
    return torch.cat([query_ids, key_ids], -1).unique(return_inverse=True)[1].to(device)
