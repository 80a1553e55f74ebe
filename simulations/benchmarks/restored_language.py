"""Restored influence of every parameter of a pretrained language model: time in epochs of its training, and memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy import ndarray as Array

from simulations.benchmarks.timing import clock_of, machine

if TYPE_CHECKING:
    from torch import Tensor, nn

LEARNING_RATE, DECAY, BATCH = 1e-5, 0.01, 8
FRACTION = 0.5
Clock = Callable[[], float]
Samples = tuple[dict[str, "Tensor"], "Tensor"]


def main(
    sequences: Annotated[int, typer.Option(help="Training sequences.", min=BATCH)] = 512,
    length: Annotated[int, typer.Option(help="Tokens of each.", min=16)] = 48,
    queries: Annotated[int, typer.Option(help="Held-out sequences.", min=1)] = 8,
    k: Annotated[int, typer.Option(help="Width of the sketch.", min=1)] = 4096,
    shard: Annotated[int, typer.Option(help="Sequences of a shard, which is on disk once it is done.", min=1)] = 64,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the shards here: a killed run goes on, its time is of the rest.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of sequences, batches and sketch.")] = 0,
) -> None:
    """SmolLM2-135M, all parameters, float32: one epoch of AdamW, then `restored` of every sequence.

    Processor time of one thread, wall time of several.
    """
    import torch

    from trak_theory.torch_bridge import NextTokenLoss, restored

    torch.set_num_threads(threads)
    clock = clock_of(threads)
    drawing, ordering, sketching = np.random.default_rng(seed).spawn(3)
    model, training, held_out = _setting(sequences, queries, length, drawing)
    p = sum(part.numel() for part in model.parameters())
    of_torch = "1 thread" if threads == 1 else f"{threads} threads"
    typer.echo(f"{machine()}, {of_torch} of torch; p = {p}, n = {sequences}, {length} tokens, k = {k}\n")
    typer.echo("| | s | epochs | peak so far, GiB |\n|---|---|---|---|")
    batches = ordering.permutation(sequences)[: sequences // BATCH * BATCH].reshape(-1, BATCH)
    scales, recipe, epoch = _trained(model, training, batches, clock)
    rows = Table(epoch)
    rows.add(f"one epoch, AdamW, batches of {BATCH}", epoch)
    with TemporaryDirectory() as own:
        start, passed = clock(), dict[int, float]()
        found = restored(
            model,
            training,
            held_out,
            recipe,
            fraction=FRACTION,
            k=k,
            loss=NextTokenLoss(),
            scales=scales,
            folder=folder or Path(own),
            shard_rows=shard,
            progress=lambda shards: _told(shards, passed, clock),
            rng=sketching,
        )
        end, done = clock(), max(passed.values())
    rows.add("gradient and 2 directions a sequence, sketched", done - start)
    rows.add(f"{queries} queries, {k} × {k} eigenvalues, scores, error bars", end - done)
    size = np.sqrt(np.mean(found.scores**2))
    typer.echo(
        f"\n{found.effective_dimension:.0f} degrees of freedom, ridge {found.ridge:.2g}; "
        f"error bars of the sketch {np.sqrt(np.mean(found.sd**2)) / size:.2f} of the scores (rms)"
    )


@dataclass(frozen=True)
class Table:
    epoch: float

    def add(self, what: str, seconds: float) -> None:
        unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
        typer.echo(f"| {what} | {seconds:.0f} | {seconds / self.epoch:.1f} | {peak:.1f} |")


def _told(shards: Iterable[int], ends: dict[int, float], clock: Clock) -> Iterator[int]:
    """The shards, and in `ends` when each was done; they are read once more later."""
    for shard in shards:
        yield shard
        if shard not in ends:
            ends[shard] = clock()
            typer.echo(f"shard {shard} is done", err=True)


def _setting(sequences: int, queries: int, length: int, rng: np.random.Generator) -> tuple[nn.Module, Samples, Samples]:
    """The model, sequences to train on, and held-out ones; only the answers to instructions count."""
    import torch

    from trak_theory.torch_bridge.settings.language import SILENT, pretrained_smollm2
    from trak_theory.torch_bridge.settings.text import CHATML, instruction_sequences

    model, tokenizer = pretrained_smollm2()
    pretrained_smollm2.cache_clear()  # this one is trained
    drawn = instruction_sequences(tokenizer, CHATML, length=length, count=sequences + queries, rng=rng)
    tokens = torch.from_numpy(drawn.tokens)
    labels = torch.where(torch.from_numpy(drawn.counted), tokens, SILENT)

    def of(rows: slice) -> Samples:
        return {"input_ids": tokens[rows]}, labels[rows]

    return model, of(slice(sequences)), of(slice(sequences, None))


def _trained(model: nn.Module, samples: Samples, batches: Array, clock: Clock) -> tuple[Array, float, float]:
    """Scales and ridge of one epoch of AdamW, and its seconds; the optimiser's state is freed."""
    import torch

    from trak_theory.torch_bridge import next_token_loss, training_coordinates

    (inputs, labels), start = samples, clock()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=DECAY)
    for batch in batches:
        optimizer.zero_grad()
        logits = model(input_ids=inputs["input_ids"][batch]).logits
        next_token_loss(logits, labels[batch]).mean().backward()
        optimizer.step()
    optimizer.zero_grad()
    seconds = clock() - start
    scales, recipe = training_coordinates(model, optimizer, len(labels), schedule=np.ones(len(batches)))
    return scales, recipe, seconds
