"""The second door: any network of PyTorch, by its calls of the fused kernel and of multi-head attention."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attnviz
from attnviz.hub.attention import transformers
from attnviz.hub.errors import CannotOpen, CannotRecord
from attnviz.paths import ROOT


class KernelAttention(nn.Module):
    """Attention by the fused kernel, with fewer keys than queries have heads if asked for."""

    def __init__(self, heads: int = 4, kv_heads: int = 4, **options: Any):
        super().__init__()
        self.heads, self.kv_heads, self.options = heads, kv_heads, options
        self.query, self.key_value = nn.Linear(16, 4 * heads), nn.Linear(16, 8 * kv_heads)
        self.out = nn.Linear(4 * heads, 16)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """As in many networks of plain PyTorch."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(x).unflatten(-1, (2 * self.kv_heads, -1)).transpose(1, 2).chunk(2, 1)
        shared = self.heads != self.kv_heads
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=shared, **self.options)
        return self.out(y.transpose(1, 2).flatten(-2))


class Layers(nn.Module):
    """Two layers of it."""

    def __init__(self, **options: Any):
        super().__init__()
        self.blocks = nn.ModuleList(KernelAttention(**options) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Each added to what came before."""
        for block in self.blocks:
            x = x + block(x, mask)
        return x


def explicit(network: Layers, x: Tensor, mask: Tensor | None) -> Tensor:
    """The weights of the first layer, from the formula, in float64."""
    block = network.blocks[0].double()
    x = x.double()
    query = block.query(x).unflatten(-1, (block.heads, -1)).transpose(1, 2)
    key = block.key_value(x).unflatten(-1, (2 * block.kv_heads, -1)).transpose(1, 2)[:, : block.kv_heads]
    scores = query @ key.repeat_interleave(block.heads // block.kv_heads, 1).transpose(-1, -2) / 2
    if block.options.get("is_causal"):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)


@pytest.mark.parametrize("kind", ["none", "bool", "numbers", "causal", "grouped"])
@torch.no_grad()
def test_the_fused_kernel_is_recorded(kind: str, random: torch.Generator) -> None:
    torch.manual_seed(0)
    network = Layers(**{"causal": {"is_causal": True}, "grouped": {"kv_heads": 2}}.get(kind, {}))
    x = torch.randn(2, 6, 16, generator=random)
    masks = {"bool": torch.rand(6, 6, generator=random) > 0.4, "numbers": torch.randn(1, 1, 6, 6, generator=random)}
    mask = masks.get(kind)
    if kind == "bool" and mask is not None:
        mask.fill_diagonal_(True)
    with attnviz.record(network) as calls:
        answer = network(x, mask)
    assert torch.equal(answer, network(x, mask))
    assert [(call.name, call.layer) for call in calls] == [("layer 1", 0), ("layer 2", 1)]
    for call in calls:
        torch.testing.assert_close(call.token_map() @ repeated(call.value, call.heads), call.output)
    torch.testing.assert_close(calls[0].weights().double(), explicit(network, x, mask), atol=1e-6, rtol=1e-5)
    assert network.training


def repeated(value: Tensor, heads: int) -> Tensor:
    """Values of every query head."""
    return value.repeat_interleave(heads // value.shape[-3], -3)


@torch.no_grad()
def test_torchs_own_layers_are_recorded() -> None:
    torch.manual_seed(0)
    network = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
    x, padding = torch.randn(2, 7, 16), torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 5:] = True
    with attnviz.record(network) as calls:
        network(x, src_key_padding_mask=padding)
    first = network.layers[0].self_attn
    _, expected = first.eval()(x, x, x, key_padding_mask=padding, average_attn_weights=False)
    torch.testing.assert_close(calls[0].weights(), expected)
    assert calls[0].mask is not None
    assert calls[0].mask.kinds == {"key_padding"}
    torch.testing.assert_close(calls[0].projection, first.out_proj.weight.T.unflatten(0, (4, 4)))


@torch.no_grad()
def test_a_decoder_of_torch_reads_two_sequences() -> None:
    torch.manual_seed(0)
    network = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    with attnviz.record(network) as calls:
        network(torch.randn(1, 5, 16), torch.randn(1, 7, 16), tgt_mask=mask)
    assert [(call.layer, call.branch) for call in calls] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [None if call.mask is None else call.mask.kinds for call in calls] == [{"causal"}, None] * 2
    assert [call.weights().shape for call in calls[:2]] == [(4, 5, 5), (4, 5, 7)]


def test_a_causal_flag_aligns_at_the_beginning() -> None:
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)

    class Only(nn.Module):
        def forward(self) -> Tensor:
            return F.scaled_dot_product_attention(query, key, key, is_causal=True)

    with attnviz.record(Only()) as calls:
        answer = Only()()
    torch.testing.assert_close(calls[0].token_map() @ key[0], answer[0])
    assert (calls[0].weights()[:, 0, 1:] == 0).all()


def test_attention_by_hand_is_not_passed_over() -> None:
    class ByHandAttention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.transpose(-1, -2)).softmax(-1) @ x

    network = nn.Sequential(ByHandAttention(), ByHandAttention())
    with pytest.raises(CannotRecord, match="0 of 2"), attnviz.record(network) as calls:
        network(torch.randn(1, 3, 4))
    assert not calls


def test_dropout_is_refused_and_what_is_no_module() -> None:
    class Dropped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    network = Dropped()
    with pytest.raises(CannotRecord, match="dropout"), attnviz.record(network):
        network(torch.randn(1, 2, 3, 4))
    with pytest.raises(TypeError, match="Module"), attnviz.record("bert"):  # type: ignore[arg-type]
        pass


def test_the_library_is_imported_when_a_model_is_opened_and_not_before() -> None:
    code = "import sys, attnviz; assert 'transformers' not in sys.modules and 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    transformers.cache_clear()
    for name in ("hf:owner/name", "./folder"):
        with pytest.raises(CannotOpen, match=r"requirements-hub\.txt"):
            attnviz.load(name)


def test_a_network_is_left_as_it_was_found() -> None:
    network = Layers()
    network.blocks[0].eval()
    with pytest.raises(RuntimeError), attnviz.record(network):
        network(torch.randn(1, 3, 15))
    assert [block.training for block in network.blocks] == [False, True]
    assert not any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks for m in network.modules())
