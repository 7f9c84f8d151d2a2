"""A language model writes on: what it expects next, what the settings leave of that, and what is drawn from it.

Keys and values of all earlier tokens are kept, so that a step computes one token only. Every draw has a generator of
its own, made of the seed and the place: the same beginning, settings and seed give the same text, however often one
goes back and writes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.models.layers import Past
from attnviz.models.subwords import EOS, SPECIAL
from attnviz.models.text_model import TextModel
from attnviz.types import Sample, Tokens

NON_TEXT_TOKENS = [id for id in range(len(SPECIAL)) if id != EOS]  # tokens that stand for no text and end nothing


@dataclass(frozen=True)
class SamplingConfig:
    """How a token is drawn from what the network expects."""

    temperature: float = 0.7  # the scores are divided by it; 0 = always the likeliest
    top_k: int = 0  # only so many of the likeliest; 0 = all
    top_p: float = 0.95  # only the likeliest that together reach this (Holtzman et al. 2020, arXiv 1904.09751)
    seed: int = 0

    def __post_init__(self):
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"no temperature or top-k below 0, and top-p above 0, at most 1: {self}")


@dataclass(frozen=True, eq=False)
class Step:
    """One token that was written."""

    id: int
    probabilities: Float[Tensor, " vocabulary"]  # what the network expects; sums to one
    filtered: Float[Tensor, " vocabulary"]  # after temperature, top-k and top-p; 0 = cut off; sums to one


def next_token_probabilities(scores: Float[Tensor, "*batch vocabulary"]) -> Float[Tensor, "*batch vocabulary"]:
    """The probability of every token; those that stand for no text cannot be said."""
    scores = scores.detach().cpu().double().clone()  # first moved: some graphics cards (mps) hold no float64
    scores[..., NON_TEXT_TOKENS] = float("-inf")
    return scores.softmax(-1)


def filtered(expected: Float[Tensor, " vocabulary"], settings: SamplingConfig) -> Float[Tensor, " vocabulary"]:
    """What temperature, then top-k, then top-p leave of it."""
    if settings.temperature == 0:
        return torch.zeros_like(expected).index_fill_(0, expected.argmax(), 1)
    warm = (expected.log() / settings.temperature).softmax(-1)
    ranked, order = warm.sort(descending=True, stable=True)
    keep = ranked > 0
    if settings.top_k:
        keep[settings.top_k :] = False
    ranked = ranked * keep
    ranked = ranked / ranked.sum()
    keep &= ranked.cumsum(-1) - ranked < settings.top_p  # the first always stays
    ranked = ranked * keep
    return torch.zeros_like(warm).scatter_(0, order, ranked / ranked.sum())


def sample_token(left: Float[Tensor, " vocabulary"], seed: int, place: int) -> int:
    """One token by these probabilities; another seed or another place gives another sample."""
    dice = torch.Generator().manual_seed((seed * 1_000_003 + place) % 2**63)
    return int(torch.multinomial(left, 1, generator=dice))


@torch.no_grad()
def steps(model: TextModel, ids: Sequence[int], settings: SamplingConfig) -> Iterator[Step]:
    """Tokens after `ids`, until a text ends or the context is full. `ids` begin with BOS."""
    place, past, new = len(ids), list[Past](), list(ids)
    while place < model.config.context_length and new[-1] != EOS:
        scores, past = model.network.decode(torch.tensor(new, device=model.device), past)
        chances = next_token_probabilities(scores)
        kept = filtered(chances, settings)
        new = [sample_token(kept, settings.seed, place)]
        yield Step(new[0], chances, kept)
        place += 1


def words(model: TextModel, ids: Sequence[int], settings: SamplingConfig, count: int) -> list[int]:
    """The tokens of the next `count` words. A word ends where a token follows that begins with a space."""
    found: list[int] = []
    for step in steps(model, ids, settings):
        count -= not found or (step.id == EOS or model.tokenizer.begins_word(step.id))
        if count < 0:
            break
        found.append(step.id)
    return found


def continued(model: TextModel, sample: Sample, ids: Sequence[int]) -> Sample:
    """The sample with tokens written after it: what one pass over the whole text reads."""
    tokens = sample.tokens["main"]
    labels, numbers = list(tokens.labels), list(tokens.words or ())
    word = max(numbers, default=-1)
    for id, (label, inside) in zip(ids, model.tokenizer.written(ids, sample.text), strict=True):
        labels.append(label)
        word += id >= len(SPECIAL) and not inside
        numbers.append(word if id >= len(SPECIAL) else -1)
    everything = torch.cat([sample.inputs["main"], torch.tensor(ids, dtype=torch.long)])
    named = Tokens(tuple(labels), None, tokens.prefix, tokens.stream, tuple(numbers))
    return replace(
        sample, digest=f"{sample.digest}+{'.'.join(map(str, ids))}", inputs={"main": everything}, tokens={"main": named}
    )
