"""Perturbation: what the score loses when a token is taken away, and what it gains when only that token is there.

No gradient and no weight is read, only scores of changed forward passes, one for each token or window. CLS, registers
and other special tokens are the same for every input and stay; they count 0. So do tokens that were removed before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.edits import PatchedResiduals
from attnviz.methods.base import Option, Progress, alike, kept_tokens, outside, tokens_of, traced
from attnviz.methods.input_gradients import BASELINES, baseline_of, inputs_of
from attnviz.targets import asked, position_of
from attnviz.types import Edit, Model, NoTokenMap, Sample, Target, Tokens, Trace, UnsupportedMask, unrounded

TOGETHER = 32  # changed inputs that are computed at a time
FILLS = Option(
    "baseline",
    "Fill",
    "choice",
    "mean",
    "What stands in place of a covered patch or word: an embedding of zero, or the mean of all in this input. Its "
    "position stays.",
    BASELINES,
)
OCCLUSION = (
    Option("size", "Window", "number", 1, "Side of the square of patches, or number of words in a row.", range=(1, 7)),
    FILLS,
)
PATCHING = (
    Option("depth", "Depth", "share", 0.5, "Where the residual is set in: 0 is before the first layer, 1 after all."),
    Option(
        "baseline",
        "Neutral input",
        "choice",
        "mean",
        "The input that says nothing: every patch or word with the mean embedding of this input, or with zero.",
        BASELINES,
    ),
)


def explain_deletion(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """Deletion removes one token at a time: relevance is how much the score falls without it.

    No query attends to a removed token, and the answer is not read from it; a token that the answer is read from alone
    cannot be removed, and counts 0. Of two tokens that say the same, neither seems to matter, since the other is still
    there (leave-one-out; Li, Monroe, Jurafsky 2016, arXiv 1612.08220). It is what the single-deletion score compares
    other maps with, so by that score it is best by definition. It costs one forward pass for each token.
    """
    if "keep_tokens" not in model.spec.honours:
        raise UnsupportedMask(model.title, "it takes no removed tokens, so none can be deleted")
    trace = traced(model, sample, trace)
    kept, removable = kept_tokens(trace), ~outside(read_tokens(trace))
    removable &= ~read_alone(trace, target, len(removable))

    def without(gone: Bool[Tensor, "copy token"]) -> Edit:
        return Edit(keep_tokens=lifted(~gone, trace) if kept is None else lifted(~gone, trace) & kept.cpu())

    tokens = removable.nonzero()[:, 0]
    whole, found = scores(model, trace, target, one_hot(tokens, len(removable)), without, sample, progress)
    return of_kept(placed(whole - found, tokens, len(removable)), kept)


def explain_occlusion(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    size: int = 1,
    baseline: str = "mean",
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """Occlusion covers a window of patches or words: relevance is how much the score falls while it is covered.

    The window goes wherever it fits, and a patch has the mean of all windows over it (Zeiler and Fergus 2014, arXiv
    1311.2901). Larger windows see what several patches say together and blur the map. The network was not trained on
    covered pictures, so a fall may also be surprise at the fill. It costs one forward pass for each window.
    """
    if size < 1:
        raise ValueError(f"size is {size}; expected 1 or more")
    trace = traced(model, sample, trace)
    content = inputs_of(model, trace)
    filled, covers = baseline_of(trace, content, baseline), windows(read_tokens(trace), size)

    def covered(places: Bool[Tensor, "copy token"]) -> Edit:
        embeddings = torch.where(lifted(places, trace)[..., None].to(content.device), filled, content)
        return Edit(keep_tokens=kept_tokens(trace), embeddings=embeddings)

    whole, found = scores(model, trace, target, covers, covered, sample, progress)
    weights = covers.to(found)
    with unrounded(found.device):
        return of_kept((whole - found).movedim(0, -1) @ weights / weights.sum(0).clamp_min(1), kept_tokens(trace))


def explain_patching(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    depth: float = 0.5,
    baseline: str = "mean",
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """Activation patching sets one token's residual into a neutral input: relevance is how much the score rises.

    Where deletion asks what is necessary, this asks what is enough: from that depth on, the network sees one token of
    this input among neutral ones (Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262). Deeper
    residuals have gathered from other tokens, so the place of a token is not all it says. CLS is neutral, too. It costs
    one forward pass of the layers after that depth for each token.
    """
    if "residuals" not in model.spec.honours:
        raise UnsupportedMask(model.title, "it takes no residuals of another input, so none can be set in")
    if not 0 <= depth <= 1:
        raise ValueError(f"depth is {depth}; expected 0 to 1")
    trace = traced(model, sample, trace)
    content, tokens = inputs_of(model, trace), (~outside(read_tokens(trace))).nonzero()[:, 0]
    kept = kept_tokens(trace)
    neutral = passed(model, sample, Edit(keep_tokens=kept, embeddings=baseline_of(trace, content, baseline)))
    stream, own = next(iter(trace.residuals.items()))
    layer = round(depth * (len(own) - 1))
    values = torch.stack([one.detach() for one in neutral.residuals[stream]], -3)
    places = torch.arange(len(own)) == layer

    def alone_in_neutral(ours: Bool[Tensor, "copy token"]) -> Edit:
        """The pass of this input itself, so that its layers up to here compute once, with all others replaced."""
        where = lifted(~ours[:, None, :] & places[:, None], trace, 2)
        return Edit(residuals=PatchedResiduals(values, where), keep_tokens=kept)

    score = asked(trace, target)
    before = score.of(neutral.logits[score.output])
    _, found = scores(model, trace, target, one_hot(tokens, content.shape[-2]), alone_in_neutral, sample, progress)
    return of_kept(placed(found - before, tokens, content.shape[-2]), kept)


def scores(
    model: Model,
    trace: Trace,
    target: Target | None,
    choices: Bool[Tensor, "copy token"],
    changed: Callable[[Bool[Tensor, "some token"]], Edit],
    sample: Sample,
    progress: Progress | None,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "copy *batch"]]:
    """The score of this input and those of its changed passes, some at a time; of the class of the unchanged input.

    The input itself is passed again: a trace may hold rounded numbers. Raises UnsupportedMask for a trace that was
    changed otherwise than by removed tokens.
    """
    again = passed(model, sample, Edit(keep_tokens=kept_tokens(trace)))
    if not all(alike(again.logits[name], logits) for name, logits in trace.logits.items()):
        raise UnsupportedMask(model.title, "its trace was changed in a way that cannot be repeated")
    score, found, done = asked(trace, target), list[Tensor](), 0
    for some in choices.split(TOGETHER):
        found.append(score.of(passed(model, sample, changed(some)).logits[score.output]))
        done += len(some)
        if progress is not None:
            progress(done / len(choices))
    whole = score.of(again.logits[score.output])
    return whole, torch.cat(found) if found else whole[None][:0]


def passed(model: Model, sample: Sample, edit: Edit) -> Trace:
    """A forward pass without a graph; differences of scores are not left to half precision."""
    with torch.no_grad(), unrounded(model.device):
        return model(sample, edit=edit)


def read_tokens(trace: Trace) -> Tokens:
    """The tokens that are read first: of an encoder-decoder, those of the encoder."""
    streams = [*trace.token_embeddings] or [trace.calls[0].queries.stream]
    return tokens_of(trace, streams[0])


def read_alone(trace: Trace, target: Target | None, count: int) -> Bool[Tensor, " token"]:
    """The token that the answer is read from, where it is one alone; none of the encoder's, where a decoder answers."""
    if read_tokens(trace).stream not in trace.pooling:
        return torch.zeros(count, dtype=torch.bool)
    if (position := position_of(trace, target)) is not None:
        return torch.arange(count) == position
    pooling = next((rows for rows in trace.pooling.values() if rows.shape[-1] == count), torch.zeros(1, count))
    rows = pooling.reshape(-1, count).cpu() != 0
    return (rows & (rows.sum(-1, keepdim=True) == 1)).any(0)


def lifted(flags: Bool[Tensor, "copy *own"], trace: Trace, own: int = 1) -> Tensor:
    """Flags with axes of length 1 for those of the batch, between copies and their own."""
    batch = next(iter(trace.residuals.values()))[0].ndim - 2
    return flags.reshape(len(flags), *[1] * batch, *flags.shape[-own:])


def one_hot(tokens: Tensor, count: int) -> Bool[Tensor, "copy token"]:
    """Each of these tokens by itself."""
    return tokens[:, None] == torch.arange(count)


def placed(values: Float[Tensor, "copy *batch"], tokens: Tensor, count: int) -> Float[Tensor, "*batch token"]:
    """One number for each chosen token in its place, and 0 elsewhere."""
    row = values.new_zeros(count, *values.shape[1:])
    row[tokens.to(row.device)] = values
    return row.movedim(0, -1)


def of_kept(row: Float[Tensor, "*batch token"], kept: Tensor | None) -> Float[Tensor, "*batch token"]:
    """Exactly 0 for tokens that were removed before: without them two passes differ by rounding alone."""
    return row if kept is None else row.masked_fill(~kept.to(row.device), 0)


def windows(tokens: Tokens, size: int) -> Bool[Tensor, "window token"]:
    """Every place of a square of patches within the grid, or of so many words in a row.

    A grid or text that is smaller than the window is covered along that side whole. Raises NoTokenMap for an input
    without patches or words.
    """
    inside = (~outside(tokens)).nonzero()[:, 0]
    if not len(inside):
        raise NoTokenMap("nothing but special tokens is read, so there is nothing to cover")
    if tokens.grid is None:
        side = min(size, len(inside))
        found = torch.zeros(len(inside) - side + 1, len(tokens), dtype=torch.bool)
        for first in range(len(found)):
            found[first, inside[first : first + side]] = True
        return found
    height, width = tokens.grid
    tall, wide = min(size, height), min(size, width)
    found = torch.zeros(height - tall + 1, width - wide + 1, height, width, dtype=torch.bool)
    for top in range(found.shape[0]):
        for left in range(found.shape[1]):
            found[top, left, top : top + tall, left : left + wide] = True
    return torch.nn.functional.pad(found.flatten(2).flatten(0, 1), (tokens.prefix, 0))
