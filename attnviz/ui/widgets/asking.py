"""Predict, then reveal: the visitor says which key receives most weight before a map is shown; a score for the session.

A question has a name; the first guess counts, and the answer stays open from then on. A link with `ask=true` asks,
with `only=question` as well it shows nothing but the question until it is answered. Guesses are no part of an address:
a link always asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz.measures.peaks import Outcome, outcome
from attnviz.ui.core.state import read_address, write_address
from attnviz.ui.inputs.image_run import OWN_KINDS
from attnviz.ui.inputs.text_run import reads_text
from attnviz.ui.widgets.answers import percent

ASK, ONLY, QUESTION = "ask", "only", "question"  # parameters of the address, and what the second may say
GUESSES = "attnviz:guesses"  # session key: question -> outcome of the first guess
AROUND = "around"  # what stands around a question is in containers whose keys begin so (ui/shell/app.css hides them)
ALONE = "question_alone"  # key of the container that is there while a question stands alone
FIRST = 3  # ranks that the score counts beside the first
WHY_ASK = "Hides the map until you have said which key receives most weight from the selected one."
FOLLOWS = "The rest of the page follows your answer."
NO_QUESTION = "There is no question here: rows of these maps do not sum to 1."


def toggle(*, possible: bool = True, why_not: str = NO_QUESTION) -> bool:
    """Whether questions are asked; in the address. Where none is possible, the switch says why."""
    if st.query_params.get(ASK) == "1" and ASK not in st.session_state:
        st.session_state[ASK] = True
    help = WHY_ASK if possible else why_not
    on = st.toggle("Predict first", key=ASK, bind="query-params", help=help, disabled=not possible)
    read_address(ONLY, ("", QUESTION))
    alone = st.session_state.get(ONLY, "") if possible else ""
    write_address(ONLY, alone, "")
    st.session_state[ONLY] = alone
    return on and possible


def answered(question: str) -> Outcome | None:
    """How the visitor's guess came out; None where he has not guessed yet."""
    return st.session_state.setdefault(GUESSES, {}).get(question)


def guess(question: str, row: Float[np.ndarray, " key"], key: int) -> None:
    """Take a guess, the first one only. A key that is left out is none."""
    if answered(question) is None and np.isfinite(row[key]):
        st.session_state[GUESSES][question] = outcome(row, key)


def stand_alone() -> None:
    """While a question waits: hide what stands around it, where the address asks for the question alone."""
    if st.session_state.get(ONLY) == QUESTION:
        with st.container(key=ALONE):
            st.caption(FOLLOWS)


def say_outcome(found: Outcome, name: Callable[[int], str], unit: Callable[[float], str] = percent) -> None:
    """How a guess came out, and the score so far; `name` says a key in words, `unit` a number."""
    best, top = name(found.best), unit(found.top)
    if found.rank == 1:
        st.success(f"Right: {name(found.guess)} receives {unit(found.weight)}, more than any other.")
    else:
        own = f"You chose {name(found.guess)}: {unit(found.weight)}, rank {found.rank} of {found.keys}."
        st.info(f"{own} The largest is {best}: {top}.", icon=":material/visibility:")
    st.caption(score())


def score() -> str:
    """How many guesses of this session were right."""
    ranks = [found.rank for found in st.session_state.get(GUESSES, {}).values()]
    right, near = (sum(rank <= most for rank in ranks) for most in (1, FIRST))
    return f"Score in this session: {right} of {len(ranks)} right, {near} of {len(ranks)} among the first {FIRST}."


def offer_link(page: str, **choices: object) -> None:
    """The address that shows this question alone, to be passed on to a class."""
    with st.popover("Link for a class", icon=":material/link:"):
        if page == "heads" and not reads_text() and st.session_state.get("sample") in OWN_KINDS:
            st.caption("A link cannot carry your own picture. Choose a sample picture, and the class sees the same.")
            return
        st.caption("It shows this question alone; the rest of the page follows the answer.")
        st.code(address(page, choices), language=None, wrap_lines=True)


def address(page: str, choices: Mapping[str, object]) -> str:
    """The address of a question: what is chosen on the page, these choices, and that the question stands alone."""
    chosen = {name: st.query_params.get_all(name) for name in st.query_params}
    said = {name: str(value) for name, value in choices.items()}
    query = urlencode(chosen | said | {ASK: "true", ONLY: QUESTION}, doseq=True)
    base = (st.context.url or "").split("?")[0]
    return f"{base or page}?{query}"
