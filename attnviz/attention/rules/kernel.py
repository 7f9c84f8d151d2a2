"""Attention by features: weights = phi(query) phi(key)ᵀ, each row divided by its sum.

Because phi(Q) (phi(K)ᵀ V) needs no token-to-token array, memory and time grow with the tokens, not with their square.
To add a feature map: a rule with its exponents, and a variant that hands it out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnviz.attention.rules.softmax import Softmax, at_least_float32, expanded, full_precision
from attnviz.attention.variants.projections import finished, refuse_others
from attnviz.types import AttentionCall, MapType, Mask, NamedMap, NoTokenMap, Stage

CHUNK = 64  # causal prefix sums go on by as many tokens at a time


class State(NamedTuple):
    """All that the next token needs of the past; its size does not depend on how long the past is."""

    sums: Tensor  # [*batch head feature value_dim+1]: phi(key)ᵀ [value, 1], relative to exp(top)
    top: Tensor  # [*batch head 1 feature]: the largest exponents so far; one 0 where sums need no reference


class Error(NamedTuple):
    """How far an approximation is from softmax attention: relative Frobenius errors [*batch head]."""

    map: Tensor
    output: Tensor


class FeatureMap:
    """Each query shares out a weight of one over the keys, by the product of their features.

    Features are handled as exponents, phi = exp(exponent). A factor for each query cancels in the row sum, and a factor
    for each feature may move from keys to queries: both are used to keep the largest features at one.
    """

    map_type: MapType = "effective"
    axes: tuple[str, ...] = ("head", "query", "key")
    stochastic: bool = True
    exact: bool = True
    title = "Attention by features"

    @property
    def caveat(self) -> str:
        """Printed beside the picture."""
        return "Worked out for this picture from the features of queries and keys: the layer itself never makes it."

    def query_exponents(self, query: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head query feature"]:
        """log phi(query), up to a number for each query."""
        raise NotImplementedError

    def key_exponents(self, key: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head key feature"]:
        """log phi(key)."""
        raise NotImplementedError

    def top(self, exponents: Float[Tensor, "*batch head key feature"]) -> Tensor:
        """The largest exponent of each feature over the keys [*batch head 1 feature]; -inf where no key is kept."""
        return exponents.detach().amax(-2, keepdim=True)

    def features(self, call: AttentionCall, heads: list[int], rows: list[int] | None = None) -> tuple[Tensor, Tensor]:
        """phi(query) of the rows and phi(key) of all keys, which is 0 for masked keys."""
        refuse_others(call, self.title, {"key_padding", "causal"})
        query = at_least_float32(call.query[..., heads, :, :])
        query = query if rows is None else query[..., rows, :]
        scale = scale_of(call, heads)
        exponents = self.key_exponents(at_least_float32(expanded(call.key, call, heads)), scale)
        if call.mask is not None and call.mask.key_padding is not None:
            exponents = exponents.masked_fill(~call.mask.key_padding[..., None, :, None], float("-inf"))
        top = finite(self.top(exponents))
        return lift_queries(self.query_exponents(query, scale), top), lift_keys(exponents, top)

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """There are none: raises NoTokenMap."""
        raise NoTokenMap("multiplies features of query and key, so there are no scores before a softmax")

    @full_precision
    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key], computed now; a row with nothing to attend to is zero."""
        query, key = self.features(call, heads, rows)
        weights = query @ key.transpose(-1, -2)
        if call.mask is not None and call.mask.causal:
            keep = Mask(causal=True).rows(heads, rows, call.query.shape[-2], call.key.shape[-2], weights.device)
            weights = weights.masked_fill(~keep, 0)
        return ratio(weights, weights.sum(-1, keepdim=True))

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """The weights themselves."""
        return self.weights(call, heads, rows)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One map, made for looking at: the row-normalised products of features."""
        return {"effective map": NamedMap(call.weights(), self.axes, self.map_type, self.stochastic)}

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value) [*batch head query value_dim], without weights."""
        heads = list(range(call.heads))
        query, key = self.features(call, heads)
        value = with_one(at_least_float32(expanded(call.value, call, heads)))
        if call.mask is not None and call.mask.causal:
            sums, _ = causal_sums(query, key, value)
        else:
            sums = query @ (key.transpose(-1, -2) @ value)
        return finished(call, ratio(sums[..., :-1], sums[..., -1:]))

    @full_precision
    def advance(self, call: AttentionCall, past: State | None) -> tuple[Tensor, State]:
        """Output of new tokens after a past, and the new past. `call` holds the new tokens alone, without a mask."""
        heads = list(range(call.heads))
        query = self.query_exponents(at_least_float32(call.query), scale_of(call, heads))
        key = self.key_exponents(at_least_float32(expanded(call.key, call, heads)), scale_of(call, heads))
        top, before = self.top(key), None
        if past is not None:
            top = torch.maximum(top, past.top)
            before = past.sums * lift_keys(past.top, top).transpose(-1, -2)
        value = with_one(at_least_float32(expanded(call.value, call, heads)))
        sums, after = causal_sums(lift_queries(query, top), lift_keys(key, top), value, before)
        return finished(call, ratio(sums[..., :-1], sums[..., -1:])), State(after, top)

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d weights = (d y / d output * gate) valueᵀ, as for softmax; masked entries are 0."""
        return Softmax().map_gradient(call, d_output, heads, rows)


@dataclass(frozen=True)
class EluKernel(FeatureMap):
    """phi = elu + 1: one above zero plus x, exp(x) below (Katharopoulos et al. 2020, eq. 7)."""

    title = "Linear attention"

    def query_exponents(self, query: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head query feature"]:
        """log(elu + 1); no scale enters the formula."""
        return torch.where(query > 0, query.clamp(min=0).log1p(), query)

    def key_exponents(self, key: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head key feature"]:
        """log(elu + 1)."""
        return self.query_exponents(key, scale)

    def top(self, exponents: Float[Tensor, "*batch head key feature"]) -> Tensor:
        """elu + 1 grows as slowly as x and needs no reference."""
        return exponents.new_zeros(1, 1)


@dataclass(frozen=True, eq=False)
class RandomKernel(FeatureMap):
    """phi = exp(w x - |x|² / 2) for random directions w, so that phi(q) phi(k) is exp(q k) on average.

    Choromanski et al. 2021, lemma 1: query and key are each multiplied by the root of the scale.

    Its causal form has a limit. All rows measure features against the largest of the whole sequence, so a feature that
    is smaller by more than `lift_keys` can tell (e^39 in float32, e^318 in float64) is lifted to that floor: a far
    larger one of a later token then changes rows before it a little. Decoding token by token (`advance`) knows only
    the largest so far and has no such leak.
    """

    directions: Float[Tensor, "feature dim"]
    seed: int | None = None
    title = "Performer"

    @property
    def caveat(self) -> str:
        """Printed beside the picture."""
        seed = "" if self.seed is None else f" (seed {self.seed})"
        return f"Estimated with {len(self.directions)} random features{seed}; the error says how far from softmax."

    def query_exponents(self, query: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head query feature"]:
        """w q; -|q|² / 2 would be one factor for the whole row."""
        return (query * scale**0.5) @ self.directions.to(query.dtype).T

    def key_exponents(self, key: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head key feature"]:
        """w k - |k|² / 2."""
        key = key * scale**0.5
        return key @ self.directions.to(key.dtype).T - key.square().sum(-1, keepdim=True) / 2

    def error(self, call: AttentionCall) -> Error:
        """How far this call is from softmax attention of the same query, key and value."""
        return softmax_error(call)


def scale_of(call: AttentionCall, heads: list[int]) -> float | Tensor:
    """The scale of the requested heads, one number or [head 1 1]."""
    return call.scale[heads, None, None] if isinstance(call.scale, Tensor) else call.scale


def lift_keys(exponents: Tensor, top: Tensor) -> Tensor:
    """exp(exponents - top), 0 at -inf. Far below the top a floor holds, so that no open key is ever lost to rounding.

    Without a floor a causal row whose few keys all lie far below a later one would be 0 / 0.
    """
    floor = 0.45 * math.log(torch.finfo(exponents.dtype).tiny)  # squares, as in gradients of a ratio, stay normal
    return (exponents - top).clamp(min=floor).masked_fill(exponents == float("-inf"), float("-inf")).exp()


def lift_queries(exponents: Tensor, top: Tensor) -> Tensor:
    """exp(exponents + top), divided by the largest of each query."""
    exponents = exponents + top
    return (exponents - exponents.detach().amax(-1, keepdim=True)).exp()


def with_one(value: Tensor) -> Tensor:
    """Values and a last column of ones, which sums up the weights."""
    return F.pad(value, (0, 1), value=1.0)


def ratio(sums: Tensor, total: Tensor) -> Tensor:
    """sums / total; 0 where there was nothing to sum up."""
    return sums / total.masked_fill(total == 0, 1)


def causal_sums(
    query: Float[Tensor, "*batch head query feature"],
    key: Float[Tensor, "*batch head key feature"],
    value: Float[Tensor, "*batch head key summed"],
    before: Tensor | None = None,
) -> tuple[Float[Tensor, "*batch head query summed"], Float[Tensor, "*batch head feature summed"]]:
    """For each query, query @ the sum of keyᵀ value over all keys up to its own (bottom-right), and the last sum.

    `before` is the sum of a past. Tokens go by chunks: inside one a small triangle, before it the sum so far.
    """
    lead = key.shape[-2] - query.shape[-2]
    first, blind = max(lead, 0), max(-lead, 0)  # keys every query sees; queries that see no key
    state = key[..., :first, :].transpose(-1, -2) @ value[..., :first, :]
    state = state if before is None else state + before
    found = [torch.zeros_like(query[..., :blind, :]) @ state]
    for start in range(0, query.shape[-2] - blind, CHUNK):
        q = query[..., blind + start : blind + start + CHUNK, :]
        k, v = (tensor[..., first + start : first + start + CHUNK, :] for tensor in (key, value))
        found.append(q @ state + (q @ k.transpose(-1, -2)).tril() @ v)
        state = state + k.transpose(-1, -2) @ v
    return torch.cat(found, -2), state


def finite(top: Tensor) -> Tensor:
    """0 where there was no key to take the largest of."""
    return top.masked_fill(top == float("-inf"), 0)


def softmax_error(call: AttentionCall) -> Error:
    """How far the map and the output of a call are from softmax attention of the same query, key and value.

    Row blocks, so memory stays linear in tokens; 0 where softmax has nothing to attend to.
    """
    exact = replace(call, rule=Softmax(), gate=None)
    plain = replace(call, gate=None)
    wrong, whole = [], []
    for rows in call.blocks():
        softmax = exact.token_map(rows=rows)
        wrong.append((plain.token_map(rows=rows) - softmax).square().sum((-1, -2)))
        whole.append(softmax.square().sum((-1, -2)))
    wanted = exact.rule.mix(exact)
    output = (plain.rule.mix(plain) - wanted).square().sum((-1, -2)) / above_zero(wanted.square().sum((-1, -2)))
    shares = torch.stack(wrong).sum(0) / above_zero(torch.stack(whole).sum(0))
    return Error(shares.sqrt(), output.sqrt())


def above_zero(number: Tensor) -> Tensor:
    """The number, or the smallest positive one, to divide by."""
    return number.clamp(min=torch.finfo(number.dtype).tiny)


def orthogonal_directions(count: int, dim: int, random: torch.Generator) -> Float[Tensor, "feature dim"]:
    """Normal random vectors that are at right angles to each other, dim of them at a time, in float64.

    Each block is a random rotation; the lengths are those of independent normal vectors (Choromanski et al. 2021,
    section 2.4), so that each direction alone is distributed as before.
    """
    blocks = []
    for _ in range(-(-count // dim)):
        rotation, triangle = torch.linalg.qr(torch.randn(dim, dim, generator=random, dtype=torch.float64))
        blocks.append(rotation * triangle.diagonal().sign())  # makes the rotations uniformly distributed
    lengths = torch.randn(count, dim, generator=random, dtype=torch.float64).norm(dim=-1, keepdim=True)
    return torch.cat(blocks)[:count] * lengths
