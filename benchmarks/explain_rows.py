"""What `benchmarks.explain` measures: each method, and its reference form over the same random query, key and value.

References are written from the formulas as the well-known codes compute them: stored maps, whole matrices multiplied.
The tensors of one layer stand for those of all layers, so that a reference fits into memory; what it would store for
the network is counted. To add a row: a function of `Size` that gives a `Case`, and one line in ROWS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow
from torch import Tensor

from attnviz.attention import Softmax
from attnviz.measures.forward import grid_of
from attnviz.methods import explain, flow
from attnviz.types import AttentionCall, LayerParts, ModelSpec, Norm, Sample, Target, Tokens, Trace, unchanged

LAYERS, HEADS, DIM = 12, 12, 64
WIDTH = HEADS * DIM
UNIT = 2**24  # a capacity of 1 as a whole number
SAMPLE = Sample("0", {}, {})


class Bare:
    """What these methods ask of a model: pre-norm layers without a bias. It answers nothing else."""

    name, title, digest, record, device = "bare", "Bare", "0", "", torch.device("cpu")
    facts, outputs, superclasses = {}, {}, ()
    tokenizer = input_embeddings = patch_projection = None
    spec = ModelSpec("image", LAYERS, HEADS, WIDTH)

    def refuse(self, *given: Any, **options: Any) -> Any:
        """Raise ValueError: there is no network behind the trace."""
        raise ValueError("only a trace and the parts of its layers are given here")

    __call__ = to = prepare = logits_from = layer = refuse

    def layer_parts(self, index: int) -> LayerParts:
        """The same for every layer."""
        norm = Norm(torch.ones(WIDTH))
        return LayerParts(True, norm, norm, None, lambda x, tokens: (x, x), unchanged)


MODEL = Bare()


class Size(NamedTuple):
    """How large the network is."""

    tokens: int
    layers: int = LAYERS


class Case(NamedTuple):
    """Two functions that compute the same [token]; the second is made when it is needed, with all that it stores."""

    ours: Callable[[], Tensor]
    reference: Callable[[], Callable[[], Tensor]]


class Figures(NamedTuple):
    """What was measured of one row; None where the reference does not fit."""

    seconds: float
    reference: float | None  # seconds
    difference: float | None  # the largest, relative to the largest entry
    extra: int  # bytes that ours held at most above its inputs


class Aim(NamedTuple):
    """What a row has to reach at so many tokens, on an idle machine of two cores."""

    tokens: int
    text: str
    reached: Callable[[Figures], bool]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    make: Callable[[Size], Case]
    tokens: tuple[int, ...]  # where it is measured unless other sizes are asked for
    stores: Callable[[Size], int]  # bytes of what a reference keeps for the network
    held: Callable[[Size], int]  # bytes of what it holds here, with one layer's tensors for all
    given: bool = False  # ours is given stored maps too
    parts: Callable[[Size], int] = lambda size: 1  # how often the reference runs for one result of ours
    comparable: bool = True  # whether both follow one rule, so that their numbers agree
    aim: Aim | None = None


@dataclass(frozen=True)
class Stored(Softmax):
    """Softmax weights that were computed before [head query key]."""

    array: Tensor | None = None

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """A block of the stored weights; rows of a block are neighbours, so nothing is copied."""
        if self.array is None:
            raise ValueError("no weights were stored")
        return self.array[:, rows[0] : rows[-1] + 1]


def weights_of(call: AttentionCall) -> Float[Tensor, "head query key"]:
    """All weights of a call, without a second copy of them while they are made."""
    found = torch.empty(call.heads, len(call.queries), len(call.keys))
    for rows in call.blocks():
        found[:, rows[0] : rows[-1] + 1] = call.token_map(rows=rows)
    return found


def trace_of(size: Size, *, stored: bool = False, outputs: bool = False) -> Trace:
    """Layers over one random query, key, value, projection and residual; the answer is read from CLS."""
    tokens = Tokens.patches(*grid_of(size.tokens - 1), ("CLS",))
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(HEADS, size.tokens, DIM, generator=generator) for _ in range(3))
    projection = torch.randn(HEADS, DIM, WIDTH, generator=generator) * WIDTH**-0.5
    residual = torch.randn(size.tokens, WIDTH, generator=generator)
    first = AttentionCall(
        "layer", 0, Softmax(), query, key, value, tokens, tokens, scale=DIM**-0.5, projection=projection
    )
    if stored:
        first = replace(first, rule=Stored(array=weights_of(first)))
    if outputs:
        first = replace(first, output=first.rule.mix(first))
    calls = tuple(replace(first, name=f"layer {i + 1}", layer=i) for i in range(size.layers))
    pooling = torch.zeros(size.tokens)
    pooling[0] = 1
    return Trace(None, {}, {}, calls, {"main": (residual,) * (size.layers + 1)}, {"main": pooling}, {})


def chained(factor: Tensor, layers: int) -> Float[Tensor, " token"]:
    """The first row of the whole product of the layers' factors, rows divided by their sums."""
    factor = factor / factor.sum(-1, keepdim=True)
    product = torch.eye(len(factor))
    for _ in range(layers):
        product = factor @ product
    return product[0]


def rollout(fusion: str, discard: float, given: bool) -> Callable[[Size], Case]:
    """Attention rollout; the reference drops the smallest share of the flattened map by top-k, that of CLS too."""

    def reference(weights: Tensor, layers: int) -> Tensor:
        product = torch.eye(weights.shape[-1])
        for _ in range(layers):
            fused = weights.mean(0) if fusion == "mean" else weights.max(0).values
            if discard:
                flat = fused.flatten()
                flat[flat.topk(int(discard * flat.numel()), largest=False).indices] = 0  # sorts them, by default
            factor = (fused + torch.eye(len(fused))) / 2
            product = factor / factor.sum(-1, keepdim=True) @ product
        return product[0]

    def make(size: Size) -> Case:
        trace = trace_of(size, stored=given)

        def made() -> Callable[[], Tensor]:
            rule = trace.calls[0].rule
            kept = rule.array if isinstance(rule, Stored) else None
            weights = weights_of(trace.calls[0]) if kept is None else kept
            return lambda: reference(weights, size.layers)

        options = {"fusion": fusion, "discard": discard}
        return Case(lambda: explain("rollout", MODEL, SAMPLE, trace=trace, **options), made)

    return make


def generic(size: Size) -> Case:
    """Generic attention explainability; the score is linear in the outputs of attention, so no network is walked."""
    trace = trace_of(size, outputs=True)
    first, direction = trace.calls[0], torch.randn(HEADS, size.tokens, DIM, generator=torch.Generator().manual_seed(1))
    direction = direction / DIM  # so that relevance neither vanishes nor explodes
    outputs = [torch.empty(0) if call.output is None else call.output.clone() for call in trace.calls]
    calls = tuple(replace(c, output=o.requires_grad_()) for c, o in zip(trace.calls, outputs, strict=True))
    score = torch.stack([(output * direction).sum() for output in outputs]).sum()
    trace = replace(trace, calls=calls, logits={"class": torch.stack([score, -score])[None]})

    def made() -> Callable[[], Tensor]:
        weights, gradient = weights_of(first), direction @ first.value.mT

        def run() -> Tensor:
            found = torch.eye(size.tokens)
            for _ in range(size.layers):
                found = found + (gradient * weights).clamp(min=0).mean(0) @ found
            return (found - torch.eye(size.tokens))[0]

        return run

    return Case(lambda: explain("generic attention", MODEL, SAMPLE, Target("class", label=0), trace=trace), made)


def flows(size: Size) -> Case:
    """Attention flow to every token; the reference searches one, by the method of Edmonds and Karp over all edges."""
    trace = trace_of(size)

    def made() -> Callable[[], Tensor]:
        count, sink = size.tokens, size.tokens // 2
        factor = (weights_of(trace.calls[0]).mean(0) + torch.eye(count)) / 2
        capacity = (factor.double() * UNIT).round().int().numpy()
        query, key = capacity.nonzero()
        layer = count * np.arange(size.layers, dtype=np.int32)[:, None]  # its keys are nodes layer + key
        ends = (layer + count + query).ravel(), (layer + key).ravel()
        values = np.tile(capacity[query, key], size.layers)
        graph = coo_array((values, ends), (count * (size.layers + 1),) * 2).tocsr()

        def run() -> Tensor:
            found = torch.full((count,), float("nan"))
            value = maximum_flow(graph, count * size.layers, sink, method="edmonds_karp").flow_value
            found[sink] = value / UNIT
            return found

        return run

    return Case(lambda: flow.flow(trace), made)


def vectors(name: str, shares: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Size], Case]:
    """A method that follows vectors; the reference makes all T_i(x_j) of a layer [query key feature]."""

    def make(size: Size) -> Case:
        trace = trace_of(size, outputs=True)

        def made() -> Callable[[], Tensor]:
            call, residual = trace.calls[0], trace.residuals["main"][0]
            weights, projection = weights_of(call), call.projection
            sources = call.value @ (torch.empty(0) if projection is None else projection)  # [head key feature]
            at = torch.arange(size.tokens)

            def factor() -> Tensor:
                given = torch.einsum("hij,hjf->ijf", weights, sources)
                given[at, at] += residual
                found = shares(given, given.sum(1))
                return found / found.sum(-1, keepdim=True)

            def run() -> Tensor:
                product = torch.eye(size.tokens)
                for _ in range(size.layers):
                    product = factor() @ product
                return product[0]

            return run

        return Case(lambda: explain(name, MODEL, SAMPLE, trace=trace), made)

    return make


def lengths(given: Tensor, whole: Tensor) -> Tensor:
    """Norm-based: |T_i(x_j)| (Kobayashi et al. 2021)."""
    return given.norm(dim=-1)


def nearer(given: Tensor, whole: Tensor) -> Tensor:
    """ALTI: max(0, |y_i| - |y_i - T_i(x_j)|), sums of absolute values (Ferrando et al. 2022)."""
    return (whole.abs().sum(-1)[:, None] - (whole[:, None] - given).abs().sum(-1)).clamp(min=0)


def one_layer(size: Size) -> int:
    """Bytes of the weights of one layer [head query key]."""
    return 4 * HEADS * size.tokens**2


def maps(size: Size) -> int:
    """Bytes of the weights of all layers."""
    return size.layers * one_layer(size)


def pairs(size: Size) -> int:
    """Bytes of the vectors of one layer [query key feature]."""
    return 4 * WIDTH * size.tokens**2


USUAL = (197, 785, 3137)
ROWS: dict[str, Row] = {
    "rollout-given": Row(
        rollout("mean", 0.0, True), USUAL, maps, one_layer, True, aim=Aim(3137, "8 x", lambda f: times(f) >= 8)
    ),
    "rollout": Row(rollout("mean", 0.0, False), (*USUAL, 16384), maps, one_layer),
    "discard-given": Row(
        rollout("max", 0.9, True),
        USUAL,
        maps,
        one_layer,
        True,
        comparable=False,
        aim=Aim(785, "5 x", lambda f: times(f) >= 5),
    ),
    "discard": Row(rollout("max", 0.9, False), USUAL, maps, one_layer, comparable=False),
    "generic": Row(
        generic,
        (*USUAL, 16384),
        lambda size: 2 * maps(size),
        lambda size: 4 * one_layer(size),
        aim=Aim(3137, "1 GB", lambda f: f.extra < 1e9),
    ),
    "flow": Row(
        flows,
        (197,),
        lambda size: 8 * size.layers * size.tokens**2,  # the edges: where they end, and their capacities
        lambda size: 40 * size.layers * size.tokens**2,
        parts=lambda size: size.tokens,
        aim=Aim(197, "4 s", lambda f: f.seconds <= 4),
    ),
    "norms": Row(
        vectors("norm-based", lengths), USUAL, pairs, pairs, aim=Aim(785, "1.9 GB", lambda f: f.extra < 1.9e9)
    ),
    "alti": Row(vectors("alti", nearer), (197, 785), pairs, lambda size: 3 * pairs(size)),
}


def times(figures: Figures) -> float:
    """How many times as long the reference takes; 0 where it was not run."""
    return 0.0 if figures.reference is None else figures.reference / figures.seconds
