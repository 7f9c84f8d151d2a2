"""Rollout, for a text: attention followed back through all layers, to the words the answer can have come from."""

from dataclasses import replace
from functools import partial

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.labels import plain
from attnviz.ui.rollout import steps
from attnviz.ui.rollout import text as rollout_text
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import text_answers, text_display

about = ui.reading()
tokens = about.sample.tokens["main"]

ui.header("text/rollout")
ui.remarks(about)


@ui.fragment
def page() -> None:
    st.markdown(text_answers.answer_words(about))
    choice, look, common = steps.choose(about, partial(text_display.look_at, tokens))
    group = rollout_text.group_of(choice, look)
    result = rollout_text.of_word(steps.work_out(about, choice), look, group)
    chosen = () if group is None else (group,)
    target = choice.name(tokens) if group is None else look.tokens.labels[group]
    name, last = plain(target), choice.depth
    rollout_text.send(choice, result, look)
    style = replace(look.style, shared=common, row_range=not common)
    keep = partial(rollout_text.pick, about, look)
    draw = partial(views.text_view, maps=steps.SLOT, tokens=chosen, style=style, on_pick=keep)

    large, beside = st.columns([1.5, 1], gap="medium")
    with large:
        st.markdown(f"**Rollout** of {name}, {choice.span}  \n{steps.small(choice.labels(tokens))}")
        draw("large", index=choice.first, label=f"Your text with the rollout of {target}")
        st.markdown(rollout_text.special_words(tokens, choice, result))
        st.caption(steps.caveats(about, common))
    with beside:
        st.markdown(f"**Raw attention**, layer {last} alone  \n{steps.small(steps.raw_labels(choice, tokens))}")
        draw("raw", index=last, label=f"Your text with raw attention of {target}")
        rollout_text.top_words(choice, result, look)

    section("text/rollout", "Layer by layer")
    for first in range(last):
        at, text = st.columns([1, 6], vertical_alignment="center")
        at.button(
            f"From layer {first + 1}",
            key=f"from:{first}",
            on_click=ui.go,
            kwargs={"from": first + 1},
            type="primary" if first == choice.first else "secondary",
        )
        with text:
            draw(f"step:{first}", index=first, label=f"Rollout from layer {first + 1} on")
    words, chart = st.columns([1, 1], gap="large")
    with words:
        section("text/rollout", "How it is computed")
    with chart:
        section("text/rollout", "How much does the residual path carry?")
        steps.residual_chart(about, choice)
    ui.downloads(
        lambda: steps.arrays(about, choice, result, target),
        lambda: steps.rows(about, choice, result, target),
        "rollout-text",
    )


page()
ui.footer("text/rollout")
