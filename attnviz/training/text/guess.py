"""`python -m attnviz.training one-block`: a transformer of one block learns to predict masked words.

Sentences of 4 to 24 known words; a fifth of the words of each is masked. A batch holds sentences of one length, so that
no padding is needed. Only sentences whose words all have a vector are used.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from attnviz.models.files import as_shipped
from attnviz.models.guess import GuessConfig, Guesser, save_guesser
from attnviz.models.words import WordVectors, load_words, words_of
from attnviz.training.card import LIMITS, opening
from attnviz.training.images.data import Split
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus
from attnviz.training.text.skipgram import TextProgress

SENTENCE = re.compile(r"(?<=[.!?])[\"'\u201d\u2019]?\s+")
MIN_WORDS = 4
ByLength = Mapping[int, Int[np.ndarray, "sentence token"]]


@dataclass(frozen=True)
class GuessRecipe:
    """The hyperparameters of a training run."""

    steps: int = 5000
    batch: int = 192
    learning_rate: float = 3e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    mask_share: float = 0.2  # share of the words that are masked
    max_grad_norm: float = 1.0
    seed: int = 0


def sentences(split: Split, words: WordVectors, max_words: int) -> ByLength:
    """Every sentence whose words are all known, as rows of word ids, by length."""
    rows_of: dict[int, list[list[int]]] = {}
    for line in corpus.lines(split):
        for sentence in SENTENCE.split(line):
            ids = [words.index.get(word, -1) for word in words_of(sentence)]
            if MIN_WORDS <= len(ids) <= max_words and min(ids) >= 0:
                rows_of.setdefault(len(ids), []).append(ids)
    return {length: np.array(rows, dtype=np.int32) for length, rows in sorted(rows_of.items())}


def batches(texts: ByLength, recipe: GuessRecipe, random: np.random.Generator) -> Iterator[Tensor]:
    """Endless batches: a length is sampled in proportion to its number of words, then sentences of it."""
    lengths = list(texts)
    share = np.array([texts[length].size for length in lengths], dtype=np.float64)
    while True:
        rows = texts[int(random.choice(lengths, p=share / share.sum()))]
        yield torch.from_numpy(rows[random.integers(0, len(rows), recipe.batch)].astype(np.int64))


def mask_some(ids: Tensor, share: float) -> Tensor:
    """A mask of words: each is masked with this probability, and at least one in every sentence."""
    masked = torch.rand(ids.shape) < share
    masked[torch.arange(len(ids)), torch.randint(ids.shape[-1], (len(ids),))] = True
    return masked


def train_guesser(
    words: WordVectors,
    texts: ByLength,
    recipe: GuessRecipe,
    device: torch.device,
    report: Callable[[TextProgress], None] = lambda progress: None,
) -> tuple[Guesser, float]:
    """Train a block; returns it, and the seconds it took."""
    torch.manual_seed(recipe.seed)
    network = Guesser(GuessConfig(words=len(words.words), width=words.vectors.shape[-1]), words.vectors).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    source, started, total = batches(texts, recipe, np.random.default_rng(recipe.seed)), time.perf_counter(), 0.0
    for step in range(1, recipe.steps + 1):
        done = step / recipe.steps
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * min(done / recipe.warmup, 0.5 + 0.5 * math.cos(math.pi * done))
        ids = next(source)
        masked = mask_some(ids, recipe.mask_share).to(device)
        ids = ids.to(device)
        last = network(ids, masked, read=False).residuals["main"][-1]
        loss = F.cross_entropy(network.logits_from(last[masked]), ids[masked])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.max_grad_norm)
        optimiser.step()
        total += float(loss.detach())
        if step % 100 == 0:
            report(TextProgress(done, total / 100, time.perf_counter() - started))
            total = 0.0
    return network.cpu().eval(), time.perf_counter() - started


@torch.no_grad()
def evaluate(network: Guesser, texts: ByLength, seed: int = 0) -> dict[str, Any]:
    """Top-1 and top-5 accuracy on one masked word of every held-out sentence, and of the most frequent word."""
    random, right, five, common, count = np.random.default_rng(seed), 0, 0, 0, 0
    for rows in texts.values():
        ids = torch.from_numpy(rows.astype(np.int64))
        position = torch.from_numpy(random.integers(0, ids.shape[-1], len(ids)))
        for part, at in zip(ids.split(500), position.split(500), strict=True):
            row = torch.arange(len(part))
            masked = torch.zeros(part.shape, dtype=torch.bool)
            masked[row, at] = True
            last = network(part, masked, read=False).residuals["main"][-1]
            best = network.logits_from(last[row, at]).topk(5).indices
            true = part[row, at][:, None]
            right += int((best[:, :1] == true).sum())
            five += int((best == true).sum())
            common += int((true == 0).sum())  # the most frequent word
            count += len(part)
    return {
        "held_out": count,
        "top1": round(100 * right / count, 2),
        "top5": round(100 * five / count, 2),
        "most_frequent": round(100 * common / count, 2),
    }


def run_guesser(
    folder: Path, device: torch.device, report: Callable[[TextProgress], None], recipe: GuessRecipe | None = None
) -> str:
    """Train on the shipped word vectors, evaluate on held-out sentences, write weights and card. Raises NoData."""
    recipe, words = recipe or GuessRecipe(), load_words()
    max_words = GuessConfig(words=0).context_length
    texts = sentences("train", words, max_words)
    network, seconds = train_guesser(words, texts, recipe, device, report)
    as_shipped(network)
    facts = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "sentences": sum(map(len, texts.values())),
        "steps": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        **evaluate(network, sentences("val", words, max_words)),
        "data": corpus.SOURCES,
    }
    card = card_of(facts, network.config)
    save_guesser(network, words.digest, folder, card, facts)
    return card


def card_of(facts: dict[str, Any], shape: GuessConfig) -> str:
    """The text of card.md; every number comes from `facts`."""
    lines = [
        *opening("one-block: a transformer of one block that predicts masked words", "one-block"),
        f"| network | 1 layer, {shape.heads} heads, width {shape.width}, over the frozen vectors of `word2vec` |",
        f"| parameters | {facts['parameters']:,}, without the word vectors |",
        f"| data | {facts['data']} |",
        f"| trained on | {facts['sentences']:,} sentences, {facts['steps']:,} steps of {facts['batch']}, "
        f"seed {facts['seed']} |",
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        f"| held out | {facts['held_out']:,} sentences, one masked word in each |",
        f"| top-1 | {facts['top1']} % |",
        f"| top-5 | {facts['top5']} % |",
        f"| always predicting the most frequent word (baseline) | {facts['most_frequent']} % |",
        "",
        LIMITS,
        "",
        "It predicts one word from up to 23 others with a single attention layer: it captures which words often occur "
        "together, not what a sentence means. It reads words in lower case without punctuation.",
        "",
    ]
    return "\n".join(lines)
