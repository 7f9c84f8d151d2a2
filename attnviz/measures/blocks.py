"""Maps too large to be held: means over blocks of neighbouring tokens, one column, rows spread evenly.

Everything is computed by blocks of rows, so memory grows with the tokens and not with their square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.types import AttentionCall, Tokens, block_size

RUN = 64  # tokens of a block where they lie on no grid
GOLDEN = (5**0.5 - 1) / 2


def edges_of(tokens: Tokens) -> list[int]:
    """Where blocks begin, and the end: the prefix by itself, then every row of the picture; else runs of RUN tokens."""
    step = tokens.grid[1] if tokens.grid else RUN
    starts = list(range(tokens.prefix, len(tokens), step))
    return [*([0] if tokens.prefix else []), *starts, len(tokens)]


def block_of(edges: Sequence[int], token: int) -> int:
    """The number of the block a token lies in."""
    return int(np.searchsorted(edges, token, side="right")) - 1


def even_edges(first: int, stop: int, most: int) -> list[int]:
    """Edges of at most `most` blocks of about equal size."""
    return np.linspace(first, stop, min(most, stop - first) + 1).round().astype(int).tolist()


def block_means(
    call: AttentionCall,
    rows: Sequence[int],
    columns: Sequence[int],
    heads: Sequence[int] | None = None,
    *,
    rescaled: bool = False,
) -> Float[np.ndarray, "head row_block column_block"]:
    """The mean entry of every block of the token maps of a call, between these edges. Raises NoTokenMap.

    `rescaled`: what lies between the outer edges of the columns sums to 1 in every row before.
    """
    means = []
    for start, stop in pairwise(rows):
        sums = sum(kept.sum(-2) for kept in parts(call, heads, range(start, stop), columns, rescaled))
        if not isinstance(sums, Tensor):
            raise ValueError(f"the block from row {start} to row {stop} is empty")
        inner = [edge - columns[0] for edge in columns[:-1]]
        means.append(np.add.reduceat(sums.cpu().numpy(), inner, axis=-1) / (stop - start))
    return (np.stack(means, -2) / np.diff(columns)).astype(np.float32)


def parts(
    call: AttentionCall, heads: Sequence[int] | None, rows: range, columns: Sequence[int], rescaled: bool
) -> Iterator[Tensor]:
    """Some rows of the token maps of a call between the outer edges of the columns, a block at a time."""
    size = block_size(call.heads if heads is None else len(heads), len(call.keys))
    for start in range(rows.start, rows.stop, size):
        kept = call.token_map(heads, range(start, min(start + size, rows.stop)))[..., columns[0] : columns[-1]]
        yield kept / kept.sum(-1, keepdim=True).clamp_min(1e-12) if rescaled else kept


def column(call: AttentionCall, key: int, of: Callable[[list[int]], Tensor]) -> Float[np.ndarray, " query"]:
    """What every query of a call has for one key; `of` gives rows [row key] of a map."""
    return torch.cat([of(rows)[:, key] for rows in call.blocks()]).float().cpu().numpy()


def spread(first: int, stop: int, most: int) -> list[int]:
    """At most `most` of the tokens from `first` on, without a period that could fall in step with rows of a picture.

    Multiples of the golden ratio, modulo one, lie evenly for any number of them.
    """
    count = stop - first
    if count <= most:
        return list(range(first, stop))
    return sorted({first + int((i + 0.5) * GOLDEN % 1 * count) for i in range(most)})
