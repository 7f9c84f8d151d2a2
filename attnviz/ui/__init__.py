"""Streamlit glue, called by the pages as `ui.something`: what was chosen, what it computes, how it is shown."""

from attnviz.ui.cache import open_model, trace
from attnviz.ui.guard import guard
from attnviz.ui.output import downloads, plot, predictions, share_picture
from attnviz.ui.state import (
    Display,
    chosen_token,
    chosen_tokens,
    display,
    go,
    head_choice,
    head_name,
    layer_choice,
    layer_name,
    set_tokens,
    token_name,
)
from attnviz.ui.text import footer, header
from attnviz.ui.uploads import BadImage, decode
from attnviz.ui.visit import Visit, sidebar, visit

__all__ = [
    "BadImage",
    "Display",
    "Visit",
    "chosen_token",
    "chosen_tokens",
    "decode",
    "display",
    "downloads",
    "footer",
    "go",
    "guard",
    "head_choice",
    "head_name",
    "header",
    "layer_choice",
    "layer_name",
    "open_model",
    "plot",
    "predictions",
    "set_tokens",
    "share_picture",
    "sidebar",
    "token_name",
    "trace",
    "visit",
]
