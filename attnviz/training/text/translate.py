"""`python -m attnviz.training translator`: an encoder-decoder learns to translate English into French.

`--size gpu` trains a larger one for longer, by the same code. `seq2seq` trains the recurrent network on the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.models.files import as_shipped
from attnviz.models.seq2seq import Seq2Seq
from attnviz.models.subwords import BOS, EOS, SubwordTokenizer, load_subwords
from attnviz.models.text import Translator, TranslatorConfig
from attnviz.models.translation import TranslationModel
from attnviz.training.card import opening
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus
from attnviz.training.text.bleu import measured, scorer
from attnviz.training.text.loop import Random, Shelf, TextRecipe, kept_or_none, padded, trained
from attnviz.training.text.skipgram import TextProgress

LONGEST = 60  # pieces of a sentence to learn from
SMOOTHING = 0.1
CPU = TextRecipe(steps=3400, batch=4096, learning_rate=2e-3, ema_decay=0.998)
SHAPE = TranslatorConfig(width=192, layers=3, heads=6, positions="sine")
DATA = "sentences of Tatoeba (CC BY 2.0) and translated captions of Multi30k task 1 (research use), English and French"


@dataclass(frozen=True)
class Size:
    """A network and the recipe that trains it."""

    network: Callable[[], Translator | Seq2Seq]
    recipe: TextRecipe
    options: str = ""  # of the command that asks for it

    def changed(self, size: str, changes: Mapping[str, int]) -> Size:
        """This size with another number of steps or another seed, which the card will name."""
        said = [] if size == "cpu" else [f"--size {size}"]
        said += [f"--{name} {value}" for name, value in changes.items()]
        return replace(self, recipe=replace(self.recipe, **changes), options=" ".join(["", *said]))


SIZES = {
    "cpu": Size(partial(Translator, SHAPE), CPU),
    "gpu": Size(
        partial(Translator, TranslatorConfig(width=512, layers=6, heads=8, positions="sine")),
        TextRecipe(steps=12_000, batch=25_000, learning_rate=1e-3, ema_decay=0.999),
    ),
}


class Pairs:
    """Sentence pairs as numbers of pieces, drawn by length."""

    def __init__(
        self, pairs: Sequence[tuple[str, str]], subwords: SubwordTokenizer, device: torch.device, seed: int = 0
    ):
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
        last = network(source, target[:, :-1], keep_tokens=kept_or_none(keep), read=False).residuals["target"][-1]
        logits, wanted = network.logits_from(last[said[:, 1:]]), target[:, 1:][said[:, 1:]]
        return F.cross_entropy(logits.float(), wanted, label_smoothing=SMOOTHING)


def run_translator(
    folder: Path,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
    size: str = "cpu",
    **changes: int,
) -> str:
    """Train, test on held-out sentences, write weights and card; `changes` of the recipe. Raises NoData."""
    title = "English to French: an encoder and a decoder"
    return run_pairs("translator", title, SIZES[size].changed(size, changes), folder, device, report, checkpoint)


def run_pairs(
    name: str,
    title: str,
    size: Size,
    folder: Path,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
) -> str:
    """Any network that translates: trained on all pairs, tested, written to a folder. Raises NoData."""
    scorer()  # what it will be tested with has to be here before hours are spent
    recipe, subwords = size.recipe, load_subwords()
    torch.manual_seed(recipe.seed)
    learned = [*corpus.translations("train")]
    pairs = Pairs(learned, subwords, device, recipe.seed)

    def loss(network: Any, progress: float, random: Random) -> Tensor:
        return pairs.loss(network, progress, random, tokens=recipe.batch)

    network, seconds = trained(size.network(), recipe, loss, device, report, checkpoint)
    as_shipped(network)
    model = TranslationModel(name, network.to(device), subwords, title=title)
    facts = {
        "recipe": name + size.options,
        "parameters": sum(p.numel() for p in network.parameters()),
        "pairs": len(pairs),
        "context_length": LONGEST,
        "steps": recipe.last,
        "schedule": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        **measured(model),
        "french_seen": seen_before(learned),
        "data": DATA,
    }
    card = card_of(model, facts)
    model.to("cpu").save(folder, card, facts)
    return card


def seen_before(learned: Sequence[tuple[str, str]]) -> int:
    """How many French sentences of the test also translate another English sentence that was trained on."""
    french = {french for _, french in learned}
    return sum(french_one in french for _, french_one in corpus.translations("test"))


def card_of(model: TranslationModel, facts: dict[str, Any]) -> str:
    """card.md, every number taken from `facts`."""
    stopped = "" if facts["steps"] == facts["schedule"] else f", of a schedule of {facts['schedule']:,},"
    lines = [
        *opening(f"{model.name}: {model.title}", facts["recipe"]),
        f"| network | {shape_of(model.network)} |",
        f"| parameters | {facts['parameters']:,}; one table of {len(model.tokenizer):,} pieces for both languages |",
        f"| data | {facts['data']} |",
        f"| trained on | {facts['pairs']:,} pairs of at most {facts['context_length']} pieces a side, "
        f"{facts['steps']:,} steps{stopped} of {facts['batch']:,} tokens, padding included, seed {facts['seed']} |",
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        f"| perplexity of a piece | {facts['perplexity']} over {facts['held_out']:,} held-out pairs "
        f"(loss {facts['loss']}) |",
    ]
    for test in facts["tests"]:
        lines.append(
            f"| {test['name']}, {test['decoding']} | BLEU {test['bleu']}, chrF {test['chrf']}, {test['exact']} % as a "
            f"translator wrote it; {test['sentences']:,} sentences, {test['references']:,} translations |"
        )
    signature, seen = facts["tests"][0]["signature"], facts["french_seen"]
    lines += [
        "",
        f"BLEU and chrF by sacreBLEU, `{signature}`. No English sentence of a test was trained on; {seen:,} of "
        "Tatoeba's French ones were, beside another English one.",
        "",
        LIMITS,
        "",
    ]
    return "\n".join(lines)


LIMITS = (
    "## What it knows, and what it does not\n\n"
    "It has read short everyday sentences and captions of photographs, nothing else: news, law and poetry are foreign "
    "to it, and rare names come out spelled piece by piece or wrong. It reads one sentence and knows nothing of those "
    "around it, so it guesses what English does not say: tu or vous, he or she."
)


def shape_of(network: Translator | Seq2Seq) -> str:
    """The shape of a network in words."""
    shape = network.config
    if isinstance(network, Seq2Seq):
        return (
            f"a recurrent encoder of two directions and a recurrent decoder (GRU, {network.config.hidden} numbers a "
            f"state), additive attention between them, width {shape.width}"
        )
    return f"encoder and decoder of {shape.layers} layers each, {shape.heads} heads, width {shape.width}"
