"""`python -m attnviz.training one-block`: a transformer of one block learns to guess hidden words.

Sentences of 4 to 24 known words; a fifth of the words of each is hidden. A batch holds sentences of one length, so that
nothing has to be filled up. Only sentences the word vectors know every word of are used.
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
from attnviz.training.card import opening
from attnviz.training.images.data import Split
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus
from attnviz.training.text.skipgram import TextProgress

SENTENCE = re.compile(r"(?<=[.!?])[\"'\u201d\u2019]?\s+")
SHORTEST = 4
ByLength = Mapping[int, Int[np.ndarray, "sentence token"]]


@dataclass(frozen=True)
class GuessRecipe:
    """What a training does."""

    steps: int = 5000
    batch: int = 192
    learning_rate: float = 3e-3
    warmup: float = 0.05
    decay: float = 0.01
    hidden: float = 0.2  # share of the words that are hidden
    clip: float = 1.0
    seed: int = 0


def sentences(split: Split, words: WordVectors, longest: int) -> ByLength:
    """Every sentence whose words are all known, as rows of word numbers, by length."""
    found: dict[int, list[list[int]]] = {}
    for line in corpus.lines(split):
        for sentence in SENTENCE.split(line):
            ids = [words.index.get(word, -1) for word in words_of(sentence)]
            if SHORTEST <= len(ids) <= longest and min(ids) >= 0:
                found.setdefault(len(ids), []).append(ids)
    return {length: np.array(rows, dtype=np.int32) for length, rows in sorted(found.items())}


def batches(texts: ByLength, recipe: GuessRecipe, random: np.random.Generator) -> Iterator[Tensor]:
    """Batches for ever: a length in proportion to its words, then sentences of it at random."""
    lengths = list(texts)
    share = np.array([texts[length].size for length in lengths], dtype=np.float64)
    while True:
        rows = texts[int(random.choice(lengths, p=share / share.sum()))]
        yield torch.from_numpy(rows[random.integers(0, len(rows), recipe.batch)].astype(np.int64))


def some_hidden(ids: Tensor, share: float) -> Tensor:
    """Which words are hidden: each with this probability, and at least one in every sentence."""
    hidden = torch.rand(ids.shape) < share
    hidden[torch.arange(len(ids)), torch.randint(ids.shape[-1], (len(ids),))] = True
    return hidden


def train_guesser(
    words: WordVectors,
    texts: ByLength,
    recipe: GuessRecipe,
    device: torch.device,
    report: Callable[[TextProgress], None] = lambda stand: None,
) -> tuple[Guesser, float]:
    """The trained block, and the seconds it took."""
    torch.manual_seed(recipe.seed)
    network = Guesser(GuessConfig(words=len(words.words), width=words.vectors.shape[-1]), words.vectors).to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.decay, betas=(0.9, 0.98)
    )
    source, started, total = batches(texts, recipe, np.random.default_rng(recipe.seed)), time.perf_counter(), 0.0
    for step in range(1, recipe.steps + 1):
        done = step / recipe.steps
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * min(done / recipe.warmup, 0.5 + 0.5 * math.cos(math.pi * done))
        ids = next(source)
        hidden = some_hidden(ids, recipe.hidden).to(device)
        ids = ids.to(device)
        last = network(ids, hidden, read=False).residuals["main"][-1]
        loss = F.cross_entropy(network.logits_from(last[hidden]), ids[hidden])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimiser.step()
        total += float(loss.detach())
        if step % 100 == 0:
            report(TextProgress(done, total / 100, time.perf_counter() - started))
            total = 0.0
    return network.cpu().eval(), time.perf_counter() - started


@torch.no_grad()
def measured(network: Guesser, texts: ByLength, seed: int = 0) -> dict[str, Any]:
    """One hidden word in every held-out sentence: how often it is the first guess, among five; and without context."""
    random, right, five, common, count = np.random.default_rng(seed), 0, 0, 0, 0
    for rows in texts.values():
        ids = torch.from_numpy(rows.astype(np.int64))
        place = torch.from_numpy(random.integers(0, ids.shape[-1], len(ids)))
        for part, at in zip(ids.split(500), place.split(500), strict=True):
            line = torch.arange(len(part))
            hidden = torch.zeros(part.shape, dtype=torch.bool)
            hidden[line, at] = True
            last = network(part, hidden, read=False).residuals["main"][-1]
            best = network.logits_from(last[line, at]).topk(5).indices
            true = part[line, at][:, None]
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
    """Train on the shipped word vectors, test on held-out sentences, write weights and card. Raises NoData."""
    recipe, words = recipe or GuessRecipe(), load_words()
    longest = GuessConfig(words=0).context_length
    texts = sentences("train", words, longest)
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
        **measured(network, sentences("val", words, longest)),
        "data": corpus.SOURCES,
    }
    card = card_of(facts, network.config)
    save_guesser(network, words.digest, folder, card, facts)
    return card


def card_of(facts: dict[str, Any], shape: GuessConfig) -> str:
    """card.md, every number taken from `facts`."""
    lines = [
        *opening("one-block: a transformer of one block that guesses hidden words", "one-block"),
        f"| network | 1 layer, {shape.heads} heads, width {shape.width}, over the fixed vectors of `word2vec` |",
        f"| parameters | {facts['parameters']:,}, besides the word vectors |",
        f"| data | {facts['data']} |",
        f"| trained on | {facts['sentences']:,} sentences, {facts['steps']:,} steps of {facts['batch']}, "
        f"seed {facts['seed']} |",
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        f"| held out | {facts['held_out']:,} sentences, one word hidden in each |",
        f"| the hidden word is the first guess | {facts['top1']} % |",
        f"| it is among the first five | {facts['top5']} % |",
        f"| always saying the most frequent word | {facts['most_frequent']} % |",
        "",
        "## What it knows, and what it does not",
        "",
        "It guesses one word from up to 23 others, in one step of looking around: it knows what often stands beside "
        "what, not what a sentence means. It reads words in lower case without punctuation.",
        "",
    ]
    return "\n".join(lines)
