"""Torch modules and training loops as what the theory speaks of. Needs the extra `torch`."""

from trak_theory.errors import UnsupportedError
from trak_theory.torch_bridge.loop import record_training
from trak_theory.torch_bridge.objective import TorchObjective, cross_entropy
from trak_theory.torch_bridge.recorder import TrajectoryRecorder
from trak_theory.torch_bridge.selection import BatchSelector

__all__ = [
    "BatchSelector",
    "TorchObjective",
    "TrajectoryRecorder",
    "UnsupportedError",
    "cross_entropy",
    "record_training",
]
