"""The package as others get it: what it asks for, what the wheel holds, and that it runs where it is installed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from attnviz import __main__ as command
from attnviz.models import DamagedFile
from attnviz.paths import PACKAGE, PAGES, ROOT
from tests.browser.conftest import free_port

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RANGES = {needed.name: needed.specifier for needed in map(Requirement, PROJECT["project"]["dependencies"])}
LIMIT = 100 * 2**20  # bytes of the largest file that PyPI takes
ONLY_FOR_TRAINING = {"sacrebleu"}  # requirements-dev.txt has it
ONLY_WITH_HUB = {"transformers", "huggingface_hub", "tqdm"}  # requirements-hub.txt, or the extra "hub"
INSIDE = """
import attnviz
from attnviz import paths
from streamlit.testing.v1 import AppTest

assert paths.INSTALLED and str(paths.ROOT).startswith({folder!r}), paths.ROOT
model = attnviz.load("vit-digits")
app = AppTest.from_file(str(paths.MAIN), default_timeout=120)
app.query_params["model"] = "vit-digits"
app.run()
assert not app.exception and app.title, app
"""


def pins(name: str) -> dict[str, str]:
    """The exact versions that a list of requirements names."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    named = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]
    return {needed.name: str(needed.specifier).removeprefix("==") for needed in named}


# ---- pyproject.toml


def test_every_range_admits_the_version_that_is_tested():
    tested = pins("requirements.txt")
    assert {name: tested[name] for name, span in RANGES.items() if tested[name] not in span} == {}
    assert all(any(part.operator == "<" for part in span) for span in RANGES.values()), "a range has an end"


def test_what_is_imported_is_asked_for():
    of_import, found = packages_distributions(), set()
    for path in [*PACKAGE.rglob("*.py"), *PAGES.rglob("*.py"), ROOT / "app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {"protobuf" if name.startswith("google.protobuf") else name.partition(".")[0] for name in names}
    foreign = found - set(sys.stdlib_module_names) - {"attnviz"} - ONLY_FOR_TRAINING - ONLY_WITH_HUB
    assert {canonicalize_name(of_import.get(name, [name])[0]) for name in foreign} == set(RANGES)


def test_the_build_backend_is_the_one_that_is_tested():
    (needed,) = map(Requirement, PROJECT["build-system"]["requires"])
    assert str(needed.specifier) == f"=={pins('requirements-dev.txt')[needed.name]}"


# ---- the command


def test_the_command_passes_options_on_to_streamlit():
    asked = command.command_line(
        ["--port", "8600", "--address=0.0.0.0", "--server.baseUrlPath", "a", "--theme.base=dark"]
    )
    assert asked[:2] == ["run", str(ROOT / "app.py")]
    assert asked[2:] == [
        "--server.port=8600",
        "--server.address=0.0.0.0",
        "--server.baseUrlPath",
        "a",
        "--theme.base=dark",
    ]
    assert command.command_line([]) == asked[:2]


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert command.missing() == ""
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert "pip install attnviz" in command.missing()
    monkeypatch.setattr(command, "APP", tmp_path / "app.py")
    monkeypatch.setattr(sys, "argv", ["attnviz"])
    with pytest.raises(SystemExit, match=r"app\.py is missing"):
        command.main()


def test_what_is_damaged_is_restored_from_where_it_came(monkeypatch: pytest.MonkeyPatch):
    assert "git checkout -- assets/icon.png" in str(DamagedFile("assets/icon.png", "is missing"))
    monkeypatch.setattr("attnviz.paths.INSTALLED", True)
    said = str(DamagedFile("assets/icon.png", "is missing", else_=", or train it again"))
    assert "pip install" in said
    assert not any(word in said for word in ("git", "train"))


# ---- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", ROOT, "--no-build-isolation", "--wheel-dir", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", wheel, "--target", folder)
    return folder


def pip(do: str, what: Path, *options: str | Path) -> None:
    """Run pip on one thing, without the network."""
    call = [
        sys.executable,
        "-m",
        "pip",
        do,
        "-q",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
        what,
        *options,
    ]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def elsewhere(folder: Path) -> dict[str, str]:
    """An environment in which the package is found in a folder and nowhere else."""
    return {**os.environ, "PYTHONPATH": str(folder)}


def expected(path: str) -> str:
    """Where a file of the checkout lies in the wheel."""
    return path if path.startswith("attnviz/") else f"attnviz/bundle/{path}"


def test_the_wheel_holds_the_app_and_nothing_else(wheel: Path):
    with ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    trees = [path for name in ("attnviz", "pages", "assets") for path in (ROOT / name).rglob("*")]
    files = [ROOT / "app.py", ROOT / ".streamlit/config.toml", *trees]
    ours = {path.relative_to(ROOT).as_posix() for path in files if path.is_file() and path.suffix != ".pyc"}
    assert held == set(map(expected, ours))
    assert wheel.stat().st_size < LIMIT


def test_the_installed_package_opens_a_model_and_a_page(installed: Path, tmp_path: Path):
    script = INSIDE.format(folder=str(installed))
    call = [sys.executable, "-c", script]
    done = subprocess.run(call, cwd=tmp_path, env=elsewhere(installed), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def address(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the app answers that the installed command has started."""
    folder = tmp_path_factory.mktemp("elsewhere")
    port, log = free_port(), folder / "log.txt"
    call = [installed / "bin" / "attnviz", "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(call, cwd=folder, env=elsewhere(installed), stdout=file, stderr=file)
    opened = f"http://127.0.0.1:{port}"
    try:
        for _ in range(480):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{opened}/_stcore/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        yield opened
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_the_command_opens_every_page_there_is(address: str):
    for page in ("", "heads", "train"):
        with urllib.request.urlopen(f"{address}/{page}", timeout=60) as answer:
            assert answer.status == 200
            assert answer.url == f"{address}/{page}"
    with urllib.request.urlopen(f"{address}/nowhere", timeout=60) as answer:
        assert answer.url == f"{address}/?redirected=1"  # the pages that there are were found


def test_a_page_runs_in_the_project_s_own_colours(address: str):
    asked = BackMsg()
    asked.rerun_script.query_string = "model=vit-digits"
    stream = f"{address.replace('http', 'ws')}/_stcore/stream"
    with connect(stream, subprotocols=["streamlit"], max_size=None) as tab:  # type: ignore[list-item]
        tab.send(asked.SerializeToString())
        said = [ForwardMsg.FromString(tab.recv(timeout=60, decode=False))]
        while said[-1].WhichOneof("type") != "script_finished":
            said.append(ForwardMsg.FromString(tab.recv(timeout=60, decode=False)))
    assert said[-1].script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
    (session,) = [answer.new_session for answer in said if answer.WhichOneof("type") == "new_session"]
    config = tomllib.loads((ROOT / ".streamlit/config.toml").read_text(encoding="utf-8"))
    assert session.custom_theme.light.primary_color == config["theme"]["light"]["primaryColor"]
