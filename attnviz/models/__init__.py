"""Networks and the shipped models. To add one: train it, then one line in IMAGES, TEXTS, TRANSLATORS or WORDS."""

from attnviz.models.files import DamagedFile, DamagedModel
from attnviz.models.image import CENTER_CROP, Crop, ImageModel, Preparation
from attnviz.models.store import (
    IMAGES,
    MODELS,
    TEXTS,
    TRANSLATORS,
    VECTORS,
    WORDS,
    bench_results,
    load,
    load_image,
    load_text,
    load_translator,
    save,
)
from attnviz.models.text_model import TextModel
from attnviz.models.translation import TranslationModel
from attnviz.models.vit import ViT, ViTConfig

__all__ = [
    "CENTER_CROP",
    "IMAGES",
    "MODELS",
    "TEXTS",
    "TRANSLATORS",
    "VECTORS",
    "WORDS",
    "Crop",
    "DamagedFile",
    "DamagedModel",
    "ImageModel",
    "Preparation",
    "TextModel",
    "TranslationModel",
    "ViT",
    "ViTConfig",
    "bench_results",
    "load",
    "load_image",
    "load_text",
    "load_translator",
    "save",
]
