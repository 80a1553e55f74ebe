"""Small problems that are hard on a certificate, and their leave-one-out influence in fifty digits."""

from __future__ import annotations

import mpmath
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from support.problems import LOSS_NAMES, design, seeds, targets_for
from trak_theory import GLM, Linearization, PseudoHuber
from trak_theory.errors import ConvergenceError, NoMinimiserError, RankDeficientError

DIGITS = 50
indices = st.integers(0, 119)  # taken modulo n
NO_FIT = (RankDeficientError, NoMinimiserError, ConvergenceError)


@st.composite
def hard_fits(draw, *, loss=None, max_n=8, max_p=6, intercepts=True):
    """Fitted GLMs: condition up to 1e8, leverage up to 1 − 1e-6, duplicated and zero rows, weights (a zero one too),
    an unpenalised intercept, p on both sides of n."""
    rng = np.random.default_rng(draw(seeds))
    n, p = draw(st.integers(3, max_n)), draw(st.integers(1, max_p))
    features = design(rng, n, p, 10.0 ** draw(st.floats(0, 8)))
    ridge = np.full(p, 10.0 ** draw(st.floats(-4, 2)))
    outputs = features @ rng.standard_normal(p) * draw(st.sampled_from((0.3, 1.0, 3.0)))
    kinds = draw(st.sets(st.sampled_from(("duplicate", "zero", "intercept", "weights", "heavy", "absent"))))
    if "duplicate" in kinds:
        features[2] = features[1]
    if "zero" in kinds:
        features[-1] = 0.0
    if "intercept" in kinds and intercepts:
        features[:, -1], ridge[-1] = 1.0, 0.0
    weights = np.exp(rng.standard_normal(n)) if "weights" in kinds else np.ones(n)
    if "heavy" in kinds:
        weights[0] = 10.0 ** draw(st.floats(0, 6))  # pushes its leverage to 1
    if "absent" in kinds:
        weights[1] = 0.0
    loss = loss or draw(st.sampled_from((*LOSS_NAMES, PseudoHuber(0.3))))
    targets = targets_for(rng, getattr(loss, "name", loss), outputs)
    glm = GLM(features, targets, loss=loss, ridge=ridge, weights=weights)
    try:
        return glm.fit()
    except NO_FIT:
        assume(False)


def without(fit, i):
    """The same model with weight 0 on point i, fitted; None if it has no minimiser."""
    glm = fit.glm
    weights = glm.weights.copy()
    weights[i] = 0.0
    try:
        return GLM(glm.features, glm.targets, loss=glm.loss, ridge=glm.ridge, weights=weights).fit()
    except NO_FIT:
        return None


def exact_influence(fit, left, queries):
    """φ*ᵀ(θ̂ − θ̂_{−i}) (q,), both minimisers polished by Newton steps in fifty digits; `left` from `without`."""
    with mpmath.workdps(DIGITS):
        change = [a - b for a, b in zip(_polish(fit), _polish(left), strict=True)]
        return np.array([float(mpmath.fdot(map(mpmath.mpf, query), change)) for query in queries.tolist()])


def _polish(fit):
    glm = fit.glm
    rows, targets, weights, ridge = (
        [[mpmath.mpf(x) for x in row] for row in glm.features.tolist()],
        *([mpmath.mpf(x) for x in array.tolist()] for array in (glm.targets, glm.weights, glm.ridge)),
    )
    p = len(ridge)
    theta = [mpmath.mpf(x) for x in fit.coef.tolist()]
    for _ in range(30):
        gradient = [ridge[a] * theta[a] for a in range(p)]
        hessian = mpmath.matrix(p, p)
        for a in range(p):
            hessian[a, a] = ridge[a]
        for row, y, w in zip(rows, targets, weights, strict=True):
            residual, curvature = _derivatives(glm.loss, y, mpmath.fdot(row, theta))
            for a in range(p):
                gradient[a] += w * residual * row[a]
                for b in range(a + 1):
                    hessian[a, b] += w * curvature * row[a] * row[b]
        for a in range(p):
            for b in range(a):
                hessian[b, a] = hessian[a, b]
        step = mpmath.lu_solve(hessian, mpmath.matrix(gradient))
        theta = [a - b for a, b in zip(theta, step, strict=True)]
        if max(map(abs, step)) <= mpmath.mpf(10) ** -30 * max(map(abs, theta)):
            return theta
    raise AssertionError("Newton's method in fifty digits did not converge")


def _derivatives(loss, y, f):
    """ℓ′ and ℓ″."""
    match loss.name:
        case "squared":
            return f - y, mpmath.mpf(1)
        case "logistic":
            probability = 1 / (1 + mpmath.exp(-f))
            return probability - y, probability * (1 - probability)
        case "poisson":
            return mpmath.exp(f) - y, mpmath.exp(f)
        case "huber":
            stretch = mpmath.sqrt(1 + ((f - y) / mpmath.mpf(loss.delta)) ** 2)
            return (f - y) / stretch, stretch**-3
    raise ValueError(loss)


@st.composite
def hard_linearizations(draw, *, max_n=8, max_p=6, one_ridge=False, positive_ridge=False):
    """Linearizations with condition up to 1e8, curvatures over eight decades, duplicated and zero rows, a ridge of 0
    where p ≤ n, an unpenalised column, leverage up to 1 − 1e-6."""
    rng = np.random.default_rng(draw(seeds))
    n, p = draw(st.integers(2, max_n)), draw(st.integers(1, max_p))
    features = design(rng, n, p, 10.0 ** draw(st.floats(0, 8)))
    kinds = draw(st.sets(st.sampled_from(("duplicate", "zero", "intercept", "heavy", "flat", "absent"))))
    if "duplicate" in kinds:
        features[1] = features[0]
    if "zero" in kinds:
        features[-1] = 0.0
    exponents = st.floats(-6, 2)
    none = st.just(-np.inf)
    ridge = np.full(p, 10.0 ** draw(exponents if positive_ridge or p > n else exponents | none))
    if "intercept" in kinds and not one_ridge:
        features[:, -1], ridge[-1] = 1.0, 0.0
    curvature = np.ones(n) if "flat" in kinds else 10.0 ** rng.uniform(-draw(st.floats(0, 4)), 0, n)
    if "heavy" in kinds:
        curvature[0] = 10.0 ** draw(st.floats(0, 6))
    if "absent" in kinds:
        curvature[-1] = 0.0
    return Linearization(features, rng.standard_normal(n), curvature, ridge, rng.standard_normal((3, p)))


def exact_influence_and_newton(lin, projection=None):
    """−rφᵀH⁻¹φ* and −rφᵀH⁻¹φ*/(1 − h), both (n, q), in fifty digits, for φ → Pᵀφ if a projection is given.

    None where H is singular; NaN in the rows of leverage 1.
    """
    with mpmath.workdps(DIGITS):
        rows, queries, ridge = mpmath.matrix(lin.features.tolist()), mpmath.matrix(lin.queries.tolist()), lin.ridge
        if projection is not None:
            matrix, ridge = mpmath.matrix(projection.tolist()), np.full(projection.shape[1], ridge[0])
            rows, queries = rows * matrix, queries * matrix
        curvature = mpmath.diag(lin.curvature.tolist())
        try:
            inverse = (rows.T * curvature * rows + mpmath.diag(ridge.tolist())) ** -1
        except ZeroDivisionError:
            return None
        whole = -mpmath.diag(lin.residual.tolist()) * rows * inverse * queries.T
        remaining = [1 - d * (rows[i, :] * inverse * rows[i, :].T)[0] for i, d in enumerate(lin.curvature.tolist())]
        influence = np.array(whole.tolist(), dtype=float)
        gone = [value < mpmath.mpf(10) ** (10 - DIGITS) for value in remaining]
        newton = [
            [float("nan") if gone[i] else float(whole[i, j] / remaining[i]) for j in range(whole.cols)]
            for i in range(whole.rows)
        ]
        return influence, np.array(newton)
