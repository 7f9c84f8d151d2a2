"""The documents are true: every file, command and table they name is there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/design.md")]
NAMED = [pytest.param(path, id=path.name) for path in TEXTS]
PATH = re.compile(r"`((?:attnviz|pages|tests|assets|docs|benchmarks)/[\w./-]*)`")


@pytest.mark.parametrize("path", NAMED)
def test_every_file_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [path.parent / link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = [ROOT / name for name in PATH.findall(text) if "mine" not in name and "NAME" not in name]
    assert [str(p) for p in [*links, *named] if not p.exists() and "..." not in str(p)] == []


@pytest.mark.parametrize("path", NAMED)
def test_every_command_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    commands = re.findall(r"(?:^|`)make ([\w-]+)", text, re.M)
    assert set(commands) <= set(targets), "make knows no such target"
    modules = re.findall(r"python -m ([\w.]+)", text)
    assert [name for name in modules if find_spec(name) is None] == []


def test_tables_that_are_named_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, file in re.findall(r"in `([A-Z]+)` \(`([\w./]+)`\)", text):
        code = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^{name}\b", code, re.M), f"{file} has no {name}"


def test_design_names_every_room() -> None:
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    rooms = [p for p in (ROOT / "attnviz").iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert [p.name for p in rooms if f"`attnviz/{p.name}/`" not in text] == []


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 40


def test_the_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
