"""Audits: which samples to retrain without, and what these leave plausible of an attribution. Source: ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.agreement import pearson
from trak_theory.numerics.checks import positive_count
from trak_theory.trajectory.proxies import most_influential

DRAWS = 200
FULL = 1e-12  # of 1 − h, where a row alone decides the slope and leaves no residual
LARGEST = 3  # eighths of an audit that go to the largest estimates


@dataclass(frozen=True, eq=False)
class Plausible:
    """Draws (D,) of Spearman correlation with the truth and of relative error ‖s − I‖/‖I‖, means over queries."""

    spearman: Array
    relative_error: Array


def audit_sample(estimate: Array, count: int, rng: Generator) -> tuple[Array, Array]:
    """Rows (m,) of an estimate (n, q) to retrain, and how many rows each of them stands for, (m,).

    The ⌊3m/8⌋ largest, which decide the relative error and stand for themselves; and, for the ranks, one of each of
    m − ⌊3m/8⌋ equal parts of all others in the order of the estimate (the sum over queries, each by its own rms),
    which stands for its part.

    >>> rows, weights = audit_sample(np.arange(10.0)[:, None], 4, np.random.default_rng(0))
    >>> int(rows[0]), weights.tolist()
    (9, [1.0, 3.0, 3.0, 3.0])
    """
    order = most_influential(estimate)
    count = min(positive_count("audit", count), len(order))
    largest, others = order[: LARGEST * count // 8], order[LARGEST * count // 8 :]
    size = np.sqrt(np.mean(estimate**2, axis=0))
    summed = (estimate / np.where(size > 0, size, 1.0)).sum(1)
    parts = np.array_split(others[np.argsort(summed[others], kind="stable")], count - len(largest))
    weights = np.concatenate([np.ones(len(largest)), [float(len(part)) for part in parts]])
    return np.concatenate([largest, [rng.choice(part) for part in parts]]), weights


def plausible_quality(
    estimate: Array, proxy: Array, rows: Array, weights: Array, truth: Array, rng: Generator, *, draws: int = DRAWS
) -> Plausible:
    """Qualities of an estimate s (n, q) that are plausible after the truth I (m, q) of some rows is known.

        I_j = a s_j + p_j r_j        for rows j that were not retrained, p (n, q) = proxy

    W are weights from the Bayesian bootstrap (Rubin 1981), Dirichlet over the retrained rows, times the number of rows
    each stands for; a is the slope of least squares with variances p²/W, and |r_j| is drawn from the residuals |I_i − a
    s_i|/(p_i √(1 − h_i)) with probabilities W, h_i the leverage of row i in that fit, its sign by a coin: beyond the
    slope, errors of both signs are taken for equally plausible. Rows that were retrained keep their truth. So the free
    estimates carry over to all rows what a few retrainings say: an error of the scale alone leaves ranks intact, and
    the spread of the draws is what the audit leaves open: somewhat too narrow, as a bootstrap of a few rows is (their
    middle 95 % hold the truth in four of five problems with 16 of 80 rows), which the thresholds of the labels make up
    for. Valid where errors in units of the proxy are of one kind over the rows; an error of a kind that no retrained
    row shows is not foreseen.

    >>> s = np.linspace(-1, 1, 40)[:, None]
    >>> rows, weights = audit_sample(s, 8, np.random.default_rng(0))
    >>> seen = plausible_quality(s, np.abs(s), rows, weights, 1.25 * s[rows], np.random.default_rng(1))
    >>> np.round([seen.spearman.mean(), seen.relative_error.mean()], 12).tolist()
    [1.0, 0.2]
    """
    chances = weights * rng.exponential(size=(draws, len(rows)))
    chances /= chances.sum(axis=1, keepdims=True)
    found = np.zeros((2, draws))
    for s, p, exact in zip(estimate.T, proxy.T, truth.T, strict=True):
        unit, ranks = np.where(p > 0, p, np.finfo(float).tiny), np.argsort(np.argsort(s, kind="stable"))
        for draw, chance in enumerate(chances):
            plausible = _completed(s, unit, rows, exact, chance, rng)
            found[:, draw] += pearson(np.argsort(np.argsort(plausible)), ranks), _relative_error(plausible, s)
    return Plausible(*(found / estimate.shape[1]))


def _completed(s: Array, unit: Array, rows: Array, exact: Array, chance: Array, rng: Generator) -> Array:
    """A truth (n,) that is plausible for all rows."""
    own, own_unit = s[rows], unit[rows]
    precision = chance / own_unit**2
    size = precision @ own**2
    slope = precision @ (own * exact) / size if size > 0 else 1.0
    leverage = precision * own**2 / size if size > 0 else np.zeros(len(rows))
    residual = (exact - slope * own) / (own_unit * np.sqrt(np.maximum(1 - leverage, FULL)))
    place = np.searchsorted(np.cumsum(chance)[:-1], rng.random(len(s)))
    truth = slope * s + unit * residual[place] * rng.choice([-1.0, 1.0], len(s))
    truth[rows] = exact
    return truth


def _relative_error(truth: Array, estimate: Array) -> float:
    size = np.linalg.norm(truth)
    return float(np.linalg.norm(estimate - truth) / size) if size > 0 else 0.0
