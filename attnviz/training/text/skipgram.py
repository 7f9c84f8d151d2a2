"""`python -m attnviz.training word2vec`: a vector for every word, by predicting its neighbours (skip-gram).

Skip-gram with negative sampling (Mikolov et al. 2013, arXiv 1310.4546): the vector of a word should have a large dot
product with the context vectors of its neighbours, and a small one with those of random words (sampled by count to the
power 3/4); frequent words are subsampled. All pairs of a batch share the same random words, so that their scores are
one matrix product.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnviz.models.words import WordVectors, save_words
from attnviz.training.card import LIMITS, opening
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus

REPORT = 100  # steps between two reports


@dataclass(frozen=True)
class SkipGram:
    """The hyperparameters of a training run."""

    width: int = 64
    epochs: int = 6
    window: int = 5  # largest distance of neighbours; nearer ones are used more often
    negatives: float = 8  # weight of the negative samples
    shared_negatives: int = 128  # random words of a batch
    subsample_threshold: float = 1e-4  # share of the text above which a word is subsampled
    batch: int = 8192
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class TextProgress:
    """Progress of a training run."""

    share: float
    loss: float
    seconds: float


Report = Callable[[TextProgress], None]


def loss_of(
    centre: Float[Tensor, "pair feature"],
    context: Float[Tensor, "pair feature"],
    noise: Float[Tensor, "negative feature"],
    negatives: float,
) -> Float[Tensor, ""]:
    """-log s(u_o . v_c) - k mean over n of log s(-u_n . v_c), averaged over pairs; s is the sigmoid."""
    true = F.softplus(-(centre * context).sum(-1))
    false = F.softplus(centre @ noise.T).mean(-1) * negatives
    return (true + false).mean()


def pairs_of(
    tokens: Int[np.ndarray, " token"], text_of: Int[np.ndarray, " token"], window: int, random: np.random.Generator
) -> Int[np.ndarray, "pair 2"]:
    """(word, neighbour) in both directions; a distance d is used with probability (window - d + 1) / window.

    `text_of` is the number of the text of each token: words of different texts are not neighbours.
    """
    found = []
    for distance in range(1, window + 1):
        near = text_of[distance:] == text_of[:-distance]
        near &= random.random(len(near)) < (window - distance + 1) / window
        left, right = tokens[:-distance][near], tokens[distance:][near]
        found += [np.stack([left, right], 1), np.stack([right, left], 1)]
    pairs = np.concatenate(found)
    random.shuffle(pairs)
    return pairs


def keep_probability(counts: Int[np.ndarray, " word"], threshold: float) -> Float[np.ndarray, " word"]:
    """The probability that one occurrence of a word is kept: sqrt(threshold / frequency), at most 1 (their eq. 5)."""
    return np.minimum(1, np.sqrt(threshold * counts.sum() / counts))


def batches(
    texts: Sequence[np.ndarray], counts: np.ndarray, recipe: SkipGram, random: np.random.Generator
) -> Iterator[tuple[Int[np.ndarray, "pair 2"], float]]:
    """Batches of pairs in random order, with the share of all epochs that is complete."""
    keep = keep_probability(counts, recipe.subsample_threshold)
    parts = max(1, sum(map(len, texts)) // 300_000)  # pairs of a part fit in memory
    for epoch in range(recipe.epochs):
        order = random.permutation(len(texts))
        for number, part in enumerate(np.array_split(order, parts)):
            tokens = np.concatenate([texts[i] for i in part])
            text_of = np.repeat(np.arange(len(part)), [len(texts[i]) for i in part])
            kept = random.random(len(tokens)) < keep[tokens]
            pairs = pairs_of(tokens[kept], text_of[kept], recipe.window, random)
            for start in range(0, len(pairs), recipe.batch):
                done = (number + start / max(1, len(pairs))) / parts
                yield pairs[start : start + recipe.batch], (epoch + done) / recipe.epochs


def train_vectors(
    texts: Sequence[np.ndarray],
    counts: Int[np.ndarray, " word"],
    recipe: SkipGram,
    device: torch.device,
    report: Report = lambda progress: None,
) -> tuple[Float[Tensor, "word feature"], Float[Tensor, "word feature"], float]:
    """Train; returns vectors and context vectors of every word, and the seconds it took."""
    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    centres, contexts = (nn.Embedding(len(counts), recipe.width, sparse=True) for _ in range(2))
    nn.init.normal_(centres.weight, std=0.5 / recipe.width**0.5)
    nn.init.zeros_(contexts.weight)
    centres, contexts = centres.to(device), contexts.to(device)
    optimiser = torch.optim.SparseAdam([*centres.parameters(), *contexts.parameters()], lr=recipe.learning_rate)
    noise = torch.from_numpy(counts**0.75)
    started, total, steps = time.perf_counter(), 0.0, 0
    for pairs, share in batches(texts, counts, recipe, random):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * max(0.05, 1 - share)
        left, right = torch.from_numpy(pairs.astype(np.int64)).to(device).unbind(1)
        negatives = torch.multinomial(noise, recipe.shared_negatives, replacement=True).to(device)
        loss = loss_of(centres(left), contexts(right), contexts(negatives), recipe.negatives)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total, steps = total + float(loss.detach()), steps + 1
        if steps % REPORT == 0:
            report(TextProgress(share, total / REPORT, time.perf_counter() - started))
            total = 0.0
    return centres.weight.detach().cpu(), contexts.weight.detach().cpu(), time.perf_counter() - started


def remove_common_directions(
    vectors: Float[Tensor, "word feature"], counts: Int[np.ndarray, " word"], top: int = 2
) -> Float[Tensor, "word feature"]:
    """Subtract the mean of all vectors and their first `top` principal directions.

    These mostly encode how frequent a word is, and make all words similar (Mu and Viswanath 2018, arXiv 1702.01417).
    The result is divided by one number, so that the mean length over running text is 1.
    """
    centred = vectors - vectors.mean(0)
    shared = torch.linalg.svd(centred, full_matrices=False).Vh[:top]
    rest = centred - centred @ shared.T @ shared
    share = torch.from_numpy(counts / counts.sum()).to(rest)
    return rest / (rest.norm(dim=-1) * share).sum()


def ranking_accuracy(
    vectors: Tensor, contexts: Tensor, texts: Sequence[np.ndarray], counts: np.ndarray, recipe: SkipGram
) -> tuple[float, float]:
    """Share of held-out pairs whose true neighbour scores higher than a random word; and the number of pairs.

    Random words are sampled as in training, so that frequency alone helps little; chance is one half.
    """
    random = np.random.default_rng(recipe.seed)
    tokens = np.concatenate(list(texts))
    text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    kept = random.random(len(tokens)) < keep_probability(counts, recipe.subsample_threshold)[tokens]
    pairs = pairs_of(tokens[kept], text_of[kept], recipe.window, random)[:200_000]
    share = counts**0.75 / (counts**0.75).sum()
    other = random.choice(len(counts), len(pairs), p=share)
    centre = vectors[pairs[:, 0]]
    true, false = ((centre * contexts[index]).sum(-1) for index in (pairs[:, 1], other))
    return float((true > false).float().mean() + 0.5 * (true == false).float().mean()), len(pairs)


ANALOGIES = (  # chosen before any of them was tested: a is to b as c is to d
    ("man", "woman", "king", "queen"),
    ("boy", "girl", "son", "daughter"),
    ("he", "she", "his", "her"),
    ("big", "bigger", "small", "smaller"),
    ("good", "better", "bad", "worse"),
    ("go", "went", "come", "came"),
    ("walk", "walked", "play", "played"),
    ("dog", "puppy", "cat", "kitten"),
    ("paris", "france", "london", "england"),
    ("hand", "hands", "foot", "feet"),
)


def run_words(folder: Path, device: torch.device, report: Report, recipe: SkipGram | None = None) -> str:
    """Train, evaluate on held-out text, write the vectors and their card, which is returned. Raises NoData."""
    recipe = recipe or SkipGram()
    training, held_out = corpus.texts("train"), corpus.texts("val")
    words, counts = corpus.vocabulary(training)
    texts = corpus.encode(training, words)
    vectors, contexts, seconds = train_vectors(texts, counts, recipe, device, report)
    accuracy, pairs = ranking_accuracy(vectors, contexts, corpus.encode(held_out, words), counts, recipe)
    vectors = remove_common_directions(vectors, counts).half()  # as they are shipped
    table = WordVectors(tuple(words), vectors.float())
    facts = {
        "words": len(words),
        "width": recipe.width,
        "tokens": int(sum(map(len, texts))),
        "epochs": recipe.epochs,
        "window": recipe.window,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        "ranking_accuracy": round(100 * accuracy, 2),
        "pairs": pairs,
        "data": corpus.SOURCES,
        "analogies": [[*four, rank_of(table, *four)] for four in ANALOGIES],
    }
    card = card_of(facts, table)
    save_words(words, vectors, folder, card, facts)
    return card


def show(progress: TextProgress) -> None:
    """Print one line of progress."""
    left = progress.seconds * (1 - progress.share) / max(progress.share, 1e-9) / 60
    sys.stderr.write(f"{100 * progress.share:5.1f} %  loss {progress.loss:.3f}  {left:.1f} min left\n")


def rank_of(table: WordVectors, a: str, b: str, c: str, d: str) -> int:
    """The rank of d among the words nearest to b - a + c; a, b and c themselves are excluded."""
    return table.rank(d, table.analogy(a, b, c), without=(a, b, c))


def card_of(facts: dict[str, Any], table: WordVectors) -> str:
    """The text of card.md; every number comes from `facts` or from the vectors."""
    lines = [
        *opening("word2vec: a vector for every word", "word2vec"),
        f"| vectors | {facts['words']:,} words, dimension {facts['width']}, skip-gram with negative sampling |",
        f"| data | {facts['data']} |",
        f"| trained on | {facts['tokens']:,} words, {facts['epochs']} epochs, window {facts['window']}, "
        f"seed {facts['seed']} |",
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        "| after training | the mean and the first two principal directions are removed |",
        "| true neighbour ranked above a random word, held out, before that removal | "
        f"{facts['ranking_accuracy']} % of {facts['pairs']:,} pairs |",
        "",
        "## Analogies",
        "",
        "Rank of the expected word among all words by similarity to b - a + c; a, b and c themselves are excluded.",
        "",
        "| a | b | c | expected | rank |",
        "|---|---|---|---|---|",
        *(f"| {a} | {b} | {c} | {d} | {rank:,} |" for a, b, c, d, rank in facts["analogies"]),
        "",
        "## Neighbours",
        "",
        *(
            f"- {word}: {', '.join(near_words(table, word))}"
            for word in ("dog", "king", "annoying", "river", "because")
        ),
        "",
        LIMITS,
        "",
        "One vector per word, whatever the sentence: the bank of a river and the bank with money share one. The "
        "vectors reflect how words are used in stories for children, captions and short sentences, with the biases of "
        "these texts. Words that occur fewer than 12 times have no vector.",
        "",
    ]
    return "\n".join(lines)


def near_words(table: WordVectors, word: str) -> list[str]:
    """The eight nearest words."""
    return [near.word for near in table.near(table.vectors[table.index[word]], 8, without=(word,))]
