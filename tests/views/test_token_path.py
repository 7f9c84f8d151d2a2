"""The Python side of the stages: what the browser reads, and what is refused."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from attnviz.views.token_path import Kind, Scene, Stage, Strip, packed, path_view

SCENE = Scene(["a", "b", "c"])


def test_numbers_travel_as_float32() -> None:
    values = np.array([1.5, -np.inf, 1 / 3])
    read = np.frombuffer(base64.b64decode(packed(values)), "<f4")
    np.testing.assert_array_equal(read, values.astype(np.float32))


@pytest.mark.parametrize(
    ("stage", "numbers", "kind"), [("second", 2, "feature"), ("first", 2, "token")], ids=["stage", "length"]
)
def test_what_does_not_fit_is_refused(stage: str, numbers: int, kind: Kind) -> None:
    stages = [Stage("first", "First", "", (Strip("x", np.zeros(numbers), 1.0, kind=kind),))]
    with pytest.raises(ValueError, match=r"stage|numbers"):
        path_view("path", scene=SCENE, stages=stages, token=0, stage=stage)
