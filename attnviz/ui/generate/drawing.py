"""The pictures of the Generate page: the text, the next pieces, where a token looks, what is kept in memory."""

from __future__ import annotations

import html

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import plots, views
from attnviz.attention import VARIANTS
from attnviz.models.subwords import EOS
from attnviz.ui.core.labels import spoken_name
from attnviz.ui.core.state import set_tokens
from attnviz.ui.generate.writing import Scene, both_texts, move, plain, wish, words_written
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.layer_head import Part, part_choice
from attnviz.ui.widgets.output import dark, plot

SHOWN = 12  # pieces among the likeliest
EXPECTS, LEFT = "The network expects", "Left to draw from"
MAP = "generate:map"


def write_buttons(here: Scene) -> None:
    """Write on, or from the beginning again."""
    stuck = here.full or here.ended
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Write one word", type="primary", icon=":material/edit:", disabled=stuck, on_click=wish, args=("1",))
        st.button("Write ten words", icon=":material/edit_note:", disabled=stuck, on_click=wish, args=("10",))
        st.button("To the beginning", icon=":material/first_page:", disabled=not here.step, on_click=move, args=(0,))


def story(here: Scene) -> None:
    """The text so far; what was written stands apart from what was given."""
    begun, new = both_texts(here)
    space = " " if new.startswith(" ") else ""
    end = "" if not here.ended else "  \n:gray[The text ends here.]"
    st.markdown(f"{plain(begun) or ':gray[Nothing yet]'}{space}{f':blue[{plain(new.strip())}]' if new else ''}{end}")
    sample, longest = here.begin, here.model.config.context_length
    if sample.cut:
        last = plain(sample.text.split()[-1][-30:]) if sample.text else ""
        st.caption(
            f"The network reads {longest} pieces: up to “{last}”. The {len(sample.cut.split()):,} words after "
            "it were left out."
        )
    if here.full:
        st.info(
            f"The context is full: the network reads {longest} pieces, BOS among them. Shorten the beginning or "
            "step back to write on.",
            icon=":material/info:",
        )
    elif here.ended:
        st.info("The network ended its text here. Step back to let it go on in another way.", icon=":material/info:")
    elif not sample.text:
        st.caption("Nothing was typed, so the network begins from BOS alone, as every text it learned from did.")


def next_pieces(here: Scene) -> None:
    """What may come next: what the network expects in grey, what the settings leave of it in colour."""
    if here.ended:
        return
    chances, kept = here.chances()
    order = np.argsort(-chances, kind="stable")[:SHOWN].tolist()
    labels = [here.label(id) for id in order]
    figure = plots.bars(
        {LEFT: kept[order], EXPECTS: chances[order]},
        labels=list(map(html.escape, labels)),
        colours={LEFT: "query", EXPECTS: "light"},
        horizontal=True,
        form=".1%",
        dark=dark(),
        most_ticks=SHOWN,
        limits=(0, 1.02 * float(max(kept.max(), chances.max()))),
        height=400,
    )
    figure.update_layout(bargap=0.25, clickmode="event+select", dragmode=False)
    share, count = percent(float(chances[kept > 0].sum())), int((kept > 0).sum())
    st.markdown(f"**What comes next.** {share} of what it expects is left, in {count:,} piece{'s' * (count > 1)}")
    key = f"generate:next:{here.step}"

    def clicked() -> None:
        points = st.session_state[key].selection.points
        if points:
            wish(order[int(points[0]["point_index"])])

    st.plotly_chart(
        figure,
        theme=None,
        key=key,
        on_select=clicked,
        selection_mode="points",
        alt="The likeliest next pieces, and what temperature, top-k and top-p leave of them",
        config={"displaylogo": False, "displayModeBar": False},
    )
    with st.container(horizontal=True, gap="small"):
        for number, (id, label) in enumerate(zip(order, labels, strict=True)):
            st.button(
                plain(label),
                key=f"generate:choose:{number}",
                type="tertiary",
                disabled=here.full,
                help="Let this come next",
                on_click=wish,
                args=(id,),
            )
    st.caption("Click a bar or a word to let it come next.")


# Attention -----------------------------------------------------------------------------------------------------------
def part(here: Scene) -> Part:
    """Which layer and which head is shown."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        return part_choice(here.model.config.layers, here.model.config.heads)


def pick(tokens: tuple[int, ...]) -> None:
    """Look from a token; letting go looks from the last one."""
    set_tokens("asks", tokens[-1:])


def attention(here: Scene, weights: Float[np.ndarray, "query key"], name: str, at: int) -> None:
    """Where one token looks: over the text, and as lines."""
    tokens = here.sample.tokens["main"]
    masked = ~np.tri(len(tokens), dtype=bool)
    views.send_maps(MAP, np.where(masked, 0, weights)[None], titles=[name], keys=tokens, masked=masked)
    does = "before the next piece was written" if at < len(tokens) - 1 else "while the next piece is expected"
    st.markdown(f"**Where {spoken_name(tokens, at)} looks** {does}: {name}")
    views.text_view(
        "generate:text",
        maps=MAP,
        tokens=[at],
        height=230,
        on_pick=pick,
        label="The text so far, by attention of one token over all before it",
    )
    views.lines_view(
        "generate:lines",
        maps=MAP,
        heads=[0],
        tokens=[at],
        min_weight=0.03,
        height=460,
        on_pick=pick,
        label=f"Every token over those before it: {name}",
    )


def matrix(at: int, name: str) -> None:
    """The whole map; what comes later is masked."""
    views.matrix_view(
        "generate:matrix",
        maps=MAP,
        tokens=[at],
        height=460,
        on_pick=pick,
        label=f"All tokens over those before them: {name}",
    )


def shares(here: Scene, weights: Float[np.ndarray, "query key"], name: str) -> None:
    """How each written token shares out its attention: on BOS, on the beginning, on what was written."""
    first, count = len(here.begin.inputs["main"]), len(here.ids)
    if count == first:
        st.caption("Write a word to see how what is written looks back at the beginning and at itself.")
        return
    rows = weights[first:]
    parts = {"the beginning": rows[:, 1:first].sum(-1), "what was written": rows[:, first:].sum(-1), "BOS": rows[:, 0]}
    figure = plots.lines(
        parts,
        x=np.arange(1, count - first + 1),
        form=".1%",
        limits=(0, 1),
        points=count - first < 60,
        x_title="Piece written",
        y_title="share of attention",
        dark=dark(),
        height=280,
    )
    figure.update_xaxes(tick0=1, dtick=max(1, (count - first) // 8), range=(0.5, count - first + 0.5))
    plot(figure, "generate:shares", alt="Share of attention on the beginning, on what was written and on BOS")
    st.caption(f"Each piece that was written, {name}; the three shares sum to one.")


# Memory --------------------------------------------------------------------------------------------------------------
def state_bytes(here: Scene, variant: str, count: int) -> int:
    """Bytes of keys and values that decoding keeps after so many tokens, in all layers."""
    config = here.model.config
    options = config.options if variant == config.variant else {}
    one = VARIANTS[variant](config.width, config.heads, **options)
    return config.layers * one.cost(1, count).state_bytes


def cache(here: Scene) -> None:
    """How the keys and values that are kept grow with the text, and what they would be if no heads shared them."""
    config, count = here.model.config, len(here.ids)
    own, full = (state_bytes(here, variant, count) for variant in (config.variant, "mha"))
    sizes = np.linspace(0, config.context_length, 33, dtype=int)
    names = {config.variant: f"this network, {VARIANTS[config.variant].title.lower()}", "mha": "multi-head attention"}
    curves = {name: [state_bytes(here, v, int(n)) / 1024 for n in sizes] for v, name in names.items()}
    figure = plots.lines(
        curves, x=sizes, marks={"now": count}, x_title="Tokens", y_title="kB kept", form=".0f", dark=dark(), height=280
    )
    plot(figure, "generate:cache", alt="Size of the cache of keys and values over the tokens of the text")
    st.caption(
        f"{count} tokens x {own // count:,} bytes = **{own / 1024:,.0f} kB** of keys and values, kept so that no step "
        f"computes an earlier token again. If each of the {config.heads} heads had its own, it would be "
        f"{full // count:,} bytes a token, {full / 1024:,.0f} kB."
    )


def record(here: Scene) -> str:
    """How good the network is, from its card."""
    facts = here.model.facts
    if "perplexity_word" not in facts:
        return ""
    low, high = facts["blimp_interval"]
    return (
        f"{facts['parameters']:,} parameters. Perplexity of stories it had never read: {facts['perplexity_word']} a "
        f"word, {facts['perplexity_piece']} a piece. Of {facts['blimp_pairs']:,} pairs of a good and a bad sentence "
        f"(BLiMP) it finds the good one likelier in {facts['blimp']} % (95 % interval {low} to {high}; chance is 50 %)."
    )


def table(here: Scene) -> tuple[list[str], list[list[str | float]]]:
    """The next pieces for a download: all that are left, and the likeliest."""
    chances, kept = here.chances()
    order = [i for i in np.argsort(-chances, kind="stable").tolist() if kept[i] > 0 or chances[i] > 1e-4]
    rows: list[list[str | float]] = [[here.label(i), float(chances[i]), float(kept[i])] for i in order[:2000]]
    return ["piece", EXPECTS.lower(), LEFT.lower()], rows


def counted(here: Scene) -> str:
    """What is written so far, in numbers."""
    over, found = here.ids.count(EOS), words_written(here)
    words = f"{found} word{'s' * (found != 1)}"
    return f"{len(here.begin.inputs['main']) - 1} pieces given, {here.step - over} written ({words})"
