"""The Test page: what is removed or blocked, its effect beside random sets, and sentences for what cannot be tested."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest
from torch import Tensor

import attnviz
from attnviz.interventions import block as block_edges
from attnviz.interventions import remove as remove_tokens
from attnviz.models.store import reads_text
from attnviz.paths import ROOT
from attnviz.ui.core.cache import SESSION_MODELS
from attnviz.ui.core.state import spanned, spans
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.samples import SAMPLES
from attnviz.ui.inputs.sentences import SENTENCES
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.test import again, answer, block, maps, picks, remove
from tests.foreign import foreign_models
from tests.pages import MAIN, open_page

MODELS = ("vit", "vit-digits", "sentences", "stories")
DEFAULTS = ("vit", "sentences", "stories")


def default_run(name: str) -> ModelRun:
    """A model with the sample that its visitors see first."""
    model: Any = attnviz.load(name)
    if reads_text(name):
        sample = model.prepare(SENTENCES[name][0])
        return TextRun(model=model, name=name, sample=sample, trace=model(sample), source="text")
    source = SAMPLES[name][0]
    (path,) = (ROOT / "assets" / "samples" / name).glob(f"{source}.*")
    picture = Image.open(path).convert("RGB")
    sample = model.prepare(picture)
    return ImageRun(model=model, name=name, sample=sample, trace=model(sample), source=source, picture=picture)


def explained(run: ModelRun) -> answer.Tested:
    """What is tested of a model that answers."""
    found = answer.tested(run)
    assert found is not None
    return found


def changes(run: ModelRun, edit: attnviz.Edit) -> Tensor:
    """How much each edit of a batch changes the logit of what the model predicts, by the package alone."""
    test = explained(run)
    after = attnviz.interventions.answers(run.model, run.sample, edit, output=test.output)[:, test.row]
    return after[:, test.label] - run.trace.logits[test.output][test.row, test.label]


def ranking_of(run: ModelRun) -> Tensor:
    """The ranking that the page begins with."""
    return attnviz.explain("raw attention" if run.model.spec.causal else "rollout", run.model, run.sample)


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_is_removed_to_begin_with_matters_more_than_random_sets(name: str) -> None:
    run = default_run(name)
    among = picks.candidates(run.sample.tokens["main"], explained(run))
    gone = picks.chosen(picks.STRONGEST, among, ranking_of(run), picks.SHARE / 100)
    sets = picks.draws(among, len(gone))
    found = changes(run, remove_tokens(run.sample, gone, *sets))
    assert found[0] < 0, "the default makes its answer surer"
    assert found[0].abs() > 1.5 * found[1:].mean().abs() + 0.1, (found[0], found[1:])
    weakest = picks.chosen(picks.STRONGEST, among, -ranking_of(run), picks.SHARE / 100)
    assert changes(run, remove_tokens(run.sample, weakest))[0] > found[0]
    assert set(page_numbers(open_page("test", model=name))) >= {f"{found[0]:+.2f}", f"{found[1:].mean():+.2f}"}


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_is_blocked_to_begin_with_matters_more_than_random_sets(name: str) -> None:
    run = default_run(name)
    test, layers = explained(run), tuple(range(run.model.spec.layers))
    queries = block.usual_queries(run, test)
    among = block.reachable(run, queries)
    ranking = block.ranks(run, queries, block.attention(run, layers, None), block.usual_ranking(test))
    keys = picks.chosen(picks.STRONGEST, among, ranking, picks.SHARE / 100)
    edges = block.Edges(queries, keys, layers, None)
    own = changes(run, block_edges(run.model, run.sample, queries, keys))[0]
    controls = changes(run, block.random_keys(run, edges, picks.draws(among, len(keys))))
    assert own < 0
    assert own.abs() > 1.5 * controls.mean().abs() + 0.1, (own, controls)
    assert f"{own:+.2f}" in page_numbers(open_page("test", model=name, change="block"))


def page_numbers(at: Any) -> list[str]:
    """The changes of a logit that a page says, as numbers with a sign."""
    words = " ".join(m.value for m in at.markdown).replace("\u2212", "-").replace("*", "").split()
    return [word.rstrip(".,") for word in words if word[:1] in "+-"]


@pytest.mark.parametrize("change", ["remove", "block"])
@pytest.mark.parametrize("name", MODELS)
def test_the_code_on_the_page_does_it_again(name: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page("test", model=name, change=change)
    (shown,) = at.code
    monkeypatch.chdir(ROOT)
    given: dict[str, Any] = {}
    exec(shown.value, given)
    run = default_run(name)
    test = explained(run)
    moved = given["logits"][0, test.row, test.label] - run.trace.logits[test.output][test.row, test.label]
    assert f"{moved:+.2f}" in page_numbers(at)


def test_code_names_layers_heads_and_stretches() -> None:
    assert again.listed([7, 3, 4, 5]) == "[*range(3, 6), 7]"
    assert block.Edges((0,), (2,), (1, 2), 3).code(3) == "block(model, sample, [0], [2], [*range(1, 3)], heads=[3])"
    assert block.Edges((0,), (2,), (0, 1, 2), None).code(3) == "block(model, sample, [0], [2])"


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"choose": "picked"}, remove.NOTHING),
        ({"choose": "picked", "removed": "0,5"}, remove.UNREAD.format("CLS")),
        ({"choose": "picked", "removed": "1-256"}, remove.EVERYTHING),
        ({"choose": "picked", "removed": "0-256"}, remove.UNREAD.format("CLS")),
        ({"change": "block", "in_layers": ""}, block.NO_LAYER),
        ({"change": "block", "cut": "picked"}, block.NO_KEY),
        ({"change": "block", "cut": "picked", "blocked": "0-256"}, block.ALL_KEYS.format("CLS")),
        ({"model": "stories", "change": "block", "queries": "3", "cut": "picked", "blocked": "9"}, block.NO_EDGE),
        ({"model": "stories", "choose": "picked", "removed": "16"}, remove.UNREAD.format("the")),
        ({"model": "sentences", "choose": "picked", "removed": "0-14"}, remove.EVERYTHING),
    ],
    ids=str,
)
def test_what_cannot_be_tested_is_a_sentence(parameters: dict[str, str], sentence: str) -> None:
    at = open_page("test", **{"model": "vit", **parameters})
    assert sentence in [info.value for info in at.info]
    assert not at.get("plotly_chart")


@pytest.mark.parametrize("change", ["remove", "block"])
@pytest.mark.parametrize("name", foreign_models())
def test_a_model_that_refuses_an_edit_says_so(name: str, change: str) -> None:
    model = foreign_models()[name].model
    at = AppTest.from_file(MAIN, default_timeout=300)
    at.session_state[SESSION_MODELS] = {"mine": model}
    at.query_params["model"], at.query_params["change"] = "mine", change
    at.run()
    at.switch_page("../pages/test.py").run()
    assert not at.exception
    assert not at.error
    field, sentence = {"remove": ("keep_tokens", remove.CANNOT), "block": ("blocked_edges", block.CANNOT)}[change]
    assert (sentence in [info.value for info in at.info]) == (field not in model.spec.honours)


def test_a_link_opens_a_random_choice_again() -> None:
    at = open_page("test", model="vit", choose="random", drawn="3", part="10")
    run = default_run("vit")
    among = picks.candidates(run.sample.tokens["main"], explained(run))
    gone = picks.chosen(picks.RANDOM, among, None, 0.1, 3)
    assert len(gone) == 26
    assert again.listed(gone) in at.code[0].value
    assert gone != picks.chosen(picks.RANDOM, among, None, 0.1, 4)


def test_choices_are_sets_of_what_may_be_removed() -> None:
    among, ranking = [2, 3, 5, 8], torch.tensor([9.0, 9, 1, 4, 9, 2, 9, 9, 3])
    assert picks.chosen(picks.STRONGEST, among, ranking, 0.5) == (3, 8)
    assert picks.chosen(picks.OTHERS, among, ranking, 0.5) == (2, 5)
    assert picks.chosen(picks.STRONGEST, among, ranking, 0.01) == (3,)
    assert picks.chosen(picks.STRONGEST, among, None, 0.5) == ()
    drawn = picks.draws(among, 3)
    assert len(drawn) == picks.DRAWS
    assert all(set(one) < set(among) and len(one) == 3 for one in drawn)
    assert len(set(drawn)) > 1
    assert drawn == picks.draws(among, 3)


@pytest.mark.parametrize("name", MODELS)
def test_what_the_answer_is_read_from_alone_is_no_candidate(name: str) -> None:
    run = default_run(name)
    tokens, test = run.sample.tokens["main"], explained(run)
    among = set(picks.candidates(tokens, test))
    if name == "stories":
        assert test.read_from == (len(tokens) - 1,)
    assert not (len(test.read_from) == 1 and among & set(test.read_from))
    assert all(tokens.labels[i] not in ("CLS", "SEP", "BOS") for i in among)


def test_maps_after_have_no_weight_on_what_is_removed() -> None:
    run = default_run("vit")
    gone = [40, 41, 200]
    changed = run.model(run.sample, edit=remove_tokens(run.sample, (), gone))
    both = maps.both_maps(changed.calls[3], run.trace.calls[3], 2)
    torch.testing.assert_close(torch.from_numpy(both[0]), run.trace.calls[3].token_map([2])[0])
    alone = run.model(run.sample, edit=remove_tokens(run.sample, gone))
    torch.testing.assert_close(torch.from_numpy(both[1]), alone.calls[3].token_map([2])[0])
    assert (both[1][:, gone] == 0).all()
    assert (both[0][:, gone] > 0).all()


def test_maps_before_the_first_blocked_layer_are_the_same() -> None:
    run = default_run("sentences")
    changed = run.model(run.sample, edit=block_edges(run.model, run.sample, [9], range(9), (), [3]))
    for layer in range(5):
        both = maps.both_maps(changed.calls[layer], run.trace.calls[layer], 0)
        assert (abs(both[1] - both[0]).max() > 1e-6) == (layer >= 3), layer
    assert maps.both_maps(changed.calls[3], run.trace.calls[3], 0)[1][9, :9].sum() == 0


def test_rows_hold_every_label() -> None:
    run = default_run("vit-digits")
    test = explained(run)
    after = run.model(run.sample, edit=remove_tokens(run.sample, [4, 5])).logits["class"][0]
    header, rows = answer.answer_rows(test, after)
    assert len(header) == 5
    assert [row[0] for row in rows] == list(run.model.outputs["class"])
    assert sum(row[3] for row in rows) == pytest.approx(1) == sum(row[4] for row in rows)
    assert rows[test.label][2] - rows[test.label][1] == pytest.approx(float(test.change(after)))


def test_sets_of_tokens_are_short_in_the_address() -> None:
    for tokens, said in (((), ""), ((3,), "3"), ((3, 4), "3-4"), ((9, 3, 4, 5, 7), "3-5,7,9")):
        assert spanned(tokens) == said
        assert spans(said) == tuple(sorted(tokens))
    assert spans("5-3,x,-2,1-,2-4-5, 7,8,99999999") == (1, 8)
    assert len(spans("0-999999")) == 4096
