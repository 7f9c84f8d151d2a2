"""Pictures to train and test on. To add a data set: a function split -> Pictures and one line in DATA.

The photographs lie outside the repository (see `data_folder`); the digits come with scikit-learn.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from scipy.ndimage import convolve1d
from torch import Tensor

from attnviz.models.image import jpeg_coded
from attnviz.paths import ROOT

Split = Literal["train", "val"]
JPEG = 85  # quality of every photograph at 64 px
SOFT = 0.05  # brings Tiny-ImageNet to the sharpness of Imagenette at 64 px
IMAGENETTE = {  # short names and coarse groups for Imagenette's ten, in the words of the other 120
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
    superclasses: tuple[str, ...]  # the coarse group of each class
    source: str  # name and licence, for the card

    def __len__(self) -> int:
        return len(self.labels)


def numbered(groups: Sequence[str]) -> Int[Tensor, " class"]:
    """The number of the group of each class, in the order in which groups first come."""
    order = list(dict.fromkeys(groups))
    return torch.tensor([order.index(group) for group in groups])


def data_folder() -> Path:
    """The folder of training pictures: $ATTNVIZ_DATA, or shared/data beside the checkout. Raises NoData."""
    folder = Path(os.environ.get("ATTNVIZ_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        raise NoData(f"No training pictures in {folder}; set ATTNVIZ_DATA to the folder that holds them.")
    return folder


def photos(split: Split) -> Pictures:
    """120 classes of Tiny-ImageNet and Imagenette's ten, joined to 130 at 64 px."""
    folder = data_folder()
    parts = [read_sheets(folder / "tinyimagenet120_64.tar", split), read_sheets(folder / "imagenette_128.tar", split)]
    images, labels, names, groups = [], [], [], []
    for pictures, marks, classes in parts:
        # Tiny-ImageNet is sharper than a picture made small with care, and comes as JPEG files of 64 px, with colours
        # at half of that. A network finds these traces at once, tells the two sources apart by them, and takes a
        # visitor's picture for one of Imagenette's. So all are made equally sharp and coded alike; what remains is
        # printed by `python -m benchmarks.sources`.
        images.append(coded(halved(pictures) if pictures.shape[1] == 128 else softened(pictures)))
        labels.append(marks + len(names))
        for entry in classes:
            name, group = IMAGENETTE.get(entry["wnid"]) or (entry["name"], entry["coarse"])
            names.append(name)
            groups.append(group)
    return Pictures(
        np.concatenate(images),
        np.concatenate(labels),
        tuple(names),
        tuple(groups),
        "Tiny-ImageNet (120 photo-like classes) and Imagenette v2 (10 classes); "
        "ImageNet terms: non-commercial research and education",
    )


def read_sheets(path: Path, split: Split) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Tiles [picture tile tile 3], their labels and the class entries of one archive of contact sheets."""
    if not path.is_file():
        raise NoData(f"{path.name} is missing from {path.parent}.")
    with tarfile.open(path) as archive:
        index = json.load(opened(archive, "index.json"))
        order = {entry["wnid"]: label for label, entry in enumerate(index["classes"])}
        tiles, labels = [], []
        for name, used in index["sheets"].items():
            if not name.startswith(f"{split}/"):
                continue
            sheet = Image.open(io.BytesIO(opened(archive, name).read())).convert("RGB")
            tiles.append(cut(np.asarray(sheet), index["tile"])[:used])
            wnid = name.split("/")[1].rsplit("_", 1)[0]
            labels.append(np.full(used, order[wnid]))
    return np.concatenate(tiles), np.concatenate(labels), index["classes"]


def opened(archive: tarfile.TarFile, name: str) -> io.BufferedIOBase:
    """A member as a file. Raises NoData where the archive lacks it."""
    member = archive.extractfile(name)
    if member is None:
        raise NoData(f"{archive.name} holds no {name}.")
    return member  # type: ignore[return-value]  # typeshed says IO[bytes]


def cut(sheet: np.ndarray, tile: int) -> np.ndarray:
    """A contact sheet, ten tiles wide, as tiles in raster order."""
    return sheet.reshape(-1, tile, 10, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)


def halved(images: np.ndarray) -> np.ndarray:
    """Half the side, by the mean of 2 x 2 pixels; in parts, to spare memory."""
    parts = np.array_split(images, max(1, len(images) // 1000))
    means = [p.reshape(len(p), p.shape[1] // 2, 2, p.shape[2] // 2, 2, 3).mean((2, 4)) for p in parts]
    return np.concatenate([np.rint(m).astype(np.uint8) for m in means])


def softened(images: UInt8[np.ndarray, "picture height width channel"]) -> UInt8[np.ndarray, "..."]:
    """A little less sharp: SOFT of each neighbour's value, along both sides in turn."""
    parts = np.array_split(images, max(1, len(images) // 1000))
    kernel = np.array([SOFT, 1 - 2 * SOFT, SOFT])
    blurred = [convolve1d(convolve1d(p.astype(np.float32), kernel, 1), kernel, 2) for p in parts]
    return np.concatenate([np.rint(b.clip(0, 255)).astype(np.uint8) for b in blurred])


def coded(images: UInt8[np.ndarray, "picture height width channel"]) -> UInt8[np.ndarray, "..."]:
    """Every picture as it comes back from a JPEG file of its size."""
    return np.stack([np.asarray(jpeg_coded(Image.fromarray(image), JPEG)) for image in images])


def digits(split: Split) -> Pictures:
    """Handwritten digits of 8 x 8 grey pixels: 1,347 to train on, 450 held out, as scikit-learn ships them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    flat, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    train, held = train_test_split(np.arange(len(labels)), test_size=0.25, random_state=0, stratify=labels)
    chosen = train if split == "train" else held
    images = np.rint(flat[chosen].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    names = tuple(str(n) for n in range(10))
    return Pictures(
        images, labels[chosen], names, ("digit",) * 10, "UCI handwritten digits, by scikit-learn; CC BY 4.0"
    )


DATA: dict[str, Callable[[Split], Pictures]] = {"photos": photos, "digits": digits}
