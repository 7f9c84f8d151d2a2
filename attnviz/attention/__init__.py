"""The mathematics of attention. To add a variant: one file and one line in VARIANTS; contract tests find it there."""

from attnviz.attention.base import Cost, Variant
from attnviz.attention.multihead import MultiHead
from attnviz.attention.positions import POSITIONS
from attnviz.attention.softmax import Softmax

VARIANTS: dict[str, type[Variant]] = {
    "mha": MultiHead,
}

__all__ = ["POSITIONS", "VARIANTS", "Cost", "MultiHead", "Softmax", "Variant"]
