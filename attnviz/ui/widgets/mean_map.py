"""The mean over heads of the last attention call: the one map that is shown before anybody has chosen a head."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attnviz import views
from attnviz.types import AttentionCall
from attnviz.ui.core.budget import ON_DEMAND, fits
from attnviz.ui.core.labels import call_names
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.widgets.display import masked_of, mean_of, together, unit_of
from attnviz.ui.widgets.text_display import Look, send


def signed(visit: ModelRun) -> bool:
    """Whether some entry of some map is below zero. Raises NoTokenMap."""
    return _signed(visit.model.digest, visit.sample.digest, visit.trace.calls)


@st.cache_data(max_entries=64, show_spinner=False)
def _signed(model_digest: str, sample_digest: str, _calls: Sequence[AttentionCall]) -> bool:
    return any(
        not call.rule.stochastic and any(bool((call.token_map(rows=rows) < 0).any()) for rows in call.blocks())
        for call in _calls
    )


def send_mean(visit: ModelRun, tokens: Sequence[int] = ()) -> tuple[str, str | None, str]:
    """Give the browser the last call's mean over heads: its title and slot, or no slot and the reason why.

    Where it is too large to be sent whole, the rows of these tokens go together as one, and the reason says so.
    """
    call = visit.trace.calls[-1]
    whole = fits(call)
    mean, reason = mean_of(call, None if whole else tokens)
    if mean is None:
        return "Your picture", None, reason
    if not whole:
        mean, reason = together(mean[0], shares=call.rule.stochastic)[None], ON_DEMAND
    title = f"{call_names(visit.trace)[-1]}, mean of {call.heads} heads"
    views.send_maps(
        "start",
        mean,
        titles=[title],
        keys=call.keys,
        queries=call.queries,
        signed=signed(visit),
        map_type=call.rule.map_type,
        unit=unit_of(call),
        masked=masked_of(call) if whole else None,
    )
    return title, "start", reason


def send_text_mean(about: TextRun, look: Look) -> tuple[str, str | None, str]:
    """Give the browser the last call's mean over heads: its title and slot, or no slot and the reason why."""
    call = about.trace.calls[-1]
    mean, reason = mean_of(call)
    if mean is None:
        return "Your text", None, reason
    title = f"{call_names(about.trace)[-1]}, mean of {call.heads} heads"
    return title, send("start", call, look, [title], mean), ""
