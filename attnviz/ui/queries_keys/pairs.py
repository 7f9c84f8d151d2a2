"""What the Queries and keys page is made of: the stages of one head as maps, one pair in numbers, all in one plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import streamlit as st

from attnviz import views
from attnviz.attention.variants.additive import Additive
from attnviz.measures.blocks import spread
from attnviz.measures.pairs import Pair, cosines, joint_map, lengths, pair, pixel_colours, position_colours, stages
from attnviz.plots import scatter, stacked_bars
from attnviz.plots.theme import colour
from attnviz.types import AttentionCall, NoTokenMap, Tokens
from attnviz.ui.core.budget import ON_DEMAND, fits
from attnviz.ui.core.labels import plain, token_name, token_names
from attnviz.ui.core.state import one_of, set_tokens
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.queries_keys.columns import column_of
from attnviz.ui.widgets.block_matrix import block_matrix
from attnviz.ui.widgets.display import masked_of
from attnviz.ui.widgets.output import dark, plot

STAGES = {  # stage -> on screen
    "raw": "Dot products",
    "scaled": "Scaled",
    "biased": "With biases",
    "masked": "Masked",
    "weights": "Weights",
    "cosine": "Cosine",
}
SAYS = {
    "raw": "query · key",
    "scaled": "times one number, most often 1 over the root of the head dimension",
    "biased": "plus what the position adds",
    "masked": "masked keys at minus infinity",
    "weights": "after normalisation: every row sums to 1",
    "cosine": "the angle alone, without both lengths",
}
WORDS = {  # stage -> one number of it, in words
    "raw": "dot product",
    "scaled": "scaled score",
    "biased": "score with biases",
    "masked": "masked score",
    "weights": "weights",
    "cosine": "cosine",
}
PICTURES = {"rows": "Rows are queries", "columns": "Columns are queries"}
PICTURE_SAYS = {
    "rows": "Every row is one query; its weights sum to 1 along the row.",
    "columns": "The picture is transposed, the numbers are the same: every column is one query, as in lectures that "
    "draw key · query; its weights sum to 1 down the column. Softmax down the columns of the original matrix would be "
    "another operation.",
}
METHODS = {"pca": "PCA", "tsne": "t-SNE"}
AGAINST = "**Dot product against cosine**, one point per key of this query"
POINTS = 2_048  # queries, or keys, that are drawn as points
PAINTS = {"position": "Position", "pixels": "Pixels", "kind": "Query or key"}
NO_NUMBERS = "Its queries and keys have fewer than two numbers, so there is nothing to compare."
MASKED = "This key is masked: the query may not attend to it, so its score becomes minus infinity."
ADDITIVE = "It scores query and key by a small network, not by a dot product."
NOT_PAIRWISE = "Its map is not computed from the scores of one query and one key at a time."


def maps_of(call: AttentionCall, head: int, query: int | None = None) -> dict[str, np.ndarray]:
    """Every stage of one head [query key], and the cosines, in the order they are computed. Raises NoTokenMap.

    Where whole maps are too large to be sent, and a `query` is given, its row alone [1 key]; see `row_of`.
    """
    if call.query.shape[-1] < 2:
        raise NoTokenMap(NO_NUMBERS)
    if isinstance(call.rule, Additive):
        raise NoTokenMap(ADDITIVE)
    if not call.rule.stochastic:
        raise NoTokenMap(NOT_PAIRWISE)
    rows = None if query is None or fits(call) else [query]
    return {**stages(call, head, rows), "cosine": cosines(call, head, rows)}


def row_of(values: np.ndarray, query: int) -> np.ndarray:
    """The row of one query in a map that is whole, or that row alone."""
    return values[query if len(values) > 1 else 0]


def send_stages(call: AttentionCall, maps: dict[str, np.ndarray]) -> None:
    """Give the browser one slot per stage."""
    for stage, values in maps.items():
        signed = stage != "weights"
        views.send_maps(
            f"pairs:{stage}",
            values[None] if len(values) > 1 else values,
            titles=[STAGES[stage]],
            keys=call.keys,
            queries=call.queries,
            signed=signed,
            map_type=WORDS[stage],
            unit="number" if signed else "percent",
            masked=masked_of(call) if stage in ("masked", "weights") and len(values) > 1 else None,
        )


def send_for_key(run: ModelRun, layer: int, head: int, maps: dict[str, np.ndarray], stage: str, key: int) -> str:
    """Give the browser a stage seen from the keys; from one key where whole maps are too large, and say so."""
    call = run.trace.calls[layer]
    if fits(call):
        return send_received(call, maps, stage)
    st.caption(ON_DEMAND)
    return send_column(run, layer, head, stage, key)


def send_column(run: ModelRun, layer: int, head: int, stage: str, key: int) -> str:
    """Give the browser what every query has for one key, where whole maps are too large to be sent."""
    call, signed = run.trace.calls[layer], stage != "weights"
    views.send_maps(
        "pairs:received",
        column_of(run.model.digest, run.sample.digest, layer, head, stage, key, call)[None],
        titles=["Seen from the key"],
        keys=call.queries,
        signed=signed,
        map_type=f"received {WORDS[stage]}",
        unit="number" if signed else "percent",
    )
    return "pairs:received"


def send_received(call: AttentionCall, maps: dict[str, np.ndarray], stage: str) -> str:
    """Give the browser the same numbers seen from the keys: row k holds what every query has for key k."""
    signed, hidden = stage != "weights", masked_of(call)
    views.send_maps(
        "pairs:received",
        maps[stage].T[None],
        titles=["Seen from the key"],
        keys=call.queries,
        queries=call.keys,
        signed=signed,
        map_type=f"received {WORDS[stage]}",
        unit="number" if signed else "percent",
        masked=None if signed or hidden is None else hidden.T,
    )
    return "pairs:received"


def stage_choice(maps: dict[str, np.ndarray]) -> str:
    """Which stage the large pictures show."""
    named = {stage: name for stage, name in STAGES.items() if stage in maps}
    return one_of("Show", named, default="weights", key="stage")


def strongest(weights: np.ndarray, query: int, prefix: int) -> int:
    """The patch this query attends to most, which is the key shown until one is picked."""
    return prefix + int(row_of(weights, query)[prefix:].argmax())


def headings(stage: str, query: str, key: str) -> tuple[str, str]:
    """What stands over the picture of the query and over that of the key."""
    query, key = plain(query), plain(key)
    if stage == "weights":
        return (
            f":blue[**Query** {query}]: its weights over all keys",
            f":orange[**Key** {key}]: the weights it receives",
        )
    what = f"its {WORDS[stage]} with every"
    return f":blue[**Query** {query}]: {what} key", f":orange[**Key** {key}]: {what} query"


def keep(name: str) -> Callable[[tuple[int, ...]], None]:
    """What a pick does: it is kept in the address under this name; a click that deselects keeps the last one."""

    def picked(chosen: tuple[int, ...]) -> None:
        if chosen:
            set_tokens(name, chosen)

    return picked


def stage_views(maps: dict[str, np.ndarray], tokens: Sequence[int], on_pick: Callable, style: views.ViewStyle) -> None:
    """Every stage of the query's row as a small picture, in the order they are computed."""
    shown = ["raw", "scaled", *(s for s in ("biased", "masked") if s in maps), "weights", "cosine"]
    row = st.container(horizontal=True, gap="medium")
    style = replace(style, model_input=True)
    for stage in shown:
        with row.container(width=330):  # four in a row on a wide screen, two and two on a narrow one
            st.markdown(f"**{STAGES[stage]}**")
            views.picture_view(
                f"stage:{stage}",
                picture="picture",
                maps=f"pairs:{stage}",
                tokens=tokens,
                height=260,
                label=f"{STAGES[stage]} of the query with every key",
                style=style,
                on_pick=on_pick,
            )
            st.caption(SAYS[stage])


def pair_bars(found: Pair) -> None:
    """Query, key and their product, number by number."""
    agree = [colour("value" if p > 0 else "muted", dark()) for p in found.product]
    figure = stacked_bars(
        {"Query": found.query, "Key": found.key, "Query × key": found.product},
        colours={"Query": "query", "Key": "key", "Query × key": agree},
        shared=("Query", "Key"),
        dark=dark(),
        height=390,
    )
    alt = f"Query, key and product over {len(found.query)} dimensions; the products sum to {found.dot:.3g}"
    plot(figure, "products", alt=alt)


def pair_steps(call: AttentionCall, head: int, query: int, key: int) -> Pair:
    """How one dot product becomes one weight, line by line."""
    found = pair(call, head, query, key)
    q, k = (f"\\textcolor{{{colour(role, dark())}}}{{{letter}}}" for role, letter in (("query", "q"), ("key", "k")))
    dim, share = len(found.query), f"{found.weight:.2%}".replace("%", "\\,\\%")
    times = f"/\\sqrt{{{dim}}}" if np.isclose(found.scale, dim**-0.5) else f"\\times {in_tex(found.scale)}"
    st.latex(f"{q}\\cdot{k} = \\textstyle\\sum_i {q}_i\\,{k}_i = {in_tex(found.dot)}")
    st.latex(f"{q}\\cdot{k}\\,{times} = {in_tex(found.scaled)}")
    if call.biases:
        added = found.biased - found.scaled
        st.latex(f"{in_tex(found.scaled)} {in_tex(added, '+')}\\;\\text{{(position)}} = {in_tex(found.biased)}")
    masked, weight = found.score == float("-inf"), "\\text{weight}"
    if masked:
        st.caption(MASKED)
    elif found.plain:  # no other normaliser, sink or talking heads, and numbers that can be written out
        above, below = in_tex(np.exp(found.score)), in_tex(found.total)
        weight = f"\\frac{{e^{{{in_tex(found.score)}}}}}{{\\sum_j e^{{s_j}}}} = \\frac{{{above}}}{{{below}}}"
    st.latex(f"{weight} = {share}")
    st.latex(
        f"\\cos({q},{k}) = \\frac{{{in_tex(found.dot)}}}{{{in_tex(np.linalg.norm(found.query))} \\times "
        f"{in_tex(np.linalg.norm(found.key))}}} = {in_tex(found.cosine)}"
    )
    if not masked:
        st.caption(rank_words(found, len(call.keys)))
    return found


def rank_words(found: Pair, keys: int) -> str:
    """Where a key ranks among those its query may attend to."""
    allowed = "keys" if found.open == keys else "keys that are not masked"
    return f"By score, this key ranks {found.place} of {found.open} {allowed} for this query."


def in_tex(number: float | np.floating, sign: Literal["-", "+"] = "-") -> str:
    """Four digits of a number as one writes it in a formula: 20,110 and 1.2 x 10^7, not 2.011e+04; "+" to add it."""
    short = f"{number:{sign}.4g}"
    mantissa, _, exponent = short.partition("e")
    if not exponent:
        return short
    if 0 < int(exponent) < 6:
        return f"{float(short):{sign},.0f}".replace(",", "{,}")
    return f"{mantissa} \\times 10^{{{int(exponent)}}}"


def whole_map(
    call: AttentionCall,
    head: int,
    maps: dict[str, np.ndarray],
    stage: str,
    query: int,
    key: int,
    *,
    height: int,
    style: views.ViewStyle,
) -> None:
    """All queries and all keys as a matrix that can be transposed, and beside it how much lengths matter."""
    matrix, off = st.columns([1.3, 1], gap="medium")
    with matrix:
        turn = one_of("Picture", PICTURES, default="rows", key="picture")
        views.matrix_view(
            "matrix",
            maps=f"pairs:{stage}",
            tokens=(query,),
            transposed=turn == "columns",
            height=height,
            on_pick=keep("token"),
            label=f"{STAGES[stage]} of one head",
            style=style,
        )
        st.caption(PICTURE_SAYS[turn])
    with off:
        st.markdown(AGAINST)
        lengths_plot(call, head, query, key)
        st.caption(
            "Keys of equal length would lie on a straight line; a longer key lies farther from zero than that line."
        )


def block_map(run: ModelRun, layer: int, head: int, query: int, key: int, *, style: views.ViewStyle) -> None:
    """The same where the map is too large to be sent: means of blocks and exact cells of one of them."""
    matrix, off = st.columns([1.3, 1], gap="medium")
    with matrix:
        block_matrix(run, layer, head, query, style, keep("token"))
    with off:
        st.markdown(AGAINST)
        lengths_plot(run.trace.calls[layer], head, query, key)


def lengths_plot(call: AttentionCall, head: int, query: int, key: int) -> None:
    """Dot product against cosine, one point per key: what lies off the line is a long or a short key."""
    scaled = call.scores([head], [query], "scaled")[0, 0].float().numpy()
    shown = sorted({*spread(0, len(call.keys), POINTS), key})
    points = np.stack([cosines(call, head, [query])[0], scaled], -1)[shown]
    names = token_names(call.keys)
    figure = scatter(
        points,
        colours=lengths(call, head)[1][shown],
        value="length of key",
        names=[names[i] for i in shown],
        chosen=(shown.index(key),),
        size=6,
        x_title="Cosine",
        y_title="Scaled dot product",
        square=False,
        dark=dark(),
        height=380,
    )
    plot(figure, "lengths", alt="Scaled dot product against cosine, one point per key, coloured by the key's length")
    if len(shown) < len(names):
        st.caption(f"{len(shown):,} of {len(names):,} keys, spread evenly.")


def joint_plane(visit: ModelRun, layer: int, head: int, query: int, key: int) -> None:
    """All queries and keys of a head in one plane, and beside it what their colours mean."""
    plane, legend = st.columns([1.9, 1], gap="medium")
    tokens = visit.sample.tokens["main"]
    with legend:
        method = one_of("Map", METHODS, default="pca", key="map")
        paint = one_of("Coloured by", paints_of(visit), default="position", key="paint")
        colours = token_colours(visit, paint)
        if colours is not None:
            views.send_colours(
                "pairs:colours", colours[None], titles=[f"Colours by {PAINTS[paint].lower()}"], keys=tokens
            )
            views.colour_view(
                "joint colours",
                colours="pairs:colours",
                tokens=(query,),
                height=240,
                label=f"The colour of every patch in the plane, by {PAINTS[paint].lower()}",
            )
    with plane:
        joint_chart(visit, layer, head, (query, key), method, colours, f"coloured by {PAINTS[paint].lower()}")


def joint_chart(
    visit: ModelRun,
    layer: int,
    head: int,
    chosen: tuple[int, int],
    method: str,
    colours: np.ndarray | None,
    painted: str,
) -> None:
    """The plane itself: of many tokens some, spread evenly, and always those of the pair."""
    tokens, (query, key), call = visit.sample.tokens["main"], chosen, visit.trace.calls[layer]
    shown = sorted({*spread(0, len(tokens), POINTS), query, key})
    ids = (visit.model.digest, visit.sample.digest, layer, head, method)
    points = np.concatenate(joint_points(*ids, call, None if len(shown) == len(tokens) else shown))
    names = [f"{kind}, {token_name(tokens, i)}" for kind in ("query", "key") for i in shown]
    colours = None if colours is None else colours[shown]
    figure = scatter(
        points,
        names=names,
        dark=dark(),
        height=520,
        square=method == "pca",
        size=9,
        colours=None if colours is None else np.concatenate([colours, colours]),
        groups=["query"] * len(shown) + ["key"] * len(shown),
        chosen=(shown.index(query), len(shown) + shown.index(key)),
        group_colours={"query": "query", "key": "key"} if colours is None else None,
    )
    plot(figure, "joint", alt=f"Queries and keys of one head in a plane by {METHODS[method]}, {painted}")
    if len(shown) < len(tokens):
        st.caption(f"{len(shown):,} of {len(tokens):,} tokens, spread evenly.")


def paints_of(visit: ModelRun) -> dict[str, str]:
    """What the points of the plane can be coloured by; by pixels only where the model kept the picture it read."""
    kept = visit.sample.image is not None and visit.sample.tokens["main"].grid is not None
    return {name: label for name, label in PAINTS.items() if name != "pixels" or kept}


def token_colours(visit: ModelRun, paint: str) -> np.ndarray | None:
    """A colour per token, by where it lies or by its mean pixel; None where query and key alone are told apart."""
    tokens = visit.sample.tokens["main"]
    if paint == "kind":
        return None
    return position_colours(tokens) if paint == "position" else pixel_colours(np.asarray(visit.sample.image), tokens)


@st.cache_data(max_entries=64, show_spinner="Placing queries and keys in one plane")
def joint_points(
    model_digest: str,
    sample_digest: str,
    layer: int,
    head: int,
    method: str,
    _call: AttentionCall,
    shown: list[int] | None = None,
):
    """Queries and keys of a head in the plane, those of some tokens or of all."""
    query, key = _call.query[head], _call.key[_call.kv_heads_of([head])[0]]
    both = (query, key) if shown is None else (query[shown], key[shown])
    return joint_map(*both, METHODS[method])


def row_table(tokens: Tokens, maps: dict[str, np.ndarray], query: int) -> tuple[list[str], list[list]]:
    """Every stage of one query's row, for a CSV."""
    names = token_names(tokens)
    return ["key", *maps], [
        [name, *(float(row_of(m, query)[i]) for m in maps.values())] for i, name in enumerate(names)
    ]
