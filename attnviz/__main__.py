"""The command `attnviz`: opens the app, wherever the package is installed."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.util import find_spec

from attnviz.paths import APP, ASSETS, PAGES

OPTIONS = {"port": "the port the app listens on (8501)", "address": "the address it listens on (this machine only)"}


def missing() -> str:
    """What is missing to open the app, as a sentence with the next step; empty where nothing is."""
    for path in (APP, PAGES, ASSETS):
        if not path.exists():
            return f"{path} is missing. Install attnviz again: pip install --force-reinstall --no-deps attnviz"
    if find_spec("streamlit") is None:
        return "Streamlit is missing. Install what attnviz needs: pip install attnviz"
    return ""


def command_line(arguments: Sequence[str]) -> list[str]:
    """The arguments of `streamlit` that open the app with these of `attnviz`."""
    parser = ArgumentParser(
        "attnviz",
        allow_abbrev=False,  # else an option of Streamlit could be taken for one of these
        description="Open the app. Its address is printed; Ctrl-C ends it.",
        epilog="Every other option goes to `streamlit run`, such as --server.headless false (opens a browser).",
    )
    for name, explanation in OPTIONS.items():
        parser.add_argument(f"--{name}", metavar=name.upper(), help=explanation)
    known, further = parser.parse_known_args(arguments)
    own = [f"--server.{name}={value}" for name, value in vars(known).items() if value is not None]
    return ["run", str(APP), *own, *further]


def main() -> None:
    """Open the app; the arguments are those of the command line. Ends the process."""
    arguments = command_line(sys.argv[1:])
    if sentence := missing():
        sys.exit(sentence)
    from streamlit.web.cli import main as streamlit  # not before it is known to be there

    streamlit(arguments, prog_name="attnviz")


if __name__ == "__main__":
    main()
