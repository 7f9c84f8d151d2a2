"""Cosine attention against dot products of unit vectors, Hugging Face's Swin v2 and x-transformers."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.attention import MultiHead
from attnviz.attention.variants.cosine import Cosine
from attnviz.types import Mask, Tokens

WIDTH, HEADS, COUNT = 24, 4, 9
ROW = Tokens(tuple(f"t{i}" for i in range(COUNT)))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(**options: float) -> Cosine:
    """A module from a fixed seed with large parameters; heads have different scales."""
    network = Cosine(WIDTH, HEADS, **options).double()
    for seed, (name, parameter) in enumerate(network.named_parameters()):
        if name != "log_scale":
            parameter.data = noise(*parameter.shape, seed=seed) * 0.3
    if network.log_scale is not None:
        network.log_scale.data = torch.tensor([1.0, 5.0, 20.0, 80.0], dtype=torch.float64).log()
    return network


def test_unit_vectors_at_a_temperature() -> None:
    """Where query and key have length one already, it is multi-head attention whose scores are multiplied by s."""
    network = made()
    _, (call,) = network(noise(COUNT, WIDTH), queries=ROW)
    assert network.log_scale is not None
    scores = call.query @ call.key.transpose(-1, -2)
    torch.testing.assert_close(scores.diagonal(dim1=-2, dim2=-1), F.cosine_similarity(call.query, call.key, dim=-1))
    weights = (scores * network.log_scale.exp()[:, None, None]).softmax(-1)
    torch.testing.assert_close(call.token_map(), weights)
    torch.testing.assert_close(call.output, weights @ call.value)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_multi_head_with_unit_projections(scale: float) -> None:
    """Tokens and projections that give unit queries and keys: mha at temperature s agrees."""
    network, plain = Cosine(WIDTH, 1, scale=scale, learned=False).double(), MultiHead(WIDTH, 1).double()
    with torch.no_grad():
        for part, seed in ((network.query, 1), (network.key, 2)):
            part.weight.copy_(torch.linalg.qr(noise(WIDTH, WIDTH, seed=seed)).Q)
            part.bias.zero_()
    plain.load_state_dict(network.state_dict())
    plain.query.weight.data *= scale * WIDTH**0.5
    x = F.normalize(noise(COUNT, WIDTH), dim=-1)
    torch.testing.assert_close(network(x, queries=ROW)[0], plain(x, queries=ROW)[0])


def test_swin_v2() -> None:
    """Hugging Face's window attention; with its bias network at zero all pairs get the same bias."""
    from transformers import Swinv2Config
    from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention

    network = made()
    network.key.bias.data.zero_()  # theirs has none
    twin = Swinv2SelfAttention(Swinv2Config(), WIDTH, HEADS, 3).double().eval()
    with torch.no_grad():
        for name in ("query", "key", "value"):
            getattr(twin, name).load_state_dict(getattr(network, name).state_dict(), strict=name != "key")
        twin.logit_scale.copy_(network.log_scale[:, None, None])  # type: ignore[index]
        twin.continuous_position_bias_mlp[2].weight.zero_()
        x = noise(2, COUNT, WIDTH)
        mixed, weights = twin(x, output_attentions=True)
    _, (call,) = network(x, queries=ROW)
    torch.testing.assert_close(call.token_map(), weights)
    torch.testing.assert_close(call.output.transpose(-3, -2).flatten(-2), mixed)


def test_x_transformers() -> None:
    """Their QK-norm: unit queries and keys, a fixed scale of ten."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # their import calls torch.jit
        from x_transformers.x_transformers import Attention

    network = made(learned=False)
    twin = Attention(WIDTH, dim_head=6, heads=HEADS, qk_norm=True, qk_norm_scale=10).double().eval()
    names = {"to_q": network.query, "to_k": network.key, "to_v": network.value, "to_out": network.out}
    with torch.no_grad():
        for name, part in names.items():
            getattr(twin, name).weight.copy_(part.weight)
            part.bias.zero_()  # theirs have none
    x = noise(2, COUNT, WIDTH)
    torch.testing.assert_close(network(x, queries=ROW)[0], twin(x))
    keep = torch.arange(COUNT) < torch.tensor([[4], [COUNT]])
    y, _ = network(x, queries=ROW, mask=Mask(key_padding=keep))
    torch.testing.assert_close(y[keep], twin(x, mask=keep)[keep])  # they silence padded queries as well


def test_lengths_do_not_count() -> None:
    """Longer queries and keys change nothing; longer values do."""
    network, x = made(), noise(COUNT, WIDTH)
    _, (call,) = network(x, queries=ROW)
    for part in (network.query, network.key):
        part.weight.data *= 7
        part.bias.data *= 7
    _, (other,) = network(x, queries=ROW)
    torch.testing.assert_close(other.token_map(), call.token_map())


def test_a_learned_scale_ends_at_a_hundred() -> None:
    network = made()
    assert network.log_scale is not None
    network.log_scale.data[0] = 9.0
    _, (call,) = network(noise(COUNT, WIDTH), queries=ROW)
    assert call.scale.tolist() == pytest.approx([100, 5, 20, 80])  # type: ignore[union-attr]
    assert Cosine(WIDTH, HEADS).log_scale.tolist() == pytest.approx([math.log(10)] * HEADS)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="scale is 101"):
        Cosine(WIDTH, HEADS, scale=101)


@pytest.mark.parametrize(("learned", "parameters"), [(True, 262_152), (False, 262_144)])
def test_worked_numbers(learned: bool, parameters: int) -> None:
    network = Cosine(256, 8, bias=False, learned=learned)
    cost = network.cost(1024, 1024)
    assert cost.parameters == parameters == sum(p.numel() for p in network.parameters())
    assert cost.multiply_adds / 1e6 == pytest.approx(805.3, abs=0.05)


def test_a_network_of_dot_products_lends_its_parameters() -> None:
    state = MultiHead(WIDTH, HEADS).state_dict()
    missing, unexpected = Cosine(WIDTH, HEADS).load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["log_scale"], [])


@pytest.mark.parametrize("scale", [0, -1, 100.5])
def test_a_scale_out_of_range(scale: float) -> None:
    assert Cosine(WIDTH, HEADS, scale=100).initial_scale == 100  # the most there may be
    assert Cosine(WIDTH, HEADS, scale=1e-3, learned=False).initial_scale == 1e-3
    with pytest.raises(ValueError, match="above 0 and at most 100"):
        Cosine(WIDTH, HEADS, scale=scale)
