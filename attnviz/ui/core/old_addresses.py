"""What stood in addresses before their values became identifiers: links of that time still open the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# parameter -> what stood there -> the identifier it means. A row is added where a value changes, and none is taken out.
OLD_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "scale": {"Square root": "sqrt", "Linear": "linear", "Log": "log", "Rank": "rank"},
        "colours": {"Viridis": "viridis", "Cividis": "cividis", "Inferno": "inferno", "Gray": "gray"},
    }
)
