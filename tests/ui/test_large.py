"""Inputs too large for whole maps: what is computed of them, counted, what only on demand, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import current_thread

import numpy as np
import pytest
import torch
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.types import AttentionCall
from attnviz.ui.core import cache
from attnviz.ui.explain import badge, diagnostics, large
from attnviz.ui.explain.choice import WITH
from attnviz.ui.inputs.samples import open_sample
from attnviz.ui.queries_keys import columns
from attnviz.ui.test import size
from tests.pages import open_page
from tests.ui.test_sizes import sent as sent  # a fixture

LARGE = {"model": "vit", "sample": "cat"}


@pytest.fixture
def large_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every input counts as large."""
    monkeypatch.setattr(large, "HELD", 1)
    for module in (badge, diagnostics, cache):
        monkeypatch.setattr(module, "LARGE", 1)
    large.walks_kept().__init__(entries=64, size=50_000_000)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each map computed had, in order."""
    counted: list[int] = []
    token_map = AttentionCall.token_map

    def count(call: AttentionCall, heads: object = None, rows: object = None) -> torch.Tensor:
        found = token_map(call, heads, rows)  # type: ignore[arg-type]
        counted.append(found.shape[-2])
        return found

    monkeypatch.setattr(AttentionCall, "token_map", count)
    return counted


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every forward pass that was not kept."""
    made: list[object] = []
    forward = attnviz.models.ImageModel.__call__

    def counted(model: attnviz.models.ImageModel, *given: object, **named: object) -> object:
        made.append(given)
        return forward(model, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(attnviz.models.ImageModel, "__call__", counted)
    return made


def own_call(layer: int) -> AttentionCall:
    """A layer of `vit` for the picture of the cat."""
    model = attnviz.load("vit")
    with torch.no_grad():
        return model(model.prepare(open_sample("vit", "cat").image)).calls[layer]


def test_a_walk_is_made_once_for_every_residual_weight(
    large_inputs: None, rows: list[int], sent: dict[str, np.ndarray]
) -> None:
    at = open_page("explain", **LARGE)
    assert sum(rows) >= 5 * 257  # the last layer is asked for one block alone
    rows.clear()
    at.slider(key="alpha").set_value(20).run()
    at.slider(key="from").set_value(3).run()
    assert not at.exception
    assert not rows
    model = attnviz.load("vit")
    sample = model.prepare(open_sample("vit", "cat").image)
    for layer in range(6):
        row = attnviz.explain("rollout", model, sample, alpha=0.2, first=layer)
        np.testing.assert_allclose(sent["rollout"][layer], row / row.sum(), rtol=1e-4, atol=1e-8)


def test_raw_attention_of_every_layer_is_walked_through_once(large_inputs: None, rows: list[int]) -> None:
    at = open_page("explain", **LARGE, method="raw attention", target="mean")
    assert sum(rows) >= 6 * 257
    rows.clear()
    at.slider(key="layer-layer").set_value(2).run()
    assert not at.exception
    assert not rows


def test_rollout_beside_another_method_is_kept_too(large_inputs: None, rows: list[int]) -> None:
    at = open_page("explain", **LARGE, method="raw attention", **{WITH: "rollout"})
    assert sum(rows) >= 5 * 257
    rows.clear()
    at.segmented_control(key="range").set_value("shared").run()
    assert not rows


def test_a_large_map_is_tested_on_a_click_and_nothing_is_timed_before(large_inputs: None, passes: list[object]) -> None:
    open_page("start", **LARGE)
    passes.clear()
    at = open_page("explain", **LARGE, tested="true", mislead="true")
    assert {"tested:large", "mislead:twin"} <= {button.key for button in at.button}
    assert badge.TESTED not in {switch.key for switch in at.toggle}
    assert not passes
    before = set(diagnostics.twins()._kept)
    at.button(key="mislead:twin").click().run()
    assert not at.exception
    assert len(set(diagnostics.twins()._kept) - before) == 1


@pytest.mark.parametrize("change", ["remove", "block", "heads", "patch"])
def test_a_change_of_a_large_input_is_refused_before_it_is_computed(
    change: str, passes: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page("start", **LARGE)
    passes.clear()
    monkeypatch.setattr(size, "MOST", 256)
    at = opened_with_error("test", **LARGE, change=change)
    assert [error.value for error in at.error] == [size.TOO_LARGE.format(most=256, tokens=257)]
    assert not passes
    assert not open_page("test", **LARGE, change="lens").error


def opened_with_error(name: str, **parameters: str) -> AppTest:
    """A page that says it cannot."""
    at = open_page("start", **parameters)
    return at.switch_page(f"../pages/{name}.py").run()


@pytest.mark.parametrize("stage", ["raw", "scaled", "weights", "cosine"])
def test_a_column_is_that_of_the_whole_map(stage: str, rows: list[int]) -> None:
    call = own_call(2)
    expected = {
        "raw": lambda: call.scores([1], None, "raw")[0],
        "scaled": lambda: call.scores([1], None, "scaled")[0],
        "weights": lambda: call.token_map([1])[0],
        "cosine": lambda: torch.from_numpy(columns_of_cosines(call)),
    }[stage]()
    rows.clear()
    for key in (0, 77):
        found = columns.column_of("column", "cat", 2, 1, stage, key, call)
        np.testing.assert_allclose(found, expected[:, key], rtol=1e-4, atol=1e-5)
    assert not rows  # no weights are computed; their sums are kept


def columns_of_cosines(call: AttentionCall) -> np.ndarray:
    """Cosines of every query and key, in float64."""
    q, k = (vectors[1].double().numpy() for vectors in (call.query, call.key))
    return (q / np.linalg.norm(q, axis=-1, keepdims=True)) @ (k / np.linalg.norm(k, axis=-1, keepdims=True)).T


@pytest.fixture
def permits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Two permits to compute, and how many of them are free."""
    two = cache.BoundedSemaphore(2)
    monkeypatch.setattr(cache, "cores", lambda: two)
    yield lambda: two._value  # type: ignore[attr-defined]
    assert two._value == 2  # type: ignore[attr-defined]


def test_a_second_core_is_taken_only_while_it_is_free_and_nobody_waits(permits: Callable[[], int]) -> None:
    with cache.core():
        with cache.second_core() as free:
            assert free
            assert permits() == 0
            with cache.second_core() as third:
                assert not third
        assert permits() == 1
        cache.WAITING.append(None)
        try:
            with cache.second_core() as free:
                assert not free
        finally:
            cache.WAITING.pop()


def test_halves_of_a_block_are_the_block(permits: Callable[[], int]) -> None:
    call, threads = own_call(1), set[str]()

    def block(chosen: list[int]) -> torch.Tensor:
        threads.add(current_thread().name)
        return call.token_map(rows=chosen).mean(0)

    for chosen in (list(range(33)), [5], [200, 7, 9]):
        torch.testing.assert_close(large.side_by_side(block)(chosen), call.token_map(rows=chosen).mean(0))
    assert len(threads) == 2


@pytest.mark.parametrize("discard", [0.0, 0.5])
def test_the_bar_ends_full(discard: float, large_inputs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(large.thinning, "HELD", 1)
    monkeypatch.setattr(DeltaGenerator, "progress", lambda _, share, *rest: told.append(share))
    open_page("explain", **LARGE, target="mean", discard=str(round(100 * discard)))
    told = [one for one in told if isinstance(one, int)]
    assert told == sorted(told)
    assert told[-1] >= 99
