"""Scores of one map beside random orders, and what may have made it an artifact: by hand and against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

import attnviz
from attnviz.attention import Softmax
from attnviz.measures.diagnostics import FACTOR, norm_outliers, special_share
from attnviz.measures.faithfulness import Perturbation, by_part, parts_of, rank_correlation, removal
from attnviz.measures.map_scores import CHUNK, FEW, SEEDS, edits, random_maps, score_map, steps_of, without
from attnviz.measures.randomisation import random_twin
from attnviz.types import AttentionCall, Target, Tokens, Trace
from tests.foreign import TextDecoder

WEIGHTS = torch.tensor([3.0, 1.0, 2.0, 0.5], dtype=torch.float64)  # of each part, in an additive model


def additive(weights: Tensor = WEIGHTS, asked: list[Tensor] | None = None) -> Perturbation:
    """A model whose logit of class 0 is the sum of the weights of what is left, and that of class 1 always 0."""

    def logits(keep: Tensor) -> Tensor:
        if asked is not None:
            asked.append(keep)
        total = keep.to(weights) @ weights
        return torch.stack([total, torch.zeros_like(total)], -1)

    return Perturbation(logits, torch.arange(len(weights)), 0)


def test_abpc_by_hand() -> None:
    """MoRF 6.5 3.5 1.5 0.5 0 has the area 8.75 / 4; LeRF 6.5 6 5 3 0 has 17.25 / 4."""
    found = score_map(additive(), WEIGHTS)
    assert found.curves.logit[0, 0].tolist() == [6.5, 3.5, 1.5, 0.5, 0]
    assert found.curves.logit[1, 0].tolist() == [6.5, 6, 5, 3, 0]
    table = found.table()
    assert table["abpc/logit"].value == pytest.approx((17.25 - 8.75) / 4)
    assert table["single deletion"].value == pytest.approx(1)
    assert "sufficiency" not in table


def test_a_map_turned_round_scores_the_opposite() -> None:
    one, other = (score_map(additive(), sign * WEIGHTS).table() for sign in (1, -1))
    for name in ("abpc/logit", "abpc/probability", "single deletion"):
        assert one[name].value == pytest.approx(-other[name].value)
        assert one[name][1:] == pytest.approx(other[name][1:])


@pytest.mark.parametrize("count", [5, FEW + 1])
def test_every_score_of_every_order_against_loops(count: int) -> None:
    random = torch.Generator().manual_seed(count)
    weights = torch.randn(count, generator=random, dtype=torch.float64) / 3
    relevance = torch.rand(count, generator=random, dtype=torch.float64)
    found = score_map(additive(weights), relevance, text=True)
    steps, w = steps_of(count), weights.numpy()
    counts = [round(step * count / steps) for step in range(steps + 1)]
    assert found.rationale is not None
    assert found.single_deletion is not None
    for place, row in enumerate(torch.cat([relevance[None], random_maps(count)]).numpy()):
        order, areas = sorted(range(count), key=lambda part, row=row: -row[part]), []
        for each in (order, order[::-1]):
            logit = [sum(w[part] for part in each[gone:]) for gone in counts]
            ends = [(logit[i] + logit[i + 1]) / 2 * (counts[i + 1] - counts[i]) / count for i in range(steps)]
            areas.append(sum(ends))
        assert float(found.abpc("logit")[place]) == pytest.approx(areas[1] - areas[0])
        assert float(found.single_deletion[place]) == pytest.approx(spearmanr(row, w).statistic)
        lost = []
        for share in (0.01, 0.05, 0.1, 0.2, 0.5):
            top = order[: max(1, round(share * count))]
            left = w.sum() - w[top].sum()
            lost.append([1 / (1 + np.exp(-w.sum())) - 1 / (1 + np.exp(-total)) for total in (left, w[top].sum())])
        expected = np.mean(lost, axis=0)
        assert float(found.rationale.comprehensiveness[place]) == pytest.approx(expected[0])
        assert float(found.rationale.sufficiency[place]) == pytest.approx(expected[1])
    others = found.abpc("logit")[1:].numpy()
    assert found.table()["abpc/logit"][1:] == pytest.approx((others.mean(), others.std(ddof=1)))
    assert len(others) == SEEDS


def test_small_batches_of_different_edits_and_progress_to_the_end() -> None:
    asked: list[Tensor] = []
    told: list[float] = []
    plain = score_map(additive(), WEIGHTS)
    found = score_map(additive(asked=asked), WEIGHTS, text=True, progress=told.append)
    assert found.abpc("logit").tolist() == plain.abpc("logit").tolist()
    assert max(map(len, asked)) <= CHUNK
    assert all(len(keep.unique(dim=0)) == len(keep) for keep in asked)
    assert sum(map(len, asked)) <= edits(4, text=True)
    assert told == sorted(told)
    assert told[-1] == 1


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        score_map(additive(WEIGHTS[:1]), WEIGHTS[:1])
    with pytest.raises(ValueError, match="4 parts"):
        score_map(additive(), WEIGHTS[:3])


def test_tokens_that_stay_take_their_whole_word_along() -> None:
    parts = parts_of(Tokens(("BOS", "a", "b", "…c", "d"), words=(-1, 0, 1, 1, 2)))
    assert parts.tolist() == [-1, 0, 1, 1, 2]
    assert without(parts, [3]).tolist() == [-1, 0, -1, -1, 1]
    assert without(parts, []).tolist() == parts.tolist()
    assert without(parts, [0]).tolist() == parts.tolist()


def test_removal_of_given_parts_never_touches_the_others() -> None:
    model = TextDecoder()
    sample = model.prepare("the old man was")
    last = len(sample.tokens["main"]) - 1
    parts = without(parts_of(sample.tokens["main"]), [last])
    found = removal(model, sample, Target("word", last, 3), parts=parts)
    everything = removal(model, sample, Target("word", last, 3))
    assert found.count == everything.count - 1
    none = torch.zeros(1, found.count, dtype=torch.bool)
    kept = torch.zeros(1, everything.count, dtype=torch.bool)
    kept[:, -1] = True
    assert torch.equal(found.logits(none), everything.logits(kept))
    assert not torch.allclose(found.logits(none), everything.logits(torch.zeros_like(kept)))


def made_up(residuals: Tensor) -> Trace:
    """A trace that holds these residuals [depth token feature] and nothing else."""
    return Trace(None, {}, {}, (), {"main": tuple(residuals)}, {}, {})


def test_norm_outliers_by_hand() -> None:
    """Norms 1 2 3 4 100: the median is 3, deviations 2 1 0 1 97 have the median 1, so the limit is 9."""
    norms = torch.tensor([[1.0, 2, 3, 4, 100], [5, 5, 5, 5, 5], [1, 2, 3, 4, 3 + FACTOR]])
    residuals = torch.zeros(3, 5, 2)
    residuals[..., 0], residuals[..., 1] = 0.6 * norms, -0.8 * norms
    found = norm_outliers(made_up(residuals))
    assert found.median.tolist() == pytest.approx([3, 5, 3])
    assert found.limit[[0, 2]].tolist() == pytest.approx([3 + FACTOR, 3 + FACTOR])
    assert found.outlying.tolist() == [[False] * 4 + [True], [False] * 5, [False] * 5]
    torch.testing.assert_close(found.norms, norms.double())


def test_norm_outliers_of_a_model_against_numpy() -> None:
    model = attnviz.load("vit-scenes")
    trace = model(model.prepare(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))))
    found = norm_outliers(trace)
    for depth, residual in enumerate(trace.residuals["main"]):
        norms = np.linalg.norm(residual.double().numpy(), axis=-1)
        limit = np.median(norms) + FACTOR * np.median(np.abs(norms - np.median(norms)))
        assert found.outlying[depth].tolist() == (norms > limit).tolist()


def call_of(tokens: Tokens, heads: int = 2, keys: Tokens | None = None) -> AttentionCall:
    """Softmax attention over random queries and keys."""
    random = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(heads, len(tokens), 3, generator=random) for _ in range(3))
    return AttentionCall("layer 1", 0, Softmax(), query, key, value, tokens, keys or tokens)


def test_attention_on_special_tokens_against_a_loop() -> None:
    tokens = Tokens(("CLS", "a", "b", "SEP"), words=(-1, 0, 1, -1))
    call = call_of(tokens)
    weights = call.token_map()
    expected = [float(weights[head, query, key]) for head in (0, 1) for query in (1, 2) for key in (0, 3)]
    assert special_share(call) == pytest.approx(sum(expected) / 4, rel=1e-5)
    assert special_share(call_of(Tokens.patches(2, 2, ("CLS",)))) is not None
    assert special_share(call, 100) == special_share(call)
    assert special_share(call, 1) == pytest.approx(sum(expected[:2] + expected[4:6]) / 2, rel=1e-5)
    assert special_share(call_of(Tokens.patches(2, 2))) is None
    assert special_share(call_of(tokens, keys=Tokens(("x", "y", "z", "SEP"), words=(0, 1, 2, -1)))) is None


def test_a_twin_has_the_same_values_and_another_answer_and_leaves_the_model_alone() -> None:
    model = attnviz.load("vit-digits")
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    sample = model.prepare(torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)))
    clean = model(sample).logits["class"]
    one, same, other = (random_twin(model, seed) for seed in (0, 0, 1))
    assert one is not None
    assert same is not None
    assert other is not None
    for name, value in one.network.named_parameters():  # type: ignore[attr-defined]
        assert torch.equal(value.flatten().sort().values, before[name].flatten().sort().values)
    logits = [twin(sample).logits["class"] for twin in (one, same, other)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])
    assert not torch.allclose(logits[0], clean)
    assert len({model.digest, one.digest, other.digest}) == 3
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert random_twin(TextDecoder()) is None


def test_a_map_of_the_input_alone_stays_and_one_of_the_network_does_not() -> None:
    model = attnviz.load("vit-scenes")
    twin = random_twin(model)
    assert twin is not None
    sample = model.prepare(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)))
    parts = parts_of(sample.tokens["main"])
    for name, stays in (("edges", True), ("generic attention", False)):
        maps = [by_part(attnviz.explain(name, each, sample, Target("class", 0, 1)), parts) for each in (model, twin)]
        assert (float(rank_correlation(*maps)) > 0.999) == stays
