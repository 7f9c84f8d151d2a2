"""What the page Explain of a text is made of, beside what it shares with the one of pictures."""

from __future__ import annotations

import numpy as np

from attnviz.types import Tokens
from attnviz.ui.core.state import go
from attnviz.ui.explain.choice import ANSWER, TOKEN, Choice, answered_by
from attnviz.ui.explain.steps import NO_ANSWER, Result, on_special, top_table
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.widgets import text_answers
from attnviz.ui.widgets.text_display import Look


def answer_words(about: TextRun) -> str:
    """What the model says, or that it has no answer of its own, and where relevance starts then."""
    if (about.model.spec.causal and "word" in about.model.outputs) or "sentiment" in about.model.outputs:
        return text_answers.answer_words(about)
    read = about.model.spec.answer_from
    return f"{NO_ANSWER} That is {read}." if read else NO_ANSWER


def group_of(choice: Choice, look: Look) -> int | None:
    """What is shown that relevance starts at, if it is one word; the first one where the picked token is left out."""
    return (look.groups.shown(choice.token) or 0) if choice.start == TOKEN and choice.how.takes_start else None


def of_word(result: Result, look: Look, group: int | None) -> Result:
    """The maps of a whole word, from all its tokens alike; of a long text, those of its first token."""
    if group is None or result.every is None:
        return result
    rows = result.every[:, list(look.groups.groups[group])].mean(1)
    return Result(rows[:-1], rows[-1], result.every)


def rows_shown(values: np.ndarray, signed: bool, look: Look) -> np.ndarray:
    """Rows over tokens as rows over what is shown; signed ones are not divided by what is left of them."""
    if not signed:
        return look.rows(values)
    return np.stack([values[..., list(group)].sum(-1) for group in look.groups.groups], -1)


def pick(about: TextRun, look: Look, chosen: tuple[int, ...]) -> None:
    """Start at a clicked word; a deselected one, or what the answer is read from, is the answer again."""
    token = look.groups.first(chosen[-1]) if chosen else None
    if token is None or token == answered_by(about):
        go(target=ANSWER)
    else:
        go(target=TOKEN, token=(token,))


def special_words(tokens: Tokens, choice: Choice, result: Result) -> str:
    """How much of each map lies on special tokens; empty where there are none."""
    special = np.array([word < 0 for word in tokens.words or ()])
    names = ", ".join(dict.fromkeys(label for label, is_one in zip(tokens.labels, special, strict=True) if is_one))
    return on_special(names, special, choice, result) if names else ""


def top_words(choice: Choice, result: Result, look: Look) -> None:
    """The words with most relevance, with exact numbers and their raw attention."""
    row = rows_shown(result.steps[choice.at][None], result.signed, look)[0]
    last = None if result.raw is None else look.rows(result.raw[None])[0]
    top_table("Word", list(look.tokens.labels), choice, row, last)
