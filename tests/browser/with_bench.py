"""`python -m tests.browser.with_bench FOLDER run app.py ...`: Streamlit, with the bench in another folder.

For tests: the shipped bench takes hours to train, and a page has to be tested with an empty and a partial one too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamlit.web import cli

from attnviz.models import store


def main() -> None:
    """Point the page at the folder, then be Streamlit."""
    folder = Path(sys.argv.pop(1))
    store.BENCH = folder
    cli.main(prog_name="streamlit")


if __name__ == "__main__":
    main()
