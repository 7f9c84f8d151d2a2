"""Two sentences whose residuals are exchanged, word by word."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import streamlit as st

from attnviz import views
from attnviz.types import Sample
from attnviz.ui.core.cache import trace
from attnviz.ui.core.labels import written
from attnviz.ui.core.state import go
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.text_run import LETTERS, TextRun, prepared_text
from attnviz.ui.test.again import opening, target_line
from attnviz.ui.test.changed_answer import answered
from attnviz.ui.test.pair import Pair, depth_name

# Pairs of as many tokens whose answers differ. Number of the subject: are, is (as in Linzen et al. 2016).
AGREEMENT = ("The boys in the garden", "The boy in the garden")
SENTIMENT = ("The film is a joy to watch.", "The film is a pain to watch.")
USED = ("from attnviz.measures.interventions import crossing", "from attnviz.types import Target")
HERE = "This section reads these two sentences instead of the text in the sidebar."


def pair_for(about: ModelRun) -> tuple[str, str]:
    """The pair to begin with: of a model that predicts the next word, or of one that answers for a sentence."""
    return AGREEMENT if about.model.spec.causal else SENTIMENT


def choose(about: ModelRun) -> Pair:
    """Two fields for sentences, kept in the address; a classic pair to begin with."""
    first, second = pair_for(about)
    left, right = st.columns(2, gap="medium")
    own = left.text_input("Sentence", first, max_chars=LETTERS, key="swap_own", bind="query-params", help=HERE)
    other = right.text_input(
        "The other, whose residuals are patched in", second, max_chars=LETTERS, key="swap_other", bind="query-params"
    )
    samples = [prepared(about, text) for text in (own, other)]
    run = TextRun(
        model=about.model, name=about.name, sample=samples[0], trace=trace(about.name, samples[0]), source="text"
    )
    labels = samples[0].tokens["main"].labels
    return Pair(
        about=run,
        other=samples[1],
        groups=tuple((token,) for token in range(len(labels))),
        places=words_of(samples[0], samples[1]),
        draw=lambda share, cell, pick: draw(samples, share, cell, pick),
        beside=lambda: None,
        restart=lambda: restart(first, second),
        lines=lambda: lines(run, other),
    )


def prepared(about: ModelRun, text: str) -> Sample:
    """A sentence made ready for the model."""
    return prepared_text(about.model.digest, hashlib.sha256(repr(text).encode()).hexdigest(), about.model, text)


def restart(first: str, second: str) -> None:
    """A button that brings the classic pair back."""
    again = {"swap_own": first, "swap_other": second}
    st.button(f"“{first}” and “{second}”", key="swap:restart", on_click=go, kwargs=again, icon=":material/undo:")


def words_of(own: Sample, other: Sample) -> list[str]:
    """What each place is called: the word, and the other's where it differs."""
    pairs = zip(own.tokens["main"].labels, other.tokens["main"].labels, strict=False)
    return [a if a == b else f"{a} → {b}" for a, b in pairs]


def draw(samples: list[Sample], share: np.ndarray, cell: int, pick: Callable[[tuple[int, ...]], None]) -> None:
    """A table of words and depths, coloured by share; cells are turned, since words read along rows."""
    depths, count = share.shape
    names = words_of(*samples)
    rounded = (share.T.round(2) + 0.0).tolist()  # + 0.0: no minus before a zero
    depth, place = divmod(cell, count)

    def turned(chosen: tuple[int, ...]) -> None:
        pick(tuple(index % depths * count + index // depths for index in chosen))

    views.cells_view(
        "test:patches",
        rows=names,
        columns=["In", *map(str, range(1, depths))],
        values=share.T.tolist(),
        texts=[[written(one, ".2f") for one in row] for row in rounded],
        tips=[
            [f"{names[p]}, {depth_name(d).lower()}: crosses {100 * share[d, p]:.1f} %" for d in range(depths)]
            for p in range(count)
        ],
        signed=True,
        limit=1.0,
        cell=(72, 34),
        chosen=(place * depths + depth,),
        note="0: own answer, 1: the other's; columns are depths, In is what enters layer 1",
        label="Click a cell for the answers; rows are words, columns are layers",
        on_pick=turned,
    )


def lines(run: TextRun, other: str) -> list[str]:
    """The Python lines that compute the map again."""
    target = answered(run)
    named = "None" if target is None else target_line(target)
    return [
        *opening(run, *USED, raw=run.sample.text),
        f"other = model(model.prepare({other!r}))",
        f"share = crossing(model, sample, other, {named}).share  # [depth token]",
    ]
