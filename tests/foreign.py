"""Three small models that are none of ours: what pages, methods and measures may expect of any model.

They keep to the protocol `Model` and to nothing else: other vocabularies, other special tokens, few or no outputs, few
options in a call. Their parameters are drawn from a seed; nobody trained them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from attnviz.attention import Softmax
from attnviz.edits import Edit, HeadAblation
from attnviz.types import (
    CONTINUATION,
    AttentionCall,
    LayerParts,
    Mask,
    Model,
    ModelSpec,
    Norm,
    PatchProjection,
    Request,
    Role,
    Sample,
    Token,
    Tokens,
    Trace,
    UnsupportedMask,
)

BEGIN = "\u2581"  # begins a token that has a space before it
WORDS = ("the", "a", "of", "and", "to", "was", "is", "not", "it", "she", "he")
SIGNS = tuple("?abcdefghijklmnopqrstuvwxyz0123456789.,!'-")  # the first stands for all that are not here


class WordTokenizer:
    """Frequent words between spaces, the others by their characters, in lower case."""

    def __init__(self, vocabulary: Sequence[str], special: Mapping[Role, int]):
        self.vocabulary, self.special = tuple(vocabulary), special
        self.special_ids = frozenset(special.values())
        self.ids = {token: id for id, token in enumerate(self.vocabulary)}
        self.digest = hashlib.sha256("\n".join(self.vocabulary).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> list[Token]:
        """The tokens of a text, each with the characters it stands for, as the text spells them."""
        found = []
        for number, word in enumerate(re.finditer(r"\S+", text)):
            whole = self.ids.get(BEGIN + word[0].lower())
            if whole is not None:
                found.append(Token(whole, word[0], word.start(), word.end(), number))
                continue
            for i, sign in enumerate(word[0]):
                at, begin = word.start() + i, "" if i else BEGIN
                id = self.ids.get(begin + sign.lower(), self.ids[begin + SIGNS[0]])
                found.append(Token(id, (CONTINUATION if i else "") + sign, at, at + 1, number))
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these tokens; special ones say nothing."""
        return "".join(self.vocabulary[id] for id in ids if id not in self.special_ids).replace(BEGIN, " ").strip()

    def label(self, id: int) -> str:
        """What a token is called."""
        return self.vocabulary[id].removeprefix(BEGIN)

    def written(self, ids: Sequence[int], before: str = "") -> Iterator[tuple[str, bool]]:
        """The label of each token, and whether it goes on with the word before it."""
        last = bool(before) and not before[-1].isspace()
        for id in ids:
            inside = last and id not in self.special_ids and not self.begins_word(id)
            yield (CONTINUATION if inside else "") + self.label(id), inside
            last = id not in self.special_ids

    def begins_word(self, id: int) -> bool:
        """Whether a space stands before it."""
        return self.vocabulary[id].startswith(BEGIN)


def encoder_tokenizer() -> WordTokenizer:
    """A vocabulary whose special tokens are 11 and 12, without one for padding or for hidden words."""
    words = [BEGIN + word for word in WORDS]
    vocabulary = [*words, "<s>", "</s>", *SIGNS, *(BEGIN + sign for sign in SIGNS if BEGIN + sign not in words)]
    return WordTokenizer(vocabulary, {"cls": 11, "sep": 12})


def decoder_tokenizer() -> WordTokenizer:
    """A vocabulary whose special tokens are its last two."""
    words = [BEGIN + word for word in WORDS]
    ordinary = [*SIGNS, *(BEGIN + sign for sign in SIGNS if BEGIN + sign not in words), *words]
    return WordTokenizer([*ordinary, "<begin>", "<end>"], {"bos": len(ordinary), "eos": len(ordinary) + 1})


class Layer(nn.Module):
    """Self-attention and an MLP, each on the normalised residual."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(
        self, x: Tensor, *, tokens: Tokens, index: int, mask: Mask | None = None, ablation: HeadAblation | None = None
    ) -> tuple[Tensor, AttentionCall]:
        """The residual after this layer, and its attention."""
        heads = self.project(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        call = AttentionCall(
            name=f"layer {index + 1}",
            layer=index,
            rule=Softmax(),
            query=heads[0],
            key=heads[1],
            value=heads[2],
            queries=tokens,
            keys=tokens,
            scale=heads.shape[-1] ** -0.5,
            mask=mask,
            gate=None if ablation is None else (~ablation.off).float()[..., None, None],
            projection=self.out.weight.T.unflatten(0, (self.heads, -1)),
        )
        output = call.rule.mix(call)
        x = x + self.out(output.transpose(-2, -3).flatten(-2))
        call = AttentionCall(**{**vars(call), "output": output})
        return self.feed_forward(x), call

    def feed_forward(self, x: Tensor) -> Tensor:
        """The residual after the MLP."""
        return x + self.mlp(self.norms[1](x))

    def parts(self) -> LayerParts:
        """This layer without its mixing."""

        def project(x: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
            query, key, _ = self.project(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
            return query, key

        first, second = (Norm(norm.weight, norm.bias, norm.eps) for norm in self.norms)
        return LayerParts(True, first, second, self.out.bias, project, self.feed_forward)


class ForeignModel:
    """What the three have in common: their layers, and the refusal of what they do not honour."""

    superclasses: tuple[str, ...] = ()
    patch_projection: PatchProjection | None = None
    tokenizer: WordTokenizer | None = None
    input_embeddings: Tensor | None = None  # [vocabulary feature]
    outputs: Mapping[str, Sequence[str]] = {}
    facts: Mapping[str, Any] = {}
    record = ""
    device = torch.device("cpu")

    def __init__(self, name: str, title: str, spec: ModelSpec):
        self.name, self.title, self.spec = name, title, spec
        self.digest = hashlib.sha256(title.encode()).hexdigest()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = [Layer(spec.width, spec.heads).requires_grad_(False) for _ in range(spec.layers)]

    def to(self, device: torch.device | str) -> ForeignModel:
        """It computes where it is: on the processor."""
        return self

    def check(self, edit: Edit | None) -> Edit:
        """The edit, unless it asks for more than this model honours."""
        edit = edit or Edit()
        if wrong := sorted(edit.requests - self.spec.honours):
            raise UnsupportedMask(self.title, f"takes no {', '.join(wrong)}")
        return edit

    def run(self, sample: Sample, content: Tensor, position: Tensor | None, edit: Edit) -> Trace:
        """The trace of the layers over these embeddings [*batch token feature]."""
        keep_tokens, off = edit.keep_tokens, edit.ablated_heads
        if off is not None and off.shape[-2:] != (self.spec.layers, self.spec.heads):
            raise ValueError(f"ablated_heads is {list(off.shape)}; {self.title} has {self.spec.layers} layers")
        content = content.expand(*torch.broadcast_shapes(content.shape[:-2], edit.batch), *content.shape[-2:])
        if position is not None and content.shape[-2] > len(position):
            raise ValueError(f"{content.shape[-2]} tokens; {self.title} reads at most {len(position)}")
        residuals, calls = [content if position is None else content + position], list[AttentionCall]()
        mask = None
        if keep_tokens is not None or self.spec.causal:
            mask = Mask(key_padding=keep_tokens, causal=self.spec.causal)
        for index, layer in enumerate(self.layers):
            options = {"mask": mask, "ablation": edit.ablation(index)}
            x, call = layer(residuals[-1], tokens=sample.tokens["main"], index=index, **options)
            residuals.append(x)
            calls.append(call)
        pooling = self.pooling(content) if keep_tokens is None else self.pooling(content) * keep_tokens
        return Trace(
            sample=sample,
            token_embeddings={"main": content},
            position_embeddings={"main": position if position is None else position.expand_as(content)},
            calls=tuple(calls),
            residuals={"main": tuple(residuals)},
            pooling={"main": pooling},
            logits={name: self.logits_from(residuals[-1]) for name in self.outputs},
        )

    def pooling(self, content: Tensor) -> Tensor:
        """How much each final token feeds the answer [*batch token]: all of it is the first token's."""
        return torch.eye(content.shape[-2])[0].expand(content.shape[:-1])

    def logits_from(self, residual: Tensor, *, output: str | None = None, pooling: Tensor | None = None) -> Tensor:
        """Refused: it answers nothing."""
        raise UnsupportedMask(self.title, "has no outputs")

    def layer(self, index: int, residual: Tensor, *, tokens: Tokens, **options: Any) -> Tensor:
        """The residual after layer `index`."""
        mask = Mask(causal=True) if self.spec.causal else None
        return self.layers[index](residual, tokens=tokens, index=index, mask=mask, **options)[0]

    def layer_parts(self, index: int) -> LayerParts:
        """Layer `index` without its mixing."""
        return self.layers[index].parts()


class TextEncoder(ForeignModel):
    """A bare encoder of texts: it answers nothing, and hides no word."""

    def __init__(self, name: str = "foreign-encoder"):
        spec = ModelSpec("text", 2, 3, 24, 60, honours=frozenset[Request]({"ablated_heads"}))
        super().__init__(name, "Foreign text encoder", spec)
        generator = torch.Generator().manual_seed(1)
        self.tokenizer = self.words = encoder_tokenizer()
        self.input_embeddings = self.table = torch.randn(len(self.words), spec.width, generator=generator)
        self.places = torch.randn(60, spec.width, generator=generator) / 4

    def prepare(self, raw: str | tuple[str, str]) -> Sample:
        """<s> text </s>, and a second text behind that with </s> after it."""
        return text_sample(self.words, (raw,) if isinstance(raw, str) else raw, 11, 12, 60)

    def __call__(self, sample: Sample, *, edit: Edit | None = None) -> Trace:
        """One forward pass."""
        content = self.table[sample.inputs["main"]]
        return self.run(sample, content, self.places[: len(content)], self.check(edit))


class TextDecoder(ForeignModel):
    """A decoder that says which token comes next."""

    def __init__(self, name: str = "foreign-decoder"):
        honours = frozenset[Request]({"embeddings", "keep_tokens", "ablated_heads"})
        spec = ModelSpec("text", 2, 2, 16, 80, causal=True, answer_from="the last token", honours=honours)
        super().__init__(name, "Foreign text decoder", spec)
        generator = torch.Generator().manual_seed(2)
        self.tokenizer = self.words = decoder_tokenizer()
        self.input_embeddings = self.table = torch.randn(len(self.words), spec.width, generator=generator)
        self.places = torch.randn(80, spec.width, generator=generator) / 4
        self.outputs = {"word": tuple(self.words.label(id) for id in range(len(self.words)))}

    def prepare(self, raw: str) -> Sample:
        """<begin> text."""
        return text_sample(self.words, (raw,), self.words.special["bos"], None, 80)

    def __call__(self, sample: Sample, *, edit: Edit | None = None) -> Trace:
        """One forward pass. Gradients flow from `embeddings` that ask for them."""
        edit = self.check(edit)
        content = self.table[sample.inputs["main"]] if edit.embeddings is None else edit.embeddings
        return self.run(sample, content, self.places[: content.shape[-2]], edit)

    def pooling(self, content: Tensor) -> Tensor:
        """All of the last token [*batch token]."""
        return torch.eye(content.shape[-2])[-1].expand(content.shape[:-1])

    def logits_from(self, residual: Tensor, *, output: str | None = None, pooling: Tensor | None = None) -> Tensor:
        """How well every token would come next [*batch token vocabulary]."""
        return residual @ self.table.T


class ImageEncoder(ForeignModel):
    """A bare encoder of wide pictures, with a distillation token beside CLS (Touvron et al. 2021)."""

    def __init__(self, name: str = "foreign-pictures"):
        spec = ModelSpec("image", 3, 2, 20, patch_size=8, input_size=(32, 48), answer_from="CLS and DIST")
        super().__init__(name, "Foreign image encoder", spec)
        self.tokens = Tokens.patches(4, 6, ("CLS", "DIST"))
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.embed = nn.Sequential(nn.Conv2d(3, 20, 4, 4), nn.GELU(), nn.Conv2d(20, 20, 2, 2)).requires_grad_(False)
            self.prefix = torch.randn(2, spec.width)

    def prepare(self, raw: Image.Image) -> Sample:
        """The largest part of a picture's middle that is one and a half times as wide as high."""
        scale = min(raw.width / 48, raw.height / 32)
        width, height = max(1, round(48 * scale)), max(1, round(32 * scale))
        left, top = (raw.width - width) // 2, (raw.height - height) // 2
        image = ImageOps.fit(raw.convert("RGB"), (48, 32))
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)
        return Sample(
            digest=hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest(),
            inputs={"main": pixels},
            tokens={"main": self.tokens},
            image=image,
            crop=(left, top, left + width, top + height),
        )

    def __call__(self, sample: Sample, *, edit: Edit | None = None) -> Trace:
        """One forward pass. The convolutions know where a patch lies, so no positions are added."""
        patches = self.embed(sample.inputs["main"]).flatten(-2).T
        return self.run(sample, torch.cat([self.prefix, patches]), None, self.check(edit))

    def pooling(self, content: Tensor) -> Tensor:
        """CLS and DIST, half of each [*batch token]."""
        return ((torch.arange(content.shape[-2]) < 2) / 2).expand(content.shape[:-1])

    def layer(self, index: int, residual: Tensor, **options: Any) -> Tensor:
        """The residual after layer `index`."""
        return super().layer(index, residual, tokens=self.tokens, **options)


def text_sample(
    tokenizer: WordTokenizer, texts: Sequence[str], first: int, last: int | None, context_length: int
) -> Sample:
    """Texts as a Sample, cut at the context length: `first` before all, `last` behind each of them."""
    room = context_length - 1 - (0 if last is None else len(texts))
    ids, labels, words, read, cut = [first], [tokenizer.label(first)], [-1], list[str](), list[str]()
    for text in texts:
        tokens = tokenizer.encode(text)
        kept, offset = tokens[:room], max(words) + 1
        room -= len(kept)
        stop = kept[-1].stop if kept else 0
        stop = len(text) if len(kept) == len(tokens) else stop
        read, cut = [*read, text[:stop]], [*cut, text[stop:].strip()]
        ids += [token.id for token in kept]
        labels += [token.label for token in kept]
        words += [token.word + offset for token in kept]
        if last is not None:
            ids, labels, words = [*ids, last], [*labels, tokenizer.label(last)], [*words, -1]
    return Sample(
        digest=hashlib.sha256(str((ids, read)).encode()).hexdigest(),
        inputs={"main": torch.tensor(ids)},
        tokens={"main": Tokens(tuple(labels), words=tuple(words))},
        text=" ".join(read),
        cut=" ".join(part for part in cut if part),
    )


@dataclass(frozen=True)
class Foreign:
    """One of the three, and something it can be given."""

    model: Model
    raw: Any


def foreign_models() -> dict[str, Foreign]:
    """The three, by name."""
    text = "The old man was not at home, she said."
    found = [(TextEncoder(), text), (TextDecoder(), text), (ImageEncoder(), Image.linear_gradient("L"))]
    return {model.name: Foreign(model, raw) for model, raw in found}
