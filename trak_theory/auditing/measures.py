"""The measurements of an audit: references, the budget of rungs, overlaps, and the check of given scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array
from scipy.special import ndtr

from trak_theory.auditing.inputs import AuditData
from trak_theory.laws.conditional_rank_law import RandomScores, rank_law_of_scores
from trak_theory.numerics.agreement import agreement
from trak_theory.numerics.spectrum import Spectrum
from trak_theory.retraining.restored import ridge_products
from trak_theory.retraining.ridge_rule import TrainingRecipe, rule_from_eigenvalues, training_ridge

Row = dict[str, Any]
SENSITIVITY = (0.1, 0.3, 1.0, 3.0, 10.0)  # training ridges tried, in units of the given (or guessed) one
GUESSED_SHARE = 0.1  # degrees of freedom per point at the training ridge that is taken where none is given


def assumed_ridge(recipe: TrainingRecipe | float | None, eigenvalues: Array, n: int) -> tuple[float, tuple[str, ...]]:
    if recipe is not None:
        return training_ridge(recipe, n), ()
    ridges = np.geomspace(1e-8, 1e4, 400) * eigenvalues.max()
    freedom = np.array([np.sum(eigenvalues / (eigenvalues + ridge)) for ridge in ridges])
    guess = float(ridges[np.argmin(np.abs(freedom - GUESSED_SHARE * n))])
    return guess, (
        f"training ridge unknown: {guess:.4g} is taken, where the model has {GUESSED_SHARE:g} n degrees of freedom; "
        "read the sensitivity table, or give weight decay, learning rates and steps",
    )


def weighted_scores(space: Spectrum, data: AuditData, ridge: float) -> Array:
    """−r_i φ_iᵀ(ΦᵀDΦ + λI)⁻¹φ*_j for λ > 0; by Cholesky, which the precision of ranks allows."""
    rows = np.sqrt(data.curvature)[:, None] * space.training
    return -data.residual[:, None] * ridge_products(rows, space.training, space.queries, ridge)


def unit_scores(space: Spectrum, data: AuditData, ridge: float) -> Array:
    kernel = (space.training / (space.eigenvalues + ridge)) @ space.queries.T
    return -data.residual[:, None] * kernel


def budget(
    space: Spectrum, data: AuditData, reference: Array, unit_ridge: float, mean: Array | None, total: Any
) -> list[Row]:
    """Kendall with the reference, rung by rung; lost: what the step takes away."""
    steps = [{"rung": "unit curvature", **kendall(reference, unit_scores(space, data, unit_ridge))}]
    if mean is not None:
        steps.append({"rung": "ridge of the projection", **kendall(reference, mean)})
        steps.append({"rung": "projection noise", "kendall": float(total.kendall), "se": total.kendall.se})
    rows: list[Row] = [{"rung": "reference", "kendall": 1.0, "se": 0.0, "lost": 0.0}]
    for step in steps:
        rows.append({**step, "lost": rows[-1]["kendall"] - step["kendall"]})
    return rows


def sensitivity(
    space: Spectrum,
    data: AuditData,
    scores: RandomScores | None,
    eigenvalues: Array,
    ridge: float,
    fraction: float | None,
    k: int,
) -> list[Row]:
    """The verdict if the training ridge were other: Kendall of the present scores and the μ of the rule."""
    rows = []
    for factor in SENSITIVITY:
        rule = rule_from_eigenvalues(
            factor * ridge,
            weighted=eigenvalues,
            plain=space.eigenvalues,
            mean_curvature=float(data.curvature.mean()),
            n=len(data.residual),
            fraction=fraction,
            k=k,
        )
        row: Row = {"training_ridge": factor * ridge, "rule_ridge": rule.projected, "kendall": None}
        if scores is not None:
            reference = weighted_scores(space, data, rule.curvature_weighted)
            row["kendall"] = float(rank_law_of_scores(reference, scores).kendall)
        rows.append(row)
    return rows


def kendall(reference: Array, estimate: Array) -> Row:
    found = agreement(reference, estimate).kendall
    return {"kendall": float(found), "se": found.se}


def top_overlap(mean: Array, sd: Array, top: int) -> float:
    """Expected share of a query's top m scores that a fresh, independent projection puts in its top m.

    With T ~ N(mean, sd²): Σ_i P(T_i > t) = m fixes t, and the share is Σ_i P(T_i > t)²/m. Mean over queries.
    """
    return float(np.mean(np.sum(_chance_in_top(mean, sd, top) ** 2, 0) / top))


def kept_share(scores: Array, mean: Array, sd: Array, top: int) -> float:
    """Expected share of each query's present top m that fresh scores ~ N(mean, sd²) would put in theirs."""
    order = np.argsort(-scores, axis=0, kind="stable")[:top]
    return float(np.mean(np.take_along_axis(_chance_in_top(mean, sd, top), order, 0)))


def _chance_in_top(mean: Array, sd: Array, top: int) -> Array:
    """P(T_i > t) with Σ_i P(T_i > t) = m (n, q)."""
    low, high = (mean - 10 * sd).min(0), (mean + 10 * sd).max(0)
    scale = np.maximum(sd, np.finfo(float).tiny)
    for _ in range(80):
        middle = (low + high) / 2
        more = ndtr((mean - middle) / scale).sum(0) > top
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return ndtr((mean - high) / scale)


def check_scores(scores: Array, mean: Array, sd: Array, predicted: float | None) -> Row:
    """Given scores against the law at their best scale: measured Kendall and Pearson, coverage, spread of z."""
    scale = float(np.sum(scores * mean) / np.sum(mean**2))
    if not scale > 0:
        return {"scale": scale, "kendall": None, "predicted_kendall": predicted, "spread_of_z": None, "coverage": None}
    found = agreement(mean, scores)
    difference = scores / scale - mean
    z = difference / np.where(sd > 0, sd, np.where(difference == 0, 1.0, np.finfo(float).tiny))
    with np.errstate(over="ignore"):
        spread = float(np.sqrt(np.mean(z**2)))
    return {
        "scale": scale,
        "kendall": float(found.kendall),
        "kendall_se": found.kendall.se,
        "predicted_kendall": predicted,
        "pearson": float(found.pearson),
        "spread_of_z": spread,
        "coverage": float(np.mean(np.abs(z) < 1.96)),
    }
