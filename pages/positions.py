"""Positions: the model's position embeddings, the model without them, and tables that need no training."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.recorded import middle
from attnviz.ui.heads.overview import weights_file
from attnviz.ui.positions import ablation, image, schemes
from attnviz.ui.shell.prose import section

ui.header("positions")
visit = ui.visit()
tokens = visit.sample.tokens["main"]


def picked(chosen: tuple[int, ...]) -> None:
    """Keep the patch that was clicked; a click that deselects keeps the last one."""
    if chosen:
        ui.set_tokens("token", chosen[:1])


def ablated(token: int, style: views.ViewStyle) -> None:
    """The model with its positions ablated or permuted, beside itself."""
    section("positions", "Ablate position embeddings")
    if not ablation.can_ablate(visit):
        st.info(ablation.CANNOT, icon=":material/info:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        how = ui.one_of("Positions", ablation.CHANGES, default="none", key="change")
        one = ui.head_choice(visit.trace.calls[at := ui.call_choice(visit.trace)])
    changed = ui.trace(visit.name, visit.sample, positions=how)
    answer = ablation.change_of(visit, changed)
    st.markdown(ablation.NO_ANSWER if answer is None else answer.sentence)
    if answer is not None:
        ui.plot(answer.figure(how), "answers", alt=f"Bars: {answer.sentence}")
    calls = {"own": visit.trace.calls[at], how: changed.calls[at]}
    titles = image.send_weights(visit, at, calls, token)
    for column, name in zip(st.columns(2, gap="large"), calls, strict=True):
        with column:
            views.picture_view(
                f"positions:{name}",
                picture="picture",
                maps=f"weights {name}",
                index=one,
                height=380,
                tokens=(token,),
                style=style,
                on_pick=picked,
                label=titles[name][one],
            )
    st.markdown(ablation.moved_sentence(calls["own"], calls[how], one, token))
    ui.downloads(
        lambda: {ablation.NAMES[name].lower(): weights_file(call, (token,))["weights"] for name, call in calls.items()},
        lambda: ablation.row_file(calls, one, token),
        "positions-maps",
    )


@ui.fragment
def body() -> None:
    """Everything that follows the chosen patch."""
    token = ui.chosen_token("token", len(tokens), middle(tokens))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        how = ui.one_of("Similarity", image.SIMILARITIES, default="centred-cosine", key="similarity")
        style = ui.display()
    image.own_table(visit, token, how, style, picked)
    ablated(token, style)


@ui.fragment
def made() -> None:
    """Tables made to order, without training."""
    section("positions", "Tables without training")
    scheme = schemes.scheme_choice(visit)
    table = schemes.table_choice(visit, scheme)
    st.markdown(table.sentence)
    left, right = st.columns(2, gap="large")
    with left:
        ui.plot(table.table_figure(), "made", alt="The table: one row per position, one column per feature")
        ui.plot(table.reach_figure(), "reach", alt="The dot product of two positions by their distance")
    with right:
        ui.plot(table.gram_figure(), "gram", alt="Dot product of every two positions")
        if (waves := table.waves_figure()) is not None:
            ui.plot(waves, "waves", alt="Wavelengths, from the shortest to the longest")
    section("positions", scheme, title=False)


ui.share_picture(visit)
body()
made()
ui.footer("positions")
