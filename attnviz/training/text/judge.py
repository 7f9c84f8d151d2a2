"""How well the encoder of sentences does on text it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy.stats import binomtest

from attnviz.models.subwords import MASK, SPECIAL, SubwordTokenizer
from attnviz.models.text import Reader
from attnviz.training.text import corpus
from attnviz.training.text.loop import chunks, kept_or_none, padded
from attnviz.training.text.tagged import Tagged, around, flat, tagged
from attnviz.types import Trace

SEED = 0  # of which pieces are hidden
HIDDEN = 0.15
SOME = 4000  # held-out texts in which pieces are hidden


def evaluate(network: Reader, subwords: SubwordTokenizer, syntax: tuple[int, int], longest: int) -> dict[str, Any]:
    """Every figure of the card; `syntax` is the layer and head that was trained on the treebank."""
    return evaluate_sentiment(network, subwords) | parts(network, subwords, syntax) | hidden(network, subwords, longest)


def percent(hits: Any) -> float:
    """A share of hits in percent."""
    return round(100 * float(np.mean(hits)), 2)


def evaluate_sentiment(network: Reader, subwords: SubwordTokenizer) -> dict[str, Any]:
    """SST-2: held-out sentences that praise or blame, as a person writes them and as the treebank does."""
    rows = [(label > 2, text) for label, text in corpus.reviews("test") if label != 2]
    truth = np.array([good for good, _ in rows])
    asked = ([corpus.written(text) for _, text in rows], [text for _, text in rows])
    right, lower = (predicted_sentiment(network, subwords, texts) == truth for texts in asked)
    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return {
        "sst2_held_out": len(rows),
        "sst2": percent(right),
        "sst2_lower": percent(lower),
        "sst2_interval": [round(100 * float(low), 2), round(100 * float(high), 2)],
    }


@torch.no_grad()
def predicted_sentiment(network: Reader, subwords: SubwordTokenizer, texts: Sequence[str]) -> Bool[np.ndarray, " text"]:
    """Whether the network takes each text for praise."""
    rows = [around(ids[: network.config.context_length - 2]) for ids in subwords.batch(texts)]
    said = np.zeros(len(rows), dtype=bool)
    for part in chunks(sorted(range(len(rows)), key=lambda i: len(rows[i])), 64):
        ids, keep = padded([rows[i] for i in part], torch.device("cpu"))
        logits = network(ids, keep_tokens=kept_or_none(keep), read=("sentiment",)).logits["sentiment"][:, 0]
        said[list(part)] = (logits[:, 1] > logits[:, 0]).numpy()
    return said


def evaluate_questions(network: Reader, subwords: SubwordTokenizer) -> dict[str, Any]:
    """UPOS of every held-out word that the network has room for."""
    rows = sorted(
        tagged(subwords, corpus.treebank("test"), network.config.context_length - 2), key=lambda row: len(row.ids)
    )
    right = np.concatenate([tags_of(network, part) == np.array(flat(part)[1]) for part in chunks(rows, 32)])
    return {"words_held_out": len(right), "upos": percent(right)}


@torch.no_grad()
def tags_of(network: Reader, rows: Sequence[Tagged]) -> Int[np.ndarray, " word"]:
    """The part of speech that the network gives every word."""
    ids, keep = padded([row.ids for row in rows], torch.device("cpu"))
    return predicted_tags(network(ids, keep_tokens=kept_or_none(keep), read=("tag",)), rows)


def predicted_tags(trace: Trace, rows: Sequence[Tagged]) -> Int[np.ndarray, " word"]:
    """The tag of every word, at the piece it begins with."""
    tags = trace.logits["tag"].argmax(-1).numpy()
    return np.concatenate([tags[line, row.first] for line, row in enumerate(rows)])


def parts(network: Reader, subwords: SubwordTokenizer, syntax: tuple[int, int]) -> dict[str, Any]:
    """UPOS of every held-out word, and of every head how often its row is largest at the word a word depends on.

    A row is compared at the tokens words begin with, the word's own left out, and at CLS, which stands for the root.
    """
    rows = tagged(subwords, corpus.treebank("test"), network.config.context_length - 2)
    tag_hits, head_hits, no_punct, before, after = [], [], [], [], []
    for part in chunks(sorted(rows, key=lambda row: len(row.ids)), 32):
        tags, found = parsed(network, part)
        _, true, _ = flat(part)
        tag_hits.append(tags == np.array(true))
        head_hits.append(found)
        no_punct.append(np.array([tag not in PUNCTUATION for tag in true]))
        for row in part:
            number = np.arange(len(row.heads))
            before.append(np.array(row.heads) == number - 1)
            after.append(np.array(row.heads) == number + 1)
    every = np.concatenate(head_hits, -1)  # [layer head word]
    counted = np.concatenate(no_punct)
    uas = 100 * every.mean(-1)
    others = uas.copy()
    others[syntax] = -1
    best = np.unravel_index(others.argmax(), others.shape)
    return {
        "words_held_out": every.shape[-1],
        "upos": percent(np.concatenate(tag_hits)),
        "uas": round(float(uas[syntax]), 2),
        "uas_no_punct": percent(every[syntax][counted]),
        "uas_before": percent(np.concatenate(before)),
        "uas_after": percent(np.concatenate(after)),
        "uas_other": f"layer {best[0] + 1}, head {best[1] + 1}: {others[best]:.2f}",
        "uas_by_head": np.round(uas, 2).tolist(),
    }


PUNCTUATION = (12, 14)  # PUNCT and SYM among TAGS


@torch.no_grad()
def parsed(
    network: Reader, rows: Sequence[Tagged]
) -> tuple[Int[np.ndarray, " word"], Bool[np.ndarray, "layer head word"]]:
    """The tag of every word, and which heads look most at the word it depends on."""
    ids, keep = padded([row.ids for row in rows], torch.device("cpu"))
    trace = network(ids, keep_tokens=kept_or_none(keep), read=("tag",))
    hits = []
    for line, row in enumerate(rows):
        wanted = torch.tensor(row.heads) + 1
        own = torch.arange(len(row.first))
        found = []
        for call in trace.calls:
            weights = call.token_map(rows=row.first)[line][..., [0, *row.first]].clone()
            weights[:, own, own + 1] = -1
            found.append(weights.argmax(-1) == wanted)
        hits.append(torch.stack(found).numpy())
    return predicted_tags(trace, rows), np.concatenate(hits, -1)


@torch.no_grad()
def hidden(network: Reader, subwords: SubwordTokenizer, longest: int) -> dict[str, Any]:
    """How often a hidden piece of a held-out text is the first guess, and among five."""
    texts = [*corpus.captions("val"), *(en for en, _ in corpus.translations("val")), *corpus.story_paragraphs("val")]
    random = np.random.default_rng(SEED)
    texts = [texts[i] for i in random.permutation(len(texts))[:SOME]]
    rows = sorted((around(ids[:longest]) for ids in subwords.batch(texts)), key=len)
    first, five = [], []
    for part in chunks(rows, 64):
        ids, keep = padded(part, torch.device("cpu"))
        away = torch.from_numpy(random.random(ids.shape) < HIDDEN) & (ids >= len(SPECIAL))
        last = network(torch.where(away, MASK, ids), keep_tokens=kept_or_none(keep), read=()).residuals["main"][-1][
            away
        ]
        best = network.pieces.unembed(network.norm(last)).topk(5).indices.numpy()
        true = ids[away].numpy()[:, None]
        first.append(best[:, :1] == true)
        five.append(best == true)
    hits, among = np.concatenate(first)[:, 0], np.concatenate(five).any(-1)
    return {"masked_held_out": len(hits), "masked1": percent(hits), "masked5": percent(among)}
