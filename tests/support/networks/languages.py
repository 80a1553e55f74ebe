"""Tiny language models and runs for the tests, and a saved checkpoint of one. Needs torch and transformers."""

from __future__ import annotations

from functools import cache

import numpy as np

from trak_theory.torch_bridge.settings import language as settings
from trak_theory.torch_bridge.settings.text import CHATML, PLAIN, byte_level_bpe, paragraphs, text_sequences

TINY = settings.Size(length=12, n=16, batch=4, steps=5, warm_up=3, held_out=4, at_once=16)
MODELS = {"gpt2": settings.gpt2, "llama": settings.llama}


def tiny(name, size=TINY):
    """A small model with fewer and shorter sequences."""
    rng = np.random.default_rng(0)
    model = MODELS[name](rng=rng).model
    sequences = text_sequences(vocabulary=256, length=size.length, count=size.total, rng=rng)
    return settings.language_setting(model, sequences, size)


def warmed_run(setting, learning_rate=1e-3, seed=0):
    """A run after the warm-up, with the warm-up's optimiser."""
    optimizer = setting.adamw(learning_rate)
    setting.warm(optimizer)
    return setting.train(optimizer, np.random.default_rng(seed))


@cache
def tokenizer():
    """A `transformers` tokenizer of the text's own byte pairs."""
    from transformers import PreTrainedTokenizerFast

    texts = [*(paragraph for _, paragraph in paragraphs()), *[CHATML, PLAIN] * 100]
    trained = byte_level_bpe(texts, 512)
    return PreTrainedTokenizerFast(tokenizer_object=trained)


def saved_llama(folder):
    """A Llama of two layers with random weights, and its tokenizer, as `save_pretrained` writes them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=512, bos_token_id=0, eos_token_id=0, **shape))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model.eval()
