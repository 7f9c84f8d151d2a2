"""What the page Explain says of the chosen method: its section of assets/text/methods.md, for rollout more."""

from __future__ import annotations

import streamlit as st

from attnviz.ui.explain import residual
from attnviz.ui.explain.choice import ROLLOUT, Choice
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.shell.page import sections
from attnviz.ui.shell.prose import section

METHODS_PAGE = "methods"  # one section for each method and control, under its title


def by_layer(page: str, choice: Choice) -> None:
    """The heading over the small maps, one for each layer the method may be given."""
    if choice.method == ROLLOUT:
        section(page, "Layer by layer")
        return
    st.subheader("Layer by layer")
    if choice.how.layer_option and choice.how.layer_option.help:
        st.markdown(choice.how.layer_option.help)


def how(page: str, visit: ModelRun, choice: Choice) -> None:
    """How the method computes its numbers; for rollout also how much the residual path really carries."""
    if choice.method != ROLLOUT:
        about(choice)
        return
    words, chart = st.columns([1, 1], gap="large")
    with words:
        about(choice)
    with chart:
        section(page, "How much does the residual path carry?")
        residual.chart(visit, choice.options["alpha"])


def about(choice: Choice) -> None:
    """Formula, paper, cost and limits of a method; of one that has no section, its help."""
    if choice.how.title in sections(METHODS_PAGE):
        section(METHODS_PAGE, choice.how.title)
        return
    st.subheader(choice.how.title)
    st.markdown(choice.how.help)
