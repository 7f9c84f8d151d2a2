"""A network of Hugging Face as a `Model`: what pages, methods and measures may ask of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.hub.answers import Answers, answers_of, default_rows, in_words, read_from, shares
from attnviz.hub.errors import CannotRecord
from attnviz.hub.network import HubNetwork
from attnviz.hub.recorder import Recorder
from attnviz.hub.vocabulary import HubTokenizer
from attnviz.models.image import CENTER_CROP, Crop, Preparation, channels_last
from attnviz.models.pictures import picture_from
from attnviz.models.requests import as_wide, fitted, input_of, refuse
from attnviz.types import Edit, LayerParts, ModelSpec, PatchProjection, Request, Sample, Tokens, Trace, UnsupportedMask
from attnviz.typography import one_line

LONGEST_TEXT = 20_000  # characters that are looked at
ALWAYS: frozenset[Request] = frozenset({"embeddings", "ablated_heads", "blocked_edges", "residuals"})
WITH_REMOVAL = ALWAYS | frozenset[Request]({"keep_tokens"})


class HubModel:
    """What models of pictures and of texts have in common: passes, traces, the logit lens, refusals."""

    superclasses: tuple[str, ...] = ()
    patch_projection: PatchProjection | None = None
    modality: Any = "image"
    record = ""
    facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, network: HubNetwork, *, name: str, digest: str = ""):
        self.network, self.name = network, name
        self.title = f"{name} ({type(network.module).__name__})"
        self.digest = digest or network.digest()
        self.config: Any = network.module.config
        self.causal = all(call.mask is not None and call.mask.causal for call in network.calls)
        self.answers: Answers | None = None
        self.pools = (
            ""  # how a bare encoder's tokens become one vector, where its folder says so: "cls", "mean", "last"
        )
        self.reads: tuple[int, ...] = ()  # the tokens of the first pass that a class is read from
        self.reads_all = False

    def look_at_answer(self, sample: Sample) -> None:
        """Find what it answers, and from which tokens, by one pass over a sample that keeps its graph."""
        with torch.enable_grad():
            content = self(sample).token_embeddings["main"]
            if content is None:
                raise CannotRecord("what enters its first layer was not recorded")
            recorder, result = self.passed(sample, Edit(embeddings=content.detach().clone().requires_grad_()))
        logits = getattr(result, "logits", None)
        self.answers = answers_of(logits, self.config, self.tokenizer)
        if logits is not None and self.answers is not None and not self.answers.by_token:
            self.reads = tuple(read_from(logits, recorder.residuals["main"][-1]))
            self.reads_all = len(self.reads) > max(1, sample.tokens["main"].prefix)

    @property
    def tokenizer(self) -> HubTokenizer | None:
        """Its vocabulary; None where it reads no text."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.device

    def to(self, device: torch.device | str) -> HubModel:
        """This model on another device."""
        self.network.module.to(device)
        return self

    @property
    def outputs(self) -> Mapping[str, Sequence[str]]:
        """The labels of its one output; none of a bare encoder."""
        return {} if self.answers is None else {self.answers.name: self.answers.labels}

    @property
    def honours(self) -> frozenset[Request]:
        """What it takes: tokens can be removed unless the network itself takes their mean."""
        return ALWAYS if self.reads_all else WITH_REMOVAL

    @property
    def spec(self) -> ModelSpec:
        """What a page may know of it."""
        return ModelSpec(
            self.modality,
            self.network.depth,
            self.network.calls[0].heads,
            self.network.width,
            self.context_length,
            self.causal,
            answer_from=self.answer_from,
            honours=self.honours,
        )

    @property
    def context_length(self) -> int | None:
        """Tokens it reads at most; None where it has no fixed length."""
        return None

    @property
    def answer_from(self) -> str:
        """What its answer about the whole input is read from, in words."""
        raise NotImplementedError

    @property
    def input_embeddings(self) -> Tensor | None:
        """The table of token embeddings; None for pictures, and where the table has another width than the layers."""
        return None

    def inputs(self, sample: Sample, items: int) -> dict[str, Tensor]:
        """What the network reads of a sample, as many times as there are edits."""
        raise NotImplementedError

    def prepare(self, raw: Any) -> Sample:
        """An input as a Sample."""
        raise NotImplementedError

    def passed(self, sample: Sample, edit: Edit) -> tuple[Recorder, Any]:
        """One forward pass: what it recorded, and what the network gave. Raises ValueError for edits in two axes."""
        if len(edit.batch) > 1:
            raise ValueError(
                f"edits have the leading axes {edit.batch}; a model of Hugging Face takes one axis at most"
            )
        recorder = Recorder(
            self.network.structure,
            edit,
            sample.tokens,
            single=not edit.batch,
            content_enters=self.network.content_enters,
        )
        asked = edit.embeddings is not None and edit.embeddings.requires_grad
        with torch.set_grad_enabled(torch.is_grad_enabled() and asked):
            result = self.network.run(recorder, self.inputs(sample, edit.batch[0] if edit.batch else 1))
        return recorder, result

    def __call__(self, sample: Sample, *, edit: Edit | None = None) -> Trace:
        """One forward pass, changed by `edit`. Gradients flow only from its `embeddings`, where they ask for them."""
        self.check(sample)
        refuse(self.title, edit, self.honours, "it is not known how this network would compute without them")
        tokens = sample.tokens["main"]
        like = torch.zeros(0, self.network.width, device=self.device, dtype=self.network.dtype)
        edit = fitted(edit, tokens=len(tokens), layers=self.network.depth, like=like)
        recorder, result = self.passed(sample, edit)

        residuals = as_wide(recorder.residuals["main"])
        pooling = self.pooling(sample).to(residuals[0]).expand(residuals[0].shape[:-1])
        pooling = pooling if edit.keep_tokens is None else pooling * edit.keep_tokens
        return Trace(
            sample=sample,
            token_embeddings={"main": recorder.content},
            position_embeddings={"main": None},
            calls=tuple(recorder.calls),
            residuals={"main": residuals},
            pooling={"main": pooling},
            logits=self.named_logits(result, not edit.batch),
        )

    def named_logits(self, result: Any, single: bool) -> dict[str, Tensor]:
        """The logits by the name of their output [*batch row class]."""
        if self.answers is None:
            return {}
        logits = result.logits if self.answers.by_token else result.logits[..., None, :]
        return {self.answers.name: logits[0] if single else logits}

    def check(self, sample: Sample) -> None:
        """Raise TypeError or ValueError for a sample that was not prepared for this model."""
        input_of(sample, picture=self.modality == "image")

    def pooling(self, sample: Sample) -> Float[Tensor, " token"]:
        """How much each final token feeds the answer."""
        tokens = sample.tokens["main"]
        if self.answers is not None and not self.answers.by_token:
            return shares(tokens, self.read_rows(tokens))
        ids = None if self.tokenizer is None else sample.inputs["main"].tolist()
        special = {} if self.tokenizer is None else self.tokenizer.special
        pools = {"cls": [0], "mean": list(range(len(tokens))), "last": [len(tokens) - 1]}
        rows = pools.get(self.pools) or default_rows(tokens, ids, self.causal, special.get("mask"))
        return shares(tokens, rows)

    def read_rows(self, tokens: Tokens) -> list[int]:
        """The tokens that a class is read from, among so many."""
        return list(self.reads)

    def logits_from(
        self,
        residual: Float[Tensor, "*batch token feature"],
        *,
        output: str | None = None,
        pooling: Float[Tensor, "*batch token"] | None = None,
    ) -> Float[Tensor, "*batch row class"]:
        """The logits of a residual at any layer (the logit lens), by the network itself with all its layers skipped.

        Raises UnsupportedMask for a bare encoder, ValueError for an output there is not.
        """
        if self.answers is None:
            raise UnsupportedMask(self.title, "it answers nothing, so a residual has no logits")
        if output not in (None, self.answers.name):
            raise ValueError(f"output is {output!r}; {self.title} has {self.answers.name}")
        flat = residual.reshape(-1, *residual.shape[-2:])
        result = self.skipping(flat, end=flat)
        logits = self.named_logits(result, False)[self.answers.name]
        return logits.reshape(*residual.shape[:-2], *logits.shape[-2:])

    def layer(
        self, index: int, residual: Float[Tensor, "*batch token feature"], **options: Any
    ) -> Float[Tensor, "*batch token feature"]:
        """The residual after layer `index`, given the residual before it: all other layers are skipped.

        Raises IndexError for a layer there is not, TypeError for any option but `tokens`.
        """
        if unknown := sorted(options.keys() - {"tokens"}):
            raise TypeError(f"a layer of {self.title} takes no {', '.join(unknown)}")
        if not 0 <= index < self.network.depth:
            raise IndexError(f"layer {index} requested from {self.title}, which has {self.network.depth}")
        flat = residual.reshape(-1, *residual.shape[-2:])
        recorder = self.recorder(start=(index, flat))
        self.run_skipping(recorder, flat)
        return recorder.residuals["main"][-1].reshape(residual.shape)

    def layer_parts(self, index: int) -> LayerParts:
        """Refused: how its layers are built is not known."""
        raise UnsupportedMask(self.title, "how a layer of this family is put together is not known here")

    def recorder(self, **options: Any) -> Recorder:
        """A recorder of a pass in which layers are skipped."""
        return Recorder(self.network.structure, depth=self.network.depth, single=False, **options)

    def skipping(self, flat: Float[Tensor, "item token feature"], **options: Any) -> Any:
        """What the network gives with its layers skipped."""
        return self.run_skipping(self.recorder(**options), flat)

    def run_skipping(self, recorder: Recorder, flat: Float[Tensor, "item token feature"]) -> Any:
        """One pass with layers skipped, over some input with as many tokens."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and flat.requires_grad):
            return self.network.run(recorder, self.blank(flat))

    def blank(self, flat: Float[Tensor, "item token feature"]) -> dict[str, Tensor]:
        """Some input with as many tokens and items as this residual."""
        raise NotImplementedError


class HubImageModel(HubModel):
    """A network that reads pictures cut into patches."""

    def __init__(self, network: HubNetwork, preparation: Preparation, tokens: Tokens, *, name: str, digest: str = ""):
        super().__init__(network, name=name, digest=digest)
        self.preparation, self.tokens = preparation, tokens
        generator = torch.Generator().manual_seed(0)
        self.look_at_answer(self.sample(torch.rand(network_input(preparation), generator=generator)))

    @property
    def spec(self) -> ModelSpec:
        """What a page may know of it."""
        size, grid = self.preparation.size, self.tokens.grid
        return replace(super().spec, patch_size=size // grid[0] if grid else None, input_size=(size, size))

    @property
    def answer_from(self) -> str:
        """What its class is read from, in words."""
        return in_words(self.tokens, self.reads) if self.answers is not None else ""

    def prepare(self, raw: object, framing: Crop = CENTER_CROP) -> Sample:
        """A picture as a Sample: one square of it at the network's size, normalised as its processor says."""
        picture = picture_from(channels_last(raw) if isinstance(raw, Tensor) else raw)
        image = self.preparation.picture(picture, framing)
        sample = self.sample(self.preparation.pixels(image))
        return replace(sample, image=image, crop=framing.box(*picture.size))

    def sample(self, pixels: Float[Tensor, "channel height width"]) -> Sample:
        """Normalised pixels as a Sample."""
        digest = hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()
        return Sample(digest, {"main": pixels}, {"main": self.tokens})

    def inputs(self, sample: Sample, items: int) -> dict[str, Tensor]:
        """The pixels, as many times as there are edits."""
        pixels = input_of(sample, picture=True).to(self.device, self.network.dtype)
        return {"pixel_values": pixels.expand(items, *pixels.shape)}

    def blank(self, flat: Float[Tensor, "item token feature"]) -> dict[str, Tensor]:
        """Black pictures."""
        if flat.shape[-2] != len(self.tokens):
            raise ValueError(f"residual has {flat.shape[-2]} tokens, expected {len(self.tokens)}")
        return {"pixel_values": flat.new_zeros(len(flat), *network_input(self.preparation))}


def network_input(preparation: Preparation) -> tuple[int, int, int]:
    """The shape of what a network of pictures reads [channel height width]."""
    return len(preparation.mean), preparation.size, preparation.size


class HubTextModel(HubModel):
    """A network that reads tokens of a text."""

    modality = "text"

    def __init__(
        self, network: HubNetwork, tokenizer: HubTokenizer, context_length: int | None, *, name: str, digest: str = ""
    ):
        self._tokenizer, self._context_length = tokenizer, context_length
        super().__init__(network, name=name, digest=digest)
        self.look_at_answer(self.prepare("a b c"))

    @property
    def tokenizer(self) -> HubTokenizer:
        """Its vocabulary."""
        return self._tokenizer

    @property
    def context_length(self) -> int | None:
        """The least of what the network and its tokenizer say."""
        return self._context_length

    @property
    def answer_from(self) -> str:
        """What its answer about the whole text is read from, in words."""
        if self.causal:
            return "the last token"
        if self.answers is None or self.answers.by_token:
            return ""
        return "the mean of all tokens" if self.reads_all else "CLS"

    @property
    def input_embeddings(self) -> Tensor | None:
        """The row of every token [vocabulary feature]; None where their width is not that of the layers."""
        if self.network.content_enters:
            return None
        table = self.network.module.get_input_embeddings()  # type: ignore[operator]
        with torch.no_grad():
            return table(torch.arange(len(self.tokenizer), device=self.device))

    def read_rows(self, tokens: Tokens) -> list[int]:
        """The tokens that a class is read from: the first, the last or all of them."""
        if self.reads_all:
            return list(range(len(tokens)))
        return [len(tokens) - 1] if self.causal else [0]

    def prepare(self, raw: str | tuple[str, str]) -> Sample:
        """A text, or two of them, as a Sample: between the special tokens of its tokenizer, cut at its length."""
        texts = [one_line(part[:LONGEST_TEXT]) for part in ((raw,) if isinstance(raw, str) else raw)]
        first, between, after = self.tokenizer.template
        around = [first, *[between] * (len(texts) - 1), after]
        room = (self.context_length or LONGEST_TEXT) - sum(map(len, around))
        ids, labels, words, read, cut = list(first), [self.tokenizer.label(i) for i in first], [-1] * len(first), [], []
        for text, special in zip(texts, around[1:], strict=True):
            found = self.tokenizer.encode(text)
            kept, offset = found[: max(0, room)], max(words, default=-1) + 1
            room -= len(kept)
            stop = len(text) if len(kept) == len(found) else kept[-1].stop if kept else 0
            read, cut = [*read, text[:stop]], [*cut, text[stop:].strip()]
            ids += [*(token.id for token in kept), *special]
            labels += [*(token.label for token in kept), *(self.tokenizer.label(id) for id in special)]
            words += [*(token.word + offset for token in kept), *[-1] * len(special)]
        if not ids:  # an empty text without special tokens: something has to be read
            ids, labels, words = [self.beginning], [self.tokenizer.label(self.beginning)], [-1]
        return Sample(
            digest=hashlib.sha256(str((ids, read)).encode()).hexdigest(),
            inputs={"main": torch.tensor(ids)},
            tokens={"main": Tokens(tuple(labels), words=tuple(words))},
            text=" ".join(read),
            cut=" ".join(part for part in cut if part),
        )

    @property
    def beginning(self) -> int:
        """The token that an empty text is read as."""
        special = self.tokenizer.special
        return next((special[role] for role in ("bos", "eos", "cls", "pad") if role in special), 0)

    def inputs(self, sample: Sample, items: int) -> dict[str, Tensor]:
        """The ids, as many times as there are edits. Raises ValueError for more than the context length."""
        ids = input_of(sample).to(self.device)
        if self.context_length is not None and len(ids) > self.context_length:
            raise ValueError(f"{len(ids)} tokens; {self.title} reads at most {self.context_length}")
        found = {"input_ids": ids.expand(items, -1), "attention_mask": torch.ones_like(ids).expand(items, -1)}
        if "token_type_ids" in self.network.accepts and (types := self.types(ids)) is not None:
            found["token_type_ids"] = types.expand(items, -1)
        return found

    def types(self, ids: Tensor) -> Tensor | None:
        """Which text each token belongs to, where there are two and the network tells them apart; else None."""
        _, between, after = self.tokenizer.template
        if getattr(self.config, "type_vocab_size", 0) < 2 or not between or ids[-1] not in after:
            return None
        ends = (ids == between[-1]).nonzero().flatten()
        return (torch.arange(len(ids), device=ids.device) > ends[0]).long() if len(ends) > 1 else None

    def blank(self, flat: Float[Tensor, "item token feature"]) -> dict[str, Tensor]:
        """Texts of one token again and again, which is not that of padding."""
        id = next(id for id in range(len(self.tokenizer)) if id != getattr(self.config, "pad_token_id", None))
        ids = torch.full(flat.shape[:2], id, dtype=torch.long, device=flat.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
