"""The documents are true: every file, command and table they name is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from attnviz import ui
from attnviz.methods import Method, Option
from attnviz.models import load
from attnviz.models.nets import built
from attnviz.models.store import Entry, open_vit
from attnviz.paths import ROOT
from attnviz.training.__main__ import commands
from attnviz.training.images.recipes import CPU_VIT
from attnviz.types import Tokens
from attnviz.ui.inputs.image_run import NO_PICTURE
from attnviz.ui.shell import menu
from attnviz.ui.shell import page as prose
from attnviz.ui.shell.page import page_file
from tests.pages import MAIN

TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/design.md")]
NAMED = [pytest.param(path, id=path.name) for path in TEXTS]
README = TEXTS[0].read_text(encoding="utf-8")
TICKED = re.compile(r"`([\w.-]+(?:/[\w.-]*)*)`")
KINDS = (".py", ".md", ".txt", ".toml")  # of a name without a folder that is a file of ours
ADDED = "vit-wide"  # the model that a reader is told how to add
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def named_files(text: str) -> list[tuple[str, list[Path]]]:
    """Files and folders that a text names, from the root or from attnviz/, with where each may lie."""
    found = []
    for name in TICKED.findall(text):
        if any(word in name for word in ("mine", "NAME", ADDED)):  # what a reader is to add or fill in
            continue
        first = name.partition("/")[0]
        if "/" in name and any((place / first).is_dir() for place in (ROOT, ROOT / "attnviz")):
            found.append((name, [ROOT / name, ROOT / "attnviz" / name]))
        elif "/" not in name and name.endswith(KINDS):
            found.append((name, [ROOT / name, *(ROOT / "attnviz").rglob(name)]))
    return found


@pytest.mark.parametrize("path", NAMED)
def test_every_file_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [path.parent / link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [str(link) for link in links if not link.exists()] == []
    assert [name for name, places in named_files(text) if "..." not in name and not any(map(Path.exists, places))] == []


def test_names_of_files_are_found_in_a_text():
    """Otherwise none of them would be looked for."""
    assert {
        "models/vit.py",
        "training/muon.py",
        "ui/lesson/steps.py",
        "reweigh.py",
        "tests/test_imports.py",
        "pages/",
        "attnviz/masks.py",
    } <= {name for name, _ in named_files(TEXTS[2].read_text(encoding="utf-8"))}
    (missing,) = named_files("`models/nobody.py` and `nn.Linear`, `a/b`")
    assert not any(place.exists() for place in missing[1])


@pytest.mark.parametrize("path", NAMED)
def test_every_command_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    made = re.findall(r"(?:^|`)make ([\w-]+)", text, re.M)
    assert set(made) <= set(targets), "make knows no such target"
    modules = re.findall(r"python -m ([\w.]+)", text)
    assert [name for name in modules if find_spec(name) is None] == []
    trained = re.findall(r"attnviz\.training ([\w-]+)", text) + re.findall(r"make train NAME=([\w-]+)", text)
    assert set(trained) - {"NAME", ADDED} <= set(commands())
    options = re.findall(r"attnviz\.training (\w[\w-]*)[^`\n]* --(\w+)", text)
    assert [pair for pair in options if pair[1] not in (*commands().get(pair[0], ()), "out", "device")] == []


def test_training_commands_are_found_in_a_text():
    assert {"bench", "text-bench", "sweep", "vit-digits"} <= set(re.findall(r"attnviz\.training ([\w-]+)", README))


# ---- what one is told to add


def block(beginning: str, **known: Any) -> dict[str, Any]:
    """What the one block of code that holds these words defines."""
    (code,) = [code for code in BLOCKS if beginning in code]
    exec(code, known)
    return known


def test_a_variant_as_it_is_told_attends_and_knows_what_it_costs():
    kind = block("class Mine")["Mine"]
    tokens = Tokens.patches(2, 3)
    made = kind(8, 2, tokens=tokens)
    _, (call,) = made(torch.ones(6, 8), queries=tokens)
    torch.testing.assert_close(call.token_map(), torch.full((2, 6, 6), 1 / 6))
    cost = made.cost(6, 6)
    assert cost.parameters == sum(parameter.numel() for parameter in made.parameters())
    assert (cost.map_bytes, cost.state_bytes) == (4 * call.weights().numel(), 4 * 2 * 6 * 8)
    assert kind.__doc__


def test_a_method_as_it_is_told_gives_one_number_a_token():
    explain = block("start_rows(")["explain"]
    (line,) = re.findall(r'`("mine": Method\([^`]*\))`', README)
    own = type("mine", (), {"explain": staticmethod(explain)})
    method = eval(f"{{{line}}}", {"Method": Method, "Option": Option, "mine": own})["mine"]
    model = load("vit-digits")
    sample = model.prepare(Image.linear_gradient("L").resize((8, 8)))
    with torch.no_grad():
        found = method.explain(model, sample)
    assert found.shape == (len(sample.tokens["main"]),)
    assert found.sum().item() == pytest.approx(0.5, abs=1e-5)
    assert [(option.name, option.default) for option in method.options] == [("strength", 0.5)]
    assert method.help.endswith(".")


def test_a_model_as_it_is_told_can_be_built():
    (code,) = [code for code in BLOCKS if '"vit-wide"' in code]
    recipe, entry = (
        eval(f"{{{line}}}", {"replace": replace, "CPU_VIT": CPU_VIT, "Entry": Entry, "open_vit": open_vit})["vit-wide"]
        for line in code.splitlines()
    )
    with torch.random.fork_rng():
        network = built(recipe.config)
    assert (recipe.name, network.config.width) == ("vit-wide", 256)
    assert entry.modality == "image"
    assert re.search(r"^LEAST\b", (ROOT / "tests/assets/test_assets.py").read_text(encoding="utf-8"), re.M)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page that a reader is told to add, with its line in the menu and some words of its own."""
    (line,) = re.findall(r'`("mine": Entry\([^`]*\))`', README)
    monkeypatch.setitem(menu.MENU, "mine", eval(f"{{{line}}}", vars(menu))["mine"])
    (script,) = [code for code in BLOCKS if 'ui.header("mine")' in code]
    (tmp_path / "mine.py").write_text(script)
    words = ("# Mine", "## What to try", "- [Here](mine) Why.", "## What this does not tell you", "Much.")
    (tmp_path / "mine.md").write_text("\n".join(words))
    monkeypatch.setattr(prose, "FOLDER", tmp_path)
    own = {"mine": str(tmp_path / "mine.py")}
    monkeypatch.setattr(ui, "page_file", lambda name: own.get(name) or page_file(name))
    prose.sections.cache_clear()
    yield tmp_path / "mine.py"
    prose.sections.cache_clear()


def opened(script: Path, model: str) -> AppTest:
    """The page with this model."""
    at = AppTest.from_file(MAIN, default_timeout=300)
    at.query_params["model"] = model
    at.run()
    at.switch_page(str(script)).run()
    assert not at.exception
    assert not at.error, [error.value for error in at.error]
    return at


@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
def test_a_page_as_it_is_told_opens_with_pictures_and_texts(model: str, added: Path):
    at = opened(added, model)
    assert at.title[0].value == "Mine"
    assert len(at.get("plotly_chart")) == 1
    assert at.button(key="mine:try:0").label == "Here"


def test_a_page_about_pictures_says_so_where_text_is_read(added: Path):
    added.write_text(added.read_text().replace("ui.model_run()", "ui.visit()"))
    assert len(opened(added, "vit-digits").get("plotly_chart")) == 1
    at = opened(added, "sentences")
    assert [NO_PICTURE in info.value for info in at.info] == [True]
    assert not at.get("plotly_chart")


def test_a_file_to_be_added_stands_beside_others_of_its_kind() -> None:
    """The folder of every `mine.py` is there, and holds more than the table."""
    folders = [ROOT / path for path in re.findall(r"`([\w/]+)/mine\.py`", README)]
    assert len(folders) >= 4
    assert [str(folder) for folder in folders if len([*folder.glob("*.py")]) < 3] == []


def test_tables_that_are_named_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, file in re.findall(r"in `([A-Z]+)` \(`([\w./]+)`\)", text):
        code = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^{name}\b", code, re.M), f"{file} has no {name}"


def test_design_names_every_module() -> None:
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    folders = [p for p in (ROOT / "attnviz").iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert [p.name for p in folders if f"`attnviz/{p.name}/`" not in text] == []


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 40


def test_the_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
