"""Explain, for a text: attention followed back through all layers to its words, or another attribution method."""

from dataclasses import replace
from functools import partial

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.labels import plain
from attnviz.ui.explain import badge, diagnostics, prose, scores, steps
from attnviz.ui.explain import choice as choices
from attnviz.ui.explain import text as rollout_text
from attnviz.ui.widgets import text_display

about = ui.reading()
tokens = about.sample.tokens["main"]

ui.header("text/explain")
ui.remarks(about)


@ui.fragment
def page() -> None:
    st.markdown(rollout_text.answer_words(about))
    choice, look, shared = choices.choose(about, partial(text_display.look_at, tokens))
    group = rollout_text.group_of(choice, look)
    result = rollout_text.of_word(steps.work_out(about, choice), look, group)
    start = choice.name(tokens) if group is None else look.tokens.labels[group]
    name, option = plain(start), choice.how.layer_option
    rollout_text.send(choice, result, look)
    draw = partial(
        views.text_view,
        tokens=() if group is None else (group,),
        style=replace(look.style, shared=shared, row_range=not shared),
        on_pick=partial(rollout_text.pick, about, look) if choice.how.takes_start else None,
    )

    large, beside = st.columns([1.5, 1], gap="medium")
    with large:
        st.markdown(f"**{choice.title}** of {name}{choice.span}  \n{steps.small(choice.labels(tokens))}")
        what = f"Your text with the {choice.title.lower()} of {start}"
        draw("large", maps=steps.SLOT, index=choice.at, label=what)
        st.markdown(rollout_text.special_words(tokens, choice, result))
        st.caption(steps.caveats(about, choice, shared))
    with beside:
        st.markdown(f"**Raw attention**, layer {choice.depth}  \n{steps.small(steps.raw_labels(choice, tokens))}")
        if result.raw is None:
            st.caption(steps.NO_RAW)
        else:
            slot, index = steps.raw_place(result)
            draw("raw", maps=slot, index=index, label=f"Your text with raw attention of {start}")
        rollout_text.top_words(choice, result, look)

    badge.show(about, choice, result)
    diagnostics.show(about, choice, result)
    scores.show(about)

    if option is not None:
        prose.by_layer("text/explain", choice)
        for layer, title in enumerate(steps.titles(choice)):
            at, text = st.columns([1, 6], vertical_alignment="center")
            at.button(
                title,
                key=f"from:{layer}",
                on_click=choices.open_layer,
                args=(option, (0, layer)),
                type="primary" if layer == choice.at else "secondary",
            )
            with text:
                draw(f"step:{layer}", maps=steps.SLOT, index=layer, label=f"{choice.title}: {title.lower()}")
    prose.how("text/explain", about, choice)
    ui.downloads(
        lambda: steps.arrays(about, choice, result, start),
        lambda: steps.rows(about, choice, result, start),
        "rollout-text",
    )


page()
ui.footer("text/explain")
