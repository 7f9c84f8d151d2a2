"""Live training: it learns, resumes exactly, and shares the server with other runs."""

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
from attnviz.training.live.runs import STEPS_PER_EPOCH, Diverged, Plan, TrainingRun

MHA = VARIANTS["mha"].title

BOTH = Plan(("mha", "uniform"), epochs=1)

LEARNS = pytest.mark.trains


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a thread has made the condition true."""
    for _ in range(int(seconds * 100)):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the condition never became true")


class Toy(TrainingRun):
    """A run without models, whose steps wait for a gate."""

    def __init__(self, steps: int = 1000, error: BaseException | None = None):
        super().__init__(Plan(()))
        self.state, self.steps_done, self.total, self.error = "ready", 0, steps, error
        self.gate = threading.Event()

    step = property(lambda self: self.steps_done)
    steps = property(lambda self: self.total)

    def advance(self) -> None:
        self.gate.wait(10)
        time.sleep(0.001)
        if self.error is not None:
            raise self.error
        self.steps_done += 1


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def learned() -> TrainingRun:
    """A run of one model after eight epochs, trained by the queue."""
    queue, run = Queue(stale_after=1000), TrainingRun(Plan(("mha",), epochs=8))
    queue.submit(run)
    run.thread.join(300)
    return run


# ---- learning


@LEARNS
def test_a_short_run_learns_to_read(learned: TrainingRun):
    assert (learned.state, learned.notice) == ("done", "")
    accuracies = [snapshot.accuracy for snapshot in learned.models[0].snapshots]
    assert accuracies[0] < 0.3
    assert accuracies[-1] >= 0.9
    assert [snapshot.step for snapshot in learned.models[0].snapshots] == list(range(0, 161, 20))
    assert len(learned.models[0].losses) == learned.step == 8 * STEPS_PER_EPOCH


def test_an_epoch_is_one_pass_over_the_digits():
    smallest = min(torch.bincount(torch.from_numpy(runs.load_digits("train").labels)).tolist())
    assert 10 * smallest // runs.BATCH == STEPS_PER_EPOCH


@LEARNS
def test_every_epoch_has_a_snapshot_of_the_maps(learned: TrainingRun):
    assert runs.probe_pictures().labels.tolist() == list(range(10))
    maps = [snapshot.maps[-1].array for snapshot in learned.models[0].snapshots]
    assert [m.shape for m in maps] == [(10, 4, 16, 16)] * 9
    assert all(abs(m.sum(-1) - 1).max() < 1e-5 for m in maps)
    assert abs(maps[0] - maps[-1]).max() > 0.1


@LEARNS
def test_a_resumed_run_equals_an_uninterrupted_one():
    queue, whole, broken = Queue(stale_after=1000), TrainingRun(BOTH), TrainingRun(BOTH)
    while whole.step < whole.steps:
        whole.advance()
    queue.submit(broken)
    until(lambda: broken.step >= 3)
    queue.stop(broken)
    assert broken.state == "stopped"
    reached = broken.step
    assert 3 <= reached < broken.steps
    queue.submit(broken)
    broken.thread.join(300)
    assert broken.state == "done"
    for one, other in zip(whole.models, broken.models, strict=True):
        assert one.losses == other.losses
        for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_plan_shortens_the_recipe_of_the_digits():
    plan = Plan(("mha", "mha"), epochs=3, seed=4, options=(("sink", "key"),))
    first, plain = plan.recipe(0), plan.recipe(1)
    assert (first.steps, first.batch, first.learning_rate, first.ema_decay, first.seed) == (60, 64, 8e-3, 0.9, 4)
    assert (first.config.options, plain.config.options) == ({"sink": "key"}, {})
    assert (first.config.pooling, first.config.prefix) == ("mean", ())
    assert Plan.positions == RECIPES["vit-digits"].config.positions
    assert plan.full_title(1) == f"{MHA}, seed 4"
    assert Plan(("mha",)).full_title(0) == MHA
    assert Plan(("mha",), norm_first=False).full_title(0) == f"{MHA}, post-norm"
    assert [Plan(("mha",), norm_first=first).recipe(0).config.norm_first for first in (True, False)] == [True, False]
    assert "positions: " in Plan(("mha",), positions="sine2d").full_title(0)


def test_a_run_without_models_has_failed_and_has_no_epochs():
    run = TrainingRun(Plan(()))
    assert (run.state, run.epoch, run.step) == ("failed", 0, 0)


def test_models_of_a_run_train_on_the_same_batches():
    run = TrainingRun(Plan(("mha", "linformer"), epochs=1, seed=3))
    for _ in range(3):
        run.advance()
        one, other = (model.training for model in run.models)
        assert torch.equal(one.random.get_state(), other.random.get_state())
        assert torch.equal(one.queue, other.queue)


def test_options_apply_to_the_first_model_only():
    run = TrainingRun(Plan(("mha", "mha"), epochs=1, options=(("normaliser", "entmax15"), ("sink", "key"))))
    assert [model.title for model in run.models] == [f"{MHA} (entmax 1.5, null key)", MHA]
    assert [model.network.blocks[0].attention.normalisation.chosen for model in run.models] == [True, False]
    plain = TrainingRun(Plan(("mha",), epochs=1))
    for _ in range(2):
        run.advance()
        plain.advance()
    assert run.models[1].losses == plain.models[0].losses
    assert run.models[0].losses != plain.models[0].losses
    assert runs.open_live(run.models[0], "it").config.options == {"normaliser": "entmax15", "sink": "key"}


def test_options_that_exclude_each_other_leave_the_other_model():
    run = TrainingRun(Plan(("mha", "mha"), options=(("normaliser", "sigmoid"), ("sink", "score"))))
    assert [model.title for model in run.models] == [MHA]
    assert "(sigmoid, sink) cannot be trained: a sink needs weights" in run.refusals[0]


def test_the_seed_decides_and_the_global_generator_is_untouched():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    same, again, other = (TrainingRun(Plan(("mha",), 1, seed)).models[0].network.embed.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


@LEARNS
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_one_step_or_gives_a_reason(variant: str):
    run = TrainingRun(Plan((variant,), epochs=1))
    if not run.models:
        assert run.state == "failed"
        assert VARIANTS[variant].title in run.refusals[0]
        return
    before = run.models[0].training.network.classify.weight.clone()
    run.advance()
    assert run.models[0].losses[0] == pytest.approx(2.303, abs=0.3)
    assert not torch.equal(before, run.models[0].training.network.classify.weight)
    for one in run.models[0].snapshots[0].maps:
        assert one.array.shape[0] == 10
        assert one.reason or one.array.shape[-2:] == (16, 16)


def test_a_variant_that_refuses_leaves_the_other_model(monkeypatch: pytest.MonkeyPatch):
    class Refuses(VARIANTS["uniform"]):
        title = "Nothing"

        def __init__(self, *args, **options):
            raise ValueError("needs more than patches.")

    monkeypatch.setitem(VARIANTS, "uniform", Refuses)
    run = TrainingRun(BOTH)
    assert [model.variant for model in run.models] == ["mha"]
    assert run.refusals == ["Nothing cannot be trained: needs more than patches."]
    assert TrainingRun(Plan(("uniform",))).state == "failed"


# ---- the resulting model


@LEARNS
def test_open_live_returns_an_independent_model(learned: TrainingRun):
    live = learned.models[0]
    model = runs.open_live(live, "Trained here: it")
    assert isinstance(model, ImageModel)
    assert model.facts["top1"] == pytest.approx(100 * live.snapshots[-1].accuracy, abs=0.01)
    assert not any(p.requires_grad for p in model.network.parameters())
    assert model.network is not live.network
    digests = {
        runs.open_live(run.models[0], "it").digest
        for run in (TrainingRun(Plan(("mha",))), TrainingRun(Plan(("mha",), seed=1)))
    }
    assert len({model.digest, *digests}) == 3


def test_variants_of_equal_parameters_differ_in_digest():
    one, other = (runs.open_live(model, "it") for model in TrainingRun(Plan(("mha", "window"))).models)
    assert one.digest != other.digest


# ---- sharing the server


def test_two_run_at_once_and_the_third_starts_by_itself():
    queue, several = Queue(), [Toy(), Toy(), Toy(), Toy()]
    for run in several:
        queue.submit(run)
    assert [run.state for run in several] == ["running", "running", "queued", "queued"]
    assert [queue.heartbeat(run) for run in several] == [0, 0, 1, 2]
    several[0].gate.set()
    queue.stop(several[0])
    until(lambda: several[2].state == "running")
    assert [queue.heartbeat(run) for run in several] == [0, 0, 0, 1]
    assert len(queue.running) == 2
    queue.stop(several[3])
    assert several[3].state == "ready"
    for run in several:
        run.gate.set()
        queue.stop(run)
    until(lambda: not queue.running)


def test_the_next_run_starts_when_one_is_done():
    queue, first, second = Queue(max_running=1), Toy(steps=5), Toy(steps=5)
    queue.submit(first)
    queue.submit(second)
    assert second.state == "queued"
    first.gate.set()
    second.gate.set()
    until(lambda: second.state == "done")
    assert first.state == "done"
    assert (first.step, second.step) == (5, 5)


def test_a_stale_run_is_paused_and_can_be_resumed():
    clock = Clock()
    queue, run, waiting = Queue(max_running=1, clock=clock), Toy(steps=50_000), Toy()
    queue.submit(run)
    queue.submit(waiting)
    run.gate.set()
    until(lambda: run.step > 2)
    clock.now = 29.0
    queue.heartbeat(waiting)
    clock.now = 31.0
    until(lambda: run.state == "stopped")
    assert "nobody was watching" in run.notice
    until(lambda: waiting.state == "running")
    waiting.gate.set()
    clock.now = 100.0
    until(lambda: waiting.state == "stopped")
    queue.submit(run)
    assert (run.state, run.notice) == ("running", "")
    queue.stop(run)
    until(lambda: not queue.running)


def test_a_stale_run_in_the_queue_is_not_started():
    clock = Clock()
    queue, run, gone = Queue(max_running=1, clock=clock), Toy(), Toy()
    queue.submit(run)
    queue.submit(gone)
    clock.now = 31.0
    queue.heartbeat(run)
    assert gone.state == "ready"
    assert queue.waiting == []
    run.gate.set()
    queue.stop(run)


def test_a_run_over_its_processor_time_is_ended():
    work = Clock()
    queue, run = Queue(core_clock=work), Toy(steps=50_000)
    queue.submit(run)
    run.gate.set()
    until(lambda: run.step > 2)
    work.now = 301.0
    until(lambda: run.state == "failed")
    assert "more than 5 minutes" in run.notice


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(Diverged("It diverged."), "It diverged."), (MemoryError(), "not enough memory"), (KeyError("x"), FAILED)],
)
def test_an_error_becomes_a_sentence(error: Exception, sentence: str):
    queue, run = Queue(), Toy(error=error)
    queue.submit(run)
    run.gate.set()
    until(lambda: not queue.running)
    assert run.state == "failed"
    assert sentence in run.notice


def test_a_loss_that_is_not_finite_ends_the_run():
    queue, run = Queue(stale_after=1000), TrainingRun(BOTH)
    with torch.no_grad():
        run.models[1].training.network.classify.weight.fill_(float("nan"))
    queue.submit(run)
    run.thread.join(60)
    assert run.state == "failed"
    assert run.notice.startswith("Uniform diverged at step 1")


def test_resuming_a_run_that_is_still_stopping_loses_nothing():
    queue, run = Queue(), Toy(steps=30)
    queue.submit(run)
    queue.stop(run, timeout=0)
    queue.submit(run)
    run.gate.set()
    until(lambda: run.state == "done")
    assert run.step == 30


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
model = LiveModel(Plan(("mha",)))
model.advance()
print(len(model.losses), [path for path in written if not os.path.isdir(path)])
print(os.environ.get("TORCHINDUCTOR_CACHE_DIR"))
"""


def test_training_needs_no_writable_folder():
    given = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    given.pop("TORCHINDUCTOR_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=ROOT, env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:2] == ["1 []", "None"]
