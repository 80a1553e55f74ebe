"""Torch modules and training loops as what the theory speaks of. Needs the extra `torch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trak_theory.errors import UnsupportedError, require

require("torch")

from trak_theory.torch_bridge.features import MARGIN, linearize, softmax_block
from trak_theory.torch_bridge.objective import TorchObjective, cross_entropy
from trak_theory.torch_bridge.preflight_checks import preflight
from trak_theory.torch_bridge.recording.loop import record_training
from trak_theory.torch_bridge.recording.recorder import TrajectoryRecorder
from trak_theory.torch_bridge.restoring.assembly import Restored
from trak_theory.torch_bridge.restoring.certified_solve import RestoredByCG
from trak_theory.torch_bridge.restoring.conjugate_gradients import restored_by_cg
from trak_theory.torch_bridge.restoring.coordinates import training_coordinates
from trak_theory.torch_bridge.restoring.influence import restored
from trak_theory.torch_bridge.restoring.output_losses import NextTokenLoss, SmallLoss, SoftmaxLoss
from trak_theory.torch_bridge.selection import BatchSelector
from trak_theory.torch_bridge.tokens import causal_lm_objective, next_token_loss, token_counts

if TYPE_CHECKING:
    from trak_theory.torch_bridge.recording.callback import TrajectoryCallback

__all__ = [
    "MARGIN",
    "BatchSelector",
    "NextTokenLoss",
    "Restored",
    "RestoredByCG",
    "SmallLoss",
    "SoftmaxLoss",
    "TorchObjective",
    "TrajectoryCallback",
    "TrajectoryRecorder",
    "UnsupportedError",
    "causal_lm_objective",
    "cross_entropy",
    "linearize",
    "next_token_loss",
    "preflight",
    "record_training",
    "restored",
    "restored_by_cg",
    "softmax_block",
    "token_counts",
    "training_coordinates",
]


def __getattr__(name: str) -> type[TrajectoryCallback]:
    if name == "TrajectoryCallback":  # imports transformers, which takes seconds
        from trak_theory.torch_bridge.recording.callback import TrajectoryCallback

        return TrajectoryCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
