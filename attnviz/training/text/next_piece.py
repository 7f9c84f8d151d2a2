"""The loss of guessing one piece among all, without ever holding the scores of all of them for all tokens.

Scores, their softmax and its gradient are made for a few hundred tokens at a time and thrown away: on a processor the
numbers stay in its cache, and with 8,000 pieces that is a fifth of a training step (Hsu et al. 2024, arXiv 2410.10989).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 512  # tokens at a time


def next_piece_loss(
    features: Float[Tensor, "token feature"],
    table: Float[Tensor, "piece feature"],
    bias: Float[Tensor, " piece"],
    wanted: Int[Tensor, " token"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy of softmax(features tableᵀ + bias) against the wanted pieces."""
    loss, *_ = Chunked.apply(features, table, bias, wanted)  # type: ignore[misc]  # torch types apply as one value
    return loss


class Chunked(torch.autograd.Function):
    """The loss and its gradients in one pass, since the gradient is nearly the softmax itself."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, table: Tensor, bias: Tensor, wanted: Tensor) -> tuple[Tensor]:
        share = 1 / max(1, len(wanted))
        loss = torch.zeros((), device=features.device)
        by_features = torch.empty_like(features)
        by_table, by_bias = torch.zeros_like(table), torch.zeros_like(bias)
        size = CHUNK if features.device.type == "cpu" else 16 * CHUNK
        for begin in range(0, len(features), size):
            part, right = features[begin : begin + size], wanted[begin : begin + size, None]
            chances = torch.addmm(bias, part, table.T).float().softmax(-1)
            loss -= chances.gather(-1, right).clamp_min(1e-37).log().sum() * share
            chances.scatter_add_(-1, right, chances.new_full(right.shape, -1.0)).mul_(share)
            by_features[begin : begin + size] = chances @ table
            by_table += chances.T @ part
            by_bias += chances.sum(0)
        ctx.save_for_backward(by_features, by_table, by_bias)
        return (loss,)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_features, by_table, by_bias = ctx.saved_tensors
        return by_features * grads[0], by_table * grads[0], by_bias * grads[0], None
