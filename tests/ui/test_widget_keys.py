"""Keys are global to a session and outlive a change of page: what is kept under one key has to be of one kind."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from attnviz.ui.shell.page import PAGES

SOURCES = [*PAGES.rglob("*.py"), *(PAGES.parent / "attnviz" / "ui").rglob("*.py")]
PICKS = {"chosen_token", "chosen_tokens", "set_tokens"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the pages and in attnviz/ui, with the name of what is called."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                yield name, node


def takers() -> Iterator[tuple[str, int, ast.expr | None]]:
    """Our own functions that take a key: their name, the place of the key, and what it is if nobody gives one."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names = [argument.arg for argument in node.args.args]
                if "key" in names:
                    at = names.index("key")
                    defaults = [None] * (len(names) - len(node.args.defaults)) + node.args.defaults
                    yield node.name, at, defaults[at]


def kinds() -> dict[str, set[str]]:
    """Every key that is written out somewhere, and what it names: a view, a pick of tokens, a widget."""
    found: dict[str, set[str]] = defaultdict(set)

    def note(kind: str, key: ast.expr | None) -> None:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            found[key.value].add(kind)

    places = {}
    for name, at, default in takers():
        places[name] = at
        note("widget", default)
    for name, call in calls():
        given = {argument.arg: argument.value for argument in call.keywords}
        if name.endswith("_view") or name in PICKS:
            note("pick" if name in PICKS else "view", call.args[0] if call.args else None)
        else:
            at = places.get(name, len(call.args))
            note("widget", given.get("key", call.args[at] if at < len(call.args) else None))
    return found


def test_no_key_names_things_of_two_kinds():
    found = kinds()
    assert [found[key] for key in ("query", "token", "layer", "lookup")] == [{"view"}, {"pick"}, {"widget"}, {"widget"}]
    assert not {key: of for key, of in found.items() if len(of) > 1}
