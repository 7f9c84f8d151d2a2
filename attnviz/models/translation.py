"""A network that translates English into French, with what surrounds it: subword tokens, decoding, its digest.

Two networks are opened this way: the encoder-decoder transformer of `text.py`, and the recurrent one of `seq2seq.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.models.beam import Beam, Decoder, beam_search, log_probabilities, search_steps
from attnviz.models.requests import input_of, refuse
from attnviz.models.seq2seq import Seq2Seq, Seq2SeqConfig
from attnviz.models.subwords import BOS, EOS, LABELS
from attnviz.models.text import WORD, Translator, TranslatorConfig
from attnviz.models.text_model import LONGEST_TEXT
from attnviz.models.token_model import TokenModel, digest_of_text, token_labels
from attnviz.types import Edit, LayerParts, ModelSpec, Request, Sample, Tokens, Trace, UnsupportedMask
from attnviz.typography import one_line

WIDEST = 8  # beams
OF_THE_SOURCE = frozenset[Request]({"embeddings", "keep_tokens"})  # what an encoder can be asked
SPARE = 10  # tokens a translation may have beyond twice those of its source


class TranslationModel(TokenModel[Translator | Seq2Seq]):
    """A trained translator, opened: give it an English sentence, get French and everything it computed."""

    modality = "translation"
    kinds = MappingProxyType({"translator": (TranslatorConfig, Translator), "seq2seq": (Seq2SeqConfig, Seq2Seq)})

    @property
    def config(self) -> TranslatorConfig | Seq2SeqConfig:
        """The shape of the network."""
        return self.network.config

    @property
    def spec(self) -> ModelSpec:
        """What a page may know of it: of a recurrent network, the one attention it has."""
        config = self.config
        if isinstance(config, Seq2SeqConfig):
            layers, heads, variant, positions = 1, 1, "additive", ""
        else:
            layers, heads, variant, positions = config.layers, config.heads, config.variant, config.positions
        return ModelSpec(
            "translation",
            layers,
            heads,
            config.width,
            config.context_length,
            variant=variant,
            positions=positions,
            answer_from="the last token",
            honours=frozenset() if isinstance(config, Seq2SeqConfig) else OF_THE_SOURCE,
        )

    @property
    def outputs(self) -> Mapping[str, Sequence[str]]:
        """The tokens it can write."""
        return {WORD: token_labels(self.tokenizer)}

    @property
    def input_embeddings(self) -> Float[Tensor, "vocabulary feature"]:
        """The embedding of every token of the vocabulary, as it enters."""
        ids = torch.arange(len(self.tokenizer), device=self.device)
        if isinstance(self.network, Seq2Seq):
            return self.network.token_embeddings(ids)
        return self.network.pieces.token_embeddings(ids)

    @property
    def record(self) -> str:
        """How well it translates sentences it has not seen, in words; empty where nobody has measured it."""
        tests = self.facts.get("tests", ())
        return " ".join(
            f"{test['name']}, {test['decoding']}: BLEU {test['bleu']}."
            for test in tests
            if {"name", "decoding", "bleu"} <= set(test)
        )

    def prepare(self, raw: str) -> Sample:
        """An English text as the stream "source": made plain, in tokens, cut at the context length, with EOS."""
        text = one_line(raw[:LONGEST_TEXT])
        tokens = self.tokenizer.encode(text, with_mask=False)
        kept = tokens[: self.config.context_length - 1]
        stop = kept[-1].stop if len(kept) < len(tokens) else len(text)
        ids = torch.tensor([*(p.id for p in kept), EOS])
        return Sample(
            digest=digest_of_text(ids, text[:stop]),
            inputs={"source": ids},
            tokens={"source": self.tokenizer.tokens(kept, after=[EOS], stream="source")},
            text=text[:stop],
            cut=text[stop:].strip(),
        )

    def source(self, sample: Sample) -> Int[Tensor, " token"]:
        """The ids of the English text. Raises ValueError for more than the network reads."""
        ids = input_of(sample, "source")
        if len(ids) > self.config.context_length:
            raise ValueError(f"{len(ids)} tokens; this network reads at most {self.config.context_length}")
        return ids

    def limit(self, source: int) -> int:
        """How many tokens a translation of so many source tokens may have, the last one included."""
        return min(self.config.context_length - 1, 2 * source + SPARE)

    def greedy(self, sample: Sample) -> Iterator[int]:
        """The translation token by token as it is written, each the likeliest; EOS is the last unless it is cut off."""
        network = decoder(self.network)
        source, token, past = self.source(sample).to(self.device), BOS, list[Any]()
        with torch.no_grad():
            memory = network.encode(source)
        for _ in range(self.limit(len(source))):
            with torch.no_grad():  # not around the yield: whoever takes the token keeps his own setting
                scores, past = network.decode(memory, source.new_tensor([token]), past)
                token = int(log_probabilities(scores).argmax())
            yield token
            if token == EOS:
                return

    def beams(self, sample: Sample, width: int = 4) -> list[Beam]:
        """The best translations a beam of this width finds, the best first; texts that read alike count once.

        Raises ValueError for a width outside 1 to 8.
        """
        return self.batch([sample], width)[0]

    def searching(self, sample: Sample, width: int = 4) -> Generator[Beam, None, list[Beam]]:
        """The same search, as it goes: after each token its likeliest unfinished translation; then what `beams` finds.

        Raises ValueError for a width outside 1 to 8.
        """
        check_width(width)
        source = self.source(sample)[None].to(self.device)
        found = yield from search_steps(self.network, source, width=width, limit=self.limit(source.shape[-1]))
        return self.unlike(found[0])

    def batch(self, samples: Sequence[Sample], width: int = 1) -> list[list[Beam]]:
        """The best translations of each sample; samples of one length are decoded together."""
        check_width(width)
        lengths: dict[int, list[int]] = {}
        for i, sample in enumerate(samples):
            lengths.setdefault(len(sample.inputs["source"]), []).append(i)
        found: dict[int, list[Beam]] = {}
        for length, group in lengths.items():
            source = torch.stack([samples[i].inputs["source"] for i in group]).to(self.device)
            written = beam_search(self.network, source, width=width, limit=self.limit(length))
            found |= {i: self.unlike(beams) for i, beams in zip(group, written, strict=True)}
        return [found[i] for i in range(len(samples))]

    def unlike(self, beams: Sequence[Beam]) -> list[Beam]:
        """The first of those that read alike: one text may be cut into tokens in several ways."""
        first: dict[str, Beam] = {}
        for beam in beams:
            first.setdefault(self.text(beam.ids), beam)
        return list(first.values())

    def text(self, ids: Sequence[int]) -> str:
        """What tokens say, in words, without signs that have no picture."""
        return one_line(self.tokenizer.decode(ids))

    def trace(self, sample: Sample, ids: Sequence[int], *, edit: Edit | None = None) -> Trace:
        """One pass over both texts: row i of the decoder is the step that writes token i of `ids`.

        It has read BOS and the tokens before i, which are the tokens of the stream "target". Raises ValueError for no
        tokens, or more than the network reads.
        """
        return self.read(sample, torch.tensor([BOS, *ids][: len(ids)], dtype=torch.long), edit)

    def __call__(self, sample: Sample, *, edit: Edit | None = None) -> Trace:
        """The trace of the greedy translation of the sample as it stands; `edit` changes the pass over both texts.

        The sample of a trace holds the translation too (its stream "target"), and is read with that one instead.
        """
        refuse(self.title, edit, self.spec.honours, "translates a whole sentence as it stands")
        self.source(sample)  # which refuses what is no sample of this model
        if "target" in sample.inputs:
            return self.read(sample, sample.inputs["target"], edit)
        return self.trace(sample, tuple(self.greedy(sample)), edit=edit)

    def read(self, sample: Sample, target: Int[Tensor, " token"], edit: Edit | None) -> Trace:
        """One pass over the source of a sample and the tokens its decoder reads, which are kept in its trace."""
        if not 1 <= len(target) <= self.config.context_length:
            raise ValueError(f"{len(target)} tokens; this network writes 1 to {self.config.context_length}")
        held = sample.inputs.get("target")
        if held is None or not torch.equal(held, target):
            digest = hashlib.sha256(sample.digest.encode() + target.numpy().tobytes()).hexdigest()
            tokens = {**sample.tokens, "target": self.named(target.tolist())}
            sample = replace(sample, digest=digest, inputs={**sample.inputs, "target": target}, tokens=tokens)
        source = self.source(sample)
        trace = self.network(source.to(self.device), target.to(self.device), tokens=sample.tokens, edit=edit)
        return replace(trace, sample=sample)

    def logits_from(
        self, residual: Float[Tensor, "*batch feature"], *, output: str | None = None, pooling: Tensor | None = None
    ) -> Float[Tensor, "*batch vocabulary"]:
        """Scores of the token that comes next, from a residual of the stream "target"; nothing is pooled."""
        return self.network.logits_from(residual)

    def layer(
        self, index: int, residual: Float[Tensor, "*batch token feature"], **options: Any
    ) -> Float[Tensor, "*batch token feature"]:
        """The decoder's residual after layer `index`: options tokens, memory, mask, as of `Translator.layer`."""
        if isinstance(self.network, Seq2Seq):
            raise UnsupportedMask(self.title, "it writes with a recurrent network, which has no layer to ask alone")
        return self.network.layer(index, residual, **options)[0]

    def layer_parts(self, index: int) -> LayerParts:
        """Refused: UnsupportedMask. A layer that writes attends twice, and what lies between is not recorded."""
        raise UnsupportedMask(self.title, "it attends to two sequences, so no single attention makes up a layer")

    def named(self, ids: Sequence[int], stream: str = "target") -> Tokens:
        """Tokens as tokens, with the words they belong to."""
        labels, words, word = list[str](), list[int](), -1
        for token, (label, inside) in zip(ids, self.tokenizer.written(ids), strict=True):
            labels.append(label)
            word += token >= len(LABELS) and not inside
            words.append(word if token >= len(LABELS) else -1)
        return Tokens(tuple(labels), stream=stream, words=tuple(words))


def check_width(width: int) -> None:
    """Raise ValueError for a beam that is too narrow or too wide."""
    if not 1 <= width <= WIDEST:
        raise ValueError(f"a beam of width {width}; it may have 1 to {WIDEST}")


def decoder(network: Decoder) -> Decoder:
    """A network as what writes, whatever it remembers."""
    return network
