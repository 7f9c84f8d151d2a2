"""`python -m attnviz.training sentences`: an encoder learns hidden words, then praise, parts of speech and heads too.

The first part of the training guesses hidden words in captions, short sentences and stories. Then batches of reviews
(does it praise?) and of treebank sentences (which part of speech is each word, and which word does it depend on?) come
in between. The last question is answered by one attention head alone: its weights are trained to lie on the word each
word depends on, so that its map can be held against the treebank.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from attnviz.models.files import as_shipped
from attnviz.models.store import load_text
from attnviz.models.subwords import MASK, SPECIAL, SubwordTokenizer, load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.text_model import TAGS, TextModel
from attnviz.training import card
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus
from attnviz.training.text.judge import evaluate
from attnviz.training.text.loop import Random, Shelf, TextRecipe, kept_or_none, padded, trained
from attnviz.training.text.skipgram import TextProgress
from attnviz.training.text.tagged import around, flat, tagged
from attnviz.types import AttentionCall

SENTENCE = re.compile(r"(?<=[.!?])[\"'\u201d\u2019]?\s+")
SYNTAX = (3, 0)  # layer and head whose weights are to lie on the head of each word


@dataclass(frozen=True)
class Plan:
    """What the encoder is asked while it learns."""

    alone: float = 0.5  # share of the training that only guesses hidden words
    hidden: float = 0.2  # share of the pieces that are to be guessed
    dropped: float = 0.2  # share of the pieces hidden in reviews and treebank sentences: nothing is learned by heart
    reviews: float = 0.45  # share of the later batches
    treebank: float = 0.4
    syntax: tuple[int, int] | None = SYNTAX  # None: heads are not asked
    longest: int = 100  # pieces of one text

    @property
    def guesses(self) -> bool:
        """Whether hidden words are guessed at all."""
        return self.alone > 0 or self.reviews + self.treebank < 1


CPU = TextRecipe(steps=3000, batch=4096, learning_rate=2e-3)
SHAPE = ReaderConfig(
    width=192,
    layers=5,
    heads=6,
    positions="learned1d",
    context_length=256,
    prefix=1,
    pooling="mean",
    outputs={"sentiment": 2, "tag": len(TAGS)},
)
MORE = replace(CPU, steps=800, learning_rate=3e-3, ema_decay=0.995, seed=1)
SIZES = {  # a network, the recipe that trains it, and what it is asked
    "cpu": (SHAPE, CPU, Plan()),
    "gpu": (
        replace(SHAPE, width=384, heads=8, layers=8),
        replace(CPU, steps=20_000, batch=16_384, learning_rate=1.5e-3),
        Plan(),
    ),
    "more": (SHAPE, MORE, Plan(alone=0)),  # of the network that is shipped
}
TOLD = (*card.RUN_FIELDS, "threads", "sst2")  # of a training it goes on from
earlier = partial(card.earlier, score="sst2", said="on SST-2", unit=" pieces")


def plain_texts(subwords: SubwordTokenizer, longest: int) -> list[Int[np.ndarray, " token"]]:
    """What hidden words are guessed in: captions, short sentences, and stories a few sentences at a time.

    Where a stretch of a story has two sentences or more, it is cut into two texts with SEP between.
    """
    singles = [*corpus.captions("train"), *(en for en, _ in corpus.translations("train"))]
    found = [np.array(around(ids[:longest]), dtype=np.int16) for ids in subwords.batch(singles)]
    told = [sentence for line in corpus.story_paragraphs("train") for sentence in [*SENTENCE.split(line), ""]]
    stretch: list[list[int]] = []
    for ids in [*subwords.batch(told), []]:
        if stretch and (not ids or sum(map(len, stretch)) + len(ids) > longest * 2 // 3):
            middle = (len(stretch) + 1) // 2
            halves = [list(itertools.chain.from_iterable(part)) for part in (stretch[:middle], stretch[middle:])]
            found.append(np.array(around(*(h[:longest] for h in halves if h)), dtype=np.int16))
            stretch = []
        if ids:
            stretch.append(ids)
    return [row for row in found if len(row) > 3]


class Tasks:
    """The three kinds of batches."""

    def __init__(self, plan: Plan, recipe: TextRecipe, subwords: SubwordTokenizer, device: torch.device):
        self.plan, self.recipe, self.device = plan, recipe, device
        random = np.random.default_rng(recipe.seed)
        self.plain = plain_texts(subwords, plan.longest) if plan.guesses else []
        self.plain_shelf = Shelf([len(row) for row in self.plain], random)
        rows = [*corpus.reviews("train")]
        self.praise = np.array([praise for praise, _ in rows], dtype=np.float32) / 4
        # As they stand in the treebank, in lower case and apart, and as a visitor would write them.
        self.reviews = [
            [around(ids[: plan.longest]) for ids in subwords.batch(form)]
            for form in ([text for _, text in rows], [corpus.written(text) for _, text in rows])
        ]
        self.review_shelf = Shelf([len(row) for row in self.reviews[1]], random)
        self.bank = tagged(subwords, corpus.treebank("train"), plan.longest)
        self.bank_shelf = Shelf([len(row.ids) for row in self.bank], random)

    def loss(self, network: Reader, progress: float, random: Random) -> Tensor:
        """The loss of one batch, of the kind that the plan draws at this progress."""
        drawn = random.random() if progress >= self.plan.alone else 1.0
        if drawn < self.plan.reviews:
            return self.praising(network, random)
        if drawn < self.plan.reviews + self.plan.treebank:
            return self.parsing(network, random)
        return self.guessing(network, random)

    def guessing(self, network: Reader, random: Random) -> Tensor:
        """Cross-entropy of hidden pieces (Devlin et al. 2019: of ten, eight are masked, one is another, one stays)."""
        rows = [self.plain[i] for i in self.plain_shelf.draw(self.recipe.batch, random)]
        ids, keep = padded(rows, self.device)
        # Drawn numbers are compared before they are moved: some graphics cards (mps) hold no float64.
        hidden = torch.from_numpy(random.random(ids.shape) < self.plan.hidden).to(self.device) & (ids >= len(SPECIAL))
        kind = random.random(ids.shape)
        masked, changed = (torch.from_numpy(some).to(self.device) for some in (kind < 0.8, kind > 0.9))
        other = torch.from_numpy(random.integers(len(SPECIAL), network.config.vocabulary, ids.shape)).to(self.device)
        read = torch.where(hidden & masked, MASK, torch.where(hidden & changed, other, ids))
        last = network(read, keep_tokens=kept_or_none(keep), read=()).residuals["main"][-1]
        answers = network.pieces.unembed(network.norm(last[hidden]))
        return F.cross_entropy(answers.float(), ids[hidden])

    def praising(self, network: Reader, random: Random) -> Tensor:
        """Cross-entropy of praise against blame; a mild review is a mild wish."""
        chosen = self.review_shelf.draw(self.recipe.batch, random)
        rows = [self.reviews[int(random.random() < 0.6)][i] for i in chosen]
        ids, keep = padded(rows, self.device)
        trace = network(self.some_hidden(ids, random), keep_tokens=kept_or_none(keep), read=("sentiment",))
        praise = torch.from_numpy(self.praise[chosen]).to(self.device)
        wanted = torch.stack([1 - praise, praise], -1)
        return F.cross_entropy(trace.logits["sentiment"][:, 0].float(), wanted)

    def parsing(self, network: Reader, random: Random) -> Tensor:
        """Cross-entropy of parts of speech, and of the weights of one head against the word each word depends on."""
        rows = [self.bank[i] for i in self.bank_shelf.draw(self.recipe.batch, random)]
        ids, keep = padded([row.ids for row in rows], self.device)
        line = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.first) for row in rows])).to(self.device)
        token, tags, heads = (torch.tensor(found, device=self.device) for found in flat(rows))
        trace = network(self.some_hidden(ids, random), keep_tokens=kept_or_none(keep), read=("tag",))
        tag_loss = F.cross_entropy(trace.logits["tag"][line, token].float(), tags)
        if self.plan.syntax is None:
            return tag_loss
        weights = syntax_scores(trace.calls, self.plan.syntax)[line, token].float().log_softmax(-1)
        return tag_loss + F.nll_loss(weights, heads)

    def some_hidden(self, ids: Tensor, random: Random) -> Tensor:
        """Token ids with some tokens masked."""
        hidden = torch.from_numpy(random.random(ids.shape) < self.plan.dropped).to(self.device)
        return torch.where(hidden & (ids >= len(SPECIAL)), MASK, ids)


def syntax_scores(calls: Sequence[AttentionCall], which: tuple[int, int]) -> Tensor:
    """[*batch query key]: masked scores of one head."""
    layer, head = which
    return next(call for call in calls if call.layer == layer).scores(heads=[head])[..., 0, :, :]


def run_sentences(
    folder: Path,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
    size: str = "cpu",
    **changes: int,
) -> str:
    """Train, test on held-out text, write weights and card. `changes` are those of the recipe. Raises NoData."""
    shape, recipe, plan = SIZES[size]
    recipe = replace(recipe, **changes)
    torch.manual_seed(recipe.seed)
    subwords = load_subwords()
    tasks = Tasks(plan, recipe, subwords, device)
    before = load_text("sentences") if size == "more" else None
    start = Reader(shape) if before is None else before.network.requires_grad_(True)
    also = (plan, before and before.digest)
    network, seconds = trained(start, recipe, tasks.loss, device, report, checkpoint, also=also)
    as_shipped(network)
    facts = {
        "recipe": {"cpu": "sentences", "more": "sentences-more"}.get(size, f"sentences --size {size}"),
        "parameters": sum(p.numel() for p in network.parameters()),
        "texts": len(tasks.plain),
        "pieces": sum(map(len, tasks.plain)),
        "reviews": len(tasks.praise),
        "treebank": len(tasks.bank),
        "steps": recipe.last,
        "planned": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        "syntax": list(SYNTAX),
        **evaluate(network, subwords, SYNTAX, plan.longest),
        "data": corpus.READ_SOURCES,
    }
    if before is not None:
        facts["before"] = card.previous_run(before.facts, TOLD)
    model = TextModel("sentences", network, subwords, title="English sentences")
    text = card_of(facts, shape)
    model.save(folder, text, facts)
    return text


def card_of(facts: dict[str, Any], shape: ReaderConfig) -> str:
    """card.md, every number taken from `facts`."""
    (layer, head), (low, high) = facts["syntax"], facts["sst2_interval"]
    lines = [
        *card.opening("sentences: an encoder that reads English", facts["recipe"]),
        f"| network | {shape.layers} layers, {shape.heads} heads, width {shape.width}, "
        f"reads {shape.context_length} pieces |",
        f"| parameters | {facts['parameters']:,} |",
        f"| data | {facts['data']} |",
        f"| hidden words | {facts['texts']:,} texts of {facts['pieces']:,} pieces |",
        f"| praise | {facts['reviews']:,} sentences about films (Stanford Sentiment Treebank) |",
        f"| parts of speech and heads | {facts['treebank']:,} sentences (English Web Treebank) |",
        f"| trained | {facts['steps']:,} of {facts['planned']:,} steps of {facts['batch']:,} pieces |",
        f"| seed | {facts['seed']} |",
        *(f"| before that | {line} |" for line in earlier(facts)),
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        f"| SST-2, {facts['sst2_held_out']:,} held-out sentences | {facts['sst2']} % (95 % interval "
        f"{low} to {high}), as the treebank writes {facts['sst2_lower']} % |",
        f"| UPOS, {facts['words_held_out']:,} held-out words | {facts['upos']} % |",
        f"| UAS of layer {layer + 1}, head {head + 1} | {facts['uas']} %, {facts['uas_no_punct']} % without signs |",
        f"| UAS of always the word before, the word after | {facts['uas_before']} %, {facts['uas_after']} % |",
        f"| best other head | {facts['uas_other']} % |",
        f"| a hidden piece is the first guess, among five | {facts['masked1']} %, {facts['masked5']} % of "
        f"{facts['masked_held_out']:,} |",
        "",
        "## What it knows, and what it does not",
        "",
        "It was asked four things: which word is hidden, whether a sentence about a film praises it, which part of "
        "speech each word is, and which word each word depends on. The last is answered by one head alone, whose "
        "weights were trained to lie there; all other heads are free. It learned from captions, short sentences and "
        "stories: news, "
        "numbers and names are strange to it, and praise of anything but films is a guess.",
        "",
    ]
    return "\n".join(lines)
