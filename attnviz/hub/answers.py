"""What a Hugging Face model answers, and which tokens each answer is read from: found by gradients, not by names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.hub.errors import CannotOpen
from attnviz.hub.vocabulary import HubTokenizer
from attnviz.types import Tokens

CLASS, WORD, TAG = "class", "word", "tag"


class Answers(NamedTuple):
    """The name of the one output, its labels, and whether every token has an answer of its own."""

    name: str
    labels: tuple[str, ...]
    by_token: bool


def answers_of(logits: Tensor | None, config: Any, tokenizer: HubTokenizer | None) -> Answers | None:
    """What the logits of a pass with a batch of one are; None for a bare encoder."""
    if logits is None:
        return None
    if logits.ndim == 2:
        return Answers(CLASS, class_labels(config, logits.shape[-1]), False)
    if logits.ndim != 3:
        raise CannotOpen(f"its answer has {logits.ndim} axes; expected classes, or one answer for each token")
    if tokenizer is not None and logits.shape[-1] == getattr(config, "vocab_size", None):
        return Answers(WORD, tuple(tokenizer.label(id) for id in range(logits.shape[-1])), True)
    return Answers(TAG, class_labels(config, logits.shape[-1]), True)


def class_labels(config: Any, count: int) -> tuple[str, ...]:
    """The names of the classes, as the configuration has them."""
    known = getattr(config, "id2label", None) or {}
    return tuple(str(known.get(i, i)) for i in range(count))


def read_from(logits: Tensor, residual: Float[Tensor, "token feature"]) -> list[int]:
    """The tokens that a class is read from: those whose final residual has a gradient of its logits."""
    (gradient,) = torch.autograd.grad(logits.double().square().sum(), residual)
    reach = gradient.abs().sum(-1)
    return (reach > 0).nonzero().flatten().tolist()


def shares(tokens: Tokens, read: Sequence[int]) -> Float[Tensor, " token"]:
    """How much each token feeds an answer: half each where it is read from prefix tokens and from patches."""
    row = torch.zeros(len(tokens))
    prefix, rest = ([i for i in read if (i < tokens.prefix) == inside] for inside in (True, False))
    if tokens.prefix and prefix and rest:
        row[prefix], row[rest] = 0.5 / len(prefix), 0.5 / len(rest)
    else:
        row[list(read)] = 1 / len(read)
    return row


def in_words(tokens: Tokens, read: Sequence[int]) -> str:
    """What an answer is read from, in words."""
    prefix = [tokens.labels[i] for i in read if i < tokens.prefix]
    count, rest = len(tokens), [i for i in read if i >= tokens.prefix]
    parts = [" and ".join(prefix)] if prefix else []
    if len(rest) == 1 and not prefix:
        parts.append("the last token" if rest[0] == count - 1 else "the first token" if rest[0] == 0 else "one token")
    elif rest:
        parts.append("the mean of all patches" if tokens.grid else "the mean of all tokens")
    return " and ".join(parts)


def default_rows(tokens: Tokens, ids: Sequence[int] | None, causal: bool, mask: int | None) -> list[int]:
    """The tokens that speak for an input which nothing reads as a whole.

    A decoder's last token; the first hidden word of a text; CLS; else all tokens, or all patches.
    """
    if causal:
        return [len(tokens) - 1]
    if ids is not None and mask is not None and mask in ids:
        return [list(ids).index(mask)]
    if "CLS" in tokens.labels[:1]:
        return [0]
    return list(range(tokens.prefix, len(tokens)))
