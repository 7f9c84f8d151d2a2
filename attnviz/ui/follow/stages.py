"""What a token passes, as stages for the view: the numbers of a TokenPath, each with its name, colour and scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from attnviz.measures.token_path import TokenPath
from attnviz.ui.core.labels import head_name, written
from attnviz.ui.shell.page import section
from attnviz.ui.widgets.answers import percent
from attnviz.views.token_path import Role, Stage, Strip

TOP = 5  # keys shown one by one
STAGES = ("enter", "norm", "query", "keys", "scores", "weights", "values", "heads", "add", "mlp_norm", "mlp", "leave")
Vector = Float[np.ndarray, " number"]


def depth_id(depth: int) -> str:
    """The identifier of the stage after so many layers."""
    return f"depth-{depth}"


def array(tensor: Tensor) -> Float[np.ndarray, "*number"]:
    """Numbers in main memory."""
    return tensor.detach().float().cpu().numpy()


def masked_weights(path: TokenPath) -> Vector | None:
    """The weights, -inf where a mask forbids the key, as in the scores; None where there are none."""
    if path.weights is None or path.scores is None:
        return None if path.weights is None else array(path.weights)
    return np.where(np.isneginf(array(path.scores)), -np.inf, array(path.weights))


def limit_of(*vectors: Vector) -> float:
    """The number of the last colour: the 99th percentile of the absolute numbers, so that few do not pale the rest."""
    together = np.abs(np.concatenate([vector[np.isfinite(vector)] for vector in vectors] or [np.zeros(1)]))
    return float(np.percentile(together, 99)) if together.size else 1.0


def length(vector: Vector) -> str:
    """The length of a vector as the note of a stage."""
    return f"length {written(float(np.linalg.norm(vector)), '.3g')}"


def strips(*named: tuple[str, str, Vector], role: Role = "text", limit: float | None = None) -> tuple[Strip, ...]:
    """Vectors (sign, label, numbers) on one scale."""
    most = limit_of(*(vector for _, _, vector in named)) if limit is None else limit
    return tuple(Strip(label, vector, most, role, sign) for sign, label, vector in named)


def text_of(stage: str) -> str:
    """The sentence of a stage."""
    return " ".join(section("follow", stage).split())


class Stages:
    """The stages of one layer; a stage that a layer does not have is left out."""

    def __init__(self, path: TokenPath, names: Sequence[str], head: int):
        self.path, self.names, self.head = path, names, head
        self.residual, self.between, self.after = map(array, (path.residual, path.after_attention, path.after))
        self.attention = array(path.by_head.sum(0)) + (0 if path.bias is None else array(path.bias))
        self.limit = limit_of(self.residual, self.attention, self.between, self.after)
        self.order = strongest(path)

    def all(self) -> list[Stage]:
        """The stages that there are, in the order of the computation."""
        made = [getattr(self, name)() for name in STAGES]
        return [stage for stage in made if stage is not None]

    def enter(self) -> Stage:
        """The residual before the layer."""
        shown = strips(("", "residual", self.residual), limit=self.limit)
        return Stage("enter", "Residual", text_of("enter"), shown, length(self.residual))

    def norm(self) -> Stage | None:
        """The normalised residual, which attention reads."""
        if self.path.normed is None:
            return None
        normed = array(self.path.normed)
        shown = (*strips(("", "residual", self.residual), limit=self.limit), *strips(("→", "normalised", normed)))
        return Stage("norm", "Norm", text_of("norm"), shown, length(normed))

    def query(self) -> Stage:
        """The query of the head."""
        query = array(self.path.query)
        reads = array(self.path.residual if self.path.normed is None else self.path.normed)
        shown = (*strips(("", "what it reads", reads)), *strips(("→", "query", query), role="query"))
        return Stage("query", "Query", text_of("query"), shown, length(query), "query")

    def keys(self) -> Stage:
        """The keys of the tokens that the head scores highest, beneath the query."""
        query = array(self.path.query)
        keys = [("·", self.names[one], array(self.path.key[one])) for one in self.order]
        shown = (*strips(("", "query", query), role="query"), *strips(*keys, role="key"))
        note = f"{len(self.path.key)} keys"
        text = text_of("keys otherwise" if self.path.weights is None and self.path.scores is None else "keys")
        return Stage("keys", "Keys", text, shown, note, "key", marked=self.order)

    def scores(self) -> Stage | None:
        """The score of every key."""
        if self.path.scores is None:
            return None
        scores, named = array(self.path.scores), list[tuple[str, str, Vector]]()
        if self.path.products is not None:
            allowed = np.where(np.isfinite(scores), array(self.path.products), -np.inf)
            named.append(("", "query · key", allowed))
        named.append(("→" if named else "", "score", scores))
        shown = tuple(Strip(label, vector, limit_of(vector), "text", sign, "token") for sign, label, vector in named)
        text = text_of("scores" if len(named) > 1 else "scores otherwise")
        best = int(np.argmax(scores))
        note = f"most {written(float(scores[best]), '.3g')}"
        return Stage("scores", "Scores", text, shown, note, map="scores", marked=self.order[:1])

    def weights(self) -> Stage | None:
        """The weight of every key."""
        weights = masked_weights(self.path)
        if weights is None:
            return None
        title, text = ("Softmax", "softmax") if self.path.softmax else ("Weights", "weights")
        finite = weights[np.isfinite(weights)]
        signed = bool((finite < 0).any())
        shown = (Strip("weight", weights, float(np.abs(finite).max(initial=0)), "text", "", "token", signed),)
        if self.path.scores is not None:
            scores = array(self.path.scores)
            shown = (Strip("score", scores, limit_of(scores), "text", "", "token"), *shown)
        note = f"most {percent(float(weights.max()))}"
        return Stage("weights", title, text_of(text), shown, note, map="weights", marked=self.order[:1])

    def values(self) -> Stage:
        """The values that the weights add up, and the output of the head."""
        mixed = array(self.path.mixed)
        if self.path.weights is None:
            shown = strips(("", "output of the head", mixed), role="value")
            return Stage("values", "Values", text_of("mixed otherwise"), shown, length(mixed), "value")
        weights, value = array(self.path.weights), array(self.path.value)
        parts = [("+", f"{percent(float(weights[k]))} of {self.names[k]}", weights[k] * value[k]) for k in self.order]
        rest = weights @ value - sum(weights[k] * value[k] for k in self.order)
        others = len(weights) - len(self.order)
        parts += [("+", f"{others} other keys", rest)] if others else []
        gate = [] if self.path.gate is None else [Strip("gate", array(self.path.gate), 1.0, "muted", "×")]
        shown = strips(*parts, ("=", "output of the head", mixed), role="value")
        shown = (*shown[:-1], *gate, shown[-1])
        return Stage(
            "values",
            "Sum of values",
            text_of("values"),
            shown,
            length(mixed),
            "value",
            map="weights",
            marked=self.order,
        )

    def heads(self) -> Stage:
        """What every head writes, and the output of attention."""
        parts = [
            ("+", f"{head_name(index)}{' (above)' if index == self.head else ''}", array(one))
            for index, one in enumerate(self.path.by_head)
        ]
        parts += [] if self.path.bias is None else [("+", "bias", array(self.path.bias))]
        shown = strips(*parts, ("=", "attention", self.attention))
        return Stage("heads", "Heads joined", text_of("heads"), shown, length(self.attention))

    def add(self) -> Stage:
        """The residual with what attention adds."""
        before, added = ("", "residual", self.residual), ("+", "attention", self.attention)
        if self.path.normed is None:
            summed = ("=", "sum", self.residual + self.attention)
            normed = strips(("→", "normalised", self.between))
            shown = (*strips(before, added, summed), *normed)
            return Stage("add", "Residual + attention, norm", text_of("add and norm"), shown, length(self.between))
        shown = strips(before, added, ("=", "residual", self.between), limit=self.limit)
        return Stage("add", "Residual + attention", text_of("add"), shown, length(self.between))

    def mlp_norm(self) -> Stage | None:
        """The normalised residual, which the MLP reads."""
        if self.path.mlp_normed is None:
            return None
        normed = array(self.path.mlp_normed)
        shown = (*strips(("", "residual", self.between), limit=self.limit), *strips(("→", "normalised", normed)))
        return Stage("mlp-norm", "Norm", text_of("mlp_norm"), shown, length(normed))

    def mlp(self) -> Stage | None:
        """What the MLP adds."""
        if self.path.mlp is None or self.path.mlp_normed is None:
            return None
        added = array(self.path.mlp)
        shown = (*strips(("", "normalised", array(self.path.mlp_normed))), *strips(("→", "MLP", added)))
        return Stage("mlp", "MLP", text_of("mlp"), shown, length(added))

    def leave(self) -> Stage:
        """The residual after the layer."""
        before = ("", "residual", self.between)
        if self.path.mlp is None:
            shown = strips(before, ("→", "residual", self.after), limit=self.limit)
            return Stage("leave", "MLP and norm", text_of("leave post-norm"), shown, length(self.after))
        shown = strips(before, ("+", "MLP", array(self.path.mlp)), ("=", "residual", self.after), limit=self.limit)
        return Stage("leave", "Residual + MLP", text_of("leave"), shown, length(self.after))


def strongest(path: TokenPath) -> tuple[int, ...]:
    """The keys with most weight, else with the highest scores, else with the largest values; at most TOP of them."""
    by = path.weights if path.weights is not None else path.scores
    by = path.value.norm(dim=-1) if by is None else by
    allowed = [True] * len(by) if path.scores is None else path.scores.isfinite().tolist()
    order = [one for one in by.argsort(descending=True, stable=True).tolist() if allowed[one]]
    return tuple(order[:TOP])
