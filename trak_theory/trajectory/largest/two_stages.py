"""First-order scores for all samples, an exact push for the largest, and the share of the largest that this finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike

from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.attributions import attribute
from trak_theory.trajectory.convention import Convention, Removal
from trak_theory.trajectory.proxies import scaled_size
from trak_theory.trajectory.query import as_query
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.sweep.push import Estimator
from trak_theory.trajectory.sweep.reverse import Curvature, Settings, reverse_sweep

DRAWN = 100  # samples beside the candidates, on average


def attribute_samples(
    run: Run,
    query: Tensor,
    samples: ArrayLike,
    *,
    estimator: Estimator = "frozen-push",
    removal: Removal = "keep",
    curvature: Curvature = "exact",
) -> Array:
    """The rows (m, q) of `attribute(run, query, …).influence` of some samples (m,), in their order.

    The Hessian products are those of the whole sweep; per-sample gradients are formed for these samples alone. Equal to
    the whole up to the rounding of sums, which the number of rows orders.

    >>> from trak_theory.trajectory import MLP, SGD, loss_query, train
    >>> model = MLP(np.eye(3), [0, 1, 1], hidden=(2,))
    >>> run = train(model, model.start(np.random.default_rng(0)), [np.array([0, 1, 2])] * 2, SGD(0.1))
    >>> attribute_samples(run, loss_query(model, [2]), [1]).shape
    (1, 1)
    """
    asked = np.asarray(samples)
    if asked.ndim != 1 or asked.size == 0 or asked.dtype.kind not in "iu":
        raise ValueError(f"samples must be a non-empty list of sample indices, got {samples!r}")
    if asked.min() < 0 or asked.max() >= run.objective.n:
        raise ValueError(f"samples must be in 0 … {run.objective.n - 1}, got {asked.min()} to {asked.max()}")
    run.check_unchanged()
    columns = as_query(query, run.final)
    sweep = reverse_sweep(run, columns, Settings(estimator, curvature), Convention(removal), candidates=asked)
    parts = list(sweep)
    influence = np.zeros((run.objective.n, parts[0].influence.shape[1]))
    for part in reversed(parts):
        influence[part.samples] += part.influence
    return influence[asked]


@dataclass(frozen=True, eq=False)
class TwoStages:
    """influence (n, q): the estimator's for the samples that both stages `scored`, first order's for all others.

    top (m,)      the largest by the estimator among those scored, the largest first
    scored (c,)   the candidates, which are the largest by first order, and about 100 others drawn by chance
    recall        m/(m + missed): the share that `top` holds of all samples as large as its last one. missed: an
                  unbiased count of those that were not scored, from those drawn by chance (Horvitz–Thompson)
    """

    influence: Array
    top: Array
    scored: Array
    recall: float


def attribute_top(
    run: Run,
    query: Tensor,
    m: int,
    *,
    candidates: int,
    rng: Generator,
    estimator: Estimator = "frozen-push",
    removal: Removal = "keep",
) -> TwoStages:
    """The m largest samples by an estimator: first-order scores for all, its own for the largest `candidates` of these.

    Size of a sample: max_j |I_ij|/rms_j over the queries, rms by first order. Two sweeps: worth it where the push of a
    whole batch is most of one (many queries, many samples a step), as `sweep_cost` tells. First order loses a part of
    what is largest on AdamW runs: give several times m candidates, and look at `recall`. Others are drawn with
    probabilities π_i in proportion to their first-order size.

    >>> from trak_theory.trajectory import MLP, AdamW, loss_query, train
    >>> model = MLP(np.eye(4), [0, 1, 1, 0], hidden=(2,))
    >>> rng = np.random.default_rng(0)
    >>> run = train(model, model.start(rng), [np.array([0, 1]), np.array([2, 3])], AdamW(0.01))
    >>> attribute_top(run, loss_query(model, [2]), 1, candidates=2, rng=rng).top.shape
    (1,)
    """
    if not positive_count("m", m) <= candidates <= run.objective.n:
        raise ValueError(f"candidates must be in m = {m} … n = {run.objective.n}, got {candidates}")
    influence = attribute(run, query, estimator="first-order", removal=removal).influence
    unit = np.sqrt(np.mean(influence**2, axis=0))
    chance = _chances(scaled_size(influence, unit), candidates)
    scored = np.flatnonzero(rng.random(len(chance)) < chance)
    influence[scored] = attribute_samples(run, query, scored, estimator=estimator, removal=removal)
    size = scaled_size(influence[scored], unit)
    order = np.argsort(-size, kind="stable")[:m]
    missed = float(np.sum(1 / chance[scored[order]] - 1))
    return TwoStages(influence, scored[order], scored, m / (m + missed))


def _chances(size: Array, candidates: int) -> Array:
    """π (n,): 1 for the largest, for the others in proportion to their size, so that DRAWN of them are expected."""
    chance = np.ones(len(size))
    others = np.argsort(-size, kind="stable")[candidates:]
    total = size[others].sum()
    share = size[others] / total if total > 0 else 1 / max(1, len(others))
    chance[others] = np.minimum(1.0, DRAWN * share)
    return chance
