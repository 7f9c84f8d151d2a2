"""Interactive canvas views: bytes are sent once, hovering is drawn in the browser, a click comes back to Python.

Call `mount()` once per run, `send_*` for what the page shows, then the views. Views with the same token stream are
linked: what is under the pointer in one is marked in all.
"""

from attnviz.views.canvas import (
    Badge,
    ViewStyle,
    arcs_view,
    cells_view,
    colour_view,
    lines_view,
    matrix_view,
    picture_view,
    text_view,
    tiles_view,
)
from attnviz.views.records import block_means
from attnviz.views.transport import mount, send_colours, send_maps, send_picture, send_tiles

__all__ = [
    "Badge",
    "ViewStyle",
    "arcs_view",
    "block_means",
    "cells_view",
    "colour_view",
    "lines_view",
    "matrix_view",
    "mount",
    "picture_view",
    "send_colours",
    "send_maps",
    "send_picture",
    "send_tiles",
    "text_view",
    "tiles_view",
]
