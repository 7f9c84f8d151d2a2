"""One query and the keys: products feature by feature, dot products, cosines, stages, and a map of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from attnviz.types import AttentionCall, Stage, Tokens

STAGES: tuple[Stage, ...] = ("raw", "scaled", "biased", "masked")


class Pair(NamedTuple):
    """One query and one key of a head, number by number."""

    query: np.ndarray  # [dim]
    key: np.ndarray  # [dim]
    product: np.ndarray  # [dim]; its sum is the raw dot product
    dot: float
    scale: float  # what the dot product is multiplied by
    scaled: float
    biased: float  # with position biases
    score: float  # the input of softmax; -inf where masked
    total: float  # the sum of e^score over all keys of the query; inf where it is beyond 1e34
    cosine: float
    weight: float
    place: int  # rank of this key by score among the allowed ones, from 1
    open: int  # how many keys are allowed

    @property
    def plain(self) -> bool:
        """Whether the weight is e^score over the total: no attention sink, other normaliser or talking heads."""
        share = float(np.exp(self.score)) / self.total if 0 < self.total < float("inf") else float("nan")
        return abs(share - self.weight) <= 1e-5 + 1e-3 * self.weight


@torch.no_grad()
def pair(call: AttentionCall, head: int, query: int, key: int) -> Pair:
    """One query's vector, one key's vector and what becomes of their product."""
    q = call.query[head, query].double()
    k = call.key[call.kv_heads_of([head])[0], key].double()
    dot, scaled, biased, score = (call.scores([head], [query], stage)[0, 0].double() for stage in STAGES)
    open_keys = score[score > float("-inf")]
    largest = float(open_keys.max()) if len(open_keys) else 0.0
    return Pair(
        q.cpu().numpy(),
        k.cpu().numpy(),
        (q * k).cpu().numpy(),
        float(dot[key]),
        float(call.scale[head] if isinstance(call.scale, Tensor) else call.scale),
        float(scaled[key]),
        float(biased[key]),
        float(score[key]),
        float(open_keys.exp().sum()) if largest < 80 else float("inf"),
        float(q @ k / (q.norm() * k.norm()).clamp_min(1e-12)),
        float(call.token_map([head], [query])[0, 0, key]),
        int((score > score[key]).sum()) + 1,
        len(open_keys),
    )


def cosines(call: AttentionCall, head: int, rows: Sequence[int] | None = None) -> Float[np.ndarray, "query key"]:
    """Cosine of these queries (None: of every one) with every key of one head: the dot product without both lengths."""
    query = call.query[head] if rows is None else call.query[head, list(rows)]
    q = torch.nn.functional.normalize(query.float(), dim=-1)
    k = torch.nn.functional.normalize(call.key[call.kv_heads_of([head])[0]].float(), dim=-1)
    return (q @ k.T).cpu().numpy()


def lengths(call: AttentionCall, head: int) -> tuple[np.ndarray, np.ndarray]:
    """Length of every query and of every key of one head."""
    q, k = call.query[head], call.key[call.kv_heads_of([head])[0]]
    return q.float().norm(dim=-1).cpu().numpy(), k.float().norm(dim=-1).cpu().numpy()


def stages(
    call: AttentionCall, head: int, rows: Sequence[int] | None = None
) -> dict[str, Float[np.ndarray, "query key"]]:
    """What a head computes on the way to its weights: raw, scaled, biased and masked (where it has them), weights.

    `rows`: of these queries; None = of all.
    """
    has: dict[Stage, bool] = {"raw": True, "scaled": True, "biased": bool(call.biases), "masked": call.mask is not None}
    kept: list[Stage] = [stage for stage in STAGES if has[stage]]
    found = {stage: call.scores([head], rows, stage)[0].float().cpu().numpy() for stage in kept}
    return {**found, "weights": call.token_map([head], rows)[0].float().cpu().numpy()}


def aligned(
    query: Float[Tensor, "query dim"], key: Float[Tensor, "key dim"]
) -> tuple[Float[Tensor, "query dim"], Float[Tensor, "key dim"]]:
    """Queries and keys moved so that they can share a picture without changing any weight (after Yeh et al. 2023).

    Taking the mean key away from all keys adds one constant per row of scores, which softmax does not see; scaling the
    queries by c and the keys by 1/c leaves every dot product as it was. c makes both kinds equally long on average.
    """
    key = key - key.mean(0)
    c = (key.norm(dim=-1).mean() / query.norm(dim=-1).mean().clamp_min(1e-12)).clamp_min(1e-12).sqrt()
    return query * c, key / c


def joint_map(
    query: Float[Tensor, "query dim"], key: Float[Tensor, "key dim"], method: str = "PCA"
) -> tuple[Float[np.ndarray, "query 2"], Float[np.ndarray, "key 2"]]:
    """Queries and keys of one head in one plane by "PCA" or "t-SNE", which starts from PCA and a fixed seed."""
    if method not in ("PCA", "t-SNE"):
        raise ValueError(f"method is {method!r}; known: PCA, t-SNE")
    both = torch.cat(aligned(query.float(), key.float())).cpu().numpy()
    if method == "PCA":
        centred = both - both.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        axes = axes[:2] * np.sign(axes[:2].sum(1, keepdims=True) + 1e-12)  # the sign of a component is arbitrary
        plane = centred @ axes.T
    else:
        from sklearn.manifold import TSNE  # a second to import, so only when asked for

        perplexity = min(30.0, (len(both) - 1) / 3)
        plane = TSNE(2, perplexity=perplexity, init="pca", random_state=0, max_iter=600).fit_transform(both)
    return plane[: len(query)], plane[len(query) :]


def position_colours(tokens: Tokens) -> UInt8[np.ndarray, "token 3"]:
    """A colour for every position on the grid: red grows downwards, blue to the right; prefix tokens are grey."""
    rows, columns = tokens.grid or (1, len(tokens) - tokens.prefix)
    index = np.arange(rows * columns)
    down, right = index // columns / max(rows - 1, 1), index % columns / max(columns - 1, 1)
    patches = np.stack([40 + 200 * down, 150 - 60 * (down + right) / 2, 40 + 200 * right], -1)
    return np.concatenate([np.full((tokens.prefix, 3), 128), patches]).astype(np.uint8)


def pixel_colours(picture: np.ndarray, tokens: Tokens) -> UInt8[np.ndarray, "token 3"]:
    """The mean colour of every patch of a picture [height width 3|]; prefix tokens are grey."""
    if tokens.grid is None:
        raise ValueError("these tokens have no patch grid, so they have no pixels")
    rows, columns = tokens.grid
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)
    height, width = colour.shape[0] // rows, colour.shape[1] // columns
    cut = colour[: rows * height, : columns * width].reshape(rows, height, columns, width, 3)
    means = cut.mean((1, 3)).reshape(-1, 3)
    return np.concatenate([np.full((tokens.prefix, 3), 128), means]).round().astype(np.uint8)
