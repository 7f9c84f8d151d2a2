"""Accuracy against the number of pictures: fair subsets, a baseline by hand, a table that pages can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attnviz.training.images import sweep
from attnviz.training.images.data import DATA


def test_subsamples_are_balanced_and_seeds_differ():
    pictures = DATA["digits"]("train")
    few, other = sweep.subsample(pictures, 7, 0), sweep.subsample(pictures, 7, 1)
    assert np.bincount(few.labels).tolist() == [7] * 10
    assert len(np.unique(few.images.reshape(70, -1), axis=0)) == 70
    assert not np.array_equal(few.images, other.images)
    assert np.array_equal(few.images, sweep.subsample(pictures, 7, 0).images)
    with pytest.raises(ValueError, match="fewer than 500"):
        sweep.subsample(pictures, 500, 0)


def test_the_nearest_picture_by_hand():
    train, held = (DATA["digits"](split) for split in ("train", "val"))
    few = sweep.subsample(train, 5, 0)
    flat = few.images.reshape(len(few), -1).astype(float)
    right = [
        few.labels[int(((flat - image.reshape(-1)) ** 2).sum(1).argmin())] == label
        for image, label in zip(held.images.astype(float), held.labels, strict=True)
    ]
    assert sweep.nearest(few, held) == pytest.approx(100 * np.mean(right), abs=0.01)
    assert sweep.nearest(held, held) == 100


@pytest.mark.trains
def test_more_pictures_help(tmp_path: Path):
    reported: list[str] = []
    rows = sweep.run_sweep(
        tmp_path, torch.device("cpu"), lambda name, _: reported.append(name), per_class=(3, 60), seeds=[0], steps=80
    )
    assert rows == sweep.results(tmp_path)
    assert [row["pictures"] for row in rows] == [30, 600]
    assert rows[1]["vit"][0] > rows[0]["vit"][0] + 10
    assert "30 pictures, seed 0" in reported
    assert "| 600 |" in sweep.table(rows)


def test_what_is_shipped_was_measured_on_every_held_out_digit():
    rows = sweep.results()
    assert [row["pictures"] for row in rows] == [10 * count for count in sweep.PER_CLASS]
    held = DATA["digits"]("val")
    for row, count in zip(rows, sweep.PER_CLASS, strict=True):
        assert row["held_out"] == len(held)
        assert len(row["vit"]) == len(row["nearest"]) == sweep.SEEDS
        assert row["nearest"] == [
            sweep.nearest(sweep.subsample(DATA["digits"]("train"), count, s), held) for s in row["seeds"]
        ]


def test_a_row_says_the_mean_and_between_what_it_lies():
    rows = [{"pictures": 1000, "vit": [90.0, 80.0, 85.0], "nearest": [50.0]}]
    assert sweep.table(rows).splitlines()[2] == "| 1,000 | 85.00 (80.00 to 90.00) | 50.00 (50.00 to 50.00) |"
