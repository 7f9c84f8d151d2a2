"""What `python -m benchmarks.faithfulness` scores maps on: scenes, photographs with boxes, sentences, agreement."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attnviz.measures.faithfulness import parts_of
from attnviz.measures.localisation import mask_of_parts, quarter, word_mask
from attnviz.models.store import load_image, load_text
from attnviz.training.images import scenes
from attnviz.training.images.data import blur, data_folder, encode_jpeg, open_member, read_sheets
from attnviz.training.text.agreement import DISTRACTOR, agreements
from attnviz.training.text.corpus import reviews
from attnviz.types import Sample, Target

LARGEST = 1 / 3  # of a photograph, that an object's box may cover


@dataclass(frozen=True, eq=False)
class Case:
    """One input, the class that is explained, and what is known to decide."""

    inputs: str  # its kind: "scenes/colour"
    model: Any
    sample: Sample
    target: Target
    right: bool  # whether the model is right about it
    masks: Mapping[str, Tensor] = field(default_factory=dict)  # score -> [part]


def scene_cases(count: int, first: int = scenes.TEST) -> Iterator[Case]:
    """So many scenes of each kind, and of single objects as many off the middle; every object is explained."""
    model = load_image("vit-scenes")
    for kind, off_centre in [*((name, False) for name in scenes.KINDS), ("colour", True), ("shape", True)]:
        for index in range(count):
            labels = scenes.KINDS[kind].labels
            scene = scenes.draw(kind, first + index, [labels[index % len(labels)]], off_centre=off_centre)
            sample = model.prepare(scene.image)
            name = f"scenes/{kind}" + (" off centre" if off_centre else "")
            order = model(sample).logits["class"][0].argsort(descending=True).tolist()
            for label, mask in scene.masks.items():
                objects = len(scene.masks)
                explained = label if objects > 1 else order[0]
                yield Case(
                    name,
                    model,
                    sample,
                    Target("class", 0, explained),
                    label in order[:objects],
                    masks_of(mask, model.spec.patch_size or 1, grid=kind == "mosaic"),
                )


def masks_of(mask: np.ndarray, patch: int, *, grid: bool = False) -> dict[str, Tensor]:
    """The patches of an object, and in a mosaic those of its quarter."""
    pixels = torch.from_numpy(mask)
    found = {"object": mask_of_parts(pixels, patch)}
    return found | ({"quarter": mask_of_parts(quarter(pixels), patch)} if grid else {})


def photograph_cases(count: int, *, frozen: bool = False) -> Iterator[Case]:
    """Held-out photographs of Tiny ImageNet whose object box covers less than a third. Raises NoData."""
    model, path = load_image("vit"), data_folder() / "tinyimagenet120_64.tar"
    images, labels, _ = read_sheets(path, "val")
    with np.load(io.BytesIO(member(path, "boxes.npz"))) as boxes:
        left, top, right, bottom = boxes["val"].reshape(-1, 4).astype(int).T
    small = np.flatnonzero((right - left + 1) * (bottom - top + 1) < LARGEST * images.shape[1] * images.shape[2])
    chosen = np.random.default_rng(0).permutation(small)
    chosen = chosen[-count:] if frozen else chosen[:count]
    for index, image in zip(chosen, encode_jpeg(blur(images[chosen])), strict=True):
        mask = np.zeros(image.shape[:2], dtype=bool)
        mask[top[index] : bottom[index] + 1, left[index] : right[index] + 1] = True
        sample = model.prepare(Image.fromarray(image))
        answer = int(model(sample).logits["class"].argmax())
        masks = masks_of(mask, model.spec.patch_size or 1)
        yield Case("photographs", model, sample, Target("class", 0, answer), answer == int(labels[index]), masks)


def member(path: Path, name: str) -> bytes:
    """A file inside an archive. Raises NoData."""
    with tarfile.open(path) as archive:
        return open_member(archive, name).read()


def sentence_cases(count: int, *, frozen: bool = False) -> Iterator[Case]:
    """Sentences about films that were held out, whose sentiment is explained. Raises NoData."""
    model = load_text("sentences")
    rated = [(label, text) for label, text in reviews("val" if frozen else "test") if label != 2]
    order = np.random.default_rng(0).permutation(len(rated))[:count]
    for label, text in (rated[i] for i in order):
        sample = model.prepare(text)
        answer = int(model(sample).logits["sentiment"].argmax())
        yield Case("sentences", model, sample, Target("sentiment", 0, answer), answer == int(label > 2))


def agreement_cases(count: int, *, frozen: bool = False) -> Iterator[Case]:
    """Beginnings of sentences whose subject alone decides the verb that comes next. Raises NoData.

    Right is where the model finds the verb that agrees likelier than the other. Where both verbs begin with the same
    token, or the model's words are not those of the sentence, there is nothing to score.
    """
    model = load_text("stories")
    found = agreements(DISTRACTOR)
    order = np.random.default_rng(0).permutation(len(found))
    order = order[::-1] if frozen else order
    for agreement in itertools.islice((found[i] for i in order), count):
        sample = model.prepare(" ".join(agreement.words))
        tokens = sample.tokens["main"]
        verb, other = (model.tokenizer.encode(f"{sample.text} {word}")[len(tokens) - 1].id for word in
                       (agreement.verb, agreement.other))  # fmt: skip
        if verb == other or int(parts_of(tokens).max()) + 1 != len(agreement.words):
            continue
        logits = model(sample).logits["word"][-1]
        masks = {"word": word_mask(tokens, agreement.decides)}
        target = Target("word", len(tokens) - 1, verb)
        yield Case("agreement", model, sample, target, bool(logits[verb] > logits[other]), masks)
