"""The transformer block with its norm first or last, against torch's own with equal weights, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attnviz.models.layers import Block, LayerConfig
from attnviz.models.vit import ViT, ViTConfig
from tests.variants import plain

WIDTH, HEADS, COUNT = 24, 4, 7


def theirs_of(block: Block, *, norm_first: bool) -> nn.TransformerEncoderLayer:
    """torch's layer with the parameters of ours."""
    other = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=norm_first
    ).double()
    own = block.state_dict()

    def joined(part: str) -> Tensor:
        return torch.cat([own[f"attention.{name}.{part}"] for name in ("query", "key", "value")])

    other.load_state_dict(
        {
            "self_attn.in_proj_weight": joined("weight"),
            "self_attn.in_proj_bias": joined("bias"),
            **{f"self_attn.out_proj.{part}": own[f"attention.out.{part}"] for part in ("weight", "bias")},
            **{f"linear{n + 1}.{part}": own[f"mlp.{2 * n}.{part}"] for n in (0, 1) for part in ("weight", "bias")},
            **{f"norm1.{part}": own[f"attention_norm.{part}"] for part in ("weight", "bias")},
            **{f"norm2.{part}": own[f"mlp_norm.{part}"] for part in ("weight", "bias")},
        }
    )
    return other


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_is_torchs_layer_with_gradient(norm_first: bool, random: torch.Generator) -> None:
    config = LayerConfig(width=WIDTH, heads=HEADS, norm_first=norm_first)
    block = Block(config, plain(COUNT), 0).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=torch.float64) * 0.3)
    x = torch.randn(2, COUNT, WIDTH, generator=random, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(2, COUNT, WIDTH, generator=random, dtype=torch.float64)
    ours, _ = block(x, queries=plain(COUNT))
    theirs = theirs_of(block, norm_first=norm_first)(x)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)
    (mine,), (other,) = (torch.autograd.grad((y * wanted).sum(), x) for y in (ours, theirs))
    torch.testing.assert_close(mine, other, atol=1e-10, rtol=0)


def test_a_network_with_its_norms_last_has_no_final_norm() -> None:
    shape = {"size": 8, "patch": 4, "width": WIDTH, "layers": 2, "heads": HEADS, "classes": 3}
    first, last = ViT(ViTConfig(**shape)), ViT(ViTConfig(**shape, norm_first=False))
    assert {*first.state_dict()} - {*last.state_dict()} == {"norm.weight", "norm.bias"}
    residual = last(torch.rand(3, 8, 8)).residuals["main"][-1]
    torch.testing.assert_close(residual.mean(-1), torch.zeros(5), atol=1e-5, rtol=0)  # as the norm leaves it
