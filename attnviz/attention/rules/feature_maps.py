"""Linear attention by feature maps: weights = phi(query) phi(key)ᵀ, each row divided by its sum.

Because phi(Q) (phi(K)ᵀ V) needs no token-to-token array, memory and time grow with the tokens, not with their square.
To add a feature map: a rule with its exponents, and a variant that uses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnviz.attention.rules.softmax import Softmax, at_least_float32, expand_kv, full_precision
from attnviz.attention.variants.projections import refuse_unsupported
from attnviz.types import AttentionCall, MapType, NamedMap, NoTokenMap, Stage

CHUNK = 64  # tokens by which causal prefix sums advance at a time


class State(NamedTuple):
    """The recurrent state: all that the next token needs of the past, of a size that does not grow with it."""

    sums: Tensor  # [*batch head feature value_dim+1]: phi(key)ᵀ [value, 1], relative to exp(top)
    top: Tensor  # [*batch head 1 feature]: the largest exponents so far; one 0 where sums need no reference


class Error(NamedTuple):
    """How far an approximation is from softmax attention: relative Frobenius errors [*batch head]."""

    map: Tensor
    output: Tensor


class FeatureMap:
    """The weights of a query are products of features, divided by their sum over the keys.

    Features are computed as exponents, phi = exp(exponent). A factor for each query cancels in the row sum, and a
    factor for each feature may move from keys to queries: both are used to keep the largest features at 1.
    """

    map_type: MapType = "effective"
    axes: tuple[str, ...] = ("head", "query", "key")
    stochastic: bool = True
    exact: bool = True
    title = "Linear attention by feature maps"

    @property
    def caveat(self) -> str:
        """Printed beside the map."""
        return "Computed from the features of queries and keys for display: the layer itself never forms this matrix."

    def query_exponents(self, query: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head query feature"]:
        """log phi(query), up to an additive constant for each query."""
        raise NotImplementedError

    def key_exponents(self, key: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head key feature"]:
        """log phi(key)."""
        raise NotImplementedError

    def top(self, exponents: Float[Tensor, "*batch head key feature"]) -> Tensor:
        """The largest exponent of each feature over the keys [*batch head 1 feature]; -inf if every key is masked."""
        return exponents.detach().amax(-2, keepdim=True)

    def features(self, call: AttentionCall, heads: list[int], rows: list[int] | None = None) -> tuple[Tensor, Tensor]:
        """phi(query) of the rows and phi(key) of all keys, which is 0 for masked keys."""
        refuse_unsupported(call, self.title, {"key_padding", "causal"})
        query = at_least_float32(call.query[..., heads, :, :])
        query = query if rows is None else query[..., rows, :]
        scale = call.scale_of(heads)
        exponents = self.key_exponents(at_least_float32(expand_kv(call.key, call, heads)), scale)
        if call.mask is not None and call.mask.key_padding is not None:
            exponents = exponents.masked_fill(~call.mask.key_padding[..., None, :, None], float("-inf"))
        top = replace_infinite(self.top(exponents))
        return query_features(self.query_exponents(query, scale), top), key_features(exponents, top)

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """Raises NoTokenMap: there is no softmax and so no scores before one."""
        raise NoTokenMap("it multiplies features of query and key, so there are no scores before a softmax")

    @full_precision
    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]; a row without an allowed key is zero."""
        query, key = self.features(call, heads, rows)
        weights = call.masked(query @ key.transpose(-1, -2), heads, rows, 0)
        return divide(weights, weights.sum(-1, keepdim=True))

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """The weights themselves."""
        return self.weights(call, heads, rows)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One map, computed for display: the row-normalised products of features."""
        return {"effective map": NamedMap(call.weights(), self.axes, self.map_type, self.stochastic)}

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value) [*batch head query value_dim], without weights."""
        heads = list(range(call.heads))
        query, key = self.features(call, heads)
        value = append_ones(at_least_float32(expand_kv(call.value, call, heads)))
        if call.mask is not None and call.mask.causal:
            sums, _ = causal_sums(query, key, value)
        else:
            sums = query @ (key.transpose(-1, -2) @ value)
        return call.gated(divide(sums[..., :-1], sums[..., -1:]).to(call.value.dtype))

    @full_precision
    def advance(self, call: AttentionCall, past: State | None) -> tuple[Tensor, State]:
        """Output of new tokens after a past, and the new state. `call` holds the new tokens alone, without a mask."""
        heads = list(range(call.heads))
        query = self.query_exponents(at_least_float32(call.query), call.scale_of(heads))
        key = self.key_exponents(at_least_float32(expand_kv(call.key, call, heads)), call.scale_of(heads))
        top, before = self.top(key), None
        if past is not None:
            top = torch.maximum(top, past.top)
            before = past.sums * key_features(past.top, top).transpose(-1, -2)
        value = append_ones(at_least_float32(expand_kv(call.value, call, heads)))
        sums, after = causal_sums(query_features(query, top), key_features(key, top), value, before)
        return call.gated(divide(sums[..., :-1], sums[..., -1:]).to(call.value.dtype)), State(after, top)

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d weights = (d y / d output * gate) valueᵀ, as for softmax; masked entries are 0."""
        return Softmax().map_gradient(call, d_output, heads, rows)


@dataclass(frozen=True)
class EluFeatures(FeatureMap):
    """phi(x) = elu(x) + 1: 1 + x above zero, exp(x) below (Katharopoulos et al. 2020, eq. 7)."""

    title = "Linear attention"

    def query_exponents(self, query: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head query feature"]:
        """log(elu + 1); no scale enters the formula."""
        return torch.where(query > 0, query.clamp(min=0).log1p(), query)

    def key_exponents(self, key: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head key feature"]:
        """log(elu + 1)."""
        return self.query_exponents(key, scale)

    def top(self, exponents: Float[Tensor, "*batch head key feature"]) -> Tensor:
        """elu + 1 grows only as x does and needs no reference."""
        return exponents.new_zeros(1, 1)


@dataclass(frozen=True, eq=False)
class RandomFeatures(FeatureMap):
    """phi(x) = exp(w x - |x|² / 2) for random directions w, so that phi(q) phi(k) is exp(q k) in expectation.

    Choromanski et al. 2021, lemma 1: query and key are each multiplied by the root of the scale.

    Its causal form has a limit. Features are scaled by the largest of the whole sequence, so one that is smaller by
    more than the floor of `key_features` (e^39 in float32, e^318 in float64) is raised to that floor: a far larger
    feature of a later token then changes earlier rows a little. Decoding token by token (`advance`) scales by the
    largest so far and has no such leak.
    """

    directions: Float[Tensor, "feature dim"]
    seed: int | None = None
    title = "Performer"

    @property
    def caveat(self) -> str:
        """Printed beside the map."""
        seed = "" if self.seed is None else f" (seed {self.seed})"
        return f"Estimated with {len(self.directions)} random features{seed}; the error compares it with softmax."

    def query_exponents(self, query: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head query feature"]:
        """w q; -|q|² / 2 is a constant for the whole row."""
        return (query * scale**0.5) @ self.directions.to(query.dtype).T

    def key_exponents(self, key: Tensor, scale: float | Tensor) -> Float[Tensor, "*batch head key feature"]:
        """w k - |k|² / 2."""
        key = key * scale**0.5
        return key @ self.directions.to(key.dtype).T - key.square().sum(-1, keepdim=True) / 2

    def error(self, call: AttentionCall) -> Error:
        """How far this call is from softmax attention of the same query, key and value."""
        return softmax_error(call)


def key_features(exponents: Tensor, top: Tensor) -> Tensor:
    """exp(exponents - top), 0 at -inf, with a floor far below the top so that no unmasked key underflows to zero.

    Without the floor a causal row whose few keys are all far smaller than a later one would be 0 / 0.
    """
    floor = 0.45 * math.log(torch.finfo(exponents.dtype).tiny)  # squares, as in gradients of a ratio, stay normal
    return (exponents - top).clamp(min=floor).masked_fill(exponents == float("-inf"), float("-inf")).exp()


def query_features(exponents: Tensor, top: Tensor) -> Tensor:
    """exp(exponents + top), divided by the largest feature of each query."""
    exponents = exponents + top
    return (exponents - exponents.detach().amax(-1, keepdim=True)).exp()


def append_ones(value: Tensor) -> Tensor:
    """Values with a last column of ones, whose output is the sum of the weights."""
    return F.pad(value, (0, 1), value=1.0)


def divide(sums: Tensor, total: Tensor) -> Tensor:
    """sums / total; 0 where the total is 0."""
    return sums / total.masked_fill(total == 0, 1)


def causal_sums(
    query: Float[Tensor, "*#batch head query feature"],
    key: Float[Tensor, "*#batch head key feature"],
    value: Float[Tensor, "*#batch head key summed"],
    before: Tensor | None = None,
) -> tuple[Float[Tensor, "*#batch head query summed"], Float[Tensor, "*#batch head feature summed"]]:
    """For each query, query @ the sum of keyᵀ value over all keys up to its own (bottom-right), and the last sum.

    `before` is the sum of a past. Tokens come in chunks: within one a small triangle, before it the sum so far. Leading
    axes broadcast: of tokens removed in many ways, the first layer's keys alone have one.
    """
    lead = key.shape[-2] - query.shape[-2]
    first, empty = max(lead, 0), max(-lead, 0)  # keys that every query attends to; queries without a key
    state = key[..., :first, :].transpose(-1, -2) @ value[..., :first, :]
    state = state if before is None else state + before
    outputs = [torch.zeros_like(query[..., :empty, :]) @ state]
    for start in range(0, query.shape[-2] - empty, CHUNK):
        q = query[..., empty + start : empty + start + CHUNK, :]
        k, v = (tensor[..., first + start : first + start + CHUNK, :] for tensor in (key, value))
        outputs.append(q @ state + (q @ k.transpose(-1, -2)).tril() @ v)
        state = state + k.transpose(-1, -2) @ v
    return torch.cat(outputs, -2), state


def replace_infinite(top: Tensor) -> Tensor:
    """The largest exponents, with 0 where every key is masked."""
    return top.masked_fill(top == float("-inf"), 0)


def softmax_error(call: AttentionCall) -> Error:
    """How far the map and the output of a call are from softmax attention of the same query, key and value.

    By row blocks, so memory stays linear in tokens; 0 where every key is masked.
    """
    exact = replace(call, rule=Softmax(), gate=None)
    plain = replace(call, gate=None)
    errors, sizes = [], []
    for rows in call.blocks():
        softmax = exact.token_map(rows=rows)
        errors.append((plain.token_map(rows=rows) - softmax).square().sum((-1, -2)))
        sizes.append(softmax.square().sum((-1, -2)))
    of_map = torch.stack(errors).sum(0) / clamp_positive(torch.stack(sizes).sum(0))
    expected = exact.rule.mix(exact)
    of_output = (plain.rule.mix(plain) - expected).square().sum((-1, -2)) / clamp_positive(
        expected.square().sum((-1, -2))
    )
    return Error(of_map.sqrt(), of_output.sqrt())


def clamp_positive(number: Tensor) -> Tensor:
    """A divisor of at least the smallest positive number of its precision."""
    return number.clamp(min=torch.finfo(number.dtype).tiny)


def orthogonal_directions(count: int, dim: int, random: torch.Generator) -> Float[Tensor, "feature dim"]:
    """Normal random vectors, orthogonal to each other in blocks of dim, in float64.

    Each block is a random rotation; the lengths are those of independent normal vectors (Choromanski et al. 2021,
    section 2.4), so that each direction alone is distributed as before.
    """
    blocks = []
    for _ in range(-(-count // dim)):
        rotation, triangle = torch.linalg.qr(torch.randn(dim, dim, generator=random, dtype=torch.float64))
        blocks.append(rotation * triangle.diagonal().sign())  # makes the rotations uniformly distributed
    lengths = torch.randn(count, dim, generator=random, dtype=torch.float64).norm(dim=-1, keepdim=True)
    return torch.cat(blocks)[:count] * lengths
