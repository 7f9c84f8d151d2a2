"""What a variant says it costs against what is counted: multiply-adds, parameters, bytes of maps and of state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attnviz.attention import VARIANTS, MultiHead, Variant
from attnviz.measures.cost import COUNTS, Row, Setting, Subject, exceeded_limit, extrapolate, finish, grid_of, measure
from attnviz.measures.forward import build, forward_of, resident
from attnviz.types import AttentionCall, Tokens
from tests.variants import WIDTH, features, plain, variant

SQUARE = Tokens.patches(8, 8)
COUNT = len(SQUARE)
BYTES = 4  # of a float32 number

# What the formulas of the papers count and the forward computes otherwise: multiply-adds to take from the counted ones.
SURPLUS: dict[str, Callable[[Any, int, int], int]] = {
    # the sums that make rows add up to one are products with a column of ones; softmax's own are not counted either
    "linear": lambda v, n_q, n_k: (n_q + n_k) * v.width,
    "performer": lambda v, n_q, n_k: (n_q + n_k) * v.heads * len(v.directions),
    # the gate is multiplied number by number, which a counter of matrix products does not see
    "separable": lambda v, n_q, n_k: -n_q * v.width,
    # queries are multiplied with every offset of the tables; a query meets one for each row and each column
    "botnet2d": lambda v, n_q, n_k: n_q * (len(v.by_row) + len(v.by_column) - 16) * v.width,
    # few tokens are one block of rows, computed whole; `test_window_products` counts the windows themselves
    "window": lambda v, n_q, n_k: 2 * n_q * (n_k - 2 * v.radius - 1) * v.width,
    "sinkwindow": lambda v, n_q, n_k: 2 * n_q * (n_k - 2 * v.radius - 1) * v.width,
    # the fused kernel wants values as wide as keys, so the narrower of the two are filled up with zeros
    "mla": lambda v, n_q, n_k: n_q * n_k * v.heads * v.rotated,
    "differential": lambda v, n_q, n_k: n_q * n_k * v.width,
}

WINDOWS = ("window", "sinkwindow")


def counted(run: Callable[[], Any]) -> int:
    """Multiply-adds of all matrix products of a run. The fused kernel counts as none on a CPU, so it is taken apart."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def tensors(nested: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples."""
    if isinstance(nested, Tensor):
        yield nested
    elif nested is not None:
        for part in nested:
            yield from tensors(part)


def test_the_counter_sees_the_products_of_attention() -> None:
    """Otherwise every comparison below would be with zero."""
    query = torch.zeros(1, 2, 5, 3)
    assert counted(lambda: F.scaled_dot_product_attention(query, query, query)) == 2 * 2 * 5 * 5 * 3


@pytest.mark.parametrize("name", VARIANTS)
def test_multiply_adds_are_those_counted(name: str) -> None:
    network, x = variant(name, torch.float32, SQUARE), features(COUNT, dtype=torch.float32)
    surplus = SURPLUS[name](network, COUNT, COUNT) if name in SURPLUS else 0
    found = counted(lambda: network(x, queries=SQUARE))
    assert network.cost(COUNT, COUNT).multiply_adds == found - surplus


@pytest.mark.parametrize("name", VARIANTS)
def test_multiply_adds_across_two_streams(name: str) -> None:
    if "cross" not in VARIANTS[name].supported_masks:
        return
    n_q, n_k = 5, 9
    network = variant(name, torch.float32, plain(n_k))
    x, context = features(n_q, dtype=torch.float32), features(n_k, dtype=torch.float32)
    surplus = SURPLUS[name](network, n_q, n_k) if name in SURPLUS else 0
    found = counted(lambda: network(x, context, queries=plain(n_q), keys=plain(n_k)))
    assert network.cost(n_q, n_k).multiply_adds == found - surplus


def test_window_products() -> None:
    """Each query against the 2 w + 1 keys of its own window: the count of the formula, and the layer's output."""
    network = variant("window", torch.float32, SQUARE)
    radius, size = network.radius, 2 * network.radius + 1  # type: ignore[operator]
    x, outputs = features(COUNT, dtype=torch.float32), []
    _, (call,) = network(x, queries=SQUARE)

    def run() -> None:
        key, value = (F.pad(t, (0, 0, radius, radius)).unfold(-2, size, 1) for t in (call.key, call.value))
        scores = (call.query[..., None, :] @ key * call.scale)[..., 0, :]  # [head query window]
        place = torch.arange(COUNT)[:, None] + torch.arange(size) - radius
        weights = scores.masked_fill((place < 0) | (place >= COUNT), float("-inf")).softmax(-1)
        outputs.append((value @ weights[..., None])[..., 0])

    projections = 4 * COUNT * WIDTH**2
    assert counted(run) + projections == network.cost(COUNT, COUNT).multiply_adds
    torch.testing.assert_close(outputs[0], call.output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("tokens", [SQUARE, Tokens.patches(4, 6)])
def test_parameters_are_those_counted(name: str, tokens: Tokens) -> None:
    network = variant(name, torch.float32, tokens)
    assert network.cost(len(tokens), len(tokens)).parameters == sum(p.numel() for p in network.parameters())


def bytes_of_maps(calls: tuple[AttentionCall, ...]) -> int:
    """float32 bytes of all native maps; where a mask leaves most of one closed, of what is open."""
    total = 0
    for call in calls:
        for name, found in call.maps().items():
            if found.map_type == "effective" or name in ("keys in each slot", "values in each slot", "with the sink"):
                continue  # not made by the layer; parameters, the same for every input; the weights once more
            if call.mask is not None and found.axes == ("head", "query", "key"):
                everything = list(range(COUNT))
                total += BYTES * call.heads * int(call.mask.rows([0], everything, COUNT, COUNT).sum())
            else:
                total += BYTES * found.array.numel()
    return total


@pytest.mark.parametrize("name", VARIANTS)
def test_bytes_of_maps_are_those_of_the_maps(name: str) -> None:
    network = variant(name, torch.float32, SQUARE)
    _, calls = network(features(COUNT, dtype=torch.float32), queries=SQUARE)
    cut = 0
    if name in WINDOWS:  # the formula counts whole windows; the first and last tokens have less of one
        cut = BYTES * network.heads * network.radius * (network.radius + 1)  # type: ignore[operator]
    assert network.cost(COUNT, COUNT).map_bytes - cut == bytes_of_maps(calls)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("count", [3, 40])
def test_bytes_of_state_are_what_decoding_keeps(name: str, count: int) -> None:
    network = variant(name, torch.float32, plain(count) if "grid" not in VARIANTS[name].requirements else SQUARE)
    if "causal" not in network.supported_masks:
        assert network.cost(count, count).state_bytes == 0
        return
    x = features(count, dtype=torch.float32)
    _, _, past = network.decode(x, queries=plain(count), keys=plain(count))
    kept = past
    if name == "linear":
        kept = past.state.sums  # its keys and values are kept for pictures alone, and its reference is the number 0
    elif name == "performer":
        kept = past.state
    found = BYTES * sum(t.numel() for t in tensors(kept))
    if name in WINDOWS and count > network.radius:  # type: ignore[operator]
        found += BYTES * 2 * WIDTH  # the token being written is in its window too, and leaves the past of the next
    assert network.cost(count, count).state_bytes == found


@pytest.mark.parametrize("name", VARIANTS)
def test_state_is_of_the_keys(name: str) -> None:
    """One new token over a past holds what all tokens at once hold; maps have a row for each query."""
    network = variant(name, torch.float32, SQUARE)
    one, all_ = network.cost(1, COUNT), network.cost(COUNT, COUNT)
    assert one.state_bytes == all_.state_bytes
    assert one.parameters == all_.parameters


OPTIONS: dict[str, dict[str, Any]] = {
    "gqa": {"groups": 2},
    "window2d": {"tile": (8, 8)},
    "mobilevit2d": {},
    "linformer": {"slots": 64},
}
WORKED = {  # parameters without biases and offsets, millions of multiply-adds; width 256, 8 heads, 32 x 32 patches
    "mha": (262_144, 805.3),
    "gqa": (163_840, 704.6),
    "mqa": (147_456, 687.9),
    "window2d": (262_144, 302.0),
    "axial": (524_288, 570.4),
    "mobilevit2d": (262_144, 402.7),
    "separable": (196_864, 202.1),
    "linformer": (262_144 + 131_072, 335.5),
    "linear": (262_144, 285.2),
    "xca": (262_152, 285.2),
}


def worked(name: str) -> Variant:
    """The variant of the worked example."""
    return VARIANTS[name](256, 8, tokens=Tokens.patches(32, 32), **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", WORKED)
def test_worked_numbers(name: str) -> None:
    network = worked(name)
    cost, (parameters, millions) = network.cost(1024, 1024), WORKED[name]
    left_out = sum(p.numel() for n, p in network.named_parameters() if n.endswith(("bias", "offsets")))
    assert cost.parameters - left_out == parameters
    assert cost.multiply_adds / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("name", "expected"), [("mha", 6_291_456), ("gqa", 1_572_864), ("mqa", 786_432)])
def test_cache_of_six_layers_in_half_precision(name: str, expected: int) -> None:
    assert 6 * worked(name).cost(1024, 1024).state_bytes // 2 == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(197, 1_241_888), (256, 2_097_152), (1024, 33_554_432), (4096, 536_870_912)]
)
def test_bytes_of_maps_in_numbers(count: int, expected: int) -> None:
    assert MultiHead(256, 8).cost(count, count).map_bytes == expected


@pytest.mark.parametrize(("count", "millions"), [(256, 100.7), (4096, 9663.7)])
def test_multiply_adds_in_numbers(count: int, millions: float) -> None:
    assert MultiHead(256, 8).cost(count, count).multiply_adds / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("count", "grid"), [(64, (8, 8)), (128, (8, 16)), (16384, (128, 128)), (24, (4, 6)), (7, (1, 7))]
)
def test_the_squarest_grid(count: int, grid: tuple[int, int]) -> None:
    assert grid_of(count) == grid


def test_what_is_to_be_expected_from_what_was_measured() -> None:
    rows = [Row("a", 64, peak_bytes=10), Row("a", 128, peak_bytes=20), Row("a", 256)]
    assert extrapolate([], 512, "peak_bytes") == 0
    assert extrapolate(rows[:1], 128, "peak_bytes") == pytest.approx(40)  # the worst, n², until more is known
    assert extrapolate(rows, 512, "peak_bytes") == pytest.approx(80)  # linear so far
    assert extrapolate([Row("a", 64, peak_bytes=10), Row("a", 128, peak_bytes=900)], 256, "peak_bytes") == 3600


def test_measuring_side_by_side() -> None:
    """Counted and measured figures, ratios to the first, a bar that only grows, and reasons for what was not run."""
    subjects = [Subject("mha", VARIANTS["mha"]), Subject("mobilevit2d", VARIANTS["mobilevit2d"])]
    subjects.append(Subject("additive", VARIANTS["additive"], {"hidden": 8}))
    setting = Setting(width=24, heads=4, runs=3, bytes_limit=1.5e6)
    steps = list(measure(subjects, [150, 64], setting))
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    rows = [row for step in steps for row in step.rows]
    assert [(row.name, row.count) for row in rows] == [(s.name, n) for n in (64, 150) for s in subjects]
    mha, fine, _, later, odd, large = rows
    assert mha.times == later.times == 1
    assert mha.parameters == 4 * 24 * 25
    assert fine.seconds is not None
    assert fine.seconds > 0
    assert fine.times is not None
    assert fine.peak_bytes is not None
    assert "10 x 15 into whole patches" in odd.skipped
    assert odd.seconds is odd.peak_bytes is None
    assert "hold more than 2 MB" in large.skipped
    assert large.seconds is None
    assert large.multiply_adds == VARIANTS["additive"](24, 4, hidden=8).cost(150, 150).multiply_adds


def test_leaving_a_measurement_ends_its_process() -> None:
    steps = measure([Subject("mha", VARIANTS["mha"])], [64], Setting(width=24, runs=1))
    assert next(steps).text == "memory of mha at 64 tokens"
    steps.close()  # type: ignore[attr-defined]
    assert list(steps) == []


def test_limits_hold_up_to_their_end() -> None:
    """Three forwards warm up, five are timed: eight times two seconds are sixteen."""
    setting = Setting(runs=5, bytes_limit=100e6, seconds_limit=16)
    assert exceeded_limit(100e6, 2.0, setting) == ""
    assert exceeded_limit(100e6 + 1, 0.0, setting) == "hold more than 100 MB"
    assert exceeded_limit(0, 2.001, setting) == "take more than 16 s for 5 runs of 2 s"


def test_times_are_medians_of_turns() -> None:
    """The ratio to the first is taken turn by turn, so that what slows one turn down slows both."""
    seconds = {"a": [1.0, 3.0, 8.0, 9.0, 2.0], "b": [1.0, 1.0, 2.0, 9.0, 4.0]}
    row = finish(Row("a", 64), seconds, "b")
    assert (row.seconds, row.times) == (3, 1)  # ratios are 1, 3, 4, 1 and a half
    assert finish(Row("a", 64), seconds, "gone").times is None
    assert finish(Row("b", 64), seconds, "b").times == 1
    assert finish(Row("c", 64), seconds, "b") == Row("c", 64)


def test_growth_is_expected_between_once_and_twice() -> None:
    flat = [Row("a", 64, peak_bytes=10), Row("a", 128, peak_bytes=10)]
    assert extrapolate(flat, 512, "peak_bytes") == pytest.approx(40)
    between = [Row("a", 64, peak_bytes=10), Row("a", 256, peak_bytes=80)]  # n to the power of one and a half
    assert extrapolate(between, 1024, "peak_bytes") == pytest.approx(640)
    again = [Row("a", 64, peak_bytes=10), Row("a", 64, peak_bytes=30)]  # no growth to be told from one size
    assert extrapolate(again, 128, "peak_bytes") == pytest.approx(120)
    assert extrapolate([Row("a", 64, peak_bytes=0)], 64, "peak_bytes") == pytest.approx(1e-9)


def test_what_nobody_chose() -> None:
    setting = Setting()
    assert (setting.width, setting.heads, setting.runs, setting.device) == (128, 4, 20, "cpu")
    assert (setting.bytes_limit, setting.seconds_limit) == (2e9, 120)
    assert list(COUNTS) == [64 * 2**i for i in range(9)]
    assert Subject("mha", MultiHead).options == {}


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the kernel says it in this file on Linux only")
def test_memory_is_in_bytes() -> None:
    from resource import RUSAGE_SELF, getrusage

    most, now = resident("VmHWM"), resident("VmRSS")
    assert most == pytest.approx(1024 * getrusage(RUSAGE_SELF).ru_maxrss, rel=0.02)
    assert now <= most
    assert now % 1024 == most % 1024 == 0


def test_the_same_network_is_made_each_time() -> None:
    subject, setting = Subject("mha", MultiHead), Setting(width=16, heads=2)
    before = torch.get_rng_state()
    one, other = (build(subject, 6, setting) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert not one.training
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert not mine.requires_grad
    y, (call,) = forward_of(subject, 6, setting)()  # type: ignore[misc]
    assert y.shape == (6, 16)
    assert call.queries.grid == (2, 3)
