"""A transformers.Trainer run as a `Run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor
from transformers import TrainerCallback

from trak_theory.errors import UnsupportedError
from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.torch_bridge.recorder import TrajectoryRecorder
from trak_theory.trajectory.run import Run


class TrajectoryCallback(TrainerCallback):
    """Pass it to `Trainer(callbacks=[…])`; after `train()`, `run()` is the recorded `Run`.

    objective   the Trainer's model with its per-sample loss and the training samples, inputs by the names of the
                model's arguments. A batch is recognised by the first of them, which must be distinct for all samples:
                so no order of a sampler has to be known
    every, directory, check_every   as in `TrajectoryRecorder`

    The Trainer's loss must be the mean of the objective's over the batch: with labels of unequal lengths the model's
    own loss is a mean over tokens instead, and `compute_loss_func` has to be given. Set bf16 and fp16 to False.
    """

    def __init__(
        self,
        objective: TorchObjective,
        *,
        every: int = 1,
        directory: Path | str | None = None,
        check_every: int = 1,
    ) -> None:
        if not objective.rows.named:
            raise ValueError("give the objective's inputs by name, as the Trainer gives them to the model")
        self.objective = objective
        self._name, known = next(iter(objective.rows.named.items()))
        self._place = {_key(row): i for i, row in enumerate(known)}
        if len(self._place) < objective.n:
            raise UnsupportedError(
                f"{objective.n - len(self._place)} samples repeat another's {self._name!r}, so that the order of a "
                "batch cannot be told from it; remove the duplicates"
            )
        self._settings: dict[str, Any] = {"every": every, "directory": directory, "check_every": check_every}
        self._recorder: TrajectoryRecorder | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        if args.bf16 or args.fp16:
            raise UnsupportedError("the Trainer runs in mixed precision; set bf16=False and fp16=False")
        if args.world_size > 1:
            raise UnsupportedError(
                f"the Trainer runs on {args.world_size} processes, each of which sees a part of a batch"
            )
        if args.optim_args or args.neftune_noise_alpha:
            raise UnsupportedError("optim_args and neftune_noise_alpha change the training; leave them out")
        optimizer = getattr(found["optimizer"], "optimizer", found["optimizer"])
        self._recorder = TrajectoryRecorder(
            self.objective, optimizer, clip_norm=args.max_grad_norm or None, **self._settings
        )
        self._hook = self.objective.model.module.register_forward_pre_hook(self._before_forward, with_kwargs=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        self._hook.remove()

    def run(self) -> Run:
        """What was recorded, once training is over."""
        if self._recorder is None:
            raise ValueError("nothing was recorded: give the callback to a Trainer and call its train()")
        return self._recorder.run()

    def _before_forward(self, module: Any, args: Any, named: dict[str, Any]) -> None:
        training = module.training and torch.is_grad_enabled() and self.objective.model.in_own_hands
        if training and self._recorder is not None:
            if self._name not in named:
                raise UnsupportedError(
                    f"the Trainer does not pass {self._name!r} by name; the batch cannot be recognised"
                )
            self._recorder.saw(self._recognise(named[self._name]))

    def _recognise(self, rows: Tensor) -> Array:
        found = [self._place.get(_key(row), -1) for row in rows]
        if -1 in found:
            raise UnsupportedError(
                f"row {found.index(-1)} of a batch is none of the objective's {self.objective.n} samples by its "
                f"{self._name!r}; give both the same rows, with the same padding"
            )
        return np.array(found)


def _key(row: Tensor) -> bytes:
    return row.detach().cpu().contiguous().numpy().tobytes()
