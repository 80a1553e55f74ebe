"""Certified intervals for leave-one-out influence, at the price of one pair of matrix products."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.glm.model import Fit
from trak_theory.loo.certificates import certificate_for
from trak_theory.loo.solving.search import certified_points
from trak_theory.numerics.checks import query_array

BLOCK = 256


@dataclass(frozen=True, eq=False)
class Interval:
    """center ± radius, both (n, q): the quantity named by the function that made it lies inside, entry by entry.

    unresolved: row → the premise that fails there; its radius is infinite.
    """

    center: Array
    radius: Array
    unresolved: dict[int, str] = field(default_factory=dict)

    def contains(self, values: ArrayLike) -> Array:
        """True where `values` (n, q) lie inside; an infinite interval contains everything."""
        with np.errstate(invalid="ignore"):
            return ~(np.abs(np.asarray(values, float) - self.center) > self.radius)


def newton_interval(fit: Fit, queries: ArrayLike, *, chord_steps: int = 0) -> Interval:
    """Certified intervals for the exact leave-one-out influence, presence sign, of all n points on queries (q, p).

    Starts at the Newton points and takes `chord_steps` accelerated chord steps, with one pair of products
    (n, m) × (m, n), m = min(n, p), for each of the chord_steps + 1 evaluations. An evaluation certifies the point
    where it was made and, by `chord_radius`, the next one: the center is whichever has the smallest radius.

    Radii hold for the exact minimisers in exact arithmetic: they include the fit's own gradient and an allowance for
    rounding. A row whose premise fails has an infinite radius and a reason in `unresolved`. A loss without M₃ gets
    the strong-convexity radius, void with an unpenalised coefficient.

    >>> from trak_theory import GLM, newton_interval
    >>> fit = GLM([[1.0], [1.0], [-1.0]], [1.0, 0.0, 0.0], loss="logistic", ridge=1.0).fit()
    >>> interval = newton_interval(fit, [[1.0]], chord_steps=2)
    >>> bool(interval.radius.max() < 1e-4)
    True
    """
    if chord_steps < 0:
        raise ValueError(f"chord_steps must be ≥ 0, got {chord_steps}")
    certificate = certificate_for(fit, query_array(queries, fit.glm.features.shape[1]), sharp=True)
    problems, usable = certificate.evaluator.problems, np.flatnonzero(certificate.evaluator.usable)
    points, distance = np.full(problems.rows.shape, np.nan), np.full(len(problems.rows), np.inf)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a runaway row keeps its infinite radius
        for block in np.split(usable, range(BLOCK, usable.size, BLOCK)):
            points[block], distance[block], _ = certified_points(
                certificate, block, None, np.zeros(block.size), chord_steps + 1
            )
    radius = certificate.radius(points, distance)
    void = {int(i): certificate.reason(int(i)) for i in np.flatnonzero(np.isinf(radius).any(1))}
    return Interval(certificate.influence(points), radius, void)
