"""A plain torch training loop, recorded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from trak_theory.torch_bridge.module import read
from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.torch_bridge.recording.recorder import TrajectoryRecorder
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.states.training_step import mean_weights


def record_training(
    objective: TorchObjective,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[ArrayLike | Tensor],
    *,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    clip_norm: float | None = None,
    every: int = 1,
    directory: Path | str | None = None,
) -> Run:
    """Train the objective's module from its present parameters with a torch.optim optimiser; its `Run`.

    batches: sample indices, one array per step; the loss is their mean, by the objective's batch weights if it has any;
    `schedule` steps after every batch. The module is left at θ_T. Settings as in `TrajectoryRecorder`.
    """
    module, like = objective.model.module, next(iter(objective.model.parameters.values()))
    with TrajectoryRecorder(
        objective, optimizer, clip_norm=clip_norm, every=every, directory=directory, check_every=10
    ) as recorder:
        for batch in batches:
            recorder.saw(batch)
            args, named, targets = objective.rows.take(batch, like)
            optimizer.zero_grad()
            losses = objective.of_output(read(module(*args, **named)), targets)
            (mean_weights(objective, losses, np.asarray(batch)) * losses).sum().backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(objective.model.parameters.values(), clip_norm)
            optimizer.step()
            if schedule is not None:
                schedule.step()
    return recorder.run()
