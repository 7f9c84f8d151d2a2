"""Networks and the shipped models. To add one: train it, then one line in MODELS."""

from attnviz.models.image import ImageModel, Preparation
from attnviz.models.store import MODELS, DamagedModel, bench_results, load, save
from attnviz.models.vit import ViT, ViTConfig

__all__ = [
    "MODELS",
    "DamagedModel",
    "ImageModel",
    "Preparation",
    "ViT",
    "ViTConfig",
    "bench_results",
    "load",
    "save",
]
