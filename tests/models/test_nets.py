"""Residual networks with attention in a bottleneck: parity of the block, what a trace holds, refusals, learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bottleneck_transformer_pytorch.bottleneck_transformer_pytorch import BottleBlock
from PIL import Image
from torch import Tensor, nn

from attnviz.attention.variants.axial import OffsetValues
from attnviz.edits import Edit, head_flags
from attnviz.methods.rollout import relevance
from attnviz.models import DamagedModel, ImageModel, ViT, save
from attnviz.models.image import Classifier
from attnviz.models.nets import NETS, SHAPES, Bottleneck, BottleneckConfig, BottleneckNet, Residual, built, pooled
from attnviz.models.store import open_network, open_vit
from attnviz.training.images.data import DATA, Pictures
from attnviz.training.images.digits import NETWORKS, recipe_of
from attnviz.training.images.evaluate import evaluate, open_trained, predict_logits
from attnviz.training.images.loop import Run, train
from attnviz.types import Mask, Tokens, UnsupportedMask

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("name", NETS)


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Random pixels."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module) -> nn.Module:
    """The module with statistics of batch norm as after training: none of them one or zero."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (part.weight, part.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (part.bias, part.running_mean):
                    tensor.normal_(std=0.3)
    return module


def made(name: str, **changes: object) -> BottleneckNet:
    """A network from a fixed seed, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = BottleneckNet(replace(NETS[name], **changes))
        shaken(network)
    return network.eval()


@pytest.fixture(scope="module")
def digits() -> Pictures:
    """The training digits."""
    return DATA["digits"]("train")


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_of_bottleneck_transformer_pytorch(stride: int) -> None:
    """Whole blocks on copied parameters, no output projection; strided, without the shortcut, which differs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = shaken(
            BottleBlock(
                dim=24,
                fmap_size=(4, 6),
                dim_out=24,
                proj_factor=2,
                downsample=stride == 2,
                heads=3,
                dim_head=4,
                rel_pos_emb=True,
            )
        ).eval()
    narrow, norm_1, _, attention, _, norm_2, _, widen, norm_3 = theirs.net
    config = BottleneckConfig(width=24, inner=12, heads=3, options={"bias": False})
    block = Bottleneck(config, Tokens.patches(4, 6), stride).eval()
    block.narrow.convolution, block.narrow.norm, block.norm = narrow, norm_1, nn.BatchNorm1d(12).eval()
    block.norm.load_state_dict(norm_2.state_dict())
    block.widen.convolution, block.widen.norm = widen, norm_3
    with torch.no_grad():
        parts = (block.attention.query, block.attention.key, block.attention.value)
        for part, weight in zip(parts, attention.to_qkv.weight[..., 0, 0].chunk(3), strict=True):
            part.weight.copy_(weight)
        block.attention.by_row.copy_(attention.pos_emb.rel_height)
        block.attention.by_column.copy_(attention.pos_emb.rel_width)
        nn.init.eye_(block.attention.out.weight)
        if block.shortcut is not None:
            block.shortcut.convolution.weight.zero_()
        x = noise(2, 24, 4, 6).relu()
        expected = theirs(x) if stride == 1 else theirs.net(x).relu()
        found, (call,) = block(x, queries=Tokens.patches(4, 6), name="layer 1", layer=0)
    assert expected.std() > 0.1
    assert len(call.queries) == 24  # the attention comes before the mean
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@BOTH
def test_what_a_trace_holds(name: str) -> None:
    network, pixels = made(name), noise(3, 1, 8, 8)
    trace = network(pixels)
    cells = trace.residuals["main"]
    assert [r.shape for r in cells] == [(3, 64, 48)] * 3
    assert torch.equal(trace.token_embeddings["main"], cells[0])
    assert trace.position_embeddings == {"main": None}
    assert [call.layer for call in trace.calls] == ([0, 1] if name == "botnet" else [0, 0, 1, 1])
    assert all(call.queries.grid == (8, 8) and call.queries.stream == "main" for call in trace.calls)
    torch.testing.assert_close(trace.pooling["main"].sum(-1), torch.ones(3))
    assert trace.logits["class"].shape == (3, 1, 10)
    torch.testing.assert_close(network.classify(cells[-1].mean(-2)), trace.logits["class"][:, 0])
    assert sum(p.numel() for p in network.parameters()) <= 200_000
    for call in trace.calls:
        weights = call.token_map()
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
        if name == "botnet":
            torch.testing.assert_close(weights @ call.value, call.output, atol=1e-5, rtol=0)
        else:
            assert isinstance(call.rule, OffsetValues)
            assert [title for title, _ in call.biases] == ["query and offset", "key and offset"]
        assert call.gradient(trace.logits["class"][0, 0, 2]).abs().max() > 0
    rows = relevance(trace)
    torch.testing.assert_close(rows["main"].sum(-1), torch.ones(3))


@BOTH
def test_batched_is_unbatched_and_evaluation_is_deterministic(name: str) -> None:
    """Neighbours in a batch change nothing, and neither does having looked before: no dropout, no new statistics."""
    network, pixels = made(name), noise(2, 3, 1, 8, 8)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    together, again, alone = network(pixels), network(pixels), network(pixels[1, 2])
    assert torch.equal(together.logits["class"], again.logits["class"])
    torch.testing.assert_close(together.logits["class"][1, 2], alone.logits["class"], atol=1e-5, rtol=0)
    for one, other in zip(together.calls, alone.calls, strict=True):
        torch.testing.assert_close(one.output[1, 2], other.output, atol=1e-5, rtol=0)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


@BOTH
def test_gradients_reach_every_parameter(name: str) -> None:
    network = made(name, strides=(2, 1)).train()
    network(noise(8, 1, 8, 8)).logits["class"].square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # A bias of the keys shifts every score of a row alike; one before batch norm is taken away again.
        silent = key.endswith(("key.bias", "attention.out.bias", "attention.value.bias"))
        assert silent or parameter.grad.abs().max() > 0, key


@BOTH
def test_zeroed_branches_leave_their_input_alone(name: str) -> None:
    network = made(name)
    with torch.no_grad():
        for block in network.blocks:
            block.widen.norm.weight.zero_(), block.widen.norm.bias.zero_()
        first, *others = network(noise(1, 8, 8)).residuals["main"]
        assert first.min() == 0 < first.max()
        assert all(torch.equal(first, other) for other in others)
        block, x = Residual(6).eval(), noise(2, 6, 4, 4).relu()
        block.second.norm.weight.zero_()
        assert torch.equal(block(x), x)


def test_strides_give_each_grid_a_stream() -> None:
    """Attention among 8 x 8 cells, then their mean by fours; a rollout starts among the 4 x 4 and ends there."""
    trace = made("botnet", strides=(2, 1))(noise(2, 1, 8, 8))
    assert [call.queries.stream for call in trace.calls] == ["grid 8 x 8", "main"]
    assert {name: len(r) for name, r in trace.residuals.items()} == {"grid 8 x 8": 1, "main": 2}
    assert trace.residuals["main"][0].shape == (2, 16, 48)
    assert list(relevance(trace)) == ["main"]
    assert BottleneckConfig(strides=(2, 1)).patch == 2
    cells = torch.arange(16.0).reshape(1, 4, 4)
    assert pooled(cells, 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert pooled(cells, 1) is cells


@BOTH
def test_a_silenced_head_changes_its_own_layer_on(name: str) -> None:
    network, pixels = made(name), noise(1, 8, 8)
    own, quiet = network(pixels), network(pixels, edit=Edit(ablated_heads=head_flags(2, 4, [(1, 0)])))
    assert all((call.output[0] == 0).all() for call in quiet.calls if call.layer == 1)
    assert torch.equal(own.residuals["main"][1], quiet.residuals["main"][1])
    assert not torch.equal(own.residuals["main"][2], quiet.residuals["main"][2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edit": Edit(embeddings=torch.zeros(64, 48))}, "so it has no embeddings to replace"),
        ({"edit": Edit(keep_tokens=torch.ones(64, dtype=torch.bool))}, "none can be removed alone"),
        ({"visible": torch.arange(5)}, "none can be removed alone"),
        ({"edit": Edit(positions="none")}, "so it has no positions to change"),
    ],
)
def test_what_is_not_served_is_refused_in_words(options: dict, message: str) -> None:
    with pytest.raises(UnsupportedMask, match=message):
        made("botnet")(noise(1, 8, 8), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BottleneckConfig(variant="magic"), "variant is 'magic'; known: mha"),
        (lambda: BottleneckConfig(strides=(1, 3)), "a stride is 3; it must be 1 or 2"),
        (lambda: BottleneckConfig(strides=()), "strides is empty"),
        (lambda: BottleneckConfig(size=9, stride=2), "9 x 9 px does not divide by the product of strides, 2"),
        (lambda: made("botnet", strides=(2, 1))(noise(1, 7, 8)), "8 x 7 px does not divide"),
        (lambda: made("botnet")(noise(1, 12, 12)), "12 x 12"),
    ],
)
def test_shapes_that_fail_are_named(make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.trains
@BOTH
def test_it_learns_the_digits(name: str, digits: Pictures, tmp_path: Path) -> None:
    """A few pictures suffice for 9 of 10; what was saved is opened as the same network."""
    held, recipe = DATA["digits"]("val"), replace(recipe_of(name, steps=40), batch=96, ema_decay=0.8)
    network, _ = train(recipe, device=CPU, pictures=digits)
    assert isinstance(network, BottleneckNet)
    model = open_trained(recipe, network, held)
    facts = evaluate(model, held)  # and no patches are removed, which it could not do without
    assert facts["top1"] >= 90
    assert "top1_with_patches" not in facts
    save(model, tmp_path / name, "# a card\n", {"top1": facts["top1"]})
    opened = open_network(tmp_path / name)
    assert type(opened) is Classifier
    assert opened.config.strides == (1, 1)
    assert torch.equal(predict_logits(opened, held, 0, 20), predict_logits(model, held, 0, 20))
    sample = opened.prepare(Image.fromarray(held.images[0, :, :, 0]))
    trace = opened(sample)
    assert trace.sample is sample
    assert len(sample.tokens["main"]) == 64
    torch.testing.assert_close(opened.logits_from(trace.residuals["main"][-1]), trace.logits["class"])
    torch.testing.assert_close(opened.layer(1, trace.residuals["main"][1]), trace.residuals["main"][2])
    with pytest.raises(DamagedModel, match="does not describe a vision transformer"):
        open_vit(tmp_path / name)


def test_the_average_gets_statistics_of_its_own(digits: Pictures) -> None:
    """Those gathered while parameters move fast lag behind, and a network that knows the digits names few of them."""
    run = Run(replace(recipe_of("botnet"), batch=64), digits, CPU)
    run.advance()
    kept = {key: p.clone() for key, p in run.shipped.named_parameters()}
    run.update_batch_norm()
    stem = run.shipped.stem
    with torch.no_grad():
        means = [stem.convolution(pixels).mean((0, 2, 3)) for pixels in run.clean_batches()]
    assert len(means) == 20
    torch.testing.assert_close(stem.norm.running_mean, torch.stack(means).mean(0), atol=1e-5, rtol=0)
    assert stem.norm.momentum == 0.1
    assert not run.shipped.training
    assert all(torch.equal(kept[key], p) for key, p in run.shipped.named_parameters())


def test_clipping_clips(digits: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss a thousand times too large leaves gradients of norm `clip` over all parameters, convolutions included."""
    run = Run(replace(recipe_of("botnet"), max_grad_norm=0.5, batch=32), digits, CPU)
    seen: list[float] = []
    step = run.optimisers[0].step

    def looked_at(*args: object) -> object:
        seen.append(torch.cat([p.grad.flatten() for p in run.network.parameters() if p.grad is not None]).norm().item())
        return step()

    monkeypatch.setattr(run.optimisers[0], "step", looked_at)
    with torch.no_grad():
        run.network.classify.weight.mul_(1000)
    run.advance()
    assert seen == [pytest.approx(0.5, rel=1e-3)]
    assert run.network.training
    assert not run.shipped.training


def test_muon_has_the_matrices_inside_the_blocks(digits: Pictures) -> None:
    run = Run(replace(recipe_of("axialnet"), batch=32), digits, CPU)
    inside, rest = ([p for group in o.param_groups for p in group["params"]] for o in run.optimisers)
    assert len(inside) == 2 * 8
    assert all(p.shape == (32, 32) for p in inside)
    assert len(inside) + len(rest) == len(list(run.network.parameters()))
    assert any(p.ndim == 4 for p in rest)


def test_a_recipe_that_hides_patches_is_refused(digits: Pictures) -> None:
    recipe = replace(recipe_of("botnet"), patch_keep_schedule=((0.0, 0.5), (0.5, 1.0)))
    with pytest.raises(ValueError, match="botnet drops patches while training, but its network needs all of them"):
        Run(recipe, digits, CPU)


def test_a_shape_knows_its_network() -> None:
    assert set(SHAPES) == {"vit", "bottleneck"}
    kinds = {name: type(built(config)) for name, (_, config) in NETWORKS.items()}
    assert kinds == {"vit-mha": ViT, "vit-mqa": ViT, "botnet": BottleneckNet, "axialnet": BottleneckNet}
    network = built(NETWORKS["vit-mqa"][1])
    assert isinstance(open_trained(recipe_of("vit-mqa"), network, DATA["digits"]("val")), ImageModel)


@pytest.mark.parametrize(("name", "parameters"), [("botnet", 58_202), ("axialnet", 67_610)])
def test_it_starts_calm_and_unsure(name: str, parameters: int) -> None:
    """Convolutions by their outputs, matrices at 1/root(inputs), the answer a tenth of that."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = built(NETS[name])
        stem = built(replace(NETS[name], channels=3, width=64)).stem.convolution.weight
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert stem.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)
    assert network.blocks[0].attention.out.weight.std().item() == pytest.approx(32**-0.5, rel=0.1)
    assert network.classify.weight.std().item() == pytest.approx(0.1 * 48**-0.5, rel=0.1)


def test_a_stem_with_a_stride_leaves_every_other_cell() -> None:
    network = made("botnet", stride=2)
    assert network.config.patch == 2
    trace = network(noise(1, 8, 8))
    assert trace.calls[0].queries.grid == (4, 4)
    assert trace.residuals["main"][0].shape == (16, 48)


def test_a_mask_reaches_the_attention() -> None:
    """Keys may be hidden inside one bottleneck, for methods that look inside, though no cell leaves the network."""
    network, keep = made("botnet"), torch.arange(64) < 40
    x, tokens = network(noise(1, 8, 8)).residuals["main"][0], Tokens.patches(8, 8)
    _, (call,) = network.layer(0, x, tokens=tokens, mask=Mask(key_padding=keep))
    assert (call.token_map()[..., 40:] == 0).all()
