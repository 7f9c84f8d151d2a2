"""What stood in addresses before their values became identifiers: links of that time still open the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

POSITION_TITLES = {
    "Learned table": "learned",
    "Learned table, started from one sequence": "learned1d",
    "Learned table, started from rows and columns": "learned2d",
    "Sine and cosine, rows and columns": "sine2d",
    "Sine and cosine, one sequence": "sine",
    "None": "none",
    "Rotary": "rotary",
    "ALiBi": "alibi",
    "Shaw, relative": "shaw",
    "T5 buckets": "t5",
}
VARIANT_TITLES = {
    "Multi-head attention": "mha",
    "Multi-query attention": "mqa",
    "Grouped-query attention": "gqa",
    "Cosine attention": "cosine",
    "Additive attention": "additive",
    "Proximity": "proximity",
    "Uniform": "uniform",
    "Window attention": "window",
    "Window attention in tiles": "window2d",
    "Axial attention": "axial",
    "Relative positions in two dimensions": "botnet2d",
    "MobileViT attention": "mobilevit2d",
    "Separable attention": "separable",
    "Linformer": "linformer",
    "Linear attention": "linear",
    "Performer": "performer",
    "Nyströmformer": "nystrom",
    "Cross-covariance attention": "xca",
}
# Layer and head of one panel of Compare: as many as the largest model has had.
HEADS = {f"Layer {layer}, head {head}": f"{layer}.{head}" for layer in range(1, 13) for head in range(1, 13)}
STAGES = {  # of the page about queries and keys, then of the page about embeddings
    "Dot products": "raw",
    "Scaled": "scaled",
    "With biases": "biased",
    "Masked": "masked",
    "Weights": "weights",
    "Cosine": "cosine",
    "Content": "embedding",
    "With position": "input",
    "Enters layer 1": "input",
    **{f"After layer {number}": f"layer-{number}" for number in range(1, 33)},
}
# parameter -> what stood there -> the identifier it means. A row is added where a value changes, and none is taken out.
OLD_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "order": {
            "Layer": "layer",
            "Mean attention distance": "distance",
            "Entropy / log n": "entropy",
            "Share on CLS and registers": "prefix",
            "Share on itself": "self",
            "Share on neighbours": "neighbours",
            "Share on the token before": "previous",
            "Share on the token after": "next",
            "Share on the same word": "same",
            "Share on the first token": "first",
            "Share on separators": "separator",
            "Share on what came after last time": "induction",
            "Mean distance": "reach",
            "Finds the word it depends on": "syntax",
        },
        "weights": {"Own weights": "separate", "Same weights": "shared"},
        "show": {"Where it looks": "attention", "Native maps": "native", "Rollout": "rollout"},
        "heads": {"Best match": "match", "Same number": "index", "By hand": "manual"},
        "start": {"Answer": "answer", "One patch": "token"},
        "panels": {"Text": "text", "Matrix": "matrix"},
        "against": {"Multiply-adds": "multiply_adds", "Parameters": "parameters"},
        "n": {"1,024": "1024", "4,096": "4096", "16,384": "16384"},
        "first": VARIANT_TITLES,
        "minus": VARIANT_TITLES,
        **{f"head {variant}": HEADS for variant in VARIANT_TITLES.values()},
        "places": POSITION_TITLES,
        "scheme": {**POSITION_TITLES, "Sines and cosines": "sine"},
        "stage": STAGES,
        "similarity": {"Centred cosine": "centred-cosine", "Cosine": "cosine", "Dot product": "dot-product"},
        "change": {"Removed": "none", "Shuffled": "shuffled"},
        "kind": {"Encoder": "encoder", "Decoder": "decoder"},
        "map": {"PCA": "pca", "t-SNE": "tsne"},
        "paint": {"Position": "position", "Pixels": "pixels", "Kind": "kind"},
        "picture": {"Rows are queries": "rows", "Columns are queries": "columns"},
        "scale": {"Square root": "sqrt", "Linear": "linear", "Log": "log", "Rank": "rank"},
        "colours": {"Viridis": "viridis", "Cividis": "cividis", "Inferno": "inferno", "Gray": "gray"},
        "look": {"Across": "cross", "Within English": "encoder", "Within French": "decoder"},
        "fusion": {"Mean": "mean", "Maximum": "max", "Minimum": "min"},
        "target": {
            "Answer": "answer",
            "CLS": "cls",
            "Mean of patches": "mean",
            "Mean of words": "mean",
            "One patch": "token",
            "One word": "token",
        },
        "range": {"Each map's own": "own", "One for all": "shared"},
        "grid": {"One patch": "token", "One word": "token", "Matrices": "matrix"},
        "view": {"Lines": "lines", "Matrix": "matrix", "Arcs": "arcs"},
        "over": {"This picture": "sample", "All sample pictures": "all"},
    }
)
