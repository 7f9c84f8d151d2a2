"""Positions: what the model knows about places, what it does without them, and tables that need no training."""

from dataclasses import replace

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.recorded import grid_of, middle
from attnviz.ui.positions import image, schemes
from attnviz.ui.shell.prose import section

ui.header("positions")
visit = ui.visit()
tokens = visit.sample.tokens["main"]
rows, columns = grid_of(tokens)


def picked(chosen: tuple[int, ...]) -> None:
    """Keep the patch that was clicked; letting go keeps the last one."""
    if chosen:
        ui.set_tokens("token", chosen[:1])


def own(token: int, how: str, style: views.ViewStyle) -> None:
    """The model's own table: one small map per place, and the table itself; or in words that it has none."""
    whose = image.origin(visit)
    if whose in image.TABLELESS:
        section("positions", whose, title=False)
        return
    table, alike = image.table_of(visit), image.similarity(image.table_of(visit), how)
    left, right = st.columns([3, 2], gap="large")
    with left:
        views.tiles_view(
            "positions:tiles",
            maps=image.send_alike(tokens, alike, how),
            style=replace(style, hide_special=True),
            rows=[str(r + 1) for r in range(rows)],
            columns=[str(c + 1) for c in range(columns)],
            tile=560 // rows - 3,
            selected=image.cell_of(tokens, token),
            on_pick=lambda cell: picked((image.patch_at(tokens, *cell),)),
            label=f"{how.capitalize()} of position vectors",
        )
        for part in (whose, f"Started as {visit.model.spec.positions}", how.capitalize()):
            section("positions", part, title=False, optional=part.startswith("Started"))
    with right:
        alt = "The position table, one row per token and one column per feature"
        ui.plot(image.table_figure(tokens, table), "table", alt=alt)
        section("positions", "The table itself", title=False)
    ui.downloads(lambda: {"table": table, how: alike}, lambda: image.table_file(tokens, table), "positions")


def without(token: int, style: views.ViewStyle) -> None:
    """The real model with its positions removed or shuffled, beside itself."""
    section("positions", "Take positions away")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        how = ui.one_of("Positions", list(image.CHANGES), default="Removed", key="change")
        one = ui.head_choice(visit.trace.calls[at := ui.call_choice(visit.trace)])
    changed = ui.trace(visit.name, visit.sample, positions=image.CHANGES[how])
    answer = image.change_of(visit, changed)
    st.markdown(answer.sentence)
    ui.plot(answer.figure(how), "answers", alt=f"Bars: {answer.sentence}")
    calls = {"Own": visit.trace.calls[at], how: changed.calls[at]}
    titles = image.send_weights(calls)
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
    st.markdown(image.moved_sentence(calls["Own"], calls[how], one, token))
    ui.downloads(
        lambda: {name: call.token_map().numpy() for name, call in calls.items()},
        lambda: image.row_file(calls, one, token),
        "positions-maps",
    )


@ui.fragment
def body() -> None:
    """Everything that follows the chosen patch."""
    token = ui.chosen_token("token", len(tokens), middle(tokens))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        how = ui.one_of(
            "Similarity",
            image.SIMILARITIES,
            default=image.SIMILARITIES[0],
            key="similarity",
            format_func=str.capitalize,
        )
        style = ui.display()
    own(token, how, style)
    without(token, style)


@ui.fragment
def made() -> None:
    """Tables made to order, without training."""
    section("positions", "Tables without training")
    scheme = schemes.scheme_choice(visit)
    table = schemes.table_choice(visit, scheme)
    st.markdown(table.sentence)
    left, right = st.columns(2, gap="large")
    with left:
        ui.plot(table.table_figure(), "made", alt="The table: one row per place, one column per feature")
        ui.plot(table.reach_figure(), "reach", alt="How the dot product of two places falls with their distance")
    with right:
        ui.plot(table.gram_figure(), "gram", alt="Dot product of every two places")
        if (waves := table.waves_figure()) is not None:
            ui.plot(waves, "waves", alt="Wavelengths, from the shortest to the longest")
    section("positions", scheme, title=False)


ui.share_picture(visit)
body()
made()
ui.footer("positions")
