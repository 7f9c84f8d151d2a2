"""Muon (Jordan et al. 2024): every matrix moves by its momentum with all singular values made alike.

torch has one too, but it always computes in bfloat16, which a processor without such instructions only imitates, so
slowly that it takes longer than the network. Here matrices of one shape go together, in a precision that the device is
fast in.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steep at zero, so that five rounds are enough


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16 itself; where it does not, that is ten times slower."""
    if device.type == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; the step is as long as AdamW's (Liu et al. 2025, arXiv 2502.16982).

    Raises ValueError for a parameter that is no matrix.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for matrix in (m for group in self.param_groups for m in group["params"]):
            if matrix.ndim != 2:
                raise ValueError(f"Muon moves matrices, not a parameter of shape {tuple(matrix.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nobody needs a closure here
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = {}
            for matrix in (m for m in group["params"] if m.grad is not None):
                alike.setdefault(tuple(matrix.shape), []).append(matrix)
            for shape, matrices in alike.items():
                pushed = [self.push(m, m.grad, group["momentum"]) for m in matrices if m.grad is not None]
                moves = orthogonal(torch.stack(pushed))
                length = group["lr"] * 0.2 * max(shape) ** 0.5
                for matrix, move in zip(matrices, moves, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(move, alpha=length)

    def push(self, matrix: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """The gradient looked at from where the momentum leads."""
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def orthogonal(matrices: Float[Tensor, "matrix row column"], rounds: int = 5) -> Float[Tensor, "matrix row column"]:
    """U Vᵀ of each matrix U S Vᵀ, nearly: singular values end between about 0.7 and 1.2 (Newton-Schulz)."""
    first, second, third = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if computes_in_bfloat16(x.device) else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = first * x + (second * gram + third * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)
