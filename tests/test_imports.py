"""Allowed imports: which module may import which, who may know Streamlit; and how long a file may grow.

Reads the imports of every file; a failure names the file. The table is the one of docs/design.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnviz.paths import ROOT

ALLOWED = {  # module: the modules it may import from, besides itself
    "layer_parts": set(),
    "masks": set(),
    "seeding": set(),
    "paths": set(),
    "typography": set(),
    "edits": {"masks"},
    "types": {"layer_parts", "masks", "edits"},
    "targets": {"types"},
    "interventions": {"types", "edits"},
    "attention": {"types", "edits"},
    "models": {"attention", "types", "edits", "seeding", "typography", "paths"},
    "methods": {"types", "attention", "edits", "interventions", "targets"},
    "measures": {"types", "seeding", "typography", "paths", "edits", "interventions", "targets"},
    "plots": set(),
    "views": {"plots"},
    "notebook": {"types", "views"},
    "training": {"models", "attention", "types", "measures", "seeding", "paths"},
    "hub": {"types", "masks", "edits", "attention", "models", "typography"},
    "attnviz": {"hub", "models", "methods", "attention", "types", "edits", "interventions", "notebook"},
    "ui": {
        "hub",
        "edits",
        "interventions",
        "attnviz",
        "types",
        "attention",
        "models",
        "methods",
        "measures",
        "plots",
        "views",
        "training",
        "seeding",
        "paths",
    },
    "curate": {"models", "methods", "measures", "attention", "types", "paths"},
    "main": {"ui", "views", "plots", "attnviz", "paths"},
    "pages": {"ui", "views", "plots", "attnviz"},
    "app": {"ui", "views", "plots", "attnviz", "paths"},
    "__main__": {"paths"},
}
UI_PACKAGES = {  # inside attnviz/ui: what pages share stands on what is named beside it; a page's folder on all four
    "core": set(),
    "inputs": {"core"},
    "widgets": {"core", "inputs"},
    "shell": {"core", "inputs", "widgets"},
}
PACKAGES = {  # who may import a package; every other module may not
    "streamlit": {"app", "pages", "main", "__main__", "ui", "views"},
    "starlette": {"app", "ui"},
    "plotly": {"plots"},
    "transformers": {"hub"},
    "huggingface_hub": {"hub"},
}
CODE = sorted([*ROOT.glob("attnviz/**/*.py"), *ROOT.glob("pages/**/*.py"), *ROOT.glob("app.py")])
SCRIPTS = sorted([*ROOT.glob("attnviz/**/*.js"), *ROOT.glob("attnviz/**/*.css")])
NAMED = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in CODE]


def module_of(path: Path) -> str:
    """The module of ours that a file belongs to."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "attnviz":
        return parts[0]
    return "attnviz" if parts[1] == "__init__" else parts[1]


def imports(path: Path) -> Iterator[str]:
    """Every dotted name a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_module(name: str) -> str:
    """The module of a dotted name of ours; names of the package itself are its tables."""
    _, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    known = (ROOT / "attnviz" / first).is_dir() or (ROOT / "attnviz" / f"{first}.py").is_file()
    return first if first and known else "attnviz"


@pytest.mark.parametrize("path", NAMED)
def test_a_file_imports_only_what_is_allowed(path: Path) -> None:
    module = module_of(path)
    for name in imports(path):
        package = name.partition(".")[0]
        if package == "attnviz":
            found = imported_module(name)
            assert found in ALLOWED[module] | {module}, (
                f"{path.relative_to(ROOT)} imports {name}: {module} -> {found} is not allowed"
            )
        elif package in PACKAGES:
            assert module in PACKAGES[package], (
                f"{path.relative_to(ROOT)} imports {package}, which {module} may not know"
            )
        assert package not in ("ui", "views", "pages", "main"), (
            f"{name} would make a second copy; import attnviz.{name}"
        )


@pytest.mark.parametrize("path", [p for p in NAMED if "attnviz/ui/" in str(p.id) and str(p.id).count("/") == 3])
def test_a_page_knows_no_other_page(path: Path) -> None:
    folder = path.parts[-2]
    for name in imports(path):
        if name.startswith("attnviz.ui."):
            found = name.split(".")[2]
            allowed = UI_PACKAGES.get(folder, set(UI_PACKAGES)) | {folder}
            assert found in allowed, f"{path.relative_to(ROOT)} imports {name}: {folder} -> {found} is not allowed"


@pytest.mark.parametrize("path", [pytest.param(p.values[0], id=p.id) for p in NAMED])
def test_nothing_grows_too_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    limit = 120 if module_of(path) == "pages" else 500  # a file is one idea; this only stops a heap
    assert len(text.splitlines()) <= limit, f"{path.relative_to(ROOT)} has {len(text.splitlines())} lines of {limit}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.body[0].lineno + 1 if node.end_lineno else 0
            # A page's body is one function, because a fragment is; its 100 lines are limit enough.
            assert length <= (60 if module_of(path) == "pages" else 40), (
                f"{path.relative_to(ROOT)}: {node.name} has {length} lines"
            )


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in SCRIPTS])
def test_no_script_grows_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", NAMED)
def test_public_functions_say_what_they_do(path: Path) -> None:
    """The first line of a docstring is a sentence; nested functions, overrides and protocols need none."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    if module.body and module_of(path) != "attnviz":
        assert ast.get_docstring(module), f"{path.relative_to(ROOT)} does not say what it is for"
    if module_of(path) == "pages":
        return  # a page is a script: its functions are steps of it, called by nobody else
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            text = ast.get_docstring(node)
            assert text, f"{path.relative_to(ROOT)}: {node.name} has no docstring"
            assert text.splitlines()[0].rstrip().endswith((".", "?", ":")), f"{node.name}: {text.splitlines()[0]!r}"


@pytest.mark.parametrize("path", NAMED)
def test_no_print_no_assert_no_bare_except(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), f"{where}: raise an error with a sentence instead of asserting"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{where}: name what is caught"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "eval", "exec"), f"{where}: {node.func.id}"


def test_every_module_is_in_the_table() -> None:
    found = {module_of(path) for path in CODE}
    assert found <= set(ALLOWED), f"{found - set(ALLOWED)} stand in no table of doors"
