"""Arguments of `transformers.Trainer` and models that it trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trak_theory.torch_bridge import TorchObjective, TrajectoryCallback, causal_lm_objective
from trak_theory.trajectory import Run

ROWS, WORDS = 12, 20


@dataclass(frozen=True)
class TrainerCase:
    """One row of the table. arguments: of `TrainingArguments`; model: a factory; refused, remark as in `Case`."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    model: Callable[[], Any] = lambda: llama()
    refused: str | None = None
    remark: str = ""
    group: str = "Trainer"
    other_model: bool = False


def llama(**settings: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": False, "max_position_embeddings": 16}
    return LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, **sizes, **marks, **settings))


def gpt2(**dropout: float) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    rates = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, **dropout}
    sizes = {"n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, **sizes, **rates))


def lora(**settings: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        llama(), LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], **settings)
    )


class Classifier(nn.Module):
    """A model without **kwargs in forward: the Trainer averages the means of accumulated passes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(WORDS, 6), nn.Linear(6, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        weight = attention_mask[..., None].to(self.embed.weight.dtype)
        logits = self.head((torch.tanh(self.embed(input_ids)) * weight).sum(1) / weight.sum(1))
        return (
            {"logits": logits}
            if labels is None
            else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
        )


def rows(n: int) -> list[dict[str, Any]]:
    """Sequences of unequal lengths whose first labels, the prompt, are masked; distinct from each other."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for k in range(n):
        length = 4 + k % 4
        words = torch.randint(1, WORDS, (length,), generator=generator).tolist()
        made.append({"input_ids": words, "labels": [-100] * (k % 3) + words[k % 3 :]})
    return made


def collate(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Padded on the right to the longest of these samples."""
    longest = max(len(sample["input_ids"]) for sample in samples)

    def padded(name: str, value: int) -> Tensor:
        return torch.tensor([sample[name] + [value] * (longest - len(sample[name])) for sample in samples])

    mask = [[1] * len(sample["input_ids"]) + [0] * (longest - len(sample["input_ids"])) for sample in samples]
    labels = [sample["labels"] for sample in samples]
    marks = torch.tensor(labels) if isinstance(labels[0], int) else padded("labels", -100)
    return {"input_ids": padded("input_ids", 0), "attention_mask": torch.tensor(mask), "labels": marks}


def record(case: TrainerCase, folder: Path) -> Run:
    """Train with the case's arguments, recorded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PEFT, about names in the next version of transformers
        return _record(case, folder)


def _record(case: TrainerCase, folder: Path) -> Run:
    from transformers import Trainer, TrainingArguments

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = case.model()
    data = rows(ROWS)
    if isinstance(model, Classifier):
        data = [{**row, "labels": k % 3} for k, row in enumerate(data)]
        batch = collate(data)
        labels = batch.pop("labels")
        objective = TorchObjective(model, partial(nn.functional.cross_entropy, reduction="none"), batch, labels)
    else:
        objective = causal_lm_objective(model, collate(data))
    quiet = {"report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    usual = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    callback = TrajectoryCallback(objective)
    arguments = TrainingArguments(str(folder), **{**quiet, **usual, **case.arguments})
    trained = case.model() if case.other_model else model
    Trainer(trained, arguments, train_dataset=data, data_collator=collate, callbacks=[callback]).train()
    return callback.run()


C = TrainerCase
TRAINER = [
    C("the default arguments"),
    C("SGD, constant rate", {"optim": "sgd", "lr_scheduler_type": "constant"}),
    C("cosine with warm-up, weight decay", {"lr_scheduler_type": "cosine", "warmup_steps": 2, "weight_decay": 0.1}),
    C("gradient accumulation, unequal lengths", {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}),
    C("accumulation over uneven passes", {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 5}),
    C("clipping, max_grad_norm", {"max_grad_norm": 0.1}),
    C("no clipping, max_grad_norm=0", {"max_grad_norm": 0.0}),
    C("GPT-2 without dropout", model=gpt2, remark="the Trainer divides by L where L − 1 tokens are predicted"),
    C("LoRA with PEFT's defaults", model=lora),
    C("a classifier with a loss of its own", model=Classifier),
    C("GPT-2 with its default dropout", model=lambda: gpt2(resid_pdrop=0.1), refused="drops at random .*set p = 0"),
    C("LoRA with lora_dropout", model=lambda: lora(lora_dropout=0.1), refused="drops at random .*set p = 0"),
    C("attention_dropout of Llama", model=lambda: llama(attention_dropout=0.1), refused="set it to 0 in the config"),
    C("bf16=True", {"bf16": True}, refused="set bf16=False"),
    C("neftune_noise_alpha", {"neftune_noise_alpha": 5.0}, refused="adds noise to the embeddings; leave it out"),
    C("label_smoothing_factor", {"label_smoothing_factor": 0.1}, refused="changes the loss; leave it out"),
    C("gradient_checkpointing", {"gradient_checkpointing": True}, refused="set it to False"),
    C("optim='adafactor'", {"optim": "adafactor"}, refused="Adafactor is not covered; train with AdamW"),
    C(
        "uneven passes of a loss that is averaged",
        {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 5},
        Classifier,
        refused="set dataloader_drop_last=True",
    ),
    C("another model than the objective's", other_model=True, refused="another model than the objective's"),
]
