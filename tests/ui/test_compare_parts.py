"""What the Compare page is made of: shared parameters, matched heads, chained maps, costs, charts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from attnviz.attention import VARIANTS, Softmax
from attnviz.models import ImageModel, ViT
from attnviz.plots.growth import growth as plot_growth
from attnviz.plots.intervals import intervals as plot_intervals
from attnviz.plots.sharing import sharing as plot_sharing
from attnviz.training.images.bench import EQUAL, SAME, SHAPE
from attnviz.types import NoTokenMap
from attnviz.ui.compare import costs, formulas, guide, heads, numbers, properties
from attnviz.ui.compare import maps as compare_maps
from attnviz.ui.compare.choice import IMAGE_DOMAIN
from attnviz.ui.compare.panels import Panel, fit_parameter, transfer_weights, with_donor_activations
from attnviz.ui.core.bench import Bench
from attnviz.ui.widgets.display import MAP_TYPES
from tests.figures import checked
from tests.made_up_bench import PIXELS

growth, intervals, sharing = checked(plot_growth), checked(plot_intervals), checked(plot_sharing)
SMALL = replace(SHAPE, width=32, layers=2, classes=5)


@pytest.fixture(scope="module")
def model() -> ImageModel:
    """A small network with multi-head attention, its queries and keys large enough to prefer some patches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ViT(SMALL)
    for block in network.blocks:
        block.attention.query.weight.data *= 3
        block.attention.key.weight.data *= 3
    return ImageModel("small", network, PIXELS, [f"thing {i}" for i in range(5)], ["things"] * 5)


@pytest.fixture(scope="module")
def sample(model):
    """Noise, so that no two patches are alike."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return model.prepare(Image.fromarray(pixels))


def panel(model: ImageModel, sample, name: str) -> Panel:
    """A variant with shared parameters, without the app around it."""
    with torch.no_grad():
        trace = model(sample)
        if name == "mha":
            return Panel(name, model, sample, trace)
        network, new_parameters = transfer_weights.__wrapped__(model.digest, name, model)
        return Panel(name, model, sample, with_donor_activations(network, sample, trace), new_parameters=new_parameters)


# Shared parameters ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_runs_on_the_donor(model, sample, name):
    found = panel(model, sample, name)
    assert found.layers == 2
    assert all(torch.isfinite(call.output).all() for call in found.trace.calls)
    assert found.trace.logits["class"].shape == (1, 5)


@pytest.mark.parametrize("name", ["mha", "performer", "linear", "nystrom", "window"])
def test_a_changed_layer_has_the_queries_of_the_donor(model, sample, name):
    own, changed = panel(model, sample, "mha"), panel(model, sample, name)
    for call, exact in zip(changed.trace.calls, own.trace.calls, strict=True):
        torch.testing.assert_close(call.query, exact.query)
        torch.testing.assert_close(call.value, exact.value)


def test_performer_is_the_rule_of_the_layer_itself(model, sample):
    """A layer with another formula equals the recorded call with the other rule."""
    own, changed = panel(model, sample, "mha"), panel(model, sample, "performer")
    call, exact = changed.trace.calls[1], own.trace.calls[1]
    torch.testing.assert_close(exact.with_rule(call.rule).output, call.output)


def test_shared_keys_are_the_mean_of_their_heads(model):
    key = "blocks.0.attention.key.weight"
    given = model.network.state_dict()
    own = given[key].unflatten(0, (4, 8))
    shared = fit_parameter(key, torch.zeros(16, 32), given, SMALL)
    torch.testing.assert_close(shared[:8], (own[0] + own[1]) / 2)
    torch.testing.assert_close(shared[8:], (own[2] + own[3]) / 2)
    assert fit_parameter(key, torch.zeros(12, 32), given, SMALL) is None
    assert fit_parameter("blocks.0.attention.offsets", torch.zeros(3), given, SMALL) is None
    line = fit_parameter("blocks.1.attention.rows.query.bias", torch.zeros(32), given, SMALL)
    torch.testing.assert_close(line, given["blocks.1.attention.query.bias"])


def test_parameters_the_donor_lacks_are_known(model, sample):
    assert not panel(model, sample, "linear").new_parameters
    assert panel(model, sample, "linformer").new_parameters


# Maps ----------------------------------------------------------------------------------------------------------------
def test_chained_maps_are_multiplied_in_order(model, sample):
    calls = panel(model, sample, "axial").calls(0)
    assert len(calls) == 2
    expected = calls[1].token_map() @ calls[0].token_map()
    torch.testing.assert_close(compare_maps.layer_map(calls), expected)
    torch.testing.assert_close(expected.sum(-1), torch.ones(4, 64))


def test_no_map_is_made_up(model, sample):
    with pytest.raises(NoTokenMap):
        compare_maps.token_maps(panel(model, sample, "xca"))
    assert compare_maps.missing_map_reason(panel(model, sample, "xca")).startswith(compare_maps.NO_MAP)
    assert compare_maps.token_maps(panel(model, sample, "linformer")).signed
    assert not compare_maps.token_maps(panel(model, sample, "linear")).signed


@pytest.mark.parametrize("name", VARIANTS)
def test_native_maps_keep_every_number(model, sample, name):
    found = panel(model, sample, name)
    for one in compare_maps.native_maps(found, 1, 0):
        assert one.values.shape[0] == len(one.steps)
        assert one.values.shape[-1] == len(one.columns)
        assert one.rows is None or one.values.shape[-2] == len(one.rows)
        assert np.isfinite(one.values).all()
        assert one.map_type in MAP_TYPES


def test_native_maps_of_one_head(model, sample):
    found = panel(model, sample, "linformer")
    (first, *_) = compare_maps.native_maps(found, 1, 2)
    call = found.calls(1)[0]
    np.testing.assert_allclose(first.values[0], next(iter(call.maps().values())).array[2].numpy())


# Numbers -------------------------------------------------------------------------------------------------------------
def test_a_head_is_matched_to_itself(model, sample):
    own = panel(model, sample, "mha")
    goal = compare_maps.token_maps(own).maps[1, 2]
    matched = heads.best_match(own, goal, sample.tokens["main"])
    assert (matched.layer, matched.head) == (1, 2)
    assert matched.similarity == pytest.approx(1, abs=1e-5)


def test_errors_are_none_for_softmax_itself(model, sample):
    own, changed = panel(model, sample, "mha"), panel(model, sample, "performer")
    exact = numbers.errors(own, own.trace)
    assert max(*exact[0], *exact[1]) == 0
    maps, outputs = numbers.errors(changed, own.trace)
    assert len(maps) == len(outputs) == 2
    assert min(*maps, *outputs) > 0.01
    by_rule = changed.trace.calls[0].with_rule(Softmax()).output
    torch.testing.assert_close(by_rule, own.trace.calls[0].output)


def test_only_estimates_say_how_far_they_are_off(model, sample):
    estimates = {name: heads.PanelHead(panel(model, sample, name), 1, 0) for name in ("mha", "linear", "performer")}
    said = {name: numbers.estimate_error(one) for name, one in estimates.items()}
    assert (said["mha"], said["linear"]) == ("", "")
    assert said["performer"].count("%") == 2


def test_numbers_that_a_map_does_not_have_are_not_defined(model, sample):
    none = numbers.NOT_DEFINED
    assert numbers.map_statistics(IMAGE_DOMAIN, panel(model, sample, "xca"))[1:] == [none] * 4
    assert numbers.map_statistics(IMAGE_DOMAIN, panel(model, sample, "linformer"))[1:3] == [none, none]
    uniform = numbers.map_statistics(IMAGE_DOMAIN, panel(model, sample, "uniform"))
    assert uniform[1:] == ["1.00", "4.14", "1.0", "0.00"]


# Costs ---------------------------------------------------------------------------------------------------------------
def row(seed: int, top1: float, run: str = SAME) -> dict:
    """A row of a made-up bench."""
    return {"variant": "mha", "run": run, "seed": seed, "top1": top1, "interval": [top1 - 1, top1 + 2]}


def test_intervals_are_of_seeds_where_there_are_three():
    assert costs.accuracy([]) is None
    assert costs.accuracy([row(1, 42.0), row(0, 40.0)]) == (40.0, 39.0, 42.0, 1)
    mean, low, high, seeds = costs.accuracy([row(0, 40.0), row(1, 41.0), row(2, 42.0)])
    assert (mean, seeds) == (41.0, 3)
    assert high - mean == pytest.approx(4.3027 / 3**0.5, abs=1e-3)  # t of 2 degrees of freedom, deviation 1
    assert mean - low == pytest.approx(high - mean)


def test_the_bench_shows_the_first_seed_of_the_same_shape():
    found = Bench((row(1, 42.0), row(0, 40.0), row(0, 50.0, EQUAL)))
    assert found.row("mha")["top1"] == 40.0
    assert len(found.seeds("mha")) == 2
    assert found.row("linear") is None


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_costs_at_every_size(name):
    for n in costs.SIZES:
        cost = costs.cost_of.__wrapped__(name, n)
        assert cost is not None
        assert cost.multiply_adds > 0


def test_numbers_are_written_for_people():
    assert [costs.counted(v) for v in (12, 66_048, 5_242_880)] == ["12", "66\u00a0k", "5.24\u00a0M"]
    assert [costs.counted(v) for v in (999, 1000, 999_999, 2e9)] == ["999", "1\u00a0k", "1000\u00a0k", "2\u00a0G"]
    assert [costs.memory(v) for v in (12, 65_536, 2**21)] == ["12\u00a0B", "64\u00a0kB", "2\u00a0MB"]
    assert [costs.memory(v) for v in (1023, 1024, 1_030_000)] == ["1023\u00a0B", "1\u00a0kB", "1010\u00a0kB"]
    assert [costs.factor(a, 4) for a in (1, 4, 100)] == ["0.25 x", "1 x", "25 x"]


@pytest.mark.parametrize("name", VARIANTS)
def test_formulas_keep_their_braces(name):
    formula = formulas.roles(VARIANTS[name].formula)
    assert formula.count("{") == formula.count("}")
    assert r"\hat \textcolor" not in formula
    assert formulas.paragraph(IMAGE_DOMAIN, name).count("Source:") == 1


# The guide -----------------------------------------------------------------------------------------------------------
def test_parts_of_a_cost_are_fractions_where_they_can_be():
    assert [guide.share(a, 24) for a in (3, 24, 5, 12)] == ["1/8", "all", "21\u00a0%", "1/2"]
    assert guide.share(36, 24) == "150\u00a0%"


@pytest.mark.parametrize("kind", guide.USES)
def test_the_guide_names_every_variant_once_that_serves_or_not(kind):
    use = guide.Use(kind, 1024, 4)
    usable, unable = guide.split(IMAGE_DOMAIN, use)
    names = [one.name for one in usable]
    assert sorted([*names, *unable, "uniform", "proximity"]) == sorted(VARIANTS)
    needed = {"decoder": "causal", "cross": "cross"}.get(kind)
    assert all(needed is None or needed in VARIANTS[name].supported_masks for name in names)
    assert all(needed is not None and needed not in VARIANTS[name].supported_masks for name in unable)


def test_a_decoder_is_told_what_is_kept():
    less, constant, same, unable = guide.guide(IMAGE_DOMAIN, Bench(), guide.Use("decoder", 4096, 8))
    assert less.index("multi-query") < less.index("latent") < less.index("grouped-query")
    assert all(title in constant for title in ("window attention with sinks", "linear attention", "Performer"))
    assert all(title in same for title in ("gated attention", "differential attention"))
    assert "Linformer" in unable


def test_an_encoder_is_told_where_the_work_is():
    sentences = guide.guide(IMAGE_DOMAIN, Bench((row(0, 40.0),)), guide.Use("encoder", 256, 4))
    assert "50\u00a0%" in sentences[0].replace(" %", "\u00a0%")  # 2 n² d of 4 n d² + 2 n² d at n = 2 d
    assert "points" not in sentences[1]  # nothing but multi-head attention was trained
    trained = Bench((row(0, 40.0), {**row(0, 38.5), "variant": "separable"}))
    assert "1.5 points fewer" in guide.guide(IMAGE_DOMAIN, trained, guide.Use("encoder", 256, 4))[1]


def test_the_table_as_csv_says_yes():
    rows = [properties.property_row(name, IMAGE_DOMAIN, 256, 4) for name in ("mha", "axial")]
    lines = properties.as_csv(rows).decode("utf-8-sig").splitlines()
    assert lines[0].startswith("Variant,Causal,Cross,Padding,Window,Any length,Needs a grid")
    assert lines[1] == "Multi-head attention,yes,yes,yes,yes,yes,,yes,grows,1.0,1.0,1.0,1.0"
    assert lines[2].startswith("Axial attention,,,yes,,yes,yes,,,2.0,")


# Charts --------------------------------------------------------------------------------------------------------------
def test_growth_has_a_curve_for_each_and_guides_below():
    figure = growth({"a": [1, 4, np.nan], "b": [2, 0, 8]}, sizes=[64, 128, 256], guides={"O(n)": 1, "O(n²)": 2})
    a, b, linear, square = figure.data
    assert list(a.x) == [64, 128]
    assert list(b.x) == [64, 256]
    assert linear.y[-1] / linear.y[0] == pytest.approx(4)
    assert square.y[-1] / square.y[0] == pytest.approx(16)
    assert linear.y[0] < 1
    with pytest.raises(ValueError, match="2 values but there are 3 sizes"):
        growth({"a": [1, 2]}, sizes=[1, 2, 3])


def test_intervals_are_drawn_from_low_to_high():
    figure = intervals([1, 2], [40, 50], [38, 49], [43, 52], names=["a", "b"], colours=[0, None], hollow=[False, True])
    first, second = figure.data
    assert (first.error_y.array[0], first.error_y.arrayminus[0]) == (3, 2)
    assert (first.mode, second.mode) == ("markers+text", "markers")
    assert second.marker.symbol == "circle-open"
    with pytest.raises(ValueError, match="have 1, 1, 1 and 2 values"):
        intervals([1], [1], [1], [1, 2], names=["a"])


def test_sharing_joins_each_query_to_what_it_reads():
    figure = sharing([0, 0, 1, 1])
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [tuple(line.x) for line in lines] == [(0, 0.5), (1, 0.5), (2, 2.5), (3, 2.5)]
