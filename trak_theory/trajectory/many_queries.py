"""Many queries at the price of a few: the sweep carries combinations of their slopes, and says what that loses."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from array_api_compat import array_namespace, device
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.attributions import attribute
from trak_theory.trajectory.convention import Removal
from trak_theory.trajectory.query import as_numpy, as_query
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.sweep.push import Estimator
from trak_theory.trajectory.sweep.reverse import Curvature


@dataclass(frozen=True, eq=False)
class ManyQueries:
    """Influence of all samples on all queries from a sweep of fewer rows.

    influence (n, q)    presence sign; the projection of `attribute(run, query, …).influence` on `rank` combinations
    error               √(Σ of squared errors over all scores) against that, estimated without bias in its square
    error_se            its standard error over the random probes; NaN for one probe
    relative_error      error/√(Σ influence²); 0 where both vanish
    rows                of the sweep: the rank and the probes
    """

    influence: Array
    error: float
    error_se: float
    rows: int

    @property
    def relative_error(self) -> float:
        size = float(np.linalg.norm(self.influence))
        return self.error / size if size > 0 else (0.0 if self.error == 0 else inf)


def attribute_many(
    run: Run,
    query: Tensor,
    *,
    rank: int,
    rng: Generator,
    probes: int = 2,
    estimator: Estimator = "frozen-push",
    removal: Removal = "keep",
    curvature: Curvature = "exact",
) -> ManyQueries:
    """The influence of every sample on q queries from rank + probes rows of a sweep instead of q.

    An estimate is linear in the query's slope at θ_T. With S (q, p) the slopes and U (q, rank) the leading eigenvectors
    of SSᵀ, the sweep carries UᵀS, and influence ≈ L(UᵀS)Uᵀ, where L is the run's linear map from slopes to scores. A
    probe is σᵀ(S − UUᵀS) with random signs σ: the expectation of Σ_i (L probe)_i² is the sum of the squared errors of
    all scores, whatever the run. With rank ≥ the rank of S the scores are those of `attribute` to rounding.

    probes    random signs; each costs a row. Two tell the error to about a third.
    Valid for what is read off the end of the run. Memory: a sweep of rank + probes queries and S. Raises ValueError for
    a rank or a number of probes below 1, and where SSᵀ is not finite. Source: ours; Hutchinson's estimator of a trace.

    >>> from trak_theory.trajectory import MLP, SGD, loss_query, train
    >>> model = MLP(np.eye(6), [0, 1, 1, 0, 1, 0], hidden=(4,))
    >>> run = train(model, model.start(np.random.default_rng(0)), [np.arange(6)] * 3, SGD(0.1))
    >>> many = attribute_many(run, loss_query(model, range(6)), rank=2, rng=np.random.default_rng(0))
    >>> many.influence.shape, many.rows
    ((6, 6), 4)
    """
    slopes = as_query(query, run.final).slope(run.final)
    rank = min(positive_count("rank", rank), len(slopes))
    signs = rng.choice([-1.0, 1.0], size=(positive_count("probes", probes), len(slopes)))
    leading = _leading(slopes, rank)
    mixed = _follow(leading.T, slopes) @ slopes
    residual = _follow(signs, slopes) @ slopes - _follow(signs @ leading, slopes) @ mixed
    xp = array_namespace(slopes)
    scores = attribute(
        run, xp.concat([mixed, residual]).T, estimator=estimator, removal=removal, curvature=curvature
    ).influence
    squares = (scores[:, rank:] ** 2).sum(axis=0)
    error = sqrt(squares.mean())
    spread = squares.std(ddof=1) / sqrt(probes) if probes > 1 else np.nan
    return ManyQueries(
        influence=scores[:, :rank] @ leading.T,
        error=error,
        error_se=float(spread / (2 * error)) if error > 0 else 0.0,
        rows=rank + probes,
    )


def _leading(slopes: Tensor, rank: int) -> Array:
    """The leading eigenvectors of SSᵀ, (q, rank)."""
    with np.errstate(over="ignore", invalid="ignore"):
        gram = as_numpy(slopes @ slopes.T)
    if not np.isfinite(gram).all():
        raise ValueError("the queries' gradients at the end of the run are not finite, or their squares overflow")
    return np.linalg.eigh(gram)[1][:, : -rank - 1 : -1]


def _follow(numbers: Array, like: Tensor) -> Tensor:
    return array_namespace(like).asarray(np.ascontiguousarray(numbers), dtype=like.dtype, device=device(like))
