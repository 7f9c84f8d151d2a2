"""Heads by name: what a head does on one input, in words, where a measure earns it.

Every measure is a mean over query rows that is at most 1. A name is earned by the strength

    strength = (measure - null) / (1 - null),

the share of the way from a head that knows nothing of the matter to a perfect one. Even attention, alike over all keys
a query may attend to, is such a head. For names of a relation between query and key (`relation`), the head's own mean
row, given to every query, is another: the better of the two is the null, so that one bright patch on the left does not
make a head attend left. A head that is nearly even has no other name. Names hold for the input they were measured on.
"Object" is not among them: one picture without labels does not say where its object is.
To add a name: one function of rows and one line in PICTURE_NAMES or TEXT_NAMES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from attnviz.measures.blocks import spread
from attnviz.measures.faithfulness import ranks
from attnviz.measures.heads import distance_rows, entropy_rows, patch_offsets, self_rows
from attnviz.measures.text_heads import beside, induction_rows, on, real, same_rows
from attnviz.types import AttentionCall, Tokens

HALF = 0.5  # of the way from the null to a perfect head
LEAST_ROWS = 3  # query rows that a mean is taken over, below which nothing is named
MOST_ENTRIES = 1 << 22  # of the rows of a call that are held at once; above, rows are spread evenly over the queries


@dataclass(frozen=True, eq=False)
class Seen:
    """What the measures read besides the weights: the keys, which rows these are, what may be attended to, colours."""

    tokens: Tokens
    rows: Tensor  # [row], numbers of queries
    even: Float[Tensor, "one row key"]  # even attention over the keys that a query may attend to
    whole: bool  # whether every query may attend to every key
    colours: Float[Tensor, "patch 3"] | None = None


Rows = Callable[[Tensor, Seen], Tensor]  # weights [head row key] -> [head row], NaN where not defined


@dataclass(frozen=True)
class HeadName:
    """A name in words, the measure it is earned by, the strength it takes, and what it says."""

    title: str
    badge: str  # the same on a small tile
    measure: str  # what is measured, in words
    rows: Rows
    explanation: str
    threshold: float = HALF
    relation: bool = True  # held against the head's own mean row too
    unit: str = "%"  # "" for a plain number


@dataclass(frozen=True)
class Earned:
    """A name that a head has earned on one input, and by how much."""

    name: str  # in NAMES
    value: float
    null: float  # what a head that knows nothing of the matter gives
    strength: float


def toward(axis: int, sign: int) -> Rows:
    """The weight on patches on one side of the query minus that on the other, of the weight on patches."""

    def rows(weights: Tensor, seen: Seen) -> Tensor:
        side = sign * patch_offsets(seen.tokens, seen.rows)[..., axis].sign().to(weights)  # [row patch]
        patches = weights[..., seen.tokens.prefix :]
        return (patches * side).sum(-1) / patches.sum(-1)

    return rows


def nearness_rows(weights: Tensor, seen: Seen) -> Tensor:
    """[head row]: 1 - attention distance / that of even attention: 1 where all weight is on the patch itself."""
    return 1 - distance_rows(weights, seen.tokens, seen.rows) / distance_rows(seen.even, seen.tokens, seen.rows)


def evenness_rows(weights: Tensor, seen: Seen) -> Tensor:
    """[head row]: entropy / that of even attention; not a number where a query may attend to one key only."""
    most = entropy_rows(seen.even, seen.tokens, seen.rows)
    return entropy_rows(weights, seen.tokens, seen.rows) / torch.where(most > 0, most, torch.nan)


def correlation(a: Float[Tensor, "*row key"], b: Float[Tensor, "*other key"]) -> Float[Tensor, "*both"]:
    """Pearson's correlation along the last axis; 0 where one of the two does not vary."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    scale = a.norm(dim=-1) * b.norm(dim=-1)
    return (a * b).sum(-1) / torch.where(scale > 1e-9, scale, torch.inf)


def colour_rows(weights: Tensor, seen: Seen) -> Tensor:
    """[head row]: partial rank correlation of weight and likeness of colour, given the distance of the patches.

    Patches that lie close are alike in colour too: r = (r_wc - r_wd r_cd) / sqrt((1 - r_wd^2)(1 - r_cd^2)), of the
    ranks of weight w, colour c and distance d among the other patches. Not a number where a mask hides some of them.
    """
    tokens, prefix = seen.tokens, seen.tokens.prefix
    if seen.colours is None or not seen.whole or seen.colours.std(0).max() < 1e-3:
        return torch.full(weights.shape[:-1], torch.nan).to(weights)
    count = len(tokens) - prefix
    own = seen.rows - prefix
    others = torch.arange(count - 1)[None] + (torch.arange(count - 1)[None] >= own[:, None])  # [row other]
    likeness = -torch.cdist(seen.colours[own], seen.colours)
    distance = patch_offsets(tokens, seen.rows).norm(dim=-1)
    index = others.expand(*weights.shape[:-1], -1)
    w = ranks(weights[..., prefix:].gather(-1, index))
    c, d = (ranks(one.to(weights).gather(-1, others)) for one in (likeness, distance))
    wc, wd, cd = correlation(w, c), correlation(w, d), correlation(c, d)
    return (wc - wd * cd) / ((1 - wd**2) * (1 - cd**2)).clamp_min(1e-9).sqrt()


def special(seen: Seen) -> list[bool]:
    """Which tokens stand before a picture, or for no part of a text."""
    words = seen.tokens.words
    return [i < seen.tokens.prefix or (words is not None and words[i] < 0) for i in range(len(seen.tokens))]


def on_special(chosen: Callable[[int, str], bool]) -> Rows:
    """The weight on special tokens chosen by their number and label."""

    def rows(weights: Tensor, seen: Seen) -> Tensor:
        labels = zip(seen.tokens.labels, special(seen), strict=True)
        wanted = torch.tensor([apart and chosen(i, label) for i, (label, apart) in enumerate(labels)])
        return on(weights, wanted.expand(len(seen.rows), -1))

    return rows


def first_text_rows(weights: Tensor, seen: Seen) -> Tensor:
    """[head row]: the weight on the first token, unless it is CLS, which has a name of its own."""
    begins = seen.tokens.labels[0] != "CLS"
    return on(weights, torch.tensor([begins] + [False] * (len(seen.tokens) - 1)).expand(len(seen.rows), -1))


def one_patch_rows(weights: Tensor, seen: Seen) -> Tensor:
    """[head row]: the weight on the patch that receives most from all queries together."""
    patches = weights[..., seen.tokens.prefix :]
    best = patches.mean(-2, keepdim=True).argmax(-1, keepdim=True)  # [head 1 1]
    return patches.gather(-1, best.expand(*patches.shape[:-1], 1))[..., 0]


def induction_text_rows(weights: Tensor, seen: Seen) -> Tensor:
    """[head row]: the weight on what came after the same token before; only where no query attends to later tokens."""
    found = induction_rows(weights, seen.tokens, seen.rows)
    later = seen.even[0] * (torch.arange(len(seen.tokens))[None] > seen.rows[:, None]).to(seen.even)
    return torch.full_like(found, torch.nan) if later.any() else found


def of_tokens(rows: Callable[[Tensor, Tokens, Tensor], Tensor]) -> Rows:
    """A measure of `heads.py` or `text_heads.py`, which reads tokens and rows alone."""
    return lambda weights, seen: rows(weights, seen.tokens, seen.rows)


EVEN = HeadName(
    "Even",
    "even",
    "Entropy, as a share of that of even attention",
    evenness_rows,
    "It attends nearly alike to everything: there is hardly anything to see in its map.",
    threshold=0.95,
    relation=False,
)
CLS = HeadName(
    "CLS sink",
    "CLS",
    "Weight on CLS",
    on_special(lambda _, label: label == "CLS"),
    "Most of its weight goes to CLS, whatever the query.",
    relation=False,
)
ITSELF = HeadName(
    "Itself", "self", "Weight on the query itself", of_tokens(self_rows), "Each query attends mostly to itself."
)
SIDE = "Weight on patches {} the query, minus that on the other side"
PICTURE_NAMES: dict[str, HeadName] = {
    "even": EVEN,
    "cls": CLS,
    "registers": HeadName(
        "Register sink",
        "reg",
        "Weight on registers",
        on_special(lambda _, label: label != "CLS"),
        "Most of its weight goes to registers, whatever the query.",
        relation=False,
    ),
    "patch-sink": HeadName(
        "One-patch sink",
        "sink",
        "Weight on the patch that receives most",
        one_patch_rows,
        "Most of its weight goes to the same patch, whatever the query.",
        relation=False,
    ),
    "self": ITSELF,
    "left": HeadName("Left", "←", SIDE.format("left of"), toward(1, -1), "It attends to what lies left of the query."),
    "right": HeadName(
        "Right", "→", SIDE.format("right of"), toward(1, 1), "It attends to what lies right of the query."
    ),
    "above": HeadName("Above", "↑", SIDE.format("above"), toward(0, -1), "It attends to what lies above the query."),
    "below": HeadName("Below", "↓", SIDE.format("below"), toward(0, 1), "It attends to what lies below the query."),
    "nearby": HeadName(
        "Nearby patches",
        "near",
        "How much shorter its attention distance is than that of even attention",
        nearness_rows,
        "It attends to patches around the query.",
    ),
    "colour": HeadName(
        "Same colour",
        "colour",
        "Rank correlation of weight and likeness of colour, given distance",
        colour_rows,
        "The more a patch is like the query in colour, the more weight it receives, near or far.",
        threshold=0.6,  # new networks, which compare pixels by chance, come near to half (tests count how many)
        unit="",
    ),
}
TEXT_NAMES: dict[str, HeadName] = {
    "even": EVEN,
    "cls": CLS,
    "first": HeadName(
        "First-token sink",
        "first",
        "Weight on the first token",
        first_text_rows,
        "Most of its weight goes to the first token, whatever the query: an attention sink.",
        relation=False,
    ),
    "separator": HeadName(
        "SEP sink",
        "SEP",
        "Weight on separators",
        on_special(lambda i, label: i > 0 and label != "CLS"),
        "Most of its weight goes to separators, whatever the query.",
        relation=False,
    ),
    "previous": HeadName(
        "Previous token",
        "prev",
        "Weight on the token before",
        of_tokens(beside(-1)),
        "Each token attends mostly to the one before.",
    ),
    "next": HeadName(
        "Next token",
        "next",
        "Weight on the token after",
        of_tokens(beside(1)),
        "Each token attends mostly to the one after.",
    ),
    "self": ITSELF,
    "same": HeadName(
        "Same word",
        "same",
        "Weight on other occurrences of the token",
        of_tokens(same_rows),
        "A token that occurs again attends mostly to where it occurs.",
    ),
    "induction": HeadName(
        "Induction",
        "induct",
        "Weight on what came after the same token before",
        induction_text_rows,
        "A token that has occurred before attends to what came after it then (Olsson et al. 2022).",
    ),
}
NAMES: dict[str, HeadName] = {**PICTURE_NAMES, **TEXT_NAMES}


def patch_colours(image: Image.Image, grid: tuple[int, int]) -> Float[Tensor, "patch 3"]:
    """The mean colour of every patch of a picture, 0 to 1, row by row."""
    small = image.convert("RGB").resize((grid[1], grid[0]), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float64).reshape(-1, 3) / 255)


def named(
    weights: Float[Tensor, "head row key"],
    tokens: Tokens,
    *,
    rows: Sequence[int] | None = None,
    allowed: Bool[Tensor, "h row key"] | None = None,
    colours: Float[Tensor, "patch 3"] | None = None,
) -> list[tuple[Earned, ...]]:
    """The names that each head earns with these rows of its map, strongest first; () for a head without any.

    `rows`: which queries they are, None = those that are no special tokens; `allowed`: which keys they may attend to,
    None = all; `colours`: of the patches of a picture, None = names by colour are not given.
    Raises ValueError for another number of rows.
    """
    chosen = torch.tensor(queries_of(tokens) if rows is None else list(rows), dtype=torch.long)
    if weights.shape[-2:] != (len(chosen), len(tokens)):
        raise ValueError(f"weights are {tuple(weights.shape)} but there are {len(chosen)} rows of {len(tokens)} keys")
    weights = weights.to("cpu", torch.float64)
    may = torch.ones(1, *weights.shape[1:], dtype=torch.float64) if allowed is None else allowed.cpu().double()
    mean = weights.sum(-2, keepdim=True) / may.sum(-2, keepdim=True).clamp_min(1)
    own, seen = shared_out(may * mean), Seen(tokens, chosen, shared_out(may), bool(may.all()), colours)
    found = [[] for _ in weights]
    for name, head_name in (TEXT_NAMES if tokens.words is not None else PICTURE_NAMES).items():
        for head, earned in enumerate(earn(name, head_name, weights, own, seen)):
            if earned is not None:
                found[head].append(earned)
    return [in_order(names) for names in found]


def earn(name: str, head_name: HeadName, weights: Tensor, own: Tensor, seen: Seen) -> list[Earned | None]:
    """Each head's earned name, or None. `own`: the mean row of each head, given to every query."""
    measured = head_name.rows(weights, seen)  # [head row]
    enough = measured.isfinite().sum(-1) >= LEAST_ROWS
    value, null = mean_of(measured), torch.zeros(len(weights), dtype=torch.float64)
    if name != "even":
        null = mean_of(head_name.rows(seen.even, seen)).expand_as(value)
        if head_name.relation:
            null = torch.maximum(null, mean_of(head_name.rows(own, seen)))
    strength = (value - null) / (1 - null)
    return [
        Earned(name, float(v), float(n), float(s)) if ok and n < 1 and s >= head_name.threshold else None
        for v, n, s, ok in zip(value, null, strength, enough, strict=True)
    ]


def in_order(names: Sequence[Earned]) -> tuple[Earned, ...]:
    """The strongest first; an even head is that alone."""
    even = tuple(one for one in names if one.name == "even")
    return even or tuple(sorted(names, key=lambda one: -one.strength))


def shared_out(mass: Float[Tensor, "*row key"]) -> Float[Tensor, "*row key"]:
    """Rows divided by their sums; a row of zeros stays one."""
    return mass / mass.sum(-1, keepdim=True).clamp_min(1e-30)


def mean_of(rows: Float[Tensor, "head row"]) -> Float[Tensor, " head"]:
    """The mean over the rows for which a measure is defined."""
    return torch.where(rows.isfinite(), rows, torch.nan).nanmean(-1)


def queries_of(tokens: Tokens) -> list[int]:
    """The queries that measures are means over: patches, or the tokens of a text that are no special ones."""
    if tokens.words is None:
        return list(range(tokens.prefix, len(tokens)))
    return real(tokens).nonzero()[:, 0].tolist()


def names_of_call(call: AttentionCall, image: Image.Image | None = None) -> list[tuple[Earned, ...]]:
    """The names of each head of one call; none where rows do not sum to 1 or tokens attend to another stream.

    `image` is the picture that the model saw. Of many tokens, rows are spread evenly over the queries.
    """
    tokens = call.keys
    placed = tokens.grid is not None or tokens.words is not None
    if not call.rule.stochastic or call.queries != tokens or not placed:
        return [()] * call.heads
    rows = queries_of(tokens)
    most = max(LEAST_ROWS, MOST_ENTRIES // (call.heads * len(tokens)))
    if len(rows) > most:
        rows = [rows[i] for i in spread(0, len(rows), most)]
    colours = None if image is None or tokens.grid is None else patch_colours(image, tokens.grid)
    allowed = call.allowed(*call.pick(None, rows))
    return named(call.token_map(rows=rows).detach(), tokens, rows=rows, allowed=allowed, colours=colours)


def head_names(calls: Sequence[AttentionCall], image: Image.Image | None = None) -> list[list[tuple[Earned, ...]]]:
    """The names of every head of a trace, [call][head], as `names_of_call` gives them."""
    return [names_of_call(call, image) for call in calls]
