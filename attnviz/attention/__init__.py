"""The mathematics of attention. To add a variant: one file and one line in VARIANTS; contract tests find it there."""

from attnviz.attention.positions.tables import POSITIONS
from attnviz.attention.rules.options import OPTIONS
from attnviz.attention.rules.softmax import Softmax
from attnviz.attention.variants.additive import AdditiveAttention
from attnviz.attention.variants.axial import Axial
from attnviz.attention.variants.base import Cost, Variant
from attnviz.attention.variants.botnet2d import BotNet2d
from attnviz.attention.variants.cosine import Cosine
from attnviz.attention.variants.differential import Differential
from attnviz.attention.variants.gated import GatedAttention
from attnviz.attention.variants.latent import MultiHeadLatent
from attnviz.attention.variants.linear import LinearAttention, Performer
from attnviz.attention.variants.linformer import LinformerAttention
from attnviz.attention.variants.mobilevit import MobileViT2d, Separable
from attnviz.attention.variants.multihead import GroupedQuery, MultiHead, MultiQuery
from attnviz.attention.variants.nystrom import NystromAttention
from attnviz.attention.variants.proximity import Proximity, Uniform
from attnviz.attention.variants.sinks import SinkWindow
from attnviz.attention.variants.window import Window, Window2d
from attnviz.attention.variants.xca import CrossCovariance

VARIANTS: dict[str, type[Variant]] = {
    "mha": MultiHead,
    "mqa": MultiQuery,
    "gqa": GroupedQuery,
    "mla": MultiHeadLatent,
    "cosine": Cosine,
    "gated": GatedAttention,
    "differential": Differential,
    "additive": AdditiveAttention,
    "proximity": Proximity,
    "uniform": Uniform,
    "window": Window,
    "sinkwindow": SinkWindow,
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
