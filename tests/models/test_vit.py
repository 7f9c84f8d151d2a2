"""The vision transformer: parity with Hugging Face, patches, positions, and what it records."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.attention import POSITIONS, VARIANTS
from attnviz.edits import Edit, head_flags
from attnviz.models.vit import ViT, ViTConfig, loss_of, patchify, superclass_loss_of, unpatchify
from attnviz.types import Trace, UnsupportedMask

SMALL = ViTConfig(size=16, patch=4, width=24, layers=2, heads=4, mlp=2, classes=5)


def made(config: ViTConfig = SMALL) -> ViT:
    """A network from a fixed seed, its small initial values enlarged so that differences show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ViT(config)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return network.double().eval()


def picture(*shape: int, seed: int = 0) -> Tensor:
    """Random pixels."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answer(trace: Trace) -> Tensor:
    """Class logits of the trace."""
    return trace.logits["class"]


def hugging_face_twin(network: ViT):
    """transformers' ViT of the same shape with our parameters."""
    from transformers import ViTConfig as TheirConfig
    from transformers import ViTForImageClassification

    shape = network.config
    config = TheirConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.mlp * shape.width,
        image_size=shape.size,
        patch_size=shape.patch,
        num_labels=shape.classes,
        layer_norm_eps=1e-6,
        attn_implementation="eager",
    )
    state = network.state_dict()
    theirs = {
        "vit.embeddings.cls_token": state["prefix"][None],
        "vit.embeddings.position_embeddings": state["positions"][None],
        "vit.embeddings.patch_embeddings.projection.weight": state["embed.weight"].unflatten(1, (3, 4, 4)),
        "vit.embeddings.patch_embeddings.projection.bias": state["embed.bias"],
    }
    names = {
        "attention_norm": "layernorm_before",
        "mlp_norm": "layernorm_after",
        "mlp.0": "mlp.fc1",
        "mlp.2": "mlp.fc2",
        "attention.query": "attention.q_proj",
        "attention.key": "attention.k_proj",
        "attention.value": "attention.v_proj",
        "attention.out": "attention.o_proj",
    }
    for layer, (ours, their), part in (
        (layer, pair, part) for layer in range(shape.layers) for pair in names.items() for part in ("weight", "bias")
    ):
        theirs[f"vit.layers.{layer}.{their}.{part}"] = state[f"blocks.{layer}.{ours}.{part}"]
    for ours, their in (("norm", "vit.layernorm"), ("classify", "classifier")):
        theirs |= {f"{their}.{part}": state[f"{ours}.{part}"] for part in ("weight", "bias")}
    twin = ViTForImageClassification(config).double().eval()
    twin.load_state_dict(theirs)
    return twin


def test_hugging_face_vit() -> None:
    network, pixels = made(), picture(2, 3, 16, 16)
    with torch.no_grad():
        expected = hugging_face_twin(network)(pixels, output_attentions=True, output_hidden_states=True)
        trace = network(pixels)
    torch.testing.assert_close(answer(trace)[:, 0], expected.logits)
    for call, attention in zip(trace.calls, expected.attentions, strict=True):
        torch.testing.assert_close(call.token_map(), attention)
    # Their last hidden state is after the final norm; the ones before it are our residuals.
    for ours, theirs in zip(trace.residuals["main"][:-1], expected.hidden_states[:-1], strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 8, 12), (3, 12, 4)])
def test_patches_are_torch_unfold(channels: int, height: int, width: int) -> None:
    pixels = picture(2, channels, height, width)
    patches = patchify(pixels, 4)
    assert torch.equal(patches, F.unfold(pixels, 4, stride=4).transpose(1, 2))
    assert torch.equal(patches[0, 0].unflatten(0, (channels, 4, 4)), pixels[0, :, :4, :4])
    assert torch.equal(unpatchify(patches, (height // 4, width // 4), 4), pixels)
    assert torch.equal(patchify(pixels[0], 4), patches[0])


def test_sizes_that_patches_do_not_divide() -> None:
    with pytest.raises(ValueError, match="14 x 16 px does not divide into patches of 4 px"):
        made()(picture(3, 16, 14))
    with pytest.raises(ValueError, match="15 px does not divide"):
        ViTConfig(size=15)
    with pytest.raises(ValueError, match="needs a CLS token"):
        ViTConfig(cls=False)
    with pytest.raises(ValueError, match="known: learned"):
        ViTConfig(positions="rotten")


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("prefix", [{}, {"registers": 2}, {"cls": False, "pooling": "mean"}, {"pooling": "mean"}])
def test_every_variant_position_and_readout(name: str, positions: str, prefix: dict) -> None:
    config = replace(SMALL, variant=name, positions=positions, **prefix)
    if POSITIONS[positions].relative is not None and not VARIANTS[name].supports_relative_positions:
        with pytest.raises(UnsupportedMask) as raised:
            made(config)
        assert raised.value.reason == VARIANTS[name].positions_reason
        return
    network = made(config)
    count = 16 + len(network.config.prefix)
    if network.config.prefix and "prefix" not in VARIANTS[name].supported_masks:
        with pytest.raises(UnsupportedMask, match="does not support"):
            network(picture(3, 16, 16))
        return
    trace = network(picture(3, 16, 16))
    assert answer(trace).shape == (1, 5)
    assert {call.layer for call in trace.calls} == {0, 1}
    assert len(trace.residuals["main"]) == 3
    assert trace.calls[1].queries.labels[: len(network.config.prefix)] == network.config.prefix
    assert trace.pooling["main"].sum().item() == pytest.approx(1)
    summed = trace.token_embeddings["main"] + trace.position_embeddings["main"]
    torch.testing.assert_close(summed, trace.residuals["main"][0])
    assert trace.residuals["main"][-1].shape == (count, 24)
    torch.testing.assert_close(
        answer(network(picture(4, 3, 16, 16)))[2], answer(network(picture(4, 3, 16, 16)[2])), atol=1e-12, rtol=0
    )


def test_pooling() -> None:
    cls, mean = made(replace(SMALL, registers=1)), made(replace(SMALL, pooling="mean", registers=1))
    assert cls(picture(3, 16, 16)).pooling["main"].tolist() == [1.0] + [0.0] * 17
    assert mean(picture(3, 16, 16)).pooling["main"].tolist() == [0.0, 0.0] + [1 / 16] * 16


def test_a_share_is_exact_in_half_precision_too() -> None:
    network = made(replace(SMALL, pooling="mean", cls=False, size=12))
    tokens = network(picture(3, 12, 12)).calls[0].queries
    share = network.pooling_weights(tokens, torch.zeros(9, 24, dtype=torch.bfloat16))
    assert share.tolist() == pytest.approx([1 / 9] * 9, abs=1e-7)


def test_the_prefix_is_named_and_the_mlp_rounded() -> None:
    assert ViTConfig(registers=2).prefix == ("CLS", "REG 1", "REG 2")
    assert ViTConfig(cls=False, pooling="mean").prefix == ()
    assert ViT(replace(SMALL, mlp=2.7)).blocks[0].mlp[0].out_features == 65  # 64.8


def test_it_starts_calm_and_unsure() -> None:
    """Matrices at 1/root(inputs), what writes into the residual smaller, prefix and answer smaller still."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ViT(replace(SMALL, width=64, layers=3, registers=99, classes=50))
    spread = {name: float(parameter.detach().std()) for name, parameter in network.named_parameters()}
    plain, writers = 64**-0.5, 6**-0.5
    for layer in range(3):
        assert spread[f"blocks.{layer}.attention.value.weight"] == pytest.approx(plain, rel=0.1)
        assert spread[f"blocks.{layer}.attention.out.weight"] == pytest.approx(plain * writers, rel=0.1)
        assert spread[f"blocks.{layer}.mlp.2.weight"] == pytest.approx(128**-0.5 * writers, rel=0.1)
    assert spread["embed.weight"] == pytest.approx(48**-0.5, rel=0.1)
    assert spread["classify.weight"] == pytest.approx(0.1 * plain, rel=0.1)
    assert spread["prefix"] == pytest.approx(0.02, rel=0.1)
    assert not any(parameter.any() for name, parameter in network.named_parameters() if name.endswith("e.bias"))


def test_the_loss_by_hand() -> None:
    """With smoothing, a share of the answer lies on all classes alike; of a group, its probabilities add up."""
    shares = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.3, 0.4, 0.2]])
    labels, groups = torch.tensor([1, 0]), torch.tensor([0, 1, 1, 0])
    logits = shares.log() + torch.tensor([[3.0], [-2.0]])  # logits are not normalised
    trace = Trace(None, {}, {}, (), {}, {}, {"class": logits[:, None]})
    plain = -(torch.tensor(0.2).log() + torch.tensor(0.1).log()) / 2
    even = -shares.log().mean()
    torch.testing.assert_close(loss_of(trace, labels), plain)
    torch.testing.assert_close(loss_of(trace, labels, 0.3), 0.7 * plain + 0.3 * even)
    together = -(torch.tensor(0.4).log() + torch.tensor(0.3).log()) / 2
    torch.testing.assert_close(superclass_loss_of(trace, labels, groups), together)


def test_pictures_that_are_not_square() -> None:
    """Positions are resized; at the trained size they are the table itself."""
    network = made()
    trace = network(picture(3, 8, 24))
    assert trace.calls[0].queries.grid == (2, 6)
    assert trace.position_embeddings["main"].shape == (13, 24)
    assert torch.equal(trace.position_embeddings["main"][0], network.positions[0])
    assert torch.equal(network(picture(3, 16, 16)).position_embeddings["main"], network.positions)


def test_visible_patches_are_kept_patches() -> None:
    """Leaving patches out and masking them away give the same answer."""
    for config in (SMALL, replace(SMALL, pooling="mean")):
        network, pixels = made(config), picture(2, 3, 16, 16)
        visible = torch.tensor([[0, 5, 9, 15], [14, 2, 3, 4]])
        keep = torch.zeros(2, 17, dtype=torch.bool)
        keep[:, 0] = True
        keep.scatter_(1, visible + 1, True)
        few = network(pixels, visible=visible)
        torch.testing.assert_close(answer(few), answer(network(pixels, edit=Edit(keep_tokens=keep))))
        assert few.calls[0].query.shape[-2] == 5


def test_removed_tokens_leave_everything() -> None:
    network, pixels = made(replace(SMALL, pooling="mean")), picture(3, 16, 16)
    keep = torch.ones(17, dtype=torch.bool)
    keep[[0, 7]] = False
    trace = network(pixels, edit=Edit(keep_tokens=keep))
    assert trace.pooling["main"][7] == 0
    assert trace.pooling["main"].sum().item() == pytest.approx(1)
    assert (trace.calls[0].token_map()[..., [0, 7]] == 0).all()
    changed = pixels.clone()
    changed[:, 4:8, 8:12] += 5  # patch 6 = token 7
    torch.testing.assert_close(answer(network(changed, edit=Edit(keep_tokens=keep))), answer(trace), atol=0, rtol=0)
    both = network(pixels, edit=Edit(keep_tokens=torch.stack([keep, torch.ones(17, dtype=torch.bool)])))
    torch.testing.assert_close(answer(both), torch.stack([answer(trace), answer(network(pixels))]))
    nothing = network(pixels, edit=Edit(keep_tokens=torch.zeros(17, dtype=torch.bool)))
    assert answer(nothing).isfinite().all()


def test_without_positions_order_does_not_matter() -> None:
    """Shuffled patches give the same answer exactly when positions are off."""
    network, pixels = made(), picture(3, 16, 16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    shuffled = unpatchify(patchify(pixels, 4)[order], (4, 4), 4)
    blind, moved = (answer(network(p, edit=Edit(positions="none"))) for p in (pixels, shuffled))
    torch.testing.assert_close(moved, blind)
    own, other = (answer(network(p)) for p in (pixels, shuffled))
    assert (own - other).abs().max() > 1e-3
    assert (own - blind).abs().max() > 1e-3
    assert (answer(network(pixels, edit=Edit(positions="shuffled"))) - own).abs().max() > 1e-3
    with pytest.raises(ValueError, match="known: own, none, shuffled"):
        network(pixels, edit=Edit(positions="mine"))


def test_shuffled_positions_are_the_same_rows() -> None:
    network = made()
    shuffled = network.position_embeddings(4, 4, "shuffled")
    assert torch.equal(shuffled[0], network.positions[0])
    assert torch.equal(shuffled, network.position_embeddings(4, 4, "shuffled"))
    assert torch.equal(shuffled[1:].sort(0).values, network.positions[1:].sort(0).values)
    order = (shuffled[1:, None] == network.positions[None, 1:]).all(-1).int().argmax(-1)
    assert (order.diff().abs() == 1).sum() < 4, "hardly any two stay neighbours, as they would when turned round"


def test_zeroed_branches_leave_the_residual_alone() -> None:
    network = made()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".out." in name or ".mlp.2." in name:
                parameter.zero_()
    first, *later = network(picture(3, 16, 16)).residuals["main"]
    assert all(torch.equal(first, residual) for residual in later)


def test_reading_an_early_residual() -> None:
    """The logit lens: the last residual reads as the answer, an earlier one as something else."""
    network = made()
    trace = network(picture(3, 16, 16))
    lens = [network.logits_from(residual, trace.pooling["main"]) for residual in trace.residuals["main"]]
    torch.testing.assert_close(lens[-1], answer(trace)[0])
    assert (lens[0] - lens[-1]).abs().max() > 1e-3


def test_gradients_reach_every_recorded_output() -> None:
    network, pixels = made(), picture(3, 16, 16)
    trace = network(pixels)
    for call in trace.calls:
        gradient = call.gradient(answer(trace)[0, 2])
        assert gradient.shape == call.output.shape
        assert gradient.abs().max() > 0


def test_embeddings_take_the_place_of_content() -> None:
    network, pixels = made(), picture(3, 16, 16)
    own = network(pixels)
    content = own.token_embeddings["main"].detach().requires_grad_()
    again = network(pixels, edit=Edit(embeddings=content))
    torch.testing.assert_close(answer(again), answer(own))
    answer(again)[0, 1].backward()
    assert content.grad is not None
    torch.testing.assert_close(
        answer(network(pixels, edit=Edit(embeddings=torch.stack([content, content * 0]))))[0],
        answer(own),
        atol=1e-12,
        rtol=0,
    )


def test_a_silenced_head_changes_its_own_layer_on() -> None:
    network, pixels = made(), picture(3, 16, 16)
    own, quiet = (
        network(pixels),
        network(pixels, edit=Edit(ablated_heads=head_flags(SMALL.layers, SMALL.heads, [(1, 2)]))),
    )
    assert torch.equal(own.residuals["main"][1], quiet.residuals["main"][1])
    assert (own.residuals["main"][2] - quiet.residuals["main"][2]).abs().max() > 1e-3
    assert (quiet.calls[1].output[2] == 0).all()


def test_memory_of_a_trace_is_linear_in_tokens() -> None:
    """What a trace keeps for each token does not depend on how many there are."""

    def kept(size: int) -> float:
        trace = made(replace(SMALL, size=size))(picture(3, size, size))
        tensors = [t for c in trace.calls for t in (c.query, c.key, c.value, c.output)]
        tensors += [*trace.residuals["main"]]
        return sum(t.untyped_storage().nbytes() for t in tensors) / len(trace.calls[0].queries)

    assert kept(64) == pytest.approx(kept(16), rel=0.01)
