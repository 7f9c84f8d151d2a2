"""Tiny networks of many families, with random weights so large that masks and biases matter; nobody trained them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers as library
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
TEXT = {"vocab_size": 64, "max_position_embeddings": 48, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
IMAGE = {"image_size": 32, "patch_size": 8}
SHARED = {**SHAPE, **TEXT, "num_key_value_heads": 2}
WINDOWED = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
PAIR = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCE = ["the", "old", "man", "was", "not", "at", "home", ",", "she", "said", "."]
WORDS = [*SPECIAL, *SENTENCE, "##s", "cat", "dog", "a", "b", "c"]


class Family(NamedTuple):
    """One family: how its network is built, what it reads, and which masks and biases have to arrive."""

    build: Callable[[], nn.Module]
    reads: str  # "image", "text" (two, the first with padding), "tokens" (without), "pair", "sound"
    masks: tuple[frozenset[str], ...] = (frozenset(),)  # the kinds that some call has
    biases: frozenset[str] = frozenset()
    size: float = 3.0  # of its weights
    projected: bool = True  # whether its output projections reach the residual as they are


def of(model: str, config: str, options: dict[str, Any], reads: str, *masks: str, **more: Any) -> Family:
    """A family by the names of its classes; masks are written "causal band"."""
    kinds = tuple(frozenset(mask.split()) for mask in masks) or (frozenset[str](),)
    build = lambda: getattr(library, model)(getattr(library, config)(**options))  # noqa: E731
    return Family(build, reads, kinds, frozenset(more.pop("biases", ())), **more)


CAUSAL, PADDING, BAND = "causal key_padding", "key_padding", "causal band key_padding"
FAMILIES: dict[str, Family] = {
    "ViT": of("ViTModel", "ViTConfig", {**SHAPE, **IMAGE}, "image"),
    "DeiT": of("DeiTModel", "DeiTConfig", {**SHAPE, **IMAGE}, "image"),
    "DINOv2": of("Dinov2Model", "Dinov2Config", {**SHAPE, **IMAGE, "mlp_ratio": 2}, "image"),
    "DINOv2 with registers": of(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {**SHAPE, **IMAGE, "num_register_tokens": 3}, "image"
    ),
    "DINOv3": of("DINOv3ViTModel", "DINOv3ViTConfig", {**SHAPE, **IMAGE, "num_register_tokens": 2}, "image"),
    "BEiT": of(
        "BeitModel",
        "BeitConfig",
        {**SHAPE, **IMAGE, "use_relative_position_bias": True, "vocab_size": 8},
        "image",
        biases=["bias"],
    ),
    "SigLIP vision": of("SiglipVisionModel", "SiglipVisionConfig", {**SHAPE, **IMAGE}, "image"),
    "SigLIP text": of("SiglipTextModel", "SiglipTextConfig", {**SHAPE, **TEXT}, "text", PADDING),
    "CLIP vision": of("CLIPVisionModel", "CLIPVisionConfig", {**SHAPE, **IMAGE}, "image"),
    "CLIP text": of("CLIPTextModel", "CLIPTextConfig", {**SHAPE, **TEXT}, "text", CAUSAL),
    "Swin": of("SwinModel", "SwinConfig", WINDOWED, "image", "groups", biases=["relative position bias"]),
    "BERT": of("BertModel", "BertConfig", {**SHAPE, **TEXT}, "text", PADDING),
    "DistilBERT": of(
        "DistilBertModel",
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, **TEXT},
        "text",
        PADDING,
    ),
    "RoBERTa": of("RobertaModel", "RobertaConfig", {**SHAPE, **TEXT}, "text", PADDING),
    "ELECTRA": of("ElectraModel", "ElectraConfig", {**SHAPE, **TEXT, "embedding_size": 16}, "text", PADDING),
    "ALBERT": of("AlbertModel", "AlbertConfig", {**SHAPE, **TEXT, "embedding_size": 16}, "text", PADDING),
    "ModernBERT": of(
        "ModernBertModel",
        "ModernBertConfig",
        {**SHAPE, **TEXT, "local_attention": 6, "global_attn_every_n_layers": 2},
        "text",
        PADDING,
        "band key_padding",
    ),
    "GPT-2": of(
        "GPT2Model", "GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48, **TEXT}, "text", CAUSAL
    ),
    "GPT-NeoX": of("GPTNeoXModel", "GPTNeoXConfig", {**SHAPE, **TEXT}, "text", CAUSAL),
    "Llama": of("LlamaModel", "LlamaConfig", SHARED, "text", CAUSAL),
    "Qwen2": of("Qwen2Model", "Qwen2Config", SHARED, "text", CAUSAL),
    "Qwen3": of("Qwen3Model", "Qwen3Config", {**SHARED, "head_dim": 8}, "text", CAUSAL),
    "Mistral": of("MistralModel", "MistralConfig", {**SHARED, "sliding_window": 4}, "text", BAND),
    "Gemma 2": of(
        "Gemma2Model",
        "Gemma2Config",
        {**SHARED, "head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
        "text",
        CAUSAL,
        BAND,
        biases=["soft-cap"],
        projected=False,
    ),
    "Gemma 3": of(
        "Gemma3TextModel",
        "Gemma3TextConfig",
        {**SHARED, "head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
        "text",
        CAUSAL,
        BAND,
        projected=False,
    ),
    "Phi-3": of("Phi3Model", "Phi3Config", SHARED, "text", CAUSAL),
    "gpt-oss": of(
        "GptOssModel",
        "GptOssConfig",
        {**SHARED, "head_dim": 8, "sliding_window": 4, "num_local_experts": 2, "num_experts_per_tok": 1},
        "text",
        CAUSAL,
        BAND,
    ),
    "T5": of(
        "T5Model",
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, **TEXT},
        "pair",
        PADDING,
        "causal",
        biases=["position bias"],
        size=1.5,  # its scores are not scaled
    ),
    "BART": of("BartModel", "BartConfig", {**PAIR, **TEXT}, "pair", PADDING, "causal"),
    "Marian": of("MarianModel", "MarianConfig", {**PAIR, **TEXT}, "pair", PADDING, "causal"),
    "Whisper encoder": Family(
        lambda: library.WhisperModel(
            library.WhisperConfig(**PAIR, **TEXT, num_mel_bins=8, max_source_positions=12)
        ).get_encoder(),
        "mel",
    ),
    "Wav2Vec2": of(
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        {
            **SHAPE,
            "vocab_size": 8,
            "conv_dim": [8],
            "conv_kernel": [4],
            "conv_stride": [4],
            "num_feat_extract_layers": 1,
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 2,
            "feat_extract_norm": "group",
        },
        "sound",
    ),
}


def vision_text(**more: Any) -> dict[str, Any]:
    """The options of a network with two sides."""
    return {"text_config": {**SHAPE, **TEXT}, "vision_config": {**SHAPE, **IMAGE}, **more}


REFUSED: dict[str, Family] = {
    "Swin v2": of("Swinv2Model", "Swinv2Config", WINDOWED, "image"),
    "ViLT": of("ViltModel", "ViltConfig", {**SHAPE, **TEXT, **IMAGE}, "both"),
    "BLIP": of("BlipModel", "BlipConfig", {**vision_text(), "projection_dim": 16}, "both"),
    "DeBERTa v2": of("DebertaV2Model", "DebertaV2Config", {**SHAPE, **TEXT}, "text"),
    "MPNet": of("MPNetModel", "MPNetConfig", {**SHAPE, **TEXT}, "text"),
    "Bloom": of("BloomModel", "BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4, **TEXT}, "text"),
    "MobileViT": of(
        "MobileViTModel", "MobileViTConfig", {"image_size": 128, "patch_size": 2, "num_attention_heads": 4}, "image"
    ),
    "PVT v2": of(
        "PvtV2Model",
        "PvtV2Config",
        {
            "hidden_sizes": [8, 16, 16, 16],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 2],
            "sr_ratios": [2, 1, 1, 1],
        },
        "image",
    ),
    "SAM": of(
        "SamVisionModel",
        "SamVisionConfig",
        {**SHAPE, **IMAGE, "output_channels": 8, "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 32},
        "image",
    ),
    "GIT": of("GitModel", "GitConfig", {**SHAPE, **TEXT, "vision_config": {**SHAPE, **IMAGE}}, "both"),
    "Mamba": of("MambaModel", "MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, **TEXT}, "tokens"),
    "ResNet": of(
        "ResNetModel",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"},
        "image",
    ),
}


def built(family: Family, seed: int = 0) -> Any:
    """The network of a family, with weights from a seed."""
    torch.manual_seed(seed)
    return enlarge(family.build(), family.size)


def enlarge(network: Any, size: float = 3.0) -> Any:
    """A network whose scores differ by so much that a lost mask or bias shows."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, size / parameter.shape[-1] ** 0.5)
            elif name.endswith("bias") or "sinks" in name or "lambda" in name:
                parameter.normal_(0, 0.5)
    return network.eval()


def inputs(family: Family) -> dict[str, torch.Tensor]:
    """Two inputs; of texts the first has padding at its end."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 60, (2, 10), generator=generator)
    padding = torch.ones_like(ids)
    padding[0, 7:] = 0
    size = 128 if family is REFUSED["MobileViT"] else 32
    pixels = {"pixel_values": torch.randn(2, 3, size, size, generator=generator)}
    text = {"input_ids": ids, "attention_mask": padding}
    return {
        "image": pixels,
        "text": text,
        "tokens": {"input_ids": ids},
        "pair": {**text, "decoder_input_ids": ids[:, :7]},
        "both": {**text, **pixels},
        "mel": {"input_features": torch.randn(2, 8, 24, generator=generator)},
        "sound": {"input_values": torch.randn(2, 60, generator=generator)},
    }[family.reads]


def tokenizer() -> Any:
    """A tokenizer of word pieces as BERT's, of few words."""
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "pad": "[PAD]", "unk": "[UNK]"}
    return library.PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{role}_token": name for role, name in names.items()}
    )


class Processor:
    """The settings of an image processor."""

    def __init__(self, size: int = 32):
        self.size = size

    def to_dict(self) -> dict[str, Any]:
        """As a processor of the library says them."""
        return {"size": {"height": self.size, "width": self.size}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
