"""Options between scores and weights: normalisers, talking heads, sinks, QK-norm; others' packages as oracles."""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import entmax as oracle
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnviz.attention import OPTIONS as OFFERED
from attnviz.attention import VARIANTS, MultiHead, Softmax, Variant
from attnviz.attention.rules.normalisers import NO_SINK, NORMALISERS, entmax, mix_heads
from attnviz.attention.rules.options import describe_options
from attnviz.attention.variants.cosine import Cosine
from attnviz.attention.variants.multihead import GroupedQuery, MultiQuery
from attnviz.types import Mask, Tokens

WIDTH, HEADS, COUNT = 24, 4, 9
ROW = Tokens(tuple(f"t{i}" for i in range(COUNT)))
OPTIONS: dict[str, dict[str, Any]] = {
    "sigmoid": {"normaliser": "sigmoid"},
    "entmax15": {"normaliser": "entmax15"},
    "top": {"normaliser": "top", "top": 3},
    "before": {"talking": "before"},
    "after": {"talking": "after"},
    "sink score": {"sink": "score"},
    "sink key": {"sink": "key"},
    "qk_norm": {"qk_norm": True},
    "all": {"normaliser": "entmax15", "talking": "both", "sink": "key", "qk_norm": True},
}
MASKS = {
    "none": None,
    "causal": Mask(causal=True),
    "by head": Mask(keep=torch.rand(HEADS, COUNT, COUNT, generator=torch.Generator().manual_seed(3)) > 0.4),
    "nothing": Mask(keep=torch.arange(COUNT)[None, :, None].ne(1).expand(1, COUNT, COUNT)),
}
FAMILY = {"mha": MultiHead, "mqa": MultiQuery, "gqa": GroupedQuery, "cosine": Cosine}


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind: str = "mha", **options: Any) -> MultiHead:
    """A variant with options, every parameter random and large."""
    network = FAMILY[kind](WIDTH, HEADS, **options).double()
    for seed, parameter in enumerate(network.parameters()):
        parameter.data = noise(*parameter.shape, seed=seed) * 0.3
    return network


def their(**options: Any) -> nn.Module:
    """Attention of x-transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # their import calls torch.jit
        from x_transformers.x_transformers import Attention
    return Attention(WIDTH, dim_head=6, heads=HEADS, **options).double().eval()


def tied(network: MultiHead, twin: nn.Module) -> nn.Module:
    """Our projections in theirs, which have no biases."""
    names = {"to_q": network.query, "to_k": network.key, "to_v": network.value, "to_out": network.out}
    for name, part in names.items():
        getattr(twin, name).weight.data.copy_(part.weight)
        part.bias.data.zero_()
    return twin


@pytest.mark.parametrize(("kind", "options", "mask"), list(product(FAMILY, OPTIONS, MASKS)))
def test_every_option_with_every_variant_and_mask(kind: str, options: str, mask: str) -> None:
    """output = map @ value, closed entries 0, stochastic where it says so, map gradients true, maps named."""
    network = made(kind, **OPTIONS[options])
    _, (call,) = network(noise(COUNT, WIDTH), queries=ROW, mask=MASKS[mask])
    whole, value = call.token_map(), call.value[call.kv_heads_of(range(HEADS))]
    assert call.rule.exact
    torch.testing.assert_close(whole @ value, call.output, atol=1e-12, rtol=0)
    torch.testing.assert_close(call.weights([3, 0], [5, 1]), whole[[3, 0]][:, [5, 1]], atol=1e-12, rtol=0)
    if (made_mask := MASKS[mask]) is not None:
        closed = ~made_mask.rows(list(range(HEADS)), list(range(COUNT)), COUNT, COUNT).expand_as(whole)
        assert (whole[closed] == 0).all()
    sums = whole.sum(-1)
    assert bool(call.rule.caveat) == (not call.rule.stochastic)
    if call.rule.stochastic:
        torch.testing.assert_close(sums, (~call.empty).to(sums.dtype).expand_as(sums))
    d_output = noise(*call.output.shape, seed=8)
    gradient = call.map_gradient(d_output)
    expected = d_output @ value.transpose(-1, -2)
    torch.testing.assert_close(gradient, expected if made_mask is None else expected.masked_fill(closed, 0))
    for one in call.maps().values():
        assert len(one.axes) == one.array.ndim
        if one.stochastic:
            assert ((one.array.sum(-1) - 1).abs() < 1e-9).logical_or(one.array.sum(-1) == 0).all()


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_are_finite_and_true(options: str) -> None:
    """Through masked and empty rows, against finite differences."""
    network = made("gqa", **OPTIONS[options])

    def answer(x: Tensor) -> Tensor:
        return network(x, queries=ROW, mask=MASKS["nothing"])[0].square().sum()

    assert torch.autograd.gradcheck(answer, noise(COUNT, WIDTH).requires_grad_(), atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS)
def test_decoding_is_the_causal_forward(options: str) -> None:
    network, x = made("gqa", **OPTIONS[options]), noise(COUNT, WIDTH)
    whole, _ = network(x, queries=ROW, mask=Mask(causal=True))
    first, new = Tokens(ROW.labels[:6]), Tokens(ROW.labels[6:])
    _, _, past = network.decode(x[:6], queries=first, keys=first)
    y, _, _ = network.decode(x[6:], past, queries=new, keys=ROW)
    torch.testing.assert_close(y, whole[6:], atol=1e-12, rtol=0)


@pytest.mark.parametrize("options", OPTIONS)
def test_cost_batches_blocks_and_masked_keys(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = made(**OPTIONS[options]), noise(2, COUNT, WIDTH)
    assert network.cost(9, 9).parameters == sum(p.numel() for p in network.parameters())
    y, _ = network(x, queries=ROW)
    torch.testing.assert_close(y[1], network(x[1], queries=ROW)[0], atol=1e-12, rtol=0)
    longer, keep = torch.cat([x, noise(2, 3, WIDTH, seed=9)], -2), Mask(key_padding=torch.arange(12) < COUNT)
    more = Tokens(tuple(map(str, range(12))))
    torch.testing.assert_close(network(x, longer, queries=ROW, keys=more, mask=keep)[0], y, atol=1e-12, rtol=0)
    many = Tokens(tuple(map(str, range(300))))
    _, (call,) = network(noise(300, WIDTH), queries=many)
    torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-12, rtol=0)


def test_plain_options_are_plain_softmax() -> None:
    network = MultiHead(WIDTH, HEADS)
    assert type(network(noise(COUNT, WIDTH).float(), queries=ROW)[1][0].rule) is Softmax
    assert set(network.state_dict()) == {
        f"{p}.{q}" for p in ("query", "key", "value", "out") for q in ("weight", "bias")
    }


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_entmax_package(scale: float) -> None:
    scores = scale * noise(50, 17)
    scores[:, 3] = scores[:, 5]  # ties
    scores[:25, 11:] = float("-inf")
    ours, theirs = scores.clone().requires_grad_(), scores.clamp_min(-1e9).requires_grad_()
    weights, expected = entmax(ours), oracle.entmax15(theirs, dim=-1)
    torch.testing.assert_close(weights, expected)
    assert (weights == 0).any() or scale < 1
    weighing = noise(50, 17, seed=1)
    (weights * weighing).sum().backward()
    (expected * weighing).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_top_of_x_transformers() -> None:
    network, x = made(normaliser="top", top=3), noise(2, COUNT, WIDTH)
    twin = tied(network, their(sparse_topk=3))
    y, (call,) = network(x, queries=ROW)
    torch.testing.assert_close(y, twin(x))
    assert ((call.token_map() > 0).sum(-1) == 3).all()


def test_sigmoid_of_x_transformers() -> None:
    """They leave out the bias -log n: ours is theirs where one more bias of log n is added."""
    network, x = made(normaliser="sigmoid"), noise(2, COUNT, WIDTH)
    twin = tied(network, their(sigmoid=True))
    theirs = twin(x, attn_bias=torch.full((HEADS, COUNT, COUNT), -float(torch.tensor(COUNT).log())).double())
    torch.testing.assert_close(network(x, queries=ROW)[0], theirs, atol=1e-6, rtol=0)


def test_talking_heads_of_x_transformers() -> None:
    """Before the softmax they add the mixture to the scores, so their matrix is ours less the identity."""
    network, x = made(talking="both"), noise(2, COUNT, WIDTH)
    twin = tied(network, their(pre_talking_heads=True, post_talking_heads=True))
    options = network.normalisation
    twin.attend.pre_softmax_talking_heads.weight.data.copy_((options.before - torch.eye(HEADS))[..., None, None])
    twin.attend.post_softmax_talking_heads.weight.data.copy_(options.after[..., None, None])
    torch.testing.assert_close(network(x, queries=ROW)[0], twin(x), atol=1e-6, rtol=0)  # their softmax is float32


def test_heads_that_talk_to_nobody() -> None:
    """Fresh matrices are the identity: multi-head attention, not its doubled scores."""
    network, plain = MultiHead(WIDTH, HEADS, talking="both"), MultiHead(WIDTH, HEADS)
    plain.load_state_dict(network.state_dict(), strict=False)
    x = noise(COUNT, WIDTH).float()
    torch.testing.assert_close(network(x, queries=ROW)[0], plain(x, queries=ROW)[0])
    by_hand = mix_heads(torch.tensor([[0.0, 1.0], [2.0, 0.5]]), torch.tensor([[[1.0, 0.0]], [[0.0, 4.0]]]))
    assert by_hand.tolist() == [[[0.0, 4.0]], [[2.0, 2.0]]]


def test_a_learned_sink_score_of_x_transformers() -> None:
    network, x = made(sink="score"), noise(2, COUNT, WIDTH)
    twin = tied(network, their(head_learned_sink=True))
    twin.attend.head_attn_sink.data.copy_(network.normalisation.sink)
    torch.testing.assert_close(network(x, queries=ROW)[0], twin(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["mha", "mqa", "gqa"])
def test_a_sink_key_is_one_more_key_with_a_value_of_zero(kind: str) -> None:
    _, (call,) = made(kind, sink="key")(noise(COUNT, WIDTH), queries=ROW)
    key = torch.cat([call.key, call.rule.sink[:, None]], -2)  # type: ignore[attr-defined]
    value = F.pad(call.value, (0, 0, 0, 1))
    expected = F.scaled_dot_product_attention(call.query[None], key[None], value[None], enable_gqa=True)[0]
    torch.testing.assert_close(call.output, expected)
    slots = call.maps()["with the sink"]
    assert (slots.axes[-1], slots.map_type, slots.array.shape) == ("slot", "slots", (HEADS, COUNT, COUNT + 1))
    torch.testing.assert_close(slots.array[..., :-1], call.token_map())
    assert (call.token_map().sum(-1) < 1).all()


def test_a_zero_sink_is_torchs_zero_attention() -> None:
    """add_zero_attn appends a key and a value of zeros: a sink whose score is zero."""
    network, x = made(sink="score"), noise(2, COUNT, WIDTH)
    network.normalisation.sink.data.zero_()
    twin = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, add_zero_attn=True, dtype=torch.float64)
    for name in ("weight", "bias"):
        rows = [getattr(part, name) for part in (network.query, network.key, network.value)]
        getattr(twin, f"in_proj_{name}").data.copy_(torch.cat(rows))
        getattr(twin.out_proj, name).data.copy_(getattr(network.out, name))
    y, (call,) = network(x, queries=ROW)
    expected, weights = twin(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(call.maps()["with the sink"].array, weights)


def test_norms_of_queries_and_keys_by_hand() -> None:
    network = made(qk_norm=True)
    _, (call,) = network(noise(COUNT, WIDTH), queries=ROW)
    query = network.query(noise(COUNT, WIDTH)).unflatten(-1, (HEADS, -1)).transpose(0, 1)
    lengths = query.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(call.query, query / lengths * network.norms[0].weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normaliser": "soft"}, "normaliser is 'soft'; known: 'softmax'"),
        ({"talking": "always"}, "talking is 'always'"),
        ({"sink": "hole"}, "sink is 'hole'"),
        ({"top": 0}, "top is 0"),
        ({"normaliser": "sigmoid", "sink": "key"}, NO_SINK),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiHead(WIDTH, HEADS, **options)


@pytest.mark.parametrize("name", OFFERED)
@pytest.mark.parametrize("kind", [kind for kind in VARIANTS.values() if kind.supports_options])
def test_what_is_offered_crosses_with_every_variant_that_says_so(kind: type[MultiHead], name: str) -> None:
    patches, x = Tokens.patches(3, 4), noise(12, WIDTH).float()
    plain = network_with({name: OFFERED[name].plain}, kind, patches)(x, queries=patches)[0]
    assert torch.equal(plain, network_with({}, kind, patches)(x, queries=patches)[0])
    assert list(OFFERED[name].suffixes) == list(OFFERED[name].values)[1:]
    for value in OFFERED[name].suffixes:
        network = network_with({name: value}, kind, patches)
        for part in (network.normalisation.before, network.normalisation.after, network.normalisation.sink):
            if part is not None:  # as they start, heads do not talk yet
                torch.nn.init.normal_(part)
        assert not torch.allclose(network(x, queries=patches)[0], plain)


def network_with(options: dict[str, Any], kind: type[MultiHead], tokens: Tokens) -> MultiHead:
    """A variant with these options, its parameters always the same; scores large enough for eight keys to differ."""
    torch.manual_seed(1)
    network = kind(WIDTH, HEADS, tokens=tokens, **options)
    network.query.weight.data *= 4
    return network


@pytest.mark.parametrize("kind", [kind for kind in VARIANTS.values() if not kind.supports_options])
def test_other_variants_take_no_options(kind: type[Variant]) -> None:
    for name, option in OFFERED.items():
        with pytest.raises(TypeError, match=name):
            kind(WIDTH, HEADS, tokens=Tokens.patches(3, 4), **{name: option.plain})


def test_options_have_names() -> None:
    assert describe_options({"normaliser": "entmax15", "qk_norm": True}) == "entmax 1.5, QK-norm"
    assert describe_options({"normaliser": "softmax", "sink": ""}) == ""


def test_top_is_of_eight_keys_where_nobody_chose() -> None:
    patches = Tokens.patches(3, 4)
    for options, count in (({}, 8), ({"top": 3}, 3), ({"top": 12}, 12), ({"top": 99}, 12)):
        _, (call,) = MultiHead(WIDTH, HEADS, normaliser="top", **options)(noise(12, WIDTH).float(), queries=patches)
        assert ((call.token_map() > 0).sum(-1) == count).all()
    scores = noise(2, 5, 12)
    torch.testing.assert_close(NORMALISERS["top"](scores, None)[0], NORMALISERS["top"](scores, None, count=8)[0])
    plain = MultiHead(WIDTH, HEADS)
    assert not plain.normalisation.chosen
    assert plain.normalisation.rule() == Softmax()
