"""The pictures of the Generate page: the text, the next tokens, what a token attends to, the KV cache."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import plots, views
from attnviz.attention import VARIANTS
from attnviz.models.subwords import EOS
from attnviz.ui.core.labels import spoken_name
from attnviz.ui.core.state import set_tokens
from attnviz.ui.generate.writing import (
    TO_THE_END,
    Scene,
    both_texts,
    going_on,
    move,
    plain,
    request,
    stop,
    words_written,
)
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.layer_head import Part, part_choice
from attnviz.ui.widgets.output import dark, plot

SHOWN = 12  # of the likeliest tokens
MODEL, FILTERED = "Model probability", "After sampling filters"
MAP = "generate:map"


def write_buttons(here: Scene) -> None:
    """Generate more words, stop generating, or go back to the prompt."""
    busy = going_on()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        again = {"disabled": here.full or here.ended or busy, "on_click": request}
        st.button("Generate one word", "generate:one", type="primary", icon=":material/edit:", args=("1",), **again)
        st.button("Generate ten words", "generate:ten", icon=":material/edit_note:", args=("10",), **again)
        end = (str(TO_THE_END),)
        st.button("Generate to the end", "generate:end", icon=":material/last_page:", args=end, **again)
        st.button("Stop", "generate:stop", icon=":material/stop:", disabled=not busy, on_click=stop)
        back = {"disabled": not here.step or busy, "on_click": move, "args": (0,)}
        st.button("Back to the prompt", "generate:prompt", icon=":material/first_page:", **back)


def story(here: Scene) -> None:
    """The text so far; what was generated stands apart from the prompt."""
    begun, new = both_texts(here)
    space = " " if new.startswith(" ") else ""
    end = "" if not here.ended else "  \n:gray[The text ends here.]"
    st.markdown(f"{plain(begun) or ':gray[Nothing yet]'}{space}{f':blue[{plain(new.strip())}]' if new else ''}{end}")


def remarks(here: Scene) -> None:
    """What was not read, and why no more can be generated."""
    sample, longest = here.begin, here.model.spec.context_length
    if sample.cut:
        last = plain(sample.text.split()[-1][-30:]) if sample.text else ""
        st.caption(
            f"The model reads {longest} tokens: up to “{last}”. The {len(sample.cut.split()):,} words after "
            "it were left out."
        )
    if here.full:
        st.info(
            f"The context is full: the model reads {longest} tokens, BOS among them. Shorten the prompt or step back "
            "to go on.",
            icon=":material/info:",
        )
    elif here.ended:
        st.info("The model ended its text here (EOS). Step back to continue in another way.", icon=":material/info:")
    elif not sample.text:
        st.caption("The prompt is empty, so the model starts from BOS alone, as every text it was trained on did.")


def next_tokens(here: Scene) -> None:
    """The next token: the model's probabilities in grey, those after the sampling filters in colour."""
    if here.ended:
        return
    probabilities, kept = here.probabilities()
    order = np.argsort(-probabilities, kind="stable")[:SHOWN].tolist()
    labels = [here.label(id) for id in order]
    figure = plots.bars(
        {FILTERED: kept[order], MODEL: probabilities[order]},
        labels=list(map(html.escape, labels)),
        colours={FILTERED: "query", MODEL: "light"},
        horizontal=True,
        form=".1%",
        dark=dark(),
        most_ticks=SHOWN,
        limits=(0, 1.02 * float(max(kept.max(), probabilities.max()))),
        height=400,
    )
    plots.change(figure, bargap=0.25, clickmode="event+select", dragmode=False)
    share, count = percent(float(probabilities[kept > 0].sum())), int((kept > 0).sum())
    st.markdown(
        f"**Next token.** The sampling filters keep {count:,} token{'s' * (count > 1)} with {share} of the probability"
    )
    key = f"generate:next:{here.step}"

    def clicked() -> None:
        points = st.session_state[key].selection.points
        if points:
            request(order[int(points[0]["point_index"])])

    st.plotly_chart(
        plots.Unchecked(figure),
        theme=None,
        key=key,
        on_select=clicked,
        selection_mode="points",
        alt="The likeliest next tokens, before and after temperature, top-k and top-p",
        config={"displaylogo": False, "displayModeBar": False},
    )
    token_buttons(here, order, labels)


def token_buttons(here: Scene, order: Sequence[int], labels: Sequence[str]) -> None:
    """The likeliest tokens as buttons: a click uses one."""
    with st.container(horizontal=True, gap="small"):
        for number, (id, label) in enumerate(zip(order, labels, strict=True)):
            st.button(
                plain(label),
                key=f"generate:choose:{number}",
                type="tertiary",
                disabled=here.full,
                help="Use this token",
                on_click=request,
                args=(id,),
            )
    st.caption("Click a bar or a token to use it.")


# Attention -----------------------------------------------------------------------------------------------------------
def part(here: Scene) -> Part:
    """Which layer and which head is shown."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        return part_choice(here.model.spec.layers, here.model.spec.heads)


def pick(tokens: tuple[int, ...]) -> None:
    """Choose the query; without one it is the last token."""
    set_tokens("asks", tokens[-1:])


def attention(here: Scene, weights: Float[np.ndarray, "query key"], name: str, at: int) -> None:
    """What one token attends to: over the text, and as lines."""
    tokens = here.sample.tokens["main"]
    masked = ~np.tri(len(tokens), dtype=bool)
    views.send_maps(MAP, np.where(masked, 0, weights)[None], titles=[name], keys=tokens, masked=masked)
    when = "when the next token was generated" if at < len(tokens) - 1 else "to predict the next token"
    st.markdown(f"**What {spoken_name(tokens, at)} attends to** {when}: {name}")
    views.text_view(
        "generate:text",
        maps=MAP,
        tokens=[at],
        height=230,
        on_pick=pick,
        label="The text so far, coloured by the attention of one token",
    )
    views.lines_view(
        "generate:lines",
        maps=MAP,
        heads=[0],
        tokens=[at],
        min_weight=0.03,
        height=460,
        on_pick=pick,
        label=f"Attention of every token to the tokens before it: {name}",
    )


def matrix(at: int, name: str) -> None:
    """The whole attention matrix; later tokens are masked."""
    views.matrix_view(
        "generate:matrix", maps=MAP, tokens=[at], height=460, on_pick=pick, label=f"Attention matrix: {name}"
    )


def shares(here: Scene, weights: Float[np.ndarray, "query key"], name: str) -> None:
    """How the attention of each generated token divides between BOS, the prompt and the generated text."""
    first, count = len(here.begin.inputs["main"]), len(here.ids)
    if count == first:
        st.caption("Generate a word to see how the generated text attends to the prompt and to itself.")
        return
    rows = weights[first:]
    parts = {"prompt": rows[:, 1:first].sum(-1), "generated text": rows[:, first:].sum(-1), "BOS": rows[:, 0]}
    figure = plots.lines(
        parts,
        x=np.arange(1, count - first + 1),
        form=".1%",
        limits=(0, 1),
        points=count - first < 60,
        x_title="Generated token",
        y_title="Share of attention",
        dark=dark(),
        height=280,
    )
    ends = (0.5, count - first + 0.5)
    plots.change(figure, xaxis={"tick0": 1, "dtick": max(1, (count - first) // 8), "range": ends})
    plot(figure, "generate:shares", alt="Share of attention on the prompt, on the generated text and on BOS")
    st.caption(f"Each generated token, {name}; the three shares sum to 1.")


# Memory --------------------------------------------------------------------------------------------------------------
def state_bytes(here: Scene, variant: str, count: int) -> int:
    """Bytes of keys and values that decoding keeps after so many tokens, in all layers."""
    config = here.model.config
    options = config.options if variant == config.variant else {}
    one = VARIANTS[variant](config.width, config.heads, **options)
    return config.layers * one.cost(1, count).state_bytes


def cache(here: Scene) -> None:
    """How the KV cache grows with the text, and how large it would be if no heads shared keys and values."""
    config, count = here.model.config, len(here.ids)
    own, full = (state_bytes(here, variant, count) for variant in (config.variant, "mha"))
    sizes = np.linspace(0, config.context_length, 33, dtype=int)
    names = {config.variant: f"this model, {VARIANTS[config.variant].title.lower()}", "mha": "multi-head attention"}
    curves = {name: [state_bytes(here, v, int(n)) / 1024 for n in sizes] for v, name in names.items()}
    figure = plots.lines(
        curves,
        x=sizes,
        marks={"now": count},
        x_title="Tokens",
        y_title="KV cache, kB",
        form=".0f",
        dark=dark(),
        height=280,
    )
    plot(figure, "generate:cache", alt="Size of the KV cache over the tokens of the text")
    st.caption(
        f"{count} tokens x {own // count:,} bytes = **{own / 1024:,.0f} kB** in the KV cache, so that no step "
        f"computes an earlier token again. If each of the {config.heads} heads had its own keys and values, it would "
        f"be {full // count:,} bytes a token, {full / 1024:,.0f} kB."
    )


def record(here: Scene) -> str:
    """How good the model is, from its card."""
    facts = here.model.facts
    if "perplexity_word" not in facts:
        return ""
    low, high = facts["blimp_interval"]
    return (
        f"{facts['parameters']:,} parameters. Perplexity on held-out stories: {facts['perplexity_word']} per word, "
        f"{facts['perplexity_token']} per token. BLiMP: {facts['blimp']} % of {facts['blimp_pairs']:,} pairs of a "
        f"grammatical and an ungrammatical sentence (95 % interval {low} to {high}; chance is 50 %)."
    )


def table(here: Scene) -> tuple[list[str], list[list[str | float]]]:
    """The next tokens for a download: all that the filters keep, and the likeliest."""
    probabilities, kept = here.probabilities()
    order = [i for i in np.argsort(-probabilities, kind="stable").tolist() if kept[i] > 0 or probabilities[i] > 1e-4]
    rows: list[list[str | float]] = [[here.label(i), float(probabilities[i]), float(kept[i])] for i in order[:2000]]
    return ["token", MODEL.lower(), FILTERED.lower()], rows


def counted(here: Scene) -> str:
    """The lengths of prompt and generated text."""
    over, found = here.ids.count(EOS), words_written(here)
    words = f"{found} word{'s' * (found != 1)}"
    return f"Prompt: {len(here.begin.inputs['main']) - 1} tokens. Generated: {here.step - over} tokens ({words})"
