"""`TrajectoryRecorder`: a user's own torch training loop as a `Run`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from torch import Tensor, nn

from trak_theory.errors import UnsupportedError
from trak_theory.numerics.checks import positive_count
from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.torch_bridge.preflight_checks import preflight, without_gradient
from trak_theory.torch_bridge.recording import recorded
from trak_theory.torch_bridge.recording.mismatch import Observed, explain
from trak_theory.torch_bridge.refusals import check_autocast, check_module
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.recorded import RecordedOptimizer
from trak_theory.trajectory.optimizer.steps import State, clip
from trak_theory.trajectory.run import Run, check_batches
from trak_theory.trajectory.states.checkpoints import Checkpoints
from trak_theory.trajectory.states.training_step import batch_weights, mean_gradient


class TrajectoryRecorder:
    """Watch a training loop and hand back its `Run`.

        with TrajectoryRecorder(objective, optimizer, clip_norm=1.0) as recorder:
            for indices in order:
                recorder.saw(indices)                 # once per backward pass: several accumulate
                loss(model(x[indices]), y[indices]).mean().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        run = recorder.run()

    objective     the module in training, with its per-sample loss and its training samples
    optimizer     torch.optim.SGD, Adam, AdamW or Muon, with parameter groups and schedules as they come; it may have
                  taken steps before: the run starts where the recorder is made
    clip_norm     the norm that the loop clips the gradient to, if it does
    every         states kept: every `every`-th, the others are replayed; `directory` keeps them on disk, in a folder
                  of this run's own
    check_every   steps between checks; the first step, and one that accumulates passes of unequal weight, are always
                  checked

    Before the first step the model goes through `preflight`. A step that is checked repeats the loop's gradient as the
    mean gradient of the samples it named (mixed precision, active dropout, another reduction of the loss, untold
    clipping or wrong samples all show there), and the update that torch made of it. What does not fit raises
    UnsupportedError. With check_every=10 recording costs about half a training run; 1 is for the first run of a loop.
    """

    def __init__(
        self,
        objective: TorchObjective,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        every: int = 1,
        directory: Path | str | None = None,
        check_every: int = 1,
    ) -> None:
        self.objective, self.optimizer, self.clip_norm = objective, optimizer, clip_norm
        self.check_every = positive_count("check_every", check_every)
        model = objective.model
        recorded.check_optimizer(optimizer, model)
        recorded.recipe(optimizer, model, clip_norm)  # refuses options that are not covered
        preflight(objective)
        self._fingerprint = objective.fingerprint()
        self._recipes: list[Optimizer] = []
        self._batches: list[Array] = []
        self._seen: list[Array] = []
        self._is_checked = True  # the step that comes
        self._before: State = ()
        self._raw: dict[str, Tensor] = {}  # norms of each parameter's gradient when the last backward pass ended
        self._made = RecordedOptimizer(self._recipes, recorded.steps_taken(optimizer, model))
        self._states = Checkpoints(objective, self._batches, self._made, positive_count("every", every), directory)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
            model.module.register_forward_pre_hook(self._before_forward),
            *(
                value.register_post_accumulate_grad_hook(partial(self._after_backward, name))
                for name, value in model.parameters.items()
            ),
        ]

    def __enter__(self) -> TrajectoryRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching."""
        for hook in self._hooks:
            hook.remove()

    def saw(self, indices: ArrayLike | Tensor) -> None:
        """The samples of the next backward pass; passes up to the optimiser's step accumulate into one batch."""
        array = np.asarray(indices.cpu() if isinstance(indices, Tensor) else indices)
        self._seen += check_batches([array], self.objective.n)
        self._is_checked = len(self._batches) % self.check_every == 0 or self._passes_weigh_differently()

    def run(self) -> Run:
        """The recorded run, once training is over; ends the recording."""
        if not self._batches:
            raise ValueError("no step was recorded: the optimiser has not stepped since the recorder was made")
        self.close()
        return Run(self.objective, tuple(self._batches), self._made, self._states, fingerprint=self._fingerprint)

    @property
    def _step(self) -> str:
        return f"step {len(self._batches)}"

    def _before_forward(self, module: nn.Module, args: tuple[object, ...]) -> None:
        if torch.is_grad_enabled() and module.training and self.objective.model.uses_own_parameters:
            check_autocast()
            check_module(module)

    def _after_backward(self, name: str, value: Tensor) -> None:
        if self._is_checked and value.grad is not None and not value.grad.is_sparse:
            self._raw[name] = torch.linalg.vector_norm(value.grad, dtype=torch.float64)

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        if any(value is not None for value in (*args[1:], kwargs.get("closure"))):
            raise UnsupportedError(
                "optimizer.step(closure) computes its gradient inside; call backward() before step()"
            )
        model, t = self.objective.model, len(self._batches)
        if not self._seen:
            raise UnsupportedError(
                f"{self._step}: the samples of this gradient are unknown, so that its order cannot be repeated; call "
                "recorder.saw(indices) before each backward pass, with a loader that yields sample indices"
            )
        recipe = recorded.recipe(optimizer, model, self.clip_norm)
        if self._recipes and recipe.slots != self._recipes[0].slots:
            raise UnsupportedError(f"{self._step}: momentum was switched on or off during the run")
        if t == 0:
            self._before = recorded.state(optimizer, model, recipe.slots)
            self._states.keep(0, self._before)
        elif not torch.equal(model.theta(), self._before[0]):
            raise UnsupportedError(
                f"{self._step}: the parameters changed between two steps of the optimiser (averaging? a reload?); only "
                "optimizer.step() may change them"
            )
        gradients, self._pending = self._gradients(), recipe
        if self._is_checked:
            self._gradient = torch.cat([part.detach().reshape(-1) for part in gradients])
            self._check_gradient(self._before[0])

    def _after_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        state = recorded.state(optimizer, self.objective.model, self._pending.slots)
        self._recipes.append(self._pending)
        if self._is_checked:
            self._check_update(state)
        self._batches.append(np.concatenate(self._seen))
        self._seen, self._raw = [], {}
        self._states.keep(len(self._batches), state)
        self._before = state

    def _passes_weigh_differently(self) -> bool:
        weights = {float(batch_weights(self.objective, part).sum()) for part in self._seen}
        return len(weights) > 1

    def _gradients(self) -> list[Tensor]:
        """∂/∂ each parameter, as the loop left it."""
        found = []
        for name, value in self.objective.model.parameters.items():
            if value.grad is None:
                raise UnsupportedError(f"{self._step}: {without_gradient(name)}")
            found.append(value.grad)
        return found

    def _check_gradient(self, theta: Tensor) -> None:
        seen = Observed(self._gradient, self._raw_norm(), tuple(self._seen), self.clip_norm)
        expected = mean_gradient(self.objective, theta, seen.batch)
        off = _relative(self._gradient - clip(expected, self.clip_norm), clip(expected, self.clip_norm))
        if seen.raw_norm is not None:  # clipping hides a wrong scale
            size = float(torch.linalg.vector_norm(expected, dtype=torch.float64))
            off = max(off, abs(seen.raw_norm - size) / max(size, torch.finfo(theta.dtype).tiny))
        if not off <= _tolerance(theta):
            raise UnsupportedError(
                f"{self._step}: the loop's gradient is {off:.2g} of its norm away from the mean gradient of the "
                f"samples that were named ({explain(self.objective, theta, seen, expected)})"
            )

    def _raw_norm(self) -> float | None:
        if len(self._raw) < len(self.objective.model.parameters):
            return None
        return float(torch.linalg.vector_norm(torch.stack(list(self._raw.values()))))

    def _check_update(self, after: State) -> None:
        t, before = len(self._batches), self._before
        recipe = self._made.at(t, before[0])
        change = replace(recipe, clip_norm=None).trained(before, self._gradient)[0]
        rounding = 4 * torch.finfo(change.dtype).eps * float(torch.linalg.vector_norm(before[0], dtype=torch.float64))
        off = float(torch.linalg.vector_norm(after[0] - before[0] - change))
        tolerance = max(_tolerance(change), self._recipes[-1].rounding)
        if not off <= tolerance * float(torch.linalg.vector_norm(change, dtype=torch.float64)) + rounding:
            raise UnsupportedError(
                f"{self._step}: the update made is {off:.2g} away from {type(self.optimizer).__name__}'s; does a hook "
                "or a wrapper change it?"
            )


def _tolerance(like: Tensor) -> float:
    return float(torch.finfo(like.dtype).eps) ** 0.5


def _relative(difference: Tensor, whole: Tensor) -> float:
    size = float(torch.linalg.vector_norm(whole, dtype=torch.float64))
    off = float(torch.linalg.vector_norm(difference, dtype=torch.float64))
    return off / size if size > 0 else off
