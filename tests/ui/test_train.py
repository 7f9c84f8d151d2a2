"""The Train page, run without a browser: what it says, what it draws, and what becomes of a trained network."""

from __future__ import annotations

import json
import time

import pytest
from streamlit.testing.v1 import AppTest

from attnviz.attention import OPTIONS, VARIANTS
from attnviz.attention.variants.xca import REASON
from attnviz.paths import ROOT
from attnviz.training.live import runs as live_runs
from attnviz.training.live.runs import Plan, TrainingRun
from attnviz.ui.core.cache import SESSION_MODELS
from attnviz.ui.shell import training_status
from attnviz.ui.train import choices, runs
from attnviz.ui.widgets.options import identifier, no_options

ENTMAX = Plan(("mha", "mha"), options=(("normaliser", "entmax15"), ("talking", "both")))
PAGES = ("start", "embeddings", "positions", "follow", "queries_keys", "heads", "explain")


def opened(page: str = "train", **parameters: str) -> AppTest:
    """The app at one of its pages, with these parameters in the URL."""
    app = AppTest.from_file(ROOT / "attnviz/main.py", default_timeout=120)
    for name, value in {"model": "vit-digits", **parameters}.items():
        app.query_params[name] = value
    app.run()
    return app.switch_page(f"../pages/{page}.py").run()


def said(app: AppTest) -> str:
    """Everything the page says in words."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.warning, app.info, app.error)
    bars = [bar.proto.text for bar in app.get("progress")]
    return "\n".join([*(str(element.value) for kind in kinds for element in kind), *bars]).replace("\u00a0", " ")


def views_of(app: AppTest) -> dict[str, dict]:
    """What each canvas view was told, by its name."""
    views = [json.loads(c.proto.json) for c in app.get("bidi_component") if "attnviz_view" in c.proto.component_name]
    return {one["name"]: one for one in views}


def charts(app: AppTest) -> dict[str, dict[str, list]]:
    """The curves of each chart: name of the chart -> name of the curve -> places."""
    found = {}
    for chart in app.get("plotly_chart"):
        name = next(n for n in ("accuracy", "loss") if n in chart.proto.id)
        found[name] = {curve["name"]: curve["y"] for curve in json.loads(chart.proto.spec)["data"]}
    return found


def run_of(app: AppTest) -> TrainingRun:
    """What this visitor trains."""
    return app.session_state[training_status.RUN]


def button(app: AppTest, key: str):
    """A button by its key."""
    return app.button(key=key)


def trained(app: AppTest) -> AppTest:
    """The Train page after its run has finished."""
    button(app, "train:start").click().run()
    for _ in range(1200):
        if not run_of(app).active:
            return app.run()
        training_status.queue().heartbeat(run_of(app))
        time.sleep(0.1)
    raise AssertionError("it did not end")


def test_the_page_begins_with_what_chance_has_made():
    app = opened()
    assert not app.error
    assert app.title[0].value == "Train"
    assert runs.NOT_TRAINED in said(app)
    assert views_of(app)["train:all:0"]["maps"] == ["train:0:0", "train:0:1", "train:0:2"]
    assert not any(b.key in ("stop", "resume", "again") for b in app.button)


def test_choices_come_from_the_address():
    app = opened(variant="uniform", rival="mha", epochs="5", seed="7", digit="8")
    run = run_of(app)
    assert run.plan == Plan(("uniform", "mha"), 5, 7)
    assert views_of(app)["train:all:1"]["maps"][0] == "train:1:0"


def test_a_variant_with_options_is_compared_with_itself_without_them():
    app = opened(normaliser="entmax15", talking="both", rival=choices.PLAIN)
    assert run_of(app).plan == ENTMAX
    assert [model.title in said(app) for model in run_of(app).models] == [True, True]
    app.selectbox(key="variant").select("linear").run()  # it has no options, so there is nothing to leave out either
    assert run_of(app).plan == Plan(("linear",))
    assert no_options("linear") in said(app)
    assert not app.exception


@pytest.mark.parametrize(
    ("address", "plan"),
    [
        (
            {"variant": "Uniform", "rival": "Multi-head attention", "places": "Sine and cosine, one sequence"},
            Plan(("uniform", "mha"), positions="sine"),
        ),
        ({"variant": "Nyströmformer", "rival": "nobody", "places": "None"}, Plan(("nystrom",), positions="none")),
        (
            {"normaliser": "Entmax 1.5", "talking": "Both", "rival": "the same without options"},
            Plan(("mha", "mha"), options=(("normaliser", "entmax15"), ("talking", "both"))),
        ),
        (
            {"normaliser": "Top 8", "sink": "A key", "talking": "After it", "qk_norm": "Yes"},
            Plan(("mha",), options=(("normaliser", "top"), ("sink", "key"), ("talking", "after"), ("qk_norm", True))),
        ),
        ({"normaliser": "Softmax", "sink": "None", "talking": "No", "qk_norm": "No"}, Plan(("mha",))),
    ],
)
def test_old_addresses_ask_for_the_same_plan(address: dict[str, str], plan: Plan):
    assert run_of(opened(**address)).plan == plan


@pytest.mark.parametrize("name", OPTIONS)
def test_every_value_of_an_option_has_an_identifier(name: str):
    values = OPTIONS[name].values
    identifiers = [identifier(value) for value in values]
    assert len(set(identifiers)) == len(values)
    assert all(isinstance(one, str) and one for one in identifiers)


def test_choices_that_do_not_exist_fall_back():
    app = opened(variant="nothing", rival="?", epochs="99", seed="-4", places="x", digit="77", tile="9,9", epoch="50")
    assert run_of(app).plan == Plan(("mha",))
    assert not app.error


@pytest.mark.trains
def test_a_run_is_finished_replayed_and_opened_on_other_pages():
    app = opened(variant="uniform", rival="mha", epochs="5")
    app = trained(app)
    assert run_of(app).state == "done", run_of(app).notice
    assert "5 of 5 · step 100 of 100" in said(app)
    assert {name: len(values) for name, values in names_of(app, "accuracy").items()} == {"Uniform": 6, MHA: 6}
    assert {len(values) for values in names_of(app, "loss").values()} == {100}
    last = maps_sent(app)
    app.slider(key="epoch").set_value(0).run()
    assert maps_sent(app) != last
    assert not app.error
    button(app, "open:1").click().run()
    name = f"Trained here: {MHA}"
    assert app.session_state["model"] == name
    assert app.session_state[SESSION_MODELS][name].facts["steps"] == 100
    for page in PAGES:
        app.switch_page(f"../pages/{page}.py").run()
        assert not app.error, (page, said(app))
        assert app.selectbox(key="model").value == name
    other = opened("heads", model=name)  # another visitor does not have it
    assert other.session_state["model"] == "vit"
    assert not other.error


MHA = VARIANTS["mha"].title


def names_of(app: AppTest, chart: str) -> dict[str, list]:
    """The curves of one chart as lists."""
    found = charts(app)[chart]
    return {name: decoded(values) for name, values in found.items()}


def decoded(values) -> list:
    """A curve as plotly packs it."""
    if isinstance(values, dict):
        import base64

        import numpy as np

        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()
    return list(values)


def maps_sent(app: AppTest) -> list[bytes]:
    """The bytes of every map on the page."""
    return [c.proto.bytes for c in app.get("bidi_component") if "attnviz_transport" in c.proto.component_name]


def test_stop_and_resume_by_their_buttons():
    app = opened(epochs="40")
    button(app, "train:start").click().run()
    assert run_of(app).active
    button(app, "stop").click().run()
    run = run_of(app)
    until_step(run)
    assert run.state in ("stopped", "ready")
    assert not run.active
    reached = run.step
    if run.state == "stopped":
        button(app, "resume").click().run()
        button(app, "stop").click().run()
        assert run.step >= reached


@pytest.mark.parametrize("emptied", [False, True], ids=["address kept", "address emptied"])
def test_who_comes_back_finds_the_choices_of_the_run(emptied: bool):
    asked = {"variant": "uniform", "rival": "mha", "epochs": "5", "seed": "7", "places": "none"}
    app = opened(**asked)
    plan = run_of(app).plan
    assert (plan.epochs, plan.seed) == (5, 7)
    button(app, "train:start").click().run()
    button(app, "stop").click().run()
    until_step(run_of(app))
    run_of(app).models[0].losses[:] = run_of(app).models[1].losses[:] = [2.3]  # however far it came, it has begun
    app.segmented_control(key="epochs").set_value(20).run()
    assert runs.other_plan(plan) in said(app)
    app.switch_page("../pages/start.py").run()
    if emptied:  # as the browser's back button finds it
        for name in asked:
            app.query_params.pop(name, None)
    app.switch_page("../pages/train.py").run()
    assert app.segmented_control(key="epochs").value == 5
    assert runs.other_plan(plan) not in said(app)
    assert button(app, "again").label == runs.AGAIN
    app.segmented_control(key="epochs").set_value(40).run()  # and may choose anew
    assert app.segmented_control(key="epochs").value == 40
    assert run_of(app).plan == plan


@pytest.mark.parametrize(
    "plan",
    [
        Plan(("mha",)),
        Plan(("uniform", "mha"), 40, 3, "none"),
        Plan(("mha",), norm_first=False),
        Plan(("mha",), options=(("sink", "score"), ("qk_norm", True))),
        ENTMAX,
    ],
)
def test_choices_ask_for_the_plan_they_were_made_of(plan: Plan):
    app, run = opened("start"), TrainingRun(plan)
    for model in run.models:
        model.losses.append(2.3)  # it has begun
    app.session_state[training_status.RUN] = run
    app.switch_page("../pages/train.py").run()
    assert button(app, "again").label == runs.AGAIN
    assert run_of(app) is run


def until_step(run: TrainingRun) -> None:
    """Wait until the thread of a run has ended."""
    if run.thread is not None:
        run.thread.join(60)


def test_a_run_without_room_is_queued(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_status.queue(), "max_running", 0)
    app = opened()
    button(app, "train:start").click().run()
    assert run_of(app).state == "queued"
    assert training_status.queued(1) in said(app)
    app.switch_page("../pages/start.py").run()
    assert training_status.queued(1) in said(app)
    app.switch_page("../pages/train.py").run()
    button(app, "stop").click().run()
    assert run_of(app).state == "ready"


def test_an_error_is_said_in_a_sentence():
    app = opened()
    run = run_of(app)
    run.state, run.notice = "failed", "It went astray."
    app.run()
    assert "It went astray." in said(app)
    assert not app.exception


def open_heads(app: AppTest, variant: str) -> None:
    """The Heads page with a network of this variant that the visitor has trained."""
    model = live_runs.LiveModel(Plan((variant,)))
    app.session_state[SESSION_MODELS] = {"Trained here: X": live_runs.open_live(model, "Trained here: X")}
    app.run()
    app.session_state["model"] = "Trained here: X"
    app.switch_page("../pages/heads.py").run()


def test_a_variant_without_a_token_map_says_so_here_and_elsewhere():
    app = opened(variant="xca")
    assert REASON in said(app)
    assert views_of(app)["train:all:0"]["mode"] == "matrix"
    open_heads(app, "xca")
    assert not app.error
    assert REASON in said(app)


def test_every_call_of_a_layer_with_two_is_shown_and_named():
    app = opened()
    open_heads(app, "axial")
    assert not app.exception
    grid = views_of(app)["all"]
    assert grid["rows"] == [f"Layer {n}, along {line}" for n in (1, 2, 3) for line in ("columns", "rows")]
    assert len(grid["maps"]) == 6
    app.session_state["layer"] = "2 rows"
    app.run()
    assert views_of(app)["all"]["selected"] == [3, 0]
    assert "Layer 2, along rows, head 1:" in said(app)
    app.switch_page("../pages/queries_keys.py").run()
    assert not app.exception


def test_the_table_over_seeds_is_shown_where_it_was_measured(monkeypatch: pytest.MonkeyPatch):
    row = {
        "title": "A network",
        "parameters": 7,
        "accuracy": [97.0, 98.0],
        "mean": 97.5,
        "interval": [91.1, 100.0],
        "seconds": [1.0, 3.0],
        "steps": 4,
        "batch": 5,
        "device": "cpu",
        "threads": 1,
        "trained_on": 6,
        "held_out": 450,
    }
    monkeypatch.setattr(runs.digits, "results", lambda: [row])
    assert runs.SEEDS in said(opened())
    assert "| A network | 7 | 97.00, 98.00 | 97.50 | 91.1 to 100.0 | 2.0 |" in said(opened())
    monkeypatch.setattr(runs.digits, "results", lambda: [])
    assert runs.SEEDS not in said(opened())
