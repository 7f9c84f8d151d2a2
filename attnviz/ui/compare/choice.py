"""The choices on the Compare page: which variants, whose parameters, and which maps of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from attnviz.attention import VARIANTS
from attnviz.models import DamagedFile
from attnviz.ui.compare.domain import Domain
from attnviz.ui.compare.image import ImageDomain
from attnviz.ui.compare.panels import SEPARATE, SHARED, is_ours
from attnviz.ui.compare.text import TextDomain
from attnviz.ui.core.bench import Bench
from attnviz.ui.core.cache import open_model
from attnviz.ui.core.old_addresses import VARIANT_TITLES
from attnviz.ui.core.state import SEEN, one_of, sent_by_browser, write_address
from attnviz.ui.inputs.text_run import reads_text

ATTENTION, NATIVE, ROLLOUT = "attention", "native", "rollout"  # which maps, by their names in the address
MAPS = {ATTENTION: "Attention", NATIVE: "Native maps", ROLLOUT: "Rollout"}
MODES = {SEPARATE: "Trained separately", SHARED: "Shared weights"}
FEWEST, MOST = 2, 6
IMAGE_DOMAIN, TEXT_DOMAIN = ImageDomain(), TextDomain()
KEY = "variants"  # of the choice, in the session and in the address
LAST_DOMAIN = "attnviz:domain"  # session key: what was compared on when the page was last drawn
VARIANTS_HELP = "Two to six attention variants. The first is what the others are compared with."
MODES_HELP = (
    "Trained separately: every variant in a network of its own, all trained by one recipe. Shared weights: what a "
    "formula would do with the layers that multi-head attention has learned; nothing is trained again."
)
SHARED_NOTE = (
    "**Shared weights.** The layers of {donor} run through every formula, each layer on what it reads there. "
    "Nothing was trained for these formulas: this shows what they do with the weights of another one."
)
OTHER_MODEL = "The networks on this page read {inputs}; the model chosen in the sidebar is not one of them."
FOREIGN_MODEL = (
    "The layers of the model chosen in the sidebar cannot be run through other formulas, since that works only inside "
    "the networks of this app; the page compares its own networks, which read {inputs}."
)


@dataclass(frozen=True)
class Choice:
    """What is compared, on what, and how it is shown."""

    domain: Domain
    bench: Bench  # what has been trained for it
    variants: tuple[str, ...]
    mode: str  # SEPARATE or SHARED
    maps: str  # ATTENTION, NATIVE or ROLLOUT
    row: DeltaGenerator  # where further controls stand
    options: DeltaGenerator  # where seldom ones do


def current_domain() -> Domain:
    """What is compared on: sentences where the chosen model reads text, else pictures."""
    return TEXT_DOMAIN if reads_text() else IMAGE_DOMAIN


def choose(domain: Domain) -> Choice:
    """The controls above the panels, all in the address. Without a bench the page starts with shared weights."""
    bench = domain.bench()
    variants = choose_variants(domain)
    row = st.container(horizontal=True, vertical_alignment="bottom")
    maps = one_of("Show", MAPS, default=ATTENTION, key="show", where=row, help=domain.attention_help)
    options, default = row.popover("Options", icon=":material/settings:"), SEPARATE if bench.rows else SHARED
    mode = one_of("Parameters", MODES, default=default, key="weights", where=options, help=MODES_HELP)
    return Choice(domain, bench, variants, mode, maps, row, options)


def title_of(name: str) -> str:
    """What a variant is called on screen."""
    return VARIANTS[name].title


def choose_variants(domain: Domain) -> tuple[str, ...]:
    """The list of variants, by their names in VARIANTS in the address; what was left out of it is said below."""
    sentences = seed_variants(domain)
    picked = st.multiselect(
        "Attention variants",
        domain.variants,
        default=domain.default_variants,
        key=KEY,
        format_func=title_of,
        max_selections=MOST,
        persist_state="session",
        help=VARIANTS_HELP,
    )
    write_address(KEY, ",".join(picked), ",".join(domain.default_variants))
    for sentence in sentences:
        st.info(sentence)
    return tuple(picked)


def seed_variants(domain: Domain) -> list[str]:
    """Give the list what a link or a button asks for; sentences say what was left out.

    Links name variants as `variants=mha,linear`; those of older versions repeat the parameter, with titles.
    """
    names = {name: name for name in VARIANTS} | {VARIANTS[name].title: name for name in VARIANTS} | VARIANT_TITLES
    words = requested_variants()
    last, st.session_state[LAST_DOMAIN] = st.session_state.get(LAST_DOMAIN, domain), domain
    if words is None:
        return []
    known = list(dict.fromkeys(names[word] for word in words if word in names))
    if last is not domain and tuple(known) == last.default_variants:
        st.session_state.pop(KEY, None)  # nobody chose them: they were the default of the other domain
        return []
    able = [name for name in known if name in domain.variants]
    if able or KEY in st.session_state:
        st.session_state[KEY] = able[:MOST]
    unknown = [word[:30] for word in words if word and word not in names]
    return left_out(unknown, [title_of(name) for name in known if name not in able], domain)


def requested_variants() -> list[str] | None:
    """The variants asked for, as they are written: by the address where it has changed, else by the session."""
    seen, url = st.session_state.setdefault(SEEN, {}), st.query_params.get_all(KEY)[:MOST]
    address = ",".join(url) if url else None
    changed = address != seen[KEY] if KEY in seen else address is not None and not sent_by_browser(KEY)
    seen[KEY] = address
    if changed:
        st.session_state.pop(KEY, None)
    if changed and address:
        return [word for part in url for word in part.split(",")[: 2 * MOST]]
    kept = st.session_state.get(KEY)
    return kept.split(",") if isinstance(kept, str) else kept


def left_out(unknown: Sequence[str], unable: Sequence[str], domain: Domain) -> list[str]:
    """Why something that was asked for is not compared, in sentences."""
    sentences = []
    if unknown:
        sentences.append(f"The address asks for {quoted(unknown)}, which is no variant of this app; it was left out.")
    if unable:
        sentences.append(f"Left out, because {domain.inputs} have no grid of patches: {', '.join(unable)}.")
    return sentences


def capital(text: str) -> str:
    """A text with its first letter large."""
    return text[:1].upper() + text[1:]


def quoted(words: Sequence[str]) -> str:
    """Words from outside as code, so that nothing in them is formatted."""
    return ", ".join(f"`{word.replace('`', '')}`" for word in words[:MOST])


def enough(choice: Choice) -> bool:
    """Whether there are two variants to compare; else a sentence says how many more it takes."""
    if len(choice.variants) < FEWEST:
        more = "two variants" if not choice.variants else "one more variant"
        st.info(f"Choose {more} to compare, up to {MOST} in all.", icon=":material/info:")
    return len(choice.variants) >= FEWEST


def describe_bench(choice: Choice) -> None:
    """What the bench lacks, above the panels."""
    domain, bench = choice.domain, choice.bench
    if bench.problem:
        st.warning(bench.problem, icon=":material/info:")
    if choice.mode == SEPARATE and not any(bench.row(name) for name in choice.variants):
        st.info(
            f"None of these variants has a trained network yet: `make train NAME={domain.recipe}` trains them, "
            f"one after the other. Until then, choose {MODES[SHARED]} above.",
            icon=":material/info:",
        )


def describe_parameters(choice: Choice) -> None:
    """Whose parameters are shown, below the panels."""
    domain, bench = choice.domain, choice.bench
    if choice.mode == SHARED:
        donor = "the multi-head attention network of the bench" if bench.row("mha") else f"the model `{domain.donor}`"
        st.caption(SHARED_NOTE.format(donor=donor))
    else:
        st.caption(domain.separate_help)
    describe_model(domain, st.session_state["model"])


def describe_model(domain: Domain, name: str) -> None:
    """That the model in the sidebar takes no part, where it does not."""
    ours = True
    with suppress(DamagedFile):  # a damaged model takes no part either; the pages that need it say so
        ours = is_ours(open_model(name))
    if not ours:
        st.caption(FOREIGN_MODEL.format(inputs=domain.inputs))
    elif name != domain.donor and not name.startswith(f"{domain.recipe}/"):
        st.caption(OTHER_MODEL.format(inputs=domain.inputs))
