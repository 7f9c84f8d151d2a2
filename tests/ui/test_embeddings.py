"""Embeddings and Positions, as a visitor sees them, with a picture of the visitor's own."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from attnviz.attention import POSITIONS
from attnviz.models import load
from attnviz.models.vit import patchify
from attnviz.paths import ROOT
from attnviz.types import Tokens
from attnviz.ui.embeddings.image import PIXELS, Feature, cut
from attnviz.ui.embeddings.stages import ADDED, INPUT, PATCH, POSITION, SUM, as_sum, signed
from attnviz.ui.positions.ablation import Change
from attnviz.ui.positions.image import SIMILARITIES
from attnviz.ui.positions.schemes import Table
from attnviz.ui.shell.page import section
from attnviz.ui.shell.prose import coloured
from attnviz.ui.widgets.answers import percent


def picture() -> bytes:
    """A PNG with a red, a green and a blue field."""
    pixels = np.zeros((90, 120, 3), np.uint8)
    for channel in range(3):
        pixels[:, channel * 40 : channel * 40 + 40, channel] = 220
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def opened(page: str, **parameters: str) -> AppTest:
    """The page after an upload."""
    at = AppTest.from_file(ROOT / "attnviz/main.py", default_timeout=60)
    for name, value in {"model": "vit-digits", **parameters}.items():
        at.query_params[name] = value
    at.run()
    at.file_uploader(key="image").upload("mine.png", picture(), "image/png").run()
    at.switch_page(f"../pages/{page}.py").run()
    assert not at.exception
    assert not at.error
    return at


def text(at: AppTest) -> str:
    """All that is written on the page."""
    kinds = (at.title, at.subheader, at.markdown, at.caption)
    return "\n".join(element.value for kind in kinds for element in kind)


def sentence_of(scheme: str, count: int, dim: int) -> str:
    """What the page says of a table without training, for tokens in one sequence."""
    rows = POSITIONS[scheme].table(Tokens(tuple(map(str, range(count)))), dim, 1e4).numpy()
    return Table(rows, None, None).sentence


def heatmap_rows(chart: dict) -> list:
    """The labels of the rows of a chart's heat map; none for other charts."""
    return next((trace["y"] for trace in chart["data"] if trace["type"] == "heatmap" and "y" in trace), [])


def specs(at: AppTest) -> int:
    """How many figures the page shows."""
    return len(at.get("plotly_chart"))


@pytest.fixture(scope="module")
def embeddings() -> AppTest:
    return opened("embeddings", token="1")


@pytest.fixture(scope="module")
def positions() -> AppTest:
    return opened("positions")


class TestEmbeddings:
    def test_a_patch_is_followed_from_pixels_to_vector(self, embeddings):
        said = text(embeddings)
        assert "row 1, column 1" in said
        assert "2 × 2 pixels = 4 numbers → 48 numbers" in said
        assert r"W_E\,x_i + b" in said
        assert specs(embeddings) == 3

    def test_the_numbers_add_up(self, embeddings):
        table = embeddings.table[0].value.set_index("First numbers")
        steps = {name: [float(v.replace("−", "-")) for v in row if v] for name, *row in table.itertuples()}
        assert steps.keys() == {PIXELS, PATCH, POSITION, INPUT}
        sums = np.add(steps[PATCH], steps[POSITION])
        assert np.allclose(sums, steps[INPUT], atol=2e-3)

    def test_panels_say_which_vectors_are_added_and_which_is_their_sum(self):
        one, two, three = np.eye(3)
        whole = as_sum({PATCH: one, POSITION: two, INPUT: three})
        assert list(whole) == [PATCH, ADDED, SUM]
        assert all(whole[name] is step for name, step in zip(whole, (one, two, three), strict=True))
        assert list(as_sum({POSITION: two, INPUT: three})) == [POSITION, INPUT]  # what is added to is not known

    def test_one_number_is_the_sum_of_products_bias_and_position(self):
        found = Feature(np.zeros((2, 1, 1, 1), np.uint8), np.array([0.25, 0.5]), 0.125, -0.25)
        assert found.embedding == 0.875
        assert all(signed(number) in found.sentence for number in (0.75, 0.125, 0.875, -0.25, 0.625))
        alone = Feature(found.tiles, found.products, found.bias, None)
        assert signed(0.875) in alone.sentence
        assert signed(0.625) not in alone.sentence

    def test_pixels_are_cut_as_the_projection_reads_them(self):
        picture = torch.arange(2.0 * 4 * 6).reshape(2, 4, 6)
        for cell in ((0, 0), (1, 2)):
            found = np.moveaxis(cut(np.moveaxis(picture.numpy(), 0, -1), cell, (2, 3)), -1, 0).flatten()
            assert found.tolist() == patchify(picture, 2)[cell[0] * 3 + cell[1]].tolist()

    def test_prefix_tokens_have_no_pixels(self):
        at = opened("embeddings", token="0")
        assert section("embeddings", "A token without pixels") in text(at)
        assert [slider.key for slider in at.main.slider] == []
        assert PIXELS not in at.table[0].value["First numbers"].tolist()

    def test_every_choice_is_taken_from_the_url(self):
        at = opened("embeddings", token="6", stage="layer-2", number="7")
        assert "row 2, column 2" in text(at)
        assert at.session_state["stage"] == "layer-2"
        assert at.query_params["stage"] == "layer-2"
        assert at.slider(key="number").value == 7

    @pytest.mark.parametrize(
        ("old", "stage"), [("Content", "embedding"), ("With position", "input"), ("After layer 2", "layer-2")]
    )
    def test_an_old_address_opens_the_same_stage(self, old, stage):
        at = opened("embeddings", stage=old)
        assert at.session_state["stage"] == stage

    def test_unknown_choices_fall_back(self):
        at = opened("embeddings", token="99999", stage="layer-77", number="x")
        assert "row 3, column 3" in text(at)
        assert at.session_state["stage"] == "embedding"

    def test_a_click_moves_everything(self):
        at = opened("embeddings", token="1")
        at.session_state["token"] = (16,)
        at.run()
        assert "row 4, column 4" in text(at)

    def test_switching_the_model_keeps_the_page(self):
        at = opened("embeddings", token="12", number="40")
        at.selectbox(key="model").set_value("vit").run()
        assert not at.error
        assert "4 × 4 pixels × 3 channels = 48 numbers → 192 numbers" in text(at)

    def test_pictures_are_shown_from_a_data_address(self, embeddings):
        addresses = [image.url for part in embeddings.get("image") for image in part.proto.imgs]
        assert len(addresses) == 3
        assert all(address.startswith("data:image/png;base64,") for address in addresses)


class TestPositions:
    def test_the_answer_with_and_without_positions(self, positions):
        model = load("vit-digits")
        assert any(name in text(positions) for name in model.outputs["class"])
        assert specs(positions) == 6

    def test_a_change_is_said_with_both_answers(self):
        moved = Change(["a", "b"], np.array([0.75, 0.25]), np.array([0.125, 0.875])).sentence
        assert all(part in moved for part in (" a ", percent(0.75), " b ", percent(0.875)))
        kept = Change(["a", "b"], np.array([0.75, 0.25]), np.array([0.625, 0.375])).sentence
        assert percent(0.625) in kept
        assert " b " not in kept

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_every_similarity_is_explained_by_its_formula(self, similarity):
        at = opened("positions", similarity=similarity)
        assert at.session_state["similarity"] == similarity
        assert coloured(section("positions", SIMILARITIES[similarity])) in text(at)

    @pytest.mark.parametrize(
        ("parameter", "old", "identifier"),
        [
            ("similarity", "Dot product", "dot-product"),
            ("similarity", "Cosine", "cosine"),
            ("change", "Shuffled", "shuffled"),
            ("change", "Removed", "none"),
        ],
    )
    def test_an_old_address_opens_the_same_choice(self, parameter, old, identifier):
        assert opened("positions", **{parameter: old}).session_state[parameter] == identifier

    def test_sliders_change_the_table(self):
        at = opened("positions")
        assert sentence_of("sine", 64, 64) in text(at)
        at.slider(key="tokens").set_value(10).run()
        assert sentence_of("sine", 10, 64) in text(at)
        at.slider(key="dimension").set_value(8).run()
        assert sentence_of("sine", 10, 8) in text(at)

    @pytest.mark.parametrize(
        ("scheme", "size"),
        [
            ("learned", (16, 48)),
            ("Learned table", (16, 48)),  # in an old address
            ("sine2d", (16, 64)),
            ("Sine and cosine, rows and columns", (16, 64)),
            ("none", (64, 64)),
            ("None", (64, 64)),
        ],
    )
    def test_every_scheme(self, scheme, size):
        at = opened("positions", scheme=scheme)
        charts = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
        assert any(len(heatmap_rows(chart)) == size[0] for chart in charts)
        assert f"{size[0]} positions with {size[1]} features" in text(at)

    def test_a_table_of_a_grid_that_is_not_square(self):
        table = Table(POSITIONS["sine2d"].table(Tokens.patches(4, 6), 16, 100.0).numpy(), (4, 6), None)
        assert (table.names[0], table.names[5], table.names[6], table.names[-1]) == ("1, 1", "1, 6", "2, 1", "4, 6")
        assert np.asarray(table.reach_figure()["data"][0]["z"]).shape == (4, 6)

    def test_permuted_positions_change_the_maps(self):
        at = opened("positions", change="shuffled", layer="1", head="2")
        assert at.segmented_control(key="head").value == 2
        moved = [line.value for line in at.markdown if line.value.startswith("**") and "of the weight" in line.value]
        assert len(moved) == 1
        assert not moved[0].startswith(f"**{percent(0)}**")

    def test_unknown_choices_fall_back(self):
        at = opened("positions", change="Gone", scheme="x", base="3", similarity="Euclid", token="-1")
        assert at.session_state["change"] == "none"
        assert at.session_state["similarity"] == "centred-cosine"
        assert at.session_state["scheme"] == "sine"
        assert at.select_slider(key="base").value == 10_000


@pytest.mark.parametrize("page", ["embeddings", "positions"])
def test_pages_end_with_what_to_try_and_what_is_not_told(page, request):
    said = text(request.getfixturevalue(page))
    assert "What to try" in said
    assert "What this does not tell you" in said


@pytest.mark.parametrize("page", ["embeddings", "positions"])
def test_dark(page):
    at = AppTest.from_file(ROOT / "attnviz/main.py", default_timeout=60)
    at.context = {"theme": "dark"}
    at.query_params["model"] = "vit-digits"
    at.run()
    at.switch_page(f"../pages/{page}.py").run()
    assert not at.error
    assert "#b197fc" in text(at)  # the position's violet of the dark theme
