"""What a trace or its tokens may hold: a page asks whether it is there, and says in a sentence that it is not."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from attnviz.types import Tokens


def recorded(tensor: Tensor | None) -> np.ndarray | None:
    """What a trace holds, as an array in main memory; None where the model has not recorded it."""
    return None if tensor is None else tensor.detach().cpu().numpy()


def known(tensor: Tensor | None) -> np.ndarray:
    """The same, where the page has asked before. Raises ValueError where the model has not recorded it."""
    found = recorded(tensor)
    if found is None:
        raise ValueError("a page asked for what its model has not recorded")
    return found


def grid_of(tokens: Tokens) -> tuple[int, int]:
    """Rows and columns of the patch grid. Raises ValueError where there is none."""
    if tokens.grid is None:
        raise ValueError("these tokens have no patch grid")
    return tokens.grid


def middle(tokens: Tokens) -> int:
    """The patch in the middle of the picture, where a page starts."""
    rows, columns = tokens.grid or (1, len(tokens) - tokens.prefix)
    return tokens.prefix + rows // 2 * columns + columns // 2
