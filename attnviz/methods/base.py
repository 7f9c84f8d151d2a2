"""What every attribution method shares: its record with its options, where relevance starts, and how it says no.

A method is a function of (model, sample, target) that gives one number per token. To add one: a file with that function
(its docstring is the help text) and one line in METHODS, which declares its options; the page Explain then offers it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.interventions import Progress as Progress
from attnviz.targets import check_answered, check_target, position_of
from attnviz.types import Edit, Model, NoTokenMap, Sample, Target, Tokens, Trace, UnsupportedMask, unrounded

Start = str | int | Sequence[int] | Tensor  # "answer", "cls", "mean", a token, several tokens, or rows [*batch token]
Rows = dict[str, Tensor]  # stream -> relevance [*batch target token]


class NoRollout(NoTokenMap):
    """Weights that cannot be multiplied along the layers; the message says which call and why."""


@dataclass(frozen=True)
class Option:
    """One choice that a method leaves to whoever asks: a keyword of its `explain`, and what may be given for it.

    A "choice" is one of `choices`, a "share" a number within `range`, a "number" a whole one within it, a "toggle" is
    on or off, and a "layer" the number of one, counted from 0; there the default None is the last one.
    """

    name: str  # the keyword
    title: str  # what it is called on screen
    kind: Literal["choice", "share", "number", "toggle", "layer"]
    default: Any
    help: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)  # identifier -> label
    range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Method:
    """One way of explaining an answer, and what it has to be given."""

    title: str
    explain: Callable[..., Tensor]  # (model, sample, target, *, trace, **options) -> [*batch token]
    options: tuple[Option, ...] = ()
    signed: bool = False  # may be negative: drawn on a diverging scale
    needs_class: bool = False  # another class gives another map
    needs_gradients: bool = False  # its trace has to keep the graph
    takes_start: bool = False  # `start` is a keyword: relevance may start elsewhere than at the answer
    slow: bool = False  # may take seconds, so `progress` is a keyword
    control: bool = False  # knows nothing of the network: a baseline beside scores, no explanation

    @property
    def help(self) -> str:
        """What the visitor reads about it."""
        return inspect.getdoc(self.explain) or ""

    @property
    def layer_option(self) -> Option | None:
        """The first option that is a layer; None where there is none."""
        return next((option for option in self.options if option.kind == "layer"), None)


@torch.no_grad()
def traced(model: Model, sample: Sample, trace: Trace | None = None) -> Trace:
    """The trace given, or one forward pass that keeps no graph.

    Raises TypeError for what is no sample, ValueError for a trace of another one. A trace may hold more than the sample
    (a translator's holds what it wrote), and one without a sample is taken as it is.
    """
    if not isinstance(sample, Sample):
        raise TypeError(f"expected a Sample, as model.prepare() makes it, but got a {type(sample).__name__}")
    if trace is None:
        return model(sample)
    if trace.sample is None or trace.sample.digest == sample.digest:
        return trace
    given = trace.sample.inputs
    if any(name not in given or not torch.equal(given[name].cpu(), ids.cpu()) for name, ids in sample.inputs.items()):
        raise ValueError("the trace is of another sample; give model(sample), or leave it out")
    return trace


def differentiable(model: Model, sample: Sample, trace: Trace | None = None) -> Trace:
    """A forward pass that keeps its graph, so that calls have gradients: its embeddings ask for them.

    A trace that has a graph is taken as it is. Of one that has none, the pass is repeated with its embeddings and
    without its removed tokens. Raises UnsupportedMask for a model that takes no embeddings, and for a trace of a pass
    that was changed in another way.
    """
    if trace is not None and has_graph(trace):
        return trace
    trace = traced(model, sample, trace)
    embeddings = next(iter(trace.token_embeddings.values()), None)
    if embeddings is None or "embeddings" not in model.spec.honours:
        raise UnsupportedMask(model.title, "it takes no embeddings, so nothing has gradients with respect to them")
    repeated = repeat(model, sample, trace, embeddings.detach().clone().requires_grad_())
    if not all(alike(repeated.logits[name], logits) for name, logits in trace.logits.items()):
        changed = "its trace was changed in a way that cannot be repeated with a graph"
        raise UnsupportedMask(model.title, f"{changed}; make it from embeddings that ask for gradients")
    return repeated


def repeat(model: Model, sample: Sample, trace: Trace, embeddings: Float[Tensor, "*copies token feature"]) -> Trace:
    """The forward pass of a trace with other token embeddings and the same tokens removed; it keeps its graph.

    Nothing is rounded, also under autocast: gradients add up what halves of a number would lose.
    """
    with torch.enable_grad(), unrounded(embeddings.device):
        return model(sample, edit=Edit(keep_tokens=kept_tokens(trace), embeddings=embeddings))


def kept_tokens(trace: Trace) -> Bool[Tensor, "*batch token"] | None:
    """Which tokens a pass kept; None where none was removed."""
    masks = [call.mask.key_padding for call in trace.calls if call.mask is not None]
    return next((keep for keep in masks if keep is not None), None)


def has_graph(trace: Trace) -> bool:
    """Whether gradients of its answers can be taken."""
    return any(logits.requires_grad for logits in trace.logits.values())


def alike(repeated: Tensor, logits: Tensor) -> bool:
    """Whether two passes gave one answer, up to rounding: under autocast and in half precision that is a lot."""
    if repeated.shape != logits.shape:
        return False
    rounded = {repeated.dtype, logits.dtype} & {torch.float16, torch.bfloat16}
    expected = logits.detach().float()
    return bool((repeated.detach().float() - expected).norm() <= (0.05 if rounded else 1e-3) * (1 + expected.norm()))


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

    "answer" is what the answer is read from. Raises ValueError for a start the tokens do not have, for a target there
    is not, and where every token that the answer is read from was removed.
    """
    check_target(trace, target)
    named = position_of(trace, target)
    if named is not None and isinstance(start, str) and start == "answer":
        start = named
    if isinstance(start, str) and start == "answer":
        check_answered(trace)
        return {stream: wide(row, trace)[..., None, :] for stream, row in trace.pooling.items()}, True
    stream, pooling = next(iter(trace.pooling.items()))
    pooling = wide(pooling, trace)
    tokens = tokens_of(trace, stream)
    if isinstance(start, Tensor):
        if start.shape[-1] != len(tokens):
            raise ValueError(f"the start row has {start.shape[-1]} entries but there are {len(tokens)} tokens")
        start, single = start.detach().to(pooling), start.ndim == pooling.ndim
        return {stream: start[..., None, :] if single else start}, single
    rows = torch.stack([one_row(tokens, s, pooling) for s in ([start] if isinstance(start, str | int) else start)])
    return {stream: rows.expand(*pooling.shape[:-1], *rows.shape)}, isinstance(start, str | int)


def wide(row: Tensor, trace: Trace) -> Tensor:
    """A start row without its graph, as precise as the queries are and never in half precision."""
    kinds = [row.dtype, torch.float32, *(call.query.dtype for call in trace.calls)]
    return row.detach().to(reduce(torch.promote_types, kinds))


def outside(tokens: Tokens) -> Bool[Tensor, " token"]:
    """Which tokens stand for no patch and no word of a text: CLS, registers and other special tokens."""
    if tokens.words is not None:
        return torch.tensor([word < 0 for word in tokens.words])
    return torch.arange(len(tokens)) < tokens.prefix


def one_row(tokens: Tokens, start: str | int, like: Tensor) -> Float[Tensor, " token"]:
    """All relevance at CLS or at one token, or an equal share at every patch or token of a text."""
    row = torch.zeros(len(tokens), dtype=like.dtype, device=like.device)
    if start == "mean":
        inside = ~outside(tokens)
        inside = inside if inside.any() else ~inside  # an empty text has special tokens alone
        row[inside] = 1 / int(inside.sum())
    elif start == "cls":
        if "CLS" not in tokens.labels[: tokens.prefix]:
            raise ValueError("these tokens have no CLS; start from the answer, the mean or one token")
        row[tokens.labels.index("CLS")] = 1
    elif isinstance(start, str):
        raise ValueError(f"start is {start!r}; known: answer, cls, mean, or the number of a token")
    elif 0 <= start < len(tokens):
        row[start] = 1
    else:
        raise ValueError(f"start is token {start}, but there are {len(tokens)} tokens")
    return row
