"""How the tests of pages open one without a browser."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from attnviz.models.store import reads_text
from attnviz.paths import ROOT

MAIN = ROOT / "attnviz" / "main.py"


def open_page(name: str, **parameters: str | list[str]) -> AppTest:
    """The app, opened at one of its pages with these parameters in the URL."""
    at = AppTest.from_file(MAIN, default_timeout=300)
    for key, value in parameters.items():
        at.query_params[key] = value
    at.run()
    of_texts = reads_text(str(parameters.get("model", ""))) and (ROOT / "pages" / "text" / f"{name}.py").exists()
    at.switch_page(f"../pages/{'text/' if of_texts else ''}{name}.py").run()
    assert not at.exception
    assert not at.error, [e.value for e in at.error]
    return at
