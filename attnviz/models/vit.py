"""A vision transformer (Dosovitskiy et al. 2021): patches by unfolding and one linear layer.

It takes any variant of VARIANTS and any scheme of POSITIONS. One forward path serves training, tracing and the app:
what it computes on the way is its return value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnviz.attention.positions.tables import resize_table
from attnviz.models.layers import Block, check_names, final_norm_of, hold_positions, initialise, pooling_weights
from attnviz.models.requests import as_wide, fitted, opened, placed, spread, widened
from attnviz.types import AttentionCall, Edit, Mask, Tokens, Trace


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a vision transformer."""

    size: int = 64  # pixels per side of the picture it reads
    patch: int = 4
    channels: int = 3
    width: int = 192
    layers: int = 6
    heads: int = 6
    mlp: float = 4  # hidden features of the MLP, as a multiple of width
    classes: int = 130
    pooling: Literal["cls", "mean"] = "cls"
    cls: bool = True
    registers: int = 0
    positions: str = "learned"
    variant: str = "mha"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the variant
    norm_first: bool = True  # pre-norm; else the norm stands behind each sum (post-norm)

    def __post_init__(self):
        if self.size % self.patch:
            raise ValueError(f"a picture of {self.size} px does not divide into patches of {self.patch} px")
        if self.pooling == "cls" and not self.cls:
            raise ValueError("pooling 'cls' needs a CLS token")
        check_names(self)

    @property
    def norm(self) -> str:
        """Layer norm."""
        return "layer"

    @property
    def gated(self) -> bool:
        """An MLP of two matrices."""
        return False

    @property
    def prefix(self) -> tuple[str, ...]:
        """Labels of the tokens before the patches."""
        return ("CLS",) * self.cls + tuple(f"REG {i + 1}" for i in range(self.registers))


class ViT(nn.Module):
    """A picture becomes patches, patches become vectors, and layers of attention let them exchange what they hold."""

    positions: Tensor  # [token feature]
    removable = True  # patches can be left out: `visible`, `Edit.keep_tokens`

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        side = config.size // config.patch
        tokens = grid_tokens(side, side, config.prefix)
        self.embed = nn.Linear(config.channels * config.patch**2, config.width)
        self.prefix = nn.Parameter(torch.randn(len(config.prefix), config.width) * 0.02)
        hold_positions(self, config.positions, tokens, config.width)
        blocks = [Block(config, tokens, index) for index in range(config.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = final_norm_of(config)
        self.classify = nn.Linear(config.width, config.classes)
        initialise([self.embed, *blocks, self.classify])
        self.classify.weight.data *= 0.1

    def forward(
        self,
        pixels: Float[Tensor, "*batch channel height width"],
        *,
        visible: Int[Tensor, "*batch patch"] | None = None,
        edit: Edit | None = None,
    ) -> Trace:
        """Everything one pass records; logits["class"] is [*batch 1 class].

        `visible`: only these patches enter the network (training). `edit` changes the pass; one picture may come with a
        batch of edits. Raises ValueError for sizes patches do not divide, and for edits that do not fit (`fitted`).
        """
        rows, columns = pixels.shape[-2] // self.config.patch, pixels.shape[-1] // self.config.patch
        tokens = grid_tokens(rows, columns, self.config.prefix)
        edit = fitted(edit, tokens=len(tokens), layers=len(self.blocks), like=self.prefix)
        content = self.token_embeddings(pixels) if edit.embeddings is None else edit.embeddings
        content = spread(content, edit)
        position = self.position_embeddings(rows, columns, edit.positions).expand_as(content)
        if visible is not None:
            if edit.requests:
                raise ValueError("a pass over some of the patches alone takes no edit; remove tokens by keep_tokens")
            tokens, (content, position) = self.gather(visible, content, position)
        mask = None if edit.keep_tokens is None else Mask(key_padding=edit.keep_tokens)
        residuals, calls = [edit.patched(0, content + position)], list[AttentionCall]()
        for index in range(len(self.blocks)):
            options = {"mask": opened(edit, mask, index), "ablation": edit.ablation(index), "positions": edit.positions}
            x, new = self.layer(index, residuals[-1], tokens=tokens, **options)
            residuals.append(edit.patched(index + 1, x))
            calls.extend(new)
        pooling = self.pooling_weights(tokens, residuals[-1], edit.keep_tokens)
        logits = self.logits_from(residuals[-1], pooling)
        return Trace(
            sample=None,
            token_embeddings={"main": content},
            position_embeddings={"main": position},
            calls=widened(calls, residuals[-1]),
            residuals={"main": as_wide(residuals)},
            pooling={"main": pooling},
            logits={"class": logits[..., None, :]},
        )

    def token_embeddings(
        self, pixels: Float[Tensor, "*batch channel height width"]
    ) -> Float[Tensor, "*batch token feature"]:
        """Patch vectors after the prefix vectors, before positions are added."""
        patches = self.embed(patchify(pixels, self.config.patch))
        prefix = self.prefix.expand(*patches.shape[:-2], -1, -1).to(patches.dtype)
        return torch.cat([prefix, patches], -2)

    def position_embeddings(self, rows: int, columns: int, how: str = "own") -> Float[Tensor, "token feature"]:
        """The position table for a grid; "none" and "shuffled" change the patches' rows, never the prefix's."""
        side = self.config.size // self.config.patch
        prefix = len(self.config.prefix)
        return placed(resize_table(self.positions, prefix, (side, side), (rows, columns)), prefix, how)

    def gather(self, visible: Tensor, *tables: Tensor) -> tuple[Tokens, tuple[Tensor, ...]]:
        """Only the prefix and the visible patches of each table; these tokens have no grid any more."""
        prefix = len(self.config.prefix)
        index = visible[..., None].expand(*visible.shape, tables[0].shape[-1])
        gathered = [torch.cat([t[..., :prefix, :], t[..., prefix:, :].gather(-2, index)], -2) for t in tables]
        labels = (*self.config.prefix, *(f"patch {i}" for i in range(visible.shape[-1])))
        return Tokens(labels, None, prefix), tuple(gathered)

    def pooling_weights(
        self, tokens: Tokens, like: Tensor, keep_tokens: Tensor | None = None
    ) -> Float[Tensor, "*batch token"]:
        """How much each final token feeds the answer: all of CLS, or an equal share of every kept patch."""
        pooled = slice(0, 1) if self.config.pooling == "cls" else slice(tokens.prefix, None)
        return pooling_weights(like, pooled, keep_tokens)

    def layer(self, index: int, residual: Tensor, **options: Any) -> tuple[Tensor, tuple[AttentionCall, ...]]:
        """One block: options tokens, mask, ablation (of this layer's heads), positions (of a relative scheme)."""
        tokens = options.pop("tokens")
        return self.blocks[index](residual, queries=tokens, name=f"layer {index + 1}", layer=index, **options)

    def logits_from(
        self, residual: Float[Tensor, "*batch token feature"], pooling: Float[Tensor, "*batch token"]
    ) -> Float[Tensor, "*batch class"]:
        """Class logits of a residual, at any layer (at an early one: the logit lens)."""
        final = self.norm(residual)
        return self.classify((pooling.to(final.dtype)[..., None, :] @ final)[..., 0, :])


def patchify(pixels: Float[Tensor, "*batch channel height width"], patch: int) -> Float[Tensor, "*batch patch pixel"]:
    """Contiguous patches in raster order, each flattened as channel, row, column."""
    height, width = pixels.shape[-2:]
    if height % patch or width % patch:
        raise ValueError(f"a picture of {width} x {height} px does not divide into patches of {patch} px")
    blocks = pixels.unflatten(-1, (width // patch, patch)).unflatten(-3, (height // patch, patch))
    # [.. channel rows p columns p] -> [.. rows columns channel p p]
    return blocks.movedim((-4, -2, -5, -3, -1), (-5, -4, -3, -2, -1)).flatten(-3).flatten(-3, -2)


def unpatchify(
    patches: Float[Tensor, "*batch patch pixel"], grid: tuple[int, int], patch: int
) -> Float[Tensor, "*batch channel height width"]:
    """The picture whose patches these are: the inverse of patchify."""
    blocks = patches.unflatten(-1, (-1, patch, patch)).unflatten(-4, grid)
    return blocks.movedim((-5, -4, -3, -2, -1), (-4, -2, -5, -3, -1)).flatten(-2).flatten(-3, -2)


@lru_cache(maxsize=64)
def grid_tokens(rows: int, columns: int, prefix: tuple[str, ...]) -> Tokens:
    """The tokens of a picture of rows x columns patches."""
    return Tokens.patches(rows, columns, prefix)


def loss_of(trace: Trace, labels: Int[Tensor, " batch"], smoothing: float = 0.0) -> Float[Tensor, ""]:
    """Cross-entropy of the class logits against the labels."""
    return F.cross_entropy(trace.logits["class"][..., 0, :].float(), labels, label_smoothing=smoothing)


def distillation_loss_of(
    trace: Trace, teacher: Float[Tensor, "batch class"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """T² times the KL divergence of the softened class probabilities from the teacher's, both at logits / T.

    Hinton et al. 2015, arXiv 1503.02531, section 2: T² keeps gradients as large as those of the labels.
    """
    own = (trace.logits["class"][..., 0, :].float() / temperature).log_softmax(-1)
    soft = (teacher.float() / temperature).log_softmax(-1)
    return temperature**2 * F.kl_div(own, soft, reduction="batchmean", log_target=True)


def superclass_loss_of(trace: Trace, labels: Int[Tensor, " batch"], groups: Int[Tensor, " class"]) -> Float[Tensor, ""]:
    """How surprising the coarse group of the labels is: minus the logarithm of what its classes get together."""
    members = groups == torch.arange(int(groups.max()) + 1, device=groups.device)[:, None]  # [group class]
    classes = trace.logits["class"][..., 0, :].float().log_softmax(-1)
    together = classes[:, None].masked_fill(~members, -torch.inf).logsumexp(-1)
    return F.nll_loss(together, groups[labels])
