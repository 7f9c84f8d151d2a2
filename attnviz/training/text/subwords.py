"""`python -m attnviz.training subwords`: the pieces of words all text models read, from English and French text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from attnviz.models.subwords import learned_subwords, save_subwords
from attnviz.training.card import opening
from attnviz.training.text import corpus
from attnviz.training.text.skipgram import TextProgress

EVERY = 3  # one paragraph of so many of the stories, which would outweigh everything else


def texts() -> Iterator[str]:
    """What the vocabulary is learned from: only texts to train on. Raises NoData."""
    for i, line in enumerate(corpus.story_paragraphs("train")):
        if i % EVERY == 0:
            yield line
    yield from corpus.captions("train")
    for pair in corpus.translations("train"):
        yield from pair
    yield from (corpus.written(text) for _, text in corpus.reviews("train"))
    yield from (sentence.text for sentence in corpus.treebank("train"))


def run_subwords(folder: Path, device: torch.device, report: Callable[[TextProgress], None]) -> str:
    """Learn the vocabulary, write it and its card. Raises NoData."""
    started = time.perf_counter()
    learned = learned_subwords(texts())
    held = [*corpus.captions("val"), *(en for en, _ in corpus.translations("val"))]
    french = [fr for _, fr in corpus.translations("val")]
    report(TextProgress(1.0, 0.0, time.perf_counter() - started))
    rates = [sum(map(len, learned.batch(lines))) / sum(len(line.split()) for line in lines) for lines in (held, french)]
    card = "\n".join(
        [
            *opening("subwords: the pieces of words all text models read", "subwords"),
            f"| pieces | {len(learned):,}, by byte-pair encoding over bytes |",
            f"| learned from | {corpus.ALL_SOURCES} |",
            f"| pieces for a word of held-out English | {rates[0]:.2f} |",
            f"| pieces for a word of held-out French | {rates[1]:.2f} |",
            "",
        ]
    )
    save_subwords(learned, folder, card)
    return card
