"""Which maps of the page Explain lie where in the browser: those on one scale in one record, signed ones apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from attnviz import views
from attnviz.types import Tokens
from attnviz.ui.explain.choice import Choice
from attnviz.ui.explain.compared import Tile
from attnviz.ui.explain.steps import Result, titles

SLOT = "rollout"  # the method's maps, one for each layer it may be given, then all that share a scale with them
OTHER = "rollout:other"  # those that share none with them: signed beside others, or others beside signed
RAW_PLACE = "raw"  # of raw attention, among the names of places
Places = dict[str, tuple[str, int]]  # name -> slot in the browser, and index there


def send(
    choice: Choice,
    result: Result,
    tokens: Tokens,
    tiles: Sequence[Tile],
    rows: Callable[[np.ndarray, bool], np.ndarray],
    every: Callable[[np.ndarray], np.ndarray],
    *,
    shared: bool,
) -> Places:
    """Give the browser every map of the page, and say where each small one lies.

    `rows` makes rows over tokens (signed or not), `every` square maps, what is shown of them. Maps of every token go
    where nothing is compared: pointing then shows each token's own map. On a shared scale, signed maps are divided by
    the sums of their absolute values, as the others are divided by their sums.
    """
    signed, others = [], [] if result.raw is None else [(RAW_PLACE, "Raw attention", result.raw)]
    for one in tiles:
        if one.row is not None:
            (signed if one.signed else others).append((one.name, one.title, one.row))
    with_own, apart = (signed, others) if result.signed else (others, signed)
    own = [(None, title, row) for title, row in zip(titles(choice), result.steps, strict=False)]
    places: Places = {}
    for slot, group, is_signed in ((SLOT, [*own, *with_own], result.signed), (OTHER, apart, not result.signed)):
        places |= {name: (slot, index) for index, (name, _, _) in enumerate(group) if name is not None}
        if not group:
            continue
        shown = rows(np.stack([row for _, _, row in group]), is_signed)
        if slot == SLOT and result.every is not None and not tiles:
            shown = every(result.every)
        views.send_maps(
            slot,
            balanced(shown) if is_signed and shared else shown,
            titles=[title for _, title, _ in group],
            keys=tokens,
            map_type="relevance",
            signed=is_signed,
            unit="number" if is_signed else "percent",
        )
    return places


def balanced(rows: Float[np.ndarray, "map token"]) -> Float[np.ndarray, "map token"]:
    """Signed rows divided by the sums of their absolute values; one of zeros stays."""
    sums = np.abs(rows).sum(-1, keepdims=True)
    return rows / np.where(sums == 0, 1, sums)
