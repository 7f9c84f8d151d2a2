"""Where things lie: in a checkout beside the package, in an installed package inside it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent if (PACKAGE.parent / "assets").is_dir() else PACKAGE
ASSETS = ROOT / "assets"
MODELS = ASSETS / "models"
SAMPLES = ASSETS / "samples"
PROSE = ASSETS / "text"
ICON = ASSETS / "icon.png"  # a named icon would be fetched from another host
PAGES = ROOT / "pages"
