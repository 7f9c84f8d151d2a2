"""How well a language model of English knows its grammar, and how surprised it is by stories it has never read.

Grammar is asked by minimal pairs (BLiMP, Warstadt et al. 2020, arXiv 1912.00582): of two sentences that differ in one
point, one good and one bad, the model should find the good one likelier. Chance is one half.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.models.subwords import BOS, EOS, SubwordTokenizer
from attnviz.models.text import Reader
from attnviz.training.images.data import data_folder
from attnviz.training.images.evaluate import interval
from attnviz.training.text import corpus
from attnviz.training.text.loop import padded

TOKENS = 4096  # of sentences read at a time, padding included
CHUNK = 1024  # tokens whose scores of all pieces are held at a time


class Pair(NamedTuple):
    """One question."""

    paradigm: str
    field: str
    term: str
    good: str
    bad: str


def pairs(each: int | None = None) -> list[Pair]:
    """The first `each` pairs of every paradigm, None = all. Raises NoData."""
    rows = (line.split("\t") for line in corpus.lines_of(data_folder() / "text" / "blimp.tsv.gz"))
    found = itertools.groupby((Pair(*row) for row in itertools.islice(rows, 1, None)), lambda pair: pair.paradigm)
    return [pair for _, group in found for pair in itertools.islice(group, each)]


@torch.no_grad()
def log_probabilities(
    network: Reader, ids: Int[Tensor, "text token"], said: Tensor
) -> Float[Tensor, "text next_token"]:
    """Log-probability of every token after the first, given those before it; 0 where nothing is `said`."""
    last = network.norm(network(ids[:, :-1], read=()).residuals["main"][-1])
    right = said[:, 1:]
    features, wanted = last[right], ids[:, 1:][right]
    found = [
        network.pieces.unembed(f).float().log_softmax(-1).gather(-1, w[:, None])[:, 0]
        for f, w in zip(features.split(CHUNK), wanted.split(CHUNK), strict=True)
    ]
    filled = torch.zeros(right.shape, device=ids.device)
    filled[right] = torch.cat(found)
    return filled


def sentence_scores(
    network: Reader,
    subwords: SubwordTokenizer,
    sentences: Sequence[str],
    tell: Callable[[float], None] = lambda share: None,
) -> Float[np.ndarray, " sentence"]:
    """Log-probability of each whole sentence, its end included; batches hold sentences of one length."""
    rows = [[BOS, *ids, EOS] for ids in subwords.batch(sentences)]
    lengths = np.array([len(row) for row in rows])
    scores, done, device = np.zeros(len(rows)), 0, network.pieces.table.device
    for length in np.unique(lengths):
        alike = np.flatnonzero(lengths == length)
        for part in np.array_split(alike, math.ceil(len(alike) * length / TOKENS)):
            ids, said = padded([rows[i] for i in part], device)
            scores[part] = log_probabilities(network, ids, said).cpu().double().sum(-1).numpy()
            done += len(part)
            tell(done / len(rows))
    return scores


def blimp(
    network: Reader,
    subwords: SubwordTokenizer,
    each: int | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Share of pairs whose good sentence is the likelier, with 95 % intervals: of all, by term, by paradigm."""
    asked = pairs(each)
    scores = sentence_scores(network, subwords, [s for pair in asked for s in (pair.good, pair.bad)], tell)
    right = scores[0::2] > scores[1::2]
    share, _, _ = shared(right)
    return {
        "blimp": share,
        "blimp_interval": interval(share, len(right)),
        "blimp_pairs": len(right),
        "blimp_each": each or "all",
        "blimp_by_field": by(right, [pair.field for pair in asked]),
        "blimp_by_term": by(right, [pair.term for pair in asked]),
        "blimp_by_paradigm": by(right, [pair.paradigm for pair in asked]),
    }


def by(right: Iterable[bool] | np.ndarray, names: Sequence[str]) -> dict[str, list[float]]:
    """Percent and interval for each name."""
    right = np.asarray(right)
    return {name: shared(right[np.array([n == name for n in names])]) for name in sorted(set(names))}


def shared(right: np.ndarray) -> list[float]:
    """A share in percent, and its 95 % interval."""
    share = round(100 * float(right.mean()), 2)
    return [share, *interval(share, len(right))]


def perplexity(
    network: Reader, subwords: SubwordTokenizer, stories: Iterable[Sequence[str]], stride: int | None = None
) -> dict[str, Any]:
    """Perplexity per piece and per word of whole stories, none shortened.

    A story longer than the network reads is read in windows that move on by `stride` (half of what it reads, if not
    given), BOS before each. A window counts only what no window before it has judged. So a piece is judged with at
    least `longest - stride` pieces of the story before it; in the first window, which counts as a whole, with all
    there are.
    """
    longest, device = network.config.context_length, network.pieces.table.device
    stride = stride or longest // 2
    total, pieces, words = 0.0, 0, 0
    for story in stories:
        row = [*itertools.chain.from_iterable(subwords.batch(list(story)))]
        words += sum(len(paragraph.split()) for paragraph in story)
        pieces += len(row)
        for begin, new in windows(len(row), longest, stride):
            ids, said = padded([[BOS, *row[begin : begin + longest]]], device)  # as it learned
            total -= float(log_probabilities(network, ids, said)[0, new - begin :].cpu().double().sum())
    return {
        "held_out_pieces": pieces,
        "held_out_words": words,
        "perplexity_piece": round(math.exp(total / pieces), 2),
        "perplexity_word": round(math.exp(total / words), 2),
        "window": longest,
        "stride": stride,
    }


def windows(count: int, longest: int, stride: int) -> list[tuple[int, int]]:
    """Where each window begins, and the first piece in it that no window before has judged."""
    found, new, begin = list[tuple[int, int]](), 0, 0
    while new < count:
        found.append((begin, new))
        new = begin + longest
        begin = new - longest + stride
    return found
