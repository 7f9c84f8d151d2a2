"""What the app is and how to cite it, for the sidebar."""

from __future__ import annotations

from importlib import metadata

import streamlit as st

CITATION = """```bibtex
@software{{attnviz,
  title   = {{attnviz: an attention visualizer}},
  author  = {{{{The attnviz authors}}}},
  version = {{{version}}},
  year    = {{2026}}
}}
```"""


def say_about_app() -> None:
    """What the app is, and how to cite it."""
    st.markdown(f"**attnviz {version('attnviz')}**: what the attention heads of trained models do with your input.")
    st.caption("To cite it (BibTeX):")
    st.markdown(CITATION.format(version=version("attnviz")))


def version(package: str) -> str:
    """The version that is installed; of a checkout that is not, none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "from source"
