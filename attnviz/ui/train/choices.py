"""What a run on the Train page is to be: the choices, and how they return with a run that has begun."""

from __future__ import annotations

import streamlit as st

from attnviz.attention import OPTIONS, POSITIONS, VARIANTS
from attnviz.training.live import runs
from attnviz.ui.core.state import go, keep_inside, one_of, select, whole_number
from attnviz.ui.shell.training_status import BACK, RUN
from attnviz.ui.widgets.options import choose_options

NOBODY, PLAIN = "nobody", "the same without options"
EPOCHS = (5, 10, 20, 40)
HELP = {
    "variant": "The kind of attention in every layer; all else is the same network.",
    "rival": "A second network beside it: same seed, same pictures in the same order, same optimiser, same steps. "
    "Options do not change it.",
    "positions": "How the network is told where a patch lies.",
    "epochs": "How often nearly every picture is seen.",
    "seed": "Where the random numbers start: first parameters, order and changes of the pictures.",
}


def title_of(variant: str) -> str:
    """What a variant is called on screen."""
    return VARIANTS[variant].title if variant in VARIANTS else variant


def choose() -> runs.Plan:
    """What the next run is to be; every choice is in the URL."""
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    keep_inside("variant", VARIANTS)
    variant = row.selectbox(
        "Train",
        list(VARIANTS),
        key="variant",
        bind="query-params",
        format_func=title_of,
        help=HELP["variant"],
        width=230,
    )
    with row:
        options = choose_options(variant)
    itself = [PLAIN] if options else []
    rivals = [NOBODY, *itself, *(name for name in VARIANTS if name != variant)]
    keep_inside("rival", rivals)
    rival = row.selectbox(
        "Against", rivals, key="rival", bind="query-params", format_func=title_of, help=HELP["rival"], width=230
    )
    schemes = {name: scheme.title for name, scheme in POSITIONS.items()}
    positions = select("Positions", schemes, key="places", where=row, width=230, help=HELP["positions"])
    keep_inside("epochs", EPOCHS)
    epochs = one_of("Epochs", EPOCHS, default=10, key="epochs", where=row, help=HELP["epochs"])
    seed = whole_number("Seed", 999, key="seed", where=row, help=HELP["seed"], width=120)
    others = {NOBODY: (), PLAIN: (variant,)}.get(rival, (rival,))
    return runs.Plan((variant, *others), epochs, seed, positions, options)


def choices_of(plan: runs.Plan) -> dict[str, object]:
    """The choices that ask for a plan, by their names in the URL."""
    first, *others = plan.variants
    rival = others[0] if others else NOBODY
    values = {name: option.plain for name, option in OPTIONS.items()} | dict(plan.options)
    options = {name: OPTIONS[name].values[value] for name, value in values.items()}
    return {
        "variant": first,
        "rival": PLAIN if rival == first else rival,
        **options,
        "places": plan.positions,
        "epochs": plan.epochs,
        "seed": plan.seed,
    }


def chosen() -> runs.Plan:
    """What the choices ask for; whoever comes back to a run that has begun finds those it was begun with.

    Streamlit leaves an address without choices behind with every change of page, where the browser's back button leads,
    and in the run after that button it lets the address have the last word: so the page is run once more.
    """
    run, back = st.session_state.get(RUN), st.session_state.pop(BACK, False)
    if not back or run is None or run.not_started:
        return choose()
    go(**choices_of(run.plan))
    plan = choose()
    if plan != run.plan and back != "again":
        st.session_state[BACK] = "again"
        st.rerun()
    return plan
