"""`python -m attnviz.training translator`: an encoder-decoder learns to translate English into French.

`--size gpu` trains a larger one for longer. `seq2seq` trains the recurrent network on the same pairs.
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
from attnviz.training import card
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus
from attnviz.training.text.bleu import evaluate, scorer
from attnviz.training.text.loop import LengthSampler, Random, TextRecipe, pad, train, without_padding
from attnviz.training.text.skipgram import TextProgress

MAX_TOKENS = 60  # of a sentence to train on
LABEL_SMOOTHING = 0.1
CPU = TextRecipe(steps=3400, batch=4096, learning_rate=2e-3, ema_decay=0.998)
SHAPE = TranslatorConfig(width=192, layers=3, heads=6, positions="sine")
DATA = "sentences of Tatoeba (CC BY 2.0) and translated captions of Multi30k task 1 (research use), English and French"


@dataclass(frozen=True)
class Size:
    """A network and the recipe that trains it."""

    network: Callable[[], Translator | Seq2Seq]
    recipe: TextRecipe
    options: str = ""  # of the command line, for the card

    def with_changes(self, size: str, changes: Mapping[str, int]) -> Size:
        """A size with changes of its recipe, and the command-line options for the card."""
        options = [] if size == "cpu" else [f"--size {size}"]
        options += [f"--{name} {value}" for name, value in changes.items()]
        return replace(self, recipe=replace(self.recipe, **changes), options=" ".join(["", *options]))


SIZES = {
    "cpu": Size(partial(Translator, SHAPE), CPU),
    "gpu": Size(
        partial(Translator, TranslatorConfig(width=512, layers=6, heads=8, positions="sine")),
        TextRecipe(steps=12_000, batch=25_000, learning_rate=1e-3, ema_decay=0.999),
    ),
}


class Pairs:
    """Tokenised sentence pairs, sampled by length."""

    def __init__(
        self, pairs: Sequence[tuple[str, str]], subwords: SubwordTokenizer, device: torch.device, seed: int = 0
    ):
        english, french = (subwords.batch(side) for side in zip(*pairs, strict=True))
        fit = [i for i in range(len(pairs)) if len(english[i]) < MAX_TOKENS and len(french[i]) < MAX_TOKENS]
        self.source = [np.array([*english[i], EOS], dtype=np.int16) for i in fit]
        self.target = [np.array([BOS, *french[i], EOS], dtype=np.int16) for i in fit]
        self.device = device
        both = [len(s) + len(t) for s, t in zip(self.source, self.target, strict=True)]
        self.sampler = LengthSampler(both, np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self.source)

    def loss(self, network: Any, progress: float, random: Random, *, tokens: int) -> Tensor:
        """Cross-entropy of the next French token, with label smoothing."""
        chosen = self.sampler.sample(tokens, random)
        source, keep = pad([self.source[i] for i in chosen], self.device)
        target, target_keep = pad([self.target[i] for i in chosen], self.device)
        last = network(source, target[:, :-1], edit=without_padding(keep), read=False).residuals["target"][-1]
        keep_next = target_keep[:, 1:]
        logits = network.logits_from(last[keep_next])
        return F.cross_entropy(logits.float(), target[:, 1:][keep_next], label_smoothing=LABEL_SMOOTHING)


def run_translator(
    folder: Path,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
    size: str = "cpu",
    **changes: int,
) -> str:
    """Train, evaluate on held-out sentences, write weights and card; `changes` override the recipe. Raises NoData."""
    title = "English to French: an encoder and a decoder"
    return run_pairs("translator", title, SIZES[size].with_changes(size, changes), folder, device, report, checkpoint)


def run_pairs(
    name: str,
    title: str,
    size: Size,
    folder: Path,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
) -> str:
    """Train a translation network on all pairs, evaluate it, write weights and card. Raises NoData."""
    scorer()  # fail now, not after hours of training, where the evaluation library is missing
    recipe, subwords = size.recipe, load_subwords()
    torch.manual_seed(recipe.seed)
    training_pairs = [*corpus.translations("train")]
    pairs = Pairs(training_pairs, subwords, device, recipe.seed)

    def loss(network: Any, progress: float, random: Random) -> Tensor:
        return pairs.loss(network, progress, random, tokens=recipe.batch)

    network, seconds = train(size.network(), recipe, loss, device, report, checkpoint)
    as_shipped(network)
    model = TranslationModel(name, network.to(device), subwords, title=title)
    facts = {
        "recipe": name + size.options,
        "parameters": sum(p.numel() for p in network.parameters()),
        "pairs": len(pairs),
        "max_tokens": MAX_TOKENS,
        "steps": recipe.last,
        "schedule": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        **evaluate(model),
        "french_seen": count_seen(training_pairs),
        "data": DATA,
    }
    text = card_of(model, facts)
    model.to("cpu").save(folder, text, facts)
    return text


def count_seen(training_pairs: Sequence[tuple[str, str]]) -> int:
    """How many French sentences of the test set occur in training, as the translation of another English sentence."""
    seen = {french for _, french in training_pairs}
    return sum(french in seen for _, french in corpus.translations("test"))


def card_of(model: TranslationModel, facts: dict[str, Any]) -> str:
    """The text of card.md; every number comes from `facts`."""
    steps = f"{facts['steps']:,} steps"
    if facts["steps"] != facts["schedule"]:
        steps = f"{facts['steps']:,} of {facts['schedule']:,} steps"
    lines = [
        *card.opening(f"{model.name}: {model.title}", facts["recipe"]),
        f"| network | {describe(model.network)} |",
        f"| parameters | {facts['parameters']:,}; one embedding of {len(model.tokenizer):,} tokens for both "
        "languages |",
        f"| data | {facts['data']} |",
        f"| trained on | {facts['pairs']:,} pairs of at most {facts['max_tokens']} tokens a side, {steps} of "
        f"{facts['batch']:,} tokens, padding included, seed {facts['seed']} |",
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        f"| perplexity per token | {facts['perplexity']} on {facts['held_out']:,} held-out pairs "
        f"(loss {facts['loss']}) |",
    ]
    for test in facts["tests"]:
        lines.append(
            f"| {test['name']}, {test['decoding']} | BLEU {test['bleu']}, chrF {test['chrf']}, exact match "
            f"{test['exact']} %; {test['sentences']:,} sentences, {test['references']:,} references |"
        )
    signature, seen = facts["tests"][0]["signature"], facts["french_seen"]
    lines += [
        "",
        f"BLEU and chrF by sacreBLEU, `{signature}`. No English sentence of a test set was trained on; {seen:,} French "
        "sentences of the Tatoeba test set were, as translations of other English sentences.",
        "",
        card.LIMITS,
        "",
        "It was trained on short everyday sentences and captions of photographs, nothing else: news, law and poetry "
        "are unfamiliar to it, and rare names are spelled token by token or wrongly. It translates one sentence "
        "without the sentences around it, so it guesses what English does not specify: tu or vous, he or she.",
        "",
    ]
    return "\n".join(lines)


def describe(network: Translator | Seq2Seq) -> str:
    """The shape of a network, for the card."""
    shape = network.config
    if isinstance(network, Seq2Seq):
        return (
            f"bidirectional GRU encoder and GRU decoder (hidden size {network.config.hidden}), additive attention, "
            f"width {shape.width}"
        )
    return f"encoder and decoder of {shape.layers} layers each, {shape.heads} heads, width {shape.width}"
