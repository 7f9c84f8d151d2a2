"""Evaluation of the encoder of sentences on held-out text."""

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
from attnviz.training.text.loop import chunks, pad, without_padding
from attnviz.training.text.tagged import TaggedSentence, add_special_tokens, encode_sentences, flatten
from attnviz.types import Trace

SEED = 0  # of the choice of texts and of masked tokens
MASK_SHARE = 0.15
MAX_TEXTS = 4000  # held-out texts with masked tokens


def evaluate(
    network: Reader, subwords: SubwordTokenizer, syntax_head: tuple[int, int], max_tokens: int
) -> dict[str, Any]:
    """Every metric of the card; `syntax_head` is the layer and head that was trained on the treebank."""
    return {
        **evaluate_sentiment(network, subwords),
        **evaluate_parsing(network, subwords, syntax_head),
        **evaluate_masked(network, subwords, max_tokens),
    }


def percent(hits: Any) -> float:
    """The mean of hits in percent, with two decimals."""
    return round(100 * float(np.mean(hits)), 2)


def evaluate_sentiment(network: Reader, subwords: SubwordTokenizer) -> dict[str, Any]:
    """SST-2 accuracy on held-out positive and negative sentences, detokenised and as the treebank has them."""
    rows = [(label > 2, text) for label, text in corpus.reviews("test") if label != 2]
    truth = np.array([positive for positive, _ in rows])
    variants = ([corpus.detokenise(text) for _, text in rows], [text for _, text in rows])
    right, lower = (predict_sentiment(network, subwords, texts) == truth for texts in variants)
    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return {
        "sst2_held_out": len(rows),
        "sst2": percent(right),
        "sst2_lower": percent(lower),
        "sst2_interval": [round(100 * float(low), 2), round(100 * float(high), 2)],
    }


@torch.no_grad()
def predict_sentiment(network: Reader, subwords: SubwordTokenizer, texts: Sequence[str]) -> Bool[np.ndarray, " text"]:
    """Whether the network predicts positive sentiment, for each text."""
    rows = [add_special_tokens(ids[: network.config.context_length - 2]) for ids in subwords.batch(texts)]
    positive = np.zeros(len(rows), dtype=bool)
    for part in chunks(sorted(range(len(rows)), key=lambda i: len(rows[i])), 64):
        ids, keep = pad([rows[i] for i in part], torch.device("cpu"))
        logits = network(ids, edit=without_padding(keep), read=("sentiment",)).logits["sentiment"][:, 0]
        positive[list(part)] = (logits[:, 1] > logits[:, 0]).numpy()
    return positive


def evaluate_tags(network: Reader, subwords: SubwordTokenizer) -> dict[str, Any]:
    """UPOS accuracy on the words of held-out sentences that fit the context length."""
    rows = sorted(
        encode_sentences(subwords, corpus.treebank("test"), network.config.context_length - 2),
        key=lambda row: len(row.ids),
    )
    right = np.concatenate([predict_tags(network, part) == np.array(flatten(part)[1]) for part in chunks(rows, 32)])
    return {"words_held_out": len(right), "upos": percent(right)}


@torch.no_grad()
def predict_tags(network: Reader, rows: Sequence[TaggedSentence]) -> Int[np.ndarray, " word"]:
    """The part of speech predicted for every word."""
    ids, keep = pad([row.ids for row in rows], torch.device("cpu"))
    return tags_from(network(ids, edit=without_padding(keep), read=("tag",)), rows)


def tags_from(trace: Trace, rows: Sequence[TaggedSentence]) -> Int[np.ndarray, " word"]:
    """The predicted tag of every word, read at its first token."""
    tags = trace.logits["tag"].argmax(-1).numpy()
    return np.concatenate([tags[i, row.first] for i, row in enumerate(rows)])


def evaluate_parsing(network: Reader, subwords: SubwordTokenizer, syntax_head: tuple[int, int]) -> dict[str, Any]:
    """UPOS accuracy, and the UAS of every attention head: how often its largest weight is at the dependency head.

    Keys are the first tokens of words, without the word itself, and CLS, which stands for the root.
    """
    rows = encode_sentences(subwords, corpus.treebank("test"), network.config.context_length - 2)
    tag_hits, head_hits, no_punct, previous, following = [], [], [], [], []
    for part in chunks(sorted(rows, key=lambda row: len(row.ids)), 32):
        tags, hits = predict_parse(network, part)
        _, true, _ = flatten(part)
        tag_hits.append(tags == np.array(true))
        head_hits.append(hits)
        no_punct.append(np.array([tag not in PUNCTUATION for tag in true]))
        for row in part:
            number = np.arange(len(row.heads))
            previous.append(np.array(row.heads) == number - 1)
            following.append(np.array(row.heads) == number + 1)
    every = np.concatenate(head_hits, -1)  # [layer head word]
    counted = np.concatenate(no_punct)
    uas = 100 * every.mean(-1)
    others = uas.copy()
    others[syntax_head] = -1
    best = np.unravel_index(others.argmax(), others.shape)
    return {
        "words_held_out": every.shape[-1],
        "upos": percent(np.concatenate(tag_hits)),
        "uas": round(float(uas[syntax_head]), 2),
        "uas_no_punct": percent(every[syntax_head][counted]),
        "uas_previous_word": percent(np.concatenate(previous)),
        "uas_next_word": percent(np.concatenate(following)),
        "uas_best_other_head": f"layer {best[0] + 1}, head {best[1] + 1}: {others[best]:.2f}",
        "uas_by_head": np.round(uas, 2).tolist(),
    }


PUNCTUATION = (12, 14)  # PUNCT and SYM among TAGS


@torch.no_grad()
def predict_parse(
    network: Reader, rows: Sequence[TaggedSentence]
) -> tuple[Int[np.ndarray, " word"], Bool[np.ndarray, "layer head word"]]:
    """The predicted tag of every word, and which attention heads have their largest weight at its dependency head."""
    ids, keep = pad([row.ids for row in rows], torch.device("cpu"))
    trace = network(ids, edit=without_padding(keep), read=("tag",))
    hits = []
    for i, row in enumerate(rows):
        target = torch.tensor(row.heads) + 1
        own = torch.arange(len(row.first))
        layers = []
        for call in trace.calls:
            weights = call.token_map(rows=row.first)[i][..., [0, *row.first]].clone()
            weights[:, own, own + 1] = -1
            layers.append(weights.argmax(-1) == target)
        hits.append(torch.stack(layers).numpy())
    return tags_from(trace, rows), np.concatenate(hits, -1)


@torch.no_grad()
def evaluate_masked(network: Reader, subwords: SubwordTokenizer, max_tokens: int) -> dict[str, Any]:
    """Top-1 and top-5 accuracy on masked tokens of held-out texts."""
    texts = [*corpus.captions("val"), *(en for en, _ in corpus.translations("val")), *corpus.story_paragraphs("val")]
    random = np.random.default_rng(SEED)
    texts = [texts[i] for i in random.permutation(len(texts))[:MAX_TEXTS]]
    rows = sorted((add_special_tokens(ids[:max_tokens]) for ids in subwords.batch(texts)), key=len)
    first, five = [], []
    for part in chunks(rows, 64):
        ids, keep = pad(part, torch.device("cpu"))
        masked = torch.from_numpy(random.random(ids.shape) < MASK_SHARE) & (ids >= len(SPECIAL))
        trace = network(torch.where(masked, MASK, ids), edit=without_padding(keep), read=())
        last = trace.residuals["main"][-1][masked]
        best = network.pieces.unembed(network.norm(last)).topk(5).indices.numpy()
        true = ids[masked].numpy()[:, None]
        first.append(best[:, :1] == true)
        five.append(best == true)
    hits, among = np.concatenate(first)[:, 0], np.concatenate(five).any(-1)
    return {"masked_held_out": len(hits), "masked1": percent(hits), "masked5": percent(among)}
