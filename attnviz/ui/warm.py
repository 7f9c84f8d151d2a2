"""What is done once, before the first visitor comes."""

from __future__ import annotations

import logging

from attnviz.models import IMAGES
from attnviz.ui.cache import cores, open_model

log = logging.getLogger("attnviz")


def warm() -> None:
    """Open the default model. What goes wrong is logged here and said by the page: it must not end the server."""
    try:
        cores()
        open_model(next(iter(IMAGES)))
    except Exception:
        log.exception("the default model could not be opened")
