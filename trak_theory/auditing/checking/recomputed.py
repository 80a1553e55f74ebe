"""Stored scores against those that the stored projected features give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import PCG64, Generator
from scipy.optimize import minimize_scalar

from trak_theory.auditing.inputs import SINGLE
from trak_theory.numerics.agreement import agreement
from trak_theory.numerics.gram import blocked_gram, over_blocks
from trak_theory.numerics.rows import Rows, rows_of
from trak_theory.projection.projected_features import ProjectedKernel

SLACK = 30.0  # what sums in single precision add to one rounding of every number: traker at k = 512, 8 times as much
SLACK_HALF = 8.0  # half precision rounds results of single-precision sums: traker, as much as one rounding of each
MOST_ALLOWED = 0.3
SAME_ORDER = 0.9
SOME_POINTS = 4096
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
    kernels: tuple[ProjectedKernel, ...],
    kernel: Array,
    residual: Array,
    scores: Array,
    epsilon: float,
    rng: Generator,
) -> Recomputation:
    """Exact algebra on the stored features: sign, order, ridge and precision of the scores, without a law.

    kernel  the mean of the stored kernels (n, q)
    """
    expected = -residual[:, None] * kernel
    stream = rng.bit_generator
    if not isinstance(stream, PCG64):
        stream = PCG64(int(rng.integers(2**63)))  # which can jump to any draw
    shaken = -residual[:, None] * _mean(_rounded(kernel, epsilon, stream) for kernel in kernels)
    sensitivity = float(np.linalg.norm(shaken - expected) / np.linalg.norm(expected))
    allowed = min((SLACK if epsilon <= SINGLE else SLACK_HALF) * (sensitivity + epsilon), MOST_ALLOWED)
    difference, scale = distance(scores, expected)
    kendall = float(agreement(expected, scores).kendall)
    explanation = None
    if difference > allowed or scale <= 0:
        explanation = _dominated(sensitivity) or _explain(kernels, kernel, residual, scores, allowed)
    elif kendall < SAME_ORDER:
        explanation = f"rounding has changed their order: Kendall {kendall:.2f} with the same in double precision"
    return Recomputation(difference, allowed, sensitivity, scale, kendall, explanation)


def scores_of(kernels: tuple[ProjectedKernel, ...], residual: Array) -> Array:
    """−r × the mean kernel of the stored projections (n, q)."""
    return -residual[:, None] * _mean(kernel.kernel for kernel in kernels)


def _mean(kernels: Iterable[Array]) -> Array:
    """Of arrays that need not be there together."""
    count, total = 0, np.zeros(())
    for kernel in kernels:
        count, total = count + 1, total + kernel
    return total / count


def distance(scores: Array, expected: Array) -> tuple[float, float]:
    """(‖T − sT₀‖/‖T‖, s) at the least-squares factor s."""
    energy = float(np.sum(expected**2))
    scale = float(np.sum(scores * expected)) / energy if energy else 0.0
    return float(np.linalg.norm(scores - scale * expected) / np.linalg.norm(scores)), scale


def _rounded(kernel: ProjectedKernel, epsilon: float, stream: PCG64) -> Array:
    """The kernel (n, q) with rows, Gram matrix and inverse rounded at ε each, as packages keep them."""

    def kept(array: Array) -> Array:
        return array * (1 + epsilon * Generator(stream).uniform(-0.5, 0.5, array.shape))

    rows = RoundedRows(rows_of(kernel.features), epsilon, deepcopy(stream))
    stream.advance(rows.shape[0] * kernel.k)
    gram = blocked_gram(rows)
    gram[np.diag_indices(kernel.k)] += kernel.ridge
    solved = kept(np.linalg.inv(kept(gram))) @ kernel.queries.T
    return over_blocks(lambda block: block @ solved, rows)


@dataclass(frozen=True, eq=False)
class RoundedRows:
    """Rows times 1 + ε u, u uniform in ±1/2 from `draws` on: a part of them has the same u whenever it is read."""

    rows: Rows
    epsilon: float
    draws: PCG64
    first: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape

    def part(self, start: int, stop: int) -> RoundedRows:
        return RoundedRows(self.rows.part(start, stop), self.epsilon, self.draws, self.first + start)

    def read(self) -> Array:
        block = self.rows.read()
        draws = deepcopy(self.draws).advance(self.first * block.shape[1])
        factors = Generator(draws).uniform(-0.5, 0.5, block.shape)
        factors *= self.epsilon
        factors += 1
        factors *= block
        return factors


def _dominated(sensitivity: float) -> str | None:
    """Words where rounding explains any difference."""
    if sensitivity <= MOST_ALLOWED:
        return None
    share = min(100 * sensitivity, 100.0)
    return f"they are dominated by rounding noise: the precision of the store changes {share:.0f} % of them"


def _explain(
    kernels: tuple[ProjectedKernel, ...], kernel: Array, residual: Array, scores: Array, allowed: float
) -> str:
    for words, factors, sign in _candidates(residual):
        difference, scale = distance(scores, factors[:, None] * kernel)
        if difference <= allowed and np.sign(scale) == sign:
            return f"they are those of the stored features {words}"
    found = _best_ridge(*_some(kernels, residual, scores))
    difference, scale = distance(scores, scores_of(_with_ridge(kernels, found), residual))
    if difference <= allowed and scale > 0:
        return f"they are those of the stored features at projected ridge {found:.4g}, not {kernels[0].ridge:.4g}"
    difference, _ = distance(scores, -residual[:, None] * kernel)
    return (
        f"they are not what the stored features give: {100 * difference:.2g} % of them differs, rounding allows "
        f"{100 * allowed:.2g} % (permuted rows or queries, another model or projection, normalised or ranked scores)"
    )


def _candidates(residual: Array) -> Iterator[tuple[str, Array, float]]:
    """What else the scores may be: factors (n,) on the kernel, and the sign of their scale."""
    yield "with the opposite sign", -residual, -1.0
    yield "without the residuals", np.ones_like(residual), 1.0
    yield "without the residuals and with the opposite sign", np.ones_like(residual), -1.0


def _some(
    kernels: tuple[ProjectedKernel, ...], residual: Array, scores: Array
) -> tuple[tuple[ProjectedKernel, ...], Array, Array]:
    """The same of 4,096 neighbours of the largest score: one number, the ridge, follows from any of them."""
    centre = int(np.argmax(np.abs(scores).max(1)))
    start = int(np.clip(centre - SOME_POINTS // 2, 0, max(len(scores) - SOME_POINTS, 0)))
    some = slice(start, start + SOME_POINTS)
    return tuple(kernel.of(start, start + SOME_POINTS) for kernel in kernels), residual[some], scores[some]


def _with_ridge(kernels: tuple[ProjectedKernel, ...], ridge: float) -> tuple[ProjectedKernel, ...]:
    return tuple(kernel.at(ridge) for kernel in kernels)


def _best_ridge(kernels: tuple[ProjectedKernel, ...], residual: Array, scores: Array) -> float:
    base = kernels[0].ridge or kernels[0].implicit_ridge

    def misfit(log_factor: float) -> float:
        return distance(scores, scores_of(_with_ridge(kernels, base * np.exp(log_factor)), residual))[0]

    bare = _with_ridge(kernels, 0.0)
    singular = any(kernel.singular for kernel in bare)
    if not singular and distance(scores, scores_of(bare, residual))[0] < min(map(misfit, np.log(FACTORS))):
        return 0.0
    start = int(np.argmin([misfit(x) for x in np.log(FACTORS)]))
    edges = np.log(FACTORS)[[max(start - 1, 0), min(start + 1, FACTORS.size - 1)]]
    return float(
        base * np.exp(minimize_scalar(misfit, bounds=tuple(edges), method="bounded", options={"xatol": 1e-10}).x)
    )
