"""Embeddings and Positions, as a visitor sees them, with a picture of the visitor's own."""

import io

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from attnviz.paths import ROOT


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
        assert "**Patch row 1, column 1** · 2 × 2 pixels = 4 numbers → 48 numbers" in said
        assert "The 4 products add up to" in said
        assert r"W_E\,x_i + b" in said
        assert specs(embeddings) == 3

    def test_the_numbers_add_up(self, embeddings):
        table = embeddings.table[0].value.set_index("First numbers")
        steps = {name: [float(v.replace("−", "-")) for v in row if v] for name, *row in table.itertuples()}
        assert steps.keys() == {"Pixels", "Content", "Position", "Vector"}
        sums = np.add(steps["Content"], steps["Position"])
        assert np.allclose(sums, steps["Vector"], atol=2e-3)

    def test_similarity_is_named(self, embeddings):
        assert "**cosine** of their vectors" in text(embeddings)
        assert "of the variance between patches" in text(embeddings)

    def test_cls_has_no_pixels(self):
        at = opened("embeddings", token="0")
        assert "CLS has no pixels" in text(at)
        assert "products add up" not in text(at)

    def test_every_choice_is_taken_from_the_url(self):
        at = opened("embeddings", token="6", stage="After layer 2", number="7")
        assert "Patch row 2, column 2" in text(at)
        assert at.select_slider(key="stage").value == "After layer 2"
        assert at.slider(key="number").value == 7

    def test_unknown_choices_fall_back(self):
        at = opened("embeddings", token="99999", stage="After layer 77", number="x")
        assert "Patch row 3, column 3" in text(at)
        assert at.select_slider(key="stage").value == "Content"

    def test_a_click_moves_everything(self, embeddings):
        at = opened("embeddings", token="1")
        at.session_state["token"] = (16,)
        at.run()
        assert "Patch row 4, column 4" in text(at)

    def test_switching_the_model_keeps_the_page(self):
        at = opened("embeddings", token="12", number="40")
        at.selectbox(key="model").set_value("vit").run()
        assert not at.error
        assert "4 × 4 pixels × 3 channels = 48 numbers → 192 numbers" in text(at)


class TestPositions:
    def test_the_answer_with_and_without_positions(self, positions):
        said = text(positions)
        assert "With its own positions the model says" in said
        assert "now lies on other keys" in said
        assert specs(positions) == 6

    def test_similarity_is_cosine_or_dot_product_and_says_so(self, positions):
        assert r"\bar p" in text(positions)
        assert r"\lVert" in text(opened("positions", similarity="Cosine"))
        at = opened("positions", similarity="Dot product")
        assert at.segmented_control(key="similarity").value == "dot product"
        assert r"\sum_k" in text(at)

    def test_sliders_change_the_table(self):
        at = opened("positions")
        assert "64 places with 64 features each. The two most alike are 1.4718 apart" in text(at)
        at.slider(key="tokens").set_value(10).run()
        assert "10 places with 64 features each." in text(at)
        at.slider(key="dimension").set_value(8).run()
        assert "10 places with 8 features each." in text(at)

    @pytest.mark.parametrize(
        ("title", "sentence"),
        [
            ("learned", "16 places with 48 features each."),
            ("sine2d", "16 places with 64 features each."),
            ("Sine and cosine, rows and columns", "16 places with 64 features each."),  # in a link of before
            ("None", "At least two places have the same vector"),
        ],
    )
    def test_every_scheme(self, title, sentence):
        at = opened("positions", scheme=title)
        assert sentence in text(at)

    def test_shuffled_positions_change_the_maps(self):
        at = opened("positions", change="Shuffled", layer="1", head="2")
        sentence = next(m.value for m in at.markdown if "now lies on other keys" in m.value)
        assert not sentence.startswith("**0.0 %**")
        assert at.segmented_control(key="head").value == 2

    def test_unknown_choices_fall_back(self):
        at = opened("positions", change="Gone", scheme="x", base="3", similarity="Euclid", token="-1")
        assert at.segmented_control(key="change").value == "Removed"
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
