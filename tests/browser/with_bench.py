"""`python -m tests.browser.with_bench FOLDER run app.py ...`: Streamlit, with the bench in another folder.

For tests: the shipped bench takes hours to train, and a page has to be tested with an empty and a partial one too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamlit.web import cli

from attnviz.models import store
from attnviz.ui import compare_panels


def main() -> None:
    """Point the page at the folder, then be Streamlit."""
    folder = Path(sys.argv.pop(1))
    compare_panels.bench_results = lambda: store.bench_results(folder)
    compare_panels.load_bench = lambda name, device: store.open_vit(folder / name).to(device)
    cli.main(prog_name="streamlit")


if __name__ == "__main__":
    main()
