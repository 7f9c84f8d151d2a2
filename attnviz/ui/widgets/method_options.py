"""Controls for the options that attribution methods declare, kept in the address, and their values in words."""

from __future__ import annotations

from typing import Any

from attnviz.methods.base import Option
from attnviz.ui.core.state import keep_inside, one_of

PARAMETERS = {  # what an option is called in addresses that are older than its declaration
    ("fusion", "choice"): "fusion",
    ("alpha", "share"): "alpha",
    ("discard", "share"): "discard",
    ("by_row", "toggle"): "rows",
    ("first", "layer"): "from",
}


def layer_of(option: Option, value: int | None, depth: int) -> int:
    """The number of a layer, counted from 0; the last one where there is no value and no default."""
    value = option.default if value is None else value
    return depth - 1 if value is None else min(value, depth - 1)


def said_value(option: Option, value: Any, depth: int) -> str:
    """The value of an option, in words."""
    if option.kind == "choice":
        return option.choices[value].lower()
    if option.kind == "share":
        return f"{100 * value:.0f} %"
    if option.kind == "toggle":
        return "on" if value else "off"
    if option.kind == "number":
        return str(value)
    return str(1 + layer_of(option, value, depth))


def parameter(option: Option) -> str:
    """What an option is called in the address: one name for one kind of control, whichever method has it."""
    return PARAMETERS.get((option.name, option.kind), f"{option.name}-{option.kind}")


def control(option: Option, depth: int, where: Any) -> Any:
    """The control of one declared option, kept in the address; its value as the method takes it."""
    key, bound = parameter(option), {"key": parameter(option), "bind": "query-params", "help": option.help or None}
    if option.kind == "choice":
        return one_of(option.title, option.choices, default=option.default, key=key, where=where, help=bound["help"])
    if option.kind == "toggle":
        return where.toggle(option.title, option.default, **bound)
    if option.kind == "share":
        low, high, usual = (round(100 * share) for share in (*option.range, option.default))
        keep_inside(key, range(low, high + 1))
        return where.slider(option.title, low, high, usual, 5, format="%d %%", **bound) / 100
    if option.kind == "number":
        low, high = map(int, option.range)
        keep_inside(key, range(low, high + 1))
        return where.slider(option.title, low, high, option.default, **bound)
    if depth == 1:
        return 0  # a slider needs two ends
    keep_inside(key, range(1, depth + 1))
    return where.slider(option.title, 1, depth, 1 + layer_of(option, None, depth), **bound) - 1
