"""Cross-entropy of the next token without ever holding the logits [token vocabulary] of a whole batch.

Logits, their softmax and its gradient are computed for a few hundred tokens at a time and discarded: on a CPU the
numbers stay in its cache, and with a vocabulary of 8,000 that saves a fifth of a training step (Hsu et al. 2024, arXiv
2410.10989).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 512  # tokens at a time


def next_token_loss(
    features: Float[Tensor, "token feature"],
    embedding: Float[Tensor, "vocabulary feature"],
    bias: Float[Tensor, " vocabulary"],
    target: Int[Tensor, " token"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy of softmax(features embeddingᵀ + bias) against the target tokens."""
    loss, *_ = ChunkedCrossEntropy.apply(features, embedding, bias, target)  # type: ignore[misc]  # torch types apply as one value
    return loss


class ChunkedCrossEntropy(torch.autograd.Function):
    """The loss and its gradients in one pass: the gradient of the logits is the softmax minus the one-hot target."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, embedding: Tensor, bias: Tensor, target: Tensor) -> tuple[Tensor]:
        scale = 1 / max(1, len(target))
        loss = torch.zeros((), device=features.device)
        d_features = torch.empty_like(features)
        d_embedding, d_bias = torch.zeros_like(embedding), torch.zeros_like(bias)
        size = CHUNK if features.device.type == "cpu" else 16 * CHUNK
        for begin in range(0, len(features), size):
            part, true = features[begin : begin + size], target[begin : begin + size, None]
            probabilities = torch.addmm(bias, part, embedding.T).float().softmax(-1)
            loss -= probabilities.gather(-1, true).clamp_min(1e-37).log().sum() * scale
            d_logits = probabilities.scatter_add_(-1, true, probabilities.new_full(true.shape, -1.0)).mul_(scale)
            d_features[begin : begin + size] = d_logits @ embedding
            d_embedding += d_logits.T @ part
            d_bias += d_logits.sum(0)
        ctx.save_for_backward(d_features, d_embedding, d_bias)
        return (loss,)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_features, d_embedding, d_bias = ctx.saved_tensors
        return d_features * grads[0], d_embedding * grads[0], d_bias * grads[0], None
