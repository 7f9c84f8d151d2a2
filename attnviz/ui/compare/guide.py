"""A short guide to the choice of a variant, computed from what variants declare and from their cost formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import streamlit as st

from attnviz.attention import VARIANTS, Cost
from attnviz.attention.variants.proximity import Proximity
from attnviz.attention.variants.window import Window
from attnviz.training.images.bench import SHAPE
from attnviz.ui.compare.costs import choose_size, compare_accuracy, cost_of, memory, title_of
from attnviz.ui.compare.domain import Domain
from attnviz.ui.compare.properties import CONSTANT, cache_kind
from attnviz.ui.core.bench import Bench, accuracy
from attnviz.ui.core.state import one_of

DECODER, ENCODER, CROSS = "decoder", "encoder", "cross"  # what attention is for, by their names in the address
USES = {DECODER: "Decoder", ENCODER: "Encoder", CROSS: "Two sequences"}
USES_HELP = (
    "A decoder writes token by token and keeps a cache of what it has read; an encoder reads everything at once; with "
    "two sequences the queries of one attend to the keys of the other."
)
HEADS = (2, 4, 8, 16)
DIM = SHAPE.width // SHAPE.heads  # of a head, whatever their number
NOTE = (
    "Counted from the formulas, in float32, with {dim} channels a head. What a variant is good for on other data, no "
    "count can say; uniform attention and proximity, which never read the tokens, are left out."
)
NAMES = ("Performer", "Linformer", "Nyströmformer", "MobileViT")  # with a capital in a sentence too
NAMED = 3  # variants of a sentence that ranks


@dataclass(frozen=True)
class Use:
    """What attention is wanted for."""

    kind: str
    n: int
    heads: int


class Ranked(NamedTuple):
    """A variant with its cost."""

    name: str
    cost: Cost


def choose_use(domain: Domain) -> Use:
    """The controls: what for, how many tokens, how many heads."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = one_of("What for", USES, default=DECODER, key="use", help=USES_HELP)
        n = choose_size(domain)
        heads = one_of("Heads", HEADS, default=8, key="guide_heads", help=f"Of {DIM} channels each.")
    return Use(kind, n, heads)


def guide(domain: Domain, bench: Bench, use: Use) -> list[str]:
    """Sentences for a use, each a line of Markdown. Variants that never read the tokens are no choice and left out."""
    usable, unable = split(domain, use)
    full = cost_of("mha", use.n, domain.options("mha"), use.heads)
    if full is None:
        return []
    sentences = {DECODER: decoder, ENCODER: encoder, CROSS: cheapest}[use.kind](domain, bench, use, usable, full)
    if unable:
        sentences.append(f"**Not for this:** {listed(unable)}.")
    return sentences


def split(domain: Domain, use: Use) -> tuple[list[Ranked], list[str]]:
    """The variants that serve a use, with their costs, and those that do not."""
    needed = {DECODER: {"causal"}, ENCODER: set[str](), CROSS: {"cross"}}[use.kind]
    usable, unable = [], []
    for name in domain.variants:
        if issubclass(VARIANTS[name], Proximity):
            continue
        cost = cost_of(name, use.n, domain.options(name), use.heads)
        if cost is not None and needed <= VARIANTS[name].supported_masks:
            usable.append(Ranked(name, cost))
        else:
            unable.append(name)
    return usable, unable


def decoder(domain: Domain, bench: Bench, use: Use, usable: Sequence[Ranked], full: Cost) -> list[str]:
    """What is kept of every token: less, not growing, or as much as by multi-head attention."""
    constant = [one for one in usable if cache_kind(one.name, domain) == CONSTANT]
    growing = [one for one in usable if one not in constant]
    less = sorted((one for one in growing if one.cost.state_bytes < full.state_bytes), key=state)
    same = [one.name for one in growing if one.cost.state_bytes == full.state_bytes and one.name != "mha"]
    sentences = []
    if less:
        first, *others = less
        also = "".join(f"; {lower(one.name)} {share(one.cost.state_bytes, full.state_bytes)}" for one in others)
        sentences.append(
            f"**Every token at hand, less to keep:** {lower(first.name)} keeps "
            f"**{share(first.cost.state_bytes, full.state_bytes)}** of the cache of multi-head attention at {use.n:,} "
            f"tokens, {memory(first.cost.state_bytes)} a layer instead of {memory(full.state_bytes)}{also}."
        )
    if constant:
        kept = "; ".join(
            f"{lower(one.name)} {memory(one.cost.state_bytes)}" + (" (its window alone)" if windowed(one.name) else "")
            for one in sorted(constant, key=state)
        )
        sentences.append(f"**What is kept does not grow with the tokens:** {kept}.")
    if same:
        sentences.append(f"**As much to keep as multi-head attention:** {listed(same)}.")
    return sentences


def encoder(domain: Domain, bench: Bench, use: Use, usable: Sequence[Ranked], full: Cost) -> list[str]:
    """Which part of the work grows with n², what does least of it, and what forms no matrix."""
    width = use.heads * DIM
    part = 2 * use.n**2 * width / full.multiply_adds
    sentences = [
        f"**What there is to save:** at {use.n:,} tokens scores and weighted sums are {100 * part:.0f} % of the "
        f"multiply-adds of multi-head attention, the projections the rest; they are equal at {2 * width:,} tokens."
    ]
    sentences += cheapest(domain, bench, use, usable, full)
    formed = [one.name for one in usable if one.cost.map_bytes < full.map_bytes / 100]
    if formed:
        sentences.append(
            f"**Hardly any attention matrix:** {listed(formed)}; multi-head attention would need "
            f"{memory(full.map_bytes)} a layer if its weights were stored."
        )
    shared = next((one.cost for one in usable if one.name == "mqa"), None)
    if shared is not None:
        sentences.append(
            f"**No cache to save:** in an encoder multi-query attention saves "
            f"{100 - 100 * shared.parameters / full.parameters:.0f} % of the parameters and "
            f"{100 - 100 * shared.multiply_adds / full.multiply_adds:.0f} % of the multiply-adds."
        )
    return sentences


def cheapest(domain: Domain, bench: Bench, use: Use, usable: Sequence[Ranked], full: Cost) -> list[str]:
    """The variants with the fewest multiply-adds, with what they need and, where they were trained, what they cost."""
    ranked = [one for one in sorted(usable, key=lambda one: one.cost.multiply_adds) if one.name != "mha"]
    lines = []
    for name, cost in ranked[:NAMED]:
        if cost.multiply_adds < full.multiply_adds:
            part = f"{lower(name)} {share(cost.multiply_adds, full.multiply_adds)}"
            lines.append("\n  - " + ", ".join([part, *remarks(domain, bench, use, name)]))
    if not lines:
        return [f"**Fewest multiply-adds:** multi-head attention itself, at {use.n:,} tokens."]
    return [f"**Fewest multiply-adds** at {use.n:,} tokens, of those of multi-head attention:{''.join(lines)}"]


def remarks(domain: Domain, bench: Bench, use: Use, name: str) -> list[str]:
    """What a variant needs, and how its trained network does where one reads everything at once."""
    kind = VARIANTS[name]
    said = [f"needs {words}" for need, words in domain.requirement_names.items() if need in kind.requirements]
    own, base = (accuracy(bench.seeds(one)) for one in (name, "mha"))
    if use.kind == ENCODER and own is not None and base is not None:
        said.append(compare_accuracy(own, base, domain.score))
    return said


def show(domain: Domain, bench: Bench, use: Use) -> None:
    """The guide as a list."""
    st.markdown("\n".join(f"- {sentence}" for sentence in guide(domain, bench, use)))
    st.caption(NOTE.format(dim=DIM))


def state(one: Ranked) -> int:
    """What is kept while decoding, to sort by."""
    return one.cost.state_bytes


def windowed(name: str) -> bool:
    """Whether a variant keeps a window of its past."""
    return issubclass(VARIANTS[name], Window)


def share(own: int, whole: int) -> str:
    """A part of a cost: 1/8 where it is one over a whole number, else in percent."""
    if own and whole % own == 0:
        return f"1/{whole // own}" if whole != own else "all"
    percent = 100 * own / whole
    return f"{percent:.0f}\u00a0%" if percent >= 10 else f"{percent:.2g}\u00a0%"


def lower(name: str) -> str:
    """The title of a variant inside a sentence; names of people and products keep their capital."""
    title = title_of(name)
    return title if title.split()[0] in NAMES else title[:1].lower() + title[1:]


def listed(names: Sequence[str]) -> str:
    """Variants in a sentence."""
    return ", ".join(lower(name) for name in names)
