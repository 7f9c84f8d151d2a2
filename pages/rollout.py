"""Rollout: attention followed back through all layers, beside the raw attention of the last one."""

from dataclasses import replace
from functools import partial

import streamlit as st

from attnviz import ui, views
from attnviz.ui.rollout import steps
from attnviz.ui.shell.prose import section

visit = ui.visit()
tokens = visit.sample.tokens["main"]

ui.header("rollout")


def pick(chosen: tuple[int, ...]) -> None:
    steps.pick(visit, chosen)


def start_from(cell: tuple[int, ...]) -> None:
    ui.go(**{"from": cell[1] + 1})


@ui.fragment
def page() -> None:
    st.markdown(steps.answer_words(visit))
    choice, style, common = steps.choose(visit, ui.display)
    result = steps.work_out(visit, choice)
    chosen = (choice.token,) if choice.target == steps.PATCH else ()
    name, labels, last = choice.name(tokens), choice.labels(tokens), choice.depth

    large, beside = st.columns([1.5, 1], gap="medium")
    with st.container(gap=None):
        ui.share_picture(visit)
        steps.send(visit, choice, result)
    style = replace(style, shared=common, row_range=not common)
    draw = partial(views.picture_view, picture="picture", maps=steps.SLOT, tokens=chosen, style=style, on_pick=pick)
    with large:
        st.markdown(f"**Rollout** of {name}, {choice.span}  \n{steps.small(labels)}")
        label = f"Your picture with the rollout of {name}: {steps.in_line(labels)}"
        draw("large", index=choice.first, height=520, label=label)
        st.markdown(steps.prefix_words(tokens, choice, result))
        st.caption(steps.caveats(visit, common))
    with beside:
        st.markdown(f"**Raw attention**, layer {last} alone  \n{steps.small(steps.raw_labels(choice, tokens))}")
        draw("raw", index=last, height=340, label=f"Your picture with raw attention of {name}, layer {last}")
        steps.top_patches(tokens, choice, result)

    section("rollout", "Layer by layer")
    views.tiles_view(
        "steps",
        picture="picture",
        maps=[steps.SLOT],
        tokens=chosen,
        style=style,
        rows=[""],
        columns=[f"From layer {i + 1}" for i in range(last)],
        tile=236,
        selected=(0, choice.first),
        on_pick=start_from,
        label="Rollout from each layer on",
    )
    words, chart = st.columns([1, 1], gap="large")
    with words:
        section("rollout", "How it is computed")
    with chart:
        section("rollout", "How much does the residual path carry?")
        steps.residual_chart(visit, choice)
    ui.downloads(
        lambda: steps.arrays(visit, choice, result, name),
        lambda: steps.rows(visit, choice, result, name),
        f"rollout-{visit.source}",
    )


page()
ui.footer("rollout")
