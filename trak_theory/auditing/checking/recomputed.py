"""Stored scores against those that the stored projected features give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.optimize import minimize_scalar

from trak_theory.auditing.inputs import SINGLE
from trak_theory.numerics.agreement import agreement
from trak_theory.projection.projected_features import ProjectedKernel

SLACK = 30.0  # what sums in single precision add to one rounding of every number: traker at k = 512, 8 times as much
SLACK_HALF = 8.0  # half precision rounds results of single-precision sums: traker, as much as one rounding of each
MOST_ALLOWED = 0.3
SAME_ORDER = 0.9
FACTORS = np.geomspace(1e-4, 1e4, 33)  # of the ridge, tried for an explanation


@dataclass(frozen=True)
class Recomputation:
    """‖T − sT₀‖/‖T‖ of stored scores T from recomputed ones T₀ at the best factor s, and what rounding allows.

    sensitivity: relative change of T₀ when features, Gram matrix and inverse are rounded at the stored precision
    kendall: of T with T₀; explanation: words if they differ by more than rounding, or if rounding changes the order
    """

    difference: float
    allowed: float
    sensitivity: float
    scale: float
    kendall: float
    explanation: str | None


def recompute(
    kernels: tuple[ProjectedKernel, ...], residual: Array, scores: Array, epsilon: float, rng: Generator
) -> Recomputation:
    """Exact algebra on the stored features: sign, order, ridge and precision of the scores, without a law."""
    expected = scores_of(kernels, residual)
    shaken = -residual[:, None] * np.mean([_rounded(kernel, epsilon, rng) for kernel in kernels], axis=0)
    sensitivity = float(np.linalg.norm(shaken - expected) / np.linalg.norm(expected))
    allowed = min((SLACK if epsilon <= SINGLE else SLACK_HALF) * (sensitivity + epsilon), MOST_ALLOWED)
    difference, scale = distance(scores, expected)
    kendall = float(agreement(expected, scores).kendall)
    explanation = None
    if difference > allowed or scale <= 0:
        explanation = _dominated(sensitivity) or _explain(kernels, residual, scores, allowed)
    elif kendall < SAME_ORDER:
        explanation = f"rounding has changed their order: Kendall {kendall:.2f} with the same in double precision"
    return Recomputation(difference, allowed, sensitivity, scale, kendall, explanation)


def scores_of(kernels: tuple[ProjectedKernel, ...], residual: Array) -> Array:
    """−r × the mean kernel of the stored projections (n, q)."""
    return -residual[:, None] * np.mean([kernel.kernel for kernel in kernels], axis=0)


def distance(scores: Array, expected: Array) -> tuple[float, float]:
    """(‖T − sT₀‖/‖T‖, s) at the least-squares factor s."""
    energy = float(np.sum(expected**2))
    scale = float(np.sum(scores * expected)) / energy if energy else 0.0
    return float(np.linalg.norm(scores - scale * expected) / np.linalg.norm(scores)), scale


def _rounded(kernel: ProjectedKernel, epsilon: float, rng: Generator) -> Array:
    """The kernel (n, q) with rows, Gram matrix and inverse rounded at ε each, as packages keep them."""

    def kept(array: Array) -> Array:
        return array * (1 + epsilon * rng.uniform(-0.5, 0.5, array.shape))

    rows = kept(kernel.features)
    gram = rows.T @ rows
    gram[np.diag_indices(kernel.k)] += kernel.ridge
    return rows @ (kept(np.linalg.inv(kept(gram))) @ kernel.queries.T)


def _dominated(sensitivity: float) -> str | None:
    """Words where rounding explains any difference."""
    if sensitivity <= MOST_ALLOWED:
        return None
    share = min(100 * sensitivity, 100.0)
    return f"they are dominated by rounding noise: the precision of the store changes {share:.0f} % of them"


def _explain(kernels: tuple[ProjectedKernel, ...], residual: Array, scores: Array, allowed: float) -> str:
    for words, candidate, sign in _candidates(kernels, residual):
        difference, scale = distance(scores, candidate)
        if difference <= allowed and np.sign(scale) == sign:
            return f"they are those of the stored features {words}"
    found = _best_ridge(kernels, residual, scores)
    difference, scale = distance(scores, scores_of(_with_ridge(kernels, found), residual))
    if difference <= allowed and scale > 0:
        return f"they are those of the stored features at projected ridge {found:.4g}, not {kernels[0].ridge:.4g}"
    difference, _ = distance(scores, scores_of(kernels, residual))
    return (
        f"they are not what the stored features give: {100 * difference:.2g} % of them differs, rounding allows "
        f"{100 * allowed:.2g} % (permuted rows or queries, another model or projection, normalised or ranked scores)"
    )


def _candidates(kernels: tuple[ProjectedKernel, ...], residual: Array) -> Iterator[tuple[str, Array, float]]:
    yield "with the opposite sign", scores_of(kernels, residual), -1.0
    yield "without the residuals", scores_of(kernels, -np.ones_like(residual)), 1.0
    yield "without the residuals and with the opposite sign", scores_of(kernels, np.ones_like(residual)), 1.0


def _with_ridge(kernels: tuple[ProjectedKernel, ...], ridge: float) -> tuple[ProjectedKernel, ...]:
    return tuple(kernel.at(ridge) for kernel in kernels)


def _best_ridge(kernels: tuple[ProjectedKernel, ...], residual: Array, scores: Array) -> float:
    base = kernels[0].ridge or kernels[0].implicit_ridge

    def misfit(log_factor: float) -> float:
        return distance(scores, scores_of(_with_ridge(kernels, base * np.exp(log_factor)), residual))[0]

    if distance(scores, scores_of(_with_ridge(kernels, 0.0), residual))[0] < min(map(misfit, np.log(FACTORS))):
        return 0.0
    start = int(np.argmin([misfit(x) for x in np.log(FACTORS)]))
    edges = np.log(FACTORS)[[max(start - 1, 0), min(start + 1, FACTORS.size - 1)]]
    return float(
        base * np.exp(minimize_scalar(misfit, bounds=tuple(edges), method="bounded", options={"xatol": 1e-10}).x)
    )
