"""Two domains of text for data selection: the prose of Python's language reference, and the code of its library."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.workloads.selection_setting import Setting
from trak_theory.trajectory import AdamW, train

MODULES = (
    "argparse",
    "ast",
    "configparser",
    "datetime",
    "decimal",
    "difflib",
    "inspect",
    "logging",
    "tarfile",
    "typing",
)
LENGTH, VOCABULARY = 24, 256
CODE, PROSE, VALIDATION, JUDGE, TEST = 700, 300, 100, 50, 300
WARM_UP, WARM_BATCH = 60, 16


def prose_and_code(rng: Generator) -> Setting:
    """Windows of 24 tokens; the warm-up is 60 steps of AdamW on as much prose as code, seen nowhere else."""
    import torch
    from transformers import GPT2LMHeadModel

    from trak_theory.torch_bridge.settings.language import gpt2_config, sequence_objective
    from trak_theory.torch_bridge.settings.text import Sequences, byte_level_bpe, paragraphs

    prose, code = [paragraph for _, paragraph in paragraphs()], library()
    tokenizer = byte_level_bpe([*prose, *code], VOCABULARY)
    warm = WARM_UP * WARM_BATCH // 2
    of_prose = windows(tokenizer, prose, PROSE + VALIDATION + JUDGE + TEST + warm, rng)
    of_code = windows(tokenizer, code, CODE + warm, rng)
    tokens = np.concatenate([of_code, of_prose])
    flawed = np.arange(len(tokens)) < CODE
    seen, rest = np.split(np.arange(len(of_code), len(tokens)), [PROSE + VALIDATION + JUDGE + TEST])
    chosen, validation, judge, test = np.split(seen, np.cumsum([PROSE, VALIDATION, JUDGE]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        model = GPT2LMHeadModel(gpt2_config("small")).double().eval()
    objective = sequence_objective(model, Sequences(tokens, np.ones(tokens.shape, bool)))
    both = rng.permutation(np.concatenate([np.arange(CODE, len(of_code)), rest])).reshape(WARM_UP, WARM_BATCH)
    start = train(objective, objective.theta(), list(both), AdamW(3e-3), every=WARM_UP).final

    def accuracy(theta: Any, samples: Array) -> float:
        predicted = objective.outputs(theta, samples).argmax(-1)
        return float((predicted == torch.from_numpy(tokens[samples, 1:])).double().mean())

    candidates = np.concatenate([np.arange(CODE), chosen])
    return Setting(objective, accuracy, start, flawed, candidates, validation, judge, test)


def library() -> list[str]:
    """The source code of some modules of the standard library."""
    return [Path(str(import_module(name).__file__)).read_text(encoding="utf-8") for name in MODULES]


def windows(tokenizer: object, texts: list[str], count: int, rng: Generator) -> Array:
    """`count` random windows of LENGTH tokens of the texts, no token in two of them."""
    tokens = np.concatenate([encoding.ids for encoding in tokenizer.encode_batch(texts)])  # type: ignore[attr-defined]
    cut = tokens[: len(tokens) - len(tokens) % LENGTH].reshape(-1, LENGTH)
    return cut[rng.permutation(len(cut))[:count]]
