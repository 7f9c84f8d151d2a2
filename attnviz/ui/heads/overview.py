"""What the Heads page is made of: maps of every layer in the browser, measures of every head, ways to find one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float

import attnviz
from attnviz import views
from attnviz.measures.blocks import block_means, even_edges
from attnviz.measures.heads import MEASURES, Measure, drop_prefix, measure_heads, ranking, value_weighted
from attnviz.measures.text_heads import SYNTAX, TEXT_MEASURES
from attnviz.types import AttentionCall, NoTokenMap, Tokens
from attnviz.ui.core.budget import fits
from attnviz.ui.core.cache import core, keep_record
from attnviz.ui.core.labels import call_labels, call_names, head_name, spoken_name, token_names
from attnviz.ui.core.state import go, select
from attnviz.ui.heads.naming import BY_NAME, Named, by_name
from attnviz.ui.inputs.image_run import OWN_KINDS, ImageRun
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.display import kind_words, masked_of, together, unit_of
from attnviz.ui.widgets.mean_map import signed
from attnviz.views.page import Page

ALL_CELLS = 5_000_000  # entries of all layers' maps together that go to the browser exact; above, block means do
MEASURED = 512  # query rows that measures are means over, where an input has more than ALL_MEASURED of them
ALL_MEASURED = 2_048
Table = dict[str, Float[np.ndarray, "layer head"]]  # measure -> one number per head
FILE_CELLS = 20_000_000  # entries of a file of weights
TILE = 32  # blocks a side of a small matrix
KNOWN: dict[str, Measure] = {**MEASURES, **TEXT_MEASURES, "syntax": SYNTAX}  # of pictures and of texts
Row = dict[str, Float[np.ndarray, " key"]]  # what is known of every key of a row, by its name
NETWORK_ORDER = "layer"
ORDERED_BY = {"spread": "entropy", "itself": "self"}  # in addresses, which name a measure of texts as that of pictures
SIGNED = "These maps are signed: an entry below zero, blue, takes away."
NO_SHARES = "Rows of these maps do not sum to 1."
WHY_SEVERAL = {
    "patch": "Click a patch to select it, click again to deselect it; what the selected ones attend to is summed.",
    "word": "Click a word to select it, click again to deselect it; what the selected ones attend to is summed.",
}
UNMEASURED = "Distance, entropy and shares are defined for rows that sum to 1 and are not given here."


def entries(call: AttentionCall) -> int:
    """How many entries the maps of one call have."""
    return call.heads * len(call.queries) * len(call.keys)


def resident(visit: ModelRun) -> bool:
    """Whether the exact maps of all layers are in the browser, so that no change of layer or head sends any."""
    return sum(entries(call) for call in visit.trace.calls) <= ALL_CELLS


def shares(visit: ModelRun) -> bool:
    """Whether the rows of all maps sum to 1."""
    return all(call.rule.stochastic for call in visit.trace.calls)


def place(visit: ModelRun, layer: int, head: int) -> str:
    """A head in words: "Layer 2, head 3"; layers count attention calls where a layer has several."""
    return f"{call_names(visit.trace)[layer]}, {head_name(head).lower()}"


def slots(visit: ModelRun) -> list[str]:
    """The name of each layer's maps in the browser."""
    return [f"heads:{layer}" for layer in range(len(visit.trace.calls))]


def send_layer(visit: ModelRun, layer: int, slot: str = "", heads: Sequence[int] | None = None) -> None:
    """Give the browser the exact maps of one layer, or of some of its heads under a name of their own."""
    call = visit.trace.calls[layer]
    titles = [place(visit, layer, head) for head in (range(call.heads) if heads is None else heads)]
    views.send_maps(
        slot or f"heads:{layer}",
        lambda: call.token_map(heads).float().numpy(),
        titles=titles,
        keys=call.keys,
        queries=call.queries,
        map_type=call.rule.map_type,
        signed=signed(visit),
        unit=unit_of(call),
        masked=masked_of(call),
        keep=keep_record(visit.model.digest, visit.sample.digest, layer, heads),
    )


def send_overview(visit: ModelRun) -> None:
    """Give the browser every layer exact where they fit together. Raises NoTokenMap where there is no overview."""
    if resident(visit):
        for layer in range(len(visit.trace.calls)):
            send_layer(visit, layer)
    elif signed(visit):
        raise NoTokenMap("its maps are signed, and too large to be sent as a whole")


def blocks(visit: ModelRun, leave_out: bool) -> Float[np.ndarray, "layer head t t"]:
    """Every head as means of blocks, where its maps are too many to be sent; with or without the prefix as keys."""
    digests, calls = (visit.model.digest, visit.sample.digest), visit.trace.calls
    told = st.empty()
    found = []
    for layer, call in enumerate(calls):
        if not fits(call, call.heads):
            told.progress(layer / len(calls), f"Computing the matrices of layer {layer + 1}")
        found.append(layer_blocks(*digests, layer, call, leave_out))
    told.empty()
    return np.stack(found)


@st.cache_data(max_entries=64, show_spinner=False)
def layer_blocks(
    model_digest: str, sample_digest: str, layer: int, _call: AttentionCall, leave_out: bool
) -> Float[np.ndarray, "head t t"]:
    """The heads of one layer as means of blocks.

    What is left out has to be so before: a mean cannot be divided by the rest of rows it has mixed.
    """
    first = _call.keys.prefix if leave_out else 0
    rows, columns = even_edges(0, len(_call.queries), TILE), even_edges(first, len(_call.keys), TILE)
    with core():
        return block_means(_call, rows, columns, rescaled=leave_out and _call.rule.stochastic)


def row_slots(visit: ModelRun) -> list[str]:
    """The names of rows of each layer in the browser, where its maps are too many to be sent."""
    return [f"heads:rows:{layer}" for layer in range(len(visit.trace.calls))]


def send_rows(visit: ModelRun, chosen: Sequence[int]) -> None:
    """Give the browser what the selected tokens attend to in every head."""
    for layer, (call, slot) in enumerate(zip(visit.trace.calls, row_slots(visit), strict=True)):
        views.send_maps(
            slot,
            together(call.token_map(rows=list(chosen)).float().numpy(), shares=call.rule.stochastic),
            titles=[place(visit, layer, head) for head in range(call.heads)],
            keys=call.keys,
            map_type=call.rule.map_type,
            signed=signed(visit),
            unit=unit_of(call),
        )


def at_a_glance(visit: ModelRun, mode: str, *, leave_out: bool) -> dict[str, Any]:
    """What the grid of all heads is drawn from: exact maps, rows of the selected tokens, or means of blocks."""
    if resident(visit):
        return {"maps": slots(visit), "tiles": None}
    if mode == "token":
        return {"maps": row_slots(visit), "tiles": None}
    views.send_tiles("heads:tiles", blocks(visit, leave_out))
    return {"maps": slots(visit), "tiles": "heads:tiles"}


def send_opened(visit: ModelRun, layer: int, head: int, chosen: Sequence[int]) -> tuple[str, int]:
    """Make sure that one head is in the browser, exact: its slot and its index there.

    Where its map is too large to be sent, that is the row of the selected tokens alone.
    """
    call = visit.trace.calls[layer]
    if resident(visit):
        return f"heads:{layer}", head
    send_rows(visit, chosen)
    if fits(call, call.heads):
        send_layer(visit, layer)
        return f"heads:{layer}", head
    if fits(call):
        send_layer(visit, layer, "heads:one", [head])
        return "heads:one", 0
    return row_slots(visit)[layer], head


def send_moved(visit: ModelRun, layer: int, head: int, chosen: Sequence[int]) -> str:
    """Give the browser one head's weights times the length of the value each key passes on; of `chosen` if large."""
    call = visit.trace.calls[layer]
    whole = fits(call)

    def moved() -> np.ndarray:
        rows = value_weighted(call, [head], range(len(call.queries)) if whole else chosen).float().numpy()
        return rows if whole else together(rows, shares=True)

    title = f"{place(visit, layer, head)}, weighted by value"
    views.send_maps(
        "heads:moved",
        moved,
        titles=[title],
        keys=call.keys,
        queries=call.queries,
        map_type="effective",
        masked=masked_of(call) if whole else None,
        keep=keep_record(visit.model.digest, visit.sample.digest, layer, head, "all" if whole else tuple(chosen)),
    )
    return "heads:moved"


def measured(visit: ModelRun) -> Table:
    """Every measure of every head on this picture; none where rows do not sum to 1."""
    return measured_calls(visit.model.digest, visit.sample.digest, visit.trace.calls)


@st.cache_data(max_entries=64, show_spinner=False)
def measured_calls(model_digest: str, sample_digest: str, _calls: Sequence[AttentionCall]) -> Table:
    """Every measure of every head, cached by the digests of model and sample; none unless rows sum to 1."""
    if not all(call.rule.stochastic for call in _calls):
        return {}
    table = measure_heads(_calls, MEASURED if len(_calls[0].queries) > ALL_MEASURED else None)
    return table if _calls[0].keys.prefix else {name: table[name] for name in table if name != "prefix"}


def sampled(visit: ModelRun) -> str:
    """Over which queries the measures are means, in a sentence; empty where that is all of them."""
    count = len(visit.trace.calls[0].queries)
    return f"Means over {MEASURED} of {count:,} queries, spread evenly." if count > ALL_MEASURED else ""


def number(name: str, value: float, patch: int | None = None) -> str:
    """A measure in words: "5.2 patches (21 px)", "12.4 %", "0.83"."""
    unit = KNOWN[name].unit
    if np.isnan(value):
        return "not defined"
    if unit == "%":
        return f"{100 * value:.1f}\u00a0%"
    if unit:
        return f"{value:.2f}\u00a0{unit}" + (f" ({value * patch:.0f}\u00a0px)" if patch else "")
    return f"{value:.2f}"


def find_buttons(visit: ModelRun, table: Table) -> None:
    """One click to the head that is most local, most global, sharpest, and so on."""
    if not table:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("Jump to", width="content")
        for name, measure in known(table).items():
            for label, descending in ((measure.low, False), (measure.high, True)):
                order = ranking(table[name], descending) if label else []
                if not order:
                    continue
                layer, head = order[0]
                what = f"{place(visit, layer, head)}: {measure.title.lower()} "
                st.button(
                    label,
                    key=f"find:{name}:{descending}",
                    on_click=go,
                    kwargs={"layer": call_labels(visit.trace)[layer], "head": head + 1},
                    help=what + number(name, table[name][layer, head]),
                )


def known(table: Table) -> dict[str, Measure]:
    """The measures of a table, by name."""
    return {name: KNOWN[name] for name in table}


def order_choice(table: Table) -> str | None:
    """What sorts the heads: a measure, by its name in MEASURES, or BY_NAME; None keeps the network's own order."""
    names = {ORDERED_BY.get(name, name): name for name in known(table)}
    titles = {NETWORK_ORDER: "Layer"} | {identifier: KNOWN[name].title for identifier, name in names.items()}
    if table:
        names, titles = names | {BY_NAME: BY_NAME}, titles | {BY_NAME: "Name in words"}
    return names.get(select("Order heads by", titles, key="order", width=200))


def order(table: Table, measure: str | None, names: Named) -> list[tuple[int, int]] | None:
    """The heads in order of a measure: distance and entropy from the smallest, shares from the largest; or by name."""
    if measure == BY_NAME:
        return by_name(names)
    return None if measure is None else ranking(table[measure], KNOWN[measure].unit == "%")


def facts(visit: ModelRun, table: Table, layer: int, head: int, patch: int | None = None) -> None:
    """The measures of the opened head in one quiet line, or why there are none."""
    parts = [f"{m.title} **{number(name, table[name][layer, head], patch)}**" for name, m in known(table).items()]
    st.markdown(" · ".join(parts) or f":small[{SIGNED if signed(visit) else NO_SHARES} {UNMEASURED}]")
    if table and (sentence := sampled(visit)):
        st.caption(sentence)
    if said := kind_words(visit.trace.calls[layer]):
        st.caption(said)


def exact_row(call: AttentionCall, head: int, tokens: Sequence[int]) -> Row:
    """The exact numbers behind the picture: weights of the selected tokens, and what they become."""
    row = shown_row(call, head, tokens)
    if not call.rule.stochastic:
        return row
    kept = shown_row(call, head, tokens, leave_out=True)["weight"]
    return {"weight": row["weight"], "without prefix": kept, "weighted by value": row["weighted by value"]}


def shown_row(call: AttentionCall, head: int, tokens: Sequence[int], *, leave_out: bool = False) -> Row:
    """The same numbers as views show them: what is left out is NaN, and the rest of a row sums to 1 again."""
    shares, prefix = call.rule.stochastic, call.keys.prefix if leave_out else 0
    rows = {"weight": call.token_map([head], list(tokens))[0]}
    if shares:
        rows["weighted by value"] = value_weighted(call, [head], list(tokens))[0]
    found = {name: (drop_prefix(one, prefix)[0] if shares else one[:, prefix:]) for name, one in rows.items()}
    return {
        name: together(np.pad(one.float().numpy(), ((0, 0), (prefix, 0)), constant_values=np.nan), shares=shares)
        for name, one in found.items()
    }


def best_key(row: Row, name: str = "weight") -> int | None:
    """The key that receives most; the first of several, None where there is none."""
    return None if np.isnan(row[name]).all() else int(np.nanargmax(row[name]))


def strongest(row: Row, names: Sequence[str], *, shares: bool, count: int = 6) -> None:
    """The keys that receive most, with exact numbers: percent where rows sum to 1."""
    order = np.argsort(-row["weight"], kind="stable")  # what is left out comes last
    best = order[: min(count, np.isfinite(row["weight"]).sum())]
    moved = best_key(row, "weighted by value") if "weighted by value" in row else None
    if moved is not None and moved not in best:  # what the view of these names has to be found here as well
        best[-1] = moved
    st.caption("Sorted by weight.")
    scale, form = (100, "%.2f %%") if shares else (1, "%.3f")
    share = st.column_config.NumberColumn(format=form)
    data = {"Attends to": [names[i] for i in best]}
    data |= {name.capitalize(): scale * row[name][best] for name in ("weight", "weighted by value") if name in row}
    st.dataframe(data, hide_index=True, column_config={"Weight": share, "Weighted by value": share})


def exact_table(call: AttentionCall, head: int, tokens: Sequence[int]) -> tuple[list[str], list[list]]:
    """The exact numbers of every key of selected tokens, also of those that views leave out, for a CSV."""
    return row_table(exact_row(call, head, tokens), token_names(call.keys))


def weights_file(call: AttentionCall, tokens: Sequence[int]) -> dict[str, np.ndarray]:
    """The weights of every head of a layer, of the selected tokens alone where the whole is too large for a file."""
    if entries(call) <= FILE_CELLS:
        return {"weights": call.token_map().numpy()}
    return {"weights": call.token_map(rows=list(tokens)).numpy(), "queries": np.array(tokens)}


def alone(visit: ModelRun, opened: tuple[int, int], token: int) -> Callable[[], Page] | None:
    """All heads as a page that needs no server; None where they are too large to be sent, or signed."""
    if not resident(visit):
        return None
    picture = visit.picture if isinstance(visit, ImageRun) else None
    source = "your picture" if visit.source in OWN_KINDS else visit.source
    title = f"{visit.model.title}: {visit.sample.text or source}"
    return lambda: attnviz.show(trace=visit.trace, picture=picture, opened=opened, token=token, title=title)


def row_table(row: Row, names: Sequence[str]) -> tuple[list[str], list[list]]:
    """Numbers of every key, for a CSV."""
    return ["key", *row], [[name, *values] for name, *values in zip(names, *row.values(), strict=True)]


def said(tokens: Tokens, chosen: Sequence[int], *, shares: bool = True) -> str:
    """Whose attention is shown, in words."""
    if len(chosen) == 1:
        return f"what {spoken_name(tokens, chosen[0])} attends to"
    return f"what {len(chosen)} selected tokens attend to, {'summed' if shares else 'averaged'}"
