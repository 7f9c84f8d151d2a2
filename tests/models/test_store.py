"""Models on disk: what is saved comes back, what is damaged says so, nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import attnviz
from attnviz.edits import Edit, head_flags
from attnviz.models import (
    MODELS,
    VECTORS,
    DamagedModel,
    ImageModel,
    Preparation,
    ViT,
    ViTConfig,
    load,
    load_translator,
    save,
)
from attnviz.models.files import ASSETS, as_shipped, halved
from attnviz.models.guess import load_guesser
from attnviz.models.image import digest_of
from attnviz.models.store import BENCH, TEXT_BENCH, open_vit
from attnviz.models.words import load_words
from attnviz.types import Model

CONFIG = ViTConfig(size=8, patch=4, width=16, layers=1, heads=2, mlp=2, classes=3)


@pytest.fixture
def model() -> ImageModel:
    """A small untrained model, its parameters representable in half precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ViT(CONFIG)
    network.load_state_dict({name: tensor.half().float() for name, tensor in network.state_dict().items()})
    preparation = Preparation(8, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    return ImageModel("tiny", network, preparation, ("dog", "car", "cup"), ("animal", "thing", "thing"), title="Tiny")


@pytest.fixture
def folder(model: ImageModel, tmp_path: Path) -> Path:
    """The model saved."""
    save(model, tmp_path / "tiny", "# a card\n", {"top1": 12.5})
    return tmp_path / "tiny"


def test_what_is_saved_comes_back(model: ImageModel, folder: Path) -> None:
    opened = open_vit(folder)
    sample = model.prepare(Image.effect_noise((30, 20), 80).convert("RGB"))
    assert torch.equal(opened(sample).logits["class"], model(sample).logits["class"])
    assert (opened.classes, opened.superclasses, opened.title) == (model.classes, model.superclasses, "Tiny")
    assert (opened.preparation, opened.config) == (model.preparation, CONFIG)
    assert opened.facts == {"top1": 12.5}
    assert (folder / "card.md").read_text() == "# a card\n"


def test_weights_are_half_precision(folder: Path) -> None:
    parameters = sum(p.numel() for p in ViT(CONFIG).parameters())
    size = (folder / "model.safetensors").stat().st_size
    assert 2 * parameters < size < 2 * parameters + 5_000


def test_a_changed_byte_is_noticed(folder: Path) -> None:
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DamagedModel, match=r"tiny/model\.safetensors is damaged") as raised:
        open_vit(folder)
    assert "git checkout -- assets/models/tiny" in str(raised.value)
    assert "make train NAME=tiny" in str(raised.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DamagedModel, match=f"{name} is missing"):
        open_vit(folder)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00"])
def test_an_unreadable_config_is_named(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(DamagedModel, match=r"config\.json cannot be read"):
        open_vit(folder)


@pytest.mark.parametrize("key", ["network", "preparation", "classes", "superclasses", "title", "facts"])
@pytest.mark.parametrize("value", [None, 3, {"width": -4}])
def test_a_config_that_does_not_fit_is_named(folder: Path, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    if value is not None and key not in ("title", "facts"):
        config[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DamagedModel, match=r"config\.json does not describe"):
        open_vit(folder)


def test_a_pickle_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps({"embed.weight": [1.0]}))
    with pytest.raises(DamagedModel):
        open_vit(folder)


def test_a_file_that_is_no_safetensors_but_matches_its_checksum(folder: Path) -> None:
    raw = b"not tensors"
    (folder / "model.safetensors").write_bytes(raw)
    config = json.loads((folder / "config.json").read_text())
    config["sha256"] = hashlib.sha256(raw).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DamagedModel):
        open_vit(folder)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="known: vit, vit-digits") as raised:
        load("resnet")
    known = str(raised.value).partition("known: ")[2].split(", ")
    assert {*MODELS, *VECTORS, "bench/axial", "text-bench/linear"} <= set(known)
    assert len(set(known)) == len(known)
    for name in ("bench/none", "text-bench/none", "subwords"):
        with pytest.raises(ValueError, match="known: "):
            load(name)
    assert attnviz.MODELS is MODELS


def test_all_that_is_shipped_opens_by_its_name() -> None:
    """Every folder of assets/models that holds weights, those of the benches apart."""
    names = {path.parent.name for path in ASSETS.glob("*/model.safetensors")}
    assert names == {*MODELS, *VECTORS}
    for name in VECTORS:
        assert len(attnviz.load(name).words) == len(attnviz.load(name).vectors)
    assert attnviz.load("word2vec", device="meta").vectors.device.type == "meta"


def test_the_block_of_the_lesson_is_a_model_like_the_others() -> None:
    model: Any = attnviz.load("one-block")
    assert isinstance(model, Model)
    sample = model.prepare("The xyzzyq CAT, and the dog!")
    assert sample.tokens["main"].labels == ("the", "cat", "and", "the", "dog")
    assert (sample.text, sample.cut) == ("the cat and the dog", "")
    assert model.prepare("dog " * 24 + "cat").cut == "cat"
    network, _ = load_guesser(load_words())
    ids, hidden = sample.inputs["main"], torch.arange(5) == 4
    expected = network(ids, hidden).logits["word"]
    torch.testing.assert_close(model(sample, hidden=hidden).logits["word"], expected)
    trace = model(sample)
    torch.testing.assert_close(
        model.layer(0, trace.residuals["main"][0], tokens=sample.tokens["main"]), trace.residuals["main"][1]
    )
    torch.testing.assert_close(model.logits_from(trace.residuals["main"][-1]), trace.logits["word"])
    few = model(sample, edit=Edit(keep_tokens=torch.tensor([True, True, False, True, True])))
    assert few.pooling["main"].tolist() == [0.25, 0.25, 0, 0.25, 0.25]
    assert (few.calls[0].token_map()[..., 2] == 0).all()
    assert (model(sample, edit=Edit(ablated_heads=head_flags(1, 4, [(0, 1)]))).calls[0].output[1] == 0).all()
    assert torch.equal(
        model(sample, edit=Edit(embeddings=trace.token_embeddings["main"])).logits["word"], trace.logits["word"]
    )
    assert (model(sample, edit=Edit(positions="none")).position_embeddings["main"] == 0).all()
    with pytest.raises(ValueError, match="at most 24"):
        model.network(torch.zeros(25, dtype=torch.long))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_table_opens_by_its_name(name: str) -> None:
    model = attnviz.load(name)
    assert model.name == name
    assert model.spec.modality == MODELS[name].modality


def test_what_does_not_translate_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="known: translator, seq2seq"):
        load_translator("vit")


def test_digest_follows_the_parameters(model: ImageModel) -> None:
    before = digest_of(model.network)
    with torch.no_grad():
        model.network.classify.bias[0] += 1
    assert digest_of(model.network) != before


def test_digest_follows_names_and_shape_and_is_that_of_the_file(model: ImageModel, folder: Path) -> None:
    """Variants may share every parameter; what is opened is known by the checksum of its file."""
    one, other = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)}), torch.nn.ModuleDict({"b": torch.nn.Linear(2, 2)})
    other["b"].load_state_dict(one["a"].state_dict())
    assert digest_of(one) != digest_of(other)
    near = ViT(replace(CONFIG, variant="window", options={"radius": 1}))
    near.load_state_dict(model.network.state_dict())
    assert digest_of(near) != digest_of(model.network)
    assert open_vit(folder).digest == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_what_counts_is_not_rounded_and_what_is_tested_is_what_is_shipped(model: ImageModel) -> None:
    assert halved(torch.tensor(70_001)).item() == 70_001
    assert halved(torch.tensor(1 / 3)).dtype == torch.float16
    with torch.no_grad():
        model.network.classify.bias.fill_(1 / 3)
    as_shipped(model.network)
    assert model.network.classify.bias[0].item() == torch.tensor(1 / 3).half().item() != 1 / 3


@pytest.mark.parametrize(
    ("folder", "place", "name"),
    [
        (ASSETS / "vit", "vit", "vit"),
        (BENCH / "mha", "bench/mha", "bench"),
        (TEXT_BENCH / "mha", "text-bench/mha", "text-bench"),
    ],
)
def test_a_damaged_model_says_where_it_is_and_what_trains_it(folder: Path, place: str, name: str) -> None:
    said = str(DamagedModel(folder, "config.json", "is missing"))
    assert f"assets/models/{place}/config.json is missing" in said
    assert f"git checkout -- assets/models/{place}`" in said
    assert f"make train NAME={name}`" in said


def test_classes_must_match_the_network(model: ImageModel) -> None:
    with pytest.raises(ValueError, match="3 outputs but 2 classes"):
        ImageModel("tiny", model.network, model.preparation, ("a", "b"), ("g", "g"))
    with pytest.raises(ValueError, match="3 classes and 2 groups"):
        ImageModel("tiny", model.network, model.preparation, ("a", "b", "c"), ("g", "g"))
