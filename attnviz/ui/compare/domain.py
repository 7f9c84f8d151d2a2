"""All in which the Compare page differs between pictures and sentences: a `Ground` to compare on, a `Look` to draw by.

To compare on something else, write a file like compare_pictures.py and one line in `compare.ground`.
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


@dataclass(frozen=True, eq=False)
class Panel:
    """One variant at this input."""

    variant: str  # in VARIANTS
    model: ImageModel | TextModel | None = None  # in same-weights mode the network whose parameters are used
    sample: Sample | None = None
    trace: Trace | None = None
    reason: str = ""  # why there is no trace
    fresh: bool = False  # it has parameters that it could not take over

    @property
    def kind(self) -> type[Variant]:
        """The class of the variant."""
        return VARIANTS[self.variant]

    @property
    def title(self) -> str:
        """What it is called on screen."""
        return self.kind.title

    @property
    def tokens(self) -> Tokens:
        """What its network reads. Raises NoTokenMap where it shows nothing."""
        return self.shows()[1].tokens["main"]

    @property
    def key(self) -> tuple[str, ...]:
        """What its maps are cached under. Raises NoTokenMap where it shows nothing."""
        model, sample, _ = self.shows()
        return model.digest, sample.digest, model.config.variant, self.variant

    @property
    def layers(self) -> int:
        """How many layers it shows; one where it shows nothing."""
        return 1 if self.trace is None else 1 + max(call.layer for call in self.trace.calls)

    @property
    def heads(self) -> int:
        """How many heads its layers have; one where it shows nothing."""
        return 1 if self.trace is None else max(call.heads for call in self.trace.calls)

    def calls(self, layer: int) -> list[AttentionCall]:
        """The calls of one layer, in order: axial attention has two, which are chained."""
        return [] if self.trace is None else [call for call in self.trace.calls if call.layer == layer]

    def shows(self) -> tuple[Any, Sample, Trace]:
        """Its model, what that read and what it computed. Raises NoTokenMap where it shows nothing."""
        if self.model is None or self.sample is None or self.trace is None:
            raise NoTokenMap(self.reason)
        return self.model, self.sample, self.trace


@dataclass(frozen=True)
class Slot:
    """Where maps lie in the browser, and which of them belongs to a panel."""

    name: str
    index: int


class Shown(NamedTuple):
    """Maps as they are drawn, with what stands along their axes; no rows where there is one number per key."""

    values: Float[np.ndarray, "map *row key"]
    rows: Tokens | None
    keys: Tokens


@dataclass(frozen=True, eq=False)
class MapStyle:
    """How maps are drawn: as they are, unless a ground has more to say."""

    over: ClassVar[str]  # what maps are drawn over, in words
    style: ViewStyle

    def shown(
        self, values: Float[np.ndarray, "map *row key"], rows: Tokens | None, keys: Tokens, *, shares: bool
    ) -> Shown:
        """Maps as they are drawn; `shares`: rows are shares of one, so that they may be divided by what is left."""
        return Shown(values, rows, keys)

    def masked(self, calls: Sequence[AttentionCall]) -> Bool[np.ndarray, "query key"] | None:
        """What a layer may not look at, as it is drawn; of several steps nobody says, and None where there is none."""
        return masked_of(calls[0]) if len(calls) == 1 else None

    def left_out(self, values: Float[np.ndarray, "map query key"], *, shares: bool) -> str:
        """What was left out of a map, in words; empty where nothing was."""
        return ""

    def picked(self, tokens: Tokens) -> tuple[int, ...]:
        """What the visitor holds, by its number among what is drawn."""
        raise NotImplementedError

    def token(self, picked: Sequence[int]) -> int:
        """The token behind what is held."""
        return picked[-1]

    def pick(self, chosen: tuple[int, ...]) -> None:
        """A click holds something in every panel; letting go keeps the last one."""
        raise NotImplementedError

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
        """One map over what the visitor brought; `row` where it is one number per token."""
        raise NotImplementedError


class Domain:
    """What kinds of attention are compared on."""

    page: str  # whose prose it is
    recipe: str  # that trained its networks: a folder of assets/models, and a name for `make train`
    donor: str  # the model whose layers are lent where the bench has no multi-head attention
    reads: str  # what the networks read, in a word
    variants: tuple[str, ...]  # what can be compared on it
    first: tuple[str, ...]  # what a visitor sees first
    needs: ClassVar[Mapping[str, str]]  # of a variant, in words
    width: int
    heads: int
    layers: int
    size: str  # how much its networks read, in words
    measures: tuple[Measure, Measure]  # how even rows are, and how far they reach
    score: str  # what `top1` of a row of its bench is
    columns: tuple[str, str]  # over what is said of accuracy in the table

    def worded(self, text: str) -> str:
        """A sentence about pictures and patches, said of what is compared here."""
        return text

    def bench(self) -> Bench:
        """What has been trained."""
        raise NotImplementedError

    def options(self, name: str, prefix: int = 0) -> dict[str, Any]:
        """How a variant is made, in a network whose first `prefix` tokens have no place."""
        return {}

    def prepare(self, model: Any) -> Sample:
        """What the visitor brought, as a network reads it."""
        raise NotImplementedError

    def look(self, tokens: Tokens | None) -> MapStyle:
        """Draw the options of display and return what they say; no tokens where no panel shows anything."""
        raise NotImplementedError

    def share(self, panels: Sequence[Panel]) -> None:
        """Give the browser what maps are drawn over, and say what was left out of it."""

    def counted(self, tokens: Tokens) -> Tensor:
        """The rows that measures count."""
        raise NotImplementedError

    def answer(self, panel: Panel, token: int) -> str:
        """What a network makes of it, to follow "Its network "; `token` is the one that is held."""
        raise NotImplementedError

    def untrained(self, name: str) -> str:
        """Why there is no network with a variant, in a sentence."""
        return f"No network with this variant has been trained yet. `make train NAME={self.recipe}` trains it."

    def network_size(self, name: str) -> int:
        """Parameters of the bench network with this variant."""
        raise NotImplementedError

    def trained(self, name: str, found: Bench) -> list[str]:
        """How well the network of a variant does, under `columns`."""
        raise NotImplementedError

    def training(self, row: Row) -> str:
        """How long its networks were trained, on what, and what they were tested on, by one row of the bench."""
        raise NotImplementedError

    over: str  # what an interval of one network is over
    note: str = ""  # what else has to be said of the numbers
