"""What every explanation method shares: its record, where relevance starts, and how it says no.

A method is a function of (model, sample, target) that gives one number per token. To add one: a file with that function
(its docstring is the help text) and one line in METHODS.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.types import Model, NoTokenMap, Sample, Target, Tokens, Trace

Start = str | int | Sequence[int] | Tensor  # "readout", "cls", "mean", a token, several tokens, or rows [*batch token]
Rows = dict[str, Tensor]  # stream -> relevance [*batch target token]


class NoRollout(NoTokenMap):
    """Weights that cannot be multiplied along the layers; the message says which call and why."""


@dataclass(frozen=True)
class Method:
    """One way of explaining an answer."""

    title: str
    explain: Callable[..., Tensor]  # (model, sample, target, *, trace, gradients, **options) -> [*batch token]
    signed: bool = False  # may be negative: drawn on a diverging scale
    by_class: bool = False  # another class gives another map

    @property
    def help(self) -> str:
        """What the visitor reads about it."""
        return inspect.getdoc(self.explain) or ""


@torch.no_grad()
def traced(model: Model, sample: Sample) -> Trace:
    """One forward pass that keeps no graph."""
    return model(sample)


def tokens_of(trace: Trace, stream: str) -> Tokens:
    """The tokens of one stream, as the calls of a trace name them. Raises ValueError for a stream of no call."""
    for call in reversed(trace.calls):
        for tokens in (call.queries, call.keys):
            if tokens.stream == stream:
                return tokens
    known = sorted({t.stream for call in trace.calls for t in (call.queries, call.keys)})
    raise ValueError(f"no call of this trace has the stream {stream!r}; known: {', '.join(known)}")


def start_rows(trace: Trace, start: Start, target: Target | None = None) -> tuple[Rows, bool]:
    """Where relevance starts, as rows [*batch target token] by stream, and whether the target axis is to be dropped.

    "readout" is what the answer is read from. Raises ValueError for a start the tokens do not have.
    """
    named = position_of(trace, target)
    if named is not None and isinstance(start, str) and start == "readout":
        start = named
    if isinstance(start, str) and start == "readout":
        return {stream: wide(row, trace)[..., None, :] for stream, row in trace.readout.items()}, True
    stream, readout = next(iter(trace.readout.items()))
    readout = wide(readout, trace)
    tokens = tokens_of(trace, stream)
    if isinstance(start, Tensor):
        if start.shape[-1] != len(tokens):
            raise ValueError(f"the start row has {start.shape[-1]} entries but there are {len(tokens)} tokens")
        start, single = start.detach().to(readout), start.ndim == readout.ndim
        return {stream: start[..., None, :] if single else start}, single
    rows = torch.stack([one_row(tokens, s, readout) for s in ([start] if isinstance(start, str | int) else start)])
    return {stream: rows.expand(*readout.shape[:-1], *rows.shape)}, isinstance(start, str | int)


def position_of(trace: Trace, target: Target | None) -> int | None:
    """The token a target reads its answer from, where every token has an answer of its own (language models)."""
    if target is None or target.row is None:
        return None
    head = target.head or next(iter(trace.logits))
    return target.row if trace.logits[head].shape[-2] > 1 else None


def wide(row: Tensor, trace: Trace) -> Tensor:
    """A start row without its graph, as precise as the queries are and never in half precision."""
    kinds = [row.dtype, torch.float32, *(call.query.dtype for call in trace.calls)]
    return row.detach().to(reduce(torch.promote_types, kinds))


def outside(tokens: Tokens) -> Bool[Tensor, " token"]:
    """Which tokens stand for no patch and no piece of a text: CLS, registers and other special tokens."""
    if tokens.words is not None:
        return torch.tensor([word < 0 for word in tokens.words])
    return torch.arange(len(tokens)) < tokens.prefix


def one_row(tokens: Tokens, start: str | int, like: Tensor) -> Float[Tensor, " token"]:
    """All relevance at CLS or at one token, or an equal share at every patch or piece of a text."""
    row = torch.zeros(len(tokens), dtype=like.dtype, device=like.device)
    if start == "mean":
        inside = ~outside(tokens)
        inside = inside if inside.any() else ~inside  # an empty text has special tokens alone
        row[inside] = 1 / int(inside.sum())
    elif start == "cls":
        if "CLS" not in tokens.labels[: tokens.prefix]:
            raise ValueError("these tokens have no CLS; start from the readout, the mean or one token")
        row[tokens.labels.index("CLS")] = 1
    elif isinstance(start, str):
        raise ValueError(f"start is {start!r}; known: readout, cls, mean, or the number of a token")
    elif 0 <= start < len(tokens):
        row[start] = 1
    else:
        raise ValueError(f"start is token {start}, but there are {len(tokens)} tokens")
    return row
