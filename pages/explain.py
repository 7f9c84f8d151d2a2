"""Explain: attention followed back through all layers, or another attribution method, beside raw attention."""

from dataclasses import replace
from functools import partial

import streamlit as st

from attnviz import ui, views
from attnviz.ui.explain import badge, diagnostics, prose, scores, steps
from attnviz.ui.explain import choice as choices

visit = ui.visit()
tokens = visit.sample.tokens["main"]

ui.header("explain")


@ui.fragment
def page() -> None:
    st.markdown(steps.answer_words(visit))
    choice, style, shared = choices.choose(visit, ui.display)
    result = steps.work_out(visit, choice)
    chosen = (choice.token,) if choice.start == choices.TOKEN else ()
    name, labels, option = choice.name(tokens), choice.labels(tokens), choice.how.layer_option
    draw = partial(
        views.picture_view,
        picture="picture",
        tokens=chosen,
        style=replace(style, shared=shared, row_range=not shared),
        on_pick=partial(choices.pick, visit) if choice.how.takes_start else None,
    )

    large, beside = st.columns([1.5, 1], gap="medium")
    with st.container(gap=None):
        ui.share_picture(visit)
        steps.send(choice, result, tokens)
    with large:
        st.markdown(f"**{choice.title}** of {name}{choice.span}  \n{steps.small(labels)}")
        what = f"Your picture with the {choice.title.lower()} of {name}: {steps.in_line(labels)}"
        draw("large", maps=steps.SLOT, index=choice.at, height=520, label=what)
        st.markdown(steps.prefix_words(tokens, choice, result))
        st.caption(steps.caveats(visit, choice, shared))
    with beside:
        st.markdown(f"**Raw attention**, layer {choice.depth}  \n{steps.small(steps.raw_labels(choice, tokens))}")
        if result.raw is None:
            st.caption(steps.NO_RAW)
        else:
            slot, index = steps.raw_place(result)
            what = f"Your picture with raw attention of {name}, layer {choice.depth}"
            draw("raw", maps=slot, index=index, height=340, label=what)
        steps.top_patches(tokens, choice, result)

    badge.show(visit, choice, result)
    diagnostics.show(visit, choice, result)
    scores.show(visit)

    if option is not None:
        prose.by_layer("explain", choice)
        views.tiles_view(
            "steps",
            picture="picture",
            maps=[steps.SLOT],
            tokens=chosen,
            style=replace(style, shared=shared, row_range=not shared),
            rows=[""],
            columns=steps.titles(choice),
            tile=236,
            selected=(0, choice.at),
            on_pick=partial(choices.open_layer, option),
            label=f"{choice.title}, layer by layer",
        )
    prose.how("explain", visit, choice)
    ui.downloads(
        lambda: steps.arrays(visit, choice, result, name),
        lambda: steps.rows(visit, choice, result, name),
        f"rollout-{visit.source}",
    )


page()
ui.footer("explain")
