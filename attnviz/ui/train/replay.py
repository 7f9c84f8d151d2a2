"""The maps of a training run, epoch by epoch: which snapshot and digit are shown, and one picture per network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import streamlit as st
from PIL import Image

from attnviz import views
from attnviz.training.images.recipes import RECIPES
from attnviz.training.live import runs
from attnviz.types import Tokens
from attnviz.ui.core.labels import head_name
from attnviz.ui.core.state import chosen_tokens, keep_inside, one_of, set_tokens
from attnviz.ui.widgets.answers import percent

DIGITS = range(10)
FIRST_DIGIT = 3
HEIGHT, SMALL_HEIGHT = 420, 300  # pixels of the large map, of one network and of two


def choose_epoch(run: runs.TrainingRun) -> int:
    """Which epoch is shown: the last one during training, else any that was recorded."""
    last = run.epoch
    if run.active or last == 0:
        st.session_state["epoch:live"] = last
        st.slider("Replay: epoch", 0, run.plan.epochs, key="epoch:live", disabled=True)
        return last
    keep_inside("epoch", range(last + 1))
    return st.slider(
        "Replay: epoch",
        0,
        last,
        last,
        key="epoch",
        bind="query-params",
        help="Drag, or press the arrow keys, to see how the maps change",
    )


def choose_digit() -> int:
    """Which of the ten held-out pictures is shown."""
    keep_inside("digit", DIGITS)
    return one_of("Digit", list(DIGITS), default=FIRST_DIGIT, key="digit")


def patches() -> Tokens:
    """The patches of a digit."""
    config = RECIPES["vit-digits"].config
    side = config.size // config.patch
    return Tokens.patches(side, side)


def send_picture(digit: int) -> None:
    """Give the browser the picture of the digit."""
    picture = Image.fromarray(runs.probe_pictures().images[digit, ..., 0])
    views.send_picture("train:picture", picture, picture, (0, 0, *picture.size), patches())


@dataclass(frozen=True, eq=False)
class Shown:
    """One network after some epochs, and what is picked of it."""

    number: int  # of the network in the run
    model: runs.LiveModel
    epoch: int
    digit: int
    row: int  # of the attention call whose map is large
    head: int
    tokens: tuple[int, ...]  # the query that is picked

    @property
    def snapshot(self) -> runs.Snapshot:
        """What was recorded of it."""
        return self.model.snapshots[self.epoch]

    @property
    def map(self) -> runs.RecordedMap:
        """The map that is large, of all heads."""
        return self.snapshot.maps[self.row]


def picked(run: runs.TrainingRun, number: int, epoch: int, digit: int) -> Shown:
    """One network with the picked map and patch, which all networks share as far as they have them."""
    model = run.models[number]
    maps, count = model.snapshots[epoch].maps, len(patches())
    cell = chosen_tokens("tile", 64, (len(maps) - 1, 0))
    row, head = min(cell[0], len(maps) - 1), min((*cell, 0)[1], maps[-1].array.shape[1] - 1)
    tokens = chosen_tokens("token", count, (count // 2 + 2,))[-1:]
    return Shown(number, model, epoch, digit, row, head, tokens)


def draw_model(run: runs.TrainingRun, number: int, epoch: int, digit: int, style: views.ViewStyle) -> None:
    """One network after some epochs: its prediction, one map large, and all maps."""
    shown, alone = picked(run, number, epoch, digit), len(run.models) == 1
    slots = [send_map(shown, row) for row in range(len(shown.snapshot.maps))]
    style = replace(style, hide_special=False)
    st.markdown(prediction(shown))
    large, small = st.columns(2, gap="medium") if alone else (st.container(), st.container())
    with large:
        draw_large(shown, slots[shown.row], style, HEIGHT if alone else SMALL_HEIGHT)
    with small:
        draw_all(shown, slots, style)
        st.caption(" ".join(filter(None, [f"Map type: {shown.map.map_type}.", shown.map.caveat])))


def prediction(shown: Shown) -> str:
    """What a network predicts for the digit, and its accuracy on all held-out digits, as Markdown."""
    probabilities = shown.snapshot.probabilities[shown.digit]
    best = int(probabilities.argmax())
    mark, count = "green" if best == shown.digit else "red", len(runs.load_digits("val").labels)
    return (
        f"**{shown.model.title}** predicts :{mark}[**{best}**] with {percent(float(probabilities[best]))} · "
        f"accuracy {percent(shown.snapshot.accuracy)} on {count} held-out digits"
    )


def draw_large(shown: Shown, slot: str, style: views.ViewStyle, height: int) -> None:
    """The picked map over the digit, or why there is none."""
    if shown.map.reason:
        st.info(f"{shown.model.title}: {shown.map.reason}.", icon=":material/info:")
        return
    views.picture_view(
        f"train:large:{shown.number}",
        picture="train:picture",
        maps=slot,
        index=shown.head,
        tokens=shown.tokens,
        style=style,
        height=height,
        on_pick=partial(pick, "token"),
        label=f"The digit with {shown.map.name}, {head_name(shown.head).lower()}",
    )


def draw_all(shown: Shown, slots: list[str], style: views.ViewStyle) -> None:
    """Every map of a network: a row for each attention call, a column for each head."""
    maps, over_tokens = shown.snapshot.maps, not shown.map.reason
    views.tiles_view(
        f"train:all:{shown.number}",
        picture="train:picture",
        maps=slots,
        tokens=shown.tokens if over_tokens else (),
        style=style,
        rows=[one.name for one in maps],
        selected=(shown.row, shown.head),
        columns=[head_name(i) for i in range(max(one.array.shape[1] for one in maps))],
        tile=min(104, HEIGHT // len(maps)),
        mode="rows" if over_tokens else "matrix",
        on_pick=partial(pick, "tile"),
        label=f"Every map of {shown.model.title}; click one to open it",
    )


def pick(name: str, chosen: tuple[int, ...]) -> None:
    """Keep what was clicked; a click that deselects keeps the last one."""
    if chosen:
        set_tokens(name, chosen)


def send_map(shown: Shown, row: int) -> str:
    """Give the browser one map of one epoch, all heads, on one colour scale for all epochs; returns its slot."""
    one, slot = shown.snapshot.maps[row], f"train:{shown.number}:{row}"
    array, tokens = one.array[shown.digit], patches()
    if one.reason:
        tokens = Tokens(tuple(f"channel {i + 1}" for i in range(array.shape[-1])), stream="channel")
    views.send_maps(
        slot,
        array,
        titles=[f"{one.name}, {head_name(i).lower()}" for i in range(len(array))],
        keys=tokens,
        signed=any((snapshot.maps[row].array < 0).any() for snapshot in shown.model.snapshots),
        map_type=one.map_type,
        unit="percent" if one.stochastic else "number",
    )
    return slot
