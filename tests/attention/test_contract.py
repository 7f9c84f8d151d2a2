"""What every attention variant must do, whatever its formula: a variant added to VARIANTS is tested here at once.

`MASKS` names the masks; a variant is given those it says it serves, and must refuse the others.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from itertools import product
from typing import get_args

import pytest
import torch
from torch import Tensor

from attnviz.attention import VARIANTS
from attnviz.models.store import BENCH, TEXT_BENCH, bench_results
from attnviz.types import AttentionCall, MapType, Mask, NoTokenMap, Tokens, UnsupportedMask
from tests.variants import COUNT, GRID, HEADS, features, plain, token_map, variant


def some(*shape: int, seed: int = 3) -> Tensor:
    """A random True/False tensor; every last axis keeps at least its first entry."""
    keep = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    keep[..., 0] = True
    return keep


MASKS: dict[str, Callable[[int], Mask | None]] = {
    "none": lambda n: None,
    "causal": lambda n: Mask(causal=True),
    "band": lambda n: Mask(band=2),
    "key_padding": lambda n: Mask(key_padding=some(n)),
    "keep": lambda n: Mask(keep=some(1, n, n)),
    "keep by head": lambda n: Mask(keep=some(HEADS, n, n)),
    "equal groups": lambda n: Mask(groups=(torch.arange(n) % 3, torch.arange(n) % 3)),
    "unequal groups": lambda n: Mask(groups=(torch.arange(n) // 5, torch.arange(n) // 5)),
    "causal and key_padding": lambda n: Mask(causal=True, key_padding=some(n)),
    "causal, band and keep": lambda n: Mask(causal=True, band=3, keep=some(HEADS, n, n)),
    "nothing": lambda n: Mask(keep=torch.arange(n)[None, :, None].ne(1).expand(1, n, n)),  # row 1 may attend to none
    "nothing at all": lambda n: Mask(key_padding=torch.zeros(n, dtype=torch.bool)),
}
CASES = [
    pytest.param(name, mask, id=f"{name}-{mask}")
    for name, mask in product(VARIANTS, MASKS)
    if (made := MASKS[mask](COUNT)) is None or made.kinds <= VARIANTS[name].supported_masks
]


def run(name: str, mask: str = "none", x: Tensor | None = None) -> tuple[Tensor, tuple[AttentionCall, ...]]:
    """Output and calls of one pass over the grid."""
    x = features(COUNT) if x is None else x
    return variant(name, x.dtype)(x, queries=GRID, mask=MASKS[mask](COUNT))


def explicit(call: AttentionCall) -> Tensor:
    """gate * (token_map @ value), the long way."""
    value = call.value[..., call.kv_heads_of(range(call.heads)), :, :]
    output = call.token_map().to(value.dtype) @ value
    return output if call.gate is None else call.gate * output


@pytest.mark.parametrize(("name", "mask"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_output_is_map_times_value(name: str, mask: str, dtype: torch.dtype) -> None:
    _, calls = run(name, mask, features(COUNT, dtype=dtype))
    for call in calls:
        if call.rule.exact:
            atol = 1e-5 if dtype == torch.float32 else 1e-12
            torch.testing.assert_close(explicit(call), call.output, atol=atol, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("mask", ["none", "causal", "band", "causal and key_padding", "unequal groups"])
def test_more_rows_than_one_block(name: str, mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 tokens are three blocks of rows, the last one short."""
    monkeypatch.setattr("attnviz.attention.rules.softmax.MASK_ENTRIES", 1)
    made, x, many = MASKS[mask](300), features(300), Tokens.patches(10, 30)
    if made is not None and not made.kinds <= VARIANTS[name].supported_masks:
        return
    _, calls = variant(name, tokens=many)(x, queries=many, mask=made)
    row = torch.rand(300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for call in calls:
        if (whole := token_map(call)) is not None:
            torch.testing.assert_close(call.propagate(row), row @ whole.mean(-3), atol=1e-12, rtol=0)
        if call.rule.exact:
            torch.testing.assert_close(explicit(call), call.output, atol=1e-12, rtol=0)


# A map of channels has no row for a token; features of query and key are multiplied without any scores; two maps that
# are subtracted have two scores for a pair.
ABSENT = {(what, "channel") for what in ("weights", "token_map", "scores")} | {
    ("scores", "linear"),
    ("scores", "performer"),
    ("scores", "differential"),
}


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_rows_on_demand_are_rows_of_the_whole(name: str, mask: str) -> None:
    _, calls = run(name, mask)
    for call in calls:
        heads, rows = [call.heads - 1, 0], [5, 1, 11]
        for asked in (call.weights, call.token_map, call.scores):
            if (asked.__name__, call.rule.map_type) in ABSENT or (asked.__name__, name) in ABSENT:
                with pytest.raises(NoTokenMap):
                    asked(heads, rows)
                continue
            whole, some = asked(), asked(heads, rows)
            torch.testing.assert_close(some, whole[heads][:, rows], atol=1e-12, rtol=0)


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_rows_of_a_stochastic_map_sum_to_one(name: str, mask: str) -> None:
    _, calls = run(name, mask)
    for call in calls:
        if call.rule.stochastic:
            sums = call.token_map().sum(-1)
            torch.testing.assert_close(sums, (~call.empty).to(sums.dtype).expand_as(sums))
            assert (call.token_map() >= 0).all()


AXES = {
    "head",
    "query",
    "key",
    "slot",
    "landmark",
    "channel",
    "channel read",
    "phase",
    "query patch",
    "key patch",
    "dim",
}


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_every_native_map_says_what_it_is(name: str, mask: str) -> None:
    _, calls = run(name, mask)
    for call in calls:
        found = call.maps()
        assert found
        assert {*call.rule.axes} <= AXES
        assert type(call.rule).__dataclass_params__.frozen  # type: ignore[attr-defined]
        for one in found.values():
            assert len(one.axes) == one.array.ndim
            assert {*one.axes} <= AXES
            assert one.map_type in get_args(MapType)
            assert one.array.isfinite().all()
            if one.stochastic:
                sums = one.array.sum(-1)
                assert (((sums - 1).abs() < 1e-9) | (sums == 0)).all()
                assert (one.array >= 0).all()


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_batched_is_unbatched(name: str, mask: str) -> None:
    x = features(2, 3, COUNT)
    together, calls = run(name, mask, x)
    for i, j in product(range(2), range(3)):
        alone, single = run(name, mask, x[i, j])
        torch.testing.assert_close(together[i, j], alone, atol=1e-12, rtol=0)
        for call, one in zip(calls, single, strict=True):
            whole, expected = token_map(call), token_map(one)
            if whole is not None:
                torch.testing.assert_close(whole.expand(2, 3, *whole.shape[-3:])[i, j], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_map_gradient_is_autograd(name: str, mask: str) -> None:
    _, calls = run(name, mask)
    for call in calls:
        if not call.rule.exact:
            continue
        attention = call.token_map().detach().requires_grad_()
        value = call.value.detach()[call.kv_heads_of(range(call.heads))]
        d_output = torch.randn(call.output.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        output = attention @ value * (1 if call.gate is None else call.gate.detach())
        (expected,) = torch.autograd.grad((output * d_output).sum(), attention)
        if call.mask is not None:
            expected = expected * call.mask.rows(list(range(call.heads)), list(range(COUNT)), COUNT, COUNT)
        torch.testing.assert_close(call.map_gradient(d_output), expected, atol=1e-12, rtol=0)
        one = call.heads - 1
        torch.testing.assert_close(call.map_gradient(d_output, [one], [4]), expected[[one]][:, [4]], atol=1e-12, rtol=0)


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_gradients_reach_the_recorded_output(name: str, mask: str) -> None:
    """y = output W_O summed up, so d y / d output is the sum of W_O over features, whatever came before."""
    network = variant(name)
    y, (*_, call) = network(features(COUNT), queries=GRID, mask=MASKS[mask](COUNT))
    expected = network.out.weight.sum(0).unflatten(0, (call.heads, 1, -1)).expand_as(call.output)
    torch.testing.assert_close(call.gradient(y.sum()), expected)


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_a_blocked_key_has_no_influence(name: str, mask: str) -> None:
    """The polarity probe: what mask.rows says is closed carries no gradient, what it says is open does."""
    network, made = variant(name), MASKS[mask](COUNT)

    def answer(x: Tensor) -> Tensor:
        return network(x, queries=GRID, mask=made)[0].square().sum(-1)

    influence = torch.autograd.functional.jacobian(answer, features(COUNT)).abs().sum(-1)  # [query key]
    everything = list(range(COUNT))
    allowed = torch.eye(COUNT, dtype=torch.bool)
    _, calls = network(features(COUNT), queries=GRID, mask=made)
    for call in calls:  # chained calls reach further
        if call.mask is None:
            allowed = torch.ones(COUNT, COUNT, dtype=torch.bool)
        else:
            reach = call.mask.rows(list(range(call.heads)), everything, COUNT, COUNT).any(0)
            asks = (reach.sum(-1) > 1).diag()  # with a choice of keys, what went into the query has a say
            allowed = ((reach | asks).float() @ allowed.float()) > 0
    if made is not None:
        wanted = made.rows(list(range(HEADS)), everything, COUNT, COUNT).any(0)
        assert not (allowed & ~wanted & ~torch.eye(COUNT, dtype=torch.bool)).any() or len(calls) > 1
    others = ~torch.eye(COUNT, dtype=torch.bool)  # a token always reads its own query
    assert (influence[~allowed & others] <= 1e-15 * (len(calls) > 1)).all()  # a chain's only key: rounding of 0
    assert (influence[allowed & others] > 0).all()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("mask", ["nothing", "nothing at all"])
def test_a_row_with_nothing_to_attend_to_is_zero(name: str, mask: str) -> None:
    if not MASKS[mask](COUNT).kinds <= VARIANTS[name].supported_masks:
        return
    x = features(COUNT).requires_grad_()
    y, (*_, call) = run(name, mask, x)
    rows = [1] if mask == "nothing" else list(range(COUNT))
    assert call.empty.squeeze(0).nonzero().flatten().tolist() == rows
    assert (call.output[:, rows] == 0).all()
    if (whole := token_map(call)) is not None:
        assert (whole[:, rows] == 0).all()
    y.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("mask", list(MASKS))
def test_a_mask_that_is_not_served_is_refused(name: str, mask: str) -> None:
    made = MASKS[mask](COUNT)
    if made is None or made.kinds <= VARIANTS[name].supported_masks:
        return
    with pytest.raises(UnsupportedMask) as raised:
        run(name, mask)
    assert raised.value.variant == VARIANTS[name].title
    assert raised.value.reason


@pytest.mark.parametrize("name", VARIANTS)
def test_appending_masked_keys_changes_nothing(name: str) -> None:
    if not {"cross", "key_padding"} <= VARIANTS[name].supported_masks:
        return
    network, x = variant(name, tokens=plain(COUNT)), features(COUNT)
    padded = torch.cat([x, features(5, seed=9)])
    mask = Mask(key_padding=torch.arange(COUNT + 5) < COUNT)
    y, _ = network(x, padded, queries=plain(COUNT), keys=plain(COUNT + 5), mask=mask)
    torch.testing.assert_close(y, network(x, queries=plain(COUNT))[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("n_q", "n_k"), [(3, 8), (8, 3)])
def test_causal_is_bottom_right(name: str, n_q: int, n_k: int) -> None:
    if not {"cross", "causal"} <= VARIANTS[name].supported_masks:
        return
    network = variant(name, tokens=plain(n_k))
    x, context = features(n_q), features(n_k, seed=1)
    _, (*_, call) = network(x, context, queries=plain(n_q), keys=plain(n_k), mask=Mask(causal=True))
    seen = torch.ones(n_q, n_k).tril(n_k - n_q).bool()
    assert ((call.token_map() != 0) == seen).all()  # of a difference, either sign
    torch.testing.assert_close(explicit(call), call.output, atol=1e-12, rtol=0)
    assert call.empty[0].tolist() == [not row.any() for row in seen]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("new", [1, 3])
def test_decoding_is_the_causal_forward(name: str, new: int) -> None:
    x = features(7)
    if "causal" not in VARIANTS[name].supported_masks:
        with pytest.raises(UnsupportedMask):
            variant(name).decode(x, queries=plain(7), keys=plain(7))
        return
    network = variant(name, tokens=plain(7))
    whole, _ = network(x, queries=plain(7), mask=Mask(causal=True))
    y, _, past = network.decode(x[: 7 - new], queries=plain(7 - new), keys=plain(7 - new))
    torch.testing.assert_close(y, whole[: 7 - new], atol=1e-12, rtol=0)
    y, calls, _ = network.decode(x[7 - new :], past, queries=plain(new), keys=plain(7))
    torch.testing.assert_close(y, whole[7 - new :], atol=1e-12, rtol=0)
    assert calls[-1].token_map().shape == (calls[-1].heads, new, 7)


@pytest.mark.parametrize("name", VARIANTS)
def test_tokens_that_do_not_fit_are_refused_in_words(name: str) -> None:
    """No grid, another length, a prefix: served, or refused with the reason; never misread."""
    needs, serves = VARIANTS[name].requirements, VARIANTS[name].supported_masks
    strangers = {"grid": plain(COUNT), "length": plain(COUNT - 1), "prefix": Tokens.patches(4, 6, ["CLS"])}
    for reason, stranger in strangers.items():
        fits = reason in serves if reason == "prefix" else reason not in needs
        if fits and not (needs and reason != "prefix"):
            network = variant(name, tokens=stranger)
            y, _ = network(features(len(stranger)), queries=stranger)
            assert y.isfinite().all()
        elif not fits:
            with pytest.raises(UnsupportedMask) as raised:
                variant(name)(features(len(stranger)), queries=stranger)
            assert raised.value.reason


@pytest.mark.parametrize("name", VARIANTS)
def test_a_single_token_is_read_or_refused(name: str) -> None:
    one = Tokens.patches(1, 1)
    try:
        y, _ = variant(name, tokens=one)(features(1), queries=one)
    except UnsupportedMask:  # in words
        return
    assert y.isfinite().all()


OWN: dict[str, dict[str, object]] = {  # what a variant takes besides its width, heads and tokens, and what nobody chose
    "mha": {"kv_heads": None, "bias": True, "qk_norm": False},
    "mqa": {},
    "gqa": {"groups": None},
    "mla": {"rank": None, "rotated": None, "bias": True},
    "cosine": {"scale": 10.0, "learned": True},
    "gated": {"gate": "channel", "bias": True},
    "differential": {"initial": 0.2, "bias": True},
    "window": {"radius": 8, "global_prefix": False},
    "sinkwindow": {"radius": 8, "global_prefix": False, "groups": None, "bias": True},
    "window2d": {"tile": (4, 4), "shift": (0, 0)},
    "additive": {"score": "additive", "hidden": None, "bias": True},
    "linear": {"bias": True},
    "performer": {"features": 64, "seed": None, "bias": True},
    "linformer": {"slots": None, "shared": False, "shorter": False, "bias": True},
    "nystrom": {"landmarks": 16, "steps": 6, "bias": True},
    "xca": {"bias": True},
    "axial": {"terms": (), "mode": "chain", "bias": True},
    "botnet2d": {},
    "mobilevit2d": {"patch": (2, 2), "bias": True},
    "separable": {"heads": 1, "patch": (1, 1), "bias": True},
    "proximity": {"sigma": 2.0, "bias": True},
    "uniform": {"bias": True},
}


def test_every_variant_of_a_saved_network_is_among_them() -> None:
    saved = {row["variant"] for folder in (BENCH, TEXT_BENCH) for row in bench_results(folder)}
    assert saved
    assert saved <= set(OWN) <= set(VARIANTS)


@pytest.mark.parametrize("name", OWN)
def test_what_nobody_chose(name: str) -> None:
    """Networks are saved with the options they were given, so another default would change networks that exist."""
    parameters = signature(VARIANTS[name].__init__).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty and p.name != "tokens"} == OWN[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_one_pass_is_named_and_whole_unless_asked_otherwise(name: str) -> None:
    x, network = features(COUNT), variant(name)
    usual, calls = network(x, queries=GRID)
    said, named = network(x, queries=GRID, mask=None, name="attention", layer=0, ablation=None, positions="own")
    assert torch.equal(usual, said)
    assert [(c.name, c.layer) for c in calls] == [(c.name, c.layer) for c in named]
    assert {(c.layer, c.branch, c.residual) for c in calls} == {(0, 0, True)}
