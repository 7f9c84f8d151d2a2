"""Where things lie: in a checkout beside the package, in an installed package inside it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
BUNDLE = PACKAGE / "bundle"  # pyproject.toml puts there what a checkout has beside the package
INSTALLED = BUNDLE.is_dir()
ROOT = BUNDLE if INSTALLED else PACKAGE.parent
APP = ROOT / "app.py"
ASSETS = ROOT / "assets"
MODELS = ASSETS / "models"
SAMPLES = ASSETS / "samples"
EXAMPLES = ASSETS / "examples.json"  # what pages start with, proven by `python -m attnviz.curate`
PROSE = ASSETS / "text"
ICON = ASSETS / "icon.png"  # a named icon would be fetched from another host
PAGES = ROOT / "pages"
MAIN = PACKAGE / "main.py"
