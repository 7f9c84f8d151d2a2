"""MobileViT v1 and v2 whole: parity with Hugging Face on copied parameters, shapes, what they record, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnviz.edits import Edit, head_flags
from attnviz.methods.rollout import relevance
from attnviz.models.convolutions import InvertedResidual, round_channels, to_map, to_tokens
from attnviz.models.mobilevit import MOBILEVITS, Hybrid, MobileViT, MobileViTConfig, stage_tokens
from attnviz.models.mobilevit2 import JointNorm, MobileViT2, mobilevit2
from tests.mobilevit_twins import KINDS, LAYER_1, LAYER_2, hugging_face_twin, made, noise, their_state

SMALL = {"size": 64, "strides": (2, 1, 1, 2, 2, 1), "classes": 5}  # stages of 16, 8 and 8 pixels a side


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 192)])
def test_hugging_face_logits_and_stages(kind: str, height: int, width: int) -> None:
    network, pixels = made(kind), noise(2, 3, height, width)
    with torch.no_grad():
        expected = hugging_face_twin(network)(pixels, output_hidden_states=True)
        trace, passed = network(pixels), list(network.passes(pixels))
    assert expected.logits.std() > 0.1
    torch.testing.assert_close(trace.logits["class"][:, 0], expected.logits, atol=1e-10, rtol=1e-10)
    for ours, theirs in zip(passed[1:], expected.hidden_states, strict=True):
        torch.testing.assert_close(ours.features, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_while_training(kind: str) -> None:
    """With the statistics of the batch: the same logits, gradients and running statistics."""
    network, pixels = made(kind, dropout=0.0).train(), noise(2, 3, 128, 128)
    twin = hugging_face_twin(network).train()
    expected, logits = twin(pixels).logits, network(pixels).logits["class"][:, 0]
    torch.testing.assert_close(logits, expected, atol=1e-9, rtol=1e-9)
    logits[:, 3].sum().backward()
    expected[:, 3].sum().backward()
    torch.testing.assert_close(
        network.stem.convolution.weight.grad,
        next(p for name, p in twin.named_parameters() if "conv_stem.convolution" in name).grad,
        atol=1e-8,
        rtol=1e-6,
    )
    prefix, names = ("mobilevitv2", LAYER_2) if kind == "v2" else ("mobilevit", LAYER_1)
    theirs = twin.state_dict()
    for name, tensor in their_state(network, prefix, names).items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_within_1e_5(kind: str) -> None:
    network, pixels = made(kind), noise(1, 3, 128, 128)
    with torch.no_grad():
        expected = hugging_face_twin(network).float()(pixels.float()).logits
        logits = network.float()(pixels.float()).logits["class"][:, 0]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_stage_shapes_at_256(kind: str) -> None:
    """Some code never makes the maps smaller: these are 128-64-32-16-8 pixels a side, the stem's first."""
    network = made(kind).float()
    with torch.no_grad():
        passed = list(network.passes(torch.zeros(3, 256, 256)))
    names = ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "stage 5"]
    assert [p.name for p in passed] == names
    sides = [128, 128, 64, 32, 16, 8]
    assert [tuple(p.features.shape[1:]) for p in passed] == [(side, side) for side in sides]
    assert [p.features.shape[0] for p in passed] == list(network.config.channels)
    assert [len(p.residuals) for p in passed] == [0, 0, 0, 3, 5, 4]


@pytest.mark.parametrize(
    ("network", "config", "count"),
    [
        (MobileViT, MOBILEVITS["xxs"], 1_272_024),
        (MobileViT, MOBILEVITS["xs"], 2_317_848),
        (MobileViT, MOBILEVITS["s"], 5_578_632),
        (MobileViT2, mobilevit2(0.5), 1_370_593),
        (MobileViT2, mobilevit2(1.0), 4_901_841),
        (MobileViT2, mobilevit2(2.0), 18_449_329),
    ],
)
def test_parameter_counts_of_the_papers(network: type[Hybrid], config: MobileViTConfig, count: int) -> None:
    with torch.device("meta"):
        made = network(config)
    assert sum(p.numel() for p in made.parameters()) == count


@pytest.mark.parametrize(("kind", "millions"), [("v1", 407), ("v2", 466)])
def test_multiply_adds_of_the_papers(kind: str, millions: int) -> None:
    """0.41 and 0.47 thousand million at 256 px. The counter sees no fused kernel; `cost` knows its two products."""
    network, pixels = made(kind).float(), torch.zeros(3, 256, 256)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        calls = network(pixels).calls
    layers = [block.attention for stage in network.stages for block in stage.blocks]
    unseen = 0
    for call, layer in zip(calls, layers, strict=True):
        count = len(call.queries)
        unseen += layer.cost(count, count).multiply_adds - 4 * count * layer.width**2 if kind == "v1" else 0
    assert (counter.get_total_flops() / 2 + unseen) / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_trace_holds(kind: str) -> None:
    network = made(kind, **SMALL)
    trace = network(noise(3, 64, 64))
    streams = {"stage 3": (16, 2), "stage 4": (8, 4), "stage 5": (8, 3)}
    assert list(trace.residuals) == list(trace.token_embeddings) == list(streams)
    assert [call.layer for call in trace.calls] == list(range(9))
    assert trace.calls[2].name == "stage 4, layer 1"
    for (stream, (side, layers)), features in zip(streams.items(), network.config.widths, strict=True):
        calls = [call for call in trace.calls if call.queries.stream == stream]
        assert len(calls) == layers == len(trace.residuals[stream]) - 1
        assert all(r.shape == (side * side, features) for r in trace.residuals[stream])
        assert calls[0].queries.grid == (side, side)
        assert all(call.mask is not None and call.mask.groups is not None for call in calls)
        assert torch.equal(trace.token_embeddings[stream], trace.residuals[stream][0])
        assert trace.position_embeddings[stream] is None
    assert trace.pooling["stage 5"].sum().item() == pytest.approx(1)
    assert trace.logits["class"].shape == (1, 5)
    for call in trace.calls:
        assert call.gradient(trace.logits["class"][0, 2]).abs().max() > 0
        torch.testing.assert_close(call.token_map().sum(-1), torch.ones_like(call.token_map().sum(-1)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_ends_at_the_convolutions(kind: str) -> None:
    """It starts at the readout, in stage 5, and never enters the streams before."""
    rows = relevance(made(kind, **SMALL)(noise(3, 64, 64)))
    assert list(rows) == ["stage 5"]
    assert rows["stage 5"].shape == (64,)
    assert rows["stage 5"].sum().item() == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_zeroed_branches_leave_their_input_alone(kind: str) -> None:
    """Some code adds the input twice, so that a silent branch doubles it."""
    network = made(kind, **SMALL)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".attention.out." in name or ".mlp.2." in name or "reduce.norm" in name:
                parameter.zero_()
        trace = network(noise(3, 64, 64))
        for residuals in trace.residuals.values():
            assert all(torch.equal(residuals[0], residual) for residual in residuals)
        block, x = network.early[1][1], noise(network.config.channels[2], 8, 8)
        assert torch.equal(block(x), x)
        assert (network.early[1][0](noise(network.config.channels[1], 8, 8)) == 0).all()  # other shape: nothing added


@pytest.mark.parametrize("kind", KINDS)
def test_batched_is_unbatched(kind: str) -> None:
    network, pixels = made(kind, **SMALL), noise(2, 2, 3, 64, 64)
    together = network(pixels)
    assert together.pooling["stage 5"].shape == (2, 2, 64)
    alone = network(pixels[1, 0])
    torch.testing.assert_close(together.logits["class"][1, 0], alone.logits["class"], atol=1e-10, rtol=0)
    torch.testing.assert_close(together.calls[4].output[1, 0], alone.calls[4].output, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_silenced_head_changes_its_own_layer_on(kind: str) -> None:
    network, pixels = made(kind, **SMALL), noise(3, 64, 64)
    own, quiet = (
        network(pixels),
        network(pixels, edit=Edit(ablated_heads=head_flags(9, network.config.heads, [(3, 0)]))),
    )  # the second layer of stage 4
    assert (quiet.calls[3].output[0] == 0).all()
    assert torch.equal(own.residuals["stage 4"][1], quiet.residuals["stage 4"][1])
    assert (own.residuals["stage 4"][2] - quiet.residuals["stage 4"][2]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="ablated_heads has 7 heads"):
        network(pixels, edit=Edit(ablated_heads=torch.ones(9, 7, dtype=torch.bool)))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_small_pictures(kind: str) -> None:
    """64 px with fewer strides: forward, backward, a step, and the loss falls; every parameter gets a gradient."""
    network, config = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = network(replace(config, dropout=0.0, **SMALL)).train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    pixels, labels, losses = noise(3, 3, 64, 64).float(), torch.arange(3), []
    for _ in range(4):
        loss = nn.functional.cross_entropy(module(pixels).logits["class"][:, 0], labels)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_dropout_only_while_training() -> None:
    network, pixels = made("v1", **SMALL), noise(2, 3, 64, 64)
    assert torch.equal(network(pixels).logits["class"], network(pixels).logits["class"])
    network.train()
    assert not torch.equal(network(pixels).logits["class"], network(pixels).logits["class"])


def test_dropout_takes_away_what_a_branch_adds() -> None:
    layer = made("v1", **SMALL).float().stages[0].blocks[0].train()
    layer.dropout.p = 1.0
    x = noise(256, 64).float()
    assert torch.equal(layer(x, queries=stage_tokens(16, 16, "stage 3"))[0], x)
    assert MobileViTConfig().dropout == 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_calm_and_unsure(kind: str) -> None:
    network, config = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = network(replace(config, **{**SMALL, "classes": 50}))
    stem, mlp = fresh.stem.convolution.weight, fresh.stages[2].blocks[0].mlp[0].weight
    assert stem.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.15)
    assert mlp.std().item() == pytest.approx(config.widths[2] ** -0.5, rel=0.1)
    assert fresh.classify.weight.std().item() == pytest.approx(0.1 * fresh.classify.in_features**-0.5, rel=0.1)


def test_channels_of_the_stem_have_bounds_and_hidden_features_a_step() -> None:
    assert [mobilevit2(alpha).channels[0] for alpha in (0.25, 0.5, 2.0, 3.0)] == [16, 16, 64, 64]
    with torch.device("meta"):
        stages = MobileViT2(mobilevit2(0.5, mlp=1.25, **SMALL)).stages
    assert [stage.blocks[0].mlp[0].out_features for stage in stages] == [80, 112, 160]  # of 80, 120 and 160


def test_strides_change_no_parameter() -> None:
    """So a network trained on large pictures can be opened for small ones."""
    made("v1", strides=(1, 1, 2, 2, 2, 1), size=64).load_state_dict(made("v1").state_dict())


def test_joint_norm_is_a_group_norm_of_one_group() -> None:
    norm, x = JointNorm(6).double(), noise(2, 12, 6)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    expected = nn.functional.group_norm(x.transpose(1, 2), 1, norm.weight, norm.bias, 1e-5).transpose(1, 2)
    torch.testing.assert_close(norm(x), expected)


def test_channel_counts_and_layouts() -> None:
    assert [round_channels(count) for count in (3, 12, 16.0, 19, 20)] == [8, 16, 16, 24, 24]
    assert round_channels(40, 16) == 48
    x = noise(2, 5, 3, 4)
    assert torch.equal(to_tokens(x)[1, 7], x[1, :, 1, 3])
    assert torch.equal(to_map(to_tokens(x), (3, 4)), x)
    assert InvertedResidual(8, 8).adds
    assert InvertedResidual(8, 8).expand.convolution.out_channels == 32
    assert not InvertedResidual(8, 16).adds
    assert not InvertedResidual(8, 8, stride=2).adds


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((100, 128), r"128 x 100 px does not divide by 32, the strides multiplied"),
        ((0, 0), r"0 x 0 px does not divide by 32"),
        ((96, 128), r"128 x 96 px leaves stage 5 a grid of 3 x 4, which does not divide into patches of 2 x 2"),
    ],
)
def test_sizes_that_do_not_divide(size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made("v1")(noise(3, *size))


CHANGES: list[tuple[Callable[[], object], str]] = [
    (lambda: MobileViTConfig(size=48), "48 x 48 px does not divide by 32"),
    (lambda: MobileViTConfig(strides=(2, 1, 2, 2, 4, 2)), "a stride is 4; it must be 1 or 2"),
    (lambda: MobileViTConfig(widths=(64, 80)), "widths has 2 entries, expected 3"),
    (lambda: MobileViT(MobileViTConfig(widths=(66, 80, 96))), "width 66 does not split into 4 heads"),
]


@pytest.mark.parametrize(("make", "message"), CHANGES)
def test_shapes_that_cannot_be_built(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
