"""The choices of the Train page: the plan of the next run, and how they return with a run that has started."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from attnviz.attention import OPTIONS, POSITIONS, VARIANTS
from attnviz.training.live import runs
from attnviz.ui.core.state import go, keep_inside, one_of, select, whole_number
from attnviz.ui.shell.training_status import BACK, RUN
from attnviz.ui.widgets.options import choose_options, identifier

NONE, PLAIN = "none", "plain"  # what a run may be compared with besides a variant: nothing, itself without options
NORMS = {"first": "Before", "last": "After"}  # each attention and MLP
EPOCHS = (5, 10, 20, 40)
HELP = {
    "variant": "The attention variant of every layer; the rest of the network stays the same.",
    "rival": "A second network beside it: same seed, same pictures in the same order, same optimiser, same steps. "
    "Options do not apply to it.",
    "positions": "How the network is given the positions of the patches.",
    "norm": "Before attention and MLP (pre-norm, as in today's models) the residual stream passes every layer "
    "unchanged; after the residual sum (post-norm, Vaswani et al. 2017) each layer rescales it: harder to train.",
    "epochs": "One epoch shows nearly every training picture once.",
    "seed": "Of the random numbers: initial parameters, order and augmentation of the pictures.",
}


def choose(row: DeltaGenerator) -> runs.Plan:
    """The plan of the next run; every choice is in the URL, and the usual ones stand in `row`."""
    titles = {name: variant.title for name, variant in VARIANTS.items()}
    variant = select("Model A", titles, key="variant", where=row, width=210, help=HELP["variant"])
    with row:
        options = choose_options(variant)
    rivals = {NONE: "None"} | ({PLAIN: "The same without options"} if options else {})
    rivals |= {name: title for name, title in titles.items() if name != variant}
    rival = select("Compare with", rivals, key="rival", where=row, width=210, help=HELP["rival"])
    schemes = {name: scheme.title for name, scheme in POSITIONS.items()}
    positions = select("Positions", schemes, key="places", where=row, width=210, help=HELP["positions"])
    training = row.popover("Training", icon=":material/settings:")
    keep_inside("epochs", EPOCHS)
    epochs = one_of("Epochs", EPOCHS, default=10, key="epochs", where=training, help=HELP["epochs"])
    norm = one_of("Layer norm", NORMS, default="first", key="norm", where=training, help=HELP["norm"])
    seed = whole_number("Seed", 999, key="seed", where=training, help=HELP["seed"], width=120)
    others = {NONE: (), PLAIN: (variant,)}.get(rival, (rival,))
    return runs.Plan((variant, *others), epochs, seed, positions, options, norm == "first")


def choices_of(plan: runs.Plan) -> dict[str, object]:
    """The choices that ask for a plan, by their names in the URL."""
    first, *others = plan.variants
    rival = others[0] if others else NONE
    values = {name: option.plain for name, option in OPTIONS.items()} | dict(plan.options)
    options = {name: identifier(value) for name, value in values.items()}
    return {
        "variant": first,
        "rival": PLAIN if rival == first else rival,
        **options,
        "places": plan.positions,
        "norm": "first" if plan.norm_first else "last",
        "epochs": plan.epochs,
        "seed": plan.seed,
    }


def chosen(row: DeltaGenerator) -> runs.Plan:
    """What the choices in a row ask for; whoever comes back to a run that has begun finds those it was begun with.

    Streamlit leaves an address without choices behind with every change of page, where the browser's back button leads,
    and in the run after that button it lets the address have the last word: so the page is run once more.
    """
    run, back = st.session_state.get(RUN), st.session_state.pop(BACK, False)
    if not back or run is None or run.not_started:
        return choose(row)
    go(**choices_of(run.plan))
    plan = choose(row)
    if plan != run.plan and back != "again":
        st.session_state[BACK] = "again"
        st.rerun()
    return plan
