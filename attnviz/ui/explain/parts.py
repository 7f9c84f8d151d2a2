"""Why the first layer's weight is what it is: how much of a score is content, and how much is position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
from jaxtyping import Bool, Float

from attnviz import views
from attnviz.measures.score_parts import GROUPS, score_parts, variance_shares
from attnviz.methods.base import outside
from attnviz.types import NoTokenMap, Tokens, UnsupportedMask
from attnviz.ui.core.cache import core
from attnviz.ui.core.labels import head_name, plain, token_name
from attnviz.ui.core.state import buttons
from attnviz.ui.explain.choice import Choice
from attnviz.ui.explain.files import labelled
from attnviz.ui.explain.steps import quiet
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.output import downloads

OPEN, HEAD = "why-weight", "parts-head"  # whether the expander is open, and the head, in the address
SLOT = "parts"
NARROWEST = {True: 170, False: 320}  # pixels of one map: of a picture, of a text
TITLES = {
    "content": "Content and content",
    "mixed": "Content and position",
    "position": "Position and position",
    "bias": "Biases",
}
WHAT = (
    "Positions are added to the input here, so what layer 1 reads is a sum, and every score is exactly the sum of "
    "products: what {} and a key are, where they are, one of each, and what comes from biases. Later layers read "
    "content and position mixed. Each map is shown minus its mean, which softmax does not see, all on one scale."
)
SHARE = (
    "Share of the score's variance over the keys: covariance of the part with the score, divided by the score's "
    "variance. The shares of a head add up to 100 %; a part that works against the others has a negative one. CLS and "
    "other special tokens are left out."
)


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of the scores of one query, in the order of GROUPS."""

    values: Float[np.ndarray, "head part key"]
    shares: Float[np.ndarray, "head part"]  # of the variance over the keys that count
    counted: Bool[np.ndarray, " key"]  # what the query may attend to, without special tokens
    allowed: Bool[np.ndarray, " key"]  # the same with special tokens

    def centred(self, head: int) -> Float[np.ndarray, "map key"]:
        """The score of a head and its parts, each minus its mean over the keys that count; no number where masked."""
        found = np.concatenate([self.values[head].sum(0, keepdims=True), self.values[head]])
        found = found - found[:, self.counted].mean(-1, keepdims=True)
        return np.where(self.allowed, found, np.nan)


def show(about: ModelRun, choice: Choice) -> None:
    """An expander; what it says is computed once it is open."""
    with st.expander(
        "Why this weight: content or position?", key=OPEN, on_change="rerun", bind="query-params"
    ) as inside:
        if not inside.open:
            return
        try:
            with core():
                found = parts_of(about, choice.token)
        except (NoTokenMap, UnsupportedMask) as error:
            st.caption(f"The scores have no such parts: {str(error).rstrip('.')}.")
            return
        if found.counted.sum() < 2:
            st.caption("This query may attend to fewer than two patches or words, so there is nothing to compare.")
            return
        tokens = about.sample.tokens["main"]
        st.markdown(WHAT.format(f"**{plain(token_name(tokens, choice.token))}**"))
        head = buttons("Head of layer 1", list(range(1, len(found.values) + 1)), HEAD, at=0)
        draw(tokens, choice.token, found, head)
        table(found)
        downloads(
            lambda: arrays(about, choice, found),
            lambda: rows(about, choice, found, head),
            f"explain-score-parts-{about.source}",
        )


def parts_of(about: ModelRun, token: int) -> Parts:
    """The parts of the scores of a query in every head of the first layer. Raises NoTokenMap, UnsupportedMask."""
    call = about.trace.calls[0]
    every = [score_parts(about.model, about.trace, 0, head, [token]).grouped()[..., 0, :] for head in range(call.heads)]
    masks = call.allowed(list(range(call.heads)), [token])
    inside = ~outside(about.sample.tokens["main"])
    allowed = torch.ones_like(inside) if masks is None else masks.reshape(-1, len(inside)).any(0).cpu()
    counted = inside & allowed
    values = torch.stack(every).cpu()
    shares = torch.stack([variance_shares(one, counted) for one in values])
    return Parts(values.float().numpy(), shares.numpy(), counted.numpy(), allowed.numpy())


def draw(tokens: Tokens, token: int, found: Parts, head: int) -> None:
    """The score and its parts over the picture or the text, side by side on one scale centred at zero."""
    titles = ["Score", *TITLES.values()]
    views.send_maps(SLOT, found.centred(head), titles=titles, keys=tokens, signed=True, map_type="score", unit="number")
    pictured = tokens.grid is not None
    style = views.ViewStyle(scale="linear", hide_special=True, shared=True)
    grid = st.grid(len(titles) if pictured else 2, min_column_width=NARROWEST[pictured])
    for index, title in enumerate(titles):
        with grid, st.container():
            share = "the sum of all" if index == 0 else f"{written(found.shares[head, index - 1])} of the variance"
            st.markdown(f"**{title}**  \n{quiet(share)}")
            label = f"{title}, {head_name(head).lower()} of layer 1"
            if pictured:
                more = {"picture": "picture", "tokens": (token,), "height": 260}
                views.picture_view(f"{SLOT}:{index}", maps=SLOT, index=index, style=style, label=label, **more)
            else:
                chosen = {"tokens": (token,), "height": 200}
                views.text_view(f"{SLOT}:{index}", maps=SLOT, index=index, style=style, label=label, **chosen)


def written(share: float) -> str:
    """A share of the variance in words; a dash where the score is flat."""
    return "–" if np.isnan(share) else f"{round(100 * share)} %".replace("-", "−")


def table(found: Parts) -> None:
    """The shares of every head, to choose one by."""
    heads = [head_name(head) for head in range(len(found.shares))]
    shares = {title: [written(row[at]) for row in found.shares] for at, title in enumerate(TITLES.values())}
    st.dataframe({"Layer 1": heads, **shares}, hide_index=True, key="parts:table")
    st.caption(SHARE)


def arrays(about: ModelRun, choice: Choice, found: Parts) -> dict[str, np.ndarray]:
    """The parts of every head and their shares, for an NPZ; the parts add up to the score."""
    said = {"parts": np.array(list(GROUPS)), "score_parts": found.values, "variance_shares": found.shares}
    return said | {"counted": found.counted} | labelled(about, {"layer": "1", "query": query_name(about, choice)})


def rows(about: ModelRun, choice: Choice, found: Parts, head: int) -> tuple[list[str], list[list]]:
    """The score of every key in one head, and its parts, for a CSV."""
    tokens, values = about.sample.tokens["main"], found.values[head]
    names = {"model": about.name, "layer": "1", "head": str(head + 1), "query": query_name(about, choice)}
    table = [[token_name(tokens, i), values[:, i].sum(), *values[:, i], *names.values()] for i in range(len(tokens))]
    return ["key", "score", *GROUPS, *names], table


def query_name(about: ModelRun, choice: Choice) -> str:
    """The query in words."""
    return token_name(about.sample.tokens["main"], choice.token)
