"""What the visitor has picked: kept in the session and in the URL, valid for the model at hand.

Layers and heads count from 0 in code, from 1 on screen and in the URL; `layer_name` and `head_name` are the one place.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from typing import Any, Literal, TypeVar

import streamlit as st

from attnviz.types import AttentionCall, Tokens, Trace

SEEN = "attnviz:seen"  # session key: what each parameter of our own said in the URL when we last looked
PAGE = "attnviz:page"
BELONGINGS = {  # what is forgotten with a choice of this name: picks of tokens, and whether steps play by themselves
    "english": ("asking", "choice", "written", "at", "translate:playing")
}
Option = TypeVar("Option")


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
    """The same within a sentence, as Markdown: a word of a text stands in quotation marks."""
    name = plain(token_name(tokens, index))
    return name if tokens.words is None or tokens.words[index] < 0 else f"“{name}”"


def plain(text: str) -> str:
    """A text as Markdown that shows just that text."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&])", r"\\\1", text)


def worded(text: str, tokens: Tokens) -> str:
    """A sentence about patches, said of words where the tokens are pieces of a text."""
    return text if tokens.words is None else of_text(text)


def of_text(text: str) -> str:
    """A sentence about pictures and patches, said of texts and words."""
    return text.replace("patches", "words").replace("patch", "word").replace("picture", "text")


def call_names(trace: Trace) -> list[str]:
    """What each attention call is called on screen: "Layer 2", or "Layer 2, along rows" where a layer has several."""
    return [call.name[:1].upper() + call.name[1:] for call in trace.calls]


def call_labels(trace: Trace) -> list[int | str]:
    """The same on a button and in the URL: 2, or "2 rows"."""
    short = [name.removeprefix("Layer ").replace(", along", "") for name in call_names(trace)]
    return [int(label) if label.isdecimal() else label for label in short]


def call_choice(trace: Trace, key: str = "layer") -> int:
    """A row of buttons over the attention calls, one for each layer of most models; the last one to begin with.

    A slider would wait before it tells anyone.
    """
    return buttons("Layer", call_labels(trace), key, at=-1)


def head_choice(call: AttentionCall, key: str = "head") -> int:
    """A row of buttons over the heads a call has, the first one to begin with."""
    return buttons("Head", list(range(1, call.heads + 1)), key, at=0)


def buttons(label: str, options: Sequence[int | str], key: str, *, at: int, **look: Any) -> int:
    """A row of buttons bound to the URL; the place of the chosen one, option `at` to begin with."""
    keep_inside(key, options)
    return options.index(one_of(label, options, default=options[at], key=key, **look))


def one_of(
    label: str,
    options: Sequence[Option],
    *,
    default: Option,
    key: str,
    where: Any = st,
    kind: Literal["segmented_control", "pills"] = "segmented_control",
    **look: Any,
) -> Option:
    """A row of buttons, one of them always pressed, bound to the URL. `where` is the container it stands in.

    Streamlit takes an empty value in the address ("?layer=") for none pressed, required or not: here it is the default.
    """
    control = getattr(where, kind)
    picked = control(label, options, default=default, required=True, key=key, bind="query-params", **look)
    return default if picked is None else picked


def whole_number(label: str, most: int, *, key: str, where: Any = st, **look: Any) -> int:
    """A field for a whole number from 0 to `most`, 0 to begin with, bound to the URL.

    It asks Streamlit for a fraction: of a whole number it would convert whatever the address says, and fail on "inf".
    """
    keep_inside(key, range(most + 1))
    options = {"step": 1.0, "format": "%.0f", "key": key, "bind": "query-params", **look}
    return int(where.number_input(label, 0.0, float(most), 0.0, **options))


def keep_inside(key: str, options: Container[object]) -> None:
    """Forget a choice that the model at hand does not have; the widget then starts from its default."""
    if key in st.session_state and st.session_state[key] not in options:
        del st.session_state[key]


def on_page(name: str) -> None:
    """Tell the picks below which page is open: a change of page clears their parameters, which is no wish of anyone."""
    if st.session_state.get(PAGE) != name:
        st.session_state[PAGE] = name
        st.session_state[SEEN] = {}


def chosen_tokens(name: str, count: int, default: Sequence[int] = ()) -> tuple[int, ...]:
    """The tokens picked under this name, all below `count`: from the session, the URL or the default.

    The URL wins when it has changed by itself, which is a deep link or the back button. It is written only where it
    would say something else, so that going back is never undone; the default needs no parameter, as with widgets.
    """
    seen, url = st.session_state.setdefault(SEEN, {}), st.query_params.get(name)
    asked = below(count, numbers(url or ""))
    changed = url is not None if name not in seen else url != seen[name]
    picked = asked if changed or name not in st.session_state else below(count, st.session_state[name])
    kept, said = picked or tuple(default), asked or tuple(default)
    if kept != said and kept == tuple(default):
        del st.query_params[name]
    elif kept != said:
        st.query_params[name] = ",".join(map(str, kept))
    st.session_state[name], seen[name] = picked, st.query_params.get(name)  # a default is no pick: pages differ in it
    return kept


def below(count: int, tokens: int | Iterable[int]) -> tuple[int, ...]:
    """Those of the tokens that exist."""
    return tuple(t for t in ((tokens,) if isinstance(tokens, int) else tokens) if 0 <= t < count)


def chosen_token(name: str, count: int, default: int = 0) -> int:
    """The one token picked under this name; see `chosen_tokens`."""
    return chosen_tokens(name, count, (default,))[0]


def numbers(text: str) -> tuple[int, ...]:
    """The plain numbers of a comma-separated list, at most 64 of them; anything else is left out."""
    return tuple(int(part) for part in text.split(",")[:64] if part.isdecimal() and len(part) < 7)


def set_tokens(name: str, tokens: Sequence[int]) -> None:
    """Pick tokens, e.g. from a view's on_pick."""
    st.session_state[name] = tuple(int(token) for token in tokens)


def go(**choices: object) -> None:
    """Make several choices at once, by their names in the URL; for a button's on_click."""
    for name, value in choices.items():
        st.session_state[name] = value


def forget_belongings(name: str, since: str = "") -> None:
    """Forget what was chosen within a choice of this name, because another is made; `since`: from this one on."""
    belongings = BELONGINGS.get(name, ())
    for pick in belongings[belongings.index(since) if since else 0 :]:
        set_tokens(pick, ())
