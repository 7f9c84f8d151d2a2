"""The strongest key is the same one in what a view says, in its mark and in the table beside it."""

from __future__ import annotations

import numpy as np
import pytest

import attnviz
from attnviz.measures.words import grouping
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.labels import token_name
from attnviz.ui.heads import overview, text
from attnviz.ui.inputs.samples import SAMPLES, open_sample
from attnviz.ui.inputs.sentences import SENTENCES
from attnviz.ui.widgets.display import masked_of
from attnviz.ui.widgets.text_display import Look
from attnviz.views import records
from tests.node import ask, numbers
from tests.pages import open_page
from tests.ui.test_heads import views_of

TEXTS = ("sentences", "stories")
# What a view says of some rows, and which key it marks: as picture.js and text.js ask for it.
SAY = """$asked.map(({map, tokens, drop, best}) => {
  const view = {data: {tokens, best, maps: "m", index: map}, maps: "m", index: map};
  const named = bestNamed(view, tokens), {best: marked, sentence} = rowWords(of("m"), map, tokens, drop, null, named);
  return [marked, sentence]; })"""


def calls_of(name: str, count: int = 2) -> list[AttentionCall]:
    """Every call of a shipped model on its first samples."""
    model = attnviz.load(name)
    raws = SENTENCES[name] if name in TEXTS else [open_sample(name, one).image for one in SAMPLES[name]]
    return [call for raw in raws[:count] for call in model(model.prepare(raw)).calls]


def picks(count: int, several: bool) -> list[list[int]]:
    """Every token alone, or some threes."""
    random = np.random.default_rng(0)
    if several:
        return [sorted(random.choice(count, 3, replace=False).tolist()) for _ in range(6)]
    return [[token] for token in range(count)]


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("name", SAMPLES)
def test_hovering_a_patch_marks_its_strongest_key(name: str, drop: bool):
    for call in calls_of(name):
        maps, out = call.token_map().float().detach().numpy(), call.keys.prefix if drop else 0
        blob = records.pack_maps("m", maps, titles=[str(i) for i in range(call.heads)], keys=call.keys)
        asked = [(head, tokens) for head in range(call.heads) for tokens in picks(len(call.queries), False)]
        said = ask(SAY, blob, asked=[{"map": h, "tokens": t, "drop": drop, "best": None} for h, t in asked])
        best = [out + int(maps[head, query, out:].argmax()) for head, (query,) in asked]
        assert [marked for marked, _ in said] == best
        for (_, (query,)), key, (_, sentence) in zip(asked, best, said, strict=True):
            attended = "itself" if key == query else token_name(call.keys, key)
            assert sentence.partition(f" attends to {attended} with ")[2].endswith(" %, its strongest key")


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("name", SAMPLES)
def test_of_several_patches_the_exact_sum_decides(name: str, drop: bool):
    for call in calls_of(name, 1):
        maps = call.token_map().float().detach().numpy()
        blob = records.pack_maps("m", maps, titles=[str(i) for i in range(call.heads)], keys=call.keys)
        asked, rows = [], []
        for head in range(call.heads):
            for tokens in picks(len(call.queries), True):
                row = overview.shown_row(call, head, tokens, leave_out=drop)
                rows.append(row["weight"])
                asked.append({"map": head, "tokens": tokens, "drop": drop, "best": overview.best_key(row)})
        for one, row, (marked, sentence) in zip(asked, rows, ask(SAY, blob, asked=asked), strict=True):
            kept = np.delete(maps[one["map"], one["tokens"]], range(call.keys.prefix if drop else 0), -1).astype(float)
            exact = (kept / kept.sum(-1, keepdims=True)).sum(0)
            assert row[marked] == pytest.approx(exact.max(), rel=1e-5)
            assert f" to {token_name(call.keys, marked)}, their strongest" in sentence


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", TEXTS)
def test_hovering_a_word_marks_its_strongest_key(name: str, special: bool):
    for call in calls_of(name, 1):
        look = Look(grouping(call.keys, whole_words=True, special=special), call.keys, special=special)
        maps = look.maps(call.token_map().float().detach().numpy())
        titles = [str(i) for i in range(call.heads)]
        blob = records.pack_maps("m", maps, titles=titles, keys=look.tokens, masked=look.masked(call))
        asked = [(head, tokens) for head in range(call.heads) for tokens in picks(len(look.tokens), False)]
        said = ask(SAY, blob, asked=[{"map": h, "tokens": t, "drop": False, "best": None} for h, t in asked])
        assert [marked for marked, _ in said] == [int(maps[head, token].argmax()) for head, (token,) in asked]
        for (head, tokens), (marked, _) in list(zip(asked, said, strict=True))[::17]:
            assert overview.best_key(text.exact_row(call, head, look, tokens)) == marked


def table(at) -> dict[str, list]:
    """The table of the strongest keys."""
    frame = next(frame.value for frame in at.dataframe if "Attends to" in frame.value.columns)
    return {name: frame[name].tolist() for name in frame.columns}


@pytest.mark.parametrize("token", ["11", "3,11"])
@pytest.mark.parametrize("drop", ["true", "false"])
def test_the_table_shows_what_the_picture_shows(drop: str, token: str):
    several = "true" if "," in token else "false"
    at = open_page(
        "heads", model="vit-digits", sample="zero", layer="3", head="1", token=token, drop=drop, several=several
    )
    large, found = views_of(at)["large"], table(at)
    model = attnviz.load("vit-digits")
    call = model(model.prepare(open_sample("vit-digits", "zero").image)).calls[2]
    maps = call.token_map().float().detach().numpy()
    assert maps[0, 11].argmax() == 0  # CLS: what a picture without it cannot name
    assert large["hide_special"] is (drop == "true")
    asked = {"map": 0, "tokens": large["tokens"], "drop": large["hide_special"], "best": large["best"]}
    blob = records.pack_maps("m", maps, titles=list("abcd"), keys=call.keys, masked=masked_of(call))
    [marked, sentence] = ask(SAY, blob, asked=[asked])[0]
    assert found["Attends to"][0] == token_name(call.keys, marked)
    assert f"{found['Weight'][0]:.1f} %" in sentence
    assert ("CLS" in found["Attends to"]) is (drop == "false")
    best = views_of(at)["moved"]["best"]
    assert found["Attends to"][int(np.argmax(found["Weighted by value"]))] == token_name(call.keys, best)
    assert found["Weight"] == sorted(found["Weight"], reverse=True)
    rows = maps[0, large["tokens"]].astype(float)
    kept = rows[:, 1:] / rows[:, 1:].sum(-1, keepdims=True) if drop == "true" else rows
    assert found["Weight"][0] == pytest.approx(100 * kept.sum(0).max(), rel=1e-5)


@pytest.mark.parametrize("shares", [True, False])
def test_several_rows_are_put_together_as_views_do(shares: bool):
    tokens, rows = Tokens.patches(2, 2, ["CLS"]), np.random.default_rng(0).random((1, 5, 5), dtype=np.float32)
    blob = records.pack_maps("m", rows, titles=["a"], keys=tokens, unit="percent" if shares else "number")
    shown = numbers(ask("togetherRow(of('m'), 0, [1, 2, 4], false)", blob))
    np.testing.assert_allclose(shown, overview.together(rows[0, [1, 2, 4]], shares=shares), atol=3 / 510)
    assert f"{'summed' if shares else 'averaged'}" in overview.said(tokens, [1, 2, 4], shares=shares)
