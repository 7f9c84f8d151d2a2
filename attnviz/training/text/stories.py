"""`python -m attnviz.training stories`: a decoder for English stories, trained to predict the next token.

Most batches are windows cut from concatenated stories, of several lengths up to the context length: simple tales, a
small part of the data, are sampled as often as old novels. The others are short sentences and captions, each as a whole
text, so that the model learns how sentences begin and end. While the learning rate decays, the mixture shifts to what
the model should be good at (Hu et al. 2024, arXiv 2404.06395): simple English, and how tales begin. `stories-more`
continues training the shipped decoder on the same texts in another order, with more of the novels: by then it has seen
the tales many times and the novels about once.
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
from attnviz.training.text.loop import LengthSampler, Random, TextRecipe, pad, train
from attnviz.training.text.next_token import next_token_loss
from attnviz.training.text.skipgram import TextProgress

SHARES = {"tales": 0.38, "novels": 0.30, "sentences": 0.24, "captions": 0.08}  # of the batches
FINAL_SHARES = {"tales": 0.40, "novels": 0.10, "sentences": 0.42, "captions": 0.08}  # while the learning rate decays
MORE_SHARES = {"tales": 0.20, "novels": 0.42, "sentences": 0.28, "captions": 0.10}  # of `stories-more`
MORE_FINAL_SHARES = {"tales": 0.26, "novels": 0.24, "sentences": 0.42, "captions": 0.08}
TALE_START_SHARE = 0.5  # share of the windows of tales that then begin at the start of a tale
WINDOW_SHARES = (1 / 4, 1 / 4, 1 / 2, 1)  # lengths of a window, as shares of the context length
PROMPT, SAMPLE_TOKENS = "Once upon a time", 80  # of the samples on the card
TITLE = "English stories, word after word"
RECIPE = TextRecipe(steps=4500, batch=4096, learning_rate=3e-3, hold=0.7, ema_decay=0.995)
MORE = replace(RECIPE, steps=3800, warmup=60, hold=0.6, seed=3)
PREVIOUS_RUN_FIELDS = (*card.RUN_FIELDS, "threads", "blimp")
earlier_runs = partial(card.earlier_runs, score="blimp", label="on BLiMP", unit=" tokens")
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
    """A configuration, its recipe, and how many minimal pairs of each paradigm it is evaluated on (None = all)."""

    shape: ReaderConfig
    recipe: TextRecipe
    pairs: int | None = None
    options: str = ""  # of the command line, for the card
    init_from: str = ""  # a shipped model whose training is continued
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    final_shares: Mapping[str, float] = field(default_factory=lambda: FINAL_SHARES)


SIZES = {
    "cpu": Size(SHAPE, RECIPE, pairs=300),
    "more": Size(SHAPE, MORE, pairs=300, init_from="stories", shares=MORE_SHARES, final_shares=MORE_FINAL_SHARES),
    "gpu": Size(
        replace(SHAPE, width=384, layers=8),
        TextRecipe(steps=8000, batch=16_384, learning_rate=1.5e-3, hold=0.7, ema_decay=0.999),
    ),
}


class StoryBatches:
    """Training batches: windows of two long rows of stories, and whole short texts of two kinds."""

    def __init__(self, size: Size, subwords: SubwordTokenizer, device: torch.device):
        self.recipe, self.context_length, self.device = size.recipe, size.shape.context_length, device
        self.shares, self.final_shares = size.shares, size.final_shares
        self.rows: dict[str, Int[np.ndarray, " token"]] = {
            "tales": row_of(corpus.stories("train", "tales"), subwords),
            "novels": row_of(corpus.stories("train", "novels"), subwords),
        }
        english = [en for en, _ in corpus.translations("train")]
        short = {
            "sentences": [*english, *(sentence.text for sentence in corpus.treebank("train"))],
            "captions": [*corpus.captions("train")],
        }
        self.tale_starts = np.flatnonzero(
            np.append(EOS, self.rows["tales"][:-1]) == EOS
        )  # positions where a tale begins
        self.short = {
            kind: [
                np.array([BOS, *ids[: self.context_length - 1], EOS], dtype=np.int16) for ids in subwords.batch(texts)
            ]
            for kind, texts in short.items()
        }
        self.samplers = {
            kind: LengthSampler([len(row) for row in texts], np.random.default_rng(self.recipe.seed))
            for kind, texts in self.short.items()
        }

    def loss(self, network: Any, progress: float, random: Random) -> Tensor:
        """Cross-entropy of every next token."""
        texts = self.texts(progress >= self.recipe.hold, random)
        ids, keep = pad(texts, self.device)  # padding comes last, where the causal mask hides it
        last = network(ids[:, :-1], read=()).residuals["main"][-1][keep[:, 1:]]
        pieces = network.pieces
        return next_token_loss(network.norm(last), pieces.table, pieces.bias, ids[:, 1:][keep[:, 1:]])

    def texts(self, final: bool, random: Random) -> list[Int[np.ndarray, " token"]]:
        """The texts of one batch, all of one kind; `final`: by the shares used while the learning rate decays."""
        shares = self.final_shares if final else self.shares
        kind = random.choice([*shares], p=[*shares.values()])
        if kind in self.short:
            return [self.short[kind][i] for i in self.samplers[kind].sample(self.recipe.batch, random)]
        row = self.rows[kind]
        window = min(round(random.choice(WINDOW_SHARES) * self.context_length), len(row) - 1)
        begins = random.integers(0, len(row) - window, max(1, self.recipe.batch // window))
        if final and kind == "tales":
            first = random.choice(self.tale_starts[self.tale_starts <= len(row) - window], len(begins))
            begins = np.where(random.random(len(begins)) < TALE_START_SHARE, first, begins)
        return [np.concatenate([[BOS], row[at : at + window]]) for at in begins]


def row_of(stories: Iterable[Sequence[str]], subwords: SubwordTokenizer) -> Int[np.ndarray, " token"]:
    """The token ids of all stories, concatenated, with EOS after each."""
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
    """Train, evaluate on held-out stories and minimal pairs, write weights and card; `changes` override the recipe.

    Raises NoData.
    """
    chosen = with_changes(size, changes) if isinstance(size, str) else size
    recipe, subwords = chosen.recipe, load_subwords()
    torch.manual_seed(recipe.seed)
    batches = StoryBatches(chosen, subwords, device)
    shipped = load_text(chosen.init_from) if chosen.init_from else None
    network = Reader(chosen.shape) if shipped is None else shipped.network.requires_grad_(True)
    extra = (chosen.shares, chosen.final_shares, shipped and shipped.digest)
    network, seconds = train(network, recipe, batches.loss, device, report, checkpoint, extra=extra)
    as_shipped(network)
    network.to(device).requires_grad_(False)
    facts = {
        "recipe": ("stories-more" if chosen.init_from else "stories") + chosen.options,
        "parameters": sum(p.numel() for p in network.parameters()),
        "tokens": {kind: len(row) for kind, row in batches.rows.items()},
        "texts": {kind: len(texts) for kind, texts in batches.short.items()},
        "steps": recipe.last,
        "schedule": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        **perplexity(network, subwords, corpus.stories("val")),
        **blimp(network, subwords, chosen.pairs),
        "shares": {kind: (share, chosen.final_shares[kind]) for kind, share in chosen.shares.items()},
        "data": corpus.STORY_SOURCES,
    }
    if shipped is not None:
        facts["previous_run"] = card.previous_run(shipped.facts, PREVIOUS_RUN_FIELDS)
    model = TextModel("stories", network.cpu(), subwords, title=TITLE)
    facts["samples"] = {str(seed): sample(model, seed) for seed in range(3)}
    text = card_of(model, facts)
    model.save(folder, text, facts)
    return text


def with_changes(size: str, changes: Mapping[str, int]) -> Size:
    """A size with changes of its recipe, and the command-line options for the card."""
    options = [] if size in ("cpu", "more") else [f"--size {size}"]
    options += [f"--{name} {value}" for name, value in changes.items()]
    recipe = replace(SIZES[size].recipe, **changes)
    return replace(SIZES[size], recipe=recipe, options=" ".join(["", *options]))


def sample(model: TextModel, seed: int) -> str:
    """A continuation of the prompt, sampled with this seed."""
    ids = model.prepare(PROMPT).inputs["main"].tolist()
    settings = SamplingConfig(seed=seed)
    generated = [step.id for step in itertools.islice(steps(model, ids, settings), SAMPLE_TOKENS)]
    return model.tokenizer.decode([*ids, *generated])


def card_of(model: TextModel, facts: dict[str, Any]) -> str:
    """The text of card.md; every number comes from `facts`."""
    lines = [
        *card.opening("stories: a decoder that continues English", facts["recipe"]),
        *training_rows(model.config, facts),
        *evaluation_rows(facts),
        *table("BLiMP by term", facts["blimp_by_term"]),
        *table("BLiMP by paradigm", facts["blimp_by_paradigm"]),
        *sample_lines(facts["samples"]),
        "",
        card.LIMITS,
        "",
        "It was trained on children's stories, fairy tales and old novels for the young, captions of photographs and "
        "short sentences. It has learned how such sentences continue, not what is true: names, places and numbers it "
        "writes are made up, and a story loses its thread after a few sentences. Words of the classics are a century "
        "old, and so are some of their views.",
        "",
    ]
    return "\n".join(lines)


def training_rows(shape: ReaderConfig, facts: dict[str, Any]) -> list[str]:
    """The rows of the card on network, data and training."""
    groups = shape.options.get("groups", shape.heads)
    shares = {kind: f"{first:.0%}, finally {final:.0%}" for kind, (first, final) in facts["shares"].items()}
    tokens, texts = facts["tokens"], facts["texts"]
    return [
        f"| network | {shape.layers} layers, width {shape.width}, {shape.heads} query heads in {groups} key-value "
        f"groups, rotary positions, RMSNorm, gated MLP, context length {shape.context_length} tokens |",
        f"| parameters | {facts['parameters']:,} |",
        f"| data | {facts['data']} |",
        f"| trained on | tales of {tokens['tales']:,} tokens ({shares['tales']} of the batches), "
        f"novels of {tokens['novels']:,} ({shares['novels']}), {texts['sentences']:,} short sentences "
        f"({shares['sentences']}), {texts['captions']:,} captions ({shares['captions']}) |",
        f"| trained | {facts['steps']:,} of {facts['schedule']:,} steps of {facts['batch']:,} tokens, "
        f"seed {facts['seed']} |",
        *(f"| earlier run | {line} |" for line in earlier_runs(facts)),
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
    ]


def evaluation_rows(facts: dict[str, Any]) -> list[str]:
    """The rows of the card on perplexity and minimal pairs."""
    low, high = facts["blimp_interval"]
    return [
        f"| perplexity on held-out stories | {facts['perplexity_token']} per token, {facts['perplexity_word']} per "
        f"word ({facts['held_out_tokens']:,} tokens, {facts['held_out_words']:,} words; windows of {facts['window']} "
        f"tokens, stride {facts['stride']}) |",
        f"| BLiMP accuracy | {facts['blimp']} % (95 % interval {low} to {high}; chance 50 %) of "
        f"{facts['blimp_pairs']:,} pairs, {facts['blimp_pairs_per_paradigm']} of each paradigm, by the probability of "
        "the whole sentence with its end |",
    ]


def sample_lines(samples: Mapping[str, str]) -> list[str]:
    """The section of the card with generated texts."""
    sampling = SamplingConfig()
    return [
        "",
        "## Samples",
        "",
        f'Prompt "{PROMPT}", temperature {sampling.temperature}, top-p {sampling.top_p}, seeds 0, 1 and 2, '
        f"{SAMPLE_TOKENS} tokens, not selected or edited:",
        *(line for text in samples.values() for line in ("", f"> {text}")),
    ]


def table(title: str, rows: Mapping[str, list[float]]) -> list[str]:
    """Accuracies with their intervals, as a Markdown section."""
    lines = [f"| {name.replace('_', ' ')} | {share} % | {low} to {high} |" for name, (share, low, high) in rows.items()]
    return ["", f"## {title}", "", "| what | accuracy | 95 % interval |", "|---|---|---|", *lines]
