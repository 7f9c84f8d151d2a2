"""The training run of this visitor on the Train page: how it begins and ends, its buttons, and its state in words."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from attnviz.training.images import digits
from attnviz.training.live import runs
from attnviz.training.live.queue import MAX_RUNNING
from attnviz.ui.core.cache import session_models
from attnviz.ui.core.state import go
from attnviz.ui.inputs.samples import TRAINED_HERE
from attnviz.ui.shell.errors import report_errors
from attnviz.ui.shell.page import page_file
from attnviz.ui.shell.prose import section
from attnviz.ui.shell.training_status import RUN, queue, queued

MAX_SAME_TITLE = 8  # models with one title that a visitor may keep, of several seeds, say; the last gives way
SEEDS = "Five seeds"  # heading of the section about them
NOT_TRAINED = "Not trained yet: the maps below are those of random parameters. Press Start."
AGAIN, WITH_CHOICES = "Start again", "Start with these choices"


def describe_run(run: runs.TrainingRun, plan: runs.Plan) -> None:
    """Where the choices are not those of the run below, what that one is."""
    with st.empty():  # always there, so that what follows keeps its place and its state
        if not run.not_started and run.plan != plan:
            st.caption(other_plan(run.plan))


def other_plan(plan: runs.Plan) -> str:
    """The sentence about a run whose plan is not the one chosen."""
    names = " compared with ".join(plan.full_title(number) for number in range(len(plan.variants)))
    return f"The choices are for the next run. This one: {names}, {plan.epochs} epochs."


def seeds_table() -> None:
    """How well four kinds of network read digits, over five seeds each; nothing where that has not been measured."""
    with report_errors():  # the page does not need it
        if rows := digits.results():
            section("train", SEEDS)
            st.markdown(digits.table(rows))


def run_of(plan: runs.Plan) -> runs.TrainingRun:
    """This visitor's run; one that has not started follows the choices."""
    run = st.session_state.get(RUN)
    if run is None or (run.not_started and run.plan != plan):
        run = st.session_state[RUN] = runs.TrainingRun(plan)
    return run


def start(plan: runs.Plan) -> None:
    """Start a new run, or the one that has not started."""
    run = st.session_state.get(RUN)
    if run is None or run.step or run.plan != plan or run.state == "failed":
        run = st.session_state[RUN] = runs.TrainingRun(plan)
    resume(run)


def resume(run: runs.TrainingRun) -> None:
    """Train from the step it has reached; the last epoch is shown again."""
    st.session_state.pop("epoch", None)
    queue().submit(run)


def buttons(run: runs.TrainingRun, plan: runs.Plan, row: DeltaGenerator) -> None:
    """Start, stop, resume, start again, at the end of a row; and open what was trained on the other pages."""
    if run.active:
        row.button("Stop", icon=":material/stop:", key="stop", on_click=queue().stop, args=(run,))
    elif run.state == "stopped":
        row.button("Resume", icon=":material/play_arrow:", type="primary", key="resume", on_click=resume, args=(run,))
    elif not run.step and run.models:
        row.button(
            "Start", icon=":material/play_arrow:", type="primary", key="train:start", on_click=start, args=(plan,)
        )
    if not run.active and run.step:
        main = "secondary" if run.state == "stopped" else "primary"
        again = AGAIN if run.plan == plan else WITH_CHOICES
        row.button(again, icon=":material/restart_alt:", type=main, key="again", on_click=start, args=(plan,))
        for number, model in enumerate(run.models):
            label = f"Open {model.title} in Heads"
            if row.button(label, icon=":material/grid_view:", key=f"open:{number}", on_click=adopt, args=(model,)):
                st.switch_page(page_file("heads"), query_params={})


def adopt(live: runs.LiveModel) -> None:
    """Make what was trained a model that this visitor can choose on every page, and choose it."""
    kept, name = session_models(), f"{TRAINED_HERE}{live.full_title}"
    model = runs.open_live(live, name)
    names = [name, *(f"{name} ({number})" for number in range(2, MAX_SAME_TITLE + 1))]
    model.name = next((one for one in names if one not in kept or kept[one].digest == model.digest), names[-1])
    kept[model.name] = model
    go(model=model.name)


def show_status(run: runs.TrainingRun, position: int) -> None:
    """The state of a run and its position in the queue, in one line above a bar."""
    for sentence in run.refusals:
        st.warning(sentence, icon=":material/info:")
    if run.notice:
        st.warning(run.notice, icon=":material/info:")
    st.progress(run.step / run.steps, state_of(run, position))


def state_of(run: runs.TrainingRun, position: int) -> str:
    """The state of a run in words."""
    if run.state == "queued":
        others = f"At most {MAX_RUNNING} runs train on this server at once"
        return f"{queued(max(position, 1))}. {others}; yours starts by itself."
    if run.state == "ready":
        return NOT_TRAINED
    reached = f"epoch {run.epoch} of {run.plan.epochs} · step {run.step} of {run.steps} · {run.seconds:.0f}\u00a0s"
    return f"Stopped at {reached}" if run.state == "stopped" else f"{reached[:1].upper()}{reached[1:]}"
