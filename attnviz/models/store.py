"""The table of trained models, and how each is opened by its name.

To add a model: train it (`make train NAME=...`) and add one line to IMAGES, TEXTS, TRANSLATORS or WORDS, below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, overload

import torch

from attnviz.models.files import ASSETS, DamagedModel, read_rows, reading, with_weights, write
from attnviz.models.guess import TITLE, GuessModel
from attnviz.models.image import Classifier, ImageModel, Preparation, opened_as
from attnviz.models.nets import SHAPES, built, kind_of
from attnviz.models.text_model import TextModel
from attnviz.models.translation import TranslationModel
from attnviz.models.words import WordVectors, load_words

BENCH, RESULTS = ASSETS / "bench", "bench.json"  # one folder for each trained entry, and a table of all
TEXT_BENCH = ASSETS / "text-bench"  # the same of networks that read text


@dataclass(frozen=True)
class Entry:
    """One model the app can open."""

    title: str
    modality: str  # "image", "text", "translation" or "words"; "vectors" for a table
    open: Callable[[Path], Any]


@overload  # any other str is none of these: pyright cannot be told
def load(  # pyright: ignore[reportOverlappingOverload]
    name: Literal["word2vec"], *, device: str | torch.device = "cpu", folder: Path | None = None
) -> WordVectors:
    """The table of word vectors."""


@overload
def load(
    name: str, *, device: str | torch.device = "cpu", folder: Path | None = None
) -> ImageModel | TextModel | TranslationModel | GuessModel:
    """A model that can be asked for a trace."""


def load(name: str, *, device: str | torch.device = "cpu", folder: Path | None = None) -> Any:
    """Open a trained model by its name in MODELS, or a network of a bench as "bench/NAME" or "text-bench/NAME".

    What stands in VECTORS opens too: a table of word vectors, which has no forward pass.
    Raises ValueError for another name, DamagedModel for a bad file.
    """
    entries = {**MODELS, **VECTORS}
    if name in entries:
        return entries[name].open(folder or ASSETS / name).to(device)
    if reads_text(name):
        return load_text(name, device=device, folder=folder)
    if name not in (known := picture_bench()):
        raise ValueError(f"no model is called {name!r}; known: {', '.join([*entries, *known, *text_bench()])}")
    return load_image(name, device=device, folder=folder)


def is_known(name: str) -> bool:
    """Whether `load` opens a model by this name."""
    return name in {**MODELS, **VECTORS} or name in (text_bench() if reads_text(name) else picture_bench())


def load_text(name: str, *, device: str | torch.device = "cpu", folder: Path | None = None) -> TextModel:
    """Open a text model by name. Raises ValueError for any other name."""
    if name in TEXTS:
        return TEXTS[name].open(folder or ASSETS / name).to(device)
    if name in (known := text_bench()):
        return TextModel.open(folder or TEXT_BENCH / name.removeprefix(f"{TEXT_BENCH.name}/")).to(device)
    raise ValueError(f"no model of texts is called {name!r}; known: {', '.join([*TEXTS, *known])}")


def load_translator(name: str, *, device: str | torch.device = "cpu", folder: Path | None = None) -> TranslationModel:
    """Open a translation model by name. Raises ValueError for any other name."""
    if name not in TRANSLATORS:
        raise ValueError(f"no model that translates is called {name!r}; known: {', '.join(TRANSLATORS)}")
    return TRANSLATORS[name].open(folder or ASSETS / name).to(device)


def reads_text(name: str) -> bool:
    """Whether a model, by its name, reads text; of a name that nobody knows, whether it would."""
    return name in TEXTS or name.startswith("text-bench/")


def load_image(name: str, *, device: str | torch.device = "cpu", folder: Path | None = None) -> ImageModel:
    """Open an image model by name. Raises ValueError for any other name."""
    if name in IMAGES:
        return IMAGES[name].open(folder or ASSETS / name).to(device)
    if name in (known := picture_bench()):
        return open_vit(folder or BENCH / name.removeprefix("bench/")).to(device)
    raise ValueError(f"no model of pictures is called {name!r}; known: {', '.join([*IMAGES, *known])}")


def bench_results(folder: Path | None = None) -> list[dict[str, Any]]:
    """One row for each network of the bench: name, variant, run, accuracy and how it was trained."""
    return read_rows(folder or BENCH, RESULTS)


def picture_bench() -> list[str]:
    """The image networks of the bench by the names they open by."""
    return [f"bench/{row['name']}" for row in bench_results()]


def text_bench() -> list[str]:
    """The text networks of the bench by the names they open by."""
    return [f"{TEXT_BENCH.name}/{row['name']}" for row in bench_results(TEXT_BENCH)]


def save(model: Classifier, folder: Path, card: str, facts: dict[str, Any]) -> None:
    """Write weights in half precision, config.json with their sha256, and card.md."""
    config = {
        "name": model.name,
        "title": model.title,
        "kind": kind_of(model.config),
        "network": asdict(model.config),
        "preparation": asdict(model.preparation),
        "classes": model.classes,
        "superclasses": model.superclasses,
        "facts": facts,
    }
    write(folder, model.network.state_dict(), config, card)


def open_vit(folder: Path) -> ImageModel:
    """A vision transformer from its folder, its checksum verified. Raises DamagedModel, also for another network."""
    model = open_network(folder)
    if not isinstance(model, ImageModel):
        raise DamagedModel(folder, "config.json", "does not describe a vision transformer")
    return model


def open_network(folder: Path) -> Classifier:
    """A network of any kind from its folder, its checksum verified."""
    with reading(folder) as (config, weights):
        network = with_weights(lambda: built(SHAPES[config.get("kind", "vit")](**config["network"])), weights)
        # JSON knows no tuples; a frozen record should hold nothing that can be changed.
        listed: dict[str, Any] = config["preparation"]
        listed |= {name: tuple(value) for name, value in listed.items() if isinstance(value, list)}
        preparation = Preparation(**listed)
        return opened_as(network)(
            folder.name,
            network,
            preparation,
            config["classes"],
            config["superclasses"],
            title=config["title"],
            digest=config["sha256"],
            facts=config["facts"],
        )


IMAGES: dict[str, Entry] = {
    "vit": Entry("Photographs, 130 classes", "image", open_vit),
    "vit-digits": Entry("Handwritten digits", "image", open_vit),
    "vit-scenes": Entry("Drawn scenes with known causes", "image", open_vit),
}
TEXTS: dict[str, Entry] = {
    "sentences": Entry("English sentences: masked words, sentiment, parts of speech", "text", TextModel.open),
    "stories": Entry("English stories, word after word", "text", TextModel.open),
}
TRANSLATORS: dict[str, Entry] = {
    "translator": Entry("English to French: an encoder and a decoder", "translation", TranslationModel.open),
    "seq2seq": Entry("English to French: recurrent, with additive attention", "translation", TranslationModel.open),
}
WORDS: dict[str, Entry] = {"one-block": Entry(TITLE, "words", GuessModel.open)}
MODELS: dict[str, Entry] = {**IMAGES, **TEXTS, **TRANSLATORS, **WORDS}
VECTORS: dict[str, Entry] = {
    "word2vec": Entry("Vectors of English words, a table without a network", "vectors", load_words)
}
