"""Translation as it was before transformers: two recurrent networks, and the attention that was invented for them.

Bahdanau, Cho, Bengio 2015 (arXiv 1409.0473): an encoder reads the sentence once in each direction; a decoder writes one
token after another and, before each, compares the state it is in with every state of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnviz.attention.variants.additive import Additive
from attnviz.models.layers import LAST, pooling_weights
from attnviz.models.requests import fitted, refuse
from attnviz.models.subwords import VOCABULARY
from attnviz.models.text import WORD
from attnviz.models.token_embedding import numbered, numbered_streams
from attnviz.types import AttentionCall, Edit, Mask, Tokens, Trace

CROSS = "decoder cross"  # name of the one attention call


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig:
    """The shape of both recurrent networks and of the small one that compares their states."""

    width: int = 192  # features of a token
    hidden: int = 256  # numbers in a state, of each direction of the encoder and of the decoder
    compared: int = 128  # hidden features of the attention network
    vocabulary: int = VOCABULARY
    context_length: int = 128
    heads: int = 1
    layers: int = 1

    def __post_init__(self):
        if (self.heads, self.layers) != (1, 1):
            raise ValueError("this network has one layer with one head")


def one_head(tensor: Float[Tensor, "*batch token feature"]) -> Float[Tensor, "*batch 1 token feature"]:
    """Features as those of a single head."""
    return tensor[..., None, :, :]


class Seq2Seq(nn.Module):
    """A recurrent encoder and decoder with additive attention between them; it takes at most one batch axis."""

    def __init__(self, config: Seq2SeqConfig):
        super().__init__()
        self.config = config
        width, hidden = config.width, config.hidden
        self.table = nn.Parameter(torch.randn(config.vocabulary, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.blocks = nn.ModuleDict(
            {
                "encoder": nn.GRU(width, hidden, batch_first=True, bidirectional=True),
                "decoder": nn.GRUCell(width + 2 * hidden, hidden),
            }
        )
        self.first = nn.Linear(hidden, hidden)
        self.from_query = nn.Linear(hidden, config.compared, bias=False)
        self.from_key = nn.Linear(2 * hidden, config.compared, bias=False)
        self.vector = nn.Parameter(torch.empty(config.compared).uniform_(-1, 1) * config.compared**-0.5)
        self.readout = nn.Linear(width + 3 * hidden, 2 * width)

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

        Tokens of the source that an `edit` does not keep are padding at its end; the rest is refused in words
        (UnsupportedMask). The logits are left out unless `read`.
        """
        refuse("Recurrent translator", edit, frozenset({"keep_tokens"}), "its states follow each other")
        keep_tokens = fitted(edit, tokens=source.shape[-1], layers=1, like=self.table).keep_tokens
        tokens = tokens or numbered_streams(source.shape[-1], target.shape[-1])
        memory, content = self.encode(source, keep_tokens), self.token_embeddings(target)
        call = self.call(memory, tokens["source"], keep_tokens)
        # What a context does to all that follows can be asked only of something that was there before it, so a zero is
        # added to each: its gradient is that of the context.
        zeros = torch.zeros_like(content[..., :1]).expand(*content.shape[:-1], memory.shape[-1]).clone()
        zeros = zeros.detach().requires_grad_(memory.requires_grad)
        state, asked, contexts, after = self.start(memory), list[Tensor](), list[Tensor](), list[Tensor]()
        for x, zero in zip(content.unbind(-2), zeros.unbind(-2), strict=True):
            asked.append(state)
            contexts.append(self.look(call, state) + zero)
            state = self.step(x, contexts[-1], state)
            after.append(state)
        context = torch.stack(contexts, -2)
        last = self.features(content, torch.stack(after, -2), context)
        recorded = replace(
            call,
            query=self.from_query(torch.stack(asked, -2))[..., None, :, :],
            queries=tokens["target"],
            output=context[..., None, :, :],
            graph=zeros if zeros.requires_grad else None,
            arrange=one_head,
        )
        embedded = self.token_embeddings(source)
        return Trace(
            sample=None,
            token_embeddings={"source": embedded, "target": content},
            position_embeddings={"source": None, "target": None},
            calls=(recorded,),
            residuals={"source": (embedded, memory), "target": (content, last)},
            pooling={"target": pooling_weights(last, LAST)},
            logits={WORD: self.logits_from(last)} if read else {},
        )

    def token_embeddings(self, ids: Int[Tensor, "*batch token"]) -> Float[Tensor, "*batch token feature"]:
        """The rows of these tokens, times the root of the width."""
        return self.table[ids] * self.config.width**0.5

    def encode(
        self, source: Int[Tensor, "*batch source"], keep_tokens: Bool[Tensor, "*batch source"] | None = None
    ) -> Float[Tensor, "*batch source feature"]:
        """The states of both directions at every token: what the decoder looks at."""
        x, count = self.token_embeddings(source), source.shape[-1]
        # Under autocast to bfloat16 torch runs a GRU of CUDA in float16, whose numbers end at 65,504. The features have
        # the precision of the parameters: autocast does not touch rows of a table.
        with torch.autocast(x.device.type, enabled=False):
            if keep_tokens is None:
                return self.blocks["encoder"](x)[0]
            lengths = keep_tokens.sum(-1).cpu()  # the backward direction begins at the last token, not in the padding
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return pad_packed_sequence(self.blocks["encoder"](packed)[0], batch_first=True, total_length=count)[0]

    def start(self, memory: Float[Tensor, "*batch source feature"]) -> Float[Tensor, "*batch hidden"]:
        """The first state of the decoder, from what the backward direction knows at the first token."""
        return self.first(memory[..., 0, self.config.hidden :]).tanh()

    def call(
        self, memory: Float[Tensor, "*batch source feature"], keys: Tokens, keep_tokens: Tensor | None = None
    ) -> AttentionCall:
        """The attention over one source, without a query so far; query and key enter it through their matrices."""
        value = memory[..., None, :, :]
        key = self.from_key(value)
        rule = Additive(from_query=None, from_key=None, vector=self.vector)
        return AttentionCall(
            name=CROSS,
            layer=0,
            rule=rule,
            query=key[..., :0, :],
            key=key,
            value=value,
            queries=numbered(1, stream="target"),
            keys=keys,
            residual=False,
            mask=None if keep_tokens is None else Mask(key_padding=keep_tokens),
        )

    def look(self, call: AttentionCall, state: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch feature"]:
        """The context: states of the encoder, mixed by how well each fits the decoder's state."""
        asked = replace(call, query=self.from_query(state)[..., None, None, :])
        return (asked.weights().to(call.value.dtype) @ call.value)[..., 0, 0, :]

    def step(self, x: Tensor, context: Tensor, state: Tensor) -> Float[Tensor, "*batch hidden"]:
        """The next state of the decoder, from its last token, what it looked at, and its state."""
        return self.blocks["decoder"](torch.cat([x, context], -1), state)

    def features(self, content: Tensor, state: Tensor, context: Tensor) -> Float[Tensor, "*batch feature"]:
        """What the next token is read from: the larger of each two sums (maxout)."""
        return self.readout(torch.cat([content, state, context], -1)).unflatten(-1, (-1, 2)).amax(-1)

    def logits_from(self, residual: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch vocabulary"]:
        """Scores of the token that comes next; the table is read both ways."""
        return residual @ self.table.T + self.bias

    def decode(
        self,
        memory: Float[Tensor, "*batch source feature"],
        ids: Int[Tensor, "*batch token"],
        past: Sequence[tuple[Tensor, ...]] = (),
    ) -> tuple[Float[Tensor, "*batch vocabulary"], list[tuple[Tensor, ...]]]:
        """Scores of the token after new target tokens, and the state the decoder is in then."""
        call = self.call(memory, numbered(memory.shape[-2], stream="source"))
        state = past[0][0] if past else self.start(memory)
        content = self.token_embeddings(ids)
        context = memory[..., 0, :]
        for x in content.unbind(-2):
            context = self.look(call, state)
            state = self.step(x, context, state)
        return self.logits_from(self.features(content[..., -1, :], state, context)), [(state,)]
