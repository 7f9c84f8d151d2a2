"""The page Explain run without a browser: its words, its choices, an upload, and exact downloads."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import ui, views
from attnviz.measures.faithfulness import by_part, parts_of, rank_correlation
from attnviz.methods import METHODS, Method, Option
from attnviz.methods.input_gradients import integrate
from attnviz.paths import ROOT
from attnviz.types import Target, Tokens
from attnviz.ui.core.cache import SESSION_MODELS
from attnviz.ui.explain import choice as choices
from attnviz.ui.explain import compared, files, large, sending, steps
from attnviz.ui.inputs.samples import open_sample, samples_of
from attnviz.ui.shell.page import experiments, section
from attnviz.ui.widgets.output import npz
from tests.foreign import foreign_models
from tests.pages import open_page
from tests.ui.test_heads import views_of

PATCHES = Tokens.patches(4, 4, ["CLS"])  # of `vit-digits`


def opened(**choices: str) -> AppTest:
    """The page as a deep link with these choices opens it."""
    at = AppTest.from_file(str(ROOT / "attnviz/main.py"), default_timeout=60)
    at.query_params["model"] = "vit-digits"
    for name, value in choices.items():
        at.query_params[name] = value
    at.run()
    at.switch_page("../pages/explain.py")
    for name, value in choices.items():  # a change of page clears parameters nobody has bound yet
        at.query_params[name] = value
    return at.run()


def usual(start: str = choices.ANSWER, token: int = 5, **options: object) -> choices.Choice:
    """A rollout with these options, and the declared defaults for the others."""
    given = {option.name: option.default for option in METHODS["rollout"].options} | options
    return choices.Choice(start, token, given, depth=3)


def words(at: AppTest) -> str:
    """Everything the page says."""
    assert not at.exception
    assert not at.error
    kinds = (at.title, at.subheader, at.markdown, at.caption)
    return "\n".join(element.value for kind in kinds for element in kind)


def png(size: tuple[int, int], seed: int = 0) -> bytes:
    """A picture of coloured noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def controls(at: AppTest) -> dict[str, object]:
    """The value of every control of the page, by its key."""
    kinds = (at.selectbox, at.segmented_control, at.slider, at.toggle)
    return {str(one.key): one.value for kind in kinds for one in kind}


def test_the_page_opens_with_the_usual_rollout():
    at = opened()
    said = words(at)
    choice = usual()
    assert steps.small(choice.labels(PATCHES)) in said
    assert "‖x‖ to ‖attention(x)‖" in said
    assert steps.PER_MAP in said
    found = controls(at)
    assert {key: found[key] for key in ("method", "target", "fusion", "range")} == {
        "method": "rollout",
        "target": "answer",
        "fusion": "mean",
        "range": "own",
    }
    assert [found[key] for key in ("alpha", "discard", "rows", "from")] == [50, 0, False, 1]
    assert views_of(at)["raw"]["index"] == 3  # after the rollouts from each of three layers on


def test_every_choice_changes_the_labels():
    at = opened()
    at.segmented_control(key="range").set_value("shared")
    at.slider(key="alpha").set_value(25)
    at.slider(key="discard").set_value(90)
    at.slider(key="from").set_value(3)
    at.toggle(key="rows").set_value(True)
    at.session_state["fusion"] = "max"
    at.session_state["target"] = choices.TOKEN
    at.session_state["token"] = (6,)
    said = words(at.run())
    choice = usual(start=choices.TOKEN, token=6, fusion="max", alpha=0.25, discard=0.9, by_row=True, first=2)
    assert steps.small(choice.labels(PATCHES)) in said
    assert "of row 2, column 2, layer 3  " in said
    assert steps.ON_ONE_SCALE in said
    assert views_of(at)["large"]["shared"]
    assert views_of(at)["large"]["index"] == 2


@pytest.mark.parametrize("values", [("Mean of patches", "Minimum", "One for all"), ("mean", "min", "shared")])
def test_a_link_of_any_time_shows_its_choices(values: tuple[str, str, str]):
    at = opened(**dict(zip(("target", "fusion", "range"), values, strict=True)), alpha="70", discard="40")
    choice = usual(start=choices.MEAN, fusion="min", alpha=0.7, discard=0.4)
    assert steps.small(choice.labels(PATCHES)) in words(at)
    assert [controls(at)[key] for key in ("target", "fusion", "range")] == ["mean", "min", "shared"]


def test_unknown_values_in_an_address_fall_back():
    at = opened(method="nothing", target="Everything", fusion="Sum", alpha="700", token="999999")
    assert steps.small(usual().labels(PATCHES)) in words(at)


# Methods of the table, and one that is not there


def test_raw_attention_of_any_layer_can_be_chosen():
    at = opened(method="raw attention")
    assert controls(at)["layer-layer"] == 3
    at.slider(key="layer-layer").set_value(2).run()
    words(at)
    assert views_of(at)["large"]["index"] == 1
    model = attnviz.load("vit-digits")
    sample = model.prepare(open_sample("vit-digits", at.session_state["sample"]).image)
    row = attnviz.explain("raw attention", model, sample, layer=1).numpy()[1:]
    table = at.dataframe[0].value
    assert table.iloc[0, 1] == pytest.approx(100 * row.max(), rel=1e-4)


ASKED: list[dict] = []
OPTIONS = (
    Option("kind", "Flavour", "choice", "b", "Which one.", {"a": "First", "b": "Second"}),
    Option("strength", "Strength", "share", 0.25, range=(0.0, 0.5)),
    Option("inverted", "Inverted", "toggle", False),
    Option("layer", "Layer", "layer", None),
)


def made_up(model, sample, target=None, *, trace=None, kind="b", strength=0.25, inverted=False, layer=None):
    """What this made-up method says of itself."""
    ASKED.append({"target": target, "kind": kind, "strength": strength, "inverted": inverted, "layer": layer})
    row = torch.linspace(-1, 1, len(sample.tokens["main"]))
    return strength * (-row if inverted else row)


@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
def test_a_method_of_one_line_is_on_the_page_with_its_controls_and_its_picture(monkeypatch, model: str):
    """One option of every kind, signed, about a class: all of it is drawn from the declaration."""
    line = Method("Made up", made_up, OPTIONS, signed=True, needs_class=True)
    monkeypatch.setitem(METHODS, "made-up", line)
    sent: dict[str, dict] = {}
    send = views.send_maps
    monkeypatch.setattr(
        views, "send_maps", lambda slot, *maps, **how: (sent.update({slot: how}), send(slot, *maps, **how))
    )
    at = open_page("explain", model=model, method="made-up")
    found, depth = controls(at), int(at.slider(key="layer-layer").max)
    assert [found[key] for key in ("kind-choice", "strength-share", "inverted-toggle", "layer-layer")] == [
        "b",
        25,
        False,
        depth,
    ]
    assert not {"fusion", "alpha", "discard", "rows", "from", "target", "range"} & set(found)
    assert at.selectbox(key="class").options
    at.slider(key="strength-share").set_value(50)
    at.toggle(key="inverted-toggle").set_value(True)
    at.segmented_control(key="kind-choice").set_value("a")
    at.selectbox(key="class").set_value("1")
    ASKED.clear()
    at.run()
    asked = {(one["kind"], one["strength"], one["inverted"]) for one in ASKED}
    assert asked == {("a", 0.5, True)}
    assert [one["layer"] for one in ASKED] == list(range(depth))
    assert {one["target"].label for one in ASKED} == {1}
    drawn = views_of(at)["large"]
    assert (drawn["maps"], drawn["index"]) == (sending.SLOT, depth - 1)
    assert sent[sending.SLOT]["signed"]
    assert sent[sending.SLOT]["unit"] == "number"
    said = words(at)
    assert "Made up" in said
    assert steps.DIVERGING in said
    assert str(made_up.__doc__) in said


@pytest.mark.parametrize("method", [name for name, how in METHODS.items() if how.needs_gradients])
@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
def test_a_method_of_a_class_shows_the_map_of_the_class_that_is_chosen(model: str, method: str):
    at = open_page("explain", model=model, method=method)
    words(at)
    found, one = controls(at), at.dataframe[0].value
    assert {choices.parameter(option) for option in METHODS[method].options} <= set(found)
    assert found["method"] == method
    assert "target" not in found
    predicted = found["class"]
    at.selectbox(key="class").set_value("1" if predicted != "1" else "0").run()
    words(at)
    assert not at.dataframe[0].value.equals(one)


def test_an_upload_is_rolled_out():
    at = opened()
    before = at.dataframe[0].value
    at.file_uploader(key="image").upload("mine.png", png((90, 60)), "image/png").run()
    assert at.session_state["sample"] == "upload"
    words(at)
    assert not at.dataframe[0].value.equals(before)


def test_a_change_of_model_keeps_the_page_whole():
    at = opened()
    at.slider(key="from").set_value(3).run()
    at.selectbox(key="model").set_value("vit").run()
    assert " to 6  " in words(at)
    at.slider(key="from").set_value(6).run()
    at.selectbox(key="model").set_value("vit-digits").run()
    assert ", layers 1 to 3" in words(at)


# What the page shows is what the method says


@pytest.fixture(scope="module")
def visit() -> object:
    """A visit without a running app."""
    model = attnviz.load("vit-digits")
    picture = Image.open(io.BytesIO(png((40, 40), 3))).convert("RGB")
    sample = model.prepare(picture)
    from attnviz.ui.inputs.image_run import ImageRun

    return ImageRun(model=model, name="vit-digits", picture=picture, sample=sample, trace=model(sample), source="noise")


CHOICES = [
    usual(),
    usual(start=choices.MEAN, fusion="max", alpha=0.3, discard=0.5, first=1),
    usual(start=choices.TOKEN, token=7, fusion="min", alpha=0.6, discard=0.7, by_row=True),
    choices.Choice(choices.TOKEN, 7, {"fusion": "max", "layer": 1}, "raw attention", 3),
]


@pytest.mark.parametrize("choice", CHOICES)
def test_the_maps_are_those_of_the_methods(visit, choice):
    result = steps.work_out(visit, choice)
    layer = choice.how.layer_option.name
    for at in range(choice.depth):
        options = {**choice.options, layer: at}
        row = attnviz.explain(choice.method, visit.model, visit.sample, start=choice.start_token, **options)
        assert np.allclose(result.steps[at], row, atol=1e-6)
    fusion = choice.options["fusion"]
    row = attnviz.explain("raw attention", visit.model, visit.sample, start=choice.start_token, fusion=fusion)
    assert np.allclose(result.raw, row, atol=1e-6)
    if choice.start == choices.TOKEN:
        assert result.every.shape == (4, 17, 17)
        assert np.array_equal(result.every[choice.at, choice.token], result.steps[choice.at])
    assert np.allclose(result.steps.sum(-1), 1, atol=1e-5)


def test_held_maps_change_nothing(visit, monkeypatch):
    choice = CHOICES[2]
    kept = steps.work_out(visit, choice)
    monkeypatch.setattr(large, "HELD", 0)
    monkeypatch.setattr(steps, "SENT", 0)
    again = steps.work_out(visit, choice)
    assert again.every is None
    assert np.allclose(kept.steps, again.steps, atol=1e-6)
    assert np.allclose(kept.raw, again.raw, atol=1e-6)


def test_downloads_hold_the_exact_numbers_with_their_labels(visit):
    choice = CHOICES[1]
    result = steps.work_out(visit, choice)
    with np.load(io.BytesIO(npz(files.arrays(visit, choice, result, "the cat")))) as file:
        assert np.array_equal(file["rollout"], result.steps[1])
        assert {"start: the cat", "residual weight: 30 %", "discard ratio: 50 %"} <= set(file["labels"])
    header, table = files.rows(visit, choice, result, "the cat")
    assert header[:3] == ["token", "rollout", "raw attention of the last layer"]
    assert {row[header.index("start")] for row in table} == {"the cat"}
    assert len(table) == 17
    assert all(len(row) == len(header) for row in table)


def test_files_are_called_by_page_method_and_input():
    choice = choices.Choice("answer", 0, method="integrated gradients")
    assert files.file_name(choice, "coffee") == "explain-integrated-gradients-coffee"


@pytest.mark.parametrize(("model", "start"), [("vit-digits", "explain-legrad-"), ("sentences", "explain-legrad-text")])
def test_the_page_gives_its_files_that_name(monkeypatch, model: str, start: str):
    names: list[str] = []
    monkeypatch.setattr(ui, "downloads", lambda maps, row, name: names.append(name))
    open_page("explain", model=model, method="legrad")
    assert names
    assert all(name.startswith(start) for name in names)


def test_a_click_chooses_the_start(visit, monkeypatch):
    made = {}
    monkeypatch.setattr(choices, "go", lambda **chosen: made.update(chosen))
    choices.pick(visit, (4, 9))
    assert made == {"target": choices.TOKEN, "token": (9,)}
    choices.pick(visit, ())
    assert made["target"] == choices.ANSWER
    made.clear()
    choices.pick(visit, (0,))  # the answer is read from CLS
    assert made == {"target": choices.ANSWER}


@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
@pytest.mark.parametrize("name", ["attention flow", "norm-based", "alti", "value zeroing"])
def test_methods_along_all_layers_have_their_map(name: str, model: str):
    """From the answer and from one token; those that take seconds are kept and leave no bar behind."""
    for target in (choices.ANSWER, choices.TOKEN):
        at = open_page("explain", model=model, method=name, target=target)
        assert METHODS[name].title in words(at)
        assert not at.get("progress")


# Other methods beside it


WITH = ["generic attention", "input x gradient", "random"]


def tiles_of(at: AppTest) -> dict[str, dict]:
    """The small maps beside the large one, by the name of their method."""
    assert not at.exception
    assert not at.error
    return {name.removeprefix("tile:"): one for name, one in views_of(at).items() if name.startswith("tile:")}


@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
def test_methods_from_an_address_stand_beside_the_chosen_one(model: str):
    at = open_page("explain", model=model, **{choices.WITH: WITH})
    assert at.pills(key=choices.WITH).value == WITH
    found = tiles_of(at)
    assert list(found) == WITH
    assert [found[name]["maps"] for name in WITH] == [sending.SLOT, sending.OTHER, sending.SLOT]
    depth = int(at.slider(key="from").max)
    assert [found[name]["index"] for name in WITH] == [depth + 1, 0, depth + 2]  # after the layers and raw attention
    at.segmented_control(key="range").set_value("shared").run()
    assert all(one["shared"] for one in tiles_of(at).values())
    assert steps.SIGNED_SHARED in words(at)


def test_a_click_makes_a_method_the_main_one(monkeypatch):
    made = {}
    monkeypatch.setattr(choices, "go", lambda **chosen: made.update(chosen))
    choices.make_main(choices.Choice("answer", 0, compared=("legrad", "random")), "legrad", (3,))
    assert made == {"method": "legrad", choices.WITH: ["rollout", "random"]}


def test_flow_has_its_bound_beside_it():
    at = open_page("explain", model="vit-digits", method="attention flow")
    assert list(tiles_of(at)) == [compared.BOUND]


@pytest.mark.parametrize("method", ["rollout", "raw attention", "alti"])
def test_where_the_method_does_not_apply_the_others_are_shown(method: str):
    at = open_page("explain", model="bench/xca", method=method, **{choices.WITH: ["integrated gradients", "random"]})
    assert "large" not in views_of(at)
    assert list(tiles_of(at)) == ["integrated gradients", "random"]
    assert at.info


def test_a_model_without_classes_says_so_beside_the_others():
    at = AppTest.from_file(str(ROOT / "attnviz/main.py"), default_timeout=300)
    foreign = next(one.model for one in foreign_models().values() if not one.model.outputs and not one.model.tokenizer)
    at.session_state[SESSION_MODELS] = {"mine": foreign}
    at.query_params["model"] = "mine"
    at.run()
    at.session_state[choices.WITH] = ["legrad", "norm-based"]
    at.switch_page("../pages/explain.py").run()
    assert "norm-based" in tiles_of(at)
    assert "legrad" not in tiles_of(at)
    assert any(steps.NAMES_NO_CLASS in one.value for one in at.info)


@pytest.mark.parametrize(("model", "output"), [("vit-digits", "class"), ("sentences", "tag"), ("stories", "word")])
def test_one_class_is_held_against_another(model: str, output: str):
    """The table shows input times gradient of the difference, of one token's answer where each has one."""
    at = open_page("explain", model=model, method="input x gradient", output=output)
    one = at.dataframe[0].value
    key = "against-class" if output != "tag" else "against-class-tag"
    at.selectbox(key=key).select_index(1).run()
    assert not at.exception
    assert not at.error
    assert at.selectbox(key=key).value != "none"
    assert not at.dataframe[0].value.equals(one)
    assert (output == "class") == ("answer-at" not in controls(at))


def test_the_difference_of_two_classes_is_the_methods(visit):
    target = Target("class", 0, 3, 5)
    choice = choices.Choice("answer", 5, {"per_token": "sum", "baseline": "zero", "steps": 20}, "integrated gradients")
    choice = replace(choice, depth=3, target=target)
    row = attnviz.explain("integrated gradients", visit.model, visit.sample, target)
    assert np.allclose(steps.work_out(visit, choice).steps[0], row, atol=1e-6)
    found = integrate(visit.model, visit.sample, target)
    assert f"{float(found.change):.4g}" in steps.completeness(visit, choice)
    assert f"{float(found.error):.2g}, {abs(100 * float(found.error / found.change)):.2g} %" in steps.completeness(
        visit, choice
    )


def test_maps_are_made_once_for_an_input_and_its_choices(visit, monkeypatch):
    calls: list = []
    monkeypatch.setattr(steps, "explain", lambda *given, **options: calls.append(options) or torch.ones(17))
    choice = choices.Choice("answer", 5, {}, "alti", 3, compared=("value zeroing",))
    steps.explained.clear()
    for _ in range(2):
        steps.work_out(visit, choice)
        compared.tiles(visit, choice)
    assert len(calls) == 2
    steps.work_out(visit, replace(choice, start=choices.TOKEN))
    assert len(calls) == 3
    steps.explained.clear()


def test_signed_maps_on_one_scale_are_shares_of_their_absolute_values():
    rows = sending.balanced(np.array([[1.0, -3.0], [0.0, 0.0]]))
    assert np.array_equal(rows, [[0.25, -0.75], [0, 0]])


# What to try


def choices_of_the_link(page: str) -> dict[str, object]:
    """What the link chooses that compares several methods."""
    (found,) = [one.choices for one in experiments(section(page, "What to try")) if choices.WITH in one.choices]
    return found


def compared_in_a_link(page: str) -> list[str]:
    """The main method and those beside it, in the link that compares several."""
    found = choices_of_the_link(page)
    beside = found[choices.WITH]
    assert isinstance(beside, list)
    return [str(found["method"]), *beside]


@pytest.mark.parametrize(("name", "page"), [("vit", "explain"), ("sentences", "text/explain")])
def test_methods_of_the_link_disagree_and_those_of_a_class_change_with_it(name: str, page: str):
    """On what a visitor then sees: maps that look alike would be nothing to compare."""
    model, methods = attnviz.load(name), compared_in_a_link(page)
    shown = open_sample(name, samples_of(name)[0]).image if name == "vit" else choices_of_the_link(page)["text"]
    sample = model.prepare(shown)
    output = "class" if name == "vit" else "sentiment"
    best, other = model(sample).logits[output][0].topk(2).indices.tolist()
    parts = parts_of(sample.tokens["main"])

    def maps(label: int) -> torch.Tensor:
        target = Target(output, 0, label)
        return torch.stack([by_part(attnviz.explain(one, model, sample, target), parts) for one in methods])

    one, two = maps(best), maps(other)
    alike = torch.stack([rank_correlation(row, one) for row in one])
    assert len(methods) >= 4
    assert float(alike.fill_diagonal_(0).abs().max()) < 0.75
    for method, before, after in zip(methods, one, two, strict=True):
        correlation = float(rank_correlation(before, after))
        if METHODS[method].needs_class:
            assert correlation < 0.95, method
        else:
            assert torch.equal(before, after), method
