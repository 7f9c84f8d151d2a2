"""A network that reads one text, with what surrounds it: its pieces of words, what it can answer, its digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.models.asked import input_of
from attnviz.models.piece_model import TokenModel, digest_of_text
from attnviz.models.subwords import BOS, CLS, SEP, Token
from attnviz.models.text import WORD, Reader, ReaderConfig
from attnviz.types import Sample, Tokens, Trace
from attnviz.typography import one_line

POSITIVE = ("negative", "positive")
TAGS = (
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
)
LABELS: dict[str, Sequence[str]] = {"sentiment": POSITIVE, "tag": TAGS}  # of every output but "word"
LONGEST_TEXT = 20_000  # characters that are looked at


class TextModel(TokenModel[Reader]):
    """A trained encoder or decoder, opened: give it a sentence, get everything it computed."""

    modality = "text"
    kinds = MappingProxyType({"reader": (ReaderConfig, Reader)})

    @property
    def config(self) -> ReaderConfig:
        """The shape of the network."""
        return self.network.config

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it answers: "word" for every token if it has learned that, and whatever else it has learned."""
        return (*([WORD] if self.config.word else []), *self.config.outputs)

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels of its first pooled output; of the pieces where it has none."""
        return tuple(self.labels(next((name for name in self.config.outputs if name in self.config.pooled), WORD)))

    def labels(self, head: str) -> Sequence[str]:
        """What the classes of an output are called; for "word" the pieces of the vocabulary."""
        if head == WORD:
            return [self.subwords.label(i) for i in range(len(self.subwords))]
        return LABELS[head]

    def prepare(self, raw: str | tuple[str, str]) -> Sample:
        """A text, or two of them, as a Sample: read as plain text, cut into pieces, cut at the context length.

        An encoder reads [CLS] text [SEP] and, of two, text [SEP] after that; a decoder [BOS] text.
        """
        texts = [one_line(part[:LONGEST_TEXT]) for part in ((raw,) if isinstance(raw, str) else raw)]
        texts = [text for text in texts if text] or [""]
        room = self.config.context_length - (1 if self.config.causal else 1 + len(texts))
        parts: list[tuple[str, list[Token], str]] = []
        for text in texts:
            # To a decoder [MASK] is six letters: it has never learned of a hidden word.
            pieces = self.subwords.encode(text, hides=not self.config.causal)
            kept = pieces[:room]
            stop = kept[-1].stop if kept and len(kept) < len(pieces) else len(text) if len(kept) == len(pieces) else 0
            parts.append((text[:stop], kept, text[stop:].strip()))
            room -= len(kept)
        ids, tokens = self.joined([kept for _, kept, _ in parts])
        text = " ".join(text for text, _, _ in parts)
        return Sample(
            digest=digest_of_text(ids, text),
            inputs={"main": ids},
            tokens={"main": tokens},
            text=text,
            cut=" ".join(left for _, _, left in parts if left),
        )

    def joined(self, parts: Sequence[Sequence[Token]]) -> tuple[Tensor, Tokens]:
        """Ids and tokens of texts with the special pieces around them."""
        first, last = (BOS, None) if self.config.causal else (CLS, SEP)
        ids, labels, words, offset = [first], [self.subwords.label(first)], [-1], 0
        for pieces in parts:
            ids += [p.id for p in pieces]
            labels += [p.label for p in pieces]
            words += [p.word + offset for p in pieces]
            offset = max(words, default=-1) + 1
            if last is not None:
                ids, labels, words = [*ids, last], [*labels, self.subwords.label(last)], [*words, -1]
        tokens = Tokens(tuple(labels), None, self.config.prefix, "main", tuple(words))
        return torch.tensor(ids), tokens

    def __call__(
        self,
        sample: Sample,
        *,
        embeddings: Float[Tensor, "*copies token feature"] | None = None,
        keep_tokens: Bool[Tensor, "*choices token"] | None = None,
        positions: str = "own",
        ablated_heads: Sequence[tuple[int, int]] = (),
    ) -> Trace:
        """One forward pass. Gradients flow only from `embeddings` that ask for them."""
        ids = input_of(sample).to(self.device)
        trace = self.network(
            ids,
            tokens=sample.tokens["main"],
            embeddings=embeddings,
            keep_tokens=keep_tokens,
            positions=positions,
            ablated_heads=ablated_heads,
        )
        return replace(trace, sample=sample)

    def logits_from(self, residual: Float[Tensor, "*batch token feature"], head: str = WORD) -> Tensor:
        """The logits of one output for a residual at any layer (at an early one: the logit lens)."""
        return self.network.logits_from(residual, names=(head,))[head]

    def layer(
        self, index: int, residual: Float[Tensor, "*batch token feature"], *, tokens: Tokens, **options: Any
    ) -> Float[Tensor, "*batch token feature"]:
        """The residual after layer `index`, given the residual before it."""
        mask = self.network.mask(options.pop("keep_tokens", None))
        return self.network.layer(index, residual, tokens=tokens, mask=mask, **options)[0]
