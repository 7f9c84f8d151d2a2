"""Every method and control is explained in words: a formula, a source, its cost and what it cannot say."""

from __future__ import annotations

import re

import pytest

from attnviz.methods import CONTROLS, METHODS
from attnviz.ui.shell.page import sections

SOURCE = re.compile(r"arXiv\s+\d{4}\.\d{4,5}|\bet al\. (19|20)\d\d|\b[A-Z]\w+ (19|20)\d\d")


@pytest.mark.parametrize("title", [how.title for how in (METHODS | CONTROLS).values()])
def test_a_section_has_a_formula_a_source_a_cost_and_a_limit(title: str):
    text = sections("methods")[title]
    assert re.search(r"\$\$\n.+?\n\$\$", text, re.S)
    assert SOURCE.search(text)
    assert {"**Cost.**", "**What it cannot say.**"} <= set(re.findall(r"\*\*.+?\*\*", text))


def test_no_section_is_of_nothing():
    assert set(sections("methods")) == {"", "title", *(how.title for how in (METHODS | CONTROLS).values())}
