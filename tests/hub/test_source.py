"""What a server opens for visitors: off by itself, by list, below folders; what it costs, and how it is downloaded."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import numpy as np
import pytest
from safetensors.numpy import save_file

from attnviz.hub.download import Cancelled, cost_of, downloaded
from attnviz.hub.errors import CannotOpen
from attnviz.hub.source import Cost, Policy, Source, check_cost, cost_of_folder, parameters_of, read_policy, source_of
from tests.hub.hub_server import COMMIT, as_hub

ANY = Policy("any")


def test_it_is_off_by_itself_and_where_the_word_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    assert not read_policy({}).opens
    assert not read_policy({"ATTNVIZ_HUB": ""}).opens
    assert not read_policy({"ATTNVIZ_HUB": "yes"}).opens
    assert "expected off, list or any" in caplog.text
    with pytest.raises(CannotOpen, match="ATTNVIZ_HUB"):
        source_of("owner/name", Policy())


def test_any_name_of_the_hub_with_its_revision() -> None:
    assert source_of(" owner/name ", ANY) == Source("hf:owner/name", "owner/name")
    assert source_of("hf:gpt2", ANY) == Source("hf:gpt2", "gpt2")
    assert source_of("https://huggingface.co/owner/name", ANY).repository == "owner/name"
    found = source_of("owner/name@v1.0", ANY)
    assert (found.repository, found.revision, found.name) == ("owner/name", "v1.0", "hf:owner/name@v1.0")


@pytest.mark.parametrize("asked", ["a b", "a/b/c", "owner/na;me", "../secret@x y", "<b>", "owner/name@", "file:///etc"])
def test_what_is_no_name_is_said(asked: str) -> None:
    with pytest.raises(CannotOpen, match=r"is no name of the hub|no folders"):
        source_of(asked, ANY)


def test_a_list_allows_its_names_alone(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("# ours\nowner/name\nowner/pinned@v1\n", encoding="utf-8")
    policy = read_policy({"ATTNVIZ_HUB": "list", "ATTNVIZ_HUB_NAMES": str(file)})
    assert source_of("owner/name", policy).repository == "owner/name"
    assert source_of("owner/name@v9", policy).revision == "v9"
    assert source_of("owner/pinned@v1", policy).revision == "v1"
    for asked in ("owner/pinned", "owner/pinned@v2", "owner/other", "# ours"):
        with pytest.raises(CannotOpen, match=r"not on its list|is no name"):
            source_of(asked, policy)
    assert read_policy({"ATTNVIZ_HUB": "list", "ATTNVIZ_HUB_NAMES": str(tmp_path / "gone")}).names == frozenset()


def test_folders_only_below_those_of_the_operator(tmp_path: Path) -> None:
    inside, outside = tmp_path / "models" / "mine", tmp_path / "secret"
    inside.mkdir(parents=True)
    outside.mkdir()
    (outside / "key.safetensors").write_bytes(b"x")
    policy = read_policy({"ATTNVIZ_HUB": "any", "ATTNVIZ_HUB_FOLDERS": f"{tmp_path / 'models'}:{tmp_path / 'gone'}"})
    for asked in ("folder:mine", "./mine", str(inside), f"{inside}/../mine"):
        assert source_of(asked, policy) == Source("folder:mine", folder=inside)
    (tmp_path / "models" / "door").symlink_to(outside)
    for asked in (str(outside), "folder:../secret", "folder:door", "./gone", "/etc", "~"):
        with pytest.raises(CannotOpen, match="no folder"):
            source_of(asked, policy)
    (inside / "model.safetensors").symlink_to(outside / "key.safetensors")
    with pytest.raises(CannotOpen, match="links to files elsewhere"):
        source_of("folder:mine", policy)
    with pytest.raises(CannotOpen, match="ATTNVIZ_HUB_FOLDERS"):
        source_of("/etc", ANY)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with weights of 30,000 numbers, and with what must not come along."""
    folder = tmp_path / "repository"
    folder.mkdir()
    weights = {"a": np.zeros((100, 200), np.float16), "b": np.zeros(10_000, np.float32)}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling.py").write_text("raise SystemExit")
    return folder


def test_the_memory_of_a_folder_is_that_of_its_numbers(small: Path) -> None:
    assert cost_of_folder(small) == Cost(0, 4 * 30_000)
    (small / "other.safetensors").write_bytes(b"\xff" * 20)
    assert parameters_of(small / "other.safetensors") is None
    assert cost_of_folder(small).memory is None


def test_what_is_too_large_is_refused_before_it_is_loaded() -> None:
    policy = read_policy({"ATTNVIZ_HUB": "any", "ATTNVIZ_HUB_MEMORY": "0.5"})
    check_cost(Source("hf:a"), Cost(0, 400_000_000), policy)
    check_cost(Source("hf:a"), Cost(0, None), policy)
    with pytest.raises(CannotOpen, match=r"0\.6 GB of memory .* at most 0\.5 GB"):
        check_cost(Source("hf:a"), Cost(0, 600_000_000), policy)


def test_a_download_is_counted_told_and_brings_no_code(
    monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path
) -> None:
    with as_hub(monkeypatch, {"owner/name": small}, tmp_path / "cache"):
        cost = cost_of("owner/name", None)
        size = sum(file.stat().st_size for file in small.glob("*") if file.suffix in (".json", ".safetensors"))
        assert cost.download == size
        assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").rglob("*.safetensors"))
        told: list[float] = []
        folder = downloaded("owner/name", None, told.append)
        assert folder.name == COMMIT
        assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
        assert (folder / "model.safetensors").read_bytes() == (small / "model.safetensors").read_bytes()
        assert told
        assert max(told) == 1
        assert cost_of("owner/name", None).download == 0


def test_a_download_can_be_stopped(monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path) -> None:
    stop = Event()
    with as_hub(monkeypatch, {"owner/name": small}, tmp_path / "cache", pause=0.01), pytest.raises(Cancelled):
        downloaded("owner/name", None, lambda share: stop.set(), stop)


def test_what_the_hub_refuses_is_said(monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    repositories = {"owner/name": small, "owner/empty": empty, "owner/gated": small}
    with as_hub(monkeypatch, repositories, tmp_path / "cache", gated="owner/gated"):
        for asked, revision, said in (
            ("owner/none", None, "no public model owner/none"),
            ("owner/name", "v7", "no revision v7"),
            ("owner/gated", None, "is gated"),
            ("owner/empty", None, "no weights as safetensors"),
            ("owner//x", None, "no name of the hub"),
        ):
            with pytest.raises(CannotOpen, match=said):
                cost_of(asked, revision)


def test_without_a_network_the_next_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def nobody(*_: object, **__: object) -> None:
        raise ConnectionError("[Errno 111] Connection refused")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", nobody)
    with pytest.raises(CannotOpen, match=r"Connection refused.*make sure of the internet, or name a folder"):
        cost_of("owner/name", None)
