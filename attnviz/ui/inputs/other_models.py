"""Opening a model of others in the sidebar: by its name on the hub or its folder, where the operator allows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from threading import Event, Lock, Thread

import streamlit as st

from attnviz.hub.attention import HOW_TO_GET
from attnviz.hub.download import Cancelled, cost_of, downloaded
from attnviz.hub.errors import CannotOpen
from attnviz.hub.opening import open_folder, open_snapshot
from attnviz.hub.source import HUB, Cost, Policy, Source, check_cost, cost_of_folder, read_policy, source_of
from attnviz.types import Model
from attnviz.ui.core.device import best_device, megabytes
from attnviz.ui.core.others import PREFIXES, loading, opened_others, others

ASKED = "other-name"  # key of the field
WANTED = "attnviz:other:wanted"  # session keys: what the address asked for when the session began,
FOUND, CHOSEN = "attnviz:other:found", "attnviz:other:chosen"  # what was looked up, and what was opened just now
WHY = "It runs on this server, and its queries, keys and values are recorded. Code that comes with it does not run."
WAIT = "Another model is being opened on this server. Try again in a moment."
LOOK = 0.2  # seconds between two looks at the progress


@dataclass
class Job:
    """A model that is being brought, by a thread of its own."""

    source: Source
    alone: Lock  # held until it ends
    cancel: Event = field(default_factory=Event)
    done: Event = field(default_factory=Event)
    share: float = 0.0  # of the bytes that have come
    model: Model | None = None
    problem: str = ""


def take_chosen() -> None:
    """Choose the model that was opened last, or keep the name that an address asks for; before anything is drawn."""
    state = st.session_state
    if (name := state.pop(CHOSEN, None)) is not None:
        state["model"] = name
        return
    asked = st.query_params.get("model", "")
    if WANTED not in state:
        state[WANTED] = asked.removeprefix(HUB) if asked.startswith(PREFIXES) and asked not in opened_others() else ""


def choose_other() -> None:
    """What it takes to open a model of others; nothing where the operator allows none."""
    policy = read_policy()
    if not policy.opens:
        return
    wanted = st.session_state.get(WANTED, "")
    with st.expander("Open another model", icon=":material/add:", expanded=bool(wanted)):
        if find_spec("transformers") is None:
            st.caption(f"{HOW_TO_GET}.")
            return
        st.session_state.setdefault(ASKED, wanted)
        typed = st.text_input("Hub name or folder", key=ASKED, placeholder="owner/name", max_chars=300, help=WHY)
        if st.button("Look up", key="other-look", disabled=not typed.strip()):
            st.session_state[FOUND] = look_up(typed, policy)
        told, found, problem = st.session_state.get(FOUND) or ("", None, "")
        if told != typed:
            return
        if found is None:
            st.warning(problem, icon=":material/info:")
        elif offer(*found):
            bring(found[0])


def look_up(typed: str, policy: Policy) -> tuple[str, tuple[Source, Cost] | None, str]:
    """What was typed, what it is and costs, or why it cannot be opened."""
    try:
        source = source_of(typed, policy)
        with st.spinner("Asking what it takes"):
            cost = cost_of_folder(source.folder) if source.folder else cost_of(source.repository, source.revision)
        check_cost(source, cost, policy)
    except CannotOpen as error:
        return typed, None, sentence(error)
    return typed, (source, cost), ""


def offer(source: Source, cost: Cost) -> bool:
    """Say what the model takes; whether the visitor wants it."""
    parts = [f"{megabytes(cost.download)} to download" if cost.download else "nothing to download"]
    if cost.memory is not None:
        parts.append(f"{megabytes(cost.memory)} of memory")
    st.caption(f"`{source.name}`: {', '.join(parts)}.")
    return st.button("Open", key="other-open", type="primary")


def bring(source: Source) -> None:
    """Bring and open a model, with its progress; another click on the page stops it."""
    alone = loading()
    if not alone.acquire(blocking=False):
        st.warning(WAIT, icon=":material/hourglass_top:")
        return
    job = Job(source, alone)
    Thread(target=work, args=(job,), daemon=True).start()
    with stopped_with_script(job):
        told = st.empty()
        st.button("Cancel", key="other-cancel")  # any click runs the page again, which ends this run here
        while not job.done.wait(LOOK):
            coming = job.share < 1 and source.folder is None
            told.progress(job.share, f"Downloading, {job.share:.0%}" if coming else "Opening and checking")
        told.empty()
    if job.model is None:
        st.warning(job.problem, icon=":material/info:")
        return
    others().put((source.name,), job.model)
    opened_others()[source.name] = job.model.spec.modality
    st.session_state[CHOSEN] = source.name
    st.session_state.pop(FOUND, None)
    st.rerun()


@contextmanager
def stopped_with_script(job: Job) -> Iterator[None]:
    """Where the run of the script ends before the job, the job is asked to stop."""
    try:
        yield
    finally:
        job.cancel.set()


def work(job: Job) -> None:
    """Download and open, on a thread of its own; nothing here may touch the page."""

    def told(share: float) -> None:
        job.share = share

    try:
        source = job.source
        folder = source.folder or downloaded(source.repository, source.revision, told, job.cancel)
        job.share, device = 1.0, best_device()
        if source.folder is None:
            job.model = open_snapshot(folder, source.repository, device=device)
        else:
            job.model = open_folder(folder, device=device)
    except CannotOpen as error:
        job.problem = sentence(error)
    except Cancelled:
        job.problem = "Stopped."
    except Exception as error:  # of the library, or no memory: said, and logged by its type alone
        job.problem = f"It could not be opened ({type(error).__name__}). Try another model."
    finally:
        job.alone.release()
        job.done.set()


def sentence(error: Exception) -> str:
    """An error as a sentence of its own."""
    text = str(error).strip().rstrip(".")
    named = "/" in text.split(maxsplit=1)[0] if text else True  # a name stays as it is written
    return f"{text}." if named else f"{text[:1].upper()}{text[1:]}."
