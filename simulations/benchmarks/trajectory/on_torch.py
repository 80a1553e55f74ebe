"""Recording and attributing torch runs, in multiples of the plain torch loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from time import process_time

import numpy as np
import torch
import typer
from torch import Tensor, nn

from simulations.benchmarks.timing import side_by_side
from simulations.workloads.data import digits
from trak_theory.torch_bridge import TorchObjective
from trak_theory.torch_bridge.module import read
from trak_theory.torch_bridge.objective import cross_entropy
from trak_theory.torch_bridge.preflight_checks import preflight
from trak_theory.torch_bridge.recording.loop import record_training
from trak_theory.trajectory import Query, Run, SweepCost, attribute, attribute_samples, loss_query, sweep_cost
from trak_theory.trajectory.batches import shuffled_epochs
from trak_theory.trajectory.sweep.push import Estimator

N, SIZE, HELD_OUT, RATE = 200, 20, 64, 1e-3
TOKENS, VOCABULARY = 24, 256
ESTIMATORS: tuple[Estimator, ...] = ("first-order", "exact-push", "two-step", "frozen-push")
HEADER = "| what | time | × training run | said by `sweep_cost` |\n|---|---|---|---|"


@dataclass(frozen=True, eq=False)
class Work:
    """A model with its training samples, the same model with held-out ones, a start and the batches of a run."""

    objective: TorchObjective
    held_out: TorchObjective
    start: Tensor
    batches: list[np.ndarray]

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW of the model at its start."""
        self.objective.model.load(self.start)
        return torch.optim.AdamW(self.objective.model.module.parameters(), lr=RATE)

    def train(self) -> None:
        """The plain loop."""
        optimizer, module, rows = self.optimizer(), self.objective.model.module, self.objective.rows
        for batch in self.batches:
            args, named, targets = rows.take(batch, self.start)
            optimizer.zero_grad()
            self.objective.of_output(read(module(*args, **named)), targets).mean().backward()
            optimizer.step()

    def record(self, every: int = 1, directory: Path | None = None) -> Run:
        return record_training(self.objective, self.optimizer(), self.batches, every=every, directory=directory)

    def query(self, count: int) -> Query:
        """The mean held-out loss, or that of each of `count` held-out samples."""
        return loss_query(self.held_out, np.arange(count if count > 1 else HELD_OUT), mean=count == 1)


def work_on(name: str, p: int, steps: int, seed: int) -> Work:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    module, inputs, targets, loss = MODELS[name](p, np.random.default_rng(seed))
    held, own = slice(0, HELD_OUT), slice(HELD_OUT, HELD_OUT + N)
    return Work(
        TorchObjective(module, loss, inputs[own], targets[own]),
        TorchObjective(module, loss, inputs[held], targets[held]),
        torch.cat([value.detach().reshape(-1) for value in module.parameters()]),
        list(shuffled_epochs(N, size=SIZE, steps=steps, rng=np.random.default_rng(seed))),
    )


def table(name: str, p: int, steps: int, queries: int, repeats: int, seed: int) -> None:
    work = work_on(name, p, steps, seed)
    typer.echo(f"\n{name}, float32: n = {N}, |B| = {SIZE}, T = {steps}, p = {work.objective.p}\n\n{HEADER}")
    for line in measure(work, queries, repeats):
        typer.echo(line)


def measure(work: Work, queries: int, repeats: int) -> list[str]:
    run = work.record()
    tasks: dict[str, Callable[[], object]] = {"training run": work.train}
    tasks["preflight, once"] = lambda: preflight(work.objective)
    tasks["recorded, with preflight"] = work.record
    said: dict[str, SweepCost] = {}
    for count in dict.fromkeys((1, queries)):
        query, words = work.query(count), "one query" if count == 1 else f"{count} queries"
        for name in ESTIMATORS if count == 1 else ("first-order", "two-step"):
            tasks[f"{name}, {words}"] = lambda query=query, name=name: attribute(run, query, estimator=name)  # type: ignore[misc]
            said[f"{name}, {words}"] = sweep_cost(run, query, estimator=name)
        few = np.arange(N // 10)
        tasks[f"two-step of {len(few)} samples, {words}"] = lambda query=query, few=few: attribute_samples(  # type: ignore[misc]
            run, query, few, estimator="two-step"
        )
    timings = side_by_side(*tasks.values(), repeats=repeats, clock=process_time)
    floor = timings[0].median
    return [
        f"| {name} | {1e3 * timing.median:.1f} ms | {timing.median / floor:.2f} | {_runs(said.get(name), floor)} |"
        for name, timing in zip(tasks, timings, strict=True)
    ]


def _runs(said: SweepCost | None, floor: float) -> str:
    """In multiples of the plain loop."""
    return "" if said is None else f"{said.seconds / floor:.2f}"


Parts = tuple[nn.Module, Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]


def mlp(p: int, rng: np.random.Generator) -> Parts:
    """A tanh network 64-h-h-10 of about p parameters on the digits."""
    features, labels = digits()
    order = rng.permutation(len(labels))[: HELD_OUT + N]
    width = (isqrt(76**2 + 4 * p) - 76) // 2  # h² + 76h + 10 = p
    layers = (nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))
    inputs, targets = torch.from_numpy(features[order]).float(), torch.from_numpy(labels[order])
    return nn.Sequential(*layers), inputs, targets, cross_entropy


def gpt2(p: int, rng: np.random.Generator) -> Parts:
    """A GPT-2 of two layers and about p parameters on English text of 24 tokens a sample."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from trak_theory.torch_bridge.settings.language import gpt2_config, token_cross_entropy
    from trak_theory.torch_bridge.settings.text import text_sequences

    width = 2 * max(1, round((isqrt(280**2 + 96 * p) - 280) / 96))  # 24h² + 280h = p
    config = GPT2Config(**{**gpt2_config("small").to_dict(), "n_embd": width, "attn_implementation": "eager"})
    sequences = text_sequences(vocabulary=VOCABULARY, length=TOKENS, count=HELD_OUT + N, rng=rng)
    tokens = torch.from_numpy(sequences.tokens)
    return GPT2LMHeadModel(config).eval(), tokens[:, :-1], tokens[:, 1:], token_cross_entropy


MODELS: dict[str, Callable[[int, np.random.Generator], Parts]] = {"mlp": mlp, "gpt2": gpt2}
