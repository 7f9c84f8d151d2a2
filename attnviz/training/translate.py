"""`python -m attnviz.training translator`: an encoder-decoder learns to translate English into French."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.models.store import as_shipped
from attnviz.models.subwords import BOS, EOS, Subwords, load_subwords
from attnviz.models.text import Translator, TranslatorConfig
from attnviz.training import corpus
from attnviz.training.skipgram import Stand
from attnviz.training.text_run import Random, Shelf, TextRecipe, kept_or_none, padded, trained

LONGEST = 60  # pieces of a sentence to learn from
SMOOTHING = 0.1
CPU = TextRecipe(steps=3400, batch=4096, rate=2e-3, average=0.998)
SHAPE = TranslatorConfig(width=192, layers=3, heads=6, positions="sine")


class Pairs:
    """Sentence pairs as numbers of pieces, drawn by length."""

    def __init__(self, pairs: Sequence[tuple[str, str]], subwords: Subwords, device: torch.device, seed: int = 0):
        english, french = (subwords.batch(side) for side in zip(*pairs, strict=True))
        fit = [i for i in range(len(pairs)) if len(english[i]) < LONGEST and len(french[i]) < LONGEST]
        self.source = [np.array([*english[i], EOS], dtype=np.int16) for i in fit]
        self.target = [np.array([BOS, *french[i], EOS], dtype=np.int16) for i in fit]
        self.device = device
        both = [len(s) + len(t) for s, t in zip(self.source, self.target, strict=True)]
        self.shelf = Shelf(both, np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self.source)

    def loss(self, network: Any, progress: float, random: Random, *, tokens: int) -> Tensor:
        """Cross-entropy of the next French piece, with label smoothing."""
        chosen = self.shelf.draw(tokens, random)
        source, keep = padded([self.source[i] for i in chosen], self.device)
        target, said = padded([self.target[i] for i in chosen], self.device)
        last = network(source, target[:, :-1], keep=kept_or_none(keep), read=False).residuals["target"][-1]
        logits, wanted = network.read(last[said[:, 1:]]), target[:, 1:][said[:, 1:]]
        return F.cross_entropy(logits.float(), wanted, label_smoothing=SMOOTHING)


def run_translator(
    folder: Path, device: torch.device, report: Callable[[Stand], None], checkpoint: Path | None = None,
    recipe: TextRecipe = CPU,
) -> str:  # fmt: skip
    """Train, test on held-out sentences, write weights and card. Raises NoData."""
    torch.manual_seed(recipe.seed)
    subwords = load_subwords()
    pairs = Pairs([*corpus.translations("train")], subwords, device, recipe.seed)

    def loss(network: Translator, progress: float, random: Random) -> Tensor:
        return pairs.loss(network, progress, random, tokens=recipe.batch)

    network, seconds = trained(Translator(SHAPE), recipe, loss, device, report, checkpoint)
    as_shipped(network)
    raise NotImplementedError
