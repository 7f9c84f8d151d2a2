"""The sections of the Test page that ablate heads, patch residuals and read the logit lens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.measures.interventions import answer_of, crossing, greedy_heads, head_effects, lens
from attnviz.models.store import reads_text
from attnviz.paths import ROOT
from attnviz.types import Model, Sample, Tokens
from attnviz.ui.core.cache import SESSION_MODELS
from attnviz.ui.inputs.samples import SAMPLES
from attnviz.ui.inputs.sentences import SENTENCES
from attnviz.ui.shell.errors import NO_MEMORY, WRONG
from attnviz.ui.test import head_sets, lens_pictures, swap_texts
from attnviz.ui.test.swap_pictures import blocks
from tests.foreign import foreign_models
from tests.pages import MAIN, open_page

MODELS = ("vit", "vit-digits", "sentences", "stories")
SECTIONS = ("heads", "patch", "lens")


def views_of(at: AppTest) -> dict[str, dict[str, Any]]:
    """What was sent to each view, by its name."""
    sent = [json.loads(one.proto.json) for one in at.get("bidi_component") if "_view" in one.proto.component_name]
    return {one["name"]: one for one in sent}


def opened(name: str) -> Model:
    """A shipped model."""
    return attnviz.load(name)


def first_sample(name: str) -> Sample:
    """What a visitor of a model sees first."""
    model = opened(name)
    if reads_text(name):
        return model.prepare(SENTENCES[name][0])
    (path,) = (ROOT / "assets" / "samples" / name).glob(f"{SAMPLES[name][0]}.*")
    return model.prepare(path)


def test_python_lines_name_the_input_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would read another picture than the page, one of the model's own size."""
    at = open_page("test", model="vit", change="lens", pixels="128")
    (code,) = [one.value for one in at.code]
    monkeypatch.chdir(ROOT)
    found: dict[str, Any] = {}
    exec(code, found)  # the lines under test
    assert found["found"].labels.shape[1] == 1 + 32 * 32


def test_both_pictures_are_read_at_the_chosen_size() -> None:
    """A picture read at another size would have other tokens, and its residuals could not be carried over."""
    at = open_page("test", model="vit", change="patch", pixels="128")
    assert "test:blocks" in views_of(at)
    assert "size=128" in at.code[0].value


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("section", SECTIONS)
def test_python_lines_compute_what_is_shown(section: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page("test", model=name, change=section)
    (code,) = [one.value for one in at.code]
    monkeypatch.chdir(ROOT)
    found: dict[str, Any] = {}
    exec(code, found)  # the lines under test
    shown = views_of(at)
    if section == "heads":
        np.testing.assert_allclose(shown["test:heads"]["values"], found["effects"].logit.numpy(), atol=1e-5)
        assert isinstance(found["changed"], bool)
    elif section == "patch" and reads_text(name):
        np.testing.assert_allclose(shown["test:patches"]["values"], found["share"].T.numpy(), atol=1e-5)
    elif section == "lens" and reads_text(name):
        np.testing.assert_allclose(
            shown["test:lens"]["values"], found["found"].probabilities[..., 0].T.numpy(), atol=1e-5
        )
    else:
        assert found["share" if section == "patch" else "found"] is not None


@pytest.mark.parametrize("name", MODELS)
def test_by_default_a_head_has_an_effect(name: str) -> None:
    """A page that shows no effect teaches nothing: if samples or weights change, so must the defaults."""
    model, sample = opened(name), first_sample(name)
    target = answer_of(model(sample))
    effects = head_effects(model, sample)
    assert effects.logit.abs().max() > 0.1, f"no head matters to {target}"


@pytest.mark.parametrize(("name", "least"), [("stories", 0.9), ("sentences", 0.5)])
def test_the_classic_pair_crosses_over_at_its_word(name: str, least: float) -> None:
    model = opened(name)
    first, second = swap_texts.AGREEMENT if model.spec.causal else swap_texts.SENTIMENT
    own, other = model.prepare(first), model.prepare(second)
    differ = (own.inputs["main"] != other.inputs["main"]).nonzero()[:, 0].tolist()
    assert len(differ) == 1
    share = crossing(model, own, model(other)).share
    np.testing.assert_allclose(share[0, differ[0]], 1, atol=1e-4)  # the only difference there is
    assert share[1, differ[0]] > least
    assert share[-1, differ[0]] < 0.5, "the word alone would still carry the answer at the end"


def test_by_default_pictures_cross_over_at_cls() -> None:
    at = open_page("test", model="vit", change="patch")
    assert at.session_state["donor"] == "snail"
    assert views_of(at)["test:depths"]["selected"] == [0, 5]
    model = opened("vit")
    sample, other = (model.prepare(ROOT / f"assets/samples/vit/{name}.jpg") for name in ("pepper", "snail"))
    share = crossing(model, sample, model(other), groups=[[0]]).share
    assert 0.5 < share[5, 0] < 1 < 1.001 * share[6, 0] + 0.01


@pytest.mark.parametrize("name", ["vit", "stories"])
def test_by_default_few_heads_change_the_answer(name: str) -> None:
    model = opened(name)
    sample = first_sample(name) if name == "vit" else model.prepare(swap_texts.AGREEMENT[0])
    found = greedy_heads(model, sample)
    assert found.changed
    assert head_sets.search_words(found).startswith(f"**{len(found.steps)} head")


@pytest.mark.parametrize("name", ["vit", "stories"])
def test_by_default_answers_change_with_depth(name: str) -> None:
    model, sample = opened(name), first_sample(name)
    found = lens(model, model(sample))
    where = int(model(sample).pooling["main"].argmax())
    assert found.labels[0, where, 0] != found.labels[-1, where, 0]


def test_heads_are_ablated_together_and_stand_in_the_address() -> None:
    at = open_page("test", model="vit", change="heads", off="4,19")
    shown = views_of(at)["test:heads"]
    assert shown["tokens"] == shown["crossed"] == [4, 19]
    assert at.query_params["off"] == "4,19"
    at.button(key="restore heads").click().run()
    assert views_of(at)["test:heads"]["crossed"] == []
    assert "off" not in at.query_params


def test_other_choices_show_other_numbers() -> None:
    plain = views_of(open_page("test", model="vit", change="heads"))["test:heads"]["values"]
    mean = views_of(open_page("test", model="vit", change="heads", ablation="mean"))["test:heads"]["values"]
    share = views_of(open_page("test", model="vit", change="heads", effect="probability"))["test:heads"]
    assert not np.allclose(plain, mean, atol=1e-2)
    assert share["unit"] == "percent"
    assert np.abs(share["values"]).max() <= 1


def test_a_search_is_run_only_when_asked_for() -> None:
    at = open_page("test", model="vit", change="heads")
    assert not at.dataframe
    at.toggle(key="fewest").set_value(True).run()
    assert len(at.dataframe[0].value) == len(greedy_heads(opened("vit"), first_sample("vit")).steps)


@pytest.mark.parametrize(
    "texts",
    [("The boys in the garden", "The boy in the large garden"), ("The boys in the garden", "The boys in the garden")],
    ids=["length", "answer"],
)
def test_a_pair_that_cannot_be_compared_says_why_and_offers_one_that_can(texts: tuple[str, str]) -> None:
    at = open_page("test", model="stories", change="patch", swap_own=texts[0], swap_other=texts[1])
    assert len(at.info) == 1
    assert "test:patches" not in views_of(at)
    at.button(key="swap:restart").click().run()
    assert not at.info
    assert "test:patches" in views_of(at)


def test_a_cell_in_the_address_is_the_one_shown() -> None:
    at = open_page("test", model="stories", change="patch", patched="5")  # what enters layer 1, the last word
    assert views_of(at)["test:patches"]["tokens"] == [5 * 7]
    at = open_page("test", model="vit-digits", change="lens", read="3")
    assert [views_of(at)[f"test:lens:{depth}"]["tokens"] for depth in range(4)] == [[3], [], [], []]


def test_blocks_cover_every_token_once() -> None:
    for tokens in (Tokens.patches(16, 16, ("CLS",)), Tokens.patches(4, 6, ("CLS", "DIST")), Tokens.patches(3, 3)):
        groups, names = blocks(tokens)
        assert sorted(token for group in groups for token in group) == list(range(len(tokens)))
        assert len(names) == len(groups) == len(set(names))


def test_many_classes_share_the_colours_of_the_commonest() -> None:
    kinds = [["a"] * 3 + list("bcdefghij"), ["j"] * 9 + list("abc")]
    named = lens_pictures.commonest(kinds)
    assert named[0] == "j"
    assert len(named) == lens_pictures.NAMED
    colours = lens_pictures.colours_of(kinds, named)
    assert colours.shape == (2, 12, 3)
    assert (colours[1, :9] == colours[1, 0]).all()
    left = [kind for kind in "abcdefghij" if kind not in named]
    assert len({tuple(colours[0, kinds[0].index(kind)]) for kind in left}) == 1


@pytest.mark.parametrize("name", foreign_models())
@pytest.mark.parametrize("section", SECTIONS)
def test_what_a_foreign_model_lacks_is_said(section: str, name: str) -> None:
    model = foreign_models()[name].model
    at = AppTest.from_file(MAIN, default_timeout=300)
    at.session_state[SESSION_MODELS] = {"mine": model}
    at.query_params["model"], at.query_params["change"] = "mine", section
    at.run()
    at.switch_page("../pages/test.py").run()
    assert not at.exception
    assert not at.error, [error.value for error in at.error]
    assert not {WRONG, NO_MEMORY} & {one.value for one in [*at.info, *at.error]}
    works = bool(model.outputs) and section != "patch"  # none of the three lets residuals be replaced
    assert len(at.info) == (0 if works else 1)


@pytest.mark.parametrize("name", ["bench/axial", "text-bench/mha"])
@pytest.mark.parametrize("section", SECTIONS)
def test_models_of_the_benches_run_or_say_why_not(section: str, name: str) -> None:
    at = open_page("test", model=name, change=section, ablation="mean")
    assert len(at.info) <= 1
