"""Which tokens are taken away: the strongest by a ranking, random ones, all but the strongest, or picked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz import views
from attnviz.methods.base import outside
from attnviz.types import Tokens
from attnviz.ui.core.state import go, keep_inside, one_of, whole_number
from attnviz.ui.test.answer import DRAWS, Tested

STRONGEST, RANDOM, OTHERS, PICKED = "strongest", "random", "others", "picked"
HOW = {STRONGEST: "Strongest", RANDOM: "Random", OTHERS: "All but the strongest", PICKED: "Picked"}
SHARE = 30  # percent that the strongest are to begin with
MOST_SEED = 999
WHY_HOW = (
    "Click a token to take it away or to bring it back, or drag a rectangle over the picture: then it is your pick."
)
WHY_SHARE = "How many of the patches or words count as the strongest, or are drawn at random."


def candidates(tokens: Tokens, test: Tested | None) -> list[int]:
    """The tokens that stand for a patch or a word, but one that the whole answer is read from."""
    alone = set(test.read_from) if test is not None and len(test.read_from) == 1 else set[int]()
    return [i for i, out in enumerate(outside(tokens).tolist()) if not out and i not in alone]


def choice(
    where: Any,
    among: Sequence[int],
    ranking: Float[Tensor, " token"] | None,
    picked: Sequence[int],
    *,
    key: str,
    label: str,
) -> tuple[str, tuple[int, ...]]:
    """How tokens are chosen, and which ones, with the controls for it; `key` is that of the first one."""
    how = one_of(label, HOW, default=STRONGEST, key=key, where=where, help=WHY_HOW)
    if how == PICKED:
        return how, tuple(picked)
    keep_inside("part", range(5, 96))
    share = where.slider(
        "Share", 5, 95, SHARE, 5, format="%d %%", key="part", bind="query-params", help=WHY_SHARE, width=180
    )
    seed = whole_number("Seed", MOST_SEED, key="drawn", where=where, width=110) if how == RANDOM else 0
    return how, chosen(how, among, ranking, share / 100, seed)


def chosen(
    how: str, among: Sequence[int], ranking: Float[Tensor, " token"] | None, share: float, seed: int = 0
) -> tuple[int, ...]:
    """The tokens of `among` that are taken away, in order; none where a ranking is needed and there is none."""
    count = min(len(among), max(1, round(share * len(among))))
    if how == RANDOM:
        return draws(among, count, 1, seed)[0]
    if ranking is None:
        return ()
    strongest = {i for i in sorted(among, key=lambda token: -float(ranking[token]))[:count]}
    return tuple(i for i in among if (i in strongest) == (how == STRONGEST))


def draws(among: Sequence[int], count: int, times: int = DRAWS, seed: int = 1000) -> list[tuple[int, ...]]:
    """Random sets of so many tokens, by a seed; the seeds of controls lie beyond those a visitor may give."""
    found = []
    for turn in range(times if count else 0):
        order = torch.randperm(len(among), generator=torch.Generator().manual_seed(seed + turn))
        found.append(tuple(sorted(among[i] for i in order[:count].tolist())))
    return found


def draw_set(
    view: str,
    tokens: Tokens,
    gone: Sequence[int],
    ranking: Float[Tensor, " token"] | None,
    names: tuple[str, str],
    label: str,
    height: int = 340,
) -> None:
    """The input with what is taken away; clicks change it. `names`: of the pick, and of how tokens are chosen."""

    def pick(now: tuple[int, ...]) -> None:
        go(**{names[0]: tuple(sorted(now)), names[1]: PICKED})

    if tokens.grid is not None:
        views.picture_view(view, picture="picture", tokens=gone, removal=True, height=height, label=label, on_pick=pick)
        return
    row = torch.zeros(len(tokens)) if ranking is None else ranking.float()
    slot = f"{view}:ranking"
    views.send_maps(
        slot,
        row.numpy()[None],
        titles=[label],
        keys=tokens,
        signed=bool((row < 0).any()),
        map_type="relevance",
        unit="number" if bool((row < 0).any()) else "percent",
    )
    views.text_view(view, maps=slot, tokens=gone, removal=True, label=label, on_pick=pick)
