"""What the Compare page needs to know to compare kinds of attention on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import streamlit as st
import torch

from attnviz import views
from attnviz.attention import VARIANTS
from attnviz.measures.heads import MEASURES
from attnviz.training.images.bench import EQUAL, SAME, SHAPE, TOLERANCE, count_parameters
from attnviz.types import Sample, Tokens
from attnviz.ui.compare.domain import Domain, MapStyle, Panel, Slot
from attnviz.ui.compare.maps import grid_name
from attnviz.ui.core.bench import PICTURES, Bench, Row, accuracy, bench
from attnviz.ui.core.recorded import middle
from attnviz.ui.core.state import chosen_tokens, set_tokens
from attnviz.ui.inputs.crop import chosen_crop
from attnviz.ui.inputs.image_run import ImageRun, chosen_picture, prepared
from attnviz.ui.widgets.answers import best, percent
from attnviz.ui.widgets.display import display
from attnviz.ui.widgets.output import share_picture


@dataclass(frozen=True, eq=False)
class PictureLook(MapStyle):
    """Maps over the visitor's picture."""

    over: ClassVar[str] = "your picture"

    def picked(self, tokens: Tokens) -> tuple[int, ...]:
        """The patch that is held."""
        return chosen_tokens("token", len(tokens), (middle(tokens),))[-1:]

    def pick(self, chosen: tuple[int, ...]) -> None:
        """A click on a patch holds it in every panel; letting go keeps the last one."""
        if chosen:
            set_tokens("token", chosen)

    def draw(
        self,
        key: str,
        panel: Panel,
        slot: Slot,
        tokens: Sequence[int],
        label: str,
        *,
        height: int,
        shared: bool = False,
        row: bool = False,
    ) -> None:
        """The picture with one map over it."""
        views.picture_view(
            key,
            picture=slot_of(panel.tokens),
            maps=slot.name,
            index=slot.index,
            tokens=tokens,
            style=replace(self.style, shared=shared),
            height=height,
            on_pick=self.pick,
            label=label,
        )


class Pictures(Domain):
    """Photographs, in patches."""

    page, recipe, donor, reads = "compare", PICTURES, "vit", "photographs"
    variants, first = tuple(VARIANTS), ("mha", "window2d", "linear", "xca")
    needs: ClassVar = {"grid": "a grid of patches", "length": "a fixed number of tokens"}
    width, heads, layers, size = SHAPE.width, SHAPE.heads, SHAPE.layers, "64 patches"
    measures = (MEASURES["entropy"], MEASURES["distance"])
    score, columns = "top-1", ("Top-1 (95 %)", "Top-1, equal parameters")
    over = "pictures"

    def bench(self) -> Bench:
        """What has been trained."""
        return bench(PICTURES)

    def prepare(self, model: Any) -> Sample:
        """The visitor's picture, as a network reads it."""
        shown = chosen_picture()
        return prepared(model.digest, shown.digest, model, shown.image, chosen_crop())

    def look(self, tokens: Tokens | None) -> PictureLook:
        """The popover shared by all pages of pictures."""
        return PictureLook(display())

    def share(self, panels: Sequence[Panel]) -> None:
        """Give the browser the picture, once for each grid of patches."""
        for name, panel in {slot_of(panel.tokens): panel for panel in panels}.items():
            share_picture(visit_of(panel), name)

    def counted(self, tokens: Tokens) -> torch.Tensor:
        """The rows of patches."""
        return torch.arange(tokens.prefix, len(tokens))

    def answer(self, panel: Panel, token: int) -> str:
        """What a network says the picture shows."""
        model, _, trace = panel.shows()
        name, probability = best(model, trace, 1)[0]
        return f"says **{name}** ({percent(probability)})."

    def network_size(self, name: str) -> int:
        """Parameters of the bench network with this variant."""
        return network_size(name)

    def trained(self, name: str, found: Bench) -> list[str]:
        """Top-1 in the same shape, and at equal parameters."""
        right = [accuracy(found.seeds(name, run)) for run in (SAME, EQUAL)]
        said = [one.words if one else "not trained" for one in right]
        if right[0] and not right[1] and not unequal(name):
            said[1] = "same network"  # within a tenth already, so the bench trains it once
        return said

    def training(self, row: Row) -> str:
        """How long, and on how many pictures."""
        steps = f"{row['steps']:,} steps of {row['batch']:,} pictures" if {"steps", "batch"} <= row.keys() else "a time"
        return steps + (f", tested on {row['held_out']:,} held-out pictures" if "held_out" in row else "")


def visit_of(panel: Panel) -> ImageRun:
    """A panel as what the rest of the app calls a visit. Raises NoTokenMap where it shows nothing."""
    model, sample, trace = panel.shows()
    picture, source = chosen_picture().image, st.session_state["sample"]
    return ImageRun(model=model, name=model.name, picture=picture, sample=sample, trace=trace, source=source)


def slot_of(tokens: Tokens) -> str:
    """The slot of the picture cut into these patches."""
    return f"picture:{grid_name(tokens)}"


@st.cache_data(max_entries=64, show_spinner=False)
def network_size(name: str) -> int:
    """Parameters of the bench network with this variant."""
    return count_parameters(replace(SHAPE, variant=name))


def unequal(name: str) -> bool:
    """Whether the bench trains this variant a second time, at the parameters of multi-head attention."""
    return abs(network_size(name) / network_size("mha") - 1) > TOLERANCE
