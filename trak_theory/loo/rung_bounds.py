"""Certified gaps between neighbouring rungs: intervals (n, q), presence sign, that contain another attribution.

Each holds on every input, with an allowance for the rounding of its own computation in the radius. A premise that
fails gives infinite radii and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.linalg import qr

from trak_theory.errors import RankDeficientError
from trak_theory.linearization import Linearization
from trak_theory.loo.bounds import linearisation_radius
from trak_theory.loo.intervals import Interval
from trak_theory.loo.rounding import rotation_error, whitening_error
from trak_theory.numerics.checks import real_array
from trak_theory.numerics.whitening import EPS, hessian_factor, row_space, whiten


def influence_interval(lin: Linearization) -> Interval:
    """Contains `newton`; centred at `influence`, from which it differs by exactly the leverage denominator.

        N_ij − I_ij = h_i/(1 − h_i) · I_ij

    Leverage 1 (a one-hot column seen once, without a ridge) has no Newton step: inf. Source: Sherman–Morrison.
    """
    try:
        kernel = _kernel(lin)
    except RankDeficientError as singular:
        return _void(lin, str(singular))
    leverage = lin.curvature * kernel.square_lengths
    remaining = 1 - leverage - lin.curvature * kernel.square_error  # at least, in exact arithmetic
    center = -lin.residual[:, None] * kernel.cross
    error = np.abs(lin.residual)[:, None] * kernel.cross_error
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = np.where(remaining > 0, (1 - remaining) / remaining, np.inf)[:, None]
        radius = np.where(np.isfinite(stretch), stretch * (np.abs(center) + error) + error, np.inf)
    gone = np.flatnonzero(remaining <= 0)
    return Interval(center, radius, {int(i): f"leverage {leverage[i]:.9g} is 1 to working precision" for i in gone})


def unit_curvature_interval(lin: Linearization) -> Interval:
    """Contains `influence` whatever the curvatures between their extremes a = min d_i and b = max d_i.

        K_c = (c ΦᵀΦ + Λ)⁻¹:   |φᵀH⁻¹φ* − φᵀ½(K_a + K_b)φ*| ≤ ½ ‖φ‖_Δ ‖φ*‖_Δ,     Δ = K_a − K_b

    Without a ridge K_c = (ΦᵀΦ)⁻¹/c: the centre is (1/a + 1/b)/2 times the attribution of unit curvature, and the
    radius (1/a − 1/b)/2 · ‖φ‖ ‖φ*‖ in the norm of (ΦᵀΦ)⁻¹. Premise: aΦᵀΦ + Λ is invertible.

    Proof: K_b ⪯ H⁻¹ ⪯ K_a, so H⁻¹ − ½(K_a + K_b) lies within ±½Δ. Equality: orthogonal rows. Source: ours.
    """
    low, high = float(lin.curvature.min()), float(lin.curvature.max())
    try:
        loose, tight = (_kernel(replace(lin, curvature=np.full_like(lin.curvature, c))) for c in (low, high))
    except RankDeficientError as error:
        return _void(lin, f"the least curvature {low:.3g} leaves a singular Hessian ({error})")
    rows = loose.square_lengths - tight.square_lengths + loose.square_error + tight.square_error
    queries = (
        loose.query_square_lengths - tight.query_square_lengths + loose.query_square_error + tight.query_square_error
    )
    gap = np.sqrt(np.outer(np.maximum(rows, 0), np.maximum(queries, 0)))
    radius = (gap + loose.cross_error + tight.cross_error) / 2
    return Interval(-lin.residual[:, None] * (loose.cross + tight.cross) / 2, np.abs(lin.residual)[:, None] * radius)


def projection_interval(lin: Linearization, projection: Any) -> Interval:
    """Contains influence ∘ project; centred at `influence` with the same *explicit* ridge μ = lin.ridge.

        |φᵀ(K_P − R)φ*| ≤ ε ‖φ‖_R ‖φ*‖_R,     K_P = P(PᵀSP + μI)⁻¹Pᵀ,  R = (S + μI)⁻¹,  S = ΦᵀDΦ,
        ε = ‖UᵀPPᵀU − I‖₂ < 1,     U an orthonormal basis of the span of training and query rows

    Vacuous for k below the dimension of that span, where ε ≥ 1: there the error bars of the projection law are the
    useful statement. Premises: ε < 1; one common ridge; μ > 0, or S invertible.

    Proof: on the span K_P = (S + μ(UᵀPPᵀU)⁻¹)⁻¹, which lies between (1 ∓ ε)R. Equality: one dimension, S → 0.
    Source: ours.
    """
    if not np.all(lin.ridge == lin.ridge[0]):
        raise ValueError(
            "the projection bound needs one ridge for all coefficients; use drop_ridge first, as TRAK does"
        )
    # Queries join as rows without curvature, so that their lengths count what lies outside the training span.
    n, rows, none = len(lin.features), np.vstack([lin.features, lin.queries]), np.zeros(len(lin.queries))
    distortion = _distortion(rows, projection)
    if not distortion < 1:
        return _void(lin, f"the projection distorts the span of the rows by ε = {distortion:.3g} ≥ 1")
    try:
        kernel = _kernel(
            replace(lin, features=rows, residual=np.r_[lin.residual, none], curvature=np.r_[lin.curvature, none])
        )
    except RankDeficientError as error:
        return _void(lin, str(error))
    lengths = np.sqrt(kernel.square_lengths + kernel.square_error)
    radius = distortion * np.outer(lengths[:n], lengths[n:]) + kernel.cross_error[:n]
    return Interval(-lin.residual[:, None] * kernel.cross[:n], np.abs(lin.residual)[:, None] * radius)


def linearisation_interval(linearised: Array, curvature: ArrayLike, distance: ArrayLike) -> Interval:
    """Contains f(θ̂ + Δ), centred at `linearised` = f(θ̂) + ∇f(θ̂)ᵀΔ, (n,) or (n, q): see `linearisation_radius`.

    curvature ≥ ‖∇²f‖₂ on the ball (`two_layer_curvature`), distance ≥ ‖Δ‖₂ from a certificate; both broadcast.
    """
    radius = np.broadcast_to(linearisation_radius(curvature, distance), np.shape(linearised))
    smooth = np.isfinite(np.broadcast_to(np.asarray(curvature, float), radius.shape))
    reasons = {True: "the distance is not certified", False: "f has no bounded second derivative (ReLU)"}
    lost = {int(i): reasons[bool(smooth[i].all())] for i in np.unique(np.nonzero(np.isinf(radius))[0])}
    return Interval(np.asarray(linearised, float), radius, lost)


@dataclass(frozen=True, eq=False)
class _Kernel:
    """φᵀH⁻¹φ* of all rows, the squared lengths ‖φ‖²_{H⁻¹}, and how far rounding moves each."""

    cross: Array  # (n, q)
    cross_error: Array
    square_lengths: Array  # (n,)
    square_error: Array
    query_square_lengths: Array  # (q,)
    query_square_error: Array


def _kernel(lin: Linearization) -> _Kernel:
    space = row_space(lin.features, lin.ridge)
    factor = hessian_factor(space.features, lin.curvature, space.ridge)
    rows, queries = whiten(factor, space.features), whiten(factor, space.pull(lin.queries))
    # Twice: the solves, and the factor itself.
    error = 2 * whitening_error(space, factor, lin.features, rows)
    query_error = 2 * whitening_error(space, factor, lin.queries, queries)
    lengths, query_lengths = np.linalg.norm(rows, axis=1), np.linalg.norm(queries, axis=1)
    rotation = rotation_error(space, lin.features)
    beside = rotation + lengths * np.sqrt(lin.curvature @ rotation**2)  # of H⁻¹φ, out of the computed span
    return _Kernel(
        cross=rows @ queries.T,
        cross_error=np.outer(error, query_lengths)
        + np.outer(lengths + error, query_error)
        + np.outer(beside, np.linalg.norm(lin.queries * space.scale, axis=1)),
        square_lengths=lengths**2,
        square_error=(2 * lengths + error) * error,
        query_square_lengths=query_lengths**2,
        query_square_error=(2 * query_lengths + query_error) * query_error,
    )


def _distortion(rows: Array, projection: Any) -> float:
    """ε = ‖UᵀPPᵀU − I‖₂ over a space that holds all rows (…, p), with its rounding."""
    p = rows.shape[1]
    projection = projection if hasattr(projection, "tocsr") else real_array("projection", projection, 2)
    basis = qr(rows.T, mode="economic", check_finite=False)[0] if len(rows) < p else np.eye(p)
    sketch = projection.T @ basis
    eigenvalues = np.linalg.eigvalsh(sketch.T @ sketch)
    distortion = np.abs(eigenvalues - 1).max()
    return float(distortion + EPS * sum(sketch.shape) * (1 + distortion))


def _void(lin: Linearization, reason: str) -> Interval:
    """Nothing proved: infinite radii around zero."""
    shape = (len(lin.features), len(lin.queries))
    return Interval(np.zeros(shape), np.full(shape, np.inf), dict.fromkeys(range(shape[0]), reason))
