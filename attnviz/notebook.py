"""All heads of a model, or attention weights of any origin, as one page that needs no server: for notebooks, as a file.

attnviz.show(model, sample)                                 # in a notebook: hover, click a small map to open it
attnviz.show(weights=weights, tokens=["the", "cat", "sat"])  # [layer head query key], from wherever they come
attnviz.show(model, sample).save("heads.html")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image

from attnviz.types import AttentionCall, Model, Sample, Tokens, Trace

if TYPE_CHECKING:
    from attnviz.views.page import Page

PICTURE, GRID, OPENED = "picture", "grid", "opened"
Pictures = tuple[Image.Image, Image.Image, tuple[int, int, int, int], Tokens]  # whole, as seen, the part that is seen
HINT = "Point at a {token}: every map shows what it attends to. Click a small map to open it."


@dataclass(frozen=True, eq=False)
class Layer:
    """The maps of one recorded call, as they are shown."""

    name: str
    maps: Float[np.ndarray, "head query key"]
    queries: Tokens
    keys: Tokens
    map_type: str = "weights"
    masked: Bool[np.ndarray, "query key"] | None = None  # True: the query may not attend to the key
    shares: bool = True  # rows are not negative and sum to 1


def show(
    model: Model | None = None,
    sample: Sample | None = None,
    *,
    trace: Trace | None = None,
    weights: Any = None,
    tokens: Sequence[str] | Tokens | None = None,
    grid: tuple[int, int] | None = None,
    picture: Image.Image | None = None,
    layers: Sequence[int] | None = None,
    opened: tuple[int, int] = (0, 0),
    token: int | None = None,
    title: str = "",
) -> Page:
    """Every head as a small map, and one of them opened over the picture or the words, hover-linked.

    Either `model` and `sample` (one forward pass, or the `trace` given), or `weights` [layer head query key], as an
    array or tensor or one of them a layer, with the `tokens` they are about: labels, or a `Tokens`. `grid`: rows and
    columns of patches, where the last tokens are those; `picture` is then what lies under them, and with a sample the
    whole picture its crop was cut from. `layers`: only these, by number. `opened`: the (layer, head) that is large.
    `token`: whose attention is shown before one is pointed at, by number; None is one in the middle.

    Raises ValueError where neither or both are given, shapes do not fit, numbers are not finite, or all is too large
    for one page, and NoTokenMap for attention between other things than tokens.
    """
    if (weights is None) == (model is None and trace is None):
        raise ValueError("give a model with a sample, or weights with the tokens they are about")
    if weights is not None:
        whole = given(weights, tokens, grid)
        title = title or "Attention weights"
    else:
        if trace is None:
            if model is None or sample is None:
                raise ValueError("give the sample as well: model.prepare(...) makes it")
            with torch.no_grad():
                trace = model(sample)
        whole = [layer_of(call) for call in trace.calls]
        sample = sample or trace.sample
        title = title or (model.title if model is not None else "Attention")
    chosen = whole if layers is None else [whole[at] for at in checked(layers, len(whole))]
    if token is not None and not 0 <= token < len(chosen[0].queries):
        raise ValueError(f"token is {token}; there are tokens 0 to {len(chosen[0].queries) - 1}")
    return drawn(chosen, opened, token, title, pictures_of(sample, picture, chosen[0].keys))


def checked(layers: Sequence[int], count: int) -> Sequence[int]:
    """Numbers of layers that there are. Raises ValueError for others, and for none."""
    if not layers or any(not 0 <= at < count for at in layers):
        raise ValueError(f"layers is {list(layers)}; there are layers 0 to {count - 1}")
    return layers


def layer_of(call: AttentionCall) -> Layer:
    """The token maps of one recorded call."""
    closed = call.closed()
    masked = None if closed is None else closed.cpu().numpy()
    with torch.no_grad():
        maps = call.token_map().float().cpu().numpy()
    if maps.ndim != 3:
        raise ValueError(f"the maps of a batch are {list(maps.shape)}; show one input of it at a time")
    return Layer(call.name, maps, call.queries, call.keys, call.rule.map_type, masked, call.rule.stochastic)


def named(tokens: Sequence[str] | Tokens, grid: tuple[int, int] | None) -> Tokens:
    """Labels as tokens; with a `grid`, the last of them are its patches. Raises ValueError where those do not fit."""
    if isinstance(tokens, Tokens):
        return tokens
    labels = tuple(str(label) for label in tokens)
    if grid is None:
        return Tokens(labels, words=tuple(range(len(labels))))
    rows, columns = grid
    if len(labels) < rows * columns:
        raise ValueError(f"{len(labels)} tokens are fewer than the {rows} x {columns} patches of the grid")
    return Tokens(labels, grid=grid, prefix=len(labels) - rows * columns)


def given(weights: Any, labels: Sequence[str] | Tokens | None, grid: tuple[int, int] | None) -> list[Layer]:
    """Weights of any origin as layers; without labels, tokens have numbers. Raises ValueError as `show` does."""
    whole = [array_of(one) for one in weights]
    if not whole or any(one.ndim != 3 for one in whole):
        shapes = ", ".join(str(list(one.shape)) for one in whole[:3]) or "empty"
        raise ValueError(f"weights are [layer head query key], so each layer [head query key]; these are {shapes}")
    tokens = named([str(at + 1) for at in range(whole[0].shape[-1])] if labels is None else labels, grid)
    for at, one in enumerate(whole):
        if one.shape[1:] != (len(tokens), len(tokens)):
            raise ValueError(f"layer {at} has maps {list(one.shape[1:])}, but there are {len(tokens)} tokens")
        if not np.isfinite(one).all():
            raise ValueError(f"layer {at} holds numbers that are not finite; give weights after the softmax")
    return [Layer(f"layer {at + 1}", one, tokens, tokens, shares=sum_to_one(one)) for at, one in enumerate(whole)]


def sum_to_one(maps: Float[np.ndarray, "head query key"]) -> bool:
    """Whether rows are shares, up to half precision."""
    return bool((maps >= 0).all() and np.allclose(maps.sum(-1), 1, atol=1e-2))


def array_of(one: Any) -> Float[np.ndarray, "*axes"]:
    """A tensor or what numpy takes for an array, without leading axes of length 1 (a batch of one)."""
    array = one.detach().float().cpu().numpy() if isinstance(one, torch.Tensor) else np.asarray(one, dtype=np.float32)
    return array[0] if array.ndim == 4 and len(array) == 1 else array


def pictures_of(sample: Sample | None, picture: Image.Image | None, tokens: Tokens) -> Pictures | None:
    """What is shown under the patches, what the network saw of it, and which part that is; None for a text."""
    seen = None if sample is None else sample.image
    shown = picture or seen
    if tokens.grid is None or shown is None:
        return None
    cut = sample.crop if sample is not None and picture is not None else None
    return shown, seen or shown, cut or (0, 0, *shown.size), tokens


def drawn(
    layers: Sequence[Layer], opened: tuple[int, int], token: int | None, title: str, pictures: Pictures | None
) -> Page:
    """The page: a grid of all maps, and the opened one."""
    from attnviz import views  # Streamlit comes with it, which a script that shows nothing need not load
    from attnviz.views.page import Page

    row, head = opened
    if not (0 <= row < len(layers) and 0 <= head < len(layers[row].maps)):
        raise ValueError(f"opened is {opened}; there are layers 0 to {len(layers) - 1} with their heads")
    queries = layers[row].queries
    text, token = queries.grid is None, middle(queries) if token is None else token
    with Page(title) as page:
        page.heading(title)
        page.words(HINT.format(token="word" if text else "patch"))
        if pictures is not None:
            views.send_picture(PICTURE, *pictures)
        for at, layer in enumerate(layers):
            send(at, layer)
        views.tiles_view(
            GRID,
            maps=[f"maps {at}" for at in range(len(layers))],
            rows=[layer.name.capitalize() for layer in layers],
            columns=[f"Head {at + 1}" for at in range(max(len(layer.maps) for layer in layers))],
            picture=PICTURE if pictures is not None else None,
            tokens=(token,),
            selected=opened,
            mode="matrix" if text else "rows",
            style=views.ViewStyle(hide_special=not text),
            label="All heads",
        )
        large(layers[row], row, head, token, picture=pictures is not None)
    return page


def send(at: int, layer: Layer) -> None:
    """Give the page the maps of one layer."""
    from attnviz import views

    views.send_maps(
        f"maps {at}",
        layer.maps,
        titles=[f"{layer.name.capitalize()}, head {head + 1}" for head in range(len(layer.maps))],
        keys=layer.keys,
        queries=layer.queries,
        map_type=layer.map_type,
        signed=bool((layer.maps < 0).any()),
        unit="percent" if layer.shares else "number",
        masked=layer.masked,
    )


def large(layer: Layer, row: int, head: int, token: int, *, picture: bool) -> None:
    """The opened map, in the view that suits it: over the picture, as lines between words, or whole."""
    from attnviz import views

    common: dict[str, Any] = {
        "maps": f"maps {row}",
        "index": head,
        "linked_to": GRID,
        "tokens": (token,),
        "label": "The opened head",
    }
    if picture:
        views.picture_view(OPENED, picture=PICTURE, style=views.ViewStyle(hide_special=True), **common)
    elif layer.queries.grid is None and layer.shares:
        views.lines_view(OPENED, min_weight=0.02, **common)
    else:
        views.matrix_view(OPENED, **common)


def middle(tokens: Tokens) -> int:
    """A patch or word in the middle, which is shown until one is pointed at."""
    if tokens.grid is not None:
        rows, columns = tokens.grid
        return tokens.prefix + (rows // 2) * columns + columns // 2
    inside = [at for at, word in enumerate(tokens.words or ()) if word >= 0] or range(len(tokens))
    return inside[len(inside) // 2]
