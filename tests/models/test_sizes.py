"""Pictures at larger sizes: preparation, interpolated positions, maps and residuals of larger grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attnviz
from attnviz.attention.positions.tables import resize_table
from attnviz.measures.heads import value_weighted
from attnviz.models import ImageModel
from attnviz.models.vit import ViT, ViTConfig
from attnviz.types import Sample, Tokens, Trace
from attnviz.ui.inputs.samples import open_sample
from tests.counting import largest


@pytest.fixture(scope="module")
def model() -> ImageModel:
    return attnviz.load("vit")


@pytest.fixture(scope="module")
def sample(model: ImageModel) -> Sample:
    return model.prepare(open_sample("vit", "cat").image, size=128)


@pytest.fixture(scope="module")
def trace(model: ImageModel, sample: Sample) -> Trace:
    return model(sample)


def test_a_picture_is_prepared_at_each_size(model: ImageModel) -> None:
    picture, found = open_sample("vit", "cat").image, []
    assert model.spec.input_sizes == (64, 128, 256, 512)
    for size in (None, *model.spec.input_sizes):
        one = model.prepare(picture, size=size)
        side = size or 64
        assert one.inputs["main"].shape == (3, side, side)
        assert one.image is not None
        assert one.image.size == (side, side)
        assert one.tokens["main"] == Tokens.patches(side // 4, side // 4, ["CLS"])
        found.append(one)
    assert found[0].digest == found[1].digest  # its own size, named or not
    assert len({one.digest for one in found}) == 4
    assert len({one.crop for one in found}) == 1


@pytest.mark.parametrize("size", [96, 32, 1024, 63])
def test_other_sizes_are_refused(model: ImageModel, size: int) -> None:
    with pytest.raises(ValueError, match=str(size)):
        model.prepare(open_sample("vit", "cat").image, size=size)


@pytest.mark.parametrize(
    "config", [{"variant": "linformer"}, {"variant": "window"}, {"variant": "axial"}, {"positions": "rotary"}]
)
def test_what_is_built_for_one_grid_has_one_size(config: dict[str, str]) -> None:
    network = ViT(ViTConfig(size=16, width=16, layers=1, heads=2, classes=2, pooling="mean", cls=False, **config))
    preparation = attnviz.load("vit").preparation
    assert ImageModel("small", network, preparation, ["a", "b"], ["", ""]).spec.input_sizes == ()


@pytest.mark.parametrize("variant", ["mha", "gqa", "cosine", "linear", "additive", "performer", "xca"])
def test_every_size_that_is_named_can_be_read(variant: str) -> None:
    network = ViT(ViTConfig(size=16, width=16, layers=2, heads=4, classes=2, variant=variant))
    preparation = attnviz.load("vit").preparation
    model = ImageModel("small", network, preparation, ["a", "b"], ["", ""])
    sizes = model.spec.input_sizes
    for size in sizes or (16,):
        one = model(model.prepare(np.zeros((50, 60, 3), np.uint8), size=size))
        torch.testing.assert_close(model.logits_from(one.residuals["main"][-1]), one.logits["class"])
    assert sizes == (16, 32, 64, 128)


def bicubic(old: int, new: int) -> np.ndarray:
    """Weights [new old] of cubic convolution with a = -1/2 (Keys 1981), rows divided by what lies inside."""
    distance = np.abs((np.arange(new)[:, None] + 0.5) * old / new - (np.arange(old) + 0.5))
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


def test_positions_are_interpolated_as_bicubic(model: ImageModel, trace: Trace) -> None:
    own = model.network.positions.double().numpy()
    once = bicubic(16, 32)
    grid = np.einsum("ir,jc,rcf->ijf", once, once, own[1:].reshape(16, 16, -1))
    used = trace.position_embeddings["main"]
    assert used is not None
    np.testing.assert_allclose(used[1:].double().numpy(), grid.reshape(1024, -1), atol=1e-5)
    np.testing.assert_array_equal(used[0].numpy(), own[0])
    shifted = np.roll(grid, 1, 0).reshape(1024, -1)  # a row too far
    assert np.abs(used[1:].double().numpy() - shifted).max() > 1e-2
    torch.testing.assert_close(
        resize_table(model.network.positions, 1, (16, 16), (32, 32)),
        torch.cat(
            [
                model.network.positions[:1],
                torch.nn.functional.interpolate(
                    model.network.positions[1:].T.reshape(1, -1, 16, 16), (32, 32), mode="bicubic", antialias=True
                )[0]
                .flatten(1)
                .T,
            ]
        ),
    )


def test_maps_of_a_larger_grid_follow_the_formula(trace: Trace) -> None:
    for call in (trace.calls[0], trace.calls[5]):
        query, key, value = (one.double() for one in (call.query, call.key, call.value))
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        torch.testing.assert_close(call.token_map().double(), weights, atol=1e-6, rtol=1e-4)
        assert call.output is not None
        torch.testing.assert_close(call.output.double(), weights @ value, atol=1e-5, rtol=1e-4)


def test_layers_of_a_larger_grid_make_the_answer(model: ImageModel, trace: Trace) -> None:
    residual = trace.residuals["main"][0]
    assert len(model.tokens_of(residual)) == 1025
    for index in range(6):
        residual = model.layer(index, residual)
    torch.testing.assert_close(model.logits_from(residual), trace.logits["class"], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="1024"):
        model.tokens_of(residual[1:])


def test_a_row_of_many_tokens_takes_memory_of_a_row(model: ImageModel) -> None:
    tokens = 4097
    trace = model(model.prepare(open_sample("vit", "cat").image, size=256))
    call = trace.calls[2]
    assert len(call.queries) == tokens
    made = largest(lambda: value_weighted(call, [1], [7]))
    assert made <= tokens * 192  # the projected values of one head; a map has 21 times that
    assert largest(lambda: call.token_map(rows=[7])) <= tokens * 192
