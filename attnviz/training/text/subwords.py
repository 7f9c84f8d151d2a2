"""`python -m attnviz.training subwords`: the subword vocabulary of all text models, from English and French text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from attnviz.models.subwords import SubwordTokenizer, learned_subwords, save_subwords
from attnviz.training.card import opening
from attnviz.training.text import corpus
from attnviz.training.text.skipgram import TextProgress

STORY_STRIDE = 3  # every third paragraph of the stories, which would otherwise outweigh everything else


def texts() -> Iterator[str]:
    """The texts that the vocabulary is trained on; none is held out for evaluation. Raises NoData."""
    for i, line in enumerate(corpus.story_paragraphs("train")):
        if i % STORY_STRIDE == 0:
            yield line
    yield from corpus.captions("train")
    for pair in corpus.translations("train"):
        yield from pair
    yield from (corpus.detokenise(text) for _, text in corpus.reviews("train"))
    yield from (sentence.text for sentence in corpus.treebank("train"))


def run_subwords(folder: Path, device: torch.device, report: Callable[[TextProgress], None]) -> str:
    """Train the vocabulary, write it and its card. Raises NoData."""
    started = time.perf_counter()
    tokenizer = learned_subwords(texts())
    english = [*corpus.captions("val"), *(english for english, _ in corpus.translations("val"))]
    french = [french for _, french in corpus.translations("val")]
    report(TextProgress(1.0, 0.0, time.perf_counter() - started))
    facts = {
        "tokens": len(tokenizer),
        "data": corpus.ALL_SOURCES,
        "tokens_per_word": [tokens_per_word(tokenizer, lines) for lines in (english, french)],
    }
    card = card_of(facts)
    save_subwords(tokenizer, folder, card)
    return card


def tokens_per_word(tokenizer: SubwordTokenizer, lines: Sequence[str]) -> float:
    """The mean number of tokens of a word."""
    return sum(map(len, tokenizer.batch(lines))) / sum(len(line.split()) for line in lines)


def card_of(facts: Mapping[str, Any]) -> str:
    """The text of card.md; every number comes from `facts`."""
    english, french = facts["tokens_per_word"]
    return "\n".join(
        [
            *opening("subwords: the vocabulary of all text models", "subwords"),
            f"| vocabulary | {facts['tokens']:,} tokens, byte-level byte-pair encoding |",
            f"| trained on | {facts['data']} |",
            f"| tokens per word of held-out English | {english:.2f} |",
            f"| tokens per word of held-out French | {french:.2f} |",
            "",
        ]
    )
