"""The best combination of several predictions of retrained outputs, by cross-fitting over the retrained subsets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from trak_theory.numerics.checks import positive_count, real_array
from trak_theory.retraining.crossed import crossed_mean
from trak_theory.retraining.datamodeling_score import FEWEST, OverQueries, over_queries
from trak_theory.retraining.per_query import PerQuery, constant_outputs, spearman_per_query

RIDGES = (0.003, 0.03, 0.3, 3.0)  # tried, in units of the mean square of a standardised column


@dataclass(frozen=True, eq=False)
class Stacked:
    """A combination Σ_c w_c z_c of C standardised predictions, the weights common to all queries.

    weights (C,)           ≥ 0, fitted on all subsets; per standard deviation of a candidate over the subsets
    centre, scale (C, q)   mean and standard deviation of each candidate over the subsets; scale 0 where it is constant
    level, spread (q,)     the same of the outputs
    lds                    of the cross-fitted combination: a subset is predicted with weights fitted on others
    singles                LDS of each candidate alone
    best                   the candidate with the largest of them
    gain                   lds − that of `best`, paired over subsets and queries
    """

    weights: Array
    centre: Array = field(repr=False)
    scale: Array = field(repr=False)
    level: Array = field(repr=False)
    spread: Array = field(repr=False)
    lds: OverQueries
    singles: tuple[OverQueries, ...]
    best: int
    gain: OverQueries

    def predict(self, candidates: ArrayLike) -> Array:
        """Outputs (B, q) after training on other subsets, from the candidates' predictions (C, B, q) of them."""
        candidates = real_array("candidates", candidates, 3)
        if candidates.shape[::2] != self.centre.shape:
            raise ValueError(
                f"candidates have shape {candidates.shape}; the weights are of {self.centre.shape[0]} candidates and "
                f"{self.centre.shape[1]} queries"
            )
        columns = _standardised(candidates, self.centre, self.scale)
        return self.level + self.spread * np.tensordot(self.weights, columns, 1)


def stack(candidates: ArrayLike, outputs: ArrayLike, *, folds: int = 10, rng: Generator) -> Stacked:
    """The combination of predictions that is nearest to retrained outputs, and its cross-fitted LDS.

        w = argmin_{w ≥ 0} ‖y − Σ_c w_c z_c‖² + ρ B q ‖w‖²,

    y and z_c the outputs and the candidates standardised over subsets, query by query: C weights for all B·q numbers.
    ρ is the best of four by cross-validation over subsets. A large ρ weighs candidates by their correlation with the
    outputs, a small one by what each adds to the others.

    candidates (C, B, q)   of the outputs on each subset: summed scores (`membership(subsets, n) @ scores`), a twin's
                           `refit`, trajectory estimates, in any unit; a positive weight raises the output
    outputs f (B, q)       of the model trained on each of B subsets
    folds                  into which the subsets fall by `rng`; no more than B

    The LDS is of weights fitted on (1 − 1/folds) B subsets; its error holds these weights fixed. The best single
    candidate is the best in hindsight, which flatters it. Source: stacked regressions (Breiman 1996).

    >>> rng = np.random.default_rng(0)
    >>> outputs = rng.standard_normal((20, 30))
    >>> candidates = outputs + rng.standard_normal((4, 20, 30))
    >>> found = stack(candidates, outputs, rng=rng)
    >>> print(f"{found.lds.mean:.2f}, the best of four {found.singles[found.best].mean:.2f}")
    0.86, the best of four 0.70
    """
    candidates, outputs = _checked(candidates, outputs)
    parts = _folds(len(outputs), positive_count("folds", folds), rng)
    centre, scale = _moments(candidates)
    level, spread = _moments(outputs)
    columns = _standardised(candidates, centre, scale)
    products = _Products.of(columns, _standardised(outputs, level, spread))
    combined = np.empty_like(outputs)
    for held_out in parts:
        weights = products.without(held_out).weights()
        combined[held_out] = np.tensordot(weights / (products.size(weights) or 1.0), columns[:, held_out], 1)
    return Stacked(products.weights(), centre, scale, level, spread, *_scores(combined, candidates, outputs))


@dataclass(frozen=True, eq=False)
class _Products:
    """Zᵀ Z (B, C, C) and Zᵀ y (B, C) of the columns over queries, one for each subset."""

    gram: Array
    target: Array

    @classmethod
    def of(cls, columns: Array, outputs: Array) -> _Products:
        return cls(np.einsum("cbq,dbq->bcd", columns, columns), np.einsum("cbq,bq->bc", columns, outputs))

    def without(self, subsets: Array) -> _Products:
        return _Products(np.delete(self.gram, subsets, 0), np.delete(self.target, subsets, 0))

    def size(self, weights: Array) -> float:
        """Root mean square of the combination, per subset: what makes folds with their own weights comparable."""
        return float(np.sqrt(weights @ self.gram.mean(0) @ weights))

    def weights(self) -> Array:
        """With the ridge that predicts best what one subset leaves to the others."""
        errors = [sum(self._error(b, ridge) for b in range(len(self.gram))) for ridge in RIDGES]
        return self._at(RIDGES[int(np.argmin(errors))])

    def _error(self, subset: int, ridge: float) -> float:
        """‖y − Zw‖² − ‖y‖² on one subset, w from the others."""
        weights = self.without(np.array([subset]))._at(ridge)
        return float(weights @ self.gram[subset] @ weights - 2 * weights @ self.target[subset])

    def _at(self, ridge: float) -> Array:
        """NNLS from the normal equations; the best single candidate where no weight is positive."""
        gram, target = self.gram.sum(0), self.target.sum(0)
        unit = np.trace(gram) / len(target)
        if unit == 0:
            return np.full(len(target), 1 / len(target))
        factor = cholesky(gram + ridge * unit * np.eye(len(target)))
        weights, _ = nnls(factor, solve_triangular(factor, target, trans="T"))
        return weights if weights.any() else np.eye(len(target))[int(np.argmax(target))]


def _scores(
    combined: Array, candidates: Array, outputs: Array
) -> tuple[OverQueries, tuple[OverQueries, ...], int, OverQueries]:
    whole = spearman_per_query(combined, outputs, constant_outputs(combined, outputs))
    alone = [spearman_per_query(one, outputs, constant_outputs(one, outputs)) for one in candidates]
    singles = tuple(map(over_queries, alone))
    means = [one.mean for one in singles]
    best = 0 if np.isnan(means).all() else int(np.nanargmax(means))
    return over_queries(whole), singles, best, _difference(whole, alone[best])


def _difference(first: PerQuery, second: PerQuery) -> OverQueries:
    """Of the queries that have both."""
    values, without = first.values - second.values, first.without - second.without
    both = PerQuery(values, without, {**second.undefined, **first.undefined})
    return OverQueries(crossed_mean(both.pseudo, both.mean, correlation=False), values, both.undefined)


def _moments(values: Array) -> tuple[Array, Array]:
    """Mean and standard deviation over subsets, the axis before the last; 0 for what only rounds."""
    centre, scale = values.mean(-2), values.std(-2)
    return centre, np.where(scale > 1e-12 * np.abs(values).max(-2), scale, 0.0)


def _standardised(values: Array, centre: Array, scale: Array) -> Array:
    """0 where the scale is."""
    shifted = values - centre[..., None, :]
    return np.divide(shifted, scale[..., None, :], out=np.zeros_like(shifted), where=scale[..., None, :] > 0)


def _folds(count: int, folds: int, rng: Generator) -> list[Array]:
    if folds < 2:
        raise ValueError(
            f"folds must be at least 2, got {folds}: weights are tested on subsets that they have not seen"
        )
    return np.array_split(rng.permutation(count), min(folds, count))


def _checked(candidates: ArrayLike, outputs: ArrayLike) -> tuple[Array, Array]:
    candidates, outputs = real_array("candidates", candidates, 3), real_array("outputs", outputs, 2)
    if candidates.shape[1:] != outputs.shape:
        raise ValueError(
            f"candidates have shape {candidates.shape}, outputs {outputs.shape}; expected (C, {outputs.shape[0]}, "
            f"{outputs.shape[1]})"
        )
    if len(outputs) < FEWEST:
        raise ValueError(f"{len(outputs)} subsets cannot give weights and their LDS; retrain on at least {FEWEST}")
    return candidates, outputs
