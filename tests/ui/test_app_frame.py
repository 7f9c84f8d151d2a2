"""The frame around the pages: sidebar, state, caches, text, headers, and what is said when something is wrong."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import ui
from attnviz.models import IMAGES, MODELS, TEXTS, files, store
from attnviz.paths import ROOT
from attnviz.ui.core import cache, state
from attnviz.ui.core.cache import on_processor, traces
from attnviz.ui.core.recorded import known, recorded
from attnviz.ui.core.sized_cache import SizedCache, bytes_of
from attnviz.ui.inputs import samples, uploads
from attnviz.ui.inputs.image_run import ALONE, GONE, OWN, REPLACED
from attnviz.ui.inputs.sentences import sentences_of
from attnviz.ui.queries_keys.pairs import in_tex
from attnviz.ui.shell import page as shell_page
from attnviz.ui.shell import security, warmup
from attnviz.ui.shell.errors import NO_MEMORY, WRONG
from attnviz.ui.widgets.answers import classes_words
from attnviz.ui.widgets.output import npz, table


def opened(page: str = "", **parameters: str) -> AppTest:
    """The app, run once with these URL parameters, on the small model unless they name another."""
    app = AppTest.from_file(ROOT / "attnviz/main.py", default_timeout=60)
    for name, value in {"model": "vit-digits", **parameters}.items():
        app.query_params[name] = value
    app.run()
    return app.switch_page(f"../pages/{page}.py").run() if page else app


def png(size: tuple[int, int] = (60, 40), colour: str = "navy") -> bytes:
    """A small picture as a file in memory."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def said(app: AppTest) -> str:
    """All text on the page."""
    kinds = (app.title, app.markdown, app.caption, app.subheader, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def answers(app: AppTest) -> list[str]:
    """What the bars of the answer say."""
    return [bar.proto.text for bar in app.get("progress")]


# ---- the first screen


def test_start_shows_the_answer_and_a_map():
    app = opened()
    assert not app.error
    assert app.title[0].value == shell_page.section("start", "title")
    assert answers(app)[0].startswith("3 · ")
    names = [element.proto.component_name for element in app.get("bidi_component")]
    assert {"attnviz_gallery", "attnviz_view", "attnviz_transport", "attnviz_library"} <= set(names)


def test_start_says_what_the_model_knows():
    facts = attnviz.load("vit-digits").facts
    assert f"{facts['top1']:.1f} %" in said(opened()).replace("\u00a0", " ")
    assert classes_words(attnviz.load("vit-digits")) in said(opened())


@pytest.mark.parametrize("model", IMAGES)
def test_every_model_has_samples_and_opens_them(model: str):
    assert len(samples.samples_of(model)) >= 3
    app = opened(model=model)
    assert not app.error
    assert len(answers(app)) == 5


def test_an_upload_becomes_the_picture():
    app = opened()
    app.file_uploader(key="image").upload("mine.png", png(), "image/png").run()
    assert app.session_state["sample"] == "upload"
    assert app.selectbox(key="sample").value == "upload"
    assert not app.warning
    app.selectbox(key="sample").select("zero").run()
    assert answers(app)[0].startswith("0 · ")


def test_a_bad_upload_gets_a_sentence_and_changes_nothing():
    app = opened(sample="zero")
    before = answers(app)
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    app.file_uploader(key="image").upload("evil.png", svg, "image/png").run()
    assert "SVG" in app.warning[0].value
    assert not app.exception
    assert answers(app) == before
    app.selectbox(key="sample").select("two").run()  # of no use beside another picture
    assert not app.warning
    app.file_uploader(key="image").upload("evil.png", svg + b" ", "image/png").run()
    assert app.warning
    app.switch_page("../pages/heads.py").run()
    assert not app.warning
    app.switch_page("../pages/start.py").run()
    app.file_uploader(key="image").upload("good.png", png(), "image/png").run()
    assert not app.warning


def test_a_damaged_file_that_replaces_an_upload_leaves_it_where_it_is():
    app = opened(sample="zero")
    bring = app.file_uploader(key="image")
    bring.upload("mine.png", png(), "image/png").run()
    before = app.session_state[OWN]["upload"].digest
    app.file_uploader(key="image").set_value(None).run()  # a browser removes the first file before it sends the second
    assert app.session_state["sample"] != "upload"
    for _ in range(2):  # and the next damaged one
        app.file_uploader(key="image").upload("bad.png", png()[:60], "image/png").run()
        assert app.warning
        assert app.session_state["sample"] == "upload"
        assert app.session_state[OWN]["upload"].digest == before
        app.file_uploader(key="image").set_value(None).run()  # only the damaged file goes
        assert not app.warning
        assert app.session_state["sample"] == "upload"
    app.file_uploader(key="image").upload("good.png", png(colour="white"), "image/png").run()
    assert app.session_state[OWN]["upload"].digest != before


def test_a_picture_that_was_removed_does_not_come_back():
    app = opened(sample="zero")
    app.file_uploader(key="image").upload("mine.png", png(), "image/png").run()
    app.file_uploader(key="image").set_value(None).run()
    app.selectbox(key="sample").select("two").run()
    app.file_uploader(key="image").upload("bad.png", png()[:60], "image/png").run()
    assert app.warning
    assert not app.session_state[OWN]
    assert app.session_state["sample"] == "two"


@pytest.mark.parametrize("name", ["a.jfif", "a.JPE", "a.pjpeg", "a.heic", "a.avif", "a.webp"])
def test_the_uploader_takes_every_name_of_a_format(name: str):
    app = opened()
    types = app.file_uploader(key="image").proto.type
    assert f".{name.split('.')[1].lower()}" in types


def test_without_the_upload_the_last_sample_is_shown_again():
    app = opened(sample="three")
    app.file_uploader(key="image").upload("mine.png", png(), "image/png").run()
    app.session_state[OWN].clear()
    app.run()
    assert app.selectbox(key="sample").value == "three"


@pytest.mark.parametrize("kind", ["upload", "camera"])
def test_an_upload_of_an_earlier_session_is_said_to_be_gone(kind: str):
    app = opened(sample=kind)
    assert [warning.value for warning in app.warning] == [GONE]
    assert app.selectbox(key="sample").value in samples.samples_of("vit-digits")
    app.selectbox(key="sample").select("zero").run()
    assert not app.warning


@pytest.mark.parametrize(("old", "new"), samples.REPLACED.items())
def test_a_sample_of_an_old_address_is_said_to_be_replaced(old: str, new: str):
    app = opened(model="vit", sample=old)
    assert [warning.value for warning in app.warning] == [REPLACED.format(old=old, new=new)]
    assert app.selectbox(key="sample").value == new
    app.selectbox(key="sample").select("snail").run()
    assert not app.warning


def test_names_that_no_photograph_ever_had_are_replaced_by_nothing():
    assert not set(samples.REPLACED) & set(samples.SAMPLES["vit"])
    assert set(samples.REPLACED.values()) <= set(samples.SAMPLES["vit"])
    assert samples.replaced("vit", "coffee") == samples.replaced("bench/mha", "coffee") == "espresso"
    assert samples.replaced("vit-digits", "coffee") is samples.replaced("vit", "nobody") is None
    assert samples.replaced("vit", "snail") is samples.replaced("vit", None) is None


def test_the_author_of_a_photograph_stands_under_it():
    app = opened(model="vit", sample="cat")
    (caption,) = [caption for caption in app.sidebar.caption if "Chelsea" in caption.value]
    assert "`vit`" in caption.value, "which names it wrongly"
    assert "Stéfan van der Walt" in caption.proto.help


def test_an_upload_survives_a_change_of_page_and_of_model():
    app = opened()
    app.file_uploader(key="image").upload("mine.png", png(), "image/png").run()
    app.switch_page("../pages/heads.py").run()
    assert app.session_state["sample"] == "upload"
    app.selectbox(key="model").select("vit").run()
    assert app.session_state["sample"] == "upload"


# ---- state and the URL


def test_a_link_is_followed():
    app = opened(sample="zero")
    assert answers(app)[0].startswith("0 · ")


def test_unknown_values_fall_back_in_silence():
    app = opened(model="nobody", sample="../../etc/passwd", layer="99", token="-5,x,99999999,1e9")
    assert app.session_state["model"] == next(iter(MODELS))
    assert app.session_state["sample"] in samples.samples_of("vit")
    assert not app.error
    assert not app.exception


def test_another_model_keeps_a_valid_state():
    app = opened("heads", model="vit", layer="6", token="200")
    app.selectbox(key="model").select("vit-digits").run()
    assert not app.error, said(app)
    assert app.session_state["layer"] <= attnviz.load("vit-digits").config.layers
    app.selectbox(key="model").select("vit").run()
    assert not app.error, said(app)


def picker() -> None:
    """A page of one pick, for the tests below."""
    import streamlit as st

    from attnviz import ui

    ui.on_page(st.session_state.get("test page", "one"))
    st.write(f"picked {ui.chosen_tokens('token', 10, (3,))}")


@pytest.mark.parametrize(
    ("url", "picked"),
    [(None, (3,)), ("7", (7,)), ("7,2", (7, 2)), ("99", (3,)), ("1,99", (1,)), ("-1", (3,)), ("²", (3,)), ("", (3,))],
)
def test_picks_come_from_the_url(url: str | None, picked: tuple[int, ...]):
    app = AppTest.from_function(picker)
    if url is not None:
        app.query_params["token"] = url
    assert app.run().markdown[0].value == f"picked {picked}"


def address(app: AppTest) -> str | None:
    """What the page left in the URL for its pick."""
    return app.session_state[state.SEEN]["token"]


def test_a_pick_is_written_and_the_default_is_not():
    app = AppTest.from_function(picker).run()
    assert address(app) is None
    app.session_state["token"] = (5,)
    app.run()
    assert app.markdown[0].value == "picked (5,)"
    assert address(app) == "5"
    app.query_params["token"] = "5"  # AppTest does not carry what the script wrote to the next run
    app.session_state["token"] = (3,)
    app.run()
    assert address(app) is None


def test_going_back_is_followed():
    app = AppTest.from_function(picker).run()
    app.session_state["token"] = (5,)
    app.run()
    app.query_params["token"] = "8"  # what the back button does
    assert app.run().markdown[0].value == "picked (8,)"
    del app.query_params["token"]
    assert app.run().markdown[0].value == "picked (3,)"


def test_a_change_of_page_keeps_the_pick():
    app = AppTest.from_function(picker).run()
    app.session_state["token"] = (5,)
    app.run()
    del app.query_params["token"]  # Streamlit clears what is not bound when the page changes
    app.session_state["test page"] = "two"
    app.run()
    assert app.markdown[0].value == "picked (5,)"
    assert address(app) == "5"


def test_names_count_from_one():
    tokens = attnviz.load("vit-digits").prepare(Image.new("L", (8, 8))).tokens["main"]
    assert (ui.layer_name(0), ui.head_name(2)) == ("Layer 1", "Head 3")
    assert (ui.token_name(tokens, 0), ui.token_name(tokens, 6)) == ("CLS", "row 2, column 2")


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (26.0, "26"),
        (0.484, "0.484"),
        (20_061.0, "20{,}060"),
        (99_996.0, "100{,}000"),
        (-12_345.0, "-12{,}340"),
        (12_345_678.0, "1.235 \\times 10^{7}"),
        (1.234e-7, "1.234 \\times 10^{-7}"),
        (0.0, "0"),
    ],
)
def test_a_formula_holds_no_e_notation(number: float, written: str):
    assert in_tex(number) == written


@pytest.mark.parametrize("seed", range(20))
def test_numbers_of_a_formula_add_up_to_the_digit(seed: int):
    """What is written as a quotient gives the weight beside it, within one unit of its last digit."""
    scores = np.random.default_rng(seed).normal(size=64) * 2
    above, total = np.exp(scores[0]), np.exp(scores).sum()
    above_read, total_read = (float(in_tex(number).replace("{,}", "")) for number in (above, total))
    assert abs(above_read / total_read - round(above / total, 4)) < 1e-4


def test_what_is_added_in_a_formula_has_its_sign():
    assert [in_tex(number, "+") for number in (0.5, -2.0, 20_061.0)] == ["+0.5", "-2", "+20{,}060"]


# ---- what is shared between visitors


def test_a_cache_is_bounded_by_entries_and_bytes():
    kept: SizedCache = SizedCache(entries=3, size=1000)
    for name in "abcd":
        kept.get((name,), lambda: torch.zeros(10))
    assert len(kept) == 3
    kept.get(("big",), lambda: torch.zeros(240))
    assert (len(kept), kept.bytes) == (2, 1000)
    kept.get(("huge",), lambda: torch.zeros(5000))
    assert len(kept) == 1  # a value beyond the bound is still given, alone


def test_a_cache_makes_a_value_once_for_all_who_wait():
    kept: SizedCache = SizedCache(entries=3, size=1000)
    made, start = [], threading.Barrier(8)

    def ask() -> None:
        start.wait()
        kept.get(("a",), lambda: made.append(1) or torch.zeros(1))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_a_cache_forgets_failures():
    kept: SizedCache = SizedCache(entries=3, size=1000)
    with pytest.raises(ZeroDivisionError):
        kept.get(("a",), lambda: 1 / 0)
    assert kept.get(("a",), lambda: 2) == 2


def test_packed_records_are_counted_and_kept_apart():
    kept: SizedCache = SizedCache(entries=9, size=25)
    for name in "abc":
        kept.get((name,), lambda: bytes(10))
    assert (len(kept), kept.bytes, ("a",) in kept) == (2, 20, False)
    cache.records.clear()
    made = []
    for numbers, described in (
        (("d", 1, None), "x"),
        (("d", 1, None), "x"),
        (("d", 11, None), "x"),
        (("d", 1, None), "y"),
    ):
        found = cache.keep_record(*numbers)(described, lambda: made.append(1) or bytes([len(made)]))
    assert (len(made), found) == (3, bytes([3]))


def test_shared_storage_is_counted_once():
    whole = torch.zeros(100)
    assert bytes_of({"a": whole, "b": (whole[:10], whole[10:])}) == 400


def test_the_parameters_of_a_model_are_counted():
    model = attnviz.load("vit-digits")
    size = sum(p.nbytes for p in [*model.network.parameters(), *model.network.buffers()])
    assert size > 100_000
    assert bytes_of(model) == size
    kept: SizedCache = SizedCache(entries=64, size=2 * size)
    for name in "abc":
        one = attnviz.load("vit-digits")
        kept.get((name,), lambda one=one: one)
    assert (len(kept), kept.bytes) == (2, 2 * size)


def test_a_trace_does_not_count_the_parameters_of_its_network():
    model = attnviz.load("vit-digits")
    trace = model(model.prepare(Image.new("L", (8, 8))))
    alone, beside = bytes_of(trace), bytes_of(trace, model)
    assert 0 < beside < alone  # it holds views of projections and biases
    kept: SizedCache = SizedCache(entries=3, size=10**9)
    kept.get(("trace",), lambda: trace, beside=model)
    assert kept.bytes == beside


def test_what_was_used_longest_ago_goes_first():
    kept: SizedCache = SizedCache(entries=2, size=1000)
    for name in ("a", "b", "a", "c"):  # "a" is used again before "c" comes
        kept.get((name,), lambda name=name: name)
    assert kept.get(("a",), lambda: "made again") == "a"
    assert kept.get(("b",), lambda: "made again") == "made again"


def test_what_a_model_has_not_recorded_is_none():
    assert recorded(None) is None
    found = recorded(torch.ones(2, requires_grad=True))
    assert found is not None
    assert found.tolist() == [1, 1]
    with pytest.raises(ValueError, match="not recorded"):
        known(None)


def test_a_model_nobody_knows_has_samples():
    assert samples.samples_of("mine") == samples.samples_of("vit")
    assert samples.open_sample("mine", "cat").digest == samples.open_sample("vit", "cat").digest
    assert sentences_of("mine") == sentences_of("sentences")


def test_pages_do_not_change_a_trace():
    app = opened()
    model = attnviz.load("vit-digits")
    sample = model.prepare(samples.open_sample("vit-digits", "three").image)
    trace = traces().get((model.digest, sample.digest, "own"), lambda: pytest.fail("the trace is not kept"))
    before = [call.query.clone() for call in trace.calls], trace.logits["class"].clone()
    for page in sorted(path.stem for path in (ROOT / "pages").glob("*.py")):
        app.switch_page(f"../pages/{page}.py").run()
    after = [call.query for call in trace.calls], trace.logits["class"]
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert torch.equal(before[1], after[1])


def test_a_trace_of_another_device_comes_to_main_memory():
    model = attnviz.load("vit-digits", device="meta")
    model.network.to_empty(device="meta")
    trace = model.network(torch.zeros(1, 8, 8, device="meta"))
    # meta tensors cannot be copied, so only that every tensor is asked for is checked
    for logits in (trace.logits, {}):  # a model may have no outputs
        with pytest.raises(NotImplementedError):
            on_processor(replace(trace, logits=logits))


# ---- what is said when something is wrong


def test_a_damaged_model_names_itself_and_how_to_restore_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(files.ASSETS / "vit-digits", tmp_path / "vit-digits")
    weights = tmp_path / "vit-digits" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")
    monkeypatch.setattr(store, "ASSETS", tmp_path)
    st.cache_resource.clear()
    app, both = opened(), [*IMAGES, *TEXTS]
    assert len(app.error) == 1
    assert "assets/models/vit-digits/model.safetensors is damaged" in app.error[0].value
    assert "git checkout" in app.error[0].value
    assert not app.exception
    assert app.selectbox(key="model").options[: len(both)] == both  # the other one can be chosen
    st.cache_resource.clear()


def test_a_damaged_default_model_does_not_end_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def damaged(name: str, device: str) -> None:
        raise files.DamagedModel(files.ASSETS / name, "config.json", "is missing")

    warmup.default_model.clear()
    monkeypatch.setattr(warmup, "shipped", damaged)
    warmup.warm_up()
    assert "config.json is missing" in caplog.text


def test_the_first_visitor_finds_the_default_model_open(monkeypatch: pytest.MonkeyPatch):
    st.cache_resource.clear()
    warmup.warm_up()
    monkeypatch.setattr(cache, "load", None)  # not to be called
    assert cache.open_model(next(iter(IMAGES))).name == next(iter(IMAGES))
    st.cache_resource.clear()


def test_the_garbage_collector_passes_over_imported_modules(monkeypatch: pytest.MonkeyPatch):
    frozen: list[int] = []
    monkeypatch.setattr(warmup, "_frozen", 0)
    monkeypatch.setattr(warmup.gc, "freeze", lambda: frozen.append(len(sys.modules)))
    opened().run()
    assert frozen == [len(sys.modules)]  # once, after the page had imported what it needs
    warmup.freeze_imports()
    assert len(frozen) == 1
    monkeypatch.setitem(sys.modules, "one_more", sys)
    warmup.freeze_imports()
    assert len(frozen) == 2


def test_a_bug_is_logged_and_said_calmly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def broken(*args: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr(ui, "predictions", broken)
    app = opened()
    assert [error.value for error in app.error] == [WRONG]
    assert "secret detail" not in said(app)
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError(), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")],
)
def test_without_memory_a_sentence_is_shown(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def full(*args: object) -> None:
        raise error

    monkeypatch.setattr(ui, "predictions", full)
    assert [error.value for error in opened().error] == [NO_MEMORY]


# ---- text


def test_a_page_text_is_parsed():
    line = "- [Look here](heads?layer=3&drop=false&tokens=3,4&scale=log&share=0.5) Because."
    label, page, choices, why = shell_page.experiments(line)[0]
    assert (label, page, why) == ("Look here", "heads", "Because.")
    assert choices == {"layer": 3, "drop": False, "tokens": (3, 4), "scale": "log", "share": 0.5}


@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "pages").glob("*.py")))
def test_every_page_says_what_to_try_and_what_it_does_not_tell(page: str):
    tries = shell_page.experiments(shell_page.section(page, "What to try"))
    assert len(tries) == 3
    assert all((ROOT / "pages" / f"{t.page}.py").exists() for t in tries)
    assert len(shell_page.section(page, "What this does not tell you")) > 100
    assert not re.search(r"\w!", "".join(shell_page.sections(page).values()))  # "\\!" is a space in formulas


def test_the_questions_lead_to_pages():
    questions = shell_page.experiments(shell_page.section("start", "Questions"))
    assert len(questions) == 4
    for question in questions:
        app = opened()
        app.button(key=f"question:{question.page}").click().run()
        assert app.title[0].value == shell_page.section(question.page, "title")


# ---- downloads, samples, headers


def test_downloads_hold_the_exact_numbers():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = np.load(io.BytesIO(npz({"map": array})), allow_pickle=False)
    assert np.array_equal(found["map"], array)
    rows = table(["key", "weight"], [["row 1, column 2", 0.5]]).decode("utf-8-sig")
    assert rows == 'key,weight\n"row 1, column 2",0.5\n'


def test_every_csv_begins_with_the_mark_by_which_excel_knows_accents():
    assert table(["piece"], [["…ing"], ["déjà"]]) == b"\xef\xbb\xbfpiece\n\xe2\x80\xa6ing\nd\xc3\xa9j\xc3\xa0\n"
    files = [*ROOT.glob("attnviz/**/*.py"), *ROOT.glob("pages/**/*.py")]
    assert [path.name for path in files if "download_button(" in path.read_text(encoding="utf-8")] == ["output.py"]


def test_every_sample_has_a_licence_and_is_small():
    licences = (samples.FOLDER / "LICENSES.md").read_text()
    for model, names in samples.SAMPLES.items():
        files = {path.stem: path for path in (samples.FOLDER / model).iterdir()}
        assert set(files) == set(names)
        for path in files.values():
            assert f"{model}/{path.name}" in licences or f"{model}/*.png" in licences
            assert path.stat().st_size < 150_000
            image = uploads.decode(path.read_bytes()).image
            assert max(image.size) <= 1024


@pytest.fixture
def client() -> TestClient:
    """A small app behind our headers."""
    app = Starlette(routes=[Route("/{path:path}", lambda request: PlainTextResponse("here"))])
    app.add_middleware(security.SecurityHeaders)
    return TestClient(app)


def test_answers_carry_the_headers(client: TestClient):
    headers = client.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe-eval" not in headers["content-security-policy"]
    assert "script-src 'self' blob: 'sha256-" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/_stcore/metrics", "/heads/_stcore/metrics", "/_stcore/metrics/"])
def test_metrics_are_closed(client: TestClient, path: str):
    assert client.get(path).status_code == 404


def test_the_policy_allows_exactly_the_inline_scripts():
    assert security.inline_scripts('<script src="a.js"></script><script>\nlet a;\n</script>') == [
        "'sha256-" + __import__("base64").b64encode(__import__("hashlib").sha256(b"\nlet a;\n").digest()).decode() + "'"
    ]


def test_the_settings_keep_the_app_to_itself():
    import tomllib

    settings = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["showErrorDetails"] == "none"
    assert "light" in settings["theme"]
    assert "dark" in settings["theme"]
    assert json.dumps(settings).count("http") == 0


@pytest.mark.parametrize("name", ["translate", "generate", "lesson", "train"])
def test_a_page_with_models_of_its_own_says_that_the_choice_is_not_for_it(name: str) -> None:
    app = opened(name)
    assert any(ALONE[name] in caption.value for caption in app.sidebar.caption)
    assert not any(ALONE[name] in caption.value for caption in opened("heads").sidebar.caption)
