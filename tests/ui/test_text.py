"""The pages of models that read text, run without a browser: every page, any text, links, what they show."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from attnviz.measures.words import grouping
from attnviz.models import TEXTS, load_text
from attnviz.ui.embeddings import text as embeddings_text
from attnviz.ui.embeddings.stages import INPUT, TOKEN
from attnviz.ui.explain import choice as rollout_choice
from attnviz.ui.explain import steps
from attnviz.ui.explain import text as rollout_text
from attnviz.ui.heads import text as heads_text
from attnviz.ui.inputs.sentences import PAIRS, SENTENCES, sentences_of
from attnviz.ui.inputs.text_run import NO_TEXT, TextRun
from attnviz.ui.positions.origin import ROTARY
from attnviz.ui.positions.text import SCHEMES
from attnviz.ui.shell.page import FOLDER, PAGES, experiments, section, sections
from attnviz.ui.shell.prose import coloured
from attnviz.ui.widgets import text_display
from attnviz.ui.widgets.text_display import Look
from tests.pages import open_page

OWN = sorted(path.stem for path in (PAGES / "text").glob("*.py"))
HARD = {
    "empty": "",
    "one letter": "x",
    "endless": "word " * 800,
    "emoji": "I 💚 this 👩‍🚀 film",
    "right to left": "שלום לכולם",
    "control": "a\u202eb\x00\x07c",
    "html": "</script><b onclick=alert(1)>bold</b> [MASK] & $x$ **y**",
    "quotes": "\"it's 'so",
}


def said(at: AppTest) -> str:
    """Everything the page says in words."""
    kinds = (at.title, at.subheader, at.markdown, at.caption, at.info, at.warning)
    return "\n".join(str(part.value) for kind in kinds for part in kind).replace("\u00a0", " ")


@pytest.mark.parametrize("model", TEXTS)
@pytest.mark.parametrize("page", OWN)
def test_every_page_opens_with_every_model_of_texts(page: str, model: str):
    at = open_page(page, model=model)
    assert at.title[0].value == section(f"text/{page}", "title")
    assert at.session_state["text"] == sentences_of(model)[0]
    assert not at.warning
    names = [element.proto.component_name for element in at.get("bidi_component")]
    assert names.count("attnviz_view") >= 1


@pytest.mark.parametrize("page", ["heads", "embeddings"])
@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_any_text_is_shown(page: str, text: str):
    at = open_page(page, model="sentences", text=text)
    assert not at.warning
    if text == "":
        assert [info.value for info in at.info] == [NO_TEXT]
    if text == HARD["endless"]:
        assert re.search(r"256 tokens.*“word”.* 546 words", said(at))


@pytest.mark.parametrize("page", OWN)
def test_a_decoder_shows_its_first_token_alone(page: str):
    open_page(page, model="stories", text="")


def test_a_sample_of_another_model_is_read_if_it_was_typed():
    at = open_page("heads", model="stories", text=SENTENCES["sentences"][0])
    assert at.session_state["text"] == SENTENCES["sentences"][0]
    at.run()
    assert at.session_state["text"] == SENTENCES["sentences"][0]


def test_even_attention_of_a_decoder_stays_below_one():
    model = load_text("stories")
    call = model(model.prepare("The old man")).calls[0]
    count = len(call.keys)
    even = [math.log(seen) / math.log(count) for seen in range(2, count + 1)]  # BOS is not counted
    assert heads_text.even(call) == pytest.approx(sum(even) / len(even))


def test_pictures_and_texts_leave_out_tokens_each_by_a_choice_of_its_own():
    at = open_page("heads", model="vit")
    assert at.toggle(key="drop").value
    at.selectbox(key="model").set_value("sentences").run()
    assert not at.exception
    assert not at.toggle(key="leave").value


@pytest.mark.parametrize("text", [HARD["empty"], HARD["html"]], ids=["empty", "html"])
@pytest.mark.parametrize("page", ["start", "positions", "queries_keys", "explain"])
def test_the_other_pages_show_the_hardest(page: str, text: str):
    open_page(page, model="sentences", text=text)


@pytest.mark.parametrize("page", [*OWN, "compare"])
def test_every_text_page_says_what_to_try_and_what_it_does_not_tell(page: str):
    tries = experiments(section(f"text/{page}", "What to try"))
    assert len(tries) == 3
    assert len(section(f"text/{page}", "What this does not tell you")) > 100
    for experiment in tries:
        assert experiment.page in [*OWN, "compare"]


def test_pages_of_texts_belong_to_pages_of_pictures():
    assert {path.stem for path in PAGES.glob("*.py")} >= set(OWN)
    shared = {"compare", "follow", "test"}  # one script for pictures and texts, with words of its own for each
    assert {path.stem for path in (FOLDER / "text").glob("*.md")} == {*OWN, *shared}
    assert "title" in sections("text/heads")


def test_a_change_of_model_changes_the_page_and_back():
    at = open_page("heads", model="sentences")
    assert "word" in said(at)
    at.selectbox(key="model").select("vit-digits").run()
    assert not at.exception
    assert not at.error
    assert at.title[0].value == section("heads", "title")
    assert at.selectbox(key="sample").value == "three"


def test_lines_are_those_of_the_opened_head_and_of_others_beside_it():
    at = open_page("heads", model="sentences", head="5", beside="Head 2")
    for opened, beside in ((5, ["Head 2"]), (4, ["Head 2"]), (2, []), (3, [])):
        at.segmented_control(key="head").set_value(opened).run()
        assert not at.exception
        assert at.session_state["beside"] == beside  # the opened one is no choice: its lines are drawn anyway
        assert f"Head {opened}" not in at.pills(key="beside").options


def test_a_text_survives_a_page_without_it_and_a_sample_does_not_survive_its_model():
    at = open_page("start", model="sentences", text="My own words.")
    at.switch_page("../pages/compare.py").run()
    assert not at.error
    assert at.text_area(key="text").value == "My own words."
    at.selectbox(key="model").select("vit").run()
    assert at.selectbox(key="sample").value
    at.selectbox(key="model").select("sentences").run()
    assert at.text_area(key="text").value == "My own words."
    at.switch_page("../pages/text/start.py").run()
    assert at.session_state["text"] == "My own words."
    at.selectbox(key="model").select("stories").run()
    assert at.session_state["text"] == "My own words."
    at = open_page("start", model="sentences")
    at.selectbox(key="model").select("stories").run()
    assert at.session_state["text"] == SENTENCES["stories"][0]


def test_a_mask_in_the_text_is_answered_and_a_special_token_is_not():
    text = "She poured water from the [MASK] into the glass."
    labels = load_text("sentences").prepare(text).tokens["main"].labels
    counts = [
        len(open_page("start", model="sentences", text=text, token=str(token)).get("progress"))
        for token in (0, labels.index("MASK"))
    ]
    assert counts == [1, 6]  # the sentiment alone; and five tokens that may stand there


def test_samples_and_pairs_are_read():
    at = open_page("start", model="sentences")
    at.button(key="sample:1").click().run()
    assert at.session_state["text"] == SENTENCES["sentences"][1]
    pair = SENTENCES["sentences"].index(next(iter(PAIRS)))
    at.button(key=f"sample:{pair}").click().run()
    assert at.session_state["second"] == PAIRS[SENTENCES["sentences"][pair]]
    at.button(key="sample:0").click().run()
    assert not at.session_state["second"]
    at.button(key="treebank:0").click().run()
    assert at.session_state["text"] in heads_text.treebank()
    assert not at.error


def test_a_link_with_another_text_lets_go_of_the_second_sentence():
    text, second = next(iter(PAIRS.items()))
    at = open_page("heads", model="sentences", text=text, second=second)
    assert at.session_state["second"] == second
    at.button(key="text/heads:try:2").click().run()
    assert at.session_state["text"] != text
    assert not at.session_state["second"]


def test_signs_among_the_pieces_are_shown_as_they_are():
    text = "One * two - three *"
    star = load_text("stories").prepare(text).tokens["main"].labels.index("…*")
    at = open_page("start", model="stories", text=text, token=str(star))
    assert "After **…\\***" in said(at)
    assert "After **…\\***" in said(open_page("explain", model="stories", text=text))
    at = AppTest.from_string("from attnviz.ui.widgets.text_answers import bars; bars([('*', 0.5)])").run()
    assert at.get("progress")[0].proto.text.startswith("\\* · ")


def test_start_says_what_the_model_says():
    model = load_text("sentences")
    text = "What a wonderful, funny and moving film!"
    share = float(model(model.prepare(text)).logits["sentiment"][0].softmax(-1)[1])
    at = open_page("start", model="sentences", text=text)
    bars = [bar.proto.text for bar in at.get("progress")]
    assert any(f" {100 * share:.1f} %" in bar.replace("\u00a0", " ") for bar in bars)
    assert f"{model.facts['sst2']} %" in said(at)


def test_whole_words_and_special_tokens():
    text = "An unbelievably tiny dog."
    pieces = load_text("sentences").prepare(text).tokens["main"]
    at = open_page("heads", model="sentences", text=text, token=str(pieces.labels.index("An")))
    assert "what “An” attends to" in said(at)
    at.toggle(key="words").set_value(True).run()
    inside = next(i for i, label in enumerate(pieces.labels) if label.startswith("…"))
    at = open_page("heads", model="sentences", text=text, token=str(inside), words="true", leave="true").run()
    assert "what “unbelievably” attends to" in said(at)
    assert "Hidden: CLS, SEP, which take" in said(at)


@pytest.mark.parametrize("special", [True, False])
def test_the_numbers_of_a_whole_word_are_those_of_its_picture(special: bool):
    model = load_text("sentences")
    sample = model.prepare("An unbelievably tiny hippopotamus")
    call, tokens = model(sample).calls[1], sample.tokens["main"]
    look = Look(grouping(tokens, whole_words=True, special=special), tokens, special=special)
    chosen = [i for i, label in enumerate(look.tokens.labels) if label in ("unbelievably", "tiny")]
    assert len(look.groups.groups[chosen[0]]) > 1
    drawn = look.maps(call.token_map([2]).detach().numpy())[0]
    found = heads_text.exact_row(call, 2, look, chosen)
    np.testing.assert_allclose(found["weight"], drawn[chosen].sum(0), atol=1e-6)
    assert len(found["weighted by value"]) == len(look.tokens)


def test_arcs_show_the_picked_word_alone_also_the_one_in_the_middle():
    at = open_page("heads", model="sentences", view="arcs")

    def shown() -> list[int]:
        views = [json.loads(part.proto.json) for part in at.get("bidi_component") if part.proto.json]
        return next(view["tokens"] for view in views if isinstance(view, dict) and view.get("name") == "arcs")

    assert shown() == []
    tokens = load_text("sentences").prepare(SENTENCES["sentences"][0]).tokens["main"]
    at.session_state["token"] = (text_display.middle(tokens),)
    at.run()
    assert len(shown()) == 1


def test_only_a_network_with_a_trained_head_says_that_one_was_trained():
    text = next(iter(heads_text.treebank()))
    assert section("text/heads", "Arcs, where one head was trained") in said(
        open_page("heads", model="sentences", view="arcs", text=text)
    )
    at = open_page("heads", model="stories", view="arcs", text=text)
    assert section("text/heads", "Arcs") in said(at)
    assert section("text/heads", "Arcs, where one head was trained") not in said(at)


def test_the_input_of_a_network_without_a_table_of_positions_is_not_called_with_position():
    named = {}
    for model in ("sentences", "stories"):
        at = open_page("embeddings", model=model)
        named[model] = at.select_slider(key="stage").options
        assert at.session_state["stage"] == "embedding"
    assert named["sentences"][0] == named["stories"][0] == TOKEN
    assert named["stories"][1] == INPUT != named["sentences"][1]


@pytest.mark.parametrize(
    ("old", "stage"), [("Enters layer 1", "input"), ("With position", "input"), ("After layer 5", "layer-5")]
)
def test_an_old_address_opens_the_same_stage(old: str, stage: str):
    assert open_page("embeddings", model="stories", stage=old).session_state["stage"] == stage


def test_neighbours_are_those_of_all_cosines_without_special_tokens():
    model = load_text("sentences")
    sample = model.prepare("The dog barks.")
    run = TextRun(model=model, name="sentences", sample=sample, trace=model(sample), source="text")
    table = model.input_embeddings.double().numpy()
    units = table / np.linalg.norm(table, axis=-1, keepdims=True)
    id = int(sample.inputs["main"][2])
    expected = units @ units[id]
    expected[[id, *model.tokenizer.special_ids]] = -2
    found = embeddings_text.neighbours(run, id, 5)
    best = np.argsort(-expected)[:5]
    assert [label for label, _ in found] == [model.tokenizer.label(int(i)) for i in best]
    assert [cosine for _, cosine in found] == pytest.approx(expected[best], abs=1e-5)
    few = len(table) - len(model.tokenizer.special_ids) - 1
    assert len(embeddings_text.neighbours(run, id, len(table) + 5)) == few


def test_a_stored_sentence_has_gold_arcs_and_others_do_not():
    at = open_page("heads", model="sentences", view="arcs", text=next(iter(heads_text.treebank())))
    assert section("text/heads", "Arcs") in said(at)
    assert section("text/heads", "Arcs") not in said(open_page("heads", model="sentences", view="arcs"))


def test_the_same_word_in_two_sentences():
    at = open_page("embeddings", model="sentences", text="The dog barks.", other="A dog sleeps.", token="2")
    rows = len(load_text("sentences").input_embeddings)
    assert f"{rows:,}" in said(at)  # of how many rows the nearest are shown
    assert "“dog” in your text and in “A dog sleeps\\.”: cosine **1.00**" in said(at)
    at = open_page("embeddings", model="sentences", text="The dog barks.", other="A cat sleeps.", token="2")
    assert [info.value for info in at.info] == [embeddings_text.NO_TWIN.format(token="dog")]
    at = open_page("embeddings", model="sentences", text="dog and dog", token="1")
    assert "at positions 1 and 3" in said(at)


@pytest.mark.parametrize(
    ("scheme", "identifier"),
    [
        *((scheme, scheme) for scheme in SCHEMES),
        ("Sines and cosines", "sine"),  # these four in old addresses
        ("Rotary", "rotary"),
        ("ALiBi", "alibi"),
        ("T5 buckets", "t5"),
    ],
)
def test_every_scheme_is_drawn(scheme: str, identifier: str):
    at = open_page("positions", model="stories", scheme=scheme)
    assert at.session_state["scheme"] == identifier
    assert len(at.get("plotly_chart")) >= 2
    assert coloured(section("text/positions", identifier)) in said(at)
    assert section("text/positions", ROTARY) in said(at)


@pytest.mark.parametrize(
    ("page", "parameter", "old", "identifier"),
    [
        ("positions", "change", "Shuffled", "shuffled"),
        ("positions", "change", "Removed", "none"),
        ("queries_keys", "stage", "Scaled", "scaled"),
        ("queries_keys", "picture", "Columns are queries", "columns"),
        ("queries_keys", "map", "t-SNE", "tsne"),
        ("queries_keys", "paint", "Kind", "kind"),
    ],
)
def test_an_old_address_opens_the_same_choice(page: str, parameter: str, old: str, identifier: str):
    at = open_page(page, model="sentences", **{parameter: old})
    assert at.session_state[parameter] == identifier


def test_old_kinds_of_models_are_opened():
    at = open_page("positions", model="stories", scheme="T5 buckets", kind="Decoder")
    assert at.session_state["kind"] == "decoder"


def test_a_rollout_of_a_whole_word_is_that_of_all_its_pieces():
    text = "An unbelievably tiny hippopotamus"
    pieces = load_text("sentences").prepare(text).tokens["main"]
    word = [i for i, number in enumerate(pieces.words or ()) if number == 1]
    assert len(word) > 1
    choice = rollout_choice.Choice(rollout_choice.TOKEN, word[-1], depth=2)
    rows = np.random.default_rng(0).dirichlet(np.ones(len(pieces)), (3, len(pieces))).astype(np.float32)
    result = steps.Result(rows[:-1, word[-1]], rows[-1, word[-1]], rows)
    look = Look(grouping(pieces, whole_words=True, special=False), pieces, special=False)
    group = rollout_text.group_of(choice, look)
    whole = rollout_text.of_word(result, look, group)
    assert group is not None
    np.testing.assert_allclose(whole.raw, rows[-1, word].mean(0), rtol=1e-6)
    assert look.tokens.labels[group] == "unbelievably"
    at = open_page("explain", model="sentences", text=text, target="One word", token=str(word[-1]), words="true").run()
    assert "**Rollout** of unbelievably" in said(at)


def test_nobody_chose_the_head_that_another_page_began_with():
    at = open_page("heads", model="stories")
    at.switch_page("../pages/generate.py").run()
    assert not at.exception
    assert at.segmented_control(key="of_layer").value == at.segmented_control(key="of_head").value == "All"
