"""Axial attention: along the columns of an image and then along its rows; two cheap steps reach every patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.positions.relative import (
    KeyOffsetBias,
    Offsets,
    QueryOffsetBias,
    check_grid,
    offset_table,
    patch_coordinates,
)
from attnviz.attention.rules.groups import GroupPacking, packing_of, pair_biases
from attnviz.attention.rules.softmax import Softmax, at_least_float32, full_precision, select
from attnviz.attention.variants.base import Cost, Variant, check_lengths, split_heads
from attnviz.edits import HeadAblation
from attnviz.types import AttentionCall, Bias, Mask, NamedMap, Stage, Tokens, UnsupportedMask

AXES = ("columns", "rows")  # the order of the two steps


@dataclass(frozen=True, eq=False)
class OffsetValues(Softmax):
    """Softmax weights over values plus a vector for their offset: y_o = sum_p A_op (v_p + r_(p - o))."""

    exact: bool = False
    caveat: str = (
        "Each patch receives values plus learned vectors for their relative position; the map holds the weights of "
        "these sums, so map times value alone is not the output."
    )
    offsets: Offsets = field(kw_only=True)

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """[*batch head query value_dim], by column or row: the fused kernel cannot add a vector for each pair."""
        packing = packing_of(call.mask, call.query.device)
        if packing is None or packing.padding is not None:
            raise ValueError(f"{call.name}: relative positions of values need columns or rows of equal length")
        weights = weights_within_groups(call, packing)
        value = at_least_float32(packing.pack_keys(call.value))
        vectors = self.offsets.table[self.offsets.between(packing.queries[0], packing.keys[0])]  # equal in all groups
        output = weights @ value + torch.einsum("...qk,qkd->...qd", weights, vectors.to(weights.dtype))
        return call.gated(packing.unpack(output).to(call.value.dtype))

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d weights = (d y / d output * gate) (value + offset vector)ᵀ; masked entries are 0."""
        d_rows = select(call.gated(d_output), heads, rows)
        by_offset = d_rows @ self.offsets.table.to(d_rows.dtype).T  # [*batch head row offset]
        queries = torch.as_tensor(rows, device=d_rows.device)
        index = self.offsets.between(queries, torch.arange(call.key.shape[-2], device=d_rows.device))
        of_pairs = by_offset.take_along_dim(index.expand(*by_offset.shape[:-2], *index.shape), -1)
        return super().map_gradient(call, d_output, heads, rows) + call.masked(of_pairs, heads, rows, 0)


@dataclass(frozen=True, eq=False)
class SummedAxes(Softmax):
    """Two calls concatenated by head: the first half of the heads attends along columns, the second along rows."""

    rules: tuple[Softmax, ...] = field(kw_only=True)
    biases: tuple[tuple[tuple[str, Bias], ...], ...] = field(kw_only=True)

    def part(self, call: AttentionCall, axis: int) -> AttentionCall:
        """The call along columns (0) or along rows (1)."""
        count = call.heads // 2
        part = slice(axis * count, (axis + 1) * count)
        fields: dict[str, Any] = {n: getattr(call, n)[..., part, :, :] for n in ("query", "key", "value")}
        fields["gate"] = None if call.gate is None else call.gate[..., part, :, :]
        if call.mask is not None and call.mask.groups is not None:
            query_ids, key_ids = (ids[axis * count] for ids in call.mask.groups)
            fields["mask"] = replace(call.mask, groups=(query_ids, key_ids))
        fields |= {"rule": self.rules[axis], "biases": self.biases[axis], "projection": None, "output": None}
        return replace(call, **fields)

    def by_axis(
        self, call: AttentionCall, heads: Iterable[int], compute: Callable[[int, AttentionCall, list[int]], Tensor]
    ) -> Tensor:
        """compute(axis, call along it, head in that call) for each head, concatenated."""
        parts, count = [self.part(call, axis) for axis in (0, 1)], call.heads // 2
        axes = [divmod(head, count) for head in heads]
        return torch.cat([compute(axis, parts[axis], [head]) for axis, head in axes], -3)

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]."""
        return self.by_axis(call, heads, lambda _, part, chosen: part.scores(chosen, rows, stage))

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        return self.by_axis(call, heads, lambda _, part, chosen: part.weights(chosen, rows))

    def mix(self, call: AttentionCall) -> Tensor:
        """[*batch head query value_dim]: the heads along columns, then those along rows."""
        return torch.cat([part.rule.mix(part) for part in (self.part(call, 0), self.part(call, 1))], -3)

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        d_outputs = d_output.chunk(2, -3)
        return self.by_axis(call, heads, lambda axis, part, chosen: part.map_gradient(d_outputs[axis], chosen, rows))

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One map for each axis."""
        parts = (self.part(call, 0), self.part(call, 1))
        return {f"along {axis}": part.maps()["weights"] for axis, part in zip(AXES, parts, strict=True)}


class AxisProjection(nn.Module):
    """The parameters of one axis: projections and, optionally, a table of offset vectors for each position term."""

    def __init__(self, width: int, dim: int, length: int, terms: Sequence[str], bias: bool):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=bias) for _ in range(4))
        self.tables = nn.ParameterDict({term: offset_table(length, dim) for term in terms})


class Axial(Variant):
    """Each patch attends to its column, and the result then attends along its row.

    Axial-DeepLab (Wang et al. 2020, section 3.2): height first, then width, each step with its own projections.
    `mode="sum"` adds the two instead, both reading the input. `terms` chooses the position terms of their eq. 4: "q"
    (query with offset), "k" (key with offset), "v" (value plus offset). The paper applies batch norm to the three terms
    of the scores; here all are divided by the root of the head dimension, so images do not influence each other.
    """

    title = "Axial attention"
    paper = "Wang et al. 2020, arXiv 2003.07853"
    formula = r"y_o = \sum_{p \in \mathrm{line}(o)} \mathrm{softmax}_p\!\left(q_o \cdot k_p / \sqrt{d_h}\right) v_p"
    meaning = (
        "Two maps: the weights of a patch over its column, then over its row. Their product shows which patches can "
        "reach a patch through both steps; it leaves out the projection between them."
    )
    rule = Softmax()
    supported_masks = frozenset({"key_padding"})
    requirements = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        terms: Sequence[str] = (),
        mode: str = "chain",
        bias: bool = True,
    ):
        super().__init__(width, heads, tokens=tokens)
        if wrong := set(terms) - set("qkv"):
            raise ValueError(f"position terms are {', '.join(sorted(wrong))}; known: q, k, v")
        if mode not in ("chain", "sum"):
            raise ValueError(f"mode is {mode!r}; known: chain, sum")
        if terms and (tokens is None or tokens.grid is None):
            raise ValueError(f"{self.title}: position terms are built for a grid; name it: tokens=Tokens.patches(...)")
        self.mode, self.terms = mode, tuple(terms)
        rows, columns = tokens.grid if tokens is not None and tokens.grid is not None else (1, 1)
        self.along_columns = AxisProjection(width, self.dim, rows, self.terms, bias)
        along_rows = AxisProjection(width, self.dim, columns, self.terms, bias)  # under the names of all variants
        self.query, self.key, self.value, self.out = along_rows.query, along_rows.key, along_rows.value, along_rows.out
        self.tables = along_rows.tables

    def check(self, mask: Mask | None, cross: bool, queries: Tokens, keys: Tokens) -> None:
        """Refuse also a grid larger than the tables, if there are any."""
        super().check(mask, cross, queries, keys)
        if self.terms:
            check_grid(self.title, self.built_for, queries)

    def forward(
        self,
        x: Float[Tensor, "*batch query feature"],
        context: Float[Tensor, "*batch key feature"] | None = None,
        *,
        queries: Tokens,
        keys: Tokens | None = None,
        mask: Mask | None = None,
        name: str = "attention",
        layer: int = 0,
        branch: int = 0,
        ablation: HeadAblation | None = None,
        positions: str = "own",
    ) -> tuple[Float[Tensor, "*wider query feature"], tuple[AttentionCall, ...]]:
        """The new features and two calls of one branch, columns then rows; where they are added, one call of both."""
        keys = queries if keys is None else keys
        self.check(mask, context is not None, queries, keys)
        check_lengths(x, queries, x, keys)
        if ablation is not None and ablation.means is not None:
            raise UnsupportedMask(self.title, "its heads mix along two axes in turn: no mean stands for one")
        named = {"queries": queries, "keys": keys, "layer": layer, "branch": branch}
        steps = (self.along_columns, self)
        if self.mode == "sum":
            fields = [self.fields(step, x, queries, mask, i) for i, step in enumerate(steps)]
            gate = None if ablation is None else self.ablation_gate(ablation, x)
            call = sum_axes(fields, gate, name=name, **named)
            mixed = call.output.transpose(-3, -2).flatten(-2).split(self.width, -1)  # type: ignore[union-attr]
            return self.along_columns.out(mixed[0]) + self.out(mixed[1]), (call,)
        calls = []
        for i, step in enumerate(steps):
            fields = self.fields(step, x, queries, mask, i)
            if ablation is not None:
                fields["gate"] = self.ablation_gate(ablation, x)
            call = AttentionCall(**fields, **named, name=f"{name}, along {AXES[i]}")
            call = replace(call, output=call.rule.mix(call))
            calls.append(call)
            x = step.out(call.output.transpose(-3, -2).flatten(-2))  # type: ignore[union-attr]
        return x, tuple(calls)

    @property
    def output_bias(self) -> Float[Tensor, " feature"] | None:
        """The bias of the second step, or of both where they are added."""
        first, second = self.along_columns.out.bias, self.out.bias
        return first + second if self.mode == "sum" and second is not None else second

    def fields(
        self, step: AxisProjection | Axial, x: Tensor, queries: Tokens, mask: Mask | None, axis: int
    ) -> dict[str, Any]:
        """The fields of the call along columns (0) or rows (1)."""
        row, column = patch_coordinates(queries, x.device)
        coordinate, group = (row, column) if axis == 0 else (column, row)
        biases, rule = [], self.rule
        for term, title, bias in (("q", "query and offset", QueryOffsetBias), ("k", "key and offset", KeyOffsetBias)):
            if term in self.terms:
                biases.append((title, bias(Offsets(step.tables[term], coordinate))))
        if "v" in self.terms:
            rule = OffsetValues(offsets=Offsets(step.tables["v"], coordinate))
        projected = {n: split_heads(getattr(step, n)(x), self.heads) for n in ("query", "key", "value")}
        return projected | {
            "rule": rule,
            "scale": self.dim**-0.5,
            "biases": tuple(biases),
            "mask": Mask(groups=(group, group)) & mask,
            "projection": step.out.weight.T.unflatten(0, (self.heads, -1)),
        }

    def cost(self, n_q: int, n_k: int) -> Cost:
        """8 d² parameters; 8 n d² + 2 n (H + W) d multiply-adds, and n (H + W) d more for each position term.

        H x W is the grid it was built for, or the most nearly square one of as many tokens.
        """
        grid = self.built_for.grid if self.built_for is not None and self.built_for.grid else squarest(n_q)
        rows, columns = grid if grid[0] * grid[1] == n_q else squarest(n_q)
        d, reach = self.width, rows + columns
        tables = sum(t.numel() for m in (self.tables, self.along_columns.tables) for t in m.values())
        return Cost(
            parameters=8 * d * d + tables + (0 if self.out.bias is None else 8 * d),
            multiply_adds=8 * n_q * d * d + (2 + len(self.terms)) * n_q * reach * d,
            map_bytes=4 * self.heads * n_q * reach,
            state_bytes=0,  # nothing is decoded token by token
        )


def weights_within_groups(
    call: AttentionCall, packing: GroupPacking
) -> Float[Tensor, "*batch group head member key_member"]:
    """Softmax weights within each group, without the zeros outside; a row without an allowed key is zero."""
    query, key = (at_least_float32(t) for t in (packing.pack_queries(call.query), packing.pack_keys(call.key)))
    scores = query @ key.transpose(-1, -2) * call.scale_of(list(range(call.heads)))
    for bias in pair_biases(call.biases) or ():
        scores = scores + bias.within_groups(call, packing.queries, packing.keys).to(scores.dtype)
    allowed = packing.allowed(call, [], scores.dtype)
    if allowed is None:
        return scores.softmax(-1)
    empty = ~allowed.any(-1, keepdim=True)
    return scores.masked_fill(~allowed, float("-inf")).masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)


def sum_axes(fields: list[dict[str, Any]], gate: Tensor | None, **named: Any) -> AttentionCall:
    """Both axes as one call with the heads of both, and the mask of each in the groups of its heads."""
    first, second = fields
    heads = first["query"].shape[-3]
    joint = {n: torch.cat([first[n], second[n]], -3) for n in ("query", "key", "value", "projection")}
    groups = torch.stack([f["mask"].groups[0] for f in fields]).repeat_interleave(heads, 0)  # [head token]
    rules = (first["rule"], second["rule"])
    rule = SummedAxes(
        exact=all(r.exact for r in rules),
        caveat=rules[0].caveat,
        rules=rules,
        biases=(first["biases"], second["biases"]),
    )
    gate = None if gate is None else torch.cat([gate, gate], -3)
    mask = replace(first["mask"], groups=(groups, groups))
    call = AttentionCall(**joint, **named, rule=rule, scale=first["scale"], mask=mask, gate=gate)
    return replace(call, output=rule.mix(call))


def squarest(count: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square grid of so many patches."""
    rows = next(r for r in range(int(count**0.5), 0, -1) if count % r == 0)
    return rows, count // rows
