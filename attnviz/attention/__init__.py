"""The mathematics of attention. To add a variant: one file and one line in VARIANTS; contract tests find it there."""

from attnviz.attention.additive import AdditiveAttention
from attnviz.attention.axial import Axial
from attnviz.attention.base import Cost, Variant
from attnviz.attention.botnet2d import BotNet2d
from attnviz.attention.cosine import Cosine
from attnviz.attention.linear import LinearAttention, Performer
from attnviz.attention.linformer import LinformerAttention
from attnviz.attention.mobilevit import MobileViT2d, Separable
from attnviz.attention.multihead import GroupedQuery, MultiHead, MultiQuery
from attnviz.attention.nystrom import NystromAttention
from attnviz.attention.options import OPTIONS
from attnviz.attention.positions import POSITIONS
from attnviz.attention.proximity import Proximity, Uniform
from attnviz.attention.softmax import Softmax
from attnviz.attention.window import Window, Window2d
from attnviz.attention.xca import CrossCovariance

VARIANTS: dict[str, type[Variant]] = {
    "mha": MultiHead,
    "mqa": MultiQuery,
    "gqa": GroupedQuery,
    "cosine": Cosine,
    "additive": AdditiveAttention,
    "proximity": Proximity,
    "uniform": Uniform,
    "window": Window,
    "window2d": Window2d,
    "axial": Axial,
    "botnet2d": BotNet2d,
    "mobilevit2d": MobileViT2d,
    "separable": Separable,
    "linformer": LinformerAttention,
    "linear": LinearAttention,
    "performer": Performer,
    "nystrom": NystromAttention,
    "xca": CrossCovariance,
}

__all__ = ["OPTIONS", "POSITIONS", "VARIANTS", "Cost", "MultiHead", "Softmax", "Variant"]
