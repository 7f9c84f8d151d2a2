"""Training to watch: it learns, stops and goes on as if unbroken, and shares the server with others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import torch

from attnviz.attention import VARIANTS
from attnviz.models import ImageModel
from attnviz.paths import ROOT
from attnviz.training.images.recipes import RECIPES
from attnviz.training.live import runs
from attnviz.training.live.queue import FAILED, Queue
from attnviz.training.live.runs import EPOCH, Diverged, Plan, TrainingRun

MHA = VARIANTS["mha"].title

BOTH = Plan(("mha", "uniform"), epochs=1)

LEARNS = pytest.mark.trains


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that a thread does."""
    for _ in range(int(seconds * 100)):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


class Toy(TrainingRun):
    """A race without networks: every step waits for its turn."""

    def __init__(self, steps: int = 1000, error: BaseException | None = None):
        super().__init__(Plan(()))
        self.state, self.made, self.all, self.error = "ready", 0, steps, error
        self.gate = threading.Event()

    step = property(lambda self: self.made)
    steps = property(lambda self: self.all)

    def advance(self) -> None:
        self.gate.wait(10)
        time.sleep(0.001)
        if self.error is not None:
            raise self.error
        self.made += 1


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def learned() -> TrainingRun:
    """One network after eight epochs, trained by a thread."""
    track, race = Queue(away=1000), TrainingRun(Plan(("mha",), epochs=8))
    track.submit(race)
    race.thread.join(300)
    return race


# ---- learning


@LEARNS
def test_a_short_run_learns_to_read(learned: TrainingRun):
    assert (learned.state, learned.notice) == ("done", "")
    accuracies = [moment.accuracy for moment in learned.lanes[0].moments]
    assert accuracies[0] < 0.3
    assert accuracies[-1] >= 0.9
    assert [moment.step for moment in learned.lanes[0].moments] == list(range(0, 161, 20))
    assert len(learned.lanes[0].losses) == learned.step == 8 * EPOCH


def test_an_epoch_is_one_pass_over_the_digits():
    smallest = min(torch.bincount(torch.from_numpy(runs.pictures("train").labels)).tolist())
    assert 10 * smallest // runs.BATCH == EPOCH


@LEARNS
def test_the_maps_of_every_epoch_are_kept(learned: TrainingRun):
    assert runs.watched().labels.tolist() == list(range(10))
    maps = [moment.maps[-1].array for moment in learned.lanes[0].moments]
    assert [m.shape for m in maps] == [(10, 4, 16, 16)] * 9
    assert all(abs(m.sum(-1) - 1).max() < 1e-5 for m in maps)
    assert abs(maps[0] - maps[-1]).max() > 0.1


@LEARNS
def test_stop_and_resume_is_an_unbroken_run():
    track, whole, broken = Queue(away=1000), TrainingRun(BOTH), TrainingRun(BOTH)
    while whole.step < whole.steps:
        whole.advance()
    track.submit(broken)
    until(lambda: broken.step >= 3)
    track.leave(broken)
    assert broken.state == "stopped"
    reached = broken.step
    assert 3 <= reached < broken.steps
    track.submit(broken)
    broken.thread.join(300)
    assert broken.state == "done"
    for one, other in zip(whole.lanes, broken.lanes, strict=True):
        assert one.losses == other.losses
        for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_plan_is_the_recipe_of_the_digits_made_short():
    plan = Plan(("mha", "mha"), epochs=3, seed=4, options=(("sink", "key"),))
    first, plain = plan.recipe(0), plan.recipe(1)
    assert (first.steps, first.batch, first.learning_rate, first.ema_decay, first.seed) == (60, 64, 8e-3, 0.9, 4)
    assert (first.config.options, plain.config.options) == ({"sink": "key"}, {})
    assert (first.config.pooling, first.config.prefix) == ("mean", ())
    assert Plan.positions == RECIPES["vit-digits"].config.positions
    assert plan.whole_title(1) == f"{MHA}, seed 4"
    assert Plan(("mha",)).whole_title(0) == MHA
    assert "positions: " in Plan(("mha",), positions="sine2d").whole_title(0)


def test_a_race_that_nobody_can_run_has_no_epochs():
    race = TrainingRun(Plan(()))
    assert (race.state, race.epoch, race.step) == ("failed", 0, 0)


def test_racers_see_the_same_pictures():
    race = TrainingRun(Plan(("mha", "linformer"), epochs=1, seed=3))
    for _ in range(3):
        race.advance()
        one, other = (lane.run for lane in race.lanes)
        assert torch.equal(one.random.get_state(), other.random.get_state())
        assert torch.equal(one.queue, other.queue)


def test_options_change_the_first_network_and_nothing_of_its_plain_self():
    race = TrainingRun(Plan(("mha", "mha"), epochs=1, options=(("normaliser", "entmax15"), ("sink", "key"))))
    assert [lane.title for lane in race.lanes] == [f"{MHA} (entmax 1.5, null key)", MHA]
    assert [lane.network.blocks[0].attention.normalisation.chosen for lane in race.lanes] == [True, False]
    plain = TrainingRun(Plan(("mha",), epochs=1))
    for _ in range(2):
        race.advance()
        plain.advance()
    assert race.lanes[1].losses == plain.lanes[0].losses
    assert race.lanes[0].losses != plain.lanes[0].losses
    assert runs.opened(race.lanes[0], "it").config.options == {"normaliser": "entmax15", "sink": "key"}


def test_options_that_exclude_each_other_leave_the_race_to_the_other():
    race = TrainingRun(Plan(("mha", "mha"), options=(("normaliser", "sigmoid"), ("sink", "score"))))
    assert [lane.title for lane in race.lanes] == [MHA]
    assert "(sigmoid, sink) cannot take part: a sink takes weight" in race.refused[0]


def test_the_seed_decides_and_the_process_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    same, again, other = (TrainingRun(Plan(("mha",), 1, seed)).lanes[0].network.embed.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


@LEARNS
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_takes_a_step_or_says_why_not(variant: str):
    race = TrainingRun(Plan((variant,), epochs=1))
    if not race.lanes:
        assert race.state == "failed"
        assert VARIANTS[variant].title in race.refused[0]
        return
    before = race.lanes[0].run.network.classify.weight.clone()
    race.advance()
    assert race.lanes[0].losses[0] == pytest.approx(2.303, abs=0.3)
    assert not torch.equal(before, race.lanes[0].run.network.classify.weight)
    for one in race.lanes[0].moments[0].maps:
        assert one.array.shape[0] == 10
        assert one.reason or one.array.shape[-2:] == (16, 16)


def test_a_variant_that_refuses_leaves_the_race_to_the_other(monkeypatch: pytest.MonkeyPatch):
    class Refuses(VARIANTS["uniform"]):
        title = "Nothing"

        def __init__(self, *args, **options):
            raise ValueError("needs more than patches.")

    monkeypatch.setitem(VARIANTS, "uniform", Refuses)
    race = TrainingRun(BOTH)
    assert [lane.variant for lane in race.lanes] == ["mha"]
    assert race.refused == ["Nothing cannot take part: needs more than patches."]
    assert TrainingRun(Plan(("uniform",))).state == "failed"


# ---- the model that comes out


@LEARNS
def test_what_was_trained_is_a_model_of_its_own(learned: TrainingRun):
    lane = learned.lanes[0]
    model = runs.opened(lane, "Trained here: it")
    assert isinstance(model, ImageModel)
    assert model.facts["top1"] == pytest.approx(100 * lane.moments[-1].accuracy, abs=0.01)
    assert not any(p.requires_grad for p in model.network.parameters())
    assert model.network is not lane.network
    digests = {
        runs.opened(race.lanes[0], "it").digest
        for race in (TrainingRun(Plan(("mha",))), TrainingRun(Plan(("mha",), seed=1)))
    }
    assert len({model.digest, *digests}) == 3


def test_variants_of_equal_parameters_differ_in_digest():
    one, other = (runs.opened(lane, "it") for lane in TrainingRun(Plan(("mha", "window"))).lanes)
    assert one.digest != other.digest


# ---- sharing the server


def test_two_at_once_and_the_third_waits_and_starts_by_itself():
    track, races = Queue(), [Toy(), Toy(), Toy(), Toy()]
    for race in races:
        track.submit(race)
    assert [race.state for race in races] == ["running", "running", "waiting", "waiting"]
    assert [track.look(race) for race in races] == [0, 0, 1, 2]
    races[0].gate.set()
    track.leave(races[0])
    until(lambda: races[2].state == "running")
    assert [track.look(race) for race in races] == [0, 0, 0, 1]
    assert len(track.running) == 2
    track.leave(races[3])
    assert races[3].state == "ready"
    for race in races:
        race.gate.set()
        track.leave(race)
    until(lambda: not track.running)


def test_the_room_is_given_on_when_a_race_is_done():
    track, first, second = Queue(room=1), Toy(steps=5), Toy(steps=5)
    track.submit(first)
    track.submit(second)
    assert second.state == "waiting"
    first.gate.set()
    second.gate.set()
    until(lambda: second.state == "done")
    assert first.state == "done"
    assert (first.step, second.step) == (5, 5)


def test_a_race_nobody_looks_at_is_paused_and_can_go_on():
    clock = Clock()
    track, race, waiting = Queue(room=1, clock=clock), Toy(steps=50_000), Toy()
    track.submit(race)
    track.submit(waiting)
    race.gate.set()
    until(lambda: race.step > 2)
    clock.now = 29.0
    track.look(waiting)
    clock.now = 31.0
    until(lambda: race.state == "stopped")
    assert "nobody was watching" in race.notice
    until(lambda: waiting.state == "running")
    waiting.gate.set()
    clock.now = 100.0
    until(lambda: waiting.state == "stopped")
    track.submit(race)
    assert (race.state, race.notice) == ("running", "")
    track.leave(race)
    until(lambda: not track.running)


def test_who_has_left_the_line_is_not_called():
    clock = Clock()
    track, race, gone = Queue(room=1, clock=clock), Toy(), Toy()
    track.submit(race)
    track.submit(gone)
    clock.now = 31.0
    track.look(race)
    assert gone.state == "ready"
    assert track.line == []
    race.gate.set()
    track.leave(race)


def test_a_race_that_takes_too_long_is_ended():
    work = Clock()
    track, race = Queue(work=work), Toy(steps=50_000)
    track.submit(race)
    race.gate.set()
    until(lambda: race.step > 2)
    work.now = 301.0
    until(lambda: race.state == "failed")
    assert "more than 5 minutes" in race.notice


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(Diverged("It went astray."), "It went astray."), (MemoryError(), "not enough memory"), (KeyError("x"), FAILED)],
)
def test_an_error_becomes_a_sentence(error: Exception, sentence: str):
    track, race = Queue(), Toy(error=error)
    track.submit(race)
    race.gate.set()
    until(lambda: not track.running)
    assert race.state == "failed"
    assert sentence in race.notice


def test_a_loss_that_is_no_number_ends_the_race():
    track, race = Queue(away=1000), TrainingRun(BOTH)
    with torch.no_grad():
        race.lanes[1].run.network.classify.weight.fill_(float("nan"))
    track.submit(race)
    race.thread.join(60)
    assert race.state == "failed"
    assert race.notice.startswith("Uniform went astray at step 1")


def test_resuming_while_it_still_stops_loses_nothing():
    track, race = Queue(), Toy(steps=30)
    track.submit(race)
    track.leave(race, patience=0)
    track.submit(race)
    race.gate.set()
    until(lambda: race.state == "done")
    assert race.step == 30


ALONE = """
import os, sys, tempfile
from attnviz.training.live.runs import LiveModel, Plan

def none():
    raise FileNotFoundError(2, "No usable temporary directory found")

def watch(event, given):
    path, flags = (given[0], given[2] if event == "open" else os.O_CREAT) if event in ("open", "os.mkdir") else ("", 0)
    if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and path != os.devnull:
        written.append(path)

written = []
tempfile.tempdir, tempfile._get_default_tempdir = None, none
sys.addaudithook(watch)
lane = LiveModel(Plan(("mha",)))
lane.advance()
print(len(lane.losses), [path for path in written if not os.path.isdir(path)])
print(os.environ.get("TORCHINDUCTOR_CACHE_DIR"))
"""


def test_a_network_learns_where_nothing_can_be_written():
    given = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    given.pop("TORCHINDUCTOR_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=ROOT, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:2] == ["1 []", "None"]
