"""Pictures to train and evaluate on. To add a data set: a function split -> Pictures and one line in DATA.

The photographs lie outside the repository (see `data_folder`); the digits come with scikit-learn, and scenes are drawn.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy.ndimage import convolve1d
from torch import Tensor

from attnviz.models.image import jpeg_coded
from attnviz.paths import ROOT
from attnviz.training.images import scenes

Split = Literal["train", "val"]
JPEG = 85  # quality of every photograph at 64 px
BLUR = 0.05  # weight of each neighbour; brings Tiny-ImageNet to the sharpness of Imagenette at 64 px
IMAGENETTE = {  # short names and superclasses of Imagenette's ten classes, as those of the other 120
    "n01440764": ("tench", "fish"),
    "n02102040": ("springer spaniel", "dog"),
    "n02979186": ("cassette player", "device"),
    "n03000684": ("chainsaw", "device"),
    "n03028079": ("church", "building or tower"),
    "n03394916": ("french horn", "device"),
    "n03417042": ("garbage truck", "vehicle or machine"),
    "n03425413": ("gas pump", "outdoor object"),
    "n03445777": ("golf ball", "ball or sport"),
    "n03888257": ("parachute", "outdoor object"),
}


class NoData(FileNotFoundError):
    """The training pictures are not on this machine."""


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of one size."""

    images: UInt8[np.ndarray, "picture height width channel"]
    labels: Int[np.ndarray, " picture"]
    classes: tuple[str, ...]
    superclasses: tuple[str, ...]  # of each class
    source: str  # name and licence of the data set, for the card
    teacher_logits: Float[np.ndarray, "picture class"] | None = None  # soft labels (`teacher.py`)

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, index: Int[np.ndarray, " chosen"]) -> Pictures:
        """Some of the pictures, in this order."""
        logits = None if self.teacher_logits is None else self.teacher_logits[index]
        return replace(self, images=self.images[index], labels=self.labels[index], teacher_logits=logits)


def split_validation(pictures: Pictures, per_class: int) -> tuple[Pictures, Pictures]:
    """The pictures to train on, and `per_class` random ones of every class to choose by; always the same.

    Raises ValueError where a class has no more than that.
    """
    random, chosen = np.random.default_rng(0), []
    for label, name in enumerate(pictures.classes):
        own = np.flatnonzero(pictures.labels == label)
        if len(own) <= per_class:
            raise ValueError(
                f"there are {len(own)} pictures of {name}, which leaves none beside {per_class} to choose by"
            )
        chosen.append(random.permutation(own)[:per_class])
    validation = np.sort(np.concatenate(chosen))
    return pictures.pick(np.setdiff1d(np.arange(len(pictures)), validation)), pictures.pick(validation)


def superclass_indices(superclasses: Sequence[str]) -> Int[Tensor, " class"]:
    """The index of the superclass of each class, in the order in which superclasses first occur."""
    order = list(dict.fromkeys(superclasses))
    return torch.tensor([order.index(name) for name in superclasses])


def data_folder() -> Path:
    """The folder of training pictures: $ATTNVIZ_DATA, or shared/data beside the checkout. Raises NoData."""
    folder = Path(os.environ.get("ATTNVIZ_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        raise NoData(f"No training pictures in {folder}; set ATTNVIZ_DATA to the folder that holds them.")
    return folder


def photos(split: Split) -> Pictures:
    """130 classes at 64 px: 120 of Tiny-ImageNet, and the ten of Imagenette. Raises NoData."""
    folder = data_folder()
    parts = [read_sheets(folder / "tinyimagenet120_64.tar", split), read_sheets(folder / "imagenette_128.tar", split)]
    images, labels, names, superclasses = [], [], [], []
    for pictures, part_labels, classes in parts:
        # Tiny-ImageNet is sharper than a carefully downscaled picture, and comes as JPEG files of 64 px with chroma
        # subsampling. A network detects these traces at once, tells the two sources apart by them, and takes a
        # visitor's picture for one of Imagenette's. So all pictures are made equally sharp and JPEG-coded alike;
        # `python -m benchmarks.sources` prints how well the sources can still be told apart.
        images.append(encode_jpeg(halve(pictures) if pictures.shape[1] == 128 else blur(pictures)))
        labels.append(part_labels + len(names))
        for entry in classes:
            name, superclass = IMAGENETTE.get(entry["wnid"]) or (entry["name"], entry["coarse"])
            names.append(name)
            superclasses.append(superclass)
    return Pictures(
        np.concatenate(images),
        np.concatenate(labels),
        tuple(names),
        tuple(superclasses),
        "Tiny-ImageNet (120 photo-like classes) and Imagenette v2 (10 classes); "
        "ImageNet terms: non-commercial research and education",
    )


def read_sheets(path: Path, split: Split) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Pictures [picture tile tile 3], labels and class entries of one archive of contact sheets. Raises NoData."""
    if not path.is_file():
        raise NoData(f"{path.name} is missing from {path.parent}.")
    with tarfile.open(path) as archive:
        index = json.load(open_member(archive, "index.json"))
        order = {entry["wnid"]: label for label, entry in enumerate(index["classes"])}
        tiles, labels = [], []
        for name, used in index["sheets"].items():
            if not name.startswith(f"{split}/"):
                continue
            sheet = Image.open(io.BytesIO(open_member(archive, name).read())).convert("RGB")
            tiles.append(split_sheet(np.asarray(sheet), index["tile"])[:used])
            wnid = name.split("/")[1].rsplit("_", 1)[0]
            labels.append(np.full(used, order[wnid]))
    return np.concatenate(tiles), np.concatenate(labels), index["classes"]


def open_member(archive: tarfile.TarFile, name: str) -> io.BufferedIOBase:
    """A member of an archive as a file. Raises NoData where it is missing."""
    member = archive.extractfile(name)
    if member is None:
        raise NoData(f"{archive.name} holds no {name}.")
    return member  # type: ignore[return-value]  # typeshed says IO[bytes]


def split_sheet(sheet: np.ndarray, tile: int) -> np.ndarray:
    """Split a contact sheet, ten tiles wide, into tiles in raster order."""
    return sheet.reshape(-1, tile, 10, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)


def halve(images: np.ndarray) -> np.ndarray:
    """Downscale by the mean of 2 x 2 pixels; in parts, to save memory."""
    parts = np.array_split(images, max(1, len(images) // 1000))
    means = [p.reshape(len(p), p.shape[1] // 2, 2, p.shape[2] // 2, 2, 3).mean((2, 4)) for p in parts]
    return np.concatenate([np.rint(m).astype(np.uint8) for m in means])


def blur(images: UInt8[np.ndarray, "picture height width channel"]) -> UInt8[np.ndarray, "..."]:
    """Blur slightly with the kernel (BLUR, 1 - 2 BLUR, BLUR), along both sides in turn."""
    parts = np.array_split(images, max(1, len(images) // 1000))
    kernel = np.array([BLUR, 1 - 2 * BLUR, BLUR])
    blurred = [convolve1d(convolve1d(p.astype(np.float32), kernel, 1), kernel, 2) for p in parts]
    return np.concatenate([np.rint(b.clip(0, 255)).astype(np.uint8) for b in blurred])


def encode_jpeg(images: UInt8[np.ndarray, "picture height width channel"]) -> UInt8[np.ndarray, "..."]:
    """Encode every picture as JPEG and decode it again."""
    return np.stack([np.asarray(jpeg_coded(Image.fromarray(image), JPEG)) for image in images])


def digits(split: Split) -> Pictures:
    """Handwritten digits of 8 x 8 grey pixels: 1,347 to train on, 450 held out, as scikit-learn ships them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    flat, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    train, held_out = train_test_split(np.arange(len(labels)), test_size=0.25, random_state=0, stratify=labels)
    chosen = train if split == "train" else held_out
    images = np.rint(flat[chosen].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    names = tuple(str(n) for n in range(10))
    return Pictures(
        images, labels[chosen], names, ("digit",) * 10, "UCI handwritten digits, by scikit-learn; CC BY 4.0"
    )


def drawn(split: Split) -> Pictures:
    """Scenes of which it is known what decides the answer (`scenes.py`), drawn anew each time from their seeds."""
    drawings = [scenes.draw(kind, seed, [label]) for kind, seed, label in scenes.plan(split)]
    images, labels = np.stack([scene.image for scene in drawings]), np.array([scene.label for scene in drawings])
    return Pictures(images, labels, scenes.CLASSES, scenes.SUPERCLASSES, scenes.SOURCE)


DATA: dict[str, Callable[[Split], Pictures]] = {"photos": photos, "digits": digits, "scenes": drawn}
