"""Names of heads: hand-made heads earn exactly theirs, without learning almost none, known ones what is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import rankdata
from torch import Tensor

import attnviz
from attnviz.attention.rules.softmax import Softmax
from attnviz.measures import head_names as hn
from attnviz.measures.heads import uniform_distance
from attnviz.measures.randomisation import random_twin
from attnviz.models.vit import ViT, ViTConfig
from attnviz.types import AttentionCall, Mask, Tokens
from attnviz.ui.inputs.samples import open_sample

PATCHES = Tokens.patches(7, 8, ["CLS", "REG 1"])
WORDS = Tokens(
    ("CLS", "a", "dog", "saw", "a", "cat", "and", "a", "dog", "ran", "SEP"),
    None,
    1,
    "main",
    (-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, -1),
)
PLAIN = Tokens(tuple("abcabcabc"), None, 0, "main", tuple(range(9)))
ROWS, COLUMNS = 7, 8


def one_hot(at: list[int], tokens: Tokens) -> Tensor:
    """The map of a head in which token i attends to token at[i] alone."""
    return torch.eye(len(tokens), dtype=torch.float64)[at][None]


def moved(down: int, right: int) -> list[int]:
    """For every token the patch so far away, or at the edge the patch nearest to that; prefix tokens attend to CLS."""
    at = [0, 0]
    for i in range(ROWS * COLUMNS):
        row, column = divmod(i, COLUMNS)
        at.append(2 + min(max(row + down, 0), ROWS - 1) * COLUMNS + min(max(column + right, 0), COLUMNS - 1))
    return at


def found(weights: Tensor, tokens: Tokens, allowed: Tensor | None = None, colours: Tensor | None = None) -> list[str]:
    """The names of the first head, by their identifiers."""
    rows = hn.queries_of(tokens)
    may = None if allowed is None else allowed[:, rows]
    return [one.name for one in hn.named(weights[:, rows], tokens, rows=rows, allowed=may, colours=colours)[0]]


def even(tokens: Tokens, allowed: Tensor | None = None) -> Tensor:
    """Even attention over what is allowed."""
    may = torch.ones(1, len(tokens), len(tokens)) if allowed is None else allowed
    return may.double() / may.double().sum(-1, keepdim=True)


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("cls", [0] * len(PATCHES)),
        ("registers", [1] * len(PATCHES)),
        ("patch-sink", [30] * len(PATCHES)),
        ("left", moved(0, -3)),
        ("right", moved(0, 3)),
        ("above", moved(-3, 0)),
        ("below", moved(3, 0)),
    ],
)
def test_a_head_of_one_habit_over_patches_earns_that_name(name: str, at: list[int]):
    assert name in found(one_hot(at, PATCHES), PATCHES)
    assert set(found(one_hot(at, PATCHES), PATCHES)) <= {name, "nearby"}  # three patches away is near as well


def test_a_head_on_the_patch_itself_is_near_as_well():
    assert found(one_hot(moved(0, 0), PATCHES), PATCHES) == ["self", "nearby"]


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("cls", [0] * len(WORDS)),
        ("separator", [10] * len(WORDS)),
        ("previous", [0, *range(10)]),
        ("next", [*range(1, 11), 10]),
        ("self", list(range(11))),
        ("same", [0, 4, 8, 3, 7, 5, 6, 1, 2, 9, 10]),
    ],
)
def test_a_head_of_one_habit_over_words_earns_that_name(name: str, at: list[int]):
    assert name in found(one_hot(at, WORDS), WORDS)
    rest = {"self"} if name == "same" else set()  # words that stand alone attend to themselves there
    assert set(found(one_hot(at, WORDS), WORDS)) <= {name} | rest


def causal(tokens: Tokens) -> Tensor:
    """What a decoder may attend to."""
    return torch.ones(1, len(tokens), len(tokens), dtype=torch.bool).tril()


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("first", [0] * 9),
        ("previous", [0, *range(8)]),
        ("self", list(range(9))),
        ("induction", [0, 0, 0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_head_of_one_habit_in_a_decoder_earns_that_name(name: str, at: list[int]):
    assert found(one_hot(at, PLAIN), PLAIN, allowed=causal(PLAIN)) == [name]


def test_induction_is_named_only_where_no_query_attends_to_later_tokens():
    at = [0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert found(one_hot(at, PLAIN), PLAIN) == []


@pytest.mark.parametrize("tokens", [PATCHES, WORDS, PLAIN])
def test_an_even_head_is_even_and_nothing_else(tokens: Tokens):
    assert found(even(tokens), tokens) == ["even"]
    assert found(even(tokens, causal(tokens)), tokens, allowed=causal(tokens)) == ["even"]


def test_a_nearly_even_head_has_no_other_name_however_its_rest_lies():
    """Its rest follows colour perfectly; with a tenth of the weight it is not worth a name."""
    colours = gradient()
    likeness = (-torch.cdist(colours, colours)).exp()
    weights = even(PATCHES).clone()
    weights[:, 2:, 2:] += 0.1 * likeness / len(PATCHES)
    weights /= weights.sum(-1, keepdim=True)
    assert found(weights, PATCHES, colours=colours) == ["even"]


def gradient() -> Tensor:
    """Colours of patches in an order that has nothing to do with where they lie."""
    order = torch.randperm(ROWS * COLUMNS, generator=torch.Generator().manual_seed(3)).double()
    return (order / order.max())[:, None] * torch.tensor([[1.0, 0.5, 0.2]], dtype=torch.float64)


def coloured(colours: Tensor) -> Tensor:
    """A head that attends by likeness of colour alone."""
    weights = even(PATCHES).clone()
    weights[:, 2:, 2:] = (-8 * torch.cdist(colours, colours)).softmax(-1)
    weights[:, 2:, :2] = 0
    return weights


def test_a_head_that_follows_colour_earns_it_and_only_with_colours():
    colours = gradient()
    assert found(coloured(colours), PATCHES, colours=colours) == ["colour"]
    assert found(coloured(colours), PATCHES) == []
    assert found(coloured(colours), PATCHES, colours=torch.full_like(colours, 0.4)) == []


def test_a_near_head_does_not_earn_colour_on_a_smooth_picture():
    """Neighbours are alike in colour: without the distance taken out, every near head would have the name."""
    place = torch.stack(torch.meshgrid(torch.arange(7.0), torch.arange(8.0), indexing="ij"), -1).view(-1, 2).double()
    colours = torch.cat([place / 8, place[:, :1] / 8], -1)
    weights = even(PATCHES).clone()
    weights[:, 2:] = 0
    weights[:, 2:, 2:] = (-torch.cdist(place, place) / 0.7).softmax(-1)
    names = hn.named(weights[:, 2:], PATCHES, colours=colours)[0]
    assert "colour" not in [one.name for one in names]
    seen = seen_of(weights[:, 2:], colours=colours)
    plain = hn.correlation(hn.ranks(weights[:, 2:, 2:]), hn.ranks(-torch.cdist(colours, colours)))
    assert plain.mean() > 0.8 > 0.5 > hn.colour_rows(weights[:, 2:], seen).mean()


def test_one_bright_edge_is_not_a_direction():
    """All queries attend to the first column: that lies left of most, but it is where it is, whatever the query."""
    weights = torch.zeros(1, len(PATCHES), len(PATCHES), dtype=torch.float64)
    weights[..., 2::COLUMNS] = 1 / ROWS
    assert hn.toward(1, -1)(weights[:, 2:], seen_of(weights[:, 2:])).mean() > hn.HALF
    assert found(weights, PATCHES) == []


def test_a_name_takes_rows_to_be_measured_over():
    pair = replace(WORDS, labels=("CLS", "a", "dog", "saw", "one", "cat", "and", "the", "dog", "ran", "SEP"))
    at = [0, 1, 8, 3, 4, 5, 6, 7, 2, 9, 10]
    assert "same" not in found(one_hot(at, pair), pair)  # two rows
    assert hn.named(torch.zeros(2, 0, 2).double(), Tokens(("CLS", "SEP"), words=(-1, -1))) == [(), ()]


def seen_of(weights: Tensor, tokens: Tokens = PATCHES, allowed: Tensor | None = None, colours: Tensor | None = None):
    """What measures read beside the rows of patches."""
    rows = torch.tensor(hn.queries_of(tokens))
    shape = (1, len(rows), len(tokens))
    may = torch.ones(shape).double() if allowed is None else allowed[:, rows].double()
    return hn.Seen(tokens, rows, hn.shared_out(may), allowed is None, colours)


def test_measures_are_their_formulas():
    """Entry by entry, in float64; the partial correlation by the inverse of the correlations of scipy's ranks."""
    weights = random_map(PATCHES)[:, 2:]
    colours = torch.rand(ROWS * COLUMNS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen, array = seen_of(weights, colours=colours), weights.numpy()
    left, near, evenness, partial = (np.zeros(array.shape[:2]) for _ in range(4))
    for h, q in np.ndindex(array.shape[:2]):
        patches = array[h, q, 2:] / array[h, q, 2:].sum()
        row, column = divmod(q, COLUMNS)
        offsets = np.array([(i // COLUMNS - row, i % COLUMNS - column) for i in range(ROWS * COLUMNS)])
        distance = np.hypot(*offsets.T)
        left[h, q] = patches[offsets[:, 1] < 0].sum() - patches[offsets[:, 1] > 0].sum()
        near[h, q] = 1 - (patches * distance).sum() / distance.mean()
        evenness[h, q] = -(array[h, q] * np.log(array[h, q])).sum() / math.log(len(PATCHES))
        likeness = -np.linalg.norm(colours.numpy() - colours.numpy()[q], axis=-1)
        others = [i for i in range(ROWS * COLUMNS) if i != q]
        ranked = [rankdata(one[others]) for one in (patches, likeness, distance)]
        inverse = np.linalg.inv(np.corrcoef(ranked))
        partial[h, q] = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
    for rows, wanted in (
        (hn.toward(1, -1), left),
        (hn.nearness_rows, near),
        (hn.evenness_rows, evenness),
        (hn.colour_rows, partial),
    ):
        np.testing.assert_allclose(rows(weights, seen).numpy(), wanted, atol=1e-10)
    np.testing.assert_allclose(hn.toward(1, 1)(weights, seen).numpy(), -left, atol=1e-12)


def random_map(tokens: Tokens, heads: int = 3, seed: int = 0, sharp: float = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharp * torch.randn(heads, len(tokens), len(tokens), generator=generator, dtype=torch.float64)).softmax(-1)


def test_strength_is_the_share_of_the_way_from_even_to_perfect():
    at = [0, *range(10)]
    mixed = 0.8 * one_hot(at, WORDS) + 0.2 * even(WORDS)
    (earned,) = hn.named(mixed[:, 1:10], WORDS)[0]
    own = mixed[0, 1:10].mean(0)
    even_value, own_value = 1 / 11, own[1:9].mean()  # the first word has no token before it but CLS
    assert earned.name == "previous"
    assert earned.value == pytest.approx(0.8 + 0.2 / 11)
    assert earned.null == pytest.approx(max(even_value, float(own_value)))
    assert earned.strength == pytest.approx((earned.value - earned.null) / (1 - earned.null))


def test_nearness_of_even_attention_is_that_of_the_known_distance():
    weights = even(PATCHES)[:, 2:]
    assert hn.nearness_rows(weights, seen_of(weights)).abs().max() < 1e-12
    assert hn.distance_rows(weights, PATCHES, torch.arange(2, 58)).mean() == pytest.approx(uniform_distance((7, 8)))


def test_random_maps_earn_nothing():
    """A hundred sharp random maps of each kind."""
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (56, 64, 3), np.uint8))
    colours = hn.patch_colours(image, (7, 8))
    patches = hn.named(random_map(PATCHES, 100)[:, 2:], PATCHES, colours=colours)
    words = hn.named(random_map(WORDS, 100)[:, 1:10], WORDS)
    assert sum(map(len, patches)) == 0
    assert sum(map(len, words)) <= 2  # few rows: chance reaches half of the way now and then


def test_new_networks_earn_hardly_any_name_but_even():
    """Of 192 heads two at most: a random projection of the pixels is alike where colours are."""
    earned = []
    for seed in range(4):
        torch.manual_seed(seed)
        network = ViT(ViTConfig(size=64, patch=4, width=96, layers=4, heads=6, classes=10)).eval()
        network.requires_grad_(False)
        for name in ("pepper", "snail"):
            image = open_sample("vit", name).image.resize((64, 64)).convert("RGB")
            pixels = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1)
            earned += [
                one.name for layer in hn.head_names(network(pixels).calls, image) for head in layer for one in head
            ]
    assert earned.count("even") > 96
    assert len(earned) - earned.count("even") <= 2, earned


@pytest.mark.parametrize("model", ["vit", "sentences", "stories"])
def test_shuffled_parameters_earn_hardly_any_name(model: str):
    twin = random_twin(attnviz.load(model))
    assert twin is not None
    raw = open_sample("vit", "pepper").image if model == "vit" else SENTENCE
    sample = twin.prepare(raw)
    with torch.no_grad():
        names = hn.head_names(twin(sample).calls, sample.image)
    earned = [one.name for layer in names for head in layer for one in head if one.name != "even"]
    assert len(earned) <= 1, earned


SENTENCE = "A warm and funny film with wonderful actors."
KNOWN = [
    ("sentences", SENTENCE, {(1, 4): "previous", (0, 0): "next", (1, 3): "next"}),
    ("stories", SENTENCE, {(3, 2): "first", (2, 0): "first"}),
    ("vit", "pepper", {(1, 2): "colour", (1, 3): "colour", (0, 3): "even"}),
]


@pytest.mark.parametrize(("model", "raw", "wanted"), KNOWN)
def test_trained_heads_that_are_known_have_their_names(model: str, raw: str, wanted: dict[tuple[int, int], str]):
    opened: Any = attnviz.load(model)
    sample = opened.prepare(open_sample(model, raw).image if model == "vit" else raw)
    with torch.no_grad():
        names = hn.head_names(opened(sample).calls, sample.image)
    for (layer, head), name in wanted.items():
        assert names[layer][head][0].name == name, (layer, head)


def call_of(tokens: Tokens, at: list[int], **fields) -> AttentionCall:
    """A call of one head in which token i attends to token at[i] alone."""
    unit = torch.eye(len(tokens))
    return AttentionCall("layer 1", 0, Softmax(), 50 * unit[at][None], unit[None], unit[None], tokens, tokens, **fields)


def test_a_call_is_named_by_its_mask_and_only_over_its_own_tokens():
    at = [0, 0, 0, 1, 2, 3, 4, 5, 6]
    inside = call_of(PLAIN, at, mask=Mask(causal=True))
    assert [one.name for one in hn.names_of_call(inside)[0]] == ["induction"]
    assert hn.names_of_call(call_of(PLAIN, at))[0] == ()
    assert hn.names_of_call(replace(inside, queries=replace(PLAIN, stream="other"))) == [()]


def test_maps_whose_rows_do_not_sum_to_one_have_no_names():
    call = call_of(PATCHES, moved(0, -1))
    assert hn.names_of_call(call) != [()]
    assert hn.names_of_call(replace(call, rule=Softmax(stochastic=False))) == [()]


def test_many_tokens_are_named_by_some_of_their_rows(monkeypatch: pytest.MonkeyPatch):
    whole = hn.names_of_call(call_of(PATCHES, moved(0, -1)))[0]
    monkeypatch.setattr(hn, "MOST_ENTRIES", 20 * len(PATCHES))
    some = hn.names_of_call(call_of(PATCHES, moved(0, -1)))[0]
    assert {one.name for one in some} == {one.name for one in whole}
    assert {one.value for one in some}.isdisjoint(one.value for one in whole)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="56 rows of 58 keys"):
        hn.named(even(PATCHES), PATCHES)


def test_badges_and_titles_differ():
    for table in (hn.PICTURE_NAMES, hn.TEXT_NAMES):
        assert len({one.badge for one in table.values()}) == len({one.title for one in table.values()}) == len(table)
    assert set(hn.NAMES) == set(hn.PICTURE_NAMES) | set(hn.TEXT_NAMES)
