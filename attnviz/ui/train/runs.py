"""What the Train page is made of: its choices, one race per visitor, curves, and maps that can be replayed."""

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
from attnviz.ui.shell.training_status import RACE, track
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

ALIKE = 8  # models with one title that a visitor may keep, of several seeds, say; the last gives way


def remark(race: runs.TrainingRun, plan: runs.Plan) -> None:
    """Where the choices are not those of the race below, what that one is."""
    with st.empty():  # always there, so that what follows keeps its place and its state
        if not race.fresh and race.plan != plan:
            names = " against ".join(race.plan.whole_title(number) for number in range(len(race.plan.variants)))
            st.caption(f"The choices are for the next race. This one: {names}, {race.plan.epochs} epochs.")


def seeds_table() -> None:
    """How well four kinds of network read digits, over five seeds each; nothing where that has not been measured."""
    with report_errors():  # the page does not need it
        if rows := digits.results():
            section("train", "From five seeds")
            st.markdown(digits.table(rows))


def race_of(plan: runs.Plan) -> runs.TrainingRun:
    """This visitor's race; one that has not begun follows the choices."""
    race = st.session_state.get(RACE)
    if race is None or (race.fresh and race.plan != plan):
        race = st.session_state[RACE] = runs.TrainingRun(plan)
    return race


def start(plan: runs.Plan) -> None:
    """Begin, or begin anew."""
    race = st.session_state.get(RACE)
    if race is None or race.step or race.plan != plan or race.state == "failed":
        race = st.session_state[RACE] = runs.TrainingRun(plan)
    go_on(race)


def go_on(race: runs.TrainingRun) -> None:
    """Let it learn from where it stands; the last epoch is shown again."""
    st.session_state.pop("epoch", None)
    track().submit(race)


def buttons(race: runs.TrainingRun, plan: runs.Plan) -> None:
    """Start, stop, resume, start again; and the way of what was trained to the other pages."""
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    if race.active:
        row.button("Stop", icon=":material/stop:", key="stop", on_click=track().leave, args=(race,))
    elif race.state == "stopped":
        row.button("Resume", icon=":material/play_arrow:", type="primary", key="resume", on_click=go_on, args=(race,))
    elif not race.step and race.lanes:
        row.button("Start", icon=":material/play_arrow:", type="primary", key="race", on_click=start, args=(plan,))
    if not race.active and race.step:
        main = "secondary" if race.state == "stopped" else "primary"
        again = "Start again" if race.plan == plan else "Start with these choices"
        row.button(again, icon=":material/restart_alt:", type=main, key="again", on_click=start, args=(plan,))
        for number, lane in enumerate(race.lanes):
            label = f"Open {lane.title} in Heads"
            if row.button(label, icon=":material/grid_view:", key=f"open:{number}", on_click=adopt, args=(lane,)):
                st.switch_page(page_file("heads"), query_params={})


def adopt(lane: runs.LiveModel) -> None:
    """Make what was trained a model that this visitor can choose on every page, and choose it."""
    kept, name = session_models(), f"{TRAINED_HERE}{lane.whole_title}"
    model = runs.opened(lane, name)
    names = [name, *(f"{name} ({number})" for number in range(2, ALIKE + 1))]
    model.name = next((one for one in names if one not in kept or kept[one].digest == model.digest), names[-1])
    kept[model.name] = model
    go(model=model.name)


def status(race: runs.TrainingRun, place: int) -> None:
    """Where it stands, in one line above a bar."""
    for sentence in race.refused:
        st.warning(sentence, icon=":material/info:")
    if race.notice:
        st.warning(race.notice, icon=":material/info:")
    st.progress(race.step / race.steps, said(race, place))


def said(race: runs.TrainingRun, place: int) -> str:
    """The state of a race in words."""
    if race.state == "waiting":
        others = f"{MAX_RUNNING} trainings run on this server, which is as many as it can take."
        return f"{others} Yours is number {max(place, 1)} in line and starts by itself."
    where = f"Epoch {race.epoch} of {race.plan.epochs} · step {race.step} of {race.steps} · {race.seconds:.0f}\u00a0s"
    if race.state == "ready":
        return "Nothing learned yet: below is what chance has made of the network. Press Start."
    return f"Stopped at {where[0].lower()}{where[1:]}" if race.state == "stopped" else where


def curves(race: runs.TrainingRun) -> None:
    """Loss by step and accuracy by epoch, on axes that do not move."""
    steps, epochs = race.step, race.epoch + 1
    loss = {lane.title: lane.losses[:steps] for lane in race.lanes}
    right = {lane.title: [m.accuracy for m in lane.moments[:epochs]] for lane in race.lanes}
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
        figure.update_xaxes(range=[0, race.plan.epochs * 1.01])
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
        figure.update_xaxes(range=[0, race.steps * 1.01])
        plot(figure, "loss", alt=f"Loss by step, {steps} of {race.steps} steps")


def moment_choice(race: runs.TrainingRun) -> int:
    """Which epoch is shown: the last one while it learns, else any that was recorded."""
    last = race.epoch
    if race.active or last == 0:
        st.session_state["epoch:live"] = last
        st.slider("Replay: epoch", 0, race.plan.epochs, key="epoch:live", disabled=True)
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


def digit_choice() -> int:
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
    picture = Image.fromarray(runs.watched().images[digit, ..., 0])
    views.send_picture("train:picture", picture, picture, (0, 0, *picture.size), tokens_of())


def answer(lane: runs.LiveModel, epoch: int, digit: int) -> None:
    """What a network says about the picture, and how often it is right at all."""
    moment = lane.moments[epoch]
    guess = int(moment.answers[digit].argmax())
    mark = "green" if guess == digit else "red"
    st.markdown(
        f"**{lane.title}** says :{mark}[**{guess}**] with {percent(float(moment.answers[digit, guess]))} · "
        f"{percent(moment.accuracy)} of {len(runs.pictures('val').labels)} held-out digits right"
    )


def lane_view(race: runs.TrainingRun, number: int, epoch: int, digit: int, style: views.ViewStyle) -> None:
    """One network after some epochs: its answer, one map large, and all maps."""
    lane, alone, tokens = race.lanes[number], len(race.lanes) == 1, tokens_of()
    maps = lane.moments[epoch].maps
    slots = [send_map(lane, number, row, epoch, digit) for row in range(len(maps))]
    heads = max(one.array.shape[1] for one in maps)
    cell = chosen_tokens("tile", 64, (len(maps) - 1, 0))
    row, head = min(cell[0], len(maps) - 1), min((*cell, 0)[1], maps[-1].array.shape[1] - 1)
    token = chosen_tokens("token", len(tokens), (len(tokens) // 2 + 2,))[-1:]
    of_tokens = not maps[row].reason
    style = replace(style, hide_special=False)
    answer(lane, epoch, digit)
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
            st.info(f"{lane.title}: {maps[row].reason}.", icon=":material/info:")
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
            label=f"Every map of {lane.title}; click one to open it",
        )
        st.caption(" ".join(filter(None, [f"Kind of map: {maps[row].kind}.", maps[row].caveat])))


def pick(name: str, chosen: tuple[int, ...]) -> None:
    """Keep what was clicked; letting go keeps the last one."""
    if chosen:
        set_tokens(name, chosen)


def send_map(lane: runs.LiveModel, number: int, row: int, epoch: int, digit: int) -> str:
    """Give the browser one map of one epoch, all heads, on one colour scale for all epochs; returns its slot."""
    one, slot = lane.moments[epoch].maps[row], f"train:{number}:{row}"
    array, tokens = one.array[digit], tokens_of()
    signed = any((moment.maps[row].array < 0).any() for moment in lane.moments)
    if one.reason:
        tokens = Tokens(tuple(f"channel {i + 1}" for i in range(array.shape[-1])), stream="channel")
    titles = [f"{one.name}, {head_name(i).lower()}" for i in range(len(array))]
    views.send_maps(
        slot,
        array,
        titles=titles,
        keys=tokens,
        signed=signed,
        map_type=one.kind,
        unit="percent" if one.stochastic else "number",
    )
    return slot
