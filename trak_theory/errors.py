"""Every exception that the library raises under a name of its own."""

from __future__ import annotations

import numpy as np


class RankDeficientError(np.linalg.LinAlgError):
    """The Hessian has no inverse in floating point: there is no unique minimiser."""


class NoMinimiserError(ValueError):
    """The objective has no minimiser (separable data without a ridge)."""


class ConvergenceError(RuntimeError):
    """Newton's method stopped short of the tolerance; the message carries the numbers."""


class IndefiniteHessianError(ConvergenceError):
    """A stationary point that is no strict minimum: leave-one-out has no unique continuation from it."""


class DeadNetworkError(ValueError):
    """Every hidden unit is constant on the training points: the network is a constant."""


class UnsupportedError(ValueError):
    """A model or a loop that a trajectory cannot describe."""
