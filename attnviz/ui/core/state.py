"""What the visitor has chosen: kept in the session and in the address, valid for the model at hand."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from attnviz.types import AttentionCall, Trace
from attnviz.ui.core.labels import call_labels
from attnviz.ui.core.old_addresses import OLD_VALUES

SEEN = "attnviz:seen"  # session key: what each parameter of our own said in the URL when we last looked
PAGE = "attnviz:page"
BELONGINGS = {  # what is forgotten with a choice of this name: picks of tokens, and whether steps play by themselves
    "english": ("asking", "choice", "written", "at", "translate:playing")
}
Option = TypeVar("Option")


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
    options: Mapping[Any, str] | Sequence[Option],
    *,
    default: Any,
    key: str,
    where: Any = st,
    kind: Literal["segmented_control", "pills"] = "segmented_control",
    **look: Any,
) -> Any:
    """A row of buttons, one of them always pressed, kept in the address. `where` is the container it stands in.

    `options` are {identifier: label}: the identifier is what is returned and what stands in the address, so that a link
    outlives a change of wording. Numbers and names that are their own labels may come as a sequence.
    Streamlit takes an empty value in the address ("?layer=") for none pressed, required or not: here it is the default.
    """
    control = getattr(where, kind)
    if not isinstance(options, Mapping):
        picked = control(label, options, default=default, required=True, key=key, bind="query-params", **look)
        return default if picked is None else picked
    return kept(key, options, default, partial(control, label, list(options), default=default, required=True, **look))


def several_of(
    label: str, options: Mapping[str, str], *, default: Sequence[str], key: str, where: Any = st, **look: Any
) -> list[str]:
    """Buttons of which any number may be pressed, kept in the address by identifier as in `one_of`.

    Each pressed one is a parameter of its own; where none is pressed, an empty one says so.
    """
    read_addresses(key, options)
    picked = where.pills(
        label,
        list(options),
        default=list(default),
        selection_mode="multi",
        key=key,
        format_func=options.__getitem__,
        persist_state="session",
        **look,
    )
    wanted = [] if set(picked) == set(default) else [name for name in options if name in picked] or [""]
    if st.query_params.get_all(key) != wanted:
        st.query_params[key] = wanted
    st.session_state[SEEN][key] = wanted
    return [name for name in options if name in picked]


def select(
    label: str, options: Mapping[Any, str], *, default: str | None = None, key: str, where: Any = st, **look: Any
) -> str:
    """A list to choose one from, kept in the address by identifier as in `one_of`; the first to begin with."""
    names = list(options)
    first = default if default is not None and default in options else names[0]
    return kept(key, options, first, partial(where.selectbox, label, names, names.index(first), **look))


def slide(label: str, options: Mapping[str, str], *, default: str, key: str, where: Any = st, **look: Any) -> str:
    """A slider over choices that have an order, kept in the address by identifier as in `one_of`."""
    return kept(key, options, default, partial(where.select_slider, label, list(options), default, **look))


def kept(key: str, options: Mapping[Any, str], default: Any, widget: Callable[..., Any]) -> Any:
    """What is chosen with a widget over identifiers: the address is read before it is drawn and written after."""
    read_address(key, options)
    picked = widget(key=key, format_func=options.__getitem__, persist_state="session")
    picked = picked if picked in options else default
    write_address(key, picked, default)
    return picked


def read_address(key: str, options: Container[object]) -> None:
    """Make the choice that the address names, where it has changed by itself: a deep link, or the back button.

    A value that an old address had is translated (`old_addresses.py`). What is no option is left out, and a choice that
    is none any more is forgotten.
    """
    seen, url = st.session_state.setdefault(SEEN, {}), st.query_params.get(key)
    changed = url is not None and not sent_by_browser(key) if key not in seen else url != seen[key]
    seen[key] = url
    if changed:
        asked = url if url in options else OLD_VALUES.get(key, {}).get(url or "")
        if asked in options:
            st.session_state[key] = asked
        elif url is None:
            st.session_state.pop(key, None)
    keep_inside(key, options)


def read_addresses(key: str, options: Container[object]) -> None:
    """Make the choices that the address names, as `read_address` does where there is one."""
    seen, urls = st.session_state.setdefault(SEEN, {}), st.query_params.get_all(key)
    changed = bool(urls) and not sent_by_browser(key) if key not in seen else urls != seen[key]
    seen[key] = urls
    asked = [OLD_VALUES.get(key, {}).get(url, url) for url in urls]
    known = [name for name in asked if name in options]
    if changed and (known or urls == [""]):
        st.session_state[key] = known
    elif changed:
        st.session_state.pop(key, None)


def write_address(key: str, picked: str, default: str) -> None:
    """Say the choice in the address; the default needs no word. What already stands there is left alone."""
    url, wanted = st.query_params.get(key), None if picked == default else picked
    if url != wanted and wanted is None:
        del st.query_params[key]
    elif wanted is not None and url != wanted:
        st.query_params[key] = wanted
    st.session_state[SEEN][key] = wanted


def sent_by_browser(key: str) -> bool:
    """Whether a tab sent a choice of its own for a widget that this session has never drawn.

    That is a tab that came back to a server started again, after a click: the click is newer than the address.
    Streamlit ends the id of a widget with its key, and keeps what was sent until the widget is drawn.
    """
    if key in st.session_state:  # drawn before, or chosen by a link: then the address is what has changed
        return False
    context = get_script_run_ctx(suppress_warning=True)
    state = None if context is None else context.session_state._state
    return state is not None and any(id.endswith(f"-{key}") for id in state._new_widget_state.states)


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


def numbers(text: str) -> tuple[int, ...]:
    """The plain numbers of a comma-separated list, at most 64 of them; anything else is left out."""
    return tuple(int(part) for part in text.split(",")[:64] if part.isdecimal() and len(part) < 7)


def listed(tokens: Iterable[int]) -> str:
    """Tokens as a comma-separated list, which `numbers` reads."""
    return ",".join(map(str, tokens))


def spans(text: str) -> tuple[int, ...]:
    """The numbers of a list of numbers and spans, "3,8-11", in order: at most 1024 parts, spans of at most 4096."""
    found: set[int] = set()
    for part in text.split(",")[:1024]:
        first, _, last = part.partition("-")
        if all(one.isdecimal() and len(one) < 7 for one in (first, last or first)):
            start = int(first)
            found.update(range(start, min(int(last or first), start + 4095) + 1))
    return tuple(sorted(found))


def spanned(tokens: Iterable[int]) -> str:
    """A set of tokens as a list of numbers and spans, which `spans` reads."""
    parts: list[list[int]] = []
    for token in sorted(tokens):
        if parts and token == parts[-1][1] + 1:
            parts[-1][1] = token
        else:
            parts.append([token, token])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def chosen_tokens(
    name: str,
    count: int,
    default: Sequence[int] = (),
    *,
    read: Callable[[str], tuple[int, ...]] = numbers,
    write: Callable[[Iterable[int]], str] = listed,
) -> tuple[int, ...]:
    """The tokens picked under this name, all below `count`: from the session, the URL or the default.

    The URL wins when it has changed by itself, which is a deep link or the back button. It is written only where it
    would say something else, so that going back is never undone; the default needs no parameter, as with widgets.
    `read` and `write`: how the address says them.
    """
    seen, url = st.session_state.setdefault(SEEN, {}), st.query_params.get(name)
    asked = below(count, read(url or ""))
    changed = url is not None if name not in seen else url != seen[name]
    picked = asked if changed or name not in st.session_state else below(count, st.session_state[name])
    kept, said = picked or tuple(default), asked or tuple(default)
    if kept != said and kept == tuple(default):
        del st.query_params[name]
    elif kept != said:
        st.query_params[name] = write(kept)
    st.session_state[name], seen[name] = picked, st.query_params.get(name)  # a default is no pick: pages differ in it
    return kept


def below(count: int, tokens: int | Iterable[int]) -> tuple[int, ...]:
    """Those of the tokens that exist."""
    return tuple(t for t in ((tokens,) if isinstance(tokens, int) else tokens) if 0 <= t < count)


def chosen_set(name: str, count: int, default: Sequence[int] = ()) -> tuple[int, ...]:
    """A set of tokens of any size picked under this name, in order; in the address as numbers and spans."""
    return tuple(sorted({*chosen_tokens(name, count, default, read=spans, write=spanned)}))


def chosen_token(name: str, count: int, default: int = 0) -> int:
    """The one token picked under this name; see `chosen_tokens`."""
    return chosen_tokens(name, count, (default,))[0]


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
