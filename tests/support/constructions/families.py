"""Models of transformers, tiny and with random weights: right, or refused. Half of the sequences are padded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from support.constructions.setup import Case, N, Setup, adamw, labels, normal

LENGTH, WORDS = 6, 11
SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**SMALL, "vocab_size": WORDS}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ROUNDED = {"length": 1e-3, "rel": 0.02}  # where the model computes in float32 inside


def made(name: str, **settings: Any) -> Callable[[], Any]:
    """A factory of the class `name` with the class's own configuration."""

    def build() -> Any:
        import transformers

        kind = getattr(transformers, name)
        return kind(kind.config_class(**settings))

    return build


def padded() -> dict[str, Tensor]:
    words = torch.randint(2, WORDS, (N, LENGTH), generator=torch.Generator().manual_seed(4))
    mask = torch.arange(LENGTH)[None] < LENGTH - torch.arange(N)[:, None] % 2 * 2
    return {"input_ids": words * mask, "attention_mask": mask.long()}


def next_words(z: Tensor, y: Tensor) -> Tensor:
    losses = functional.cross_entropy(z[:, :-1].transpose(1, 2), y[:, 1:], ignore_index=-100, reduction="none")
    return losses.sum(1) / (y[:, 1:] != -100).sum(1)


def logits(output: Any) -> Tensor:
    return output.logits


def classifier(name: str, **settings: Any) -> Setup:
    return Setup(made(name, **settings), padded(), labels(classes=2), read=logits)


def language(name: str, *, rounded: bool = False, **settings: Any) -> Setup:
    inputs = padded()
    targets = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    return Setup(made(name, **settings), inputs, targets, next_words, read=logits, **(ROUNDED if rounded else {}))


def images(name: str, size: int, **settings: Any) -> Setup:
    return Setup(made(name, **settings), {"pixel_values": normal(N, 3, size, size)}, labels(classes=2), read=logits)


def grouped(name: str, **settings: Any) -> Setup:
    return language(name, rounded=True, num_key_value_heads=1, **TEXT, **settings)


def t5() -> Setup:
    words = padded()["input_ids"]
    sizes = {"vocab_size": WORDS, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    module = made("T5ForConditionalGeneration", dropout_rate=0.0, **sizes)
    inputs = {"input_ids": words, "decoder_input_ids": words}
    return Setup(module, inputs, words, next_words, read=logits, optimizer=adamw, **ROUNDED)


def mamba() -> Setup:
    sizes = {"vocab_size": WORDS, "hidden_size": 8, "num_hidden_layers": 1, "state_size": 2}
    return replace(language("MambaForCausalLM", rounded=True, **sizes), length=1e-4)


VISION = {**SMALL, **NO_DROPOUT, "image_size": 8, "patch_size": 4}
OPT = {"vocab_size": WORDS, "hidden_size": 8, "word_embed_proj_dim": 8, "num_hidden_layers": 1, "ffn_dim": 8}
RESNET = {"embedding_size": 4, "hidden_sizes": [4], "depths": [1]}
GROUP = "models of transformers"
FAMILIES = [
    Case(
        GROUP,
        "BERT, sequence classification",
        lambda: classifier("BertForSequenceClassification", **TEXT, **NO_DROPOUT),
    ),
    Case(
        GROUP,
        "DeBERTa v2",
        lambda: classifier("DebertaV2ForSequenceClassification", **TEXT, **NO_DROPOUT, pooler_dropout=0.0),
    ),
    Case(GROUP, "ViT", lambda: images("ViTForImageClassification", 8, **VISION)),
    Case(GROUP, "GPT-NeoX", lambda: language("GPTNeoXForCausalLM", **TEXT)),
    Case(GROUP, "OPT", lambda: language("OPTForCausalLM", **OPT, num_attention_heads=2, dropout=0.0)),
    Case(GROUP, "T5", t5),
    Case(GROUP, "Llama", lambda: grouped("LlamaForCausalLM")),
    Case(GROUP, "Qwen 2", lambda: grouped("Qwen2ForCausalLM")),
    Case(GROUP, "Mistral", lambda: grouped("MistralForCausalLM")),
    Case(GROUP, "Gemma 2", lambda: grouped("Gemma2ForCausalLM", head_dim=4)),
    Case(
        GROUP,
        "Mamba",
        mamba,
    ),
    Case(
        GROUP,
        "BERT with its default dropout",
        lambda: classifier("BertForSequenceClassification", **TEXT),
        "drops at random .*set p = 0",
    ),
    Case(
        GROUP,
        "ResNet, with BatchNorm",
        lambda: images("ResNetForImageClassification", 16, **RESNET),
        "takes its mean and variance from the batch",
    ),
]
