"""One transformer block over word vectors that guesses a hidden word: the smallest network that attends for a reason.

The vectors are those of `words.py` and stay as they are; what is learned is one block, what stands for a hidden word,
and the way back from features to words. Sentences have no begin and no end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnviz.models.files import ASSETS, DamagedModel, read_config, reading, with_weights, write
from attnviz.models.image import digest_of, honoured
from attnviz.models.layers import Block, hold_positions, pooling_weights
from attnviz.models.requests import as_wide, fitted, input_of, opened, placed, spread, widened
from attnviz.models.words import WordVectors, load_words
from attnviz.types import Edit, LayerParts, Mask, ModelSpec, Sample, Tokens, Trace

NAME, TITLE = "one-block", "English words: one block that guesses a hidden one"


@dataclass(frozen=True)
class GuessConfig:
    """The shape of the network; width is that of the word vectors."""

    words: int
    width: int = 64
    heads: int = 4
    mlp: float = 4
    context_length: int = 24
    positions: str = "sine"
    variant: str = "mha"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def norm(self) -> str:
        """Layer norm."""
        return "layer"

    @property
    def gated(self) -> bool:
        """An MLP of two matrices."""
        return False

    @property
    def norm_first(self) -> bool:
        """Pre-norm."""
        return True

    @property
    def layers(self) -> int:
        """One block."""
        return 1


class Guesser(nn.Module):
    """A sentence with hidden words goes in, and at every place the network says which word it expects there."""

    table: Tensor
    positions: Tensor

    def __init__(self, config: GuessConfig, vectors: Float[Tensor, "word feature"]):
        super().__init__()
        self.config = config
        room = Tokens(tuple(map(str, range(config.context_length))))
        self.register_buffer("table", vectors, persistent=False)
        hold_positions(self, config.positions, room, config.width, persistent=False)
        self.hidden = nn.Parameter(torch.randn(config.width) / config.width**0.5)
        self.block = Block(config, room, 0)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.back = nn.Linear(config.width, config.width)
        self.bias = nn.Parameter(torch.zeros(config.words))

    def forward(
        self,
        ids: Int[Tensor, "*batch token"],
        hidden: Bool[Tensor, "*batch token"] | None = None,
        *,
        labels: tuple[str, ...] | None = None,
        mask: Mask | None = None,
        read: bool = True,
        edit: Edit | None = None,
    ) -> Trace:
        """Everything one pass records; logits["word"] is [*batch token word], and left out unless they are `read`.

        `edit` changes the pass, as in every model (`Reader.forward`). Raises ValueError for more words than it reads,
        and for edits that do not fit.
        """
        count = ids.shape[-1]
        if count > self.config.context_length:
            raise ValueError(f"{count} tokens; this network reads at most {self.config.context_length}")
        tokens = Tokens(labels or tuple(map(str, range(count))))
        edit = fitted(edit, tokens=count, layers=1, like=self.hidden)
        content = spread(self.token_embeddings(ids, hidden) if edit.embeddings is None else edit.embeddings, edit)
        if edit.keep_tokens is not None:
            mask = Mask(key_padding=edit.keep_tokens) & mask
        position = placed(self.positions[:count].to(content.dtype), 0, edit.positions).expand_as(content)
        options = {"mask": opened(edit, mask, 0), "ablation": edit.ablation(0)}
        first = edit.patched(0, content + position)
        last, calls = self.block(first, queries=tokens, name="layer 1", layer=0, **options)
        last = edit.patched(1, last)
        return Trace(
            sample=None,
            token_embeddings={"main": content},
            position_embeddings={"main": position},
            calls=widened(calls, last),
            residuals={"main": as_wide((first, last))},
            pooling={"main": pooling_weights(last, slice(None), edit.keep_tokens)},
            logits={"word": self.logits_from(last)} if read else {},
        )

    def token_embeddings(
        self, ids: Int[Tensor, "*batch token"], hidden: Bool[Tensor, "*batch token"] | None = None
    ) -> Float[Tensor, "*batch token feature"]:
        """Word vectors times the root of the width (Vaswani et al. 2017, section 3.4); one for all hidden words."""
        vectors = self.table[ids].to(self.hidden.dtype)  # as precise as the parameters, also where that is double
        if hidden is not None:
            vectors = torch.where(hidden[..., None], self.hidden, vectors)
        return vectors * self.config.width**0.5

    def logits_from(self, residual: Float[Tensor, "*batch token feature"]) -> Float[Tensor, "*batch token word"]:
        """Logits of every word at every place."""
        final = self.back(self.norm(residual))
        return final @ self.table.T.to(final.dtype) * self.config.width**0.5 + self.bias


@torch.no_grad()
def guesses(
    network: Guesser, ids: Sequence[int], place: int, count: int = 5, *, alone: bool = False
) -> list[tuple[int, float]]:
    """The likeliest words for one place of a sentence, with their probabilities; `alone`, no word sees another one."""
    line = torch.tensor(ids)
    hidden = torch.arange(len(ids)) == place
    mask = Mask(keep=torch.eye(len(ids), dtype=torch.bool)[None]) if alone else None
    best = network(line, hidden, mask=mask).logits["word"][place].softmax(-1).topk(count)
    return [(int(i), float(p)) for p, i in zip(best.values, best.indices, strict=True)]


def save_guesser(network: Guesser, words_digest: str, folder: Path, card: str, facts: dict[str, Any]) -> None:
    """Write half-precision weights, config.json with their checksum and that of the word vectors, and card.md."""
    config = {"name": NAME, "words": words_digest, "network": asdict(network.config), "facts": facts}
    write(folder, network.state_dict(), config, card)


def load_guesser(words: WordVectors, folder: Path | None = None) -> tuple[Guesser, dict[str, Any]]:
    """The shipped block over these word vectors, and the facts of its training. Raises DamagedModel."""
    folder = folder or ASSETS / NAME
    with reading(folder) as (config, weights):
        if config.get("words") != words.digest:
            raise DamagedModel(folder, "config.json", "belongs to other word vectors")
        network = with_weights(lambda: Guesser(GuessConfig(**config["network"]), words.vectors), weights)
    return network.eval().requires_grad_(False), config.get("facts", {})


class GuessModel:
    """The block over word vectors, opened: give it a sentence, get everything it computed."""

    modality = "words"
    tokenizer = None  # it reads whole words of a table
    superclasses: tuple[str, ...] = ()
    patch_projection = None

    def __init__(
        self,
        name: str,
        network: Guesser,
        words: WordVectors,
        *,
        title: str = "",
        digest: str = "",
        facts: Mapping[str, Any] | None = None,
    ):
        self.name, self.title, self.digest = name, title or name, digest or digest_of(network)
        self.network, self.words, self.facts = network.eval().requires_grad_(False), words, dict(facts or {})

    @property
    def config(self) -> GuessConfig:
        """The shape of the network."""
        return self.network.config

    @property
    def spec(self) -> ModelSpec:
        """What a page may know of it."""
        config = self.config
        return ModelSpec(
            "words",
            1,
            config.heads,
            config.width,
            config.context_length,
            variant=config.variant,
            positions=config.positions,
            honours=honoured(config.variant),
        )

    @property
    def outputs(self) -> Mapping[str, Sequence[str]]:
        """The words it can guess."""
        return {"word": self.words.words}

    @property
    def input_embeddings(self) -> Float[Tensor, "vocabulary feature"]:
        """The vector of every word, as it enters."""
        return self.network.token_embeddings(torch.arange(len(self.words.words), device=self.device))

    @property
    def record(self) -> str:
        """How often it guesses a hidden word it has not seen hidden, in words; empty where nobody has measured it."""
        facts = self.facts
        return f"It guesses {facts['top1']} % of hidden words in held-out sentences." if "top1" in facts else ""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.bias.device

    def to(self, device: torch.device | str) -> GuessModel:
        """This model on another device."""
        self.network.to(device)
        return self

    def prepare(self, raw: str) -> Sample:
        """The known words of a text as a Sample, cut at the longest it reads. Raises ValueError where it knows none."""
        reading = self.words.read(raw, len(raw))
        if not reading.words:
            raise ValueError(f"expected English words that the table knows, but it knows none of {raw[:40]!r}")
        ids, kept = torch.tensor(reading.ids[: self.config.context_length]), reading.words[: self.config.context_length]
        return Sample(
            digest=hashlib.sha256(ids.numpy().tobytes()).hexdigest(),
            inputs={"main": ids},
            tokens={"main": Tokens(kept)},
            text=" ".join(kept),
            cut=" ".join(reading.words[len(kept) :]),
        )

    def __call__(
        self, sample: Sample, *, hidden: Bool[Tensor, " token"] | None = None, edit: Edit | None = None
    ) -> Trace:
        """One forward pass; `hidden`: True words are not shown to the network, which guesses them."""
        ids = input_of(sample).to(self.device)
        hidden = None if hidden is None else hidden.to(self.device)
        trace = self.network(ids, hidden, labels=sample.tokens["main"].labels, edit=edit)
        return replace(trace, sample=sample)

    def logits_from(
        self,
        residual: Float[Tensor, "*batch token feature"],
        *,
        output: str | None = None,
        pooling: Tensor | None = None,
    ) -> Float[Tensor, "*batch token word"]:
        """Logits of every word at every place, for the residual before or after the block; nothing is pooled."""
        return self.network.logits_from(residual)

    def layer(
        self, index: int, residual: Float[Tensor, "*batch token feature"], *, tokens: Tokens, **options: Any
    ) -> Float[Tensor, "*batch token feature"]:
        """The residual after the block. Raises ValueError for an `index` other than 0."""
        if index:
            raise ValueError(f"layer {index} asked of a network with one layer, 0")
        return self.network.block(residual, queries=tokens, **options)[0]

    def layer_parts(self, index: int) -> LayerParts:
        """The block without its mixing. Raises ValueError for an `index` other than 0."""
        if index:
            raise ValueError(f"layer {index} asked of a network with one layer, 0")
        return self.network.block.parts()

    @classmethod
    def open(cls, folder: Path) -> GuessModel:
        """The model from its folder, over the shipped word vectors, its checksum verified. Raises DamagedModel."""
        words = load_words()
        network, facts = load_guesser(words, folder)
        return cls(folder.name, network, words, title=TITLE, digest=read_config(folder)["sha256"], facts=facts)
