"""Edits made of what a person names, and the answers of many edits of one input in few forward passes.

Ablation and activation patching ask the same question of a network: what does its answer lose when this is taken away?
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.edits import BlockedEdges, Edit, PatchedResiduals, flagged, head_flags, token_flags
from attnviz.types import Model, Sample, Trace

BATCH = 32  # edits in one forward pass
Progress = Callable[[float], object]  # is told which share of the work is done, 0 to 1


def remove(sample: Sample, *sets: Sequence[int]) -> Edit:
    """The removal of one set of tokens; of several, a batch of as many edits. Raises ValueError for no such token.

    No query attends to a removed token, and the answer is not read from it.
    """
    return Edit(keep_tokens=~batched(partial(token_flags, count_of(sample)), sets))


def ablate(model: Model, *sets: Sequence[tuple[int, int]], means: Tensor | None = None) -> Edit:
    """The ablation of one set of (layer, head) pairs; of several, a batch of as many edits.

    Ablated heads give zero, or `means` [layer head value_dim] as `head_means` computes them. Raises ValueError for a
    layer or a head there is not.
    """
    spec = model.spec
    return Edit(ablated_heads=batched(partial(head_flags, spec.layers, spec.heads), sets), head_means=means)


def block(
    model: Model,
    sample: Sample,
    queries: Sequence[int],
    keys: Sequence[int],
    *sets: Sequence[int],
    heads: Sequence[int] | None = None,
) -> Edit:
    """These queries may not attend to those keys, in all layers; `sets` of layers make a batch of as many edits.

    `heads` None is every head. Raises ValueError for a token, a layer or a head there is not.
    """
    spec, count = model.spec, count_of(sample)
    layers = batched(lambda chosen: flagged("layer", chosen, spec.layers), sets) if sets else None
    named = None if heads is None else flagged("head", heads, spec.heads)
    return Edit(blocked_edges=BlockedEdges(token_flags(count, queries), token_flags(count, keys), layers, named))


def patch(sample: Sample, donor: Trace, *places: tuple[int, int]) -> Edit:
    """The residuals of another input in place of this one's own, at (depth, token) places: one edit for each.

    Depth 0 is what enters the first layer, depth d what leaves layer d. Raises ValueError for inputs of different
    length, and for a place there is not.
    """
    stream, residuals = next(iter(donor.residuals.items()))
    values, count = torch.stack(list(residuals)), count_of(sample)
    if values.shape[-2] != count:
        raise ValueError(
            f"the other input has {values.shape[-2]} tokens and this one {count}; residuals are carried over between "
            f"inputs of equal length (stream {stream!r})"
        )
    where = batched(lambda place: place_flags(len(residuals), count, *place), places)
    return Edit(residuals=PatchedResiduals(values, where))


def place_flags(depths: int, count: int, depth: int, token: int) -> Tensor:
    """True at one place [depth token]. Raises ValueError for a place there is not."""
    return flagged("depth", [depth], depths)[:, None] & token_flags(count, [token])


def batched(flags: Callable[..., Tensor], sets: Sequence[Sequence[int] | Sequence[tuple[int, int]]]) -> Tensor:
    """One set of flags, or several as a batch."""
    if not sets:
        raise ValueError("nothing is named to be changed")
    return flags(sets[0]) if len(sets) == 1 else torch.stack([flags(one) for one in sets])


def count_of(sample: Sample) -> int:
    """How many tokens are read of a sample."""
    return len(next(iter(sample.tokens.values())))


@torch.no_grad()
def answers(
    model: Model,
    sample: Sample,
    edit: Edit,
    *,
    output: str | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Float[Tensor, "edit row class"]:
    """The logits of one output (None = the first) for every edit of a batch with one leading axis.

    Edits that begin in one layer run together, so that the layers before compute once; no trace is kept. A single edit
    is a batch of one. Raises ValueError for an output there is not.
    """
    edit = edit if edit.batch else edit.mapped(lambda _, tensor: None if tensor is None else tensor[None])
    (count,) = edit.batch or (1,)
    found: dict[int, Tensor] = {}
    for chosen, trace in passes(model, sample, edit, batch=batch):
        name = next(iter(trace.logits), None) if output is None else output
        if name is None or name not in trace.logits:
            raise ValueError(f"{model.title} has no output {name!r}; known: {', '.join(trace.logits) or 'none'}")
        logits = trace.logits[name]
        logits = logits.expand(len(chosen), *logits.shape[-2:])
        found |= dict(zip(chosen.tolist(), logits, strict=True))
        if progress is not None:
            progress(len(found) / count)
    return torch.stack([found[i] for i in range(count)])


def passes(model: Model, sample: Sample, edit: Edit, *, batch: int = BATCH) -> Iterator[tuple[Tensor, Trace]]:
    """Forward passes over a batch of edits: which of them each ran, and its trace."""
    first = edit.first_layer() if edit.batch else torch.zeros(1, dtype=torch.long)
    for layer in first.unique():
        for chosen in (first == layer).nonzero()[:, 0].split(batch):
            yield chosen, model(sample, edit=edit.pick(chosen) if edit.batch else edit)


@torch.no_grad()
def head_means(model: Model, samples: Iterable[Sample]) -> Float[Tensor, "layer head value_dim"]:
    """What every head gives on average over the tokens of these inputs: the reference of mean ablation.

    Raises ValueError for no inputs, and for a network with more than one attention in a layer.
    """
    total: Tensor | None = None
    count = 0
    for sample in samples:
        calls = model(sample).calls
        if len({call.layer for call in calls}) != len(calls) or any(call.output is None for call in calls):
            raise ValueError(f"{model.title} attends more than once in a layer, so a head has no single mean output")
        outputs = torch.stack([call.output.mean(-2) for call in calls])  # type: ignore[union-attr]
        total, count = outputs if total is None else total + outputs, count + 1
    if total is None:
        raise ValueError("no inputs were given to take means over")
    return total / count
