"""`python -m attnviz.training sentences`: an English encoder: masked tokens, then three more tasks.

The first part of the training predicts masked tokens in captions, short sentences and stories. Then batches of reviews
(sentiment: positive or negative) and of treebank sentences (part of speech of each word, and its dependency head) are
mixed in. The dependency head is predicted by a single attention head: its weights are trained to lie on the word that
each word depends on, so that its map can be compared with the treebank.
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
from attnviz.training.text.evaluation import evaluate
from attnviz.training.text.loop import LengthSampler, Random, TextRecipe, pad, train, without_padding
from attnviz.training.text.skipgram import TextProgress
from attnviz.training.text.tagged import add_special_tokens, encode_sentences, flatten
from attnviz.types import AttentionCall

SENTENCE = re.compile(r"(?<=[.!?])[\"'\u201d\u2019]?\s+")
SYNTAX_HEAD = (3, 0)  # layer and attention head that is trained to point at the dependency head of each word


@dataclass(frozen=True)
class Plan:
    """The mixture of tasks of a training run."""

    pretraining: float = 0.5  # share of the training that only predicts masked tokens
    mask_share: float = 0.2  # share of the tokens that are to be predicted
    input_mask_share: float = 0.2  # share of the tokens masked in reviews and treebank sentences, against overfitting
    reviews: float = 0.45  # share of the batches after pretraining
    treebank: float = 0.4  # share of the batches after pretraining
    syntax_head: tuple[int, int] | None = SYNTAX_HEAD  # None: no attention head is supervised
    max_tokens: int = 100  # of one text

    @property
    def predicts_masked(self) -> bool:
        """Whether any batch predicts masked tokens."""
        return self.pretraining > 0 or self.reviews + self.treebank < 1


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
SIZES = {  # a network, its recipe, and its mixture of tasks
    "cpu": (SHAPE, CPU, Plan()),
    "gpu": (
        replace(SHAPE, width=384, heads=8, layers=8),
        replace(CPU, steps=20_000, batch=16_384, learning_rate=1.5e-3),
        Plan(),
    ),
    "more": (SHAPE, MORE, Plan(pretraining=0)),  # continues the shipped network
}
PREVIOUS_RUN_FIELDS = (*card.RUN_FIELDS, "threads", "sst2")
earlier_runs = partial(card.earlier_runs, score="sst2", label="on SST-2", unit=" tokens")


def pretraining_texts(subwords: SubwordTokenizer, max_tokens: int) -> list[Int[np.ndarray, " token"]]:
    """Texts for masked-token prediction: captions, short sentences, and stories a few sentences at a time.

    An excerpt of a story with two or more sentences is split into two texts with SEP between.
    """
    singles = [*corpus.captions("train"), *(english for english, _ in corpus.translations("train"))]
    texts = [np.array(add_special_tokens(ids[:max_tokens]), dtype=np.int16) for ids in subwords.batch(singles)]
    sentences = [sentence for line in corpus.story_paragraphs("train") for sentence in [*SENTENCE.split(line), ""]]
    excerpt: list[list[int]] = []
    for ids in [*subwords.batch(sentences), []]:
        if excerpt and (not ids or sum(map(len, excerpt)) + len(ids) > max_tokens * 2 // 3):
            middle = (len(excerpt) + 1) // 2
            halves = [list(itertools.chain.from_iterable(part)) for part in (excerpt[:middle], excerpt[middle:])]
            pair = add_special_tokens(*(half[:max_tokens] for half in halves if half))
            texts.append(np.array(pair, dtype=np.int16))
            excerpt = []
        if ids:
            excerpt.append(ids)
    return [row for row in texts if len(row) > 3]


class Tasks:
    """Batches and losses of the three tasks: masked tokens, sentiment, and parsing."""

    def __init__(self, plan: Plan, recipe: TextRecipe, subwords: SubwordTokenizer, device: torch.device):
        self.plan, self.recipe, self.device = plan, recipe, device
        random = np.random.default_rng(recipe.seed)
        self.texts = pretraining_texts(subwords, plan.max_tokens) if plan.predicts_masked else []
        self.text_sampler = LengthSampler([len(row) for row in self.texts], random)
        rows = [*corpus.reviews("train")]
        self.positive = np.array([label for label, _ in rows], dtype=np.float32) / 4  # 0 very negative, 1 very positive
        # As the treebank has them, lower-case and tokenised, and detokenised, as a visitor would write them.
        self.reviews = [
            [add_special_tokens(ids[: plan.max_tokens]) for ids in subwords.batch(form)]
            for form in ([text for _, text in rows], [corpus.detokenise(text) for _, text in rows])
        ]
        self.review_sampler = LengthSampler([len(row) for row in self.reviews[1]], random)
        self.treebank = encode_sentences(subwords, corpus.treebank("train"), plan.max_tokens)
        self.treebank_sampler = LengthSampler([len(row.ids) for row in self.treebank], random)

    def loss(self, network: Reader, progress: float, random: Random) -> Tensor:
        """The loss of one batch, of a task drawn from the plan at this progress."""
        drawn = random.random() if progress >= self.plan.pretraining else 1.0
        if drawn < self.plan.reviews:
            return self.sentiment_loss(network, random)
        if drawn < self.plan.reviews + self.plan.treebank:
            return self.parsing_loss(network, random)
        return self.masked_loss(network, random)

    def masked_loss(self, network: Reader, random: Random) -> Tensor:
        """Cross-entropy of masked tokens (Devlin et al. 2019: 80 % become MASK, 10 % a random token, 10 % stay)."""
        rows = [self.texts[i] for i in self.text_sampler.sample(self.recipe.batch, random)]
        ids, keep = pad(rows, self.device)
        # Random numbers are compared before they are moved: mps has no float64.
        chosen = torch.from_numpy(random.random(ids.shape) < self.plan.mask_share).to(self.device)
        chosen &= ids >= len(SPECIAL)
        kind = random.random(ids.shape)
        masked, replaced = (torch.from_numpy(some).to(self.device) for some in (kind < 0.8, kind > 0.9))
        other = torch.from_numpy(random.integers(len(SPECIAL), network.config.vocabulary, ids.shape)).to(self.device)
        read = torch.where(chosen & masked, MASK, torch.where(chosen & replaced, other, ids))
        last = network(read, edit=without_padding(keep), read=()).residuals["main"][-1]
        logits = network.pieces.unembed(network.norm(last[chosen]))
        return F.cross_entropy(logits.float(), ids[chosen])

    def sentiment_loss(self, network: Reader, random: Random) -> Tensor:
        """Cross-entropy of positive against negative sentiment, with soft labels for the five grades."""
        chosen = self.review_sampler.sample(self.recipe.batch, random)
        rows = [self.reviews[int(random.random() < 0.6)][i] for i in chosen]
        ids, keep = pad(rows, self.device)
        trace = network(self.mask_some(ids, random), edit=without_padding(keep), read=("sentiment",))
        positive = torch.from_numpy(self.positive[chosen]).to(self.device)
        target = torch.stack([1 - positive, positive], -1)
        return F.cross_entropy(trace.logits["sentiment"][:, 0].float(), target)

    def parsing_loss(self, network: Reader, random: Random) -> Tensor:
        """Cross-entropy of parts of speech, and of the weights of one attention head against dependency heads."""
        rows = [self.treebank[i] for i in self.treebank_sampler.sample(self.recipe.batch, random)]
        ids, keep = pad([row.ids for row in rows], self.device)
        text = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.first) for row in rows])).to(self.device)
        token, tags, heads = (torch.tensor(column, device=self.device) for column in flatten(rows))
        trace = network(self.mask_some(ids, random), edit=without_padding(keep), read=("tag",))
        tag_loss = F.cross_entropy(trace.logits["tag"][text, token].float(), tags)
        if self.plan.syntax_head is None:
            return tag_loss
        weights = syntax_scores(trace.calls, self.plan.syntax_head)[text, token].float().log_softmax(-1)
        return tag_loss + F.nll_loss(weights, heads)

    def mask_some(self, ids: Tensor, random: Random) -> Tensor:
        """The same token ids with a random share masked."""
        chosen = torch.from_numpy(random.random(ids.shape) < self.plan.input_mask_share).to(self.device)
        return torch.where(chosen & (ids >= len(SPECIAL)), MASK, ids)


def syntax_scores(calls: Sequence[AttentionCall], syntax_head: tuple[int, int]) -> Tensor:
    """Masked scores of one attention head, [*batch query key]."""
    layer, head = syntax_head
    return next(call for call in calls if call.layer == layer).scores(heads=[head])[..., 0, :, :]


def run_sentences(
    folder: Path,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
    size: str = "cpu",
    **changes: int,
) -> str:
    """Train, evaluate on held-out text, write weights and card; `changes` override the recipe. Raises NoData."""
    shape, recipe, plan = SIZES[size]
    recipe = replace(recipe, **changes)
    torch.manual_seed(recipe.seed)
    subwords = load_subwords()
    tasks = Tasks(plan, recipe, subwords, device)
    shipped = load_text("sentences") if size == "more" else None
    network = Reader(shape) if shipped is None else shipped.network.requires_grad_(True)
    extra = (plan, shipped and shipped.digest)
    network, seconds = train(network, recipe, tasks.loss, device, report, checkpoint, extra=extra)
    as_shipped(network)
    facts = {
        "recipe": {"cpu": "sentences", "more": "sentences-more"}.get(size, f"sentences --size {size}"),
        "parameters": sum(p.numel() for p in network.parameters()),
        "texts": len(tasks.texts),
        "tokens": sum(map(len, tasks.texts)),
        "reviews": len(tasks.positive),
        "treebank": len(tasks.treebank),
        "steps": recipe.last,
        "schedule": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        "syntax": list(SYNTAX_HEAD),
        **evaluate(network, subwords, SYNTAX_HEAD, plan.max_tokens),
        "data": corpus.ENCODER_SOURCES,
    }
    if shipped is not None:
        facts["previous_run"] = card.previous_run(shipped.facts, PREVIOUS_RUN_FIELDS)
    model = TextModel("sentences", network, subwords, title="English sentences")
    text = card_of(facts, shape)
    model.save(folder, text, facts)
    return text


def card_of(facts: dict[str, Any], shape: ReaderConfig) -> str:
    """The text of card.md; every number comes from `facts`."""
    (layer, head), (low, high) = facts["syntax"], facts["sst2_interval"]
    lines = [
        *card.opening("sentences: an encoder that reads English", facts["recipe"]),
        f"| network | {shape.layers} layers, {shape.heads} heads, width {shape.width}, "
        f"context length {shape.context_length} tokens |",
        f"| parameters | {facts['parameters']:,} |",
        f"| data | {facts['data']} |",
        f"| masked tokens | {facts['texts']:,} texts, {facts['tokens']:,} tokens |",
        f"| sentiment | {facts['reviews']:,} sentences about films (Stanford Sentiment Treebank) |",
        f"| parts of speech and dependency heads | {facts['treebank']:,} sentences (English Web Treebank) |",
        f"| trained | {facts['steps']:,} of {facts['schedule']:,} steps of {facts['batch']:,} tokens |",
        f"| seed | {facts['seed']} |",
        *(f"| earlier run | {line} |" for line in earlier_runs(facts)),
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        f"| SST-2 accuracy, {facts['sst2_held_out']:,} held-out sentences | {facts['sst2']} % (95 % interval "
        f"{low} to {high}); lower-case and tokenised, as in the treebank: {facts['sst2_lower']} % |",
        f"| UPOS accuracy, {facts['words_held_out']:,} held-out words | {facts['upos']} % |",
        f"| UAS of layer {layer + 1}, head {head + 1} | {facts['uas']} %, "
        f"without punctuation {facts['uas_no_punct']} % |",
        f"| UAS of the previous word, of the next word (baselines) | {facts['uas_previous_word']} %, "
        f"{facts['uas_next_word']} % |",
        f"| best other head | {facts['uas_best_other_head']} % |",
        f"| masked token, top-1, top-5 | {facts['masked1']} %, {facts['masked5']} % of {facts['masked_held_out']:,} |",
        "",
        card.LIMITS,
        "",
        "It was trained on four tasks: predict masked tokens, the sentiment of a sentence about a film, the part of "
        "speech of each word, and its dependency head. The last is predicted by one attention head alone, whose "
        "weights were trained to lie on that word; all other heads are free. Its texts were captions, short sentences "
        "and stories: news, numbers and names are unfamiliar to it, and the sentiment of anything but films is a "
        "guess.",
        "",
    ]
    return "\n".join(lines)
