"""Norm-based attention: the lengths of the vectors that tokens hand over, instead of the weights alone.

Gram form: with G_j = U_j U_jᵀ [head head] of the vectors u^h_j of key j, the squared length of sum_h A^h_ij u^h_j is
aᵀ G_j a for the weights a = A_ij of all heads. No array [query key feature] is made: n² H² work, n H² memory.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Option, Start, traced
from attnviz.methods.contributions import Blocks, Fold, Vectors, residual_before, rolled_out
from attnviz.types import AttentionCall, Model, Sample, Target, Trace, unchanged

WEIGHTED, RESIDUAL, GLOBENC = "weighted", "residual", "globenc"
OPTIONS = (
    Option(
        "form",
        "Form",
        "choice",
        RESIDUAL,
        "What is measured: the values a token receives, weighted; these with the token's own residual and, in a "
        "post-norm network, through the layer norm after the sum; or these through the second layer norm as well.",
        {WEIGHTED: "Weighted values", RESIDUAL: "With residual and norm", GLOBENC: "GlobEnc"},
    ),
)


def explain(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    start: Start = "answer",
    form: str = RESIDUAL,
) -> Float[Tensor, "*batch token"]:
    """Norm-based attention measures how long the vectors are that tokens hand over, and multiplies shares of layers.

    A large weight on a value of almost no length moves nothing; the weights alone do not show that. `form` "weighted"
    counts the weighted values only (Kobayashi et al. 2020, arXiv 2004.10102); "residual" adds what a token keeps by the
    residual connection and passes the sum through the layer norm behind it, which only post-norm networks have
    (Kobayashi et al. 2021, arXiv 2109.07152); "globenc" goes on through the second layer norm and leaves the MLP out
    (Modarressi et al. 2022, arXiv 2205.03286), in a pre-norm network as the MLP would read it. A row is divided by its
    sum, so the divisors of the norms cancel; no other identity is added. It is class-agnostic.
    """
    trace = traced(model, sample, trace)
    return rolled_out(trace, start, target, lambda call: lengths(model, trace, call, form))


def lengths(model: Model, trace: Trace, call: AttentionCall, form: str = RESIDUAL) -> Blocks:
    """How to get row blocks of the lengths of T_i(x_j) [*batch row key] of one call, but for the norms' divisors.

    Raises ValueError for an unknown form, UnsupportedMask for a model that does not say what its layers are made of.
    """
    if form not in OPTIONS[0].choices:
        raise ValueError(f"form is {form!r}; known: {', '.join(OPTIONS[0].choices)}")
    if form == WEIGHTED:
        return gram_lengths(Vectors(call))
    return gram_lengths(Vectors(call, fold_of(model, call, form), residual_before(trace, call)))


def fold_of(model: Model, call: AttentionCall, form: str) -> Fold:
    """The linear part of the layer norms that the sum of attention and residual passes through."""
    parts = model.layer_parts(call.layer)
    norms = [] if parts.norm_first else [parts.attention_norm]
    norms += [parts.mlp_norm] if form == GLOBENC else []

    def fold(x: Tensor) -> Tensor:
        for norm in norms:
            x = norm.linear(x)
        return x

    return fold if norms else unchanged


def gram_lengths(vectors: Vectors) -> Blocks:
    """Row blocks of the lengths of what keys hand over [*batch row key]; exactly 0 where nothing is."""
    sources, residual = vectors.sources, vectors.residual
    if sources is None:  # gated by query, so that a key has no vectors of its own
        return vectors.pieces(lambda rows: vectors.rows(rows)[0].norm(dim=-1))
    gram = torch.einsum("...hkf,...gkf->...khg", sources, sources)
    kept = torch.zeros_like(sources[..., 0, :, :]) if residual is None else residual
    crossed, itself = torch.einsum("...hkf,...kf->...hk", sources, kept), kept.square().sum(-1)

    def block(rows: list[int]) -> Tensor:
        weights = vectors.weights(rows)
        by_key = weights.movedim(-1, -3).transpose(-1, -2)  # [*batch key row head]
        squared = ((by_key @ gram) * by_key).sum(-1).transpose(-1, -2)
        if residual is not None:  # the residual touches the diagonal only: + 2 aᵀ U_i x_i + |x_i|²
            own = vectors.own(rows)
            at = torch.as_tensor(rows, device=own.device)
            mine = weights[..., torch.arange(len(rows), device=own.device), at]  # [*batch head row]
            more = 2 * (mine * crossed[..., rows]).sum(-2) + itself[..., rows]
            squared = squared + own * more[..., None]
        return squared.clamp_min(0).sqrt()

    return block
