"""Attention along the columns of a picture and then along its rows: two cheap steps reach every patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.positions.relative import KeyTerm, Offsets, QueryTerm, check_grid, offset_table, places
from attnviz.attention.rules.groups import GroupPacking, fold_of, pair_biases
from attnviz.attention.rules.softmax import Softmax, at_least_float32, full_precision
from attnviz.attention.variants.base import Cost, Variant, check_lengths, split_heads
from attnviz.types import AttentionCall, Bias, Mask, NamedMap, Stage, Tokens

AXES = ("columns", "rows")  # the order of the two steps


@dataclass(frozen=True, eq=False)
class ValueTerm(Softmax):
    """Softmax weights over values that also carry a vector for their offset: y_o = sum_p A_op (v_p + r_(p - o))."""

    exact: bool = False
    caveat: str = (
        "What a patch receives is each value plus a vector for how far away it lies; the map shows the weights of "
        "those sums, and multiplied with the values alone it does not give the output."
    )
    offsets: Offsets = field(kw_only=True)

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """[*batch head query value_dim], line by line: the kernel cannot add a vector for each pair."""
        fold = fold_of(call.mask, call.query.device)
        if fold is None or fold.padding is not None:
            raise ValueError(f"{call.name}: position vectors of values need lines of equal length")
        shares = inside(call, fold)
        value = at_least_float32(fold.key(call.value))
        vectors = self.offsets.table[self.offsets.between(fold.queries[0], fold.keys[0])]  # every line is the same
        output = shares @ value + torch.einsum("...qk,qkd->...qd", shares, vectors.to(shares.dtype))
        output = fold.unfold(output).to(call.value.dtype)
        return output if call.gate is None else call.gate * output

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d weights = (d y / d output * gate) (value + offset vector)ᵀ; masked entries are 0."""
        content = super().map_gradient(call, d_output, heads, rows)
        if call.gate is not None:
            d_output = d_output * call.gate
        d_rows = at_least_float32(d_output[..., heads, :, :][..., rows, :])
        by_offset = d_rows @ self.offsets.table.to(d_rows.dtype).T  # [*batch head row offset]
        queries = torch.as_tensor(rows, device=d_rows.device)
        index = self.offsets.between(queries, torch.arange(call.key.shape[-2], device=d_rows.device))
        moved = by_offset.take_along_dim(index.expand(*by_offset.shape[:-2], *index.shape), -1)
        if call.mask is not None:
            keep = call.mask.rows(heads, rows, call.query.shape[-2], call.key.shape[-2], moved.device)
            moved = moved.masked_fill(~keep, 0)
        return content + moved


@dataclass(frozen=True, eq=False)
class SummedAxes(Softmax):
    """Two calls side by side as one: the first half of the heads looks along columns, the second along rows."""

    rules: tuple[Softmax, ...] = field(kw_only=True)
    biases: tuple[tuple[tuple[str, Bias], ...], ...] = field(kw_only=True)

    def half(self, call: AttentionCall, which: int) -> AttentionCall:
        """The call along columns (0) or along rows (1)."""
        count = call.heads // 2
        part = slice(which * count, (which + 1) * count)
        fields: dict[str, Any] = {n: getattr(call, n)[..., part, :, :] for n in ("query", "key", "value")}
        fields["gate"] = None if call.gate is None else call.gate[..., part, :, :]
        if call.mask is not None and call.mask.groups is not None:
            mine, theirs = (ids[which * count] for ids in call.mask.groups)
            fields["mask"] = replace(call.mask, groups=(mine, theirs))
        fields |= {"rule": self.rules[which], "biases": self.biases[which], "projection": None, "output": None}
        return replace(call, **fields)

    def each(
        self, call: AttentionCall, heads: Iterable[int], ask: Callable[[AttentionCall, list[int]], Tensor]
    ) -> Tensor:
        """What each of the heads answers, asked of its own half."""
        halves, count = [self.half(call, which) for which in (0, 1)], call.heads // 2
        return torch.cat([ask(halves[head // count], [head % count]) for head in heads], -3)

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]."""
        return self.each(call, heads, lambda half, mine: half.scores(mine, rows, stage))

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        return self.each(call, heads, lambda half, mine: half.weights(mine, rows))

    def mix(self, call: AttentionCall) -> Tensor:
        """[*batch head query value_dim]: both halves, one after the other."""
        return torch.cat([half.rule.mix(half) for half in (self.half(call, 0), self.half(call, 1))], -3)

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        parts = d_output.chunk(2, -3)
        which = {id(rule): part for rule, part in zip(self.rules, parts, strict=True)}
        return self.each(call, heads, lambda half, mine: half.map_gradient(which[id(half.rule)], mine, rows))

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One map a direction."""
        halves = (self.half(call, 0), self.half(call, 1))
        return {f"along {n}": h.maps()["weights"] for n, h in zip(AXES, halves, strict=True)}


class AxisProjection(nn.Module):
    """The parameters of one direction: projections and, if asked, a table of offset vectors for each position term."""

    def __init__(self, width: int, dim: int, length: int, terms: Sequence[str], bias: bool):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=bias) for _ in range(4))
        self.tables = nn.ParameterDict({term: offset_table(length, dim) for term in terms})


class Axial(Variant):
    """Each patch looks up and down its column, and what it gathered is then passed along its row.

    Axial-DeepLab (Wang et al. 2020, section 3.2): height first, then width, each step with projections of its own.
    `mode="sum"` adds the two instead, both reading the input. `terms` chooses the position terms of their eq. 4: "q"
    (query with offset), "k" (key with offset), "v" (value plus offset). The paper normalises the three kinds of scores
    by batch norm; here they are all divided by the root of the head dimension, so pictures do not influence each other.
    """

    title = "Axial attention"
    paper = "Wang et al. 2020, arXiv 2003.07853"
    formula = r"y_o = \sum_{p \in \mathrm{line}(o)} \mathrm{softmax}_p\!\left(q_o \cdot k_p / \sqrt{d_h}\right) v_p"
    meaning = (
        "Two maps: how a patch shares out its attention over its column, then over its row. Multiplied, they say from "
        "where in the picture a patch can have drawn; the projection between the two steps is left out of that product."
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
            raise ValueError(f"{self.title}: position terms are made for a grid; name it: tokens=Tokens.patches(...)")
        self.mode, self.terms = mode, tuple(terms)
        rows, columns = tokens.grid if tokens is not None and tokens.grid is not None else (1, 1)
        self.along_columns = AxisProjection(width, self.dim, rows, self.terms, bias)
        along_rows = AxisProjection(width, self.dim, columns, self.terms, bias)  # under the names every variant uses
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
        ablated_heads: Sequence[int] = (),
        positions: str = "own",
    ) -> tuple[Float[Tensor, "*wider query feature"], tuple[AttentionCall, ...]]:
        """The new features and two calls of one branch, columns then rows; where they are added, one call of both."""
        keys = queries if keys is None else keys
        self.check(mask, context is not None, queries, keys)
        check_lengths(x, queries, x, keys)
        named = {"queries": queries, "keys": keys, "layer": layer, "branch": branch}
        steps = (self.along_columns, self)
        if self.mode == "sum":
            fields = [self.fields(step, x, queries, mask, i) for i, step in enumerate(steps)]
            call = summed(fields, self.ablation_gate(ablated_heads, x) if ablated_heads else None, name=name, **named)
            mixed = call.output.transpose(-3, -2).flatten(-2).split(self.width, -1)  # type: ignore[union-attr]
            return self.along_columns.out(mixed[0]) + self.out(mixed[1]), (call,)
        calls = []
        for i, step in enumerate(steps):
            fields = self.fields(step, x, queries, mask, i)
            if ablated_heads:
                fields["gate"] = self.ablation_gate(ablated_heads, x)
            call = AttentionCall(**fields, **named, name=f"{name}, along {AXES[i]}")
            call = replace(call, output=call.rule.mix(call))
            calls.append(call)
            x = step.out(call.output.transpose(-3, -2).flatten(-2))  # type: ignore[union-attr]
        return x, tuple(calls)

    def fields(
        self, step: AxisProjection | Axial, x: Tensor, queries: Tokens, mask: Mask | None, which: int
    ) -> dict[str, Any]:
        """The fields of one direction's call: columns (0) or rows (1)."""
        row, column = places(queries, x.device)
        place, line = (row, column) if which == 0 else (column, row)
        biases, rule = [], self.rule
        for term, title, made in (("q", "query and offset", QueryTerm), ("k", "key and offset", KeyTerm)):
            if term in self.terms:
                biases.append((title, made(Offsets(step.tables[term], place))))
        if "v" in self.terms:
            rule = ValueTerm(offsets=Offsets(step.tables["v"], place))
        projected = {n: split_heads(getattr(step, n)(x), self.heads) for n in ("query", "key", "value")}
        return projected | {
            "rule": rule,
            "scale": self.dim**-0.5,
            "biases": tuple(biases),
            "mask": Mask(groups=(line, line)) & mask,
            "projection": step.out.weight.T.unflatten(0, (self.heads, -1)),
        }

    def cost(self, n_q: int, n_k: int) -> Cost:
        """8 d² parameters; 8 n d² + 2 n (H + W) d multiply-adds, and n (H + W) d more for each position term.

        H x W is the grid it was made for, or the squarest one of as many tokens.
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


def inside(call: AttentionCall, fold: GroupPacking) -> Float[Tensor, "*batch group head member key_member"]:
    """Softmax weights inside each group, without the zeros outside; a row with nothing to attend to is zero."""
    query, key = (at_least_float32(t) for t in (fold.query(call.query), fold.key(call.key)))
    scores = query @ key.transpose(-1, -2) * call.scale
    for bias in pair_biases(call.biases) or ():
        scores = scores + bias.inside(call, fold.queries, fold.keys).to(scores.dtype)
    allowed = fold.allowed(call, [], scores.dtype)
    if allowed is None:
        return scores.softmax(-1)
    nothing = ~allowed.any(-1, keepdim=True)
    return scores.masked_fill(~allowed, float("-inf")).masked_fill(nothing, 0).softmax(-1).masked_fill(nothing, 0)


def summed(fields: list[dict[str, Any]], switch: Tensor | None, **named: Any) -> AttentionCall:
    """Both directions as one call with the heads of both, the mask of each in its groups."""
    first, second = fields
    heads = first["query"].shape[-3]
    joined = {n: torch.cat([first[n], second[n]], -3) for n in ("query", "key", "value", "projection")}
    lines = torch.stack([f["mask"].groups[0] for f in fields]).repeat_interleave(heads, 0)  # [head token]
    rules = tuple(replace(f["rule"]) for f in fields)  # two objects, even where the formula is the same
    rule = SummedAxes(
        exact=all(r.exact for r in rules),
        caveat=rules[0].caveat,
        rules=rules,
        biases=tuple(f["biases"] for f in fields),
    )
    gate = None if switch is None else torch.cat([switch, switch])
    mask = replace(first["mask"], groups=(lines, lines))
    call = AttentionCall(**joined, **named, rule=rule, scale=first["scale"], mask=mask, gate=gate)
    return replace(call, output=rule.mix(call))


def squarest(count: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square grid of so many patches."""
    rows = next(r for r in range(int(count**0.5), 0, -1) if count % r == 0)
    return rows, count // rows
