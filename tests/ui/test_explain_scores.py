"""What stands under the map on the page Explain: its scores for this input, why it may mislead, the stored scores."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.measures import recorded
from attnviz.measures.faithfulness import by_part, parts_of, rank_correlation, removal
from attnviz.measures.intervals import Summary
from attnviz.measures.map_scores import score_map
from attnviz.measures.randomisation import random_twin
from attnviz.measures.recorded import Row
from attnviz.methods import METHODS
from attnviz.types import Target
from attnviz.ui.explain import badge, choice, diagnostics, scores
from attnviz.ui.inputs.samples import open_sample
from tests.foreign import foreign_models
from tests.pages import open_page
from tests.ui.test_foreign_models import opened as opened_foreign
from tests.ui.test_heads import views_of


@pytest.fixture(params=["vit-digits", "sentences", "stories"])
def tested(request: pytest.FixtureRequest) -> AppTest:
    """The page with the scores of its first map, of a picture or a text."""
    return open_page("explain", model=request.param, tested="true", curves="true")


def shown(at: AppTest) -> dict[str, list[str]]:
    """The table of scores by the name of the score."""
    found = [table.value for table in at.dataframe if "Random order" in table.value.columns]
    return {row[0]: list(row[1:]) for row in found[0].to_numpy().tolist()} if found else {}


def said(at: AppTest) -> str:
    """Every caption and paragraph."""
    assert not at.exception
    return "\n".join(str(element.value) for kind in (at.caption, at.markdown) for element in kind)


def test_scores_stand_beside_those_of_random_orders_with_their_curves(tested: AppTest) -> None:
    rows, text = shown(tested), tested.session_state["model"] != "vit-digits"
    names = list(badge.NAMES) if text else list(badge.NAMES)[:3]
    assert list(rows) == [badge.NAMES[name] for name in names]
    assert all(" ± " in row[1] for row in rows.values())
    assert badge.OFF_DISTRIBUTION in said(tested)
    charts = [chart.proto.spec for chart in tested.get("plotly_chart")]
    assert sum("Least relevant first" in spec for spec in charts) == 1


def test_the_numbers_are_those_of_the_map_that_is_shown() -> None:
    at = open_page("explain", model="vit-digits", tested="true", method="generic attention")
    model = attnviz.load("vit-digits")
    sample = model.prepare(open_sample("vit-digits", at.session_state["sample"]).image)
    label = int(model(sample).logits["class"].argmax())
    target = Target("class", 0, label)
    relevance = attnviz.explain("generic attention", model, sample, target)
    table = score_map(removal(model, sample, target), by_part(relevance, parts_of(sample.tokens["main"]))).table()
    rows = shown(at)
    for name, found in table.items():
        assert rows[badge.NAMES[name]] == [badge.number(found.value), badge.beside_words(found)]


def test_another_class_is_watched_where_another_class_is_explained() -> None:
    at = open_page("explain", model="vit-digits", tested="true", method="generic attention")
    before = shown(at)
    at.selectbox(key="class").set_value("1" if at.selectbox(key="class").value != "1" else "2").run()
    assert shown(at) != before


@pytest.mark.parametrize("seconds", [0.5, 30.0])
def test_a_quick_test_runs_at_once_and_a_long_one_on_click(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(badge, "expected", lambda *_: seconds)
    badge.kept().__init__(entries=256, size=20_000_000)
    at = open_page("explain", model="vit-digits")
    switches = {toggle.key for toggle in at.toggle}
    assert (badge.TESTED in switches) == (seconds > badge.AT_ONCE)
    assert bool(shown(at)) == (seconds <= badge.AT_ONCE)
    if seconds > badge.AT_ONCE:
        at.toggle(key=badge.TESTED).set_value(True).run()
        assert shown(at)


def test_a_map_is_tested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page("explain", model="vit-digits", tested="true")
    before = shown(at)
    monkeypatch.setattr(badge, "tested", lambda *_: pytest.fail("tested again"))
    monkeypatch.setattr(badge, "expected", lambda *_: pytest.fail("timed again"))
    at.segmented_control(key="range").set_value("shared").run()
    assert shown(at) == before


def test_a_map_that_does_not_start_from_the_answer_is_not_tested() -> None:
    at = open_page("explain", model="vit-digits", tested="true", target=choice.TOKEN)
    assert badge.ELSEWHERE in said(at)
    assert not shown(at)


@pytest.mark.parametrize("name", foreign_models())
def test_a_foreign_model_is_tested_or_says_why_not(name: str) -> None:
    at = opened_foreign("explain", foreign_models()[name].model)
    can = "keep_tokens" in foreign_models()[name].model.spec.honours
    assert (badge.CANNOT in said(at)) != can
    if can:
        if not shown(at):
            at.toggle(key=badge.TESTED).set_value(True).run()
        assert shown(at)


def test_a_text_of_one_word_and_a_model_without_an_answer_say_so() -> None:
    assert badge.TOO_FEW in said(open_page("explain", model="stories", text="one", tested="true"))
    assert badge.TOO_FEW in said(open_page("explain", model="sentences", text="", tested="true"))


def test_a_model_that_was_trained_with_patches_removed_is_said_to_be() -> None:
    models = {name: badge.trained_without_parts(attnviz.load(name)) for name in ("vit-scenes", "vit-digits", "stories")}
    assert models == {"vit-scenes": True, "vit-digits": False, "stories": False}


@pytest.mark.parametrize("there", [False, True])
def test_the_link_to_the_page_test_needs_that_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    if there:
        (tmp_path / "test.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(badge.paths, "PAGES", tmp_path)
    offered = []
    monkeypatch.setattr(badge, "offer", lambda page, experiment, key: offered.append(experiment))
    badge.link(choice.Choice(choice.ANSWER, 0, method="alti"))
    assert [(one.page, one.choices) for one in offered] == [
        ("test", {"change": "remove", "method": "alti", "choose": "strongest", "part": 10})
    ] * there


# Why may this map mislead?


@pytest.mark.parametrize("model", ["vit-digits", "sentences", "stories"])
def test_nothing_is_computed_of_a_closed_expander_and_a_twin_of_an_open_one(model: str) -> None:
    assert not {"twin:0", "twin:1"} & set(views_of(open_page("explain", model=model)))
    at = open_page("explain", model=model, mislead="true")
    table = next(table.value for table in at.dataframe if "Norm outliers" in table.value.columns)
    assert len(table) == attnviz.load(model).spec.layers
    assert {"On special tokens", "‖x‖ : ‖attention(x)‖"} <= set(table.columns)
    drawn = views_of(at)
    assert [drawn[f"twin:{index}"]["index"] for index in (0, 1)] == [0, 1]
    assert {drawn[f"twin:{index}"]["maps"] for index in (0, 1)} == {diagnostics.SLOT}
    assert not set(drawn["twin:0"].get("selected") or ())


@pytest.mark.parametrize("method", ["rollout", "input x gradient"])
def test_the_correlation_is_that_of_both_maps(method: str) -> None:
    at = open_page("explain", model="vit-digits", mislead="true", method=method)
    model = attnviz.load("vit-digits")
    twin = random_twin(model)
    assert twin is not None
    sample = model.prepare(open_sample("vit-digits", at.session_state["sample"]).image)
    target = Target("class", 0, int(model(sample).logits["class"].argmax()))
    target = target if METHODS[method].needs_class else None
    maps = [attnviz.explain(method, each, sample, target) for each in (model, twin)]
    parts = parts_of(sample.tokens["main"])
    alike = float(rank_correlation(*(by_part(each, parts) for each in maps)))
    assert diagnostics.ALIKE.format(badge.number(alike)) in said(at)


@pytest.mark.parametrize("name", foreign_models())
def test_a_foreign_model_has_what_it_records_and_no_twin(name: str) -> None:
    at = opened_foreign("explain", foreign_models()[name].model)
    at.session_state[diagnostics.OPEN] = True
    at.run()
    assert diagnostics.NO_TWIN in said(at)
    assert any("Norm outliers" in table.value.columns for table in at.dataframe)


# The stored scores

MEANS = (("random", "default", 0.25), ("rollout", "chosen", 0.75), ("alti", "default", 0.5))


def write(path: Path, model: str) -> None:
    """A made-up file of scores about a model."""

    def summary(mean: float) -> Summary:
        return Summary(mean, mean - 0.125, mean + 0.125, 20, 0)

    rows = [
        Row("scenes/colour", method, options, score, right, summary(mean), summary(mean - 0.25))
        for method, options, mean in (
            ("random", "default", 0.25),
            ("rollout", "chosen", 0.75),
            ("alti", "default", 0.5),
        )
        for score in ("pointing", "deletion/logit/mean")
        for right in (True, False)
    ]
    rows.append(Row("scenes/colour", "edges", "default", "pointing", True, Summary(*[math.nan] * 3, 0, 20), summary(0)))
    facts = {"command": "python -m benchmarks.faithfulness scenes", "date": "2026-11-30", "digest": "0"}
    recorded.save("scenes", {**facts, "model": model}, rows, path)


def stored(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Read the scores from another file."""
    monkeypatch.setattr(recorded, "FILE", path)
    scores.measured.clear()


@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
def test_the_stored_scores_are_shown_with_their_controls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str
) -> None:
    path = tmp_path / "scores.json"
    write(path, model)
    stored(monkeypatch, path)
    at = open_page("explain", model=model)
    table = next(table.value for table in at.dataframe if "95 % interval" in table.value.columns)
    assert table["Mean"].tolist() == ["0.75", "0.50", "0.25", "–"]
    control = scores.title("random")
    assert table["Method"].tolist() == [scores.title("rollout"), scores.title("alti"), control, scores.title("edges")]
    assert control != METHODS["rollout"].title
    assert table["95 % interval"].tolist() == ["0.62 to 0.88", "0.38 to 0.62", "0.12 to 0.38", "–"]
    assert table["Difference to random"].tolist()[:3] == ["0.38 to 0.62", "0.12 to 0.38", ""]
    text = said(at)
    assert all(part in text for part in ("python -m benchmarks.faithfulness scenes", "2026-11-30", scores.CAVEAT))
    at.selectbox(key=scores.SCORE).set_value("deletion/logit/mean").run()
    assert "Better is low" in said(at)


def test_without_scores_of_such_inputs_nothing_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    for _ in range(2):  # no file, then one about texts alone
        stored(monkeypatch, path)
        at = open_page("explain", model="vit-digits")
        assert not any("95 % interval" in table.value.columns for table in at.dataframe)
        write(path, "sentences")


def test_a_damaged_file_names_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"scenes": 3}), encoding="utf-8")
    stored(monkeypatch, path)
    with pytest.raises(AssertionError, match=r"scores\.json"):
        open_page("explain", model="vit-digits")


def test_scores_are_named() -> None:
    assert scores.score_name("abpc/logit/removal") == "ABPC of the logit, by removal"
    assert scores.score_name("deletion/probability/blur") == "Deletion of the probability, blur fill"
    assert scores.score_name("saco") == "SaCo"
