"""`python -m attnviz.training stories`: a decoder learns to continue English, one piece at a time.

Most batches are stretches of stories that run on over paragraphs, short ones and ones as long as the network reads:
simple tales, a small part of what there is, as often as old novels. The others are short sentences and captions, each
from its beginning to its end, so that it knows how sentences begin and stop. What it shall be good at comes more often
at the end, while the rate falls (Hu et al. 2024, arXiv 2404.06395): simple English, and how tales begin.
`stories-more` lets the decoder that is shipped go on learning, from the same texts in another order, and from more of
the novels: by then it has read the tales many times over and the novels about once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attnviz.models.files import as_shipped
from attnviz.models.generate import SamplingConfig, steps
from attnviz.models.store import load_text
from attnviz.models.subwords import BOS, EOS, SubwordTokenizer, load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.text_model import TextModel
from attnviz.training import card
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus
from attnviz.training.text.blimp import blimp, perplexity
from attnviz.training.text.loop import Random, Shelf, TextRecipe, padded, trained
from attnviz.training.text.next_piece import next_piece_loss
from attnviz.training.text.skipgram import TextProgress

SHARES = {"tales": 0.38, "novels": 0.30, "said": 0.24, "captions": 0.08}  # of the batches
AT_LAST = {"tales": 0.40, "novels": 0.10, "said": 0.42, "captions": 0.08}  # while the rate falls
AGAIN = {"tales": 0.20, "novels": 0.42, "said": 0.28, "captions": 0.10}  # of a decoder that knows the tales by now
AGAIN_AT_LAST = {"tales": 0.26, "novels": 0.24, "said": 0.42, "captions": 0.08}
BEGINNINGS = 0.5  # share of the stretches of tales that then begin where a tale begins
STRETCHES = (1 / 4, 1 / 4, 1 / 2, 1)  # lengths of a stretch, as shares of what the network reads
BEGIN, SAMPLE = "Once upon a time", 80  # what the samples of the card begin with, and their pieces
TITLE = "English stories, word after word"
RECIPE = TextRecipe(steps=4500, batch=4096, learning_rate=3e-3, hold=0.7, ema_decay=0.995)
MORE = replace(RECIPE, steps=3800, warmup=60, hold=0.6, seed=3)
TOLD = (*card.RUN_FIELDS, "threads", "blimp")  # of a training it goes on from
earlier = partial(card.earlier, score="blimp", said="of BLiMP", unit=" pieces")
SHAPE = ReaderConfig(
    width=192,
    layers=6,
    heads=6,
    variant="gqa",
    options={"groups": 2, "bias": False},
    norm="rms",
    gated=True,
    mlp=8 / 3,
    positions="rotary",
    context_length=512,
    causal=True,
)


@dataclass(frozen=True)
class Size:
    """A network, the recipe that trains it, and how many minimal pairs of each paradigm test it (None = all)."""

    shape: ReaderConfig
    recipe: TextRecipe
    pairs: int | None = None
    options: str = ""  # of the command that asks for it
    init_from: str = ""  # a shipped model to go on from, with a schedule of its own
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    at_last: Mapping[str, float] = field(default_factory=lambda: AT_LAST)


SIZES = {
    "cpu": Size(SHAPE, RECIPE, pairs=300),
    "more": Size(SHAPE, MORE, pairs=300, init_from="stories", shares=AGAIN, at_last=AGAIN_AT_LAST),
    "gpu": Size(
        replace(SHAPE, width=384, layers=8),
        TextRecipe(steps=8000, batch=16_384, learning_rate=1.5e-3, hold=0.7, ema_decay=0.999),
    ),
}


class Told:
    """What it learns from: two long rows of stories, and two shelves of short texts."""

    def __init__(self, size: Size, subwords: SubwordTokenizer, device: torch.device):
        self.recipe, self.longest, self.device = size.recipe, size.shape.context_length, device
        self.shares, self.at_last = size.shares, size.at_last
        self.rows: dict[str, Int[np.ndarray, " token"]] = {
            "tales": row_of(corpus.stories("train", "tales"), subwords),
            "novels": row_of(corpus.stories("train", "novels"), subwords),
        }
        english = [en for en, _ in corpus.translations("train")]
        short = {
            "said": [*english, *(sentence.text for sentence in corpus.treebank("train"))],
            "captions": [*corpus.captions("train")],
        }
        self.tales_begin = np.flatnonzero(np.append(EOS, self.rows["tales"][:-1]) == EOS)  # where a tale begins
        self.short = {
            kind: [np.array([BOS, *ids[: self.longest - 1], EOS], dtype=np.int16) for ids in subwords.batch(texts)]
            for kind, texts in short.items()
        }
        self.shelves = {
            kind: Shelf([len(row) for row in texts], np.random.default_rng(self.recipe.seed))
            for kind, texts in self.short.items()
        }

    def loss(self, network: Any, progress: float, random: Random) -> Tensor:
        """Cross-entropy of every next piece."""
        texts = self.texts(progress >= self.recipe.hold, random)
        ids, said = padded(texts, self.device)  # padding stands last, where a causal mask hides it
        last = network(ids[:, :-1], read=()).residuals["main"][-1][said[:, 1:]]
        pieces = network.pieces
        return next_piece_loss(network.norm(last), pieces.table, pieces.bias, ids[:, 1:][said[:, 1:]])

    def texts(self, at_last: bool, random: Random) -> list[Int[np.ndarray, " token"]]:
        """The texts of one batch, all of one kind."""
        shares = self.at_last if at_last else self.shares
        kind = random.choice([*shares], p=[*shares.values()])
        if kind in self.short:
            return [self.short[kind][i] for i in self.shelves[kind].draw(self.recipe.batch, random)]
        row = self.rows[kind]
        stretch = min(round(random.choice(STRETCHES) * self.longest), len(row) - 1)
        begins = random.integers(0, len(row) - stretch, max(1, self.recipe.batch // stretch))
        if at_last and kind == "tales":
            first = random.choice(self.tales_begin[self.tales_begin <= len(row) - stretch], len(begins))
            begins = np.where(random.random(len(begins)) < BEGINNINGS, first, begins)
        return [np.concatenate([[BOS], row[at : at + stretch]]) for at in begins]


def row_of(stories: Iterable[Sequence[str]], subwords: SubwordTokenizer) -> Int[np.ndarray, " token"]:
    """All stories one after another, EOS after each."""
    lines, ends = list[str](), list[bool]()
    for story in stories:
        lines += story
        ends += [False] * (len(story) - 1) + [True]
    rows = ([*ids, EOS] if end else ids for ids, end in zip(subwords.batch(lines), ends, strict=True))
    return np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int16)


def run_stories(
    folder: Path,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
    size: str | Size = "cpu",
    **changes: int,
) -> str:
    """Train, test on held-out stories and minimal pairs, write weights and card; `changes` of the recipe.

    Raises NoData.
    """
    chosen = changed(size, changes) if isinstance(size, str) else size
    recipe, subwords = chosen.recipe, load_subwords()
    torch.manual_seed(recipe.seed)
    told = Told(chosen, subwords, device)
    before = load_text(chosen.init_from) if chosen.init_from else None
    start = Reader(chosen.shape) if before is None else before.network.requires_grad_(True)
    also = (chosen.shares, chosen.at_last, before and before.digest)
    network, seconds = trained(start, recipe, told.loss, device, report, checkpoint, also=also)
    as_shipped(network)
    network.to(device).requires_grad_(False)
    facts = {
        "recipe": ("stories-more" if chosen.init_from else "stories") + chosen.options,
        "parameters": sum(p.numel() for p in network.parameters()),
        "pieces": {kind: len(row) for kind, row in told.rows.items()},
        "texts": {kind: len(texts) for kind, texts in told.short.items()},
        "steps": recipe.last,
        "schedule": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        **perplexity(network, subwords, corpus.stories("val")),
        **blimp(network, subwords, chosen.pairs),
        "shares": {kind: (share, chosen.at_last[kind]) for kind, share in chosen.shares.items()},
        "data": corpus.STORY_SOURCES,
    }
    if before is not None:
        facts["before"] = card.previous_run(before.facts, TOLD)
    model = TextModel("stories", network.cpu(), subwords, title=TITLE)
    facts["samples"] = {seed: sample(model, seed) for seed in range(3)}
    text = card_of(model, facts)
    model.save(folder, text, facts)
    return text


def changed(size: str, changes: Mapping[str, int]) -> Size:
    """A size with another number of steps, another seed or an earlier end; the card will name them."""
    said = [] if size in ("cpu", "more") else [f"--size {size}"]
    said += [f"--{name} {value}" for name, value in changes.items()]
    recipe = replace(SIZES[size].recipe, **changes)
    return replace(SIZES[size], recipe=recipe, options=" ".join(["", *said]))


def sample(model: TextModel, seed: int) -> str:
    """What it writes after "Once upon a time"."""
    ids = model.prepare(BEGIN).inputs["main"].tolist()
    settings = SamplingConfig(seed=seed)
    written = [step.id for step in itertools.islice(steps(model, ids, settings), SAMPLE)]
    return model.tokenizer.decode([*ids, *written])


def card_of(model: TextModel, facts: dict[str, Any]) -> str:
    """card.md, every number taken from `facts`."""
    shape, (low, high), as_drawn = model.config, facts["blimp_interval"], SamplingConfig()
    groups = shape.options.get("groups", shape.heads)
    often = {kind: f"{held:.0%}, at last {at_last:.0%}" for kind, (held, at_last) in facts["shares"].items()}
    lines = [
        *card.opening("stories: a decoder that continues English", facts["recipe"]),
        f"| network | {shape.layers} layers, width {shape.width}, {shape.heads} heads of queries that share "
        f"{groups} of keys and values, rotary positions, RMSNorm, gated MLP, reads {shape.context_length} pieces |",
        f"| parameters | {facts['parameters']:,} |",
        f"| data | {facts['data']} |",
        f"| trained on | tales of {facts['pieces']['tales']:,} pieces ({often['tales']} of the batches), "
        f"novels of {facts['pieces']['novels']:,} ({often['novels']}), {facts['texts']['said']:,} short sentences "
        f"({often['said']}), {facts['texts']['captions']:,} captions ({often['captions']}) |",
        f"| trained | {facts['steps']:,} of the {facts['schedule']:,} steps of its schedule, {facts['batch']:,} pieces "
        f"each, seed {facts['seed']} |",
        *(f"| before that | {line} |" for line in earlier(facts)),
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        f"| perplexity of held-out stories | {facts['perplexity_piece']} a piece, {facts['perplexity_word']} a word "
        f"({facts['held_out_pieces']:,} pieces, {facts['held_out_words']:,} words; windows of {facts['window']} pieces "
        f"that move on by {facts['stride']}) |",
        f"| BLiMP | {facts['blimp']} % (95 % interval {low} to {high}; chance 50 %) of {facts['blimp_pairs']:,} pairs, "
        f"{facts['blimp_each']} of each paradigm, whole sentences, their end included |",
        *table("BLiMP by term", facts["blimp_by_term"]),
        *table("BLiMP by paradigm", facts["blimp_by_paradigm"]),
        "",
        "## What it writes",
        "",
        f'After "{BEGIN}", temperature {as_drawn.temperature}, top-p {as_drawn.top_p}, seeds 0, 1 and 2, '
        f"{SAMPLE} pieces, nothing chosen or changed:",
        *(line for text in facts["samples"].values() for line in ("", f"> {text}")),
        "",
        "## What it knows, and what it does not",
        "",
        "It has read children's stories, fairy tales and old novels for the young, captions of photographs and short "
        "sentences. It knows how such sentences go on, not what is true: names, places and numbers it writes are made "
        "up, and a story loses its thread after a few sentences. Words of the classics are a century old, and so are "
        "some of their views.",
        "",
    ]
    return "\n".join(lines)


def table(title: str, rows: Mapping[str, list[float]]) -> list[str]:
    """Shares with their intervals, as Markdown."""
    lines = [f"| {name.replace('_', ' ')} | {share} % | {low} to {high} |" for name, (share, low, high) in rows.items()]
    return ["", f"## {title}", "", "| what | right | 95 % interval |", "|---|---|---|", *lines]
