"""How much the residual path really carries, beside the weight that a rollout gives it."""

from __future__ import annotations

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz.measures.rollout import residual_norms
from attnviz.plots import bars, rule
from attnviz.types import Trace
from attnviz.ui.core.labels import layer_name
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.output import dark, plot

NO_NORMS = "This model records no projection by head, so the lengths along its residual path are not known."


def norms(visit: ModelRun) -> tuple[Float[np.ndarray, " layer"], Float[np.ndarray, " layer"]] | None:
    """Mean lengths of what enters each layer and of what its attention adds; None where they were not recorded."""
    calls = visit.trace.calls
    if "main" not in visit.trace.residuals or any(c.output is None or c.projection is None for c in calls):
        return None
    return _norms(visit.model.digest, visit.sample.digest, visit.trace)


@st.cache_data(max_entries=256, show_spinner=False)
def _norms(model_digest: str, sample_digest: str, _trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    kept, added = residual_norms(_trace)
    return kept.numpy(), added.numpy()


def share_words(visit: ModelRun) -> str:
    """What the residual path really carries, as a range over the layers; empty where that is not known."""
    if (found := norms(visit)) is None:
        return ""
    kept, added = found
    share = 100 * kept / (kept + added)
    return f"Measured here: {share.min():.0f} to {share.max():.0f} %"


def chart(visit: ModelRun, alpha: float) -> None:
    """The measured share of the residual path in every layer, and the ratio of lengths; `alpha` is a line."""
    if (found := norms(visit)) is None:
        st.caption(NO_NORMS)
        return
    kept, added = found
    names = [layer_name(i) for i in range(len(kept))]
    figure = bars(
        kept / (kept + added),
        labels=names,
        colours="value",
        form=".0%",
        shown=True,
        limits=(0, 1.12),
        y_title="Residual share",
        dark=dark(),
        height=230,
    )
    rule(figure, "y", alpha, line={"color": "#888", "width": 1.5, "dash": "dot"})
    plot(figure, "residual", alt="Share of the residual in each layer, by length, with the chosen weight as a line")
    words = [f"{name.lower()}: {a / b:.1f} to 1" for name, a, b in zip(names, kept, added, strict=True)]
    st.caption(f"‖x‖ to ‖attention(x)‖, means over tokens: {', '.join(words)}. Dotted: the weight chosen above.")
