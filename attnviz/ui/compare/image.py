"""What the Compare page needs to know to compare attention variants on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import streamlit as st
import torch

from attnviz import views
from attnviz.attention import VARIANTS
from attnviz.measures.heads import MEASURES
from attnviz.models import DamagedFile, ImageModel, TextModel
from attnviz.training.images.bench import EQUAL, SAME, SHAPE, TOLERANCE, count_parameters
from attnviz.types import Sample, Tokens
from attnviz.ui.compare.domain import Answer, Domain, MapRecord, MapStyle, Panel
from attnviz.ui.compare.maps import grid_name
from attnviz.ui.core.bench import PICTURES, Bench, Row, accuracy, read_bench
from attnviz.ui.core.cache import open_model
from attnviz.ui.core.recorded import middle
from attnviz.ui.core.state import chosen_tokens, set_tokens
from attnviz.ui.inputs.crop import chosen_crop
from attnviz.ui.inputs.image_run import ImageRun, chosen_picture, chosen_size, prepared
from attnviz.ui.widgets.answers import best
from attnviz.ui.widgets.display import display
from attnviz.ui.widgets.output import share_picture

OWN_SIZE = "This page reads pictures at the size its networks were trained on; the input size is for the other pages."


@dataclass(frozen=True, eq=False)
class ImageMapStyle(MapStyle):
    """Maps over the visitor's picture."""

    input_name: ClassVar[str] = "your picture"

    def selected(self, tokens: Tokens) -> tuple[int, ...]:
        """The selected patch."""
        return chosen_tokens("token", len(tokens), (middle(tokens),))[-1:]

    def select(self, indices: tuple[int, ...]) -> None:
        """A click on a patch selects it in every panel; a click on the selected one keeps it."""
        if indices:
            set_tokens("token", indices)

    def draw(
        self,
        key: str,
        panel: Panel,
        record: MapRecord,
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
            picture=picture_record(panel.tokens),
            maps=record.name,
            index=record.index,
            tokens=tokens,
            style=replace(self.view, shared=shared),
            height=height,
            on_pick=self.select,
            label=label,
        )


class ImageDomain(Domain):
    """Photographs, in patches."""

    page, recipe, donor, inputs = "compare", PICTURES, "vit", "photographs"
    variants, default_variants = tuple(VARIANTS), ("mha", "window2d", "linear", "xca")
    requirement_names: ClassVar = {"grid": "a grid of patches", "length": "a fixed number of tokens"}
    width, heads, layers, input_size = SHAPE.width, SHAPE.heads, SHAPE.layers, "64 patches"
    measures = (MEASURES["entropy"], MEASURES["distance"])
    score, accuracy_columns = "top-1", ("Top-1 (95 %)", "Top-1, equal parameters")
    interval_over = "pictures"
    attention_help = (
        "Attention: the token-to-token map over the picture. Native maps: what the formula computes, which need not be "
        "such a map. Rollout: the maps of all layers chained."
    )
    separate_help = (
        "**Trained separately.** Every variant in a network of its own: same pictures, steps, optimiser and shape, "
        "trained from scratch. Maps differ because the networks have learned different things."
    )
    token_name = "patch"
    mean_pooling = "all patches alike, since the answer is read from their mean"
    statistics_help = (
        "Means over all layers and heads, on this picture. Head diversity is the mean Jensen-Shannon distance of two "
        "heads of a layer: 0 where all maps are equal, 1 where no two heads attend to a common patch."
    )
    shift = "{mean} of the weight lies on other patches, over all queries."
    shift_of_token = "{mean} of the weight lies on other patches, over all queries, {own} for the selected patch."

    def bench(self) -> Bench:
        """What has been trained."""
        return read_bench(PICTURES)

    def prepare(self, model: ImageModel | TextModel) -> Sample:
        """The visitor's picture, as a network reads it."""
        picture = chosen_picture()
        return prepared(model.digest, picture.digest, model, picture.image, chosen_crop())

    def remark(self) -> str:
        """That the size chosen in the sidebar is for other pages, where it is another one."""
        with suppress(DamagedFile):  # this page does not need the model, so its damage is not said here
            return OWN_SIZE if chosen_size(open_model(st.session_state["model"])) else ""
        return ""

    def map_style(self, tokens: Tokens | None) -> ImageMapStyle:
        """The popover shared by all pages of pictures."""
        return ImageMapStyle(display())

    def send_input(self, panels: Sequence[Panel]) -> None:
        """Give the browser the picture, once for each grid of patches."""
        for name, panel in {picture_record(panel.tokens): panel for panel in panels}.items():
            share_picture(image_run(panel), name)

    def measured_rows(self, tokens: Tokens) -> torch.Tensor:
        """The rows of patches."""
        return torch.arange(tokens.prefix, len(tokens))

    def answer(self, panel: Panel, token: int) -> Answer:
        """The likeliest class of the picture."""
        model, _, trace = panel.contents()
        return Answer(*best(model, trace, 1)[0])

    def network_size(self, name: str) -> int:
        """Parameters of the bench network with this variant."""
        return network_size(name)

    def accuracies(self, name: str, bench: Bench) -> list[str]:
        """Top-1 in the same shape, and at equal parameters."""
        same, equal = (accuracy(bench.seeds(name, run)) for run in (SAME, EQUAL))
        texts = [one.text if one else "not trained" for one in (same, equal)]
        if same and not equal and not has_equal_run(name):
            texts[1] = "same network"  # within a tenth already, so the bench trains it once
        return texts

    def training(self, row: Row) -> str:
        """How long, and on how many pictures."""
        steps = f"{row['steps']:,} steps of {row['batch']:,} pictures" if {"steps", "batch"} <= row.keys() else "a time"
        return steps + (f", tested on {row['held_out']:,} held-out pictures" if "held_out" in row else "")


def image_run(panel: Panel) -> ImageRun:
    """A panel as the record that other pages read. Raises NoTokenMap where there is no trace."""
    model, sample, trace = panel.contents()
    picture, source = chosen_picture().image, st.session_state["sample"]
    return ImageRun(model=model, name=model.name, picture=picture, sample=sample, trace=trace, source=source)


def picture_record(tokens: Tokens) -> str:
    """The record of the picture cut into these patches."""
    return f"picture:{grid_name(tokens)}"


@st.cache_data(max_entries=64, show_spinner=False)
def network_size(name: str) -> int:
    """Parameters of the bench network with this variant."""
    return count_parameters(replace(SHAPE, variant=name))


def has_equal_run(name: str) -> bool:
    """Whether the bench trains this variant a second time, at the parameters of multi-head attention."""
    return abs(network_size(name) / network_size("mha") - 1) > TOLERANCE
