"""What is kept of a training: gone on from by the very same training only, and each part of it where it belongs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnviz.models.nets import built
from attnviz.training import __main__ as command
from attnviz.training.checkpoint import CheckpointMismatch, fingerprint, load_state, save_state
from attnviz.training.images.data import DATA, Pictures
from attnviz.training.images.loop import Run, train
from attnviz.training.images.recipes import RECIPES, Recipe
from attnviz.training.text import loop
from tests.small_training import Small, loss

CPU = torch.device("cpu")
TINY = replace(
    RECIPES["vit-digits"], config=replace(RECIPES["vit-digits"].config, width=16, layers=1, heads=2), steps=4, batch=32
)
TEXT = loop.TextRecipe(steps=4, batch=64, learning_rate=1e-2, warmup=1, hold=0.5)


@pytest.fixture(scope="module")
def digits() -> Pictures:
    """The training digits."""
    return DATA["digits"]("train")


def weights(seed: int) -> Mapping[str, Tensor]:
    """Parameters for the small network to go on from."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return built(TINY.config).state_dict()


def kept_by(recipe: Recipe, digits: Pictures, path: Path, before: Mapping[str, Tensor] | None = None) -> Path:
    """The state of a training of pictures after one step."""
    run = Run(recipe, digits, CPU, before)
    run.advance()
    run.save(path)
    return path


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"seed": 1}, {"steps": 8}, {"windows": 0.5}], ids=str)
def test_a_checkpoint_of_another_recipe_is_refused(change: dict[str, float], digits: Pictures, tmp_path: Path) -> None:
    path = kept_by(TINY, digits, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointMismatch, match=r"checkpoint\.pt: .* different recipe.* --fresh, or delete"):
        train(replace(TINY, **change), device=CPU, checkpoint=path, pictures=digits)
    assert train(replace(TINY), device=CPU, checkpoint=path, pictures=digits)[1] > 0  # an equal recipe goes on


def test_a_checkpoint_from_other_initial_weights_is_refused(digits: Pictures, tmp_path: Path) -> None:
    path = kept_by(TINY, digits, tmp_path / "checkpoint.pt", weights(1))
    for other in (None, weights(2)):
        with pytest.raises(CheckpointMismatch, match="different initial weights"):
            train(TINY, device=CPU, checkpoint=path, pictures=digits, init_from=other)
    train(TINY, device=CPU, checkpoint=path, pictures=digits, init_from=weights(1))


def test_a_checkpoint_without_a_digest_is_resumed_with_a_warning(
    digits: Pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training of hours may have begun before states said what they are of."""
    path = kept_by(TINY, digits, tmp_path / "checkpoint.pt")
    state = torch.load(path, weights_only=True)
    del state["recipe_digest"]
    torch.save(state, path)
    run = Run(TINY, digits, CPU)
    run.load(path)
    assert run.step == 1
    assert "does not name its recipe" in capsys.readouterr().err


def test_the_command_prints_the_mismatch_as_one_sentence(
    digits: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "vit-digits", TINY)
    kept_by(replace(TINY, learning_rate=1e-3), digits, tmp_path / "runs" / "vit-digits" / "checkpoint.pt")
    given = ["training", "vit-digits", "--device", "cpu", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", given)
    assert command.main() == 2
    said = capsys.readouterr().err
    assert "--fresh" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(sys, "argv", [*given, "--fresh"])
    assert command.main() == 0


# ---- texts


def learned(recipe: loop.TextRecipe, path: Path, extra: object = None) -> None:
    """A training of the small network that keeps its state."""
    loop.train(Small(), recipe, loss, CPU, lambda progress: None, path, extra=extra)


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"seed": 1}, {"ema_decay": 0.5}, {"batch": 65}], ids=str)
def test_a_text_checkpoint_of_another_recipe_is_refused(change: dict[str, float], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    learned(replace(TEXT, until=1), path)
    with pytest.raises(CheckpointMismatch, match=r"checkpoint\.pt: .* --fresh"):
        learned(replace(TEXT, **change), path)
    learned(TEXT, path)


def test_a_text_checkpoint_with_other_tasks_or_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    learned(replace(TEXT, until=1), path, extra=({"tales": 1.0}, "one"))
    for other in (None, ({"tales": 1.0}, "two"), ({"novels": 1.0}, "one")):
        with pytest.raises(CheckpointMismatch, match="different initial weights"):
            learned(TEXT, path, extra=other)
    learned(TEXT, path, extra=({"tales": 1.0}, "one"))


def test_the_checkpoint_before_the_decay_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    learned(TEXT, path)
    with pytest.raises(CheckpointMismatch, match=rf"{loop.BEFORE_DECAY}: "):
        learned(replace(TEXT, steps=8, learning_rate=1e-3), path)
    learned(replace(TEXT, steps=8), path)


# ---- where the parts go


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_each_part_is_loaded_onto_its_device(tmp_path: Path) -> None:
    """The meta device stands for a graphics card: momentum moves there, the steps that AdamW counts do not."""
    kept = loop.TextRun(Small(), TEXT, loss, CPU)
    kept.advance()
    save_state(kept, tmp_path / "state.pt", random=torch.Generator().get_state())
    there = loop.TextRun(Small(), TEXT, loss, torch.device("meta"))
    state = load_state(there, tmp_path / "state.pt")
    muon, plain = there.optimisers
    assert {entry["momentum"].device.type for entry in muon.state.values()} == {"meta"}
    assert {entry["exp_avg"].device.type for entry in plain.state.values()} == {"meta"}
    assert {entry["step"].device.type for entry in plain.state.values()} == {"cpu"}
    assert {tensor.device.type for tensor in there.network.state_dict().values()} == {"meta"}
    assert state["random"].device.type == "cpu"


def test_a_fingerprint_depends_on_names_and_values_only() -> None:
    first = weights(1)
    assert fingerprint(TINY, first) == fingerprint(replace(TINY), dict(reversed([*first.items()])))
    changed = {name: tensor.clone() for name, tensor in first.items()}
    next(iter(changed.values())).view(-1)[0] += 1
    assert fingerprint(TINY, changed) != fingerprint(TINY, first)
    assert fingerprint(replace(TINY, weight_decay=0.1)) != fingerprint(TINY)


def test_a_fingerprint_depends_on_shapes_and_on_the_assignment_of_parameters() -> None:
    one, other = torch.arange(6.0), torch.arange(6.0, 12.0)
    found = {
        fingerprint({"a": one, "b": other}),
        fingerprint({"a": other, "b": one}),
        fingerprint({"a": one, "c": other}),
        fingerprint({"a": one.reshape(2, 3), "b": other}),
        fingerprint({"a": one.reshape(3, 2), "b": other}),
    }
    assert len(found) == 5


def test_a_text_checkpoint_keeps_the_seconds(tmp_path: Path) -> None:
    kept = loop.TextRun(Small(), TEXT, loss, CPU)
    kept.seconds = 1234.5
    kept.save(tmp_path / "state.pt")
    later = loop.TextRun(Small(), TEXT, loss, CPU)
    later.load(tmp_path / "state.pt")
    assert later.seconds == 1234.5


def test_an_image_checkpoint_keeps_the_seconds(digits: Pictures, tmp_path: Path) -> None:
    run = Run(TINY, digits, CPU)
    run.seconds = 1000.0
    run.save(tmp_path / "state.pt")
    later = Run(TINY, digits, CPU)
    later.load(tmp_path / "state.pt")
    assert later.elapsed() >= 1000


def test_an_interrupted_save_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = loop.TextRun(Small(), TEXT, loss, CPU), tmp_path / "state.pt"
    run.save(path)
    before = path.read_bytes()

    def cut(state: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        run.save(path)
    assert path.read_bytes() == before
