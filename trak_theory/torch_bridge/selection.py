"""Data selection in a torch loop of one's own: which candidates of the next batch to train on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.torch_bridge.preflight_checks import preflight
from trak_theory.torch_bridge.recording import recorded
from trak_theory.trajectory.query import loss_query
from trak_theory.trajectory.selection.lookahead import lookahead
from trak_theory.trajectory.selection.select import check_horizon, check_validation, kept_sizes, lowest
from trak_theory.trajectory.sweep.push import Estimator


class BatchSelector:
    """Choose the candidates to train on by their look-ahead scores, before each step of a torch loop.

        selector = BatchSelector(objective, optimizer, validation, keep=0.5, horizon=4)
        for t in range(len(candidates)):
            kept = selector(candidates[t:])
            loss(model(x[kept]), y[kept]).mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)   # clip_norm=1.0, if the loop clips
            optimizer.step()
            optimizer.zero_grad()

    objective    the module in training, with its per-sample loss; its samples hold candidates and validation samples
    optimizer    torch.optim.SGD, Adam or AdamW; parameters, moments and settings are read off it at every call
    validation   sample indices whose mean loss the kept samples are to lower, none of them a candidate
    keep         share of the candidates to train on
    horizon K    read the loss off K steps later, where the steps ahead take the upcoming batches in full, with the
                 optimiser's present settings: a schedule is held still; None: to the end of what is passed

    The model is not changed: scoring works on copies of its parameters. Scores as in `trajectory.lookahead`.
    """

    def __init__(
        self,
        objective: TorchObjective,
        optimizer: torch.optim.Optimizer,
        validation: ArrayLike,
        *,
        keep: float,
        horizon: int | None = 0,
        estimator: Estimator = "first-order",
        clip_norm: float | None = None,
    ) -> None:
        recorded.check_optimizer(optimizer, objective.model)
        preflight(objective)
        self.objective, self.optimizer, self.clip_norm = objective, optimizer, clip_norm
        self.keep, self.horizon, self.estimator = keep, check_horizon(horizon), estimator
        self.validation = check_validation(validation, objective.n)
        self.query = loss_query(objective, self.validation, mean=True)

    def __call__(self, candidates: Sequence[ArrayLike]) -> Array:
        """The samples to train on now, of the batch candidates[0]; candidates[1:] are the batches after it.

        The horizon ends with the batches that are passed.
        """
        left = len(candidates) - 1
        reach = left if self.horizon is None else min(self.horizon, left)
        batches = [np.asarray(batch) for batch in candidates[: reach + 1]]
        check_validation(self.validation, self.objective.n, batches)
        (size,) = kept_sizes(batches[:1], self.keep)
        if size == len(batches[0]):
            return batches[0]
        model = self.objective.model
        recipe = recorded.recipe(self.optimizer, model, self.clip_norm)
        ahead = lookahead(
            self.objective,
            batches,
            self.query,
            recipe,
            recorded.state(self.optimizer, model, recipe.slots),
            first=recorded.steps_taken(self.optimizer, model),
            horizons=[reach],
            estimator=self.estimator,
        )
        return lowest(batches[0], ahead.influence[0], size)
