"""The choices on the Compare page: which variants, whose parameters, which layer and head of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from attnviz.attention import VARIANTS
from attnviz.ui.compare.domain import Domain, Panel
from attnviz.ui.compare.image import Pictures
from attnviz.ui.compare.panels import OWN, SAME
from attnviz.ui.compare.text import Texts
from attnviz.ui.core.bench import Bench
from attnviz.ui.core.state import buttons, keep_inside, one_of
from attnviz.ui.inputs.text_run import reads_text

LOOKS, NATIVE, ROLLOUT = "Where it looks", "Native maps", "Rollout"
MATCHED, NUMBER, HAND = "Best match", "Same number", "By hand"
FEWEST, MOST = 2, 6
PICTURES, TEXTS = Pictures(), Texts()
LAST = "attnviz:ground"  # session key: what was compared on when the page was last drawn
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
    """What is compared, on what, and how it is shown."""

    ground: Domain
    found: Bench  # what has been trained for it
    variants: tuple[str, ...]
    mode: str
    shown: str
    row: DeltaGenerator  # where further controls stand


def ground() -> Domain:
    """What is compared on: sentences where the chosen model reads text, else pictures."""
    return TEXTS if reads_text() else PICTURES


def choose(ground: Domain) -> Choice:
    """The controls above the panels, all of them in the URL. Without a bench the page starts with lent parameters."""
    found = ground.bench()
    said = seed_variants("variants", ground)
    picked = st.multiselect(
        "Variants",
        ground.variants,
        default=ground.first,
        key="variants",
        bind="query-params",
        format_func=title_of,
        max_selections=MOST,
        help=HELP["variants"],
    )
    for sentence in said:
        st.info(sentence)
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    with row:
        mode = one_of(
            "Parameters", [OWN, SAME], default=OWN if found.rows else SAME, key="weights", help=HELP["weights"]
        )
        shown = one_of("Show", [LOOKS, NATIVE, ROLLOUT], default=LOOKS, key="show", help=ground.worded(HELP["show"]))
    return Choice(ground, found, tuple(picked), mode, shown, row)


def title_of(name: str) -> str:
    """What a variant is called on screen."""
    return VARIANTS[name].title


def seed_variants(key: str, ground: Domain) -> list[str]:
    """Take names of the table too, such as `variants=mha,linear`, from a link or a button; says what was left out."""
    names = {name: name for name in VARIANTS} | {VARIANTS[name].title: name for name in VARIANTS}
    asked = st.session_state.get(key)
    if asked is None:
        words = [word for part in st.query_params.get_all(key)[:MOST] for word in part.split(",")[: 2 * MOST]]
    else:  # what a button of the text says, or what was chosen on another ground
        words = asked.split(",") if isinstance(asked, str) else list(asked)
    known = list(dict.fromkeys(names[word] for word in words if word in names))
    able = [name for name in known if name in ground.variants]
    last, st.session_state[LAST] = st.session_state.get(LAST, ground), ground
    if asked is not None and last is not ground and tuple(known) == last.first:
        del st.session_state[key]  # nobody chose them: the other ground began with them
        return []
    if able or asked is not None:
        st.session_state[key] = able[:MOST]
    return left_out(
        [word[:30] for word in words if word and word not in names],
        [title_of(name) for name in known if name not in able],
        ground,
    )


def left_out(unknown: Sequence[str], unable: Sequence[str], ground: Domain) -> list[str]:
    """Why something that was asked for is not compared, in sentences."""
    said = []
    if unknown:
        said.append(f"The address asks for {quoted(unknown)}, which is no variant of this app; it was left out.")
    if unable:
        said.append(f"Left out, because {ground.reads} have no grid of patches: {', '.join(unable)}.")
    return said


def capital(text: str) -> str:
    """A text with its first letter large."""
    return text[:1].upper() + text[1:]


def quoted(words: Sequence[str]) -> str:
    """Words from outside as code, so that nothing in them is formatted."""
    return ", ".join(f"`{word.replace('`', '')}`" for word in words[:MOST])


def enough(choice: Choice) -> bool:
    """Whether there are two variants to compare; else a sentence."""
    if len(choice.variants) < FEWEST:
        more = "two variants" if not choice.variants else "one more variant"
        st.info(f"Choose {more} to compare, up to {MOST} in all.", icon=":material/info:")
    return len(choice.variants) >= FEWEST


def trained_words(choice: Choice) -> None:
    """What the bench lacks, and whose parameters are shown."""
    ground, found = choice.ground, choice.found
    if found.sentence:
        st.warning(found.sentence, icon=":material/info:")
    name = st.session_state["model"]
    if name != ground.donor and not name.startswith(f"{ground.recipe}/"):
        st.caption(f"The networks on this page read {ground.reads}; the model chosen in the sidebar has no part in it.")
    if choice.mode == SAME:
        donor = "the multi-head attention network of the bench" if found.row("mha") else f"the model `{ground.donor}`"
        st.caption(
            f"**Same weights.** The layers of {donor} run through every formula, each layer on what it reads there. "
            "Nothing was trained for these formulas: this says what they do with what another one has learned."
        )
    else:
        st.caption(
            ground.worded(
                "**Own weights.** Every variant in a network of its own: same pictures, steps, optimiser and shape, "
                "trained from scratch. Maps differ because the networks have learned different things."
            )
        )
    if choice.mode == OWN and not any(found.row(name) for name in choice.variants):
        st.info(
            f"None of these variants has a trained network yet: `make train NAME={ground.recipe}` trains them, "
            "one after the other. Until then, choose Same weights above.",
            icon=":material/info:",
        )


def heads_choice(first: Panel, mode: str) -> tuple[int, int, str]:
    """Layer and head of the first panel that shows something, and how the others choose theirs.

    Lent layers have heads that correspond one to one, so there is nothing to match.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        layer = pick("Layer", "layer", first.layers, first.layers)
        head = pick("Head", "head", first.heads, 1)
        if mode == SAME:
            return layer, head, NUMBER
        how = one_of("Heads of the others", [MATCHED, NUMBER, HAND], default=MATCHED, key="heads", help=HELP["heads"])
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
