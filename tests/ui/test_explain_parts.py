"""The page Explain: maps cut down to what holds most of them, and what a weight of the first layer is made of."""

from __future__ import annotations

import numpy as np
import pytest

import attnviz
from attnviz import ui, views
from attnviz.ui.explain import choice as choices
from attnviz.ui.explain import files, parts
from attnviz.ui.inputs.samples import open_sample
from tests.pages import open_page
from tests.ui.test_explain import words
from tests.ui.test_heads import views_of

# Cut down to what holds most of a map


@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
@pytest.mark.parametrize("method", ["rollout", "input x gradient"])
def test_maps_are_cut_down_to_a_share_of_their_mass(monkeypatch, model: str, method: str):
    saved: list[dict] = []
    monkeypatch.setattr(ui, "downloads", lambda maps, row, name: saved.append(maps()))
    at = open_page("explain", model=model, method=method)
    assert views_of(at)["large"]["mass"] is None
    assert "most_relevant" not in saved[-1]
    at = open_page("explain", model=model, method=method, mask="true", **{choices.WITH: ["random"], "mask-mass": "40"})
    assert {one["mass"] for name, one in views_of(at).items() if name in ("large", "raw", "tile:random")} == {0.4}
    kept, row = saved[-1]["most_relevant"], np.abs(saved[-1][files.named(method)].astype(float))
    inside = np.array([label not in ("CLS", "SEP") for label in saved[-1]["tokens"]])
    assert float(saved[-1]["most_relevant_mass"]) == 0.4
    assert not kept[~inside].any()
    assert row[kept].sum() >= 0.4 * row[inside].sum()
    assert row[kept].sum() - row[kept].min() < 0.4 * row[inside].sum()
    assert f" {int(kept.sum())} of {int(inside.sum())} " in words(at)


# What a weight of the first layer is made of


@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
def test_a_score_is_shown_as_the_parts_that_make_it_up(monkeypatch, model: str):
    sent: dict[str, np.ndarray] = {}
    saved: dict[str, dict] = {}
    send = views.send_maps
    monkeypatch.setattr(
        views, "send_maps", lambda slot, maps, **how: (sent.update({slot: maps}), send(slot, maps, **how))
    )
    monkeypatch.setattr(parts, "downloads", lambda maps, rows, name: saved.update({name: maps(), "rows": rows()}))
    at = open_page("explain", model=model, target="token", token="4", **{parts.OPEN: "true", parts.HEAD: "2"})
    shown = [one for name, one in views_of(at).items() if name.startswith(f"{parts.SLOT}:")]
    assert len(shown) == 5
    assert all(one["shared"] and one["hide_special"] for one in shown)
    found = sent[parts.SLOT]
    counted = next(one for name, one in saved.items() if name.startswith("explain-score"))["counted"]
    assert not np.isnan(found).any()  # nothing is masked
    assert np.allclose(found[0][counted], found[1:, counted].sum(0), atol=1e-4)
    assert np.allclose(found[:, counted].mean(-1), 0, atol=1e-5)
    model_, arrays = attnviz.load(model), next(one for name, one in saved.items() if name.startswith("explain-score"))
    raw = at.text_area(key="text").value if model == "sentences" else None
    picture = None if raw else open_sample(model, at.session_state["sample"]).image
    sample = model_.prepare(raw or picture)
    score = model_(sample).calls[0].scores([1], [4], "scaled")[0, 0].numpy()
    assert np.allclose(arrays["score_parts"][1].sum(0), score, atol=1e-3)
    assert np.allclose(arrays["variance_shares"].sum(-1), 1)
    assert np.allclose([row[1] for row in saved["rows"][1]], score, atol=1e-3)
    share = arrays["variance_shares"][1, 0]
    (table,) = [one.value for one in at.dataframe if parts.TITLES["content"] in one.value]
    assert table.iloc[1, 1] == parts.written(share)


@pytest.mark.parametrize("model", ["stories", "bench/xca"])
def test_where_a_score_has_no_such_parts_the_reason_is_said(model: str):
    at = open_page("explain", model=model, **{parts.OPEN: "true", choices.WITH: ["random"]})
    assert any(one.value.startswith("The scores have no such parts: ") for one in at.caption)
    assert not [name for name in views_of(at) if name.startswith(f"{parts.SLOT}:")]
