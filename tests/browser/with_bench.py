"""`python -m tests.browser.with_bench FOLDER run app.py ...`: Streamlit, with a bench in another folder.

A folder called text-bench is the bench of sentences, any other that of pictures. For tests: the shipped benches take
hours to train, and a page has to be tested with an empty and a partial one too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamlit.web import cli

from attnviz.models import store


def main() -> None:
    """Point the page at the folder, then be Streamlit."""
    folder = Path(sys.argv.pop(1))
    if folder.name == store.TEXT_BENCH.name:
        store.TEXT_BENCH = folder
    else:
        store.BENCH = folder
    cli.main(prog_name="streamlit")


if __name__ == "__main__":
    main()
