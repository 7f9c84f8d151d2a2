"""Each family recorded as its own eager attention computes, with its masks; others refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as library
from PIL import Image
from torch import Tensor

import attnviz
from attnviz.hub.errors import CannotOpen, CannotRecord
from attnviz.hub.structure import structure_of
from attnviz.hub.windows import windows_of
from attnviz.methods.base import NoRollout
from attnviz.types import AttentionCall
from tests.hub.families import FAMILIES, REFUSED, TEXT, Processor, built, enlarge, inputs, tokenizer


@contextmanager
def eager_weights(network: Any) -> Iterator[list[Tensor]]:
    """The weights that the network's own eager attention computes, in the order of its calls."""
    found: list[Tensor] = []
    hooks = [
        module.register_forward_hook(
            lambda module, args, result: found.append([t for t in result if isinstance(t, Tensor) and t.ndim == 4][-1])
        )
        for module in structure_of(network).attention
        if type(module) is not torch.nn.MultiheadAttention  # SigLIP's pooling head
    ]
    network.set_attn_implementation("eager")
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def result_of(network: Any, given: Any) -> Tensor:
    """Its last hidden state."""
    with torch.no_grad():
        return network(**given).last_hidden_state


def by_window(weights: Tensor, call: AttentionCall, layer: Any) -> Tensor:
    """The weights of Swin's windows [item head place place], of a call in raster order."""
    side = int(len(call.queries) ** 0.5)
    order = windows_of((side, side), int(layer.window_size), int(layer.shift_size), weights.device).order
    return torch.stack([weights[:, :, o][..., o] for o in order], 1).flatten(0, 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_recorded_as_it_computes(name: str) -> None:
    family = FAMILIES[name]
    network, given = built(family), inputs(family)
    with eager_weights(network) as expected:
        answer = result_of(network, given)
    before = network.config._attn_implementation
    with attnviz.record(network) as calls:
        recorded = result_of(network, given)
    assert answer.std() > 0.01
    assert (recorded - answer).norm() <= 1e-5 * answer.norm()
    own = calls[: len(expected)]
    layers = [layer for stack in structure_of(network).stacks for layer in stack.layers]
    for i, (call, weights) in enumerate(zip(own, expected, strict=True)):
        found = call.weights()
        if name == "Swin":
            found = by_window(found, call, layers[i])
        torch.testing.assert_close(found, weights, atol=2e-5, rtol=1e-4)
    kinds = {frozenset() if call.mask is None else call.mask.kinds for call in own}
    assert kinds >= set(family.masks), kinds
    assert {label for call in own for label, _ in call.biases} == family.biases
    assert all((call.projection is not None) == family.projected for call in own)
    assert network.config._attn_implementation == before
    assert not any("forward" in vars(module) or module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name].masks != (frozenset(),)])
def test_a_lost_mask_would_show(name: str) -> None:
    """Without its mask, or without its biases, a call gives other weights: so the test above holds them to account."""
    family = FAMILIES[name]
    network = built(family)
    with attnviz.record(network) as calls:
        result_of(network, inputs(family))
    masked = [call for call in calls if call.mask is not None]
    assert masked
    for call in masked:
        assert (replace(call, mask=None).weights() - call.weights()).abs().max() > 1e-2
    for call in calls:
        if call.biases:
            assert (replace(call, biases=()).weights() - call.weights()).abs().max() > 1e-2


OTHER_DOOR = ("Swin", "T5", "BART", "Marian", "Whisper encoder", "Wav2Vec2")  # stages, two texts, sound


@pytest.mark.parametrize("name", FAMILIES)
def test_it_opens_and_rolls_out_or_says_why_not(name: str) -> None:
    network = built(FAMILIES[name])
    picture = network.main_input_name == "pixel_values"
    if name in OTHER_DOOR:
        with pytest.raises(CannotOpen, match=r"attnviz\.record"):
            attnviz.from_transformers(network, Processor() if picture else tokenizer())
        return
    model = attnviz.from_transformers(network, Processor() if picture else tokenizer())
    sample = model.prepare(Image.linear_gradient("L") if picture else "the old man was not at home .")
    residuals = model(sample).residuals["main"]
    for index in range(model.spec.layers):
        torch.testing.assert_close(model.layer(index, residuals[index]), residuals[index + 1])
    if name == "gpt-oss":
        with pytest.raises(NoRollout):
            attnviz.explain("rollout", model, sample)
    else:
        assert float(attnviz.explain("rollout", model, sample).sum()) == pytest.approx(1, abs=1e-5)


def test_a_layer_scale_is_part_of_the_projection() -> None:
    for name, scale in (("DINOv2", "layer_scale1.lambda1"), ("BEiT", "lambda_1")):
        network = built(FAMILIES[name])
        with attnviz.record(network) as calls:
            result_of(network, inputs(FAMILIES[name]))
        layer = structure_of(network).stacks[0].layers[0]
        linear = next(m for path, m in layer.named_modules() if path.endswith(("output.dense", "o_proj")))
        expected = linear.weight.T * layer.get_parameter(scale)
        assert calls[0].projection is not None
        torch.testing.assert_close(calls[0].projection.flatten(0, 1), expected)


def test_streams_of_an_encoder_and_a_decoder() -> None:
    network = built(FAMILIES["BART"])
    with attnviz.record(network) as calls:
        result_of(network, inputs(FAMILIES["BART"]))
    assert [call.name for call in calls[-2:]] == ["decoder.2.self", "decoder.2.cross"]
    assert (calls[-1].queries.stream, calls[-1].keys.stream) == ("decoder", "encoder")
    assert [call.branch for call in calls[-2:]] == [0, 1]


def test_one_module_passed_twice_is_two_layers() -> None:
    network = built(FAMILIES["ALBERT"])
    with attnviz.record(network) as calls:
        result_of(network, inputs(FAMILIES["ALBERT"]))
    assert [call.layer for call in calls] == [0, 1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_recorded_is_refused(name: str) -> None:
    """By both doors, in a sentence; a model that reads a picture and a text together is opened by neither."""
    family = REFUSED[name]
    network, given = built(family), inputs(family)
    processor = Processor(given["pixel_values"].shape[-1]) if network.main_input_name == "pixel_values" else tokenizer()
    with pytest.raises(CannotOpen) as refusal:
        attnviz.from_transformers(network, processor)
    assert len(str(refusal.value).split()) > 5
    # The first two have no attention, so nothing was missed; SAM calls the fused kernel, which the other door sees.
    if name not in ("Mamba", "ResNet", "SAM"):
        with pytest.raises(CannotRecord, match=r"recorded \d of \d+"), attnviz.record(network):
            network(**given)


def test_a_family_beside_the_interface_is_recorded_by_its_kernel() -> None:
    """Falcon calls the fused kernel itself: no model of ours, but its calls are those of its eager attention."""
    options = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **TEXT}
    torch.manual_seed(0)
    network = enlarge(library.FalconModel(library.FalconConfig(**options, attn_implementation="sdpa")))
    given = {"input_ids": torch.randint(4, 60, (1, 9))}
    with torch.no_grad(), attnviz.record(network) as calls:
        network(**given)
    torch.manual_seed(0)
    eager = enlarge(library.FalconModel(library.FalconConfig(**options, attn_implementation="eager")))
    with torch.no_grad():
        expected = eager(**given, output_attentions=True).attentions
    assert [call.mask.kinds for call in calls if call.mask] == [{"causal"}] * 2
    for call, weights in zip(calls, expected, strict=True):
        torch.testing.assert_close(call.weights(), weights[0], atol=2e-5, rtol=1e-4)
    with pytest.raises(CannotRecord, match="0 of 2"):
        attnviz.from_transformers(network, tokenizer())


def test_unknown_keywords_are_refused() -> None:
    network = built(FAMILIES["BERT"])
    attention = next(m for m in network.modules() if type(m).__name__ == "BertSelfAttention")
    with pytest.raises(CannotRecord, match="block_table"), attnviz.record(network) as calls:
        attention(torch.randn(1, 5, 32), block_table=torch.ones(1))
    assert not calls
