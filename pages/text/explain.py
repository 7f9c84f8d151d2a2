"""Explain, for a text: what one attribution method says the answer depends on, beside any other method."""

from dataclasses import replace
from functools import partial

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.labels import plain
from attnviz.ui.explain import choice as choices
from attnviz.ui.explain import compared, evidence, files, layers, mask, prose, sending, steps
from attnviz.ui.explain import text as words
from attnviz.ui.widgets import text_display

about = ui.reading()
tokens = about.sample.tokens["main"]

ui.header("text/explain")
ui.remarks(about)


@ui.fragment
def page() -> None:
    choice, look, shared = choices.choose(about, partial(text_display.look_at, tokens, mass=True))
    group = words.group_of(choice, look)
    result = words.of_word(steps.work_out(about, choice), look, group)
    tiles = compared.tiles(about, choice, () if group is None else look.groups.groups[group])
    start = choice.name(tokens) if group is None else look.tokens.labels[group]
    name, option = plain(start), choice.how.layer_option
    shown = partial(words.rows_shown, look=look)
    places = sending.send(choice, result, look.tokens, tiles, shown, look.maps, shared=shared)
    style = replace(look.style, shared=shared, row_range=choices.stretched())
    draw = partial(views.text_view, tokens=() if group is None else (group,), style=style)
    pick = partial(words.pick, about, look) if choice.how.takes_start else None

    large, beside = st.columns([1.5, 1], gap="medium")
    with large:
        st.markdown(f"**{choice.title}** of {name}{choice.span}  \n{steps.small(choice.labels(tokens))}")
        if result.why:
            st.info(f"{choice.how.title} does not apply to this model: {result.why}.")
        else:
            what = f"Your text with the {choice.title.lower()} of {start}"
            draw("large", maps=sending.SLOT, index=choice.at, label=what, on_pick=pick)
            st.markdown(words.special_words(tokens, choice, result))
            row = shown(result.steps[choice.at][None], result.signed)[0]
            st.caption(steps.remarks(about, choice, shared) + mask.words(look.tokens, row, style.mass))
        st.markdown(words.answer_words(about))
    with beside:
        st.markdown(f"**Raw attention**, layer {choice.depth}  \n{steps.small(steps.raw_labels(choice, tokens))}")
        if result.raw is None:
            st.caption(steps.NO_RAW)
        else:
            slot, index = places[sending.RAW_PLACE]
            draw("raw", maps=slot, index=index, label=f"Your text with raw attention of {start}", on_pick=pick)
        if not result.why:
            words.top_words(choice, result, look)
    grid = st.grid(2, min_column_width=320)
    for one in tiles:
        with grid, st.container():
            compared.draw(one, choice, places, draw)

    evidence.show(about, choice, result)

    if option is not None and not result.why:
        layers.texts(choice, option, draw, pick)
    prose.how("text/explain", about, choice)
    ui.downloads(
        lambda: files.arrays(about, choice, result, start, tiles) | mask.arrays(tokens, choice, result, style.mass),
        lambda: files.rows(about, choice, result, start, tiles),
        files.file_name(choice, "text"),
    )


page()
ui.footer("text/explain")
