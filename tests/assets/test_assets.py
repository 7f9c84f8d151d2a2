"""What is shipped: models that load safely and reach what their cards claim, samples that say whose they are."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attnviz.attention import VARIANTS
from attnviz.models import IMAGES, TEXTS, ImageModel
from attnviz.models import load_image as load
from attnviz.models.files import ASSETS
from attnviz.models.store import BENCH, bench_results
from attnviz.models.subwords import load_subwords
from attnviz.training.card import card_text
from attnviz.training.images import bench
from attnviz.training.images.data import DATA, Pictures
from attnviz.training.images.evaluate import evaluate
from attnviz.training.images.recipes import RECIPES
from attnviz.training.text import corpus, subwords

OTHERS = (*TEXTS, "word2vec", "one-block", "translator", "seq2seq")  # trained on text
LEAST = {"vit": 38.0, "vit-digits": 95.0, "vit-scenes": 93.0}  # top-1 in percent of the held-out pictures
MEGABYTE = 1_000_000


@pytest.fixture(scope="module", params=IMAGES)
def shipped(request: pytest.FixtureRequest) -> ImageModel:
    """Each shipped model, opened."""
    return load(request.param)


def held_out(model: ImageModel) -> Pictures:
    """The held-out pictures of the model's own data set."""
    return DATA[RECIPES[model.facts["recipe"]].data]("val")


def test_models_are_small() -> None:
    sizes = {path.parent.name: path.stat().st_size for path in ASSETS.glob("*/model.safetensors")}
    assert set(sizes) == {*IMAGES, *OTHERS}
    assert max(sizes.values()) <= 15 * MEGABYTE
    assert sum(path.stat().st_size for path in ASSETS.parent.rglob("*") if path.is_file()) <= 120 * MEGABYTE


def test_nothing_shipped_can_run_code() -> None:
    kinds = {".safetensors", ".json", ".md", ".png", ".jpg", ".txt"}
    assert {path.suffix for path in ASSETS.parent.rglob("*") if path.is_file()} <= kinds


@pytest.mark.parametrize("name", [*IMAGES, *OTHERS])
def test_the_checksum_is_the_files(name: str) -> None:
    config = json.loads((ASSETS / name / "config.json").read_text(encoding="utf-8"))
    assert config["sha256"] == hashlib.sha256((ASSETS / name / "model.safetensors").read_bytes()).hexdigest()
    assert config["name"] == name


def test_every_parameter_is_a_number(shipped: ImageModel) -> None:
    for name, tensor in shipped.network.state_dict().items():
        assert tensor.isfinite().all(), name
    assert shipped.facts["parameters"] == sum(p.numel() for p in shipped.network.parameters())


def test_the_card_is_generated_from_the_facts(shipped: ImageModel) -> None:
    """So no number on it can have been typed by hand."""
    card = (ASSETS / shipped.name / "card.md").read_text(encoding="utf-8")
    assert card == card_text(shipped, RECIPES[shipped.facts["recipe"]], shipped.facts)


def test_the_card_of_the_vocabulary_is_generated() -> None:
    """Its facts are stored nowhere else, so the two measured numbers are read from the card itself."""
    card = (ASSETS / "subwords" / "card.md").read_text(encoding="utf-8")
    measured = [float(number) for number in re.findall(r"\| (\d\.\d\d) \|", card)]
    facts = {"tokens": len(load_subwords()), "data": corpus.ALL_SOURCES, "tokens_per_word": measured}
    assert card == subwords.card_of(facts)


def test_the_recipe_is_the_one_in_the_code(shipped: ImageModel) -> None:
    recipe = RECIPES[shipped.facts["recipe"]]
    assert recipe.config == shipped.config
    assert (recipe.steps, recipe.batch, recipe.seed) == tuple(shipped.facts[k] for k in ("steps", "batch", "seed"))


def test_the_card_claims_enough(shipped: ImageModel) -> None:
    assert shipped.facts["top1"] >= LEAST[shipped.name]


def test_the_digits_reach_the_card() -> None:
    model = load("vit-digits")
    found = evaluate(model, held_out(model))
    # One digit more or less: other processors round differently.
    assert found["top1"] == pytest.approx(model.facts["top1"], abs=0.3)


@pytest.mark.data
def test_two_thousand_photographs_reach_the_card() -> None:
    """A fixed random fifth of the held-out pictures: within four standard errors of the card."""
    model = load("vit")
    whole = held_out(model)
    chosen = np.random.default_rng(0).permutation(len(whole))[:2000]
    part = replace(whole, images=whole.images[chosen], labels=whole.labels[chosen])
    claimed = model.facts["top1"] / 100
    error = math.sqrt(claimed * (1 - claimed) / 2000 * (1 - 2000 / len(whole)))
    assert abs(right(model, part) - claimed) < 4 * error


@pytest.mark.data
@pytest.mark.slow
def test_all_held_out_pictures_reach_the_card(shipped: ImageModel) -> None:
    found = evaluate(shipped, held_out(shipped))
    for fact, value in found.items():
        if isinstance(value, float):
            assert value == pytest.approx(shipped.facts[fact], abs=0.3), fact
    assert found["held_out"] == shipped.facts["held_out"]


def test_the_bench_is_what_its_table_says() -> None:
    rows = bench_results()
    assert {row["variant"] for row in rows} <= set(VARIANTS)
    assert len({(row["steps"], row["batch"], row["data"]) for row in rows}) == 1, "one recipe for all"
    for row in rows:
        model, folder = load(f"bench/{row['name']}"), BENCH / row["name"]
        assert (folder / "model.safetensors").stat().st_size <= 2.5 * MEGABYTE
        recipe = bench.recipe_of(row["variant"], row["run"], seed=row["seed"])
        assert (recipe.name, recipe.config, recipe.steps) == (row["name"], model.config, row["steps"])
        assert bench.card(recipe, row) == (folder / "card.md").read_text(encoding="utf-8")
        assert row["parameters"] == sum(p.numel() for p in model.network.parameters())
        assert all(tensor.isfinite().all() for tensor in model.network.state_dict().values())


@pytest.mark.data
@pytest.mark.parametrize("name", ["mha", "xca"])
def test_networks_of_the_bench_reach_their_rows(name: str) -> None:
    (row,) = [row for row in bench_results() if row["name"] == name]
    found = evaluate(load(f"bench/{name}"), DATA["photos"]("val"), drop_patches=False)
    assert found["held_out"] == row["held_out"] == 9925
    for fact in ("top1", "top5", "superclass_top1"):
        assert found[fact] == pytest.approx(row[fact], abs=0.3), fact


def right(model: ImageModel, pictures: Pictures) -> float:
    """The share of right answers, each picture prepared as the app prepares it."""
    hits = 0
    for start in range(0, len(pictures), 50):
        batch = [model.prepare(Image.fromarray(image)) for image in pictures.images[start : start + 50]]
        logits = model.network(torch.stack([sample.inputs["main"] for sample in batch])).logits["class"]
        hits += int((logits[:, 0].argmax(-1).numpy() == pictures.labels[start : start + 50]).sum())
    return hits / len(pictures)


def test_every_sample_says_whose_it_is() -> None:
    samples = ASSETS.parent / "samples"
    licences = (samples / "LICENSES.md").read_text(encoding="utf-8")
    pictures = [path for path in samples.rglob("*") if path.suffix in (".png", ".jpg")]
    assert pictures
    for path in pictures:
        name, folder = path.relative_to(samples).as_posix(), path.parent.name
        assert f"| {name} |" in licences or f"| {folder}/*" in licences, f"{name} is not in LICENSES.md"
        with Image.open(path) as picture:
            picture.load()
