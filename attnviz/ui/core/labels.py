"""What layers, heads, tokens and attention calls are called on screen.

Layers and heads count from 0 in code, from 1 on screen and in addresses: this is the one place.
"""

from __future__ import annotations

import re

from attnviz.types import Tokens, Trace


def layer_name(index: int) -> str:
    """What a layer is called on screen."""
    return f"Layer {index + 1}"


def head_name(index: int) -> str:
    """What a head is called on screen."""
    return f"Head {index + 1}"


def token_name(tokens: Tokens, index: int) -> str:
    """What a token is called on screen: "row 4, column 9", or its label."""
    if tokens.grid is None or index < tokens.prefix:
        return tokens.labels[index]
    row, column = divmod(index - tokens.prefix, tokens.grid[1])
    return f"row {row + 1}, column {column + 1}"


def token_names(tokens: Tokens) -> list[str]:
    """What every token is called on screen."""
    return [token_name(tokens, i) for i in range(len(tokens))]


def spoken_name(tokens: Tokens, index: int) -> str:
    """The name of a token within a sentence, as Markdown: a word of a text is in quotation marks."""
    name = plain(token_name(tokens, index))
    return name if tokens.words is None or tokens.words[index] < 0 else f"“{name}”"


def plain(text: str) -> str:
    """A text as Markdown that shows just that text."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&])", r"\\\1", text)


def written(number: float, form: str) -> str:
    """A number as it is written in a text: with a minus sign, which is longer than a hyphen."""
    return f"{number:{form}}".replace("-", "\N{MINUS SIGN}")


def call_names(trace: Trace) -> list[str]:
    """What each attention call is called on screen: "Layer 2", or "Layer 2, along rows" where a layer has several."""
    return [call.name[:1].upper() + call.name[1:] for call in trace.calls]


def call_labels(trace: Trace) -> list[int | str]:
    """The short label of each attention call, for buttons and the address: 2, or "2 rows"."""
    short = [name.removeprefix("Layer ").replace(", along", "") for name in call_names(trace)]
    return [int(label) if label.isdecimal() else label for label in short]
