"""`python -m attnviz.training stories`: a decoder learns to continue English, one piece at a time.

Half of every batch is stretches of stories that run on over paragraphs, half captions and short sentences, each from
its beginning to its end, so that it knows how sentences begin and stop.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from attnviz.models.store import as_shipped
from attnviz.models.subwords import BOS, EOS, Subwords, load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.training import corpus
from attnviz.training.skipgram import Stand
from attnviz.training.text_run import Random, Shelf, TextRecipe, padded, trained

STRETCH = 160  # pieces of a stretch of a story
CPU = TextRecipe(steps=3000, batch=4096, rate=2e-3)
SHAPE = ReaderConfig(width=192, layers=6, heads=6, variant="gqa", options={"groups": 2, "bias": False}, norm="rms",
                     gated=True, mlp=8 / 3, positions="rotary", longest=512, causal=True)  # fmt: skip


class Told:
    """What it learns from: stories as one long row, and short texts by length."""

    def __init__(self, recipe: TextRecipe, subwords: Subwords, device: torch.device):
        self.recipe, self.device = recipe, device
        lines, ends = [], []
        for story in corpus.stories("train"):
            lines += story
            ends += [False] * (len(story) - 1) + [True]
        rows = ([*ids, EOS] if end else ids for ids, end in zip(subwords.batch(lines), ends, strict=True))
        self.row: Int[np.ndarray, " token"] = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int16)
        short = [*corpus.captions("train"), *(en for en, _ in corpus.translations("train"))]
        self.short = [np.array([BOS, *ids, EOS], dtype=np.int16) for ids in subwords.batch(short)]
        self.shelf = Shelf([len(row) for row in self.short], np.random.default_rng(recipe.seed))

    def loss(self, network: Any, progress: float, random: Random) -> Tensor:
        """Cross-entropy of every next piece."""
        if random.random() < 0.5:
            begins = random.integers(0, len(self.row) - STRETCH, self.recipe.batch // STRETCH)
            rows = [np.concatenate([[BOS], self.row[at : at + STRETCH]]) for at in begins]
        else:
            rows = [self.short[i] for i in self.shelf.draw(self.recipe.batch, random)]
        ids, said = padded(rows, self.device)  # padding stands behind what is said, where a causal mask hides it
        last = network(ids[:, :-1], read=()).residuals["main"][-1][said[:, 1:]]
        return F.cross_entropy(network.pieces.scores(network.norm(last)).float(), ids[:, 1:][said[:, 1:]])


def run_stories(
    folder: Path, device: torch.device, report: Callable[[Stand], None], checkpoint: Path | None = None,
    recipe: TextRecipe = CPU,
) -> str:  # fmt: skip
    """Train, test on held-out stories and minimal pairs, write weights and card. Raises NoData."""
    torch.manual_seed(recipe.seed)
    told = Told(recipe, load_subwords(), device)
    network, seconds = trained(Reader(SHAPE), recipe, told.loss, device, report, checkpoint)
    as_shipped(network)
    raise NotImplementedError
