"""How large a map may be that is sent to the browser whole."""

from __future__ import annotations

from attnviz.types import AttentionCall

MAP_CELLS = 2_200_000  # entries of one message of maps that keep it below the budget of 2 MB
ON_DEMAND = "These maps are too large to be sent whole: a click on a patch asks for its row."


class TooLarge(Exception):
    """The input has too many tokens for what was asked; the message is a sentence for the visitor."""


def fits(call: AttentionCall, heads: int = 1) -> bool:
    """Whether so many maps of a call can be sent whole; if not, pages send rows on demand and means of blocks."""
    return heads * len(call.queries) * len(call.keys) <= MAP_CELLS
