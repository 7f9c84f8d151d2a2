"""MobileViT networks made the same way each time, and their twins of Hugging Face with the same parameters."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import MobileViTConfig as TheirConfig
from transformers import MobileViTForImageClassification, MobileViTV2Config, MobileViTV2ForImageClassification

from attnviz.models.mobilevit import Hybrid, MobileViT, MobileViTConfig
from attnviz.models.mobilevit2 import MobileViT2, MobileViT2Config

KINDS: dict[str, tuple[type[Hybrid], MobileViTConfig]] = {
    "v1": (MobileViT, MobileViTConfig(classes=10)),
    "v2": (MobileViT2, MobileViT2Config(classes=10)),
}
RENAMED = [  # ours -> Hugging Face's, in this order
    (r"^stem\.", "conv_stem."),
    (r"^early\.(\d)\.", r"encoder.layer.\1.layer."),
    (r"^stages\.(\d)\.", lambda found: f"encoder.layer.{int(found[1]) + 2}."),
    (r"^final\.", "conv_1x1_exp."),
    (r"^(encoder\.layer\.\d)\.norm\.", r"\1.layernorm."),  # of a whole stage
    (r"\.norm\.", ".normalization."),
    (r"\.fuse\.", ".fusion."),
    (r"\.expand\.", ".expand_1x1."),
    (r"\.look\.", ".conv_3x3."),
    (r"\.reduce\.", ".reduce_1x1."),
    (r"\.down\.", ".downsampling_layer."),
    (r"\.near\.0\.", ".conv_kxk."),
    (r"\.near\.1\.", ".conv_1x1."),
    (r"\.back\.", ".conv_projection."),
    (r"\.blocks\.", ".transformer.layer."),
    (r"\.attention_norm\.", ".layernorm_before."),
    (r"\.mlp_norm\.", ".layernorm_after."),
]
LAYER_1 = {
    "attention.query": "attention.attention.query",
    "attention.key": "attention.attention.key",
    "attention.value": "attention.attention.value",
    "attention.out": "attention.output.dense",
    "mlp.0": "intermediate.dense",
    "mlp.2": "output.dense",
}
LAYER_2 = {
    "attention.out": "attention.out_proj.convolution",
    "mlp.0": "ffn.conv1.convolution",
    "mlp.2": "ffn.conv2.convolution",
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind: str, **changes: object) -> Hybrid:
    """A network from a fixed seed, with random norms, statistics and biases, so that differences show."""
    network, config = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = network(replace(config, **changes))
        for name, tensor in module.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1:
                tensor.normal_(1.0 if name.endswith("norm.weight") else 0.0, 0.2)
        nn.init.normal_(module.classify.weight, std=0.2)
    return module.double().eval()


def their_name(name: str) -> str:
    """The name Hugging Face gives a parameter or a statistic."""
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    return name


def their_state(network: Hybrid, prefix: str, layer_names: dict[str, str]) -> dict[str, Tensor]:
    """Our parameters under Hugging Face's names; v2 has 1 x 1 convolutions in place of linear layers."""
    state, theirs = network.state_dict(), {}
    for name, tensor in state.items():
        if name.startswith("classify."):
            theirs[name.replace("classify", "classifier")] = tensor
            continue
        if isinstance(network, MobileViT2) and (inner := re.search(r"attention\.(score|key|value)\.(\w+)$", name)):
            parts = [state[name.replace(f".{inner[1]}.", f".{part}.")] for part in ("score", "key", "value")]
            name = name.replace(f".{inner[1]}.", ".qkv_proj.convolution.")
            tensor = torch.cat(parts)
        for ours, their in layer_names.items():
            name = re.sub(rf"(blocks\.\d+\.){re.escape(ours)}\.", rf"\1{their}.", name)
        if isinstance(network, MobileViT2) and tensor.ndim == 2:
            tensor = tensor[..., None, None]
        theirs[f"{prefix}.{their_name(name)}"] = tensor
    return theirs


def hugging_face_twin(network: Hybrid) -> nn.Module:
    """transformers' network of the same shape with our parameters and statistics, without dropout."""
    shape = network.config
    if isinstance(network, MobileViT2):
        config = MobileViTV2Config(width_multiplier=0.5, num_labels=shape.classes)
        twin, prefix, names = MobileViTV2ForImageClassification(config), "mobilevitv2", LAYER_2
    else:
        config = TheirConfig(
            hidden_sizes=list(shape.widths),
            neck_hidden_sizes=[*shape.channels, shape.final],
            expand_ratio=float(shape.expansion),
            num_labels=shape.classes,
            hidden_dropout_prob=0.0,
            classifier_dropout_prob=0.0,
        )
        twin, prefix, names = MobileViTForImageClassification(config), "mobilevit", LAYER_1
    twin = twin.double().eval()
    twin.load_state_dict(their_state(network, prefix, names))
    return twin
