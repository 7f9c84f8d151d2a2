"""All in which the Compare page differs between pictures and texts: a `Domain` to compare on, a `MapStyle` to draw by.

To compare on something else, write a file like image.py and one line in `choice.current_domain`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.attention import VARIANTS, Variant
from attnviz.measures.heads import Measure
from attnviz.models import ImageModel, TextModel
from attnviz.types import AttentionCall, NoTokenMap, Sample, Tokens, Trace
from attnviz.ui.core.bench import Bench, Row
from attnviz.ui.widgets.display import masked_of
from attnviz.views.canvas import ViewStyle

UNTRAINED = (
    "No trained network of this variant is shipped yet. Its cost, formula and what it supports stand below; shared "
    "weights show the formula in a network trained with another one. `make train NAME={recipe}` trains its own."
)


@dataclass(frozen=True, eq=False)
class Panel:
    """One variant at this input."""

    variant: str  # in VARIANTS
    model: ImageModel | TextModel | None = None  # with shared weights the network whose parameters are used
    sample: Sample | None = None
    trace: Trace | None = None
    reason: str = ""  # why there is no trace, in sentences
    new_parameters: bool = False  # whether it has parameters that the donor has not

    @property
    def attention(self) -> type[Variant]:
        """The class of the variant."""
        return VARIANTS[self.variant]

    @property
    def title(self) -> str:
        """What it is called on screen."""
        return self.attention.title

    @property
    def tokens(self) -> Tokens:
        """What its network reads. Raises NoTokenMap where there is no trace."""
        return self.contents()[1].tokens["main"]

    @property
    def key(self) -> tuple[str, ...]:
        """What its maps are cached under. Raises NoTokenMap where there is no trace."""
        model, sample, _ = self.contents()
        return model.digest, sample.digest, model.spec.variant, self.variant

    @property
    def layers(self) -> int:
        """How many layers it has; one where there is no trace."""
        return 1 if self.trace is None else 1 + max(call.layer for call in self.trace.calls)

    @property
    def heads(self) -> int:
        """How many heads its layers have; one where there is no trace."""
        return 1 if self.trace is None else max(call.heads for call in self.trace.calls)

    def calls(self, layer: int) -> list[AttentionCall]:
        """The calls of one layer, in order: axial attention has two, which are chained."""
        return [] if self.trace is None else [call for call in self.trace.calls if call.layer == layer]

    def contents(self) -> tuple[ImageModel | TextModel, Sample, Trace]:
        """Its model, the input it read and what it computed. Raises NoTokenMap where there is no trace."""
        if self.model is None or self.sample is None or self.trace is None:
            raise NoTokenMap(self.reason)
        return self.model, self.sample, self.trace


@dataclass(frozen=True)
class MapRecord:
    """Where maps lie in the browser, and which of them belongs to a panel."""

    name: str
    index: int


class Answer(NamedTuple):
    """What a network predicts for the input."""

    label: str
    probability: float
    note: str = ""  # what it predicts for the selected token, as a sentence; may be empty


class DisplayedMaps(NamedTuple):
    """Maps as they are drawn, with what stands along their axes; no rows where there is one number per key."""

    values: Float[np.ndarray, "map *row key"]
    rows: Tokens | None
    keys: Tokens


@dataclass(frozen=True, eq=False)
class MapStyle:
    """How maps are drawn: as they are, unless a domain has more to say."""

    input_name: ClassVar[str]  # what maps are drawn over
    view: ViewStyle

    def arrange(
        self, values: Float[np.ndarray, "map *row key"], rows: Tokens | None, keys: Tokens, *, stochastic: bool
    ) -> DisplayedMaps:
        """Maps as they are drawn; `stochastic`: rows sum to 1, so that they may be divided by what is left of them."""
        return DisplayedMaps(values, rows, keys)

    def masked(self, calls: Sequence[AttentionCall]) -> Bool[np.ndarray, "query key"] | None:
        """What the mask of a layer forbids, as it is drawn; None where there is no mask, and for several calls."""
        return masked_of(calls[0]) if len(calls) == 1 else None

    def left_out(self, values: Float[np.ndarray, "map query key"], *, stochastic: bool) -> str:
        """What was left out of a map, in a sentence; empty where nothing was."""
        return ""

    def selected(self, tokens: Tokens) -> tuple[int, ...]:
        """What the visitor has selected, by its index among what is drawn."""
        raise NotImplementedError

    def token(self, selected: Sequence[int]) -> int:
        """The token behind the selection."""
        return selected[-1]

    def select(self, indices: tuple[int, ...]) -> None:
        """A click selects in every panel; a click on the selection keeps it."""
        raise NotImplementedError

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
        """One map over the visitor's input; `row` where it is one number per token."""
        raise NotImplementedError


class Domain:
    """What attention variants are compared on."""

    page: str  # whose prose it is
    recipe: str  # that trained its networks: a folder of assets/models, and a name for `make train`
    donor: str  # the model whose weights are shared where the bench has no multi-head attention
    inputs: str  # what the networks read, in one word
    variants: tuple[str, ...]  # what can be compared on it
    default_variants: tuple[str, ...]
    requirement_names: ClassVar[Mapping[str, str]]  # what a variant may need
    width: int
    heads: int
    layers: int
    input_size: str  # how much its networks read, in words
    measures: tuple[Measure, Measure]  # how even rows are, and how far they reach
    score: str  # what `top1` of a row of its bench is called
    accuracy_columns: tuple[str, str]  # of the table of costs
    interval_over: str  # what an interval of one network is over
    note: str = ""  # on the accuracy
    attention_help: str  # on the choice of what is shown
    separate_help: str  # what "Trained separately" means
    token_name: str  # what one token is called
    mean_pooling: str  # where a rollout starts if the answer is read from the mean
    statistics_help: str  # below the table of map statistics
    shift: str  # below a difference: how much of the weight lies elsewhere
    shift_of_token: str  # the same, with the selected token

    def bench(self) -> Bench:
        """What has been trained."""
        raise NotImplementedError

    def options(self, name: str, prefix: int = 0) -> dict[str, Any]:
        """How a variant is built, in a network whose first `prefix` tokens have no position."""
        return {}

    def prepare(self, model: ImageModel | TextModel) -> Sample:
        """The visitor's input, as a network reads it."""
        raise NotImplementedError

    def map_style(self, tokens: Tokens | None) -> MapStyle:
        """Draw the display options and return them; no tokens where no panel has a trace."""
        raise NotImplementedError

    def remark(self) -> str:
        """What has to be said of the input, in a sentence; may be empty."""
        return ""

    def send_input(self, panels: Sequence[Panel]) -> None:
        """Give the browser what maps are drawn over, and say what was left out of it."""

    def measured_rows(self, tokens: Tokens) -> Tensor:
        """The rows that measures count."""
        raise NotImplementedError

    def answer(self, panel: Panel, token: int) -> Answer:
        """What a network predicts; `token` is the selected one."""
        raise NotImplementedError

    def untrained(self, name: str) -> str:
        """Why there is no network with a variant, in a sentence."""
        return UNTRAINED.format(recipe=self.recipe)

    def network_size(self, name: str) -> int:
        """Parameters of the bench network with this variant."""
        raise NotImplementedError

    def accuracies(self, name: str, bench: Bench) -> list[str]:
        """How well the network of a variant does, under `accuracy_columns`."""
        raise NotImplementedError

    def training(self, row: Row) -> str:
        """How long its networks were trained, on what, and what they were tested on, by one row of the bench."""
        raise NotImplementedError
