"""The choices on the Compare page: which variants, whose parameters, which layer and head of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from attnviz.attention import VARIANTS
from attnviz.models import IMAGES
from attnviz.ui.bench import Bench
from attnviz.ui.compare_panels import OWN, SAME, Panel
from attnviz.ui.display import Display, display
from attnviz.ui.state import buttons, keep_inside

LOOKS, NATIVE, ROLLOUT = "Where it looks", "Native maps", "Rollout"
MATCHED, NUMBER, HAND = "Best match", "Same number", "By hand"
FEWEST, MOST = 2, 6
FIRST = ("mha", "window2d", "linear", "xca")
HELP = {
    "variants": "Two to six kinds of attention. The first is what the others are compared with.",
    "weights": "Own weights: every variant in a network of its own, all trained by one recipe. Same weights: what a "
    "formula would do with the layers that multi-head attention has learned; nothing is trained again.",
    "show": "Where it looks: the token-to-token map over the picture. Native maps: what the formula really computes, "
    "which need not be such a map. Rollout: the maps of all layers chained.",
    "heads": "Head 3 of one network is not head 3 of another. Best match opens in every panel the head, of any layer, "
    "whose map is most like the one opened in the first.",
}


@dataclass(frozen=True)
class Choice:
    """What is compared, and how it is shown."""

    variants: tuple[str, ...]
    mode: str
    shown: str
    look: Display


def choose(found: Bench) -> Choice:
    """The controls above the panels, all of them in the URL. Without a bench the page starts with lent parameters."""
    unknown = seed_variants("variants")
    first = [name for name in FIRST if name in VARIANTS]
    picked = st.multiselect("Variants", list(VARIANTS), default=first, key="variants", bind="query-params",
                            format_func=title_of, max_selections=MOST, help=HELP["variants"])  # fmt: skip
    if unknown:
        st.info(f"The address asks for {quoted(unknown)}, which is no variant of this app; it was left out.")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        mode = st.segmented_control("Parameters", [OWN, SAME], default=OWN if found.rows else SAME, required=True,
                                    key="weights", bind="query-params", help=HELP["weights"])  # fmt: skip
        shown = st.segmented_control("Show", [LOOKS, NATIVE, ROLLOUT], default=LOOKS, required=True, key="show",
                                     bind="query-params", help=HELP["show"])  # fmt: skip
        look = display()
    return Choice(tuple(picked), mode, shown, look)


def title_of(name: str) -> str:
    """What a variant is called on screen."""
    return VARIANTS[name].title


def seed_variants(key: str) -> list[str]:
    """Take names of the table too, such as `variants=mha,linear`, from a link or a button; returns what is unknown."""
    names = {name: name for name in VARIANTS} | {VARIANTS[name].title: name for name in VARIANTS}
    asked = st.session_state.get(key)
    if isinstance(asked, str):  # a button of the text
        st.session_state[key] = known_names(asked.split(","), names)
    if asked is not None:
        return []
    words = [word for part in st.query_params.get_all(key)[:MOST] for word in part.split(",")[: 2 * MOST]]
    if found := known_names(words, names):
        st.session_state[key] = found
    return [word[:30] for word in words if word and word not in names]


def known_names(words: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """The variants among these words, each once, as many as can be compared."""
    return list(dict.fromkeys(names[word] for word in words if word in names))[:MOST]


def quoted(words: Sequence[str]) -> str:
    """Words from outside as code, so that nothing in them is formatted."""
    return ", ".join(f"`{word.replace('`', '')}`" for word in words[:MOST])


def enough(choice: Choice) -> bool:
    """Whether there are two variants to compare; else a sentence."""
    if len(choice.variants) < FEWEST:
        more = "two variants" if not choice.variants else "one more variant"
        st.info(f"Choose {more} to compare, up to {MOST} in all.", icon=":material/info:")
    return len(choice.variants) >= FEWEST


def trained_words(choice: Choice, found: Bench) -> None:
    """What the bench lacks, and whose parameters are shown."""
    if found.sentence:
        st.warning(found.sentence, icon=":material/info:")
    if st.session_state["model"] != next(iter(IMAGES)):
        st.caption("The networks on this page read photographs; the model chosen in the sidebar has no part in it.")
    if choice.mode == SAME:
        lender = "the multi-head attention network of the bench" if found.row("mha") else "the model `vit`"
        st.caption(
            f"**Same weights.** The layers of {lender} run through every formula, each layer on what it reads there. "
            "Nothing was trained for these formulas: this says what they do with what another one has learned."
        )
    else:
        st.caption(
            "**Own weights.** Every variant in a network of its own: same pictures, steps, optimiser and shape, "
            "trained from scratch. Maps differ because the networks have learned different things."
        )
    if choice.mode == OWN and not any(found.row(name) for name in choice.variants):
        st.info("None of these variants has a trained network yet: `make train NAME=bench` trains them, one after the "
                "other. Until then, choose Same weights above.", icon=":material/info:")  # fmt: skip


def heads_choice(first: Panel, mode: str) -> tuple[int, int, str]:
    """Layer and head of the first panel that shows something, and how the others choose theirs.

    Lent layers have heads that correspond one to one, so there is nothing to match.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        layer = pick("Layer", "layer", first.layers, first.layers)
        head = pick("Head", "head", first.heads, 1)
        if mode == SAME:
            return layer, head, NUMBER
        how = st.segmented_control("Heads of the others", [MATCHED, NUMBER, HAND], default=MATCHED, required=True,
                                   key="heads", bind="query-params", help=HELP["heads"])  # fmt: skip
    return layer, head, how


def pick(label: str, key: str, count: int, default: int) -> int:
    """A row of buttons that count from 1 on screen and in the URL."""
    return buttons(label, list(range(1, count + 1)), key, at=default - 1)


def by_hand(panel: Panel, layer: int, head: int) -> tuple[int, int]:
    """Layer and head of one panel, from a list of its own."""
    cells = [(a + 1, b + 1) for a in range(panel.layers) for b in range(panel.heads)]
    names = [f"Layer {a}, head {b}" for a, b in cells]
    at = min(layer, panel.layers - 1) * panel.heads + min(head, panel.heads - 1)
    key = f"head {panel.variant}"
    keep_inside(key, names)
    chosen = st.selectbox(panel.title, names, index=at, key=key, bind="query-params", width=200)
    a, b = cells[names.index(chosen)]
    return a - 1, b - 1
