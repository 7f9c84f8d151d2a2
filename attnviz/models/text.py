"""Networks that read and write text: an encoder or decoder over subword tokens, and an encoder with a decoder.

The table of tokens is read both ways: a token's row goes in, and a feature's product with every row comes out as the
scores of the next, hidden or translated token (tied embeddings, Press & Wolf 2017).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnviz.edits import HeadAblation
from attnviz.models.layers import LAST, Block, LayerConfig, final_norm_of, initialise, pooling_weights
from attnviz.models.requests import as_wide, fitted, opened, spread, widened
from attnviz.models.subwords import VOCABULARY
from attnviz.models.token_embedding import TokenEmbedding, numbered, numbered_streams
from attnviz.types import AttentionCall, Edit, Mask, Tokens, Trace

WORD, CLS_ONLY = "word", "sentiment"  # outputs: a token for every token; a class read from the first token


@dataclass(frozen=True, kw_only=True)
class ReaderConfig(LayerConfig):
    """The shape of a network that reads one text: an encoder, or, if `causal`, a decoder that writes on."""

    vocabulary: int = VOCABULARY
    context_length: int = 256  # tokens
    causal: bool = False
    prefix: int = 0  # first tokens that have no place in the sentence: CLS
    word: bool = True  # whether it has learned to say a token for every token
    outputs: Mapping[str, int] = field(default_factory=dict)  # further ones: name -> classes
    pooling: str = "cls"  # what outputs in `pooled` are read from: the first token, or the mean of all
    pooled: Sequence[str] = ("sentiment",)  # one answer a text; other outputs have one a token

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "pooled", tuple(self.pooled))  # a list, when it comes from a file


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig(LayerConfig):
    """The shape of an encoder and a decoder of as many layers each."""

    vocabulary: int = VOCABULARY
    context_length: int = 128


class Reader(nn.Module):
    """A text goes in; every token says which token stands there or comes next, and further outputs say more."""

    def __init__(self, config: ReaderConfig):
        super().__init__()
        self.config = config
        room = numbered(config.context_length, config.prefix)
        self.pieces = TokenEmbedding(config, config.prefix)
        layers = [Block(config, room, index) for index in range(config.layers)]
        self.blocks = nn.ModuleList(layers)
        self.norm = final_norm_of(config)
        outputs = {name: nn.Linear(config.width, classes) for name, classes in config.outputs.items()}
        self.outputs = nn.ModuleDict(outputs)
        initialise(layers)
        for output in outputs.values():
            output.weight.data *= 0.1

    def forward(
        self,
        ids: Int[Tensor, "*batch token"],
        *,
        tokens: Tokens | None = None,
        edit: Edit | None = None,
        read: Collection[str] | None = None,
    ) -> Trace:
        """Everything one pass records; logits["word"] is [*batch token vocabulary], others [*batch 1 or token class].

        `edit` changes the pass; one text may come with a batch of edits. `read`: the outputs that are computed, None =
        all. Raises ValueError for texts longer than the network reads, and for edits that do not fit (`fitted`).
        """
        tokens = tokens or numbered(ids.shape[-1], self.config.prefix)
        edit = fitted(edit, tokens=len(tokens), layers=len(self.blocks), like=self.pieces.table)
        content = self.pieces.token_embeddings(ids) if edit.embeddings is None else edit.embeddings
        content = spread(content, edit)
        position = self.pieces.position_embeddings(content.shape[-2], edit.positions).expand_as(content)
        mask = self.mask(edit.keep_tokens)
        residuals, calls = [edit.patched(0, content + position)], list[AttentionCall]()
        for index in range(len(self.blocks)):
            options = {"mask": opened(edit, mask, index), "ablation": edit.ablation(index), "positions": edit.positions}
            x, new = self.layer(index, residuals[-1], tokens=tokens, **options)
            residuals.append(edit.patched(index + 1, x))
            calls.extend(new)
        pooling = self.pooling_weights(residuals[-1], edit.keep_tokens)
        return Trace(
            sample=None,
            token_embeddings={"main": content},
            position_embeddings={"main": position},
            calls=widened(calls, residuals[-1]),
            residuals={"main": as_wide(residuals)},
            pooling={"main": pooling},
            logits=self.logits_from(residuals[-1], pooling, read),
        )

    def mask(self, keep_tokens: Bool[Tensor, "*choices token"] | None) -> Mask | None:
        """Which tokens may be attended to."""
        if keep_tokens is None and not self.config.causal:
            return None
        return Mask(key_padding=keep_tokens, causal=self.config.causal)

    def layer(
        self,
        index: int,
        residual: Float[Tensor, "*batch token feature"],
        *,
        tokens: Tokens,
        mask: Mask | None = None,
        ablation: HeadAblation | None = None,
        positions: str = "own",
    ) -> tuple[Float[Tensor, "*wider token feature"], tuple[AttentionCall, ...]]:
        """One layer."""
        return self.blocks[index](
            residual,
            queries=tokens,
            mask=mask,
            name=f"layer {index + 1}",
            layer=index,
            ablation=ablation,
            positions=positions,
        )

    def pooling_weights(
        self, residual: Float[Tensor, "*batch token feature"], keep_tokens: Bool[Tensor, "*choices token"] | None = None
    ) -> Float[Tensor, "*batch token"]:
        """How much each final token feeds a pooled output; a decoder's last token says what comes next."""
        first = slice(0, 1) if self.config.pooling == "cls" else slice(None)
        return pooling_weights(residual, LAST if self.config.causal else first, keep_tokens)

    def logits_from(
        self,
        residual: Float[Tensor, "*batch token feature"],
        pooling: Float[Tensor, "*batch token"] | None = None,
        names: Collection[str] | None = None,
    ) -> dict[str, Tensor]:
        """The named outputs (None = all) of a residual at any layer."""
        final = self.norm(residual)
        pooling = self.pooling_weights(residual) if pooling is None else pooling
        wanted = ([WORD] if self.config.word else []) + [*self.outputs] if names is None else names
        answers = {}
        for name in wanted:
            if name == WORD:
                answers[name] = self.pieces.unembed(final)
            elif name in self.config.pooled:
                answers[name] = self.outputs[name](pooling.to(final.dtype)[..., None, :] @ final)
            else:
                answers[name] = self.outputs[name](final)
        return answers

    def decode(
        self, ids: Int[Tensor, "*batch token"], past: Sequence[Any] = ()
    ) -> tuple[Float[Tensor, "*batch vocabulary"], list[Any]]:
        """Scores of the token after new tokens, and a new past: what each layer keeps, and how many tokens were read.

        Only for a causal network; equals the last row of `forward` over all tokens.
        """
        found, read = taken_up(past, len(self.blocks), ids)
        begin = read.shape[-2] - ids.shape[-1]
        queries, keys = numbered(ids.shape[-1]), numbered(read.shape[-2])
        x = self.pieces.token_embeddings(ids) + self.pieces.position_embeddings(ids.shape[-1], begin=begin)
        for index, block in enumerate(cast(Sequence[Block], self.blocks)):
            x, found[index] = block.decode(x, found[index], queries=queries, keys=keys)
        return self.pieces.unembed(self.norm(x[..., -1, :])), [*found, (read,)]


class Translator(nn.Module):
    """An encoder reads a sentence; a decoder writes another, looking back at its own words and over at the first."""

    def __init__(self, config: TranslatorConfig):
        super().__init__()
        self.config = config
        room = numbered(config.context_length)
        self.pieces = TokenEmbedding(config)
        encoder = [Block(config, room, index) for index in range(config.layers)]
        decoder = [Block(config, room, index, cross=True) for index in range(config.layers)]
        self.blocks = nn.ModuleDict({"encoder": nn.ModuleList(encoder), "decoder": nn.ModuleList(decoder)})
        self.encoder_norm, self.norm = final_norm_of(config), final_norm_of(config)
        initialise(encoder)
        initialise(decoder)

    def forward(
        self,
        source: Int[Tensor, "*batch source"],
        target: Int[Tensor, "*batch target"],
        *,
        tokens: Mapping[str, Tokens] | None = None,
        edit: Edit | None = None,
        read: bool = True,
    ) -> Trace:
        """Everything one pass records; logits["word"] [*batch target vocabulary] says what follows each target token.

        `edit` changes what is read of the source: tokens removed (or padding), embeddings replaced. The embeddings of
        the target ask for gradients where those of the source do. The logits are left out unless `read`.
        """
        tokens = tokens or numbered_streams(source.shape[-1], target.shape[-1])
        edit = fitted(edit, tokens=source.shape[-1], layers=self.config.layers, like=self.pieces.table)
        content = self.token_embeddings(source, target, edit)
        position = {name: self.pieces.position_embeddings(x.shape[-2]).expand_as(x) for name, x in content.items()}
        mask = None if edit.keep_tokens is None else Mask(key_padding=edit.keep_tokens)
        residuals = {name: [content[name] + position[name]] for name in content}
        calls: list[AttentionCall] = []
        for index, layer in enumerate(self.encoder):
            x, new = layer(
                residuals["source"][-1], queries=tokens["source"], mask=mask, name=f"encoder {index + 1}", layer=index
            )
            residuals["source"].append(x)
            calls.extend(new)
        memory = self.encoder_norm(residuals["source"][-1])
        for index in range(len(self.decoder)):
            x, new = self.layer(index, residuals["target"][-1], tokens=tokens, memory=memory, mask=mask)
            residuals["target"].append(x)
            calls.extend(new)
        last = residuals["target"][-1]
        return Trace(
            sample=None,
            token_embeddings=content,
            position_embeddings=position,
            calls=tuple(calls),
            residuals={name: tuple(found) for name, found in residuals.items()},
            pooling={"target": pooling_weights(last, LAST)},
            logits={WORD: self.logits_from(last)} if read else {},
        )

    def token_embeddings(
        self, source: Int[Tensor, "*batch source"], target: Int[Tensor, "*batch target"], edit: Edit
    ) -> dict[str, Tensor]:
        """The token embeddings of both streams, as many as there are edits."""
        content = {"source": self.pieces.token_embeddings(source), "target": self.pieces.token_embeddings(target)}
        if edit.embeddings is not None:
            content["source"] = edit.embeddings
        content = {
            name: x.expand(*torch.broadcast_shapes(x.shape[:-2], edit.batch), *x.shape[-2:])
            for name, x in content.items()
        }
        if content["source"].requires_grad and edit.embeddings is not None:
            content["target"] = content["target"].detach().clone().requires_grad_()
        return content

    def layer(
        self,
        index: int,
        residual: Float[Tensor, "*batch target feature"],
        *,
        tokens: Mapping[str, Tokens],
        memory: Float[Tensor, "*batch source feature"],
        mask: Mask | None = None,
    ) -> tuple[Float[Tensor, "*batch target feature"], tuple[AttentionCall, ...]]:
        """One layer of the decoder; `memory` is what `encode` gives, `mask` which tokens of the source are kept."""
        return self.decoder[index](
            residual,
            queries=tokens["target"],
            mask=Mask(causal=True),
            context=memory,
            keys=tokens["source"],
            context_mask=mask,
            name=f"decoder {index + 1}",
            layer=index,
        )

    def logits_from(self, residual: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch vocabulary"]:
        """Scores of the token that comes next, from a residual of the decoder."""
        return self.pieces.unembed(self.norm(residual))

    @property
    def encoder(self) -> list[Block]:
        """The layers that read the source."""
        return list(cast(Sequence[Block], self.blocks["encoder"]))

    @property
    def decoder(self) -> list[Block]:
        """The layers that write the target."""
        return list(cast(Sequence[Block], self.blocks["decoder"]))

    def encode(self, source: Int[Tensor, "*batch source"]) -> Float[Tensor, "*batch source feature"]:
        """What the decoder looks at."""
        x = self.pieces.token_embeddings(source) + self.pieces.position_embeddings(source.shape[-1])
        for layer in self.encoder:
            x, _ = layer(x, queries=numbered(source.shape[-1], stream="source"))
        return self.encoder_norm(x)

    def decode(
        self, memory: Float[Tensor, "*batch source feature"], ids: Int[Tensor, "*batch token"], past: Sequence[Any] = ()
    ) -> tuple[Float[Tensor, "*batch vocabulary"], list[Any]]:
        """Scores of the token after new target tokens, and a new past: what each layer keeps, how many were read."""
        blocks = self.decoder
        found, read = taken_up(past, len(blocks), ids)
        begin = read.shape[-2] - ids.shape[-1]
        queries, keys = numbered(ids.shape[-1], stream="target"), numbered(read.shape[-2], stream="target")
        source = numbered(memory.shape[-2], stream="source")
        x = self.pieces.token_embeddings(ids) + self.pieces.position_embeddings(ids.shape[-1], begin=begin)
        for index, block in enumerate(blocks):
            x, found[index] = block.decode(
                x, found[index], queries=queries, keys=keys, context=memory, context_tokens=source
            )
        return self.logits_from(x[..., -1, :]), [*found, (read,)]


def taken_up(
    past: Sequence[Any], layers: int, ids: Int[Tensor, "*batch token"]
) -> tuple[list[Any], Float[Tensor, "*batch read 0"]]:
    """What each layer keeps of a past (None where there is none), and the record of tokens read, with these new ones.

    What layers keep does not say how many tokens there were: a window forgets, a state sums up. The record has a token
    axis and no features, so it takes no memory and follows a choice of texts like any tensor of a past.
    """
    *kept, (before,) = past or (*[None] * layers, (ids.new_empty(*ids.shape[:-1], 0, 0, dtype=torch.float32),))
    return kept, torch.cat([before, before.new_empty(*ids.shape, 0)], -2)
