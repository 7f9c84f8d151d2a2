"""Position tables, added to the token embeddings, and all schemes by name.

To add a scheme: a function (tokens, dim, base) -> [token dim] and one line in POSITIONS. Prefix tokens have no position
on the grid, so their rows are zero. Relative positions have no table; they are in schemes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnviz.attention.positions.schemes import Alibi, Relative, Rotary, Shaw, T5Buckets, frequencies
from attnviz.types import Tokens


@dataclass(frozen=True)
class Scheme:
    """One position encoding: a table, or relative positions."""

    title: str
    table: Callable[..., Tensor]  # (tokens, dim, base) -> [token dim], float64
    learned: bool = False  # the table only initialises training
    grid: bool = False  # needs a patch grid
    relative: Callable[..., Relative] | None = None  # (heads, dim, tokens=) -> what is applied to each layer's calls


def no_positions(tokens: Tokens, dim: int, base: float = 1e4) -> Float[Tensor, "token dim"]:
    """No position information: the network sees a bag of tokens."""
    return torch.zeros(len(tokens), dim, dtype=torch.float64)


def sine_cosine(tokens: Tokens, dim: int, base: float = 1e4) -> Float[Tensor, "token dim"]:
    """Sines and cosines of the position, interleaved (Vaswani et al. 2017, section 3.5)."""
    if dim < 2 or dim % 2:
        raise ValueError(f"sine-cosine positions need an even dimension, got {dim}")
    angles = wave_angles(len(tokens) - tokens.prefix, dim // 2, base)
    waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
    return F.pad(waves, (0, 0, tokens.prefix, 0))


def sine_cosine_2d(tokens: Tokens, dim: int, base: float = 1e4) -> Float[Tensor, "token dim"]:
    """Half of the features encode the row, half the column: [sin row, cos row, sin column, cos column]."""
    if dim < 4 or dim % 4:
        raise ValueError(f"2-D sine-cosine positions need a dimension divisible by 4, got {dim}")
    if tokens.grid is None:
        raise ValueError("2-D sine-cosine positions need a patch grid; these tokens have none")
    rows, columns = tokens.grid
    by_row = wave_angles(rows, dim // 4, base)[:, None].expand(rows, columns, -1)
    by_column = wave_angles(columns, dim // 4, base)[None].expand(rows, columns, -1)
    waves = torch.cat([by_row.sin(), by_row.cos(), by_column.sin(), by_column.cos()], -1)
    return F.pad(waves.flatten(0, 1), (0, 0, tokens.prefix, 0))


def learned(tokens: Tokens, dim: int, base: float = 1e4) -> Float[Tensor, "token dim"]:
    """One free vector per token, initialised with standard deviation 0.02 (Dosovitskiy et al. 2021)."""
    return torch.randn(len(tokens), dim, dtype=torch.float64) * 0.02


def wave_angles(count: int, waves: int, base: float) -> Float[Tensor, "position wave"]:
    """Position times frequency, frequencies base^(-i / waves)."""
    return torch.arange(count, dtype=torch.float64)[:, None] * frequencies(waves, base)


def resize_table(
    table: Float[Tensor, "token dim"], prefix: int, old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "new_token dim"]:
    """A learned table for another grid: bicubic interpolation of the patch rows; prefix rows are unchanged."""
    if old == new:
        return table
    grid = table[prefix:].T.unflatten(-1, old)[None]
    grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([table[:prefix], grid[0].flatten(-2).T])


POSITIONS: dict[str, Scheme] = {
    "learned": Scheme("Learned table", learned, learned=True),
    "learned1d": Scheme("Learned table, initialised from 1-D sine and cosine", sine_cosine, learned=True),
    "learned2d": Scheme("Learned table, initialised from 2-D sine and cosine", sine_cosine_2d, learned=True, grid=True),
    "sine2d": Scheme("2-D sine and cosine", sine_cosine_2d, grid=True),
    "sine": Scheme("1-D sine and cosine", sine_cosine),
    "none": Scheme("No position information", no_positions),
    "rotary": Scheme("Rotary positions (RoPE)", no_positions, relative=Rotary),
    "alibi": Scheme("ALiBi", no_positions, relative=Alibi),
    "shaw": Scheme("Relative positions (Shaw)", no_positions, relative=Shaw),
    "t5": Scheme("Relative positions (T5 buckets)", no_positions, relative=T5Buckets),
}
