"""Explain: what one attribution method says the answer depends on, beside raw attention and any other method."""

from dataclasses import replace
from functools import partial

import streamlit as st

from attnviz import ui, views
from attnviz.ui.explain import choice as choices
from attnviz.ui.explain import compared, evidence, files, layers, mask, prose, sending, steps

visit = ui.visit()
tokens = visit.sample.tokens["main"]

ui.header("explain")


@ui.fragment
def page() -> None:
    choice, style, shared = choices.choose(visit, partial(ui.display, mass=True))
    result, tiles = steps.work_out(visit, choice), compared.tiles(visit, choice)
    chosen = (choice.token,) if choice.start == choices.TOKEN else ()
    name, labels, option = choice.name(tokens), choice.labels(tokens), choice.how.layer_option
    style = replace(style, shared=shared, row_range=choices.stretched(), overlay=style.overlay or "light")
    draw = partial(views.picture_view, picture="picture", tokens=chosen, style=style)
    pick = partial(choices.pick, visit) if choice.how.takes_start else None

    with st.container(gap=None):
        ui.share_picture(visit)
        places = sending.send(choice, result, tokens, tiles, lambda rows, _: rows, lambda maps: maps, shared=shared)
    large, beside = compared.places_for(tiles)
    with large:
        st.markdown(f"**{choice.title}** of {name}{choice.span}  \n{steps.small(labels)}")
        if result.why:
            st.info(f"{choice.how.title} does not apply to this model: {result.why}.")
        else:
            what = f"Your picture with the {choice.title.lower()} of {name}: {steps.in_line(labels)}"
            draw("large", maps=sending.SLOT, index=choice.at, height=520, label=what, on_pick=pick)
            st.markdown(steps.prefix_words(tokens, choice, result))
            st.caption(steps.remarks(visit, choice, shared) + mask.words(tokens, result.steps[choice.at], style.mass))
        st.markdown(steps.answer_words(visit))
    with beside:
        grid = st.grid(2 if tiles else 1, min_column_width=compared.NARROWEST)
        with grid, st.container():
            st.markdown(f"**Raw attention**, layer {choice.depth}  \n{steps.small(steps.raw_labels(choice, tokens))}")
            if result.raw is None:
                st.caption(steps.NO_RAW)
            else:
                (slot, index), what = places[sending.RAW_PLACE], f"Your picture with raw attention of {name}"
                draw("raw", maps=slot, index=index, height=340, label=what, on_pick=pick)
        for one in tiles:
            with grid, st.container():
                compared.draw(one, choice, places, draw)
        if not result.why:
            steps.top_patches(tokens, choice, result)

    evidence.show(visit, choice, result)

    if option is not None and not result.why:
        layers.pictures(choice, option, chosen, style)
    prose.how("explain", visit, choice)
    ui.downloads(
        lambda: files.arrays(visit, choice, result, name, tiles) | mask.arrays(tokens, choice, result, style.mass),
        lambda: files.rows(visit, choice, result, name, tiles),
        files.file_name(choice, visit.source),
    )


page()
ui.footer("explain")
