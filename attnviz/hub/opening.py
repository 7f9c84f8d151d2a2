"""Opening a model of Hugging Face: an object of a script, a folder, or a name on the hub.

Weights are read from safetensors only and code of others is never run. Whatever cannot be opened is said in one
sentence with the next step (`CannotOpen`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attnviz.hub.attention import transformers
from attnviz.hub.download import downloaded
from attnviz.hub.errors import CannotOpen, CannotRecord
from attnviz.hub.model import HubImageModel, HubModel, HubTextModel
from attnviz.hub.network import HubNetwork, one_sentence
from attnviz.hub.pictures import preparation_of
from attnviz.hub.vocabulary import HubTokenizer
from attnviz.types import Tokens

CONFIG = "config.json"
UNLIMITED = 10**9  # a tokenizer without a limit says 1e30


def from_transformers(network: Any, processor: Any = None, *, name: str = "") -> HubModel:
    """Open a network of transformers with its tokenizer or image processor.

    Your object is left as it is: each pass sets it to our attention, in evaluation mode, and puts everything back.
    Raises TypeError for what is no such network; CannotOpen where it reads neither pictures nor texts, or the processor
    is missing; CannotRecord where its attention cannot be recorded truly.
    """
    library = transformers()
    if not isinstance(network, library.PreTrainedModel):
        raise TypeError(f"expected a model of transformers, but got a {type(network).__name__}")
    return opened(network, processor, name=name or type(network).__name__, own=False)


def opened(
    network: Any, processor: Any, *, name: str, own: bool, digest: str = "", settings: Mapping[str, Any] | None = None
) -> HubModel:
    """A network as a model, by what it reads."""
    settings = settings or {}
    reads = getattr(network, "main_input_name", "")
    if reads == "pixel_values":
        return opened_image(network, processor, name=name, own=own, digest=digest)
    if reads != "input_ids":
        raise CannotOpen(
            f"{type(network).__name__} reads {reads or 'nothing that is known'}; pages show pictures and texts, and "
            "`with attnviz.record(model) as calls:` records its attention"
        )
    if getattr(network.config, "is_encoder_decoder", False):
        raise CannotOpen(
            f"{type(network).__name__} has an encoder and a decoder, which pages cannot follow; "
            "`with attnviz.record(model) as calls:` records both"
        )
    if processor is None:
        raise CannotOpen(f"{type(network).__name__} needs its tokenizer: from_transformers(model, tokenizer)")
    table = network.get_input_embeddings()
    rows = len(table.weight) if isinstance(table, torch.nn.Embedding) else None
    found = getattr(processor, "tokenizer", processor)
    tokenizer = HubTokenizer(found, rows)
    if rows is not None and tokenizer.backend.get_vocab_size() > rows:
        raise CannotOpen(f"its tokenizer has more tokens than the {rows} rows of its table; open it with its own")
    inputs = small_text(tokenizer, network.device)
    checked = HubNetwork(network, inputs, own=own)
    model = HubTextModel(checked, tokenizer, context_length(network, found, settings), name=name, digest=digest)
    model.pools = settings.get("pools", "")
    return model


def small_text(tokenizer: HubTokenizer, device: torch.device) -> dict[str, torch.Tensor]:
    """A few different tokens, none of them special, between those that stand around a text."""
    first, _, after = tokenizer.template
    inner = [id for id in range(len(tokenizer)) if id not in tokenizer.special_ids][:8]
    ids = torch.tensor([[*first, *inner, *after]], device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def opened_image(network: Any, processor: Any, *, name: str, own: bool, digest: str) -> HubImageModel:
    """A network of pictures, at the first of the sizes of its processor that it reads."""
    if processor is None:
        raise CannotOpen(f"{type(network).__name__} needs its image processor: from_transformers(model, processor)")
    preparation, sizes = preparation_of(processor, network.config)
    refused: CannotOpen | None = None
    for size in sizes:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn(1, len(preparation.mean), size, size, generator=generator)
        try:
            checked = HubNetwork(network, {"pixel_values": pixels.to(network.device, network.dtype)}, own=own)
        except CannotRecord:
            raise
        except CannotOpen as error:
            refused = error
            continue
        tokens = patches(network, size, checked.first.residuals["main"][0].shape[-2])
        return HubImageModel(checked, replace(preparation, size=size), tokens, name=name, digest=digest)
    raise refused or CannotOpen("it reads pictures of no known size")


def patches(network: Any, size: int, count: int) -> Tokens:
    """The tokens of a picture: CLS and its like, then the patches. Raises CannotOpen where they are no grid."""
    side = getattr(network.config, "patch_size", None)
    side = side[0] if isinstance(side, list | tuple) else side
    cells = 0 if not side else size // side
    prefix = count - cells * cells
    if not cells or prefix < 0:
        raise CannotOpen(f"its {count} tokens are no grid of patches; attnviz.record(model) records it")
    registers = int(getattr(network.config, "num_register_tokens", 0) or 0)
    distilled = any(name.endswith("distillation_token") for name, _ in network.named_parameters())
    names = ["CLS", *["DIST"] * distilled, *(f"REG {i + 1}" for i in range(registers))]
    names = [*names, *(f"token {i + 1}" for i in range(len(names), prefix))] if prefix else []
    return Tokens.patches(cells, cells, names[:prefix])


def context_length(network: Any, tokenizer: Any, settings: Mapping[str, Any]) -> int | None:
    """Tokens read at most: the least of what the network, its tokenizer and its folder say; None without a limit."""
    config = network.config
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    for path, module in network.named_modules():  # RoBERTa counts positions from behind that of padding
        if path.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    limits += [getattr(tokenizer, "model_max_length", None), settings.get("max_seq_length")]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < UNLIMITED]
    return min(known, default=None)


def open_folder(folder: Path | str, *, name: str = "", digest: str = "", device: Any = "cpu") -> HubModel:
    """Open a model from its folder: config.json, safetensors, and its tokenizer or processor. Raises CannotOpen."""
    folder = Path(folder)
    library = transformers()
    check_folder(folder)
    with in_one_sentence(folder):
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    named = (getattr(config, "architectures", None) or [""])[0]
    kind = getattr(library, named, library.AutoModel)
    with in_one_sentence(folder):
        network, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            **({"trust_remote_code": False} if kind is library.AutoModel else {}),
        )
    missing = [key for key in info["missing_keys"] if ".pooler." not in f".{key}"]  # which nothing here reads
    if missing:
        raise CannotOpen(
            f"{folder.name} lacks {len(missing)} parameters of a {type(network).__name__} ({sorted(missing)[0]}, ...): "
            "its weights belong to another network, so open it with the config.json it was saved with"
        )
    return opened(
        network.to(device),
        processor_of(library, folder, network),
        name=name or folder.resolve().name,
        own=True,
        digest=digest or digest_of_files(folder),
        settings=settings_of(folder),
    )


def check_folder(folder: Path) -> None:
    """Raise CannotOpen unless a folder holds a configuration and weights that are no pickles."""
    if not folder.is_dir():
        raise CannotOpen(f"there is no folder {folder}; name one that save_pretrained has written")
    if not (folder / CONFIG).is_file():
        raise CannotOpen(f"{folder} has no {CONFIG}; name a folder that save_pretrained has written")
    if not any(folder.glob("*.safetensors")):
        pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.ckpt"))
        found = "only pickled weights, which can run code when they are opened" if pickles else "no weights"
        raise CannotOpen(f"{folder} has {found}; save the model with save_pretrained, which writes safetensors")


@contextmanager
def in_one_sentence(folder: Path) -> Iterator[None]:
    """Whatever the library raises, in one sentence with the next step."""
    try:
        yield
    except CannotOpen:
        raise
    except Exception as error:  # OSError, ValueError, KeyError, RuntimeError, SafetensorError: it may be any
        raise CannotOpen(
            f"{folder.name} cannot be opened ({one_sentence(error)}); make sure that config.json and the weights are "
            "whole and belong together"
        ) from error


def processor_of(library: Any, folder: Path, network: Any) -> Any:
    """The tokenizer or the image processor in a folder; None for a network that reads neither."""
    reads = getattr(network, "main_input_name", "")
    if reads == "input_ids":
        if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")):
            raise CannotOpen(f"{folder} has no tokenizer; save it there too: tokenizer.save_pretrained(folder)")
        with in_one_sentence(folder):
            return library.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if reads == "pixel_values":
        if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
            raise CannotOpen(f"{folder} has no image processor; save it there too: processor.save_pretrained(folder)")
        with in_one_sentence(folder):
            return library.AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return None


def settings_of(folder: Path) -> dict[str, Any]:
    """What sentence-transformers keeps beside a model: how long its texts are, and how tokens become one vector."""
    found: dict[str, Any] = {}
    if (limits := read_json(folder / "sentence_bert_config.json")).get("max_seq_length"):
        found["max_seq_length"] = limits["max_seq_length"]
    pooling = read_json(folder / "1_Pooling" / CONFIG)
    for name, pools in (("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "last")):
        if pooling.get(f"pooling_mode_{name}"):
            found["pools"] = pools
    return found


def read_json(file: Path) -> dict[str, Any]:
    """A record of a file; nothing where it is absent or no such file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def digest_of_files(folder: Path) -> str:
    """sha256 of the configuration and the weights."""
    total = hashlib.sha256()
    for file in sorted([folder / CONFIG, *folder.glob("*.safetensors")]):
        with file.open("rb") as opened_file:
            total.update(hashlib.file_digest(opened_file, "sha256").digest())
    return total.hexdigest()


def open_hub(name: str, *, device: Any = "cpu") -> HubModel:
    """Open a model by its name on the hub, "owner/name" or "owner/name@revision". Raises CannotOpen."""
    transformers()
    repository, _, revision = name.partition("@")
    folder = downloaded(repository, revision or None)
    return open_snapshot(folder, repository, device=device)


def open_snapshot(folder: Path, repository: str, *, device: Any = "cpu") -> HubModel:
    """Open what was downloaded of a repository; the folder is called by its commit. Raises CannotOpen."""
    digest = hashlib.sha256(f"{repository}@{folder.name}".encode()).hexdigest()
    return open_folder(folder, name=repository, digest=digest, device=device)
