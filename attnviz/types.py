"""The core types of attnviz: what a model is given, what it records, and what can be asked of a recording.

Axis names: `head`, `query`, `key`, `token`, `dim` (inside a head), `feature` (residual stream). Rows are queries and
columns are keys, everywhere. Every array may carry leading batch axes (`*batch`); the app passes none.
To add a field, append it with a default; core types should not grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from PIL.Image import Image
from torch import Tensor

from attnviz.edits import Edit as Edit
from attnviz.edits import Request as Request
from attnviz.layer_parts import LayerParts as LayerParts
from attnviz.layer_parts import Norm as Norm
from attnviz.masks import Mask as Mask
from attnviz.masks import UnsupportedMask as UnsupportedMask

Stage = Literal["raw", "scaled", "biased", "masked"]
MapType = Literal["weights", "scores", "effective", "slots", "landmarks", "context scores", "channel"]
Modality = Literal["image", "text", "translation", "words"]
Role = Literal["pad", "bos", "eos", "cls", "sep", "mask"]  # what a special token is for
Index = Sequence[int] | None  # which heads or rows; None = all
Bias = Callable[["AttentionCall", list[int], list[int]], Tensor]  # -> [head row key], added to scores

CONTINUATION = "…"  # begins the label of a subword token inside a word: "…ing"; the same sign stands in views/words.js
BLOCK = 128  # rows computed at a time wherever a full n x n map is not needed
CELLS = 1 << 22  # entries of all heads of such a block at most, so that it stays in the cache of a processor


def block_size(heads: int, keys: int) -> int:
    """How many rows of so many heads are computed at a time: BLOCK, or fewer where they would exceed CELLS."""
    return min(BLOCK, max(1, CELLS // max(1, heads * keys)))


class NoTokenMap(Exception):
    """A variant has no token-to-token map; the message is a clause that says what it attends over instead."""


@dataclass(frozen=True)
class Tokens:
    """The labels of the positions of a sequence, and where they lie on the patch grid."""

    labels: tuple[str, ...]  # one label per token: "CLS", "r3c7", "dog"
    grid: tuple[int, int] | None = None  # rows, columns of the patch grid after the first `prefix` tokens
    prefix: int = 0  # tokens before the grid: CLS, registers, distillation
    stream: str = "main"  # calls with one stream share one axis
    words: tuple[int, ...] | None = None  # of text: the word each token belongs to, -1 for special tokens

    def __post_init__(self):
        if self.words is not None and len(self.words) != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels but word numbers for {len(self.words)}")
        if self.grid and self.prefix + self.grid[0] * self.grid[1] != len(self.labels):
            raise ValueError(
                f"{len(self.labels)} labels but prefix {self.prefix} + grid {self.grid[0]} x {self.grid[1]}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def patches(rows: int, columns: int, prefix: Sequence[str] = (), stream: str = "main") -> Tokens:
        """Tokens of a picture cut into rows x columns patches, after the named prefix tokens."""
        cells = (f"r{r}c{c}" for r in range(rows) for c in range(columns))
        return Tokens((*prefix, *cells), (rows, columns), len(prefix), stream)


@dataclass(frozen=True)
class Sample:
    """An input made ready for a model."""

    digest: str  # sha256 of the prepared input
    inputs: Mapping[str, Tensor]  # stream -> pixels [channel height width] or ids [token]
    tokens: Mapping[str, Tokens]
    image: Image | None = None  # the picture the network really saw
    crop: tuple[int, int, int, int] | None = None  # the part of the user's picture it saw: left, top, right, bottom
    text: str = ""  # the part of the visitor's text that the network really read, in his own signs
    cut: str = ""  # what was left out at its end, because the network reads no more


class NamedMap(NamedTuple):
    """One native map of a call."""

    array: Tensor
    axes: tuple[str, ...]
    map_type: MapType
    stochastic: bool  # rows are non-negative and sum to 1 (or are empty)


@runtime_checkable
class Rule(Protocol):
    """The mathematics of one attention variant, frozen; learned parameters and random features are held as tensors."""

    @property
    def map_type(self) -> MapType: ...  # of the token map
    @property
    def axes(self) -> tuple[str, ...]: ...
    @property
    def stochastic(self) -> bool: ...  # rows of the token map are non-negative and sum to 1, or are empty
    @property
    def exact(self) -> bool: ...  # output == gate * (token_map @ value)
    @property
    def caveat(self) -> str: ...  # printed beside the map; may be empty

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor: ...
    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor: ...
    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor: ...
    def maps(self, call: AttentionCall) -> dict[str, NamedMap]: ...
    def mix(self, call: AttentionCall) -> Tensor: ...
    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor: ...


def unrounded(device: torch.device) -> AbstractContextManager[Any]:
    """A context without autocast, which would round what products give to half precision."""
    there = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if there else nullcontext()


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision as float32, so that rows of weights sum to 1 within 1e-3; float64 stays."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def unchanged(tensor: Tensor) -> Tensor:
    """The tensor itself. What a call holds has a name or is a record: a lambda or a closure could not be pickled."""
    return tensor


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One attention computation: the query, key and value that went in; every map is computed from them on demand."""

    name: str  # "layer 2", "encoder.2.self"
    layer: int
    rule: Rule
    query: Float[Tensor, "*batch head query dim"]
    key: Float[Tensor, "*batch kv_head key dim"]
    value: Float[Tensor, "*batch kv_head key value_dim"]
    queries: Tokens
    keys: Tokens
    scale: float | Float[Tensor, " head"] = 1.0
    mask: Mask | None = None
    biases: tuple[tuple[str, Bias], ...] = ()
    gate: Tensor | None = None  # broadcasts to [*batch head query value_dim]
    projection: Float[Tensor, "head value_dim feature"] | None = None  # the output projection by head
    output: Tensor | None = None  # [*batch head query value_dim], before the projection
    branch: int = 0  # calls of one residual branch are chained
    residual: bool = True  # whether the branch is added to its input
    graph: Tensor | None = None  # what the network really used; `output` = arrange(graph)
    arrange: Callable[[Tensor], Tensor] = unchanged

    @property
    def heads(self) -> int:
        """How many query heads."""
        return self.query.shape[-3]

    def kv_heads_of(self, heads: Sequence[int]) -> list[int]:
        """The key-value head each query head uses: floor(head * kv_heads / heads)."""
        return [h * self.key.shape[-3] // self.heads for h in heads]

    def scale_of(self, heads: Sequence[int]) -> float | Float[Tensor, "chosen 1 1"]:
        """What the dot products of these heads are multiplied by: one number, or one for each head."""
        return self.scale[list(heads), None, None] if isinstance(self.scale, Tensor) else self.scale

    def allowed(self, heads: list[int], rows: list[int]) -> Bool[Tensor, "*batch chosen row key"] | None:
        """Which keys these rows may attend to (head may be 1); None without a mask."""
        if self.mask is None:
            return None
        return self.mask.rows(heads, rows, self.query.shape[-2], self.key.shape[-2], self.query.device)

    def closed(self) -> Bool[Tensor, "*batch query key"] | None:
        """Which keys a query may attend to in no head; None without a mask."""
        allowed = self.allowed(*self.pick(None, None))
        return None if allowed is None else ~allowed.any(-3)

    def masked(
        self, pairs: Float[Tensor, "*batch chosen row key"], heads: list[int], rows: list[int], value: float
    ) -> Float[Tensor, "*wider chosen row key"]:
        """Numbers of query-key pairs, with `value` wherever the query may not attend to the key."""
        allowed = self.allowed(heads, rows)
        return pairs if allowed is None else pairs.masked_fill(~allowed, value)

    def gated(self, output: Float[Tensor, "*batch head query value_dim"]) -> Tensor:
        """gate * output, where there is a gate; the gradient of an output passes through it likewise."""
        return output if self.gate is None else self.gate * output

    def pick(self, heads: Index, rows: Index) -> tuple[list[int], list[int]]:
        """Heads and rows as checked lists; None means all."""
        picked = []
        for name, chosen, count in (("head", heads, self.heads), ("row", rows, self.query.shape[-2])):
            chosen = list(range(count)) if chosen is None else list(chosen)
            if any(not 0 <= c < count for c in chosen):
                raise IndexError(f"{name} {chosen} requested from {self.name}, which has {count}")
            picked.append(chosen)
        return picked[0], picked[1]

    def scores(
        self, heads: Index = None, rows: Index = None, stage: Stage = "masked"
    ) -> Float[Tensor, "*batch chosen row key"]:
        """Scores before normalisation; masked entries are -inf at the last stage."""
        return self.rule.scores(self, *self.pick(heads, rows), stage)

    def weights(self, heads: Index = None, rows: Index = None) -> Tensor:
        """Native weights [*batch head row ...] of the requested rows."""
        return self.rule.weights(self, *self.pick(heads, rows))

    def token_map(self, heads: Index = None, rows: Index = None) -> Float[Tensor, "*batch chosen row key"]:
        """Token-to-token map. Raises NoTokenMap where there is none."""
        return self.rule.token_map(self, *self.pick(heads, rows))

    def maps(self) -> dict[str, NamedMap]:
        """Every native map by name, with its axes and map type."""
        return self.rule.maps(self)

    def blocks(self, size: int | None = None) -> Iterator[list[int]]:
        """All query rows, a block of this size at a time; None is BLOCK rows, fewer where they would exceed CELLS."""
        count = self.query.shape[-2]
        size = size or block_size(self.heads, len(self.keys))
        for start in range(0, count, size):
            yield list(range(start, min(start + size, count)))

    def propagate(self, row: Float[Tensor, "*batch query"]) -> Float[Tensor, "*batch key"]:
        """row @ (mean over heads of token_map), by row blocks, so memory stays linear in tokens; float32 at least."""
        row = row.to(torch.promote_types(row.dtype, torch.float32))
        propagated = row.new_zeros(*row.shape[:-1], len(self.keys))
        with unrounded(row.device):
            for block in self.blocks():
                mean = self.token_map(rows=block).mean(-3).to(row.dtype)
                propagated = propagated + (row[..., None, block] @ mean)[..., 0, :]
        return propagated

    def gradient(self, y: Float[Tensor, ""]) -> Float[Tensor, "*batch head query value_dim"]:
        """d y / d output, for a number y computed from this call."""
        graph = self.output if self.graph is None else self.graph
        if graph is None:
            raise ValueError(f"{self.name} recorded no output, so there is no gradient to take")
        (grad,) = torch.autograd.grad(y, graph, retain_graph=True)
        return self.arrange(grad)

    def map_gradient(
        self, d_output: Float[Tensor, "*batch head query value_dim"], heads: Index = None, rows: Index = None
    ) -> Float[Tensor, "*batch chosen row key"]:
        """d y / d token_map from d y / d output; no stored map is needed. Masked entries are 0."""
        return self.rule.map_gradient(self, d_output, *self.pick(heads, rows))

    def with_rule(self, rule: Rule) -> AttentionCall:
        """This call's query, key and value put through another rule ("shared weights")."""
        changed = replace(self, rule=rule, graph=None, arrange=unchanged)
        return replace(changed, output=rule.mix(changed))

    @property
    def empty(self) -> Bool[Tensor, "*batch head query"]:
        """Query rows with nothing to attend to (head may be 1)."""
        if self.mask is None:
            return torch.zeros(1, len(self.queries), dtype=torch.bool, device=self.query.device)
        heads = list(range(self.heads))
        blocks = (self.allowed(heads, rows) for rows in self.blocks())
        return torch.cat([~allowed.any(-1) for allowed in blocks if allowed is not None], -1)


@dataclass(frozen=True, eq=False)
class Trace:
    """Everything one forward pass recorded."""

    sample: Sample | None  # None while training
    token_embeddings: Mapping[str, Tensor | None]  # stream -> [*batch token feature]
    position_embeddings: Mapping[str, Tensor | None]
    calls: tuple[AttentionCall, ...]  # in order
    residuals: Mapping[str, tuple[Tensor, ...]]  # stream -> one [*batch token feature] per layer, input first
    # stream -> [*batch token]: how much each final token feeds the answer. It sums to 1, or to 0 where all tokens that
    # the answer is read from were removed: then the answer is the bias alone.
    pooling: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]  # head -> [*batch row class]


@dataclass(frozen=True)
class Target:
    """What is to be explained: one class of one output head; None = what the model predicts."""

    output: str | None = None
    row: int | None = None
    label: int | None = None
    against: int | None = (
        None  # a second class, whose score is taken off: what speaks for the first rather than this one
    )


@dataclass(frozen=True)
class Token:
    """One token of a text: its id, what it is called, and which characters it stands for."""

    id: int
    label: str  # "dog", "…ing" inside a word, "<F0>" for a byte of a character; as the text spells it
    start: int  # of the part of the text it stands for, in characters
    stop: int
    word: int  # which word it belongs to, -1 for special tokens


@runtime_checkable
class Tokenizer(Protocol):
    """A vocabulary of tokens: texts become ids, ids become labels and texts again."""

    @property
    def digest(self) -> str: ...  # sha256 of the vocabulary
    @property
    def special(self) -> Mapping[Role, int]: ...  # the id of each role that the vocabulary has
    @property
    def special_ids(self) -> frozenset[int]: ...  # all tokens that stand for no text, whatever their role
    def __len__(self) -> int: ...
    def encode(self, text: str) -> list[Token]: ...  # without special tokens, but for a mask that is written out
    def decode(self, ids: Sequence[int]) -> str: ...  # special tokens and halves of characters say nothing
    def label(self, id: int) -> str: ...
    def written(self, ids: Sequence[int], before: str = "") -> Iterable[tuple[str, bool]]:
        """The label of each of these tokens, and whether it goes on with the word before it."""
        ...

    def begins_word(self, id: int) -> bool: ...  # whether a space stands before it


@dataclass(frozen=True)
class ModelSpec:
    """What a page may know of a model before it runs it."""

    modality: Modality
    layers: int  # of attention
    heads: int  # in each layer
    width: int  # features of the residual stream
    context_length: int | None = None  # tokens it reads at most; None = no fixed length
    causal: bool = False  # whether a token attends to no later one
    patch_size: int | None = None  # pixels per side of a patch; None where it reads no patches
    input_size: tuple[int, int] | None = None  # rows and columns of pixels it reads
    variant: str = ""  # its attention, by its name in VARIANTS; "" = none of them
    positions: str = ""  # its position scheme, by its name in POSITIONS; "" = none of them
    answer_from: str = ""  # what its answer about the whole input is read from: "CLS", "the mean of all tokens"
    honours: frozenset[Request] = frozenset()  # the fields of an Edit that it takes; it refuses the rest
    supervised_heads: tuple[tuple[int, int], ...] = ()  # (layer, head) that were trained to attend to a given token
    input_sizes: tuple[int, ...] = ()  # pixels per side of the squares it can read; () = its own size only


class PatchProjection(NamedTuple):
    """The linear map from the pixels of a patch to its embedding."""

    weight: Float[Tensor, "feature channel row column"]
    bias: Float[Tensor, " feature"]


@runtime_checkable
class Model(Protocol):
    """What pages, methods and measures ask of a network: nothing else of it is known to them.

    `outputs` names what it answers and the labels of each answer: {} for a bare encoder, {"word": tokens} for a
    language model. `superclasses` has one entry for each label of "class", or none. `tokenizer` and `input_embeddings`
    are None where it reads no text, `patch_projection` where patches are not embedded by one linear map. `record` says
    in words how well it does on data it has not seen; empty where nobody has measured that.
    """

    name: str
    title: str
    digest: str  # sha256 of its parameters

    @property
    def facts(self) -> Mapping[str, Any]: ...  # the figures of its card, by name; may be empty
    @property
    def spec(self) -> ModelSpec: ...
    @property
    def outputs(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def superclasses(self) -> Sequence[str]: ...
    @property
    def tokenizer(self) -> Tokenizer | None: ...
    @property
    def input_embeddings(self) -> Tensor | None: ...  # [vocabulary feature]
    @property
    def patch_projection(self) -> PatchProjection | None: ...
    @property
    def record(self) -> str: ...
    @property
    def device(self) -> torch.device: ...

    def to(self, device: torch.device | str) -> Model: ...
    def prepare(self, raw: Any) -> Sample: ...
    def __call__(self, sample: Sample, *, edit: Edit | None = None) -> Trace: ...
    def logits_from(self, residual: Tensor, *, output: str | None = None, pooling: Tensor | None = None) -> Tensor: ...
    def layer(self, index: int, residual: Tensor, **options: Any) -> Tensor: ...
    def layer_parts(self, index: int) -> LayerParts: ...  # raises UnsupportedMask where it is built otherwise
