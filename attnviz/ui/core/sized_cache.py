"""A cache bounded by entries and by bytes, for what all visitors share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from attnviz.types import Tokens

Value = TypeVar("Value")


class SizedCache(Generic[Value]):
    """Values by string keys; the least recently used go when there are too many entries or bytes.

    What is missing is made once, however many visitors ask for it at the same time.
    """

    def __init__(self, *, entries: int, size: int):
        self.entries, self.size = entries, size
        self._kept: OrderedDict[tuple[str, ...], tuple[Value, int]] = OrderedDict()
        self._making: dict[tuple[str, ...], Lock] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: tuple[str, ...]) -> bool:
        return key in self._kept

    @property
    def bytes(self) -> int:
        """How much is kept now."""
        return sum(size for _, size in self._kept.values())

    def get(self, key: tuple[str, ...], make: Callable[[], Value], *, beside: object = None) -> Value:
        """The value under this key, made now if it is not kept. What `make` raises is not kept.

        Memory that it shares with what is kept elsewhere, `beside` it, is not counted.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key][0]
            try:
                value = make()
                self.put(key, value, beside=beside)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def put(self, key: tuple[str, ...], value: Value, *, beside: object = None) -> None:
        """Keep a value, and drop the oldest ones where that is needed."""
        with self._lock:
            self._kept[key] = (value, bytes_of(value, beside))
            while len(self._kept) > self.entries or (self.bytes > self.size and len(self._kept) > 1):
                self._kept.popitem(last=False)


def bytes_of(value: Any, beside: Any = None) -> int:
    """The memory of the tensors and the bytes of a value; each storage counts once, and none that `beside` holds."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors_of(value)}
    elsewhere = {t.untyped_storage().data_ptr() for t in tensors_of(beside)}
    written = len(value) if isinstance(value, bytes) else 0
    return written + sum(size for place, size in storages.items() if place not in elsewhere)


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor inside records, mappings, sequences and networks, and inside a model that holds its `network`."""
    if isinstance(value, Tensor):
        return [value]
    network = value if isinstance(value, nn.Module) else getattr(value, "network", None)
    if isinstance(network, nn.Module):
        return [*network.parameters(), *network.buffers()]
    if isinstance(value, Tokens):  # labels alone, thousands of them in each call of a large input
        return []
    if isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, (tuple, list)):
        inside = list(value)
    elif is_dataclass(value) and not isinstance(value, type):
        inside = [getattr(value, field.name) for field in fields(value)]
    else:
        inside = []
    return [tensor for item in inside for tensor in tensors_of(item)]
