"""A network that reads one text, with what surrounds it: its subword tokens, what it can answer, its digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.models.image import honoured
from attnviz.models.layers import Block
from attnviz.models.requests import input_of
from attnviz.models.subwords import BOS, CLS, SEP
from attnviz.models.text import WORD, Reader, ReaderConfig
from attnviz.models.token_model import TokenModel, digest_of_text, token_labels
from attnviz.types import Edit, LayerParts, ModelSpec, Sample, Token, Tokens, Trace
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
    def spec(self) -> ModelSpec:
        """What a page may know of it."""
        config = self.config
        answer_from = "CLS" if config.pooling == "cls" else "the mean of all tokens"
        return ModelSpec(
            "text",
            config.layers,
            config.heads,
            config.width,
            config.context_length,
            config.causal,
            variant=config.variant,
            positions=config.positions,
            honours=honoured(config.variant),
            answer_from="the last token" if config.causal else answer_from,
            supervised_heads=(tuple(self.facts["syntax"]),) if "syntax" in self.facts else (),
        )

    @property
    def outputs(self) -> Mapping[str, Sequence[str]]:
        """The labels of each output: "word" where it predicts tokens, and whatever else it was trained on."""
        words = {WORD: token_labels(self.tokenizer)} if self.config.word else {}
        return {**words, **{name: LABELS[name] for name in self.config.outputs}}

    @property
    def input_embeddings(self) -> Float[Tensor, "vocabulary feature"]:
        """The embedding of every token of the vocabulary, as it enters."""
        return self.network.pieces.token_embeddings(torch.arange(len(self.tokenizer), device=self.device))

    @property
    def record(self) -> str:
        """How well it does on text it has not seen, in words; empty where nobody has measured it."""
        return record_of(self.facts)

    def prepare(self, raw: str | tuple[str, str]) -> Sample:
        """A text, or two of them, as a Sample: read as plain text, cut into tokens, cut at the context length.

        An encoder reads [CLS] text [SEP] and, of two, text [SEP] after that; a decoder [BOS] text.
        """
        texts = [one_line(part[:LONGEST_TEXT]) for part in ((raw,) if isinstance(raw, str) else raw)]
        texts = [text for text in texts if text] or [""]
        room = self.config.context_length - (1 if self.config.causal else 1 + len(texts))
        parts: list[tuple[str, list[Token], str]] = []
        for text in texts:
            # To a decoder [MASK] is six letters: it has never learned of a hidden word.
            tokens = self.tokenizer.encode(text, with_mask=not self.config.causal)
            kept = tokens[:room]
            stop = kept[-1].stop if kept and len(kept) < len(tokens) else len(text) if len(kept) == len(tokens) else 0
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
        """Ids and tokens of texts with the special tokens around them."""
        first, last = (BOS, None) if self.config.causal else (CLS, SEP)
        ids, labels, words, offset = [first], [self.tokenizer.label(first)], [-1], 0
        for tokens in parts:
            ids += [p.id for p in tokens]
            labels += [p.label for p in tokens]
            words += [p.word + offset for p in tokens]
            offset = max(words, default=-1) + 1
            if last is not None:
                ids, labels, words = [*ids, last], [*labels, self.tokenizer.label(last)], [*words, -1]
        tokens = Tokens(tuple(labels), None, self.config.prefix, "main", tuple(words))
        return torch.tensor(ids), tokens

    def __call__(self, sample: Sample, *, edit: Edit | None = None) -> Trace:
        """One forward pass, changed by `edit`. Gradients flow only from its `embeddings`, where they ask for them."""
        ids = input_of(sample).to(self.device)
        trace = self.network(ids, tokens=sample.tokens["main"], edit=edit)
        return replace(trace, sample=sample)

    def logits_from(
        self,
        residual: Float[Tensor, "*batch token feature"],
        *,
        output: str | None = None,
        pooling: Float[Tensor, "*batch token"] | None = None,
    ) -> Float[Tensor, "*batch row class"]:
        """The logits of one output (None = words) for a residual at any layer (at an early one: the logit lens)."""
        output = output or WORD
        return self.network.logits_from(residual, pooling, (output,))[output]

    def layer(
        self, index: int, residual: Float[Tensor, "*batch token feature"], *, tokens: Tokens, **options: Any
    ) -> Float[Tensor, "*batch token feature"]:
        """The residual after layer `index`, given the residual before it."""
        mask = self.network.mask(options.pop("keep_tokens", None))
        return self.network.layer(index, residual, tokens=tokens, mask=mask, **options)[0]

    def layer_parts(self, index: int) -> LayerParts:
        """Layer `index` without its mixing."""
        return cast(Block, self.network.blocks[index]).parts()


def record_of(facts: Mapping[str, Any]) -> str:
    """What the figures of a card say of a text model, in words; empty where there are none."""
    if {"upos", "top1"} <= facts.keys():
        return (
            f"On held-out text: sentiment accuracy {facts['top1']} % on {facts['held_out']:,} sentences about films; "
            f"part-of-speech accuracy {facts['upos']} % on {facts['words_held_out']:,} words."
        )
    if "sst2" in facts:
        layer, head = facts["syntax"]
        parts = (
            f"sentiment accuracy {facts['sst2']} % on {facts['sst2_held_out']:,} sentences about films",
            f"part-of-speech accuracy {facts['upos']} % on {facts['words_held_out']:,} words",
            f"dependency head accuracy (UAS) of layer {layer + 1}, head {head + 1} alone {facts['uas']} %",
            f"masked token accuracy {facts['masked1']} %, within five guesses {facts['masked5']} %",
        )
        return f"On held-out text: {'; '.join(parts)}."
    if "perplexity_token" in facts:
        return (
            f"On held-out stories: perplexity {facts['perplexity_token']:.0f} per token; of {facts['blimp_pairs']:,} "
            f"pairs of sentences, one of them ungrammatical, the grammatical one is likelier in {facts['blimp']} %."
        )
    return ""
