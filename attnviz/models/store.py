"""Trained models on disk: assets/models/NAME/{model.safetensors, config.json, card.md}.

To add a model: train it (`make train NAME=...`) and add one line to IMAGES, TEXTS, TRANSLATORS or WORDS, below.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import nn

from attnviz import paths
from attnviz.models.image import Classifier, ImageModel, Preparation, opened_as
from attnviz.models.nets import SHAPES, built, kind_of
from attnviz.seeding import seeded

if TYPE_CHECKING:
    from attnviz.models.guess import GuessModel
    from attnviz.models.text_model import TextModel
    from attnviz.models.translation import TranslationModel
    from attnviz.models.words import WordVectors

ASSETS = paths.MODELS
BENCH, RESULTS = ASSETS / "bench", "bench.json"  # one folder for each trained entry, and a table of all
TEXT_BENCH = ASSETS / "text-bench"  # the same of networks that read text


class DamagedFile(RuntimeError):
    """A file that comes with the app cannot be read; the message says which and how to restore it.

    In a checkout, `place` is what git restores: the file itself, or the folder it belongs to; `else_` is another way.
    """

    def __init__(self, file: str, reason: str, place: str = "", else_: str = ""):
        again = "Restore it with `pip install --force-reinstall --no-deps attnviz`"
        restore = again if paths.INSTALLED else f"Restore it with `git checkout -- {place or file}`{else_}"
        super().__init__(f"{file} {reason}. {restore}.")


class DamagedModel(DamagedFile):
    """A shipped model, or a table that training has written, cannot be read."""

    def __init__(self, folder: Path, file: str, reason: str):
        if folder == ASSETS:  # a table that stands alone
            place, recipe = f"assets/models/{file}", file.partition(".")[0]
            super().__init__(place, reason, else_=f", or train again with `make train NAME={recipe}`")
            return
        inside = f"{folder.parent.name}/{folder.name}" if folder.parent in (BENCH, TEXT_BENCH) else folder.name
        again = f", or train it again with `make train NAME={inside.split('/')[0]}`"
        super().__init__(f"assets/models/{inside}/{file}", reason, f"assets/models/{inside}", again)


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


def load_text(name: str, *, device: str | torch.device = "cpu", folder: Path | None = None) -> TextModel:
    """Open a text model by name. Raises ValueError for any other name."""
    if name in TEXTS:
        return TEXTS[name].open(folder or ASSETS / name).to(device)
    if name in (known := text_bench()):
        return open_reader(folder or TEXT_BENCH / name.removeprefix(f"{TEXT_BENCH.name}/")).to(device)
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


def read_rows(folder: Path, file: str, needed: Set[str] = frozenset()) -> list[dict[str, Any]]:
    """A table that training has written, with these columns; no rows where it has not. Raises DamagedModel."""
    try:
        rows = json.loads((folder / file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DamagedModel(folder, file, "cannot be read") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise DamagedModel(folder, file, "is no table of results")
    return rows


def write_rows(folder: Path, file: str, rows: Sequence[dict[str, Any]]) -> None:
    """A table for `read_rows`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


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


def write(folder: Path, tensors: Mapping[str, torch.Tensor], config: dict[str, Any], card: str) -> None:
    """The three files of anything trained: tensors in half precision, config.json with their sha256, card.md."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = tensor_bytes({name: halved(tensor).cpu().contiguous() for name, tensor in tensors.items()})
    config = {"sha256": hashlib.sha256(weights).hexdigest(), **config}
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(card, encoding="utf-8")


def halved(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as it is shipped: in half precision, unless it counts."""
    return tensor.detach().half() if tensor.is_floating_point() else tensor.detach()


def as_shipped(network: nn.Module) -> None:
    """Round the parameters of a network as `write` will, so that what is tested is what is shipped."""
    network.load_state_dict({name: halved(tensor).float() for name, tensor in network.state_dict().items()})


def open_vit(folder: Path) -> ImageModel:
    """A vision transformer from its folder, its checksum verified. Raises DamagedModel, also for another network."""
    model = open_network(folder)
    if not isinstance(model, ImageModel):
        raise DamagedModel(folder, "config.json", "does not describe a vision transformer")
    return model


def open_network(folder: Path) -> Classifier:
    """A network of any kind from its folder, its checksum verified."""
    config = read_config(folder)
    weights = read_weights(folder, config.get("sha256", ""))
    try:
        with seeded(0):  # what is drawn is replaced, but must not reach into what another thread draws
            network = built(SHAPES[config.get("kind", "vit")](**config["network"]))
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
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
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedModel(folder, "config.json", "does not describe the weights beside it") from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not a table of names")
        return config
    except FileNotFoundError as error:
        raise DamagedModel(folder, "config.json", "is missing") from error
    except (OSError, ValueError) as error:
        raise DamagedModel(folder, "config.json", "cannot be read") from error


def read_weights(folder: Path, expected: str) -> dict[str, torch.Tensor]:
    """The tensors of model.safetensors, which holds no code; refused when the checksum differs."""
    try:
        raw = (folder / "model.safetensors").read_bytes()
    except OSError as error:
        raise DamagedModel(folder, "model.safetensors", "is missing") from error
    if hashlib.sha256(raw).hexdigest() != expected:
        raise DamagedModel(folder, "model.safetensors", "is damaged: its checksum differs from config.json")
    try:
        return read_tensors(raw)
    except SafetensorError as error:
        raise DamagedModel(folder, "model.safetensors", "holds no tensors") from error


def open_reader(folder: Path) -> TextModel:
    """A network that reads one text, from its folder."""
    from attnviz.models.text_model import TextModel  # it reads and writes through this module

    return TextModel.open(folder)


def open_translator(folder: Path) -> TranslationModel:
    """A network that translates, from its folder."""
    from attnviz.models.translation import TranslationModel

    return TranslationModel.open(folder)


def open_guesser(folder: Path) -> GuessModel:
    """A block over word vectors, from its folder."""
    from attnviz.models.guess import GuessModel

    return GuessModel.open(folder)


def open_vectors(folder: Path) -> WordVectors:
    """A table of word vectors, from its folder."""
    from attnviz.models.words import load_words

    return load_words(folder)


IMAGES: dict[str, Entry] = {
    "vit": Entry("Photographs, 130 classes", "image", open_vit),
    "vit-digits": Entry("Handwritten digits", "image", open_vit),
}
TEXTS: dict[str, Entry] = {
    "sentences": Entry("English sentences: hidden words, praise, parts of speech", "text", open_reader),
    "stories": Entry("English stories, word after word", "text", open_reader),
}
TRANSLATORS: dict[str, Entry] = {
    "translator": Entry("English to French: an encoder and a decoder", "translation", open_translator),
    "seq2seq": Entry("English to French: recurrent, with additive attention", "translation", open_translator),
}
WORDS: dict[str, Entry] = {
    "one-block": Entry("English words: one block that guesses a hidden one", "words", open_guesser)
}
MODELS: dict[str, Entry] = {**IMAGES, **TEXTS, **TRANSLATORS, **WORDS}
VECTORS: dict[str, Entry] = {
    "word2vec": Entry("Vectors of English words, a table without a network", "vectors", open_vectors)
}
