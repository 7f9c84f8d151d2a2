"""Why a map may mislead: norm outliers, attention on special tokens, the residual, a twin with random weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import streamlit as st
import torch

from attnviz import views
from attnviz.measures.diagnostics import FACTOR, NormOutliers, norm_outliers, special_share
from attnviz.measures.faithfulness import by_part, parts_of, rank_correlation
from attnviz.measures.randomisation import random_twin
from attnviz.types import AttentionCall, NoTokenMap, Tokens, UnsupportedMask
from attnviz.ui.core.cache import LARGE, core, on_processor
from attnviz.ui.core.labels import layer_name, plain, token_name
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.explain import residual
from attnviz.ui.explain.badge import number
from attnviz.ui.explain.choice import Choice
from attnviz.ui.explain.steps import Result, work_out
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.answers import percent

OPEN = "mislead"  # whether the expander is open, in the address
SLOT = "twin"  # both maps in the browser
NAMED = 6  # outliers that are named
NONE = "–"
RULE = (
    f"An outlier is a token whose residual norm is above the median + {FACTOR:g} · MAD of its layer (median absolute "
    "deviation, unscaled). Large norms that stand for nothing in the input draw attention all the same. "
    "Norms are of the residual after each layer."
)
MEASURED = 512  # patches that the share on special tokens is a mean over, where an input is LARGE
SHARE = "Attention on special tokens is a mean over heads and all patches or words."
SOME = f"Attention on special tokens is a mean over heads and {MEASURED} patches, spread evenly."
LONG = (
    "At this size the twin takes as long as a pass of the model and the map above. Start it here, or choose a smaller "
    "input size in the sidebar."
)
RATIO = (
    "‖x‖ : ‖attention(x)‖ are mean norms of what enters a layer and of what its attention adds. The larger, the less "
    "a map of attention alone says."
)
TWIN = (
    "**The same method on the same network with random weights**: the entries of every parameter are shuffled by a "
    "seed. A map that looks the same does not depend on what was learned."
)
NO_TWIN = "The parameters of this model are not at hand, so it has no twin with random weights."
ALIKE = "Rank correlation of the two maps, special tokens left out: **{}**."
FLAT = "not defined, because one of them is flat"


def show(about: ModelRun, choice: Choice, result: Result) -> None:
    """An expander; what it says is computed once it is open."""
    with st.expander("Why may this map mislead?", key=OPEN, on_change="rerun", bind="query-params") as inside:
        if not inside.open:
            return
        by_layer(about)
        compare(about, choice, result)


def by_layer(about: ModelRun) -> None:
    """A table of what each layer does, and the rule by which a token is an outlier."""
    tokens = about.sample.tokens["main"]
    rows, said = columns(about), []
    st.dataframe(rows, hide_index=True, key="mislead:layers")
    if "main" in about.trace.residuals and about.trace.residuals["main"][0].shape[-2] == len(tokens):
        said.append(RULE)
        st.caption(named(norm_outliers(about.trace), tokens))
    said += [SOME if len(tokens) > LARGE else SHARE] if "On special tokens" in rows else []
    said += [RATIO] if "‖x‖ : ‖attention(x)‖" in rows else []
    st.caption(" ".join(said))


def columns(about: ModelRun) -> dict[str, list[str]]:
    """The table by column; a column that is not known of any layer is left out."""
    calls = list({call.layer: call for call in about.trace.calls}.values())
    found: dict[str, list[str]] = {"Layer": [layer_name(call.layer) for call in calls]}
    residuals = about.trace.residuals.get("main", ())
    if len(residuals) == len(calls) + 1:
        outliers = norm_outliers(about.trace)
        found["Norm outliers"] = [str(int(count)) for count in outliers.outlying.sum(-1)[1:]]
        found["Median norm"] = [f"{float(norm):.3g}" for norm in outliers.median[1:]]
        found["Largest norm"] = [f"{float(norm):.3g}" for norm in outliers.norms.amax(-1)[1:]]
    with core():
        shares = [share_of(call) for call in calls]
    if any(share is not None for share in shares):
        found["On special tokens"] = [NONE if share is None else percent(share) for share in shares]
    norms = residual.norms(about)
    if norms is not None and len(norms[0]) == len(calls):
        found["‖x‖ : ‖attention(x)‖"] = [f"{kept / added:.1f} : 1" for kept, added in zip(*norms, strict=True)]
    return found


def share_of(call: AttentionCall) -> float | None:
    """The share of attention on special tokens; None where there is no map."""
    try:
        return special_share(call, MEASURED if len(call.queries) > LARGE else None)
    except NoTokenMap:
        return None


def named(found: NormOutliers, tokens: Tokens) -> str:
    """The outliers of the last layer by name, in a sentence."""
    last = found.outlying[-1].nonzero()[:, 0].tolist()
    if not last:
        return "After the last layer no token is an outlier."
    called = (token_name(tokens, i) for i in last[:NAMED])
    names = ", ".join(called if tokens.grid is not None else (f"“{plain(name)}”" for name in called))
    return f"Outliers after the last layer: {names}{f' and {len(last) - NAMED} more' if len(last) > NAMED else ''}."


def compare(about: ModelRun, choice: Choice, result: Result) -> None:
    """The shown map beside that of a twin with random weights, and their rank correlation."""
    st.markdown(TWIN)
    if len(about.sample.tokens["main"]) > LARGE and key_of(about, choice) not in twins():
        st.caption(LONG)
        if not st.button("Run the twin", key="mislead:twin"):
            return
    try:
        twin = twin_map(about, choice)
    except (NoTokenMap, UnsupportedMask) as error:
        st.caption(f"The twin has no such map: {str(error).rstrip('.')}.")
        return
    if twin is None:
        st.caption(NO_TWIN)
        return
    tokens = about.sample.tokens["main"]
    shown = torch.from_numpy(result.steps[choice.at].copy())
    parts = parts_of(tokens)
    alike = float(rank_correlation(by_part(shown, parts), by_part(twin, parts))) if int(parts.max()) > 0 else math.nan
    draw(about, choice, torch.stack([shown, twin]))
    st.markdown(ALIKE.format(FLAT if math.isnan(alike) else number(alike)))


def draw(about: ModelRun, choice: Choice, maps: torch.Tensor) -> None:
    """Both maps side by side, each on a colour scale of its own."""
    tokens, signed = about.sample.tokens["main"], choice.how.signed
    titles = ["Trained", "Random weights"]
    unit = "number" if signed else "percent"
    views.send_maps(SLOT, maps.numpy(), titles=titles, keys=tokens, signed=signed, map_type="relevance", unit=unit)
    style = views.ViewStyle(row_range=True, hide_special=True)  # CLS would take the whole scale
    for index, (place, title) in enumerate(zip(st.columns(2, gap="medium"), titles, strict=True)):
        with place:
            st.markdown(f"**{title}**")
            more: dict[str, Any] = {"maps": SLOT, "index": index, "style": style, "label": f"{choice.title}: {title}"}
            if tokens.grid is None:
                views.text_view(f"twin:{index}", **more)
            else:
                views.picture_view(f"twin:{index}", picture="picture", height=300, **more)


@st.cache_resource(show_spinner=False)
def twins() -> SizedCache[torch.Tensor | None]:
    """The maps of twins asked for last: at most 128, at most 10 MB."""
    return SizedCache(entries=128, size=10_000_000)


def twin_map(about: ModelRun, choice: Choice) -> torch.Tensor | None:
    """The method's map of the twin, as `work_out` gives it; None where there is no twin.

    The class of a method that explains one is that of the shown map. Raises NoTokenMap, UnsupportedMask.
    """

    def made() -> torch.Tensor | None:
        twin = random_twin(about.model)
        if twin is None:
            return None
        with st.spinner("Running the twin"):
            with core(), torch.no_grad():
                trace = on_processor(twin(about.sample))
            found = work_out(replace(about, model=twin, trace=trace), choice)
        return torch.from_numpy(found.steps[choice.at].copy())

    return twins().get(key_of(about, choice), made)


def key_of(about: ModelRun, choice: Choice) -> tuple[str, ...]:
    """What the map of a twin is kept by."""
    key = (about.model.digest, about.sample.digest, choice.method, str(sorted(choice.options.items())), str(choice.at))
    return *key, str(choice.target), str(choice.start_token)
