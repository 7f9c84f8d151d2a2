"""The rows of `python -m benchmarks.faithfulness` that are computed from more than a map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attnviz
from attnviz.types import Target
from benchmarks.faithfulness import Maps, completeness, score_all
from benchmarks.faithfulness_inputs import Case


@pytest.fixture(scope="module")
def case() -> Case:
    """A sentence and its sentiment."""
    model = attnviz.load("sentences")
    sample = model.prepare("What a dull film!")  # type: ignore[arg-type]
    return Case("sentences", model, sample, Target("sentiment", 0, 1), True)


def test_only_maps_that_claim_completeness_have_its_error(case: Case):
    few, many = {"steps": 5, "baseline": "mean"}, {"steps": 60}
    maps: Maps = {("random", "default"): {}, ("input x gradient", "default"): {}}
    maps |= {("integrated gradients", "default"): many, ("integrated gradients", "chosen"): few}
    maps[("integrated gradients", "length")] = {"per_token": "norm"}
    found = completeness(case, maps).tolist()
    assert np.isnan([found[0], found[1], found[4]]).all()
    relevance = attnviz.explain("integrated gradients", case.model, case.sample, case.target, **many)
    embeddings = case.model(case.sample).token_embeddings["main"]
    words = torch.tensor([word >= 0 for word in case.sample.tokens["main"].words or ()])
    empty = torch.where(words[:, None], 0, embeddings)
    clean, blank = (
        float(case.model(case.sample, edit=attnviz.Edit(embeddings=given)).logits["sentiment"][0, 1])
        for given in (embeddings, empty)
    )
    expected = abs(float(relevance.sum()) - (clean - blank)) / abs(clean - blank)
    assert found[2] == pytest.approx(expected, abs=1e-4)
    assert found[2] < 0.01


def test_a_score_that_few_methods_have_stands_in_their_rows_alone(case: Case):
    maps: Maps = {("random", "default"): {}, ("integrated gradients", "default"): {}}
    rows = score_all(iter([case]), maps, lambda _: None)
    assert [row.method for row in rows if row.score == "completeness error"] == ["integrated gradients"]
    assert {row.method for row in rows if row.score == "saco"} == {"random", "integrated gradients"}
