"""Beam search: the few likeliest ways to go on are kept, token after token, and the best finished ones are the answer.

A width of one is greedy decoding. Sums of log-probabilities favour short texts, so finished ones are compared by
total / ((5 + length) / 6)^0.6 (Wu et al. 2016, arXiv 1609.08144, equation 14, as Vaswani et al. 2017 use it).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.models.subwords import BOS, EOS, SPECIAL

PENALTY = 0.6
NON_TEXT_TOKENS = [token for token in range(len(SPECIAL)) if token != EOS]  # tokens that stand for no text


@runtime_checkable
class Decoder(Protocol):
    """What writes: an encoder's memory and the new tokens in, scores of the next token and what to remember out."""

    def encode(self, source: Tensor) -> Tensor: ...
    def decode(self, memory: Tensor, ids: Tensor, past: Sequence[Any] = ()) -> tuple[Tensor, list[Any]]: ...


@dataclass(frozen=True)
class Beam:
    """One text that was written, and how likely the network finds it."""

    ids: tuple[int, ...]  # with EOS at the end, unless the limit came first
    total: float  # log-probability of all its tokens, in natural units

    @property
    def score(self) -> float:
        """What finished texts are compared by."""
        return self.total / ((5 + len(self.ids)) / 6) ** PENALTY


def log_probabilities(scores: Float[Tensor, "*batch vocabulary"]) -> Float[Tensor, "*batch vocabulary"]:
    """Log-probabilities of the next token; of tokens that stand for no text none is ever written."""
    said = scores.float().log_softmax(-1)
    said[..., NON_TEXT_TOKENS] = float("-inf")
    return said


def beam_search(network: Decoder, source: Int[Tensor, "text source"], *, width: int, limit: int) -> list[list[Beam]]:
    """For each text at most `width` translations of at most `limit` tokens, the best first, no two alike.

    The texts have one length, so that nothing is filled up.
    """
    steps = search_steps(network, source, width=width, limit=limit)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@torch.no_grad()
def search_steps(
    network: Decoder, source: Int[Tensor, "text source"], *, width: int, limit: int
) -> Generator[Beam, None, list[list[Beam]]]:
    """The same search, as it goes: after each token the likeliest text that is still being written; then all of it.

    It is that of the first source text that is not finished, and the next one need not begin with it.
    """
    ended: list[list[Beam]] = [[] for _ in source]
    texts = list(range(len(source)))  # still being written
    memory = network.encode(source).repeat_interleave(width, 0)
    totals = torch.full((len(texts), width), float("-inf"), device=source.device)
    totals[:, 0] = 0  # all begin alike, so one of them is enough
    ids, past = source.new_full((len(texts) * width, 1), BOS), list[Any]()
    for _ in range(limit):
        scores, past = network.decode(memory, ids[:, -1:], past)
        said = log_probabilities(scores)
        joint = (totals.reshape(-1, 1) + said).reshape(len(texts), -1)
        best, at = joint.topk(2 * width)  # at most one of each beam ends, so as many as `width` go on
        beam, token = at // said.shape[-1], at % said.shape[-1]
        for i, text in enumerate(texts):
            for rank in (token[i, :width] == EOS).nonzero()[:, 0].tolist():
                written = ids[i * width + int(beam[i, rank]), 1:].tolist()
                if best[i, rank].isfinite():  # a beam that never began ends nowhere
                    ended[text].append(Beam((*written, EOS), float(best[i, rank])))
        onward = (token == EOS).int().argsort(dim=-1, stable=True)[:, :width]
        left = [i for i, text in enumerate(texts) if len(ended[text]) < width]
        if not left:
            break
        rows = (torch.arange(len(texts), device=source.device)[:, None] * width + beam.gather(1, onward))[
            left
        ].flatten()
        ids = torch.cat([ids[rows], token.gather(1, onward)[left].reshape(-1, 1)], -1)
        totals, texts = best.gather(1, onward)[left], [texts[i] for i in left]
        memory, past = memory[rows], [tuple(tensor[rows] for tensor in kept) for kept in past]
        yield Beam(tuple(ids[0, 1:].tolist()), float(totals[0, 0]))
    else:
        for i, text in enumerate(texts):  # the limit came first
            cut = [Beam(tuple(ids[i * width + j, 1:].tolist()), float(totals[i, j])) for j in range(width)]
            ended[text] += [beam for beam in cut if beam.total > float("-inf")][: width - len(ended[text])]
    return [sorted(found, key=lambda beam: -beam.score)[:width] for found in ended]
