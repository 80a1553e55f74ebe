"""A transformers.Trainer run as a `Run`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trak_theory.errors import UnsupportedError
from trak_theory.torch_bridge.objective import TorchObjective
from trak_theory.torch_bridge.preflight_checks import in_training_mode
from trak_theory.torch_bridge.recording.recorder import TrajectoryRecorder
from trak_theory.trajectory.run import Run

REFUSED = {  # arguments that change the training beyond what a trajectory holds, and what to do
    "bf16": "trains in mixed precision; set bf16=False",
    "fp16": "trains in mixed precision; set fp16=False",
    "gradient_checkpointing": "has no second derivative; set it to False: it saves memory and changes no number",
    "torch_compile": "hides the module from its derivatives; set it to False",
    "optim_args": "changes the optimiser; leave it out",
    "neftune_noise_alpha": "adds noise to the embeddings; leave it out",
    "label_smoothing_factor": "changes the loss; leave it out, or write it into compute_loss_func and the objective",
    "use_liger_kernel": "replaces kernels by ones without a second derivative; leave it out",
    "deepspeed": "spreads the model over processes; train on one",
    "fsdp": "spreads the model over processes; train on one",
}


class TrajectoryCallback(TrainerCallback):
    """Pass it to `Trainer(callbacks=[…])`; after `train()`, `run()` is the recorded `Run`.

    objective   the Trainer's model with its per-sample loss and the training samples, inputs by the names of the
                model's arguments. A batch is recognised by its `input_ids`, or else the first input, where its
                `attention_mask` is 1; they must be distinct for all samples, and no order of a sampler has to be known
    every, directory, check_every   as in `TrajectoryRecorder`

    The Trainer's loss must be the objective's mean over the batch. `causal_lm_objective` makes the objective of a
    causal language model with its default loss, the mean over all tokens of a batch. Before the first step the
    arguments, the model in training mode (`preflight`) and the first gradient are checked; what does not
    fit raises UnsupportedError.
    """

    def __init__(
        self,
        objective: TorchObjective,
        *,
        every: int = 1,
        directory: Path | str | None = None,
        check_every: int = 1,
    ) -> None:
        named = objective.rows.named
        if not named:
            raise ValueError("give the objective's inputs by name, as the Trainer gives them to the model")
        self.objective = objective
        self._name = "input_ids" if "input_ids" in named else next(iter(named))
        self._place = {key: i for i, key in enumerate(self._keys(named))}
        if len(self._place) < objective.n:
            raise UnsupportedError(
                f"{objective.n - len(self._place)} samples repeat another's {self._name!r}, so that the order of a "
                "batch cannot be told from it; remove the duplicates"
            )
        self._recording = partial(
            TrajectoryRecorder, objective, every=every, directory=directory, check_every=check_every
        )
        self._recorder: TrajectoryRecorder | None = None
        self._hook: RemovableHandle | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **found: Any,
    ) -> None:
        _check_arguments(args)
        module = self.objective.model.module
        if found["model"] is not module:
            raise UnsupportedError("the Trainer trains another model than the objective's; give both the same one")
        _check_passes(args, module, self.objective)
        self._stop()
        optimizer = getattr(found["optimizer"], "optimizer", found["optimizer"])  # accelerate wraps it
        with in_training_mode(module):
            self._recorder = self._recording(optimizer, clip_norm=args.max_grad_norm or None)
        self._hook = module.register_forward_pre_hook(self._before_forward, with_kwargs=True)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._stop()

    def run(self) -> Run:
        """The recorded run, once training is over."""
        if self._recorder is None:
            raise ValueError("nothing was recorded: give the callback to a Trainer and call its train()")
        return self._recorder.run()

    def _stop(self) -> None:
        if self._recorder is not None and self._hook is not None:
            self._hook.remove()
            self._recorder.close()

    def _before_forward(self, module: nn.Module, args: tuple[object, ...], named: dict[str, Tensor]) -> None:
        training = module.training and torch.is_grad_enabled() and self.objective.model.uses_own_parameters
        if training and self._recorder is not None:
            if self._name not in named:
                raise UnsupportedError(
                    f"the Trainer does not pass {self._name!r} by name; the batch cannot be recognised"
                )
            self._recorder.saw(self._recognise(named))

    def _recognise(self, named: Mapping[str, Tensor]) -> Array:
        found = [self._place.get(key, -1) for key in self._keys(named)]
        if -1 in found:
            raise UnsupportedError(
                f"row {found.index(-1)} of a batch is none of the objective's {self.objective.n} samples by its "
                f"{self._name!r}; give both the same rows, with the same padding or an attention_mask"
            )
        return np.array(found)

    def _keys(self, named: Mapping[str, Tensor]) -> list[bytes]:
        rows, mask = named[self._name], named.get("attention_mask")
        if mask is None or mask.shape != rows.shape or "attention_mask" not in self.objective.rows.named:
            return [_key(row) for row in rows]
        return [_key(row[own.bool()]) for row, own in zip(rows, mask, strict=True)]


def _key(row: Tensor) -> bytes:
    return row.detach().cpu().contiguous().numpy().tobytes()


def _check_arguments(args: TrainingArguments) -> None:
    for name, reason in REFUSED.items():
        value = getattr(args, name, None)
        if value:
            raise UnsupportedError(f"the Trainer's argument {name} = {value!r} {reason}")
    if args.world_size > 1 or args.n_gpu > 1:
        raise UnsupportedError(
            f"the Trainer runs on {max(args.world_size, args.n_gpu)} devices, each of which sees a part of a batch; "
            "make one visible (CUDA_VISIBLE_DEVICES=0)"
        )


def _check_passes(args: TrainingArguments, module: nn.Module, objective: TorchObjective) -> None:
    """Refuse a last step of an epoch whose accumulated passes differ in size, where their means are averaged."""
    size, passes = args.train_batch_size, args.gradient_accumulation_steps
    last = -(-objective.n // size) % passes or passes  # passes of the epoch's last step
    if args.dataloader_drop_last or last == 1 or objective.n % size == 0 or _divides_by_items(module):
        return
    raise UnsupportedError(
        f"{objective.n} samples in passes of {size} leave {objective.n % size} to the last of the {last} passes "
        "that an epoch's last step accumulates, and the Trainer averages their means: samples would weigh differently; "
        "set dataloader_drop_last=True or another batch size"
    )


def _divides_by_items(module: nn.Module) -> bool:
    """True if the Trainer divides by the number of items of a step's passes, as for a forward with **kwargs."""
    base: Callable[[], nn.Module] | None = getattr(module, "get_base_model", None)  # of a PEFT model
    inner = module if base is None else base()
    if hasattr(inner, "accepts_loss_kwargs"):
        return bool(inner.accepts_loss_kwargs)
    return any(part.kind is part.VAR_KEYWORD for part in inspect.signature(inner.forward).parameters.values())
