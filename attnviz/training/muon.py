"""Muon (Jordan et al. 2024): orthogonalised momentum for matrices; all singular values of a step are about equal.

torch has an implementation too, but it always computes in bfloat16, which a CPU without such instructions emulates, so
slowly that it takes longer than the network. Here matrices of one shape are processed together, in a precision that the
device is fast in.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steep at zero, so that five iterations are enough


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 matrix products in hardware; emulation is ten times slower."""
    if device.type == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum, with the step length of AdamW (Liu et al. 2025, arXiv 2502.16982).

    Raises ValueError for a parameter that is not a matrix.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for matrix in (m for group in self.param_groups for m in group["params"]):
            if matrix.ndim != 2:
                raise ValueError(f"Muon updates matrices, not a parameter of shape {tuple(matrix.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is used here
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for matrix in (m for m in group["params"] if m.grad is not None):
                by_shape.setdefault(tuple(matrix.shape), []).append(matrix)
            for shape, matrices in by_shape.items():
                directions = [self.accumulate(m, m.grad, group["momentum"]) for m in matrices if m.grad is not None]
                updates = orthogonalise(torch.stack(directions))
                length = group["lr"] * 0.2 * max(shape) ** 0.5
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=length)

    def accumulate(self, matrix: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """Add a gradient to the momentum; returns the Nesterov direction."""
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def orthogonalise(
    matrices: Float[Tensor, "matrix row column"], iterations: int = 5
) -> Float[Tensor, "matrix row column"]:
    """Approximate U Vᵀ of each matrix U S Vᵀ (Newton-Schulz): singular values end between about 0.7 and 1.2."""
    first, second, third = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if computes_in_bfloat16(x.device) else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = first * x + (second * gram + third * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)
