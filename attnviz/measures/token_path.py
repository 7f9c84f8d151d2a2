"""One token on its way through one layer, stage by stage, and what its residual would answer after every layer.

Every stage is what the network computed, or is made of it: the last one is held against the residual that the forward
pass recorded, and where they differ nothing is shown.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.measures.interventions import Lens, output_of
from attnviz.types import AttentionCall, LayerParts, Model, NoTokenMap, Trace, at_least_float32
from attnviz.types import Stage as ScoreStage

TOLERANCE = 1e-3  # of the largest number of the residual: rounding of fused kernels, also in reduced precision


class NoPath(Exception):
    """A token cannot be followed through a layer; the message is a clause that says why."""


@dataclass(frozen=True, eq=False)
class TokenPath:
    """What one layer does to one token; the fields are in the order of the computation.

    Pre-norm: after_attention = residual + sum of by_head + bias, and after = after_attention + mlp. Post-norm (Vaswani
    et al. 2017, section 5.4): after_attention is the norm of that sum, `normed` and `mlp` are None.
    """

    residual: Float[Tensor, " feature"]
    normed: Float[Tensor, " feature"] | None  # what attention reads, in a pre-norm layer
    query: Float[Tensor, " dim"]
    key: Float[Tensor, "key dim"]
    products: Float[Tensor, " key"] | None  # query . key; None where scores are not made of them
    scores: Float[Tensor, " key"] | None  # scaled, with biases, -inf where masked
    weights: Float[Tensor, " key"] | None  # None where the output is not weights times values
    softmax: bool  # whether the weights are the softmax of the scores
    value: Float[Tensor, "key value_dim"]
    gate: Float[Tensor, " value_dim"] | None
    mixed: Float[Tensor, " value_dim"]  # gate * (weights @ value): the output of the head
    by_head: Float[Tensor, "head feature"]  # the output of every head through its part of the output projection
    bias: Float[Tensor, " feature"] | None
    after_attention: Float[Tensor, " feature"]
    mlp_normed: Float[Tensor, " feature"] | None  # what the MLP reads, in a pre-norm layer
    mlp: Float[Tensor, " feature"] | None  # what the MLP adds
    after: Float[Tensor, " feature"]


@torch.no_grad()
def follow_token(model: Model, trace: Trace, call: AttentionCall, head: int, token: int) -> TokenPath:
    """One token through the layer of a call, with one of its heads in detail.

    Raises NoPath where the layer is more than one self-attention and an MLP, UnsupportedMask where the model does not
    say what its layers are made of.
    """
    before, recorded = around(trace, call)
    parts = model.layer_parts(call.layer)
    device = model.device
    x = at_least_float32(before[token]).to(device)
    by_head = head_outputs(call, token).to(device)
    summed = parts.after_attention(x, by_head.sum(0))
    after = parts.feed_forward(summed[None].to(before.dtype))[0].to(x)
    expected = recorded[token].to(x)
    if float((after - expected).abs().max()) > TOLERANCE * max(1.0, float(expected.abs().max())):
        raise NoPath("its parts do not add up to the residual that the model recorded")
    own: dict[str, Tensor | None] = {
        "residual": x,
        "normed": parts.attention_norm(x) if parts.norm_first else None,
        "by_head": by_head,
        "bias": None if parts.output_bias is None else parts.output_bias.detach().to(x),
        "after_attention": summed,
        "after": after,
        **mlp_stages(parts, summed, after),
    }
    fields: dict[str, Any] = {name: None if one is None else one.cpu() for name, one in own.items()}
    return TokenPath(**fields, **attention_stages(call, head, token))


def around(trace: Trace, call: AttentionCall) -> tuple[Tensor, Tensor]:
    """The residual [token feature] before and after the layer of a call. Raises NoPath where there are no such two."""
    stream = call.queries.stream
    calls = [one for one in trace.calls if one.queries.stream == stream]
    if call.keys.stream != stream or sum(one.layer == call.layer for one in calls) > 1:
        raise NoPath("a layer attends more than once, so a token does not pass one attention and one MLP")
    if not call.residual or call.projection is None or call.output is None:
        raise NoPath("it does not record what its heads write into the residual")
    residuals = trace.residuals.get(stream, ())
    index = call.layer - min(one.layer for one in calls)
    if index + 1 >= len(residuals) or residuals[index].shape != residuals[index + 1].shape:
        raise NoPath("it does not record a residual before and after each layer")
    if call.projection.shape[-1] != residuals[index].shape[-1]:
        raise NoPath("its heads do not write into the features they are added to")
    return residuals[index], residuals[index + 1]


def head_outputs(call: AttentionCall, token: int) -> Float[Tensor, "head feature"]:
    """What every head adds to the residual of a query: output^h @ projection^h (Elhage et al. 2021).

    Raises NoPath for a call without them.
    """
    if call.output is None or call.projection is None:
        raise NoPath("it does not record what its heads write into the residual")
    output = at_least_float32(call.output[:, token])
    return torch.einsum("hd,hdf->hf", output, call.projection.detach().to(output))


def attention_stages(call: AttentionCall, head: int, token: int) -> dict[str, Any]:
    """Query, keys, scores, weights, values and output of one head for one query. Raises NoPath without an output."""
    if call.output is None:
        raise NoPath("it does not record the output of its heads")
    group, output = call.kv_heads_of([head])[0], call.output
    value, mixed = at_least_float32(call.value[group]), at_least_float32(output[head, token])
    gate = None if call.gate is None else at_least_float32(call.gate.expand(output.shape)[head, token])
    query, key = at_least_float32(call.query[head, token]), at_least_float32(call.key[group])
    products, scores = scores_of(call, head, token, "raw"), scores_of(call, head, token, "masked")
    if products is not None and not are_products(products, query, key):
        products = None
    weights: Tensor | None = None
    with suppress(NoTokenMap):
        weights = call.token_map([head], [token])[0, 0].to(mixed)
    if weights is not None and not mixes(weights, value, gate, mixed):
        weights = None
    softmax = scores is not None and weights is not None and torch.allclose(scores.softmax(-1), weights, atol=1e-5)
    return {
        "query": query,
        "key": key,
        "products": products,
        "scores": scores,
        "weights": weights,
        "softmax": softmax,
        "value": value,
        "gate": gate,
        "mixed": mixed,
    }


def scores_of(call: AttentionCall, head: int, token: int, stage: ScoreStage) -> Float[Tensor, " key"] | None:
    """The scores of one query at a stage; None where there are none, or not one for each key."""
    try:
        scores = at_least_float32(call.scores([head], [token], stage)[0, 0])
    except NoTokenMap:
        return None
    return scores if scores.shape == (len(call.keys),) else None


def are_products(scores: Tensor, query: Tensor, key: Tensor) -> bool:
    """Whether raw scores are the dot products of the query with every key; additive attention has others."""
    if key.shape != (len(scores), len(query)):
        return False
    return torch.allclose(key @ query, scores.to(query), rtol=1e-3, atol=1e-3 * max(1.0, float(scores.abs().max())))


def mixes(weights: Tensor, value: Tensor, gate: Tensor | None, mixed: Tensor) -> bool:
    """Whether gate * (weights @ value) is the output that the head recorded."""
    if weights.shape[-1] != len(value):
        return False
    made = weights @ value if gate is None else gate * (weights @ value)
    return torch.allclose(made, mixed, atol=1e-4 * max(1.0, float(mixed.abs().max())))


def mlp_stages(parts: LayerParts, summed: Tensor, after: Tensor) -> dict[str, Tensor | None]:
    """What the MLP reads and adds; None in a post-norm layer, whose norm stands behind the sum."""
    if not parts.norm_first:
        return {"mlp_normed": None, "mlp": None}
    return {"mlp_normed": parts.mlp_norm(summed), "mlp": after - summed}


@torch.no_grad()
def answers_along(model: Model, trace: Trace, token: int, best: int = 3) -> Lens | None:
    """The logit lens (nostalgebraist 2020) of one token: labels and probabilities [depth 1 best], by `logits_from`.

    Where the model pools, the vector of the token stands in the place of all. None for a model without an output that
    is read from a residual.
    """
    residuals = next(iter(trace.residuals.values()), ())
    if not model.outputs or not residuals:
        return None
    count = len(residuals[0])
    last = model.logits_from(residuals[-1].to(model.device))
    if last.shape[-2] == count:  # every token has an answer of its own
        rows = [model.logits_from(one.to(model.device))[token] for one in residuals]
    else:
        rows = [model.logits_from(one[token].to(model.device).expand(count, -1))[0] for one in residuals]
    logits = torch.stack(rows).float().cpu()
    try:
        output = output_of(model, logits.shape[-1])
    except ValueError:
        return None
    top = logits.softmax(-1).topk(min(best, logits.shape[-1]))
    return Lens(output, top.indices[:, None], top.values[:, None])
