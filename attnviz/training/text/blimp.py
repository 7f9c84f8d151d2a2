"""Evaluation of a language model: grammar by minimal pairs (BLiMP), and perplexity on held-out stories.

A minimal pair (BLiMP, Warstadt et al. 2020, arXiv 1912.00582) is two sentences that differ in one point, one
grammatical and one not; the model should give the grammatical one the higher probability. Chance is 50 %.
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
from attnviz.training.text.loop import pad

TOKENS = 4096  # in one batch of sentences, padding included
CHUNK = 1024  # tokens whose logits are held at a time


class Pair(NamedTuple):
    """One minimal pair of sentences."""

    paradigm: str
    field: str
    term: str
    good: str
    bad: str


def pairs(pairs_per_paradigm: int | None = None) -> list[Pair]:
    """The first `pairs_per_paradigm` pairs of every paradigm, None = all. Raises NoData."""
    rows = (line.split("\t") for line in corpus.lines_of(data_folder() / "text" / "blimp.tsv.gz"))
    groups = itertools.groupby((Pair(*row) for row in itertools.islice(rows, 1, None)), lambda pair: pair.paradigm)
    return [pair for _, group in groups for pair in itertools.islice(group, pairs_per_paradigm)]


@torch.no_grad()
def log_probabilities(
    network: Reader, ids: Int[Tensor, "text token"], keep: Tensor
) -> Float[Tensor, "text next_token"]:
    """Log-probability of every token after the first, given those before it; 0 at padding (`keep` False)."""
    last = network.norm(network(ids[:, :-1], read=()).residuals["main"][-1])
    keep_next = keep[:, 1:]
    features, target = last[keep_next], ids[:, 1:][keep_next]
    scores = [
        network.pieces.unembed(f).float().log_softmax(-1).gather(-1, w[:, None])[:, 0]
        for f, w in zip(features.split(CHUNK), target.split(CHUNK), strict=True)
    ]
    filled = torch.zeros(keep_next.shape, device=ids.device)
    filled[keep_next] = torch.cat(scores)
    return filled


def sentence_scores(
    network: Reader,
    subwords: SubwordTokenizer,
    sentences: Sequence[str],
    report: Callable[[float], None] = lambda share: None,
) -> Float[np.ndarray, " sentence"]:
    """Log-probability of each whole sentence including EOS; batches hold sentences of one length."""
    rows = [[BOS, *ids, EOS] for ids in subwords.batch(sentences)]
    lengths = np.array([len(row) for row in rows])
    scores, done, device = np.zeros(len(rows)), 0, network.pieces.table.device
    for length in np.unique(lengths):
        same_length = np.flatnonzero(lengths == length)
        for part in np.array_split(same_length, math.ceil(len(same_length) * length / TOKENS)):
            ids, keep = pad([rows[i] for i in part], device)
            scores[part] = log_probabilities(network, ids, keep).cpu().double().sum(-1).numpy()
            done += len(part)
            report(done / len(rows))
    return scores


def blimp(
    network: Reader,
    subwords: SubwordTokenizer,
    pairs_per_paradigm: int | None = None,
    report: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Accuracy on minimal pairs, with 95 % intervals: of all, by field, by term, by paradigm."""
    chosen = pairs(pairs_per_paradigm)
    scores = sentence_scores(network, subwords, [s for pair in chosen for s in (pair.good, pair.bad)], report)
    right = scores[0::2] > scores[1::2]
    accuracy, _, _ = with_interval(right)
    return {
        "blimp": accuracy,
        "blimp_interval": interval(accuracy, len(right)),
        "blimp_pairs": len(right),
        "blimp_pairs_per_paradigm": pairs_per_paradigm or "all",
        "blimp_by_field": by_name(right, [pair.field for pair in chosen]),
        "blimp_by_term": by_name(right, [pair.term for pair in chosen]),
        "blimp_by_paradigm": by_name(right, [pair.paradigm for pair in chosen]),
    }


def by_name(right: Iterable[bool] | np.ndarray, names: Sequence[str]) -> dict[str, list[float]]:
    """Accuracy in percent and its 95 % interval, for each name."""
    right = np.asarray(right)
    return {name: with_interval(right[np.array([n == name for n in names])]) for name in sorted(set(names))}


def with_interval(right: np.ndarray) -> list[float]:
    """Accuracy in percent, and its 95 % interval."""
    accuracy = round(100 * float(right.mean()), 2)
    return [accuracy, *interval(accuracy, len(right))]


def perplexity(
    network: Reader, subwords: SubwordTokenizer, stories: Iterable[Sequence[str]], stride: int | None = None
) -> dict[str, Any]:
    """Perplexity per token and per word of whole stories, with a sliding window.

    A story longer than the context is read in windows that move by `stride` (default: half the context length), with
    BOS before each. Each window scores only the tokens that no earlier window has scored, so a token is scored with at
    least `context_length - stride` tokens of context; the first window is scored whole.
    """
    context_length, device = network.config.context_length, network.pieces.table.device
    stride = stride or context_length // 2
    total, tokens, words = 0.0, 0, 0
    for story in stories:
        row = [*itertools.chain.from_iterable(subwords.batch(list(story)))]
        words += sum(len(paragraph.split()) for paragraph in story)
        tokens += len(row)
        for begin, new in windows(len(row), context_length, stride):
            ids, keep = pad([[BOS, *row[begin : begin + context_length]]], device)  # as in training
            total -= float(log_probabilities(network, ids, keep)[0, new - begin :].cpu().double().sum())
    return {
        "held_out_tokens": tokens,
        "held_out_words": words,
        "perplexity_token": round(math.exp(total / tokens), 2),
        "perplexity_word": round(math.exp(total / words), 2),
        "window": context_length,
        "stride": stride,
    }


def windows(count: int, context_length: int, stride: int) -> list[tuple[int, int]]:
    """Start of each window, and the first token in it that no earlier window has scored."""
    found, new, begin = list[tuple[int, int]](), 0, 0
    while new < count:
        found.append((begin, new))
        new = begin + context_length
        begin = new - context_length + stride
    return found
