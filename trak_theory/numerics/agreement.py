"""Agreement of an estimated influence with a reference: correlations, error and overlap, query by query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.numerics.estimate import Estimate, mean


@dataclass(frozen=True)
class Agreement:
    """Means over queries, each with its standard error (`.se`), of an estimate T (n, q) against a reference I (n, q).

    pearson         correlation of I_·j and T_·j
    spearman        correlation of their ranks (ties share the mean rank)
    kendall         Kendall's τ_b, O(n log n) (ties as in scipy)
    slope           ⟨I, T⟩/⟨I, I⟩: 1 for the truth, 0 for noise
    relative_error  ‖T − I‖/‖I‖
    top_overlap     share of the reference's top tenth (most positive influence) that the estimate's top tenth holds
    sign            share of points with the same sign

    A pair with a NaN is left out of its query; `excluded` counts them. A measure that is undefined for a query (a
    constant column has no correlation) is left out of the mean; undefined for all queries, it is NaN.
    """

    pearson: Estimate
    spearman: Estimate
    kendall: Estimate
    slope: Estimate
    relative_error: Estimate
    top_overlap: Estimate
    sign: Estimate
    excluded: int

    def row(self) -> dict[str, float]:
        """Tidy columns: each measure and its standard error."""
        row: dict[str, float] = {}
        for measure in fields(self):
            value = getattr(self, measure.name)
            row[measure.name] = float(value)
            if isinstance(value, Estimate):
                row[f"{measure.name}_se"] = value.se
        return row


def agreement(reference: ArrayLike, estimate: ArrayLike) -> Agreement:
    """Agreement of an estimate (n, q) with a reference (n, q); one query may come as (n,).

    >>> found = agreement(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    >>> round(float(found.kendall), 3), round(float(found.spearman), 3)
    (0.333, 0.5)
    """
    truth, guess = _columns(reference), _columns(estimate)
    if truth.shape != guess.shape:
        raise ValueError(f"reference has shape {truth.shape}, the estimate {guess.shape}")
    usable = np.isfinite(truth) & np.isfinite(guess)
    pairs = [(t[u], g[u]) for t, g, u in zip(truth.T, guess.T, usable.T, strict=True)]
    measures = {name: mean([measure(r, e) for r, e in pairs]) for name, measure in MEASURES.items()}
    return Agreement(**measures, excluded=int((~usable).sum()))


def _columns(attribution: ArrayLike) -> Array:
    array = np.asarray(attribution, float)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"attributions must have shape (n, q), got {array.shape}")
    return array[:, None] if array.ndim == 1 else array


def pearson(reference: Array, estimate: Array) -> float:
    if reference.size < 2:
        return np.nan
    a, b = (array / (np.abs(array).max() or 1.0) for array in (reference, estimate))
    a, b = a - a.mean(), b - b.mean()
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    # Below this the column is constant up to the rounding of its mean.
    return float(a @ b / scale) if scale > 1e-14 * a.size else np.nan


def spearman(reference: Array, estimate: Array) -> float:
    from scipy.stats import rankdata  # scipy.stats takes longer to import than everything else together

    return pearson(rankdata(reference), rankdata(estimate))


def kendall(reference: Array, estimate: Array) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(reference, estimate).statistic) if reference.size > 1 else np.nan


def slope(reference: Array, estimate: Array) -> float:
    largest = np.abs(reference).max(initial=0.0)
    if largest == 0:
        return np.nan
    unit = reference / largest  # squares of the raw entries may overflow
    return float(unit @ (estimate / largest) / (unit @ unit))


def relative_error(reference: Array, estimate: Array) -> float:
    largest = np.abs(reference).max(initial=0.0)
    if largest == 0:
        return np.nan
    return float(np.linalg.norm((estimate - reference) / largest) / np.linalg.norm(reference / largest))


def top_overlap(reference: Array, estimate: Array) -> float:
    if reference.size == 0:
        return np.nan
    m = -(-reference.size // 10)
    top = [set(np.argsort(-array, kind="stable")[:m]) for array in (reference, estimate)]
    return len(top[0] & top[1]) / m


def sign(reference: Array, estimate: Array) -> float:
    return float(np.mean(np.sign(reference) == np.sign(estimate))) if reference.size else np.nan


MEASURES: dict[str, Callable[[Array, Array], float]] = {
    measure.__name__: measure for measure in (pearson, spearman, kendall, slope, relative_error, top_overlap, sign)
}
