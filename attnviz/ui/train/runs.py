"""What the Train page is made of: its choices, one run per visitor, curves, and maps that can be replayed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import streamlit as st
from PIL import Image

from attnviz import views
from attnviz.plots import lines
from attnviz.training.images import digits
from attnviz.training.images.recipes import RECIPES
from attnviz.training.live import runs
from attnviz.training.live.queue import MAX_RUNNING
from attnviz.types import Tokens
from attnviz.ui.core.cache import session_models
from attnviz.ui.core.labels import head_name
from attnviz.ui.core.state import chosen_tokens, go, keep_inside, one_of, set_tokens
from attnviz.ui.inputs.samples import TRAINED_HERE
from attnviz.ui.shell.errors import report_errors
from attnviz.ui.shell.page import page_file
from attnviz.ui.shell.prose import section
from attnviz.ui.shell.training_status import RUN, queue
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

ALIKE = 8  # models with one title that a visitor may keep, of several seeds, say; the last gives way


def describe_run(run: runs.TrainingRun, plan: runs.Plan) -> None:
    """Where the choices are not those of the run below, what that one is."""
    with st.empty():  # always there, so that what follows keeps its place and its state
        if not run.not_started and run.plan != plan:
            names = " against ".join(run.plan.full_title(number) for number in range(len(run.plan.variants)))
            st.caption(f"The choices are for the next run. This one: {names}, {run.plan.epochs} epochs.")


def seeds_table() -> None:
    """How well four kinds of network read digits, over five seeds each; nothing where that has not been measured."""
    with report_errors():  # the page does not need it
        if rows := digits.results():
            section("train", "From five seeds")
            st.markdown(digits.table(rows))


def run_of(plan: runs.Plan) -> runs.TrainingRun:
    """This visitor's run; one that has not started follows the choices."""
    run = st.session_state.get(RUN)
    if run is None or (run.not_started and run.plan != plan):
        run = st.session_state[RUN] = runs.TrainingRun(plan)
    return run


def start(plan: runs.Plan) -> None:
    """Begin, or begin anew."""
    run = st.session_state.get(RUN)
    if run is None or run.step or run.plan != plan or run.state == "failed":
        run = st.session_state[RUN] = runs.TrainingRun(plan)
    go_on(run)


def go_on(run: runs.TrainingRun) -> None:
    """Let it learn from where it stands; the last epoch is shown again."""
    st.session_state.pop("epoch", None)
    queue().submit(run)


def buttons(run: runs.TrainingRun, plan: runs.Plan) -> None:
    """Start, stop, resume, start again; and the way of what was trained to the other pages."""
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    if run.active:
        row.button("Stop", icon=":material/stop:", key="stop", on_click=queue().stop, args=(run,))
    elif run.state == "stopped":
        row.button("Resume", icon=":material/play_arrow:", type="primary", key="resume", on_click=go_on, args=(run,))
    elif not run.step and run.models:
        row.button(
            "Start", icon=":material/play_arrow:", type="primary", key="train:start", on_click=start, args=(plan,)
        )
    if not run.active and run.step:
        main = "secondary" if run.state == "stopped" else "primary"
        again = "Start again" if run.plan == plan else "Start with these choices"
        row.button(again, icon=":material/restart_alt:", type=main, key="again", on_click=start, args=(plan,))
        for number, model in enumerate(run.models):
            label = f"Open {model.title} in Heads"
            if row.button(label, icon=":material/grid_view:", key=f"open:{number}", on_click=adopt, args=(model,)):
                st.switch_page(page_file("heads"), query_params={})


def adopt(live: runs.LiveModel) -> None:
    """Make what was trained a model that this visitor can choose on every page, and choose it."""
    kept, name = session_models(), f"{TRAINED_HERE}{live.full_title}"
    model = runs.open_live(live, name)
    names = [name, *(f"{name} ({number})" for number in range(2, ALIKE + 1))]
    model.name = next((one for one in names if one not in kept or kept[one].digest == model.digest), names[-1])
    kept[model.name] = model
    go(model=model.name)


def status(run: runs.TrainingRun, place: int) -> None:
    """Where it stands, in one line above a bar."""
    for sentence in run.refusals:
        st.warning(sentence, icon=":material/info:")
    if run.notice:
        st.warning(run.notice, icon=":material/info:")
    st.progress(run.step / run.steps, state_of(run, place))


def state_of(run: runs.TrainingRun, place: int) -> str:
    """The state of a run in words."""
    if run.state == "queued":
        others = f"{MAX_RUNNING} trainings run on this server, which is as many as it can take."
        return f"{others} Yours is number {max(place, 1)} in line and starts by itself."
    where = f"Epoch {run.epoch} of {run.plan.epochs} · step {run.step} of {run.steps} · {run.seconds:.0f}\u00a0s"
    if run.state == "ready":
        return "Nothing learned yet: below is what chance has made of the network. Press Start."
    return f"Stopped at {where[0].lower()}{where[1:]}" if run.state == "stopped" else where


def curves(run: runs.TrainingRun) -> None:
    """Loss by step and accuracy by epoch, on axes that do not move."""
    steps, epochs = run.step, run.epoch + 1
    loss = {model.title: model.losses[:steps] for model in run.models}
    right = {model.title: [m.accuracy for m in model.snapshots[:epochs]] for model in run.models}
    now = ", ".join(f"{name} {percent(values[-1])}" for name, values in right.items())
    left, beside = st.columns(2, gap="medium")
    with left:
        st.markdown("**Accuracy** on held-out digits, epoch by epoch")
        figure = lines(
            right,
            references={"guessing": 0.1},
            form=".1%",
            limits=(0, 1.02),
            points=True,
            x_title="Epoch",
            y_title="Accuracy",
            dark=dark(),
            height=300,
        )
        figure.update_xaxes(range=[0, run.plan.epochs * 1.01])
        plot(figure, "accuracy", alt=f"Share of held-out digits named right, by epoch; now {now}")
    with beside:
        st.markdown("**Loss** on the pictures it learns from, step by step")
        figure = lines(
            loss,
            x=np.arange(1, steps + 1),
            references={"guessing": math.log(10)},
            limits=(0, 2.7),
            x_title="Step",
            y_title="Loss",
            dark=dark(),
            height=300,
        )
        figure.update_xaxes(range=[0, run.steps * 1.01])
        plot(figure, "loss", alt=f"Loss by step, {steps} of {run.steps} steps")


def choose_epoch(run: runs.TrainingRun) -> int:
    """Which epoch is shown: the last one while it learns, else any that was recorded."""
    last = run.epoch
    if run.active or last == 0:
        st.session_state["epoch:live"] = last
        st.slider("Replay: epoch", 0, run.plan.epochs, key="epoch:live", disabled=True)
        return last
    keep_inside("epoch", range(last + 1))
    return st.slider(
        "Replay: epoch",
        0,
        last,
        last,
        key="epoch",
        bind="query-params",
        help="Drag, or press the arrow keys, to see the maps grow",
    )


def choose_digit() -> int:
    """Which of the ten held-out pictures is watched."""
    options = list(range(10))
    keep_inside("digit", options)
    return one_of("Digit", options, default=3, key="digit")


def tokens_of() -> Tokens:
    """The patches of a digit."""
    side = RECIPES["vit-digits"].config
    return Tokens.patches(side.size // side.patch, side.size // side.patch)


def send_picture(digit: int) -> None:
    """Give the browser the watched picture."""
    picture = Image.fromarray(runs.probe_pictures().images[digit, ..., 0])
    views.send_picture("train:picture", picture, picture, (0, 0, *picture.size), tokens_of())


def answer(model: runs.LiveModel, epoch: int, digit: int) -> None:
    """What a network says about the picture, and how often it is right at all."""
    snapshot = model.snapshots[epoch]
    guess = int(snapshot.probabilities[digit].argmax())
    mark = "green" if guess == digit else "red"
    st.markdown(
        f"**{model.title}** says :{mark}[**{guess}**] with {percent(float(snapshot.probabilities[digit, guess]))} · "
        f"{percent(snapshot.accuracy)} of {len(runs.load_digits('val').labels)} held-out digits right"
    )


def model_view(run: runs.TrainingRun, number: int, epoch: int, digit: int, style: views.ViewStyle) -> None:
    """One network after some epochs: its answer, one map large, and all maps."""
    model, alone, tokens = run.models[number], len(run.models) == 1, tokens_of()
    maps = model.snapshots[epoch].maps
    slots = [send_map(model, number, row, epoch, digit) for row in range(len(maps))]
    heads = max(one.array.shape[1] for one in maps)
    cell = chosen_tokens("tile", 64, (len(maps) - 1, 0))
    row, head = min(cell[0], len(maps) - 1), min((*cell, 0)[1], maps[-1].array.shape[1] - 1)
    token = chosen_tokens("token", len(tokens), (len(tokens) // 2 + 2,))[-1:]
    of_tokens = not maps[row].reason
    style = replace(style, hide_special=False)
    answer(model, epoch, digit)
    large, small = st.columns(2, gap="medium") if alone else (st.container(), st.container())
    with large:
        if of_tokens:
            views.picture_view(
                f"train:large:{number}",
                picture="train:picture",
                maps=slots[row],
                index=head,
                tokens=token,
                style=style,
                height=420 if alone else 300,
                on_pick=partial(pick, "token"),
                label=f"The digit with {maps[row].name}, {head_name(head).lower()}",
            )
        else:
            st.info(f"{model.title}: {maps[row].reason}.", icon=":material/info:")
    with small:
        views.tiles_view(
            f"train:all:{number}",
            picture="train:picture",
            maps=slots,
            tokens=token if of_tokens else (),
            style=style,
            rows=[one.name for one in maps],
            selected=(row, head),
            columns=[head_name(i) for i in range(heads)],
            tile=min(104, 420 // len(maps)),
            mode="rows" if of_tokens else "matrix",
            on_pick=partial(pick, "tile"),
            label=f"Every map of {model.title}; click one to open it",
        )
        st.caption(" ".join(filter(None, [f"Kind of map: {maps[row].map_type}.", maps[row].caveat])))


def pick(name: str, chosen: tuple[int, ...]) -> None:
    """Keep what was clicked; letting go keeps the last one."""
    if chosen:
        set_tokens(name, chosen)


def send_map(model: runs.LiveModel, number: int, row: int, epoch: int, digit: int) -> str:
    """Give the browser one map of one epoch, all heads, on one colour scale for all epochs; returns its slot."""
    one, slot = model.snapshots[epoch].maps[row], f"train:{number}:{row}"
    array, tokens = one.array[digit], tokens_of()
    signed = any((snapshot.maps[row].array < 0).any() for snapshot in model.snapshots)
    if one.reason:
        tokens = Tokens(tuple(f"channel {i + 1}" for i in range(array.shape[-1])), stream="channel")
    titles = [f"{one.name}, {head_name(i).lower()}" for i in range(len(array))]
    views.send_maps(
        slot,
        array,
        titles=titles,
        keys=tokens,
        signed=signed,
        map_type=one.map_type,
        unit="percent" if one.stochastic else "number",
    )
    return slot
