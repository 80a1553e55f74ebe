"""Paths predicted without a few samples, followed to the end of the run and read there. Source: ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from trak_theory.trajectory.convention import Convention
from trak_theory.trajectory.forward_mode import followed_paths
from trak_theory.trajectory.query import Query, as_numpy
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.sweep.reverse import Settings

LARGEST_DEFECT = 3.0  # what a lost path, or a reading of it that is lost, counts


@dataclass(frozen=True, eq=False)
class Tracked:
    """What is known without retraining about the end of the run without each of m samples.

    samples     (m,)
    defects     (m,) κ_i, distance of the predicted path from one that obeys the optimiser, see `path_defects`
    slope       (m, q) −⟨∇f(θ_T), δ_i⟩: the estimate, with δ_i the predicted displacement of θ_T
    displaced   (m, q) f(θ_T) − f(θ_T + δ_i): the query read at the predicted parameters
    """

    samples: Array
    defects: Array
    slope: Array
    displaced: Array

    @property
    def defect(self) -> float:
        """κ, the mean of the κ_i, each at most 3."""
        return float(np.minimum(self.defects, LARGEST_DEFECT).mean())

    @property
    def query_defect(self) -> float:
        """κ_q = ‖displaced − slope‖/‖slope‖ over the samples, at most 3; mean over the queries.

        How much of the estimate the query loses by bending on the way from θ_T to θ_T + δ: 0 for a linear query, and
        for f(θ) = θᵀAθ/2 + bᵀθ exactly √(Σ_i (δ_iᵀAδ_i/2)² / Σ_i (δ_iᵀ(Aθ_T + b))²).
        """
        size = np.linalg.norm(self.slope, axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            bent = np.linalg.norm(self.displaced - self.slope, axis=0) / np.where(size > 0, size, 1.0)
        return float(np.mean(np.fmin(bent, LARGEST_DEFECT)))

    @property
    def index(self) -> float:
        """√(κ² + κ_q²): a wrong path, and a query that bends on the way to its end, as if they were independent."""
        return float(np.hypot(self.defect, self.query_defect))


def track(run: Run, query: Query, samples: Array, settings: Settings, convention: Convention) -> Tracked:
    """Follow the paths predicted without `samples` (m,): a gradient and a Hessian-vector product a step for each.

    Reading the query at their ends costs m evaluations and one gradient of it.

    >>> from trak_theory.trajectory import MLP, SGD, loss_query, train
    >>> net = MLP(np.eye(4), [0, 1, 1, 0], hidden=(), classes=2)
    >>> run = train(net, np.zeros(net.p), [[0, 1], [2, 3], [0, 2]], SGD(0.01))
    >>> seen = track(run, loss_query(net, [3]), np.array([0, 2]), Settings(), Convention())
    >>> bool(seen.query_defect < 1e-2), seen.displaced.shape
    (True, (2, 1))
    """
    paths = followed_paths(run, samples, settings, convention)
    slope, here = query.slope(run.final), query.read(run.final)
    with np.errstate(over="ignore", invalid="ignore"):
        displaced = np.stack([here - query.read(run.final + change) for change in paths.change])
        return Tracked(samples, paths.defects, -as_numpy(paths.change @ slope.T), displaced)
