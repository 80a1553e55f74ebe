"""An audit of TRAK scores: what projection and ridge did to them, how sure they are, and what to change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike

from trak_theory.auditing import projected as from_projected
from trak_theory.auditing import unprojected as from_gradients
from trak_theory.auditing.inputs import AuditData, Features, Queries
from trak_theory.auditing.measures import Row
from trak_theory.auditing.packages import Package, package_named
from trak_theory.auditing.result import Audit
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.gram import over_blocks
from trak_theory.projection.error_bars import check_setting
from trak_theory.retraining.ridge_rule import TrainingRecipe

LARGEST_RIDGE = 1e12  # times the trace of ΦᵀΦ: beyond it every kernel is the plain inner product


def audit(
    features: Features,
    queries: Queries,
    residual: ArrayLike,
    *,
    k: int | None = None,
    ensemble: int = 1,
    ridge: float | None = None,
    package: str | Package = "none",
    curvature: ArrayLike | None = None,
    recipe: TrainingRecipe | float | None = None,
    fraction: float | None = None,
    scores: ArrayLike | None = None,
    projected: bool = False,
    parameters: int | None = None,
    top: int | None = None,
    rng: Generator | None = None,
) -> Audit:
    """Verdict on TRAK scores of a model, their error bars, the cost of each approximation, and the setting to use.

    features, queries  per-sample gradients (n, p) and (q, p), p > n may be memory-mapped; with `projected` what one
                       projection left of them, (n, k) and (q, k), or each of J, (J, n, k) and (J, q, k), scaled as by
                       E PPᵀ = I
    residual           ∂ℓ/∂f (n,); TRAK's 1 − p is its size
    k, ensemble, ridge   the setting that the scores were computed with; `ridge` is the package's own parameter. k of
                       projected features is their width
    package            none (ridge = μ, sum convention), traker (lambda_reg, μ = ridge·p/k) or dattri
                       (regularization, μ = ridge·p), or a Package; it also fixes what k and ridge default to
    curvature          ∂²ℓ/∂f² (n,); default |r|(1 − |r|), the logistic loss of a margin
    recipe, fraction   how the network was trained, or its training ridge; `fraction` α if the truth is retraining on
                       random subsets of αn points, None for leave-one-out
    scores             (n, q) as computed, of unknown positive scale
    parameters         p, where projected features of a package do not show it
    top                m of the top-m overlap, default n/20
    rng                of the simulated scores that given ones are compared with; default a fixed seed, so that the
                       same input gets the same verdict

    Healthy scores are called broken in 1 of 150 audits; `python -m simulations.benchmarks audit_alarms` measures that.

    >>> rng = np.random.default_rng(0)
    >>> features, queries = rng.standard_normal((60, 40)), rng.standard_normal((3, 40))
    >>> found = audit(features, queries, -rng.random(60), k=10, recipe=5.0)
    >>> found.verdict.trust, found.verdict.sentence[:23]
    (False, 'Do not trust the order:')
    """
    known = package_named(package)
    data = AuditData.checked(features, queries, residual, curvature, scores, projected, parameters)
    setting = _setting(data, known, k, ensemble, ridge, projected, fraction, top)
    rng = np.random.default_rng(0) if rng is None else rng
    examine = from_projected.examine if projected else from_gradients.examine
    return _whole(examine(data, setting, known, recipe, fraction, rng), data)


def _setting(
    data: AuditData,
    known: Package,
    k: int | None,
    ensemble: int,
    ridge: float | None,
    projected: bool,
    fraction: float | None,
    top: int | None,
) -> Row:
    n, width = data.features.shape
    p, count = data.parameters or width, len(data.members)
    if projected and k not in (None, width):
        raise ValueError(f"k = {k}, but the projected features have {width} dimensions: leave k out")
    if count > 1 and ensemble not in (1, count):
        raise ValueError(f"ensemble = {ensemble}, but the features hold {count} projections: leave ensemble out")
    k = width if projected else min(known.default_k, p) if k is None else k
    value = known.default_value if ridge is None else ridge
    if data.parameters is None and known.unit(p, k) != known.unit(p + 1, k):
        unit = f"{known.name}'s {known.parameter} is in units of p, which projected features do not show"
        raise ValueError(f"{unit}: give parameters (--parameters)")
    check_setting(p, k=k, ensemble=ensemble, ridge=value)
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    top = max(1, n // 20) if top is None else positive_count("top", top)
    if top > n:
        raise ValueError(f"top = {top} exceeds the {n} points")
    _check_ridge(data, value * known.unit(p, k))
    return {
        "n": n,
        "p": data.parameters,
        "queries": len(data.informative),
        "k": k,
        "ensemble": max(ensemble, count),
        "ridge": value * known.unit(p, k),
        "package": known.name,
        "parameter": known.parameter,
        "value": value,
        "projected_input": projected,
        "aim": "leave-one-out" if fraction is None else f"retraining on subsets of {fraction:g} n points",
        "top": top,
    }


def _check_ridge(data: AuditData, ridge: float) -> None:
    trace = float(np.sum(over_blocks(lambda rows: np.einsum("ij,ij->i", rows, rows), data.features)))
    if trace > 0 and ridge > LARGEST_RIDGE * trace:
        raise ValueError(f"the projected ridge μ = {ridge:.3g} is beyond 10¹² times the trace {trace:.3g} of ΦᵀΦ")


def _whole(found: Audit, data: AuditData) -> Audit:
    """Mean and sd for all queries: 0 for those without a gradient; in the unit of the scores."""
    scale = found.scale if found.scale > 0 else 1.0
    mean, sd = (_spread(values, data.informative, scale) for values in (found.mean, found.sd))
    return replace(found, scores=data.scores, scale=scale, mean=mean, sd=sd)


def _spread(values: Array | None, informative: Array, scale: float) -> Array | None:
    if values is None:
        return None
    whole = np.zeros((len(values), informative.size))
    whole[:, informative] = scale * values
    return whole
