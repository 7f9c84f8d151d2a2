"""Streamlit glue, called by the pages as `ui.something`: what was chosen, what it computes, how it is shown."""

from attnviz.ui.core.cache import Busy, core, edited_trace, open_model, trace
from attnviz.ui.core.labels import call_labels, call_names, head_name, layer_name, spoken_name, token_name, token_names
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.core.state import (
    call_choice,
    chosen_token,
    chosen_tokens,
    go,
    head_choice,
    keep_inside,
    on_page,
    one_of,
    set_tokens,
    slide,
)
from attnviz.ui.inputs.gallery import gallery
from attnviz.ui.inputs.image_run import ImageRun, bring_picture, model_run, sidebar, visit
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.other_models import take_chosen
from attnviz.ui.inputs.text_run import TextRun, reading, reads_text, remarks
from attnviz.ui.inputs.uploads import BadImage, decode
from attnviz.ui.shell.callbacks import say_what_failed, watch_callbacks
from attnviz.ui.shell.errors import fragment, report_errors, run_again
from attnviz.ui.shell.page import experiments, footer, header, offer, page_file, section
from attnviz.ui.widgets.answers import best, best_superclass, class_name, knows, percent, predictions
from attnviz.ui.widgets.display import display
from attnviz.ui.widgets.output import dark, downloads, plot, share_picture, show_picture

__all__ = [
    "BadImage",
    "Busy",
    "ImageRun",
    "ModelRun",
    "SizedCache",
    "TextRun",
    "best",
    "best_superclass",
    "bring_picture",
    "call_choice",
    "call_labels",
    "call_names",
    "chosen_token",
    "chosen_tokens",
    "class_name",
    "core",
    "dark",
    "decode",
    "display",
    "downloads",
    "edited_trace",
    "experiments",
    "footer",
    "fragment",
    "gallery",
    "go",
    "head_choice",
    "head_name",
    "header",
    "keep_inside",
    "knows",
    "layer_name",
    "model_run",
    "offer",
    "on_page",
    "one_of",
    "open_model",
    "page_file",
    "percent",
    "plot",
    "predictions",
    "reading",
    "reads_text",
    "remarks",
    "report_errors",
    "run_again",
    "say_what_failed",
    "section",
    "set_tokens",
    "share_picture",
    "show_picture",
    "sidebar",
    "slide",
    "spoken_name",
    "take_chosen",
    "token_name",
    "token_names",
    "trace",
    "visit",
    "watch_callbacks",
]
