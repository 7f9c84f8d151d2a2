"""Two pictures: a patch is clicked in one, and what matches it in the other lights up; nothing a model computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import views
from attnviz.measures.matches import best_matches, cross_cosines, cross_weights
from attnviz.models.picture_files import EXTENSIONS
from attnviz.types import Tokens
from attnviz.ui.core.budget import ON_DEMAND, fits
from attnviz.ui.core.cache import open_model, trace
from attnviz.ui.core.labels import call_labels, plain, token_name
from attnviz.ui.core.recorded import known, middle
from attnviz.ui.core.state import buttons, chosen_token, chosen_tokens, one_of, select, set_tokens
from attnviz.ui.inputs.image_run import OWN_KINDS, SECOND, ImageRun, chosen_size, own_pictures, prepared, take
from attnviz.ui.inputs.samples import open_sample, samples_of
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.display import display
from attnviz.ui.widgets.output import downloads, share_picture

MODE, KEY = "pictures", "second_picture"  # choices, in the address
MODES = {"one": "One picture", "two": "Two pictures"}
WAYS = {"attention": "Query and key", "cosine": "Features"}
WHY_WAY = (
    "Query and key: what the query of a patch would attend to in the other picture, by one head. Features: the cosine "
    "of the vectors of two patches after a layer."
)
FIRST, OTHERWISE = "ladybug", "snail"  # `python -m benchmarks.two_pictures --layer 4 --head 4` finds this pair
LAYER = HEAD = 4  # to begin with
SHOWN = 3  # of the best matches
A, B = "two:first", "two:second"  # views, and the pictures in them
GONE = (
    "The second picture of this link was kept in memory only and is gone. Choose it again under Your own second "
    "picture; until then a sample is shown."
)
WOULD = (
    "The model never sees both pictures, so no head computes this: it is what the head would do if the keys of its "
    "query were the patches of the other picture."
)
COSINE = "1 where two vectors point the same way; the model does not compare them."


def mode_choice() -> bool:
    """Whether a second picture is shown beside the one in the sidebar."""
    return one_of("Pictures", MODES, default="one", key=MODE) == "two"


def chosen() -> bool:
    """The same before the choice is drawn, which stands among the others of either page."""
    return st.session_state.get(MODE, st.query_params.get(MODE)) == "two"


def second_run(about: ImageRun) -> ImageRun:
    """The second picture with its trace: a sample or the visitor's own, in the address. Raises DamagedFile, Busy."""
    own, asked = own_pictures(), st.query_params.get(KEY)
    lost = asked in OWN_KINDS and asked not in own
    names = [*samples_of(about.name), *own]
    usual = next(name for name in (FIRST, OTHERWISE, *names) if name in names and name != about.source)
    name = select("Second picture", {n: n for n in names}, default=usual, key=KEY, width=220)
    with st.popover("Your own second picture", icon=":material/upload:"):
        key = "image:second"
        taken = partial(take, key, SECOND)
        st.file_uploader("A picture of your own", type=EXTENSIONS, key=key, max_upload_size=10, on_change=taken)
    if lost:
        st.warning(GONE, icon=":material/image_not_supported:")
    picture = own[name] if name in own else open_sample(about.name, name)
    model = open_model(about.name)
    sample = prepared(model.digest, picture.digest, model, picture.image, size=chosen_size(model))
    found = trace(about.name, sample)
    return ImageRun(model=model, name=about.name, picture=picture.image, sample=sample, trace=found, source=name)


def patches_of(run: ImageRun, stream: str) -> Tokens:
    """The patches alone, without CLS and the like, under a stream of their own."""
    tokens = run.sample.tokens["main"]
    return Tokens(tokens.labels[tokens.prefix :], tokens.grid, 0, stream)


@dataclass(frozen=True, eq=False)
class Matching:
    """How patches of one picture are matched with those of another."""

    title: str
    signed: bool  # cosines; else shares of attention
    rows: Callable[[ImageRun, ImageRun, list[int] | None], Float[np.ndarray, "query key"]]  # from, to, of which patches

    @property
    def look(self) -> dict[str, Any]:
        """How its numbers are sent."""
        named = {"map_type": "cosine", "unit": "number"} if self.signed else {"map_type": "match", "unit": "percent"}
        return {"signed": self.signed, "titles": [self.title], **named}

    def said(self, number: float) -> str:
        """One number of it."""
        return f"{number:.3f}".replace("-", "−") if self.signed else percent(number)


def matching_choice(about: ImageRun) -> Matching:
    """By the queries and keys of a head, or by features after a layer."""
    way = one_of("Match by", WAYS, default="attention", key="match", help=WHY_WAY)
    if way == "cosine":
        layers = len(about.trace.residuals["main"])
        depth = buttons("After layer", list(range(layers)), "two_depth", at=min(LAYER, layers - 1))
        return Matching(f"cosine after layer {depth}", True, partial(by_features, depth))
    labels = call_labels(about.trace)
    layer = buttons("Layer", labels, "two_layer", at=min(LAYER, len(labels)) - 1)
    heads = about.trace.calls[layer].heads
    head = buttons("Head", list(range(1, heads + 1)), "two_head", at=min(HEAD, heads) - 1)
    return Matching(f"layer {labels[layer]}, head {head + 1}", False, partial(by_head, layer, head))


def by_head(
    layer: int, head: int, one: ImageRun, other: ImageRun, rows: list[int] | None
) -> Float[np.ndarray, "query key"]:
    """What a head's queries would attend to in the other picture. Raises NoTokenMap."""
    return cross_weights(one.trace.calls[layer], other.trace.calls[layer], head, rows)


def by_features(depth: int, one: ImageRun, other: ImageRun, rows: list[int] | None) -> Float[np.ndarray, "query key"]:
    """Cosines of features after a layer, 0 being what enters the first."""
    first, second = (
        known(run.trace.residuals["main"][depth])[run.sample.tokens["main"].prefix :] for run in (one, other)
    )
    return cross_cosines(first if rows is None else first[rows], second)


# What is shown -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Asked:
    """Which patch asks: one of the first picture, or, where `back`, of the second."""

    one: ImageRun
    other: ImageRun
    back: bool
    patch: int

    @property
    def asking(self) -> ImageRun:
        """The picture whose patch asks."""
        return self.other if self.back else self.one

    @property
    def answering(self) -> ImageRun:
        """The picture in which matches are found."""
        return self.one if self.back else self.other


def asked(one: ImageRun, other: ImageRun) -> Asked:
    """The patch that was clicked last, in the address: in the first picture to begin with."""
    tokens, others = one.sample.tokens["main"], other.sample.tokens["main"]
    back = chosen_tokens("second_token", len(others) - others.prefix)
    here = chosen_token("token", len(tokens), middle(tokens))
    return Asked(one, other, bool(back), back[0] if back else max(0, here - tokens.prefix))


def pick(view: str, prefix: int) -> Callable[[tuple[int, ...]], None]:
    """What a click in one of the pictures does: its patch asks, and that of the other picture no more."""

    def picked(chosen: tuple[int, ...]) -> None:
        if chosen and view == A:
            set_tokens("token", [chosen[-1] + prefix])
        set_tokens("second_token", chosen[-1:] if view == B else ())

    return picked


def show(one: ImageRun, other: ImageRun) -> None:
    """Both pictures, the best matches in numbers, and the files. Raises NoTokenMap."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        matching, style = matching_choice(one), display()
    here = asked(one, other)
    row = matching.rows(here.asking, here.answering, [here.patch])[0]
    whole = fits(one.trace.calls[0])
    maps = send_whole(matching, here) if whole else send_row(matching, here, row)
    columns = st.columns(2, gap="medium")
    for place, run, view, name in zip(columns, (one, other), (A, B), ("First", "Second"), strict=True):
        with place:
            st.markdown(f"**{name} picture**, {plain(run.source)}")
            views.picture_view(
                view,
                picture=view,
                maps=maps[view],
                tokens=(here.patch,) if (view == B) == here.back else (),
                asked_in=B if view == A else A,
                style=replace(style, hide_special=False),
                height=440,
                on_pick=pick(view, one.sample.tokens["main"].prefix),
                label=f"{name} picture: click a patch to find what matches it in the other",
            )
    if not whole:
        st.caption(ON_DEMAND)
    numbers(matching, here, row)
    section("queries_keys", "Two pictures", title=False)
    downloads(
        lambda: dict(zip(("first_to_second", "second_to_first"), both_ways(matching, here), strict=True)),
        lambda: (["patch", matching.title], enumerate(row.tolist(), 1)),
        f"two-pictures-{one.source}-{other.source}",
    )


def both_ways(matching: Matching, here: Asked) -> tuple[np.ndarray, np.ndarray]:
    """All matches [query key], from the first picture to the second and back."""
    return matching.rows(here.one, here.other, None), matching.rows(here.other, here.one, None)


def send_pictures(here: Asked) -> tuple[Tokens, Tokens]:
    """Give the browser both pictures; the patches of each."""
    tokens = patches_of(here.one, "main"), patches_of(here.other, "second")
    for run, view, patches in zip((here.one, here.other), (A, B), tokens, strict=True):
        share_picture(replace(run, sample=replace(run.sample, tokens={"main": patches})), view)
    return tokens


def send_whole(matching: Matching, here: Asked) -> dict[str, str | None]:
    """Give the browser both pictures and all matches, so that pointing asks no server; the record of each view."""
    first, second = send_pictures(here)
    there, back = both_ways(matching, here)
    views.send_maps(f"{B}:matches", there[None], keys=second, queries=first, **matching.look)
    views.send_maps(f"{A}:matches", back[None], keys=first, queries=second, **matching.look)
    return {view: f"{view}:matches" for view in (A, B)}


def send_row(matching: Matching, here: Asked, row: Float[np.ndarray, " key"]) -> dict[str, str | None]:
    """The same where all matches are too large to be sent: those of the patch that asks."""
    first, second = send_pictures(here)
    view = A if here.back else B
    views.send_maps(f"{view}:matches", row[None], keys=first if here.back else second, **matching.look)
    return {A: None, B: None, view: f"{view}:matches"}


def numbers(matching: Matching, here: Asked, row: Float[np.ndarray, " key"]) -> None:
    """The patch that asks and its best matches, the best first."""
    asking, answering = patches_of(here.asking, "main"), patches_of(here.answering, "main")
    found = best_matches(row, SHOWN)
    of, where = ("second", "first") if here.back else ("first", "second")
    st.markdown(
        f"**Best matches** in the {where} picture for {token_name(asking, here.patch)} of the {of}: {matching.title}"
    )
    names = [token_name(answering, int(patch)) for patch in found]
    said = [matching.said(float(row[patch])) for patch in found]
    st.table({"Patch": names, "Cosine" if matching.signed else "Weight": said}, border="horizontal", hide_index=True)
    st.caption(WOULD if not matching.signed else COSINE)
