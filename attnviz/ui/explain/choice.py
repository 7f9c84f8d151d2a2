"""What is chosen on the page Explain, all of it in the address: methods, options, a class, where relevance starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import streamlit as st

from attnviz.methods import CONTROLS, METHODS, Method
from attnviz.methods.base import Option, Start
from attnviz.types import Target, Tokens
from attnviz.ui.core.labels import token_name
from attnviz.ui.core.recorded import middle
from attnviz.ui.core.state import chosen_token, go, one_of, select, several_of
from attnviz.ui.explain import residual
from attnviz.ui.explain.classes import class_choice, class_words
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.method_options import control, layer_of, parameter, said_value

Drawn = TypeVar("Drawn")
ANSWER, CLS, MEAN, TOKEN = "answer", "cls", "mean", "token"  # where relevance may start
OWN, SHARED, STRETCHED = "own", "shared", "stretched"
ROLLOUT, RAW, FLOW, INTEGRATED = "rollout", "raw attention", "attention flow", "integrated gradients"
SCALES = {OWN: "Per map", SHARED: "Shared", STRETCHED: "From the minimum"}
WHY_METHOD = "How one number for each token is computed. Raw attention of the last layer stands beside it."
WHY_START = {  # for tokens on a grid of patches, and for words
    True: "Where relevance starts: at what the answer is read from, at every patch alike, or at one patch. Click a "
    "patch of the picture to start there; click again to deselect it.",
    False: "Where relevance starts: at what the answer is read from, at every word alike, or at one word. Click a "
    "word of the text to start there; click again to deselect it.",
}
WHY_SCALE = {
    True: "Per map: from zero to the largest number of each map. Shared: one scale, so that maps can be compared. "
    "Rollout spreads relevance over the whole picture: from the minimum of each map, weak differences look strong.",
    False: "Per map: from zero to the largest number of each map. Shared: one scale, so that maps can be compared. "
    "Rollout spreads relevance over the whole text: from the minimum of each map, weak differences look strong.",
}
WITH = "with"  # the parameter of the methods that stand beside the chosen one
WHY_WITH = (
    "Their maps stand beside the large one, with the same start and class and with the usual options of each. Click a "
    "map to make its method the main one. Raw attention stands there always. Controls know nothing of the network: a "
    "method that looks like one explains little."
)
WHY_SLOW = "Takes seconds: {}."


@dataclass(frozen=True)
class Choice:
    """What is explained, by which method and with which options."""

    start: str
    token: int  # the picked one, used where relevance starts at one token
    options: Mapping[str, Any] = field(default_factory=dict)  # by keyword of the method
    method: str = ROLLOUT
    depth: int = 1  # layers of the network
    target: Target | None = None  # the class, for a method that needs one
    answers: bool = True  # whether the model has an answer of its own
    class_name: str = ""  # the class in words
    compared: tuple[str, ...] = ()  # methods and controls whose maps stand beside it
    read_at: int | None = None  # the token whose own answer is explained, where that is not the usual one

    @property
    def how(self) -> Method:
        """The method's record."""
        return (METHODS | CONTROLS)[self.method]

    @property
    def start_token(self) -> Start:
        """Where relevance starts, in the words of the methods."""
        if self.start == ANSWER and self.read_at is not None:
            return self.read_at
        return self.token if self.start == TOKEN else self.start

    @property
    def at(self) -> int:
        """Which of the maps of `Result` is shown: the chosen layer, or the only map there is."""
        option = self.how.layer_option
        return 0 if option is None else layer_of(option, self.options.get(option.name), self.depth)

    @property
    def title(self) -> str:
        """What the method is called in a heading."""
        return "Rollout" if self.method == ROLLOUT else self.how.title

    @property
    def span(self) -> str:
        """The layers that are in the map, in words; empty where the method is given none."""
        option = self.how.layer_option
        if option is None:
            return ""
        return f", layers {self.at + 1} to {self.depth}" if self.several else f", layer {self.at + 1}"

    @property
    def several(self) -> bool:
        """Whether a rollout goes through more than one layer."""
        return self.method == ROLLOUT and self.at + 1 < self.depth

    def name(self, tokens: Tokens) -> str:
        """Where relevance starts, in words."""
        if self.start == TOKEN:
            return token_name(tokens, self.token)
        pooled = "the answer" if self.answers else "the pooled tokens"
        pooled = pooled if self.read_at is None else f"the answer at {token_name(tokens, self.read_at)}"
        return {ANSWER: pooled, CLS: "CLS"}.get(self.start, "all words" if tokens.grid is None else "all patches")

    def labels(self, tokens: Tokens) -> dict[str, str]:
        """What has to stand beside a map for it to mean anything."""
        said = {"method": self.how.title}
        for option in self.how.options:
            said[option.title.lower()] = said_value(option, self.options.get(option.name, option.default), self.depth)
        start = {"start": self.name(tokens)} if self.how.takes_start else {}
        return said | start | {"class": (self.class_name or "predicted") if self.how.needs_class else "not used"}


def choose(visit: ModelRun, look: Callable[[], Drawn]) -> tuple[Choice, Drawn, bool]:
    """The controls above the picture, and whether all maps share one scale.

    They are drawn from what the method declares. `look` draws the options of display among them.
    """
    tokens, depth = visit.sample.tokens["main"], visit.model.spec.layers
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="small")
    titles = {name: method.title for name, method in METHODS.items()}
    method = select(
        "Attribution (explanation) method", titles, key="method", where=bar, default=ROLLOUT, width=230, help=WHY_METHOD
    )
    how = METHODS[method]
    with bar:
        compared, shared = compared_choice(method, tokens.grid is not None)
        asks = how.needs_class or any(METHODS[name].needs_class for name in compared if name in METHODS)
        target = class_choice(visit) if asks else None
        start, given = option_choices(visit, method)
        drawn = look()
    token = chosen_token("token", len(tokens), middle(tokens))
    answers, words, at = bool(visit.model.outputs), class_words(visit, target), read_at(visit, target)
    return Choice(start, token, given, method, depth, target, answers, words, compared, at), drawn, shared


def read_at(visit: ModelRun, target: Target | None) -> int | None:
    """The token whose own answer is explained; None where there is one answer, or where it is the usual token."""
    if target is None or target.output is None or visit.trace.logits[target.output].shape[-2] == 1:
        return None
    return None if target.row == answered_by(visit) else target.row


def option_choices(visit: ModelRun, method: str) -> tuple[str, dict[str, Any]]:
    """Where relevance starts and the options that a method declares, in a popover of their own."""
    how, start = METHODS[method], ANSWER
    if not how.options and not how.takes_start:
        return start, {}
    with st.popover("Options", icon=":material/settings:", key="options-popover"):
        if how.takes_start:
            start = start_choice(visit, st)
        given = {option.name: control(option, visit.model.spec.layers, st) for option in how.options}
        if method == ROLLOUT:
            st.caption(residual.share_words(visit))
    return start, given


def compared_choice(method: str, pictured: bool) -> tuple[tuple[str, ...], bool]:
    """The methods that stand beside the chosen one, and whether all maps share one colour scale."""
    names = {name: how.title for name, how in METHODS.items() if name not in (method, RAW)}
    names |= {name: f"Control: {how.title.lower()}" for name, how in CONTROLS.items() if pictured or name != "edges"}
    slow = ", ".join(how.title for name, how in METHODS.items() if how.slow)
    with st.popover("Compare with", icon=":material/compare:", key="with-popover"):
        chosen = several_of("Other methods", names, default=(), key=WITH, help=WHY_WITH)
        st.caption(WHY_SLOW.format(slow))
        signed = METHODS[method].signed and not chosen
        shared = not signed and scale_choice(pictured, st)
    return tuple(chosen), shared


def scale_choice(pictured: bool, where: Any) -> bool:
    """Whether all maps share one colour scale."""
    return one_of("Colour scale", SCALES, default=OWN, key="range", where=where, help=WHY_SCALE[pictured]) == SHARED


def stretched() -> bool:
    """Whether each map has a colour scale that begins at its minimum."""
    return st.session_state.get("range") == STRETCHED


def start_choice(visit: ModelRun, where: Any) -> str:
    """Where relevance starts, as one of `starts`."""
    pictured = visit.sample.tokens["main"].grid is not None
    return one_of("Start from", starts(visit), default=ANSWER, key="target", where=where, help=WHY_START[pictured])


def starts(visit: ModelRun) -> dict[str, str]:
    """Where relevance may start, with labels; CLS by name only where the answer is not read from it alone."""
    tokens = visit.sample.tokens["main"]
    pooled = {ANSWER: "Answer" if visit.model.outputs else "Pooled tokens"}
    named = {CLS: "CLS"} if cls_of(tokens) is not None and answered_by(visit) != cls_of(tokens) else {}
    if tokens.grid is None:
        return pooled | named | {MEAN: "Mean of words", TOKEN: "One word"}
    return pooled | named | {MEAN: "Mean of patches", TOKEN: "One patch"}


def cls_of(tokens: Tokens) -> int | None:
    """The number of CLS among the prefix tokens; None where there is none."""
    prefix = tokens.labels[: tokens.prefix]
    return prefix.index("CLS") if "CLS" in prefix else None


def answered_by(visit: ModelRun) -> int | None:
    """The one token the answer is read from; None where it is read from several."""
    pooling = visit.trace.pooling["main"]
    return int(pooling.argmax()) if float(pooling.max()) == 1 else None


def open_layer(option: Option, cell: tuple[int, ...]) -> None:
    """Give the method the layer whose small map was clicked."""
    go(**{parameter(option): cell[1] + 1})


def make_main(choice: Choice, name: str, _: Sequence[int] = ()) -> None:
    """Make a method beside the chosen one the main one; they change places."""
    beside = [choice.method if one == name else one for one in choice.compared]
    go(method=name, **{WITH: [one for one in beside if one != RAW]})


def pick(visit: ModelRun, chosen: Sequence[int]) -> None:
    """Start at a clicked patch; a deselected one, or what the answer is read from, is the answer again."""
    if not chosen or chosen[-1] == answered_by(visit):
        go(target=ANSWER)
    elif chosen[-1] == cls_of(visit.sample.tokens["main"]) and CLS in starts(visit):
        go(target=CLS)
    else:
        go(target=TOKEN, token=(int(chosen[-1]),))
