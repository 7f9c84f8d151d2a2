"""Which keys each query may attend to, and the refusal of a variant that cannot honour it."""

from __future__ import annotations

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
    """Which keys each query may attend to; True = may attend, and all given conditions must hold."""

    # Plain tensors: what is not bool is refused below, in words, and not only under test.
    keep: Tensor | None = None  # [*batch head|1 query key]
    key_keep: Tensor | None = None  # [*batch key]
    causal: bool = False  # bottom-right aligned: query i sees keys j <= i + keys - queries
    band: int | None = None  # abs(i + keys - queries - j) <= band
    groups: tuple[Tensor, Tensor] | None = None  # query ids [query], key ids [key]: only equal ids attend

    def __post_init__(self):
        for name, value in (("keep", self.keep), ("key_keep", self.key_keep)):
            if value is not None and value.dtype != torch.bool:
                raise TypeError(
                    f"mask {name} is {value.dtype}; it must be bool, True = may attend (a bias is separate)"
                )
        if self.keep is not None and self.keep.ndim < 3:
            raise ValueError(f"mask keep has shape {tuple(self.keep.shape)}; it needs [head|1 query key]")

    @property
    def kinds(self) -> frozenset[str]:
        """Which conditions are set, by the names variants list in `serves`."""
        named = {"keep": self.keep, "key_keep": self.key_keep, "band": self.band, "groups": self.groups}
        return frozenset([n for n, v in named.items() if v is not None] + ["causal"] * self.causal)

    def check(self, heads: int, queries: int, keys: int) -> None:
        """Raise ValueError where a condition does not fit heads x queries x keys."""
        if self.keep is not None and (self.keep.shape[-2:] != (queries, keys) or self.keep.shape[-3] not in (1, heads)):
            raise ValueError(f"mask keep is {tuple(self.keep.shape)}, expected [{heads}|1 {queries} {keys}]")
        if self.key_keep is not None and self.key_keep.shape[-1] != keys:
            raise ValueError(f"mask key_keep has {self.key_keep.shape[-1]} keys, expected {keys}")
        if self.groups is not None and (len(self.groups[0]), len(self.groups[1])) != (queries, keys):
            raise ValueError(
                f"mask groups are {len(self.groups[0])} x {len(self.groups[1])}, expected {queries} x {keys}"
            )

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
        if self.band is not None:
            block = block & ((i - j).abs() <= self.band)
        if self.groups is not None:
            block = block & (self.groups[0].to(index.device)[index][:, None] == self.groups[1].to(index.device)[None])
        block = block[None]  # [1 row key]
        if self.key_keep is not None:
            block = block & self.key_keep[..., None, None, :]
        if self.keep is not None:
            chosen = self.keep[..., index, :]
            block = block & (chosen if chosen.shape[-3] == 1 else chosen[..., heads, :, :])
        return block

    def reach(self, rows: list[int], queries: int, keys: int) -> tuple[int, int]:
        """Start and stop of the keys that `causal` and `band` leave to consecutive rows; at least one key."""
        first, last = rows[0] + keys - queries, rows[-1] + keys - queries
        start = 0 if self.band is None else first - self.band
        stop = min(keys, last + 1) if self.causal else keys
        stop = stop if self.band is None else min(stop, last + self.band + 1)
        start = min(max(start, 0), keys - 1)
        return start, max(stop, start + 1)
