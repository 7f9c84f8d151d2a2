"""What the shipped networks record: branches, layers and streams, and what rollout and raw attention make of them.

The references are dense products in float64, chained from what each architecture is, not from what a call says of
itself; only the maps of other rules than softmax are the rule's own (`tests/attention/test_contract.py` tests those).
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import attnviz
from attnviz.attention.rules.softmax import Softmax
from attnviz.attention.variants.additive import Additive
from attnviz.methods import NoRollout, raw
from attnviz.methods.rollout import relevance
from attnviz.models import MODELS
from attnviz.models.store import BENCH, TEXT_BENCH, bench_results
from attnviz.paths import ROOT
from attnviz.types import AttentionCall, Sample, Trace, UnsupportedMask

SAMPLES = ROOT / "assets" / "samples"
INPUTS = {"image": SAMPLES / "vit" / "cat.jpg", "digits": SAMPLES / "vit-digits" / "five.png"}
ENGLISH = "I do not know what you want from me."
BENCHES = [f"{folder.name}/{row['name']}" for folder in (BENCH, TEXT_BENCH) for row in bench_results(folder)]
Matrix = np.ndarray


def raw_input(model: Any) -> Any:
    """What this model is given in these tests."""
    if model.spec.modality == "image":
        return INPUTS["digits" if model.name == "vit-digits" else "image"]
    return ENGLISH


class Recorded(NamedTuple):
    """A shipped model, a real input and what it recorded."""

    name: str
    model: Any
    sample: Sample
    trace: Trace


@pytest.fixture(scope="module", params=[*MODELS, *BENCHES])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """Every shipped network once: those of the table and those of the benches."""
    model: Any = attnviz.load(request.param)
    sample = model.prepare(raw_input(model))
    with torch.no_grad():
        return Recorded(request.param, model, sample, model(sample))


def dense(call: AttentionCall) -> Matrix:
    """The map of a call [query key], mean over heads, in float64: its own softmax where the rule is one."""
    query, key = (t.detach().double().numpy() for t in (call.query, call.key))
    if type(call.rule) not in (Softmax, Additive):
        return call.token_map().double().mean(-3).numpy()
    key = key[[head * len(key) // len(query) for head in range(len(query))]]
    if isinstance(call.rule, Additive):
        bases = [m if m is None else m.double().numpy() for m in (call.rule.from_query, call.rule.from_key)]
        query, key = (x if m is None else x @ m.T for x, m in zip((query, key), bases, strict=True))
        scores = np.tanh(query[:, :, None] + key[:, None]) @ call.rule.vector.double().numpy()
    else:
        scores = query @ key.transpose(0, 2, 1)
    scores = scores * (call.scale if isinstance(call.scale, float) else call.scale.double().numpy()[:, None, None])
    every = (list(range(call.heads)), list(range(len(call.queries))))
    for _, bias in call.biases:
        scores = scores + bias(call, *every).double().numpy()
    if call.mask is not None:
        allowed = call.mask.rows(*every, len(call.queries), len(call.keys)).numpy()
        scores = np.where(allowed, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)).mean(0)


def blended(map_: Matrix) -> Matrix:
    """One residual branch of a network whose layers add to what comes in, at alpha one half."""
    mixed = 0.5 * np.eye(len(map_)) + 0.5 * map_
    return mixed / mixed.sum(-1, keepdims=True)


def by_name(trace: Trace) -> dict[str, AttentionCall]:
    """The calls by what the network called them."""
    assert len({call.name for call in trace.calls}) == len(trace.calls)
    return {call.name: call for call in trace.calls}


def layer_maps(trace: Trace, layers: int) -> list[Matrix]:
    """The map of every layer of an encoder or decoder: two steps in a row are one product, before the residual."""
    maps, calls = [], by_name(trace)
    for number in range(1, layers + 1):
        if f"layer {number}" in calls:
            maps.append(dense(calls[f"layer {number}"]))
        else:  # axial: along the columns, and what that gave along the rows
            maps.append(dense(calls[f"layer {number}, along rows"]) @ dense(calls[f"layer {number}, along columns"]))
    return maps


def chained(trace: Trace, layers: int) -> tuple[Matrix, ...]:
    """Rollout of a network of one stream."""
    product = reduce(lambda below, map_: blended(map_) @ below, layer_maps(trace, layers), np.eye(len(first(trace))))
    return (trace.pooling["main"].double().numpy() @ product,)


def chained_translator(trace: Trace, layers: int) -> tuple[Matrix, ...]:
    """Rollout of encoder and decoder, source and target tokens side by side; the answer is the last target token's."""
    calls = by_name(trace)
    source = len(calls["encoder 1"].queries)
    everything = source + len(calls["decoder 1"].queries)
    product, here, there = np.eye(everything), slice(0, source), slice(source, everything)
    steps = [(f"encoder {n}", here, here) for n in range(1, layers + 1)]
    for n in range(1, layers + 1):
        steps += [(f"decoder {n}", there, there), (f"decoder {n} cross", there, here)]
    for name, queries, keys in steps:
        factor = np.eye(everything)
        factor[queries, queries] *= 0.5
        factor[queries, keys] += 0.5 * dense(calls[name])
        product = factor @ product
    return product[-1, here], product[-1, there]


def first(trace: Trace) -> Any:
    """The tokens of the first call."""
    return trace.calls[0].queries


def layout(name: str, layers: int) -> list[tuple[str, int, int, str, str, bool]]:
    """Name, layer, branch, streams and residual of every call, from what the architecture is."""
    if name.startswith("bench/axial"):  # two steps, added to the residual once
        steps = [(n, line) for n in range(layers) for line in ("columns", "rows")]
        return [(f"layer {n + 1}, along {line}", n, 0, "main", "main", True) for n, line in steps]
    if name == "seq2seq":
        return [("decoder cross", 0, 0, "target", "source", False)]
    if name != "translator":
        return [(f"layer {n + 1}", n, 0, "main", "main", True) for n in range(layers)]
    found = [(f"encoder {n + 1}", n, 0, "source", "source", True) for n in range(layers)]
    for n in range(layers):
        found.append((f"decoder {n + 1}", n, 0, "target", "target", True))
        found.append((f"decoder {n + 1} cross", n, 1, "target", "source", True))
    return found


def test_calls_say_where_they_stand(recorded: Recorded) -> None:
    name, model, sample, trace = recorded
    found = [(c.name, c.layer, c.branch, c.queries.stream, c.keys.stream, c.residual) for c in trace.calls]
    assert found == layout(name, model.spec.layers)
    for call in trace.calls:
        assert (call.query.shape[-2], call.key.shape[-2]) == (len(call.queries), len(call.keys))
        for tokens in (call.queries, call.keys):
            assert tokens == trace.sample.tokens[tokens.stream]
    assert all(tokens == trace.sample.tokens[stream] for stream, tokens in sample.tokens.items())


def test_there_is_a_residual_for_every_layer_and_stream(recorded: Recorded) -> None:
    _, model, _, trace = recorded
    assert (
        set(trace.residuals)
        == set(trace.token_embeddings)
        == set(trace.position_embeddings)
        == set(trace.sample.tokens)
    )
    for stream, residuals in trace.residuals.items():
        assert len(residuals) == 1 + model.spec.layers
        assert {residual.shape[-2] for residual in residuals} == {len(trace.sample.tokens[stream])}
        position = trace.position_embeddings[stream]
        begin = trace.token_embeddings[stream] if position is None else trace.token_embeddings[stream] + position
        torch.testing.assert_close(residuals[0], begin)
    (readout,) = trace.pooling.values()
    assert float(readout.sum()) == pytest.approx(1, abs=1e-6)


def test_what_was_mixed_is_gate_times_map_times_value(recorded: Recorded) -> None:
    for call in recorded.trace.calls:
        if call.rule.exact:
            value = call.value[..., call.kv_heads_of(range(call.heads)), :, :]
            expected = call.token_map() @ value * (1 if call.gate is None else call.gate)
            torch.testing.assert_close(call.output, expected, atol=2e-5, rtol=1e-4)


def test_rollout_is_the_dense_product(recorded: Recorded) -> None:
    name, model, sample, trace = recorded
    if not all(call.rule.stochastic for call in trace.calls):
        with pytest.raises(NoRollout):
            attnviz.explain("rollout", model, sample, trace=trace)
        return
    if name == "seq2seq":  # one call, not added to anything: the last step's row, whole
        expected = (dense(trace.calls[0])[-1], np.zeros(len(trace.calls[0].queries)))
    else:
        expected = (chained_translator if name == "translator" else chained)(trace, model.spec.layers)
    rows = relevance(trace)
    for stream, row in zip(("main",) if len(expected) == 1 else ("source", "target"), expected, strict=True):
        np.testing.assert_allclose(rows[stream].numpy(), row, atol=2e-6)
    found = attnviz.explain("rollout", model, sample, trace=trace)
    np.testing.assert_allclose(found.numpy(), expected[0], atol=2e-6)
    assert sum(float(row.sum()) for row in rows.values()) == pytest.approx(1, abs=1e-5)


def test_raw_attention_is_the_row_of_the_last_layer(recorded: Recorded) -> None:
    name, model, sample, trace = recorded
    if not all(call.rule.stochastic for call in trace.calls):
        return
    if name in ("translator", "seq2seq"):
        expected = dense(by_name(trace)["decoder cross" if name == "seq2seq" else "decoder 3 cross"])[-1]
    else:
        expected = trace.pooling["main"].double().numpy() @ layer_maps(trace, model.spec.layers)[-1]
    found = attnviz.explain("raw attention", model, sample, trace=trace)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


def test_a_translation_of_three_words_by_its_numbers() -> None:
    model = attnviz.load("translator")
    sample = model.prepare("The cat sleeps.")
    rows = relevance(model(sample))
    assert rows["source"].tolist() == pytest.approx([0.109, 0.153, 0.176, 0.181, 0.256], abs=6e-4)
    assert float(rows["source"].sum()) == pytest.approx(0.875, abs=1e-5)
    assert float(rows["target"].sum()) == pytest.approx(0.125, abs=1e-5)
    looked = attnviz.explain("raw attention", model, sample)
    assert looked.tolist() == pytest.approx([0.122, 0.005, 0.024, 0.080, 0.770], abs=6e-4)
    short = attnviz.explain("rollout", model, model.prepare("Hello"))
    assert float(short.sum()) == pytest.approx(0.875, abs=1e-5)


def test_the_last_call_of_a_decoder_is_pulled_alone() -> None:
    """Its self-attention and its cross-attention are two branches, each added by itself."""
    model = attnviz.load("translator")
    trace = model(model.prepare(ENGLISH))
    cross = [call for call in trace.calls if call.name.endswith("cross")][-1]
    torch.testing.assert_close(raw.attention(trace), cross.propagate(trace.pooling["target"]))


def test_a_translators_layers_can_be_asked_one_by_one() -> None:
    model = attnviz.load("translator")
    trace = model(model.prepare("The cat sleeps."))
    assert trace.sample is not None
    source, target = (trace.sample.inputs[stream] for stream in ("source", "target"))
    memory, residuals = model.network.encode(source), trace.residuals["target"]
    for index in range(model.spec.layers):
        found = model.layer(index, residuals[index], tokens=trace.sample.tokens, memory=memory)
        torch.testing.assert_close(found, residuals[index + 1])
    torch.testing.assert_close(model.logits_from(residuals[-1]), trace.logits["word"])
    assert len(target) == len(residuals[-1])
    recurrent = attnviz.load("seq2seq")
    with pytest.raises(UnsupportedMask, match="recurrent"):
        recurrent.layer(0, residuals[0])
