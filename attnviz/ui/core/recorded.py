"""What a trace or its tokens may hold, for pages that need it."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from attnviz.types import Tokens


def known(tensor: Tensor | None) -> np.ndarray:
    """A part every vision transformer records, as an array."""
    if tensor is None:
        raise ValueError("this model records no content or position vectors")
    return tensor.detach().cpu().numpy()


def grid_of(tokens: Tokens) -> tuple[int, int]:
    """Rows and columns of the patch grid. Raises ValueError where there is none."""
    if tokens.grid is None:
        raise ValueError("these tokens have no patch grid")
    return tokens.grid


def middle(tokens: Tokens) -> int:
    """The patch in the middle of the picture, where a page starts."""
    rows, columns = tokens.grid or (1, len(tokens) - tokens.prefix)
    return tokens.prefix + rows // 2 * columns + columns // 2
