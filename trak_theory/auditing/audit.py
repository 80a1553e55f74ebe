"""An audit of TRAK scores: what the projection and the ridge did to them, how sure they are, and what to change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.inputs import AuditData
from trak_theory.auditing.measures import (
    Row,
    assumed_ridge,
    budget,
    check_scores,
    kendall,
    sensitivity,
    top_overlap,
    weighted_scores,
)
from trak_theory.auditing.packages import Package, package_named
from trak_theory.auditing.planning import Plan, plan_against
from trak_theory.laws.conditional_rank_law import RandomScores, rank_law_of_scores
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.spectrum import gram_eigenvalues, spectrum
from trak_theory.projection.error_bars import check_setting
from trak_theory.projection.kernel_law import KernelLaw
from trak_theory.projection.projected_features import ProjectedKernel, weighted_implicit_ridge
from trak_theory.retraining.ridge_rule import RidgeRule, TrainingRecipe, rule_from_eigenvalues, training_ridge

NOTABLE = 0.05  # of Kendall: what is worth a warning


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found. Ridges in the sum convention; attributions (n, q) in the presence sign.

    setting            sizes, package, its parameter, k, J, μ, projected (or not), aim
    implicit_ridge γ   what the projection amounts to; None where there is no kernel (k > rank, μ = 0)
    effective_dimension df(γ), spare = k − df₂
    mean, sd           of every score over projections; for projected features `mean` is the one draw itself
    projection_loss    predicted Pearson, Kendall, Spearman with the unprojected kernel at the same γ
    ridge_loss         Kendall of that kernel with the reference, with its standard error over queries
    budget             rungs from the reference down: Kendall with the reference and what each step costs
    top_overlap        expected share of each query's top m that a fresh projection would keep
    scores_check       the given scores against the law, at their best scale
    sensitivity        the verdict for other training ridges
    recommendation     settings, with predictions; advice in words
    """

    setting: Row
    implicit_ridge: float | None
    effective_dimension: float | None
    spare: float | None
    mean: Array | None = field(repr=False)
    sd: Array | None = field(repr=False)
    projection_loss: Row | None
    ridge_loss: Row | None
    budget: tuple[Row, ...]
    top_overlap: float | None
    scores_check: Row | None
    sensitivity: tuple[Row, ...]
    recommendation: Row
    warnings: tuple[str, ...]


def audit(
    features: Any,
    queries: Any,
    residual: Any,
    *,
    k: int | None = None,
    ensemble: int = 1,
    ridge: float | None = None,
    package: str = "none",
    curvature: Any = None,
    recipe: TrainingRecipe | float | None = None,
    fraction: float | None = None,
    scores: Any = None,
    projected: bool = False,
    parameters: int | None = None,
    top: int | None = None,
) -> Audit:
    """Audit TRAK scores of a model.

    features, queries  per-sample gradients (n, p) and (q, p), p > n may be memory-mapped; with `projected` what one
                       projection left of them, (n, k) and (q, k), scaled as by E PPᵀ = I
    residual           ∂ℓ/∂f (n,); TRAK's 1 − p is its size
    k, ensemble, ridge the setting that the scores were computed with; `ridge` is the package's own parameter
    package            none (ridge = μ, sum convention), traker (lambda_reg, μ = ridge·p/k) or dattri
                       (regularization, μ = ridge·p); it also fixes what k and ridge default to
    curvature          ∂²ℓ/∂f² (n,); default |r|(1 − |r|), the logistic loss of a margin
    recipe, fraction   how the network was trained, or its training ridge; `fraction` α if the truth is retraining on
                       random subsets of αn points, None for leave-one-out
    scores             (n, q) as computed, of unknown positive scale
    parameters         p, where projected features of a package do not show it
    top                m of the top-m overlap, default n/20
    """
    known = package_named(package)
    data = AuditData.checked(features, queries, residual, curvature, scores, projected, parameters)
    n, p = data.features.shape[0], data.parameters
    k = data.features.shape[1] if projected else min(known.default_k, p) if k is None else k
    value = known.default_value if ridge is None else ridge
    check_setting(p, k=k, ensemble=ensemble, ridge=value)
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    top = max(1, n // 20) if top is None else positive_count("top", top)
    setting = {
        "n": n,
        "p": p,
        "queries": len(data.queries),
        "k": k,
        "ensemble": ensemble,
        "ridge": value * known.unit(p, k),
        "package": package,
        "parameter": known.parameter,
        "value": value,
        "projected_input": projected,
        "aim": "leave-one-out" if fraction is None else f"retraining on subsets of {fraction:g} n points",
        "top": top,
    }
    examine = _examine_projected if projected else _examine
    return examine(data, setting, known, recipe, fraction)


def _examine(
    data: AuditData, setting: Row, package: Package, recipe: TrainingRecipe | float | None, fraction: float | None
) -> Audit:
    space = spectrum(*_small(data.features, data.queries))
    n, k = setting["n"], setting["k"]
    law = KernelLaw(space, k, setting["ensemble"], setting["ridge"])
    eigenvalues = gram_eigenvalues(np.sqrt(data.curvature)[:, None] * space.training)
    training, notes = assumed_ridge(recipe, eigenvalues, n)
    rule = rule_from_eigenvalues(
        training,
        weighted=eigenvalues,
        plain=space.eigenvalues,
        mean_curvature=float(data.curvature.mean()),
        n=n,
        fraction=fraction,
        k=k,
    )
    reference = weighted_scores(space, data, rule.curvature_weighted)
    usable = not law.singular and np.isfinite(law.noisy_query_square).all()
    mean = -data.residual[:, None] * law.mean if usable else None
    sd = np.abs(data.residual)[:, None] * np.sqrt(law.variance) if usable else None
    random = RandomScores(data.residual, law, np.ones(n, bool)) if usable else None
    own, total = (rank_law_of_scores(r, random) if random and r is not None else None for r in (mean, reference))
    rungs = budget(space, data, reference, rule.unit_curvature, mean, total)
    plan = plan_against(reference, data.residual, space, [(k, setting["ensemble"], 0.0)])
    recommendation = {
        **_rule_row(rule, package.unit(setting["p"], k)),
        **_plan_row(plan, package.unit(setting["p"], k)),
        "present_kendall": float(total.kendall) if total else None,
        "most_costly": max(rungs, key=lambda row: row["lost"])["rung"] if len(rungs) > 1 else None,
    }
    warnings = [*([law.diagnosis] if law.diagnosis else []), *rule.warnings, *notes, *data.notes]
    check = None
    if data.scores is not None and mean is not None and sd is not None and own is not None:
        check = check_scores(data.scores, mean, sd, float(own.kendall))
        warnings += _check_warnings(check)
    warnings += _setting_warnings(law.singular, recommendation, package)
    return Audit(
        setting={**setting, "rank": space.rank},
        implicit_ridge=None if law.singular else law.implicit_ridge,
        effective_dimension=None if law.singular else law.effective_dimension,
        spare=None if law.singular else law.spare,
        mean=mean,
        sd=sd,
        projection_loss=None if own is None else _law_row(own),
        ridge_loss=None if mean is None else kendall(reference, mean),
        budget=tuple(rungs),
        top_overlap=None if mean is None or sd is None else top_overlap(mean, sd, setting["top"]),
        scores_check=check,
        sensitivity=tuple(sensitivity(space, data, random, eigenvalues, training, fraction, k)),
        recommendation=recommendation,
        warnings=tuple(warnings),
    )


def _examine_projected(
    data: AuditData, setting: Row, package: Package, recipe: TrainingRecipe | float | None, fraction: float | None
) -> Audit:
    features, queries = (np.asarray(a, float) for a in (data.features, data.queries))
    kernel = ProjectedKernel(features, queries, setting["ridge"])
    n, k = features.shape
    recommendation: Row = {}
    notes: tuple[str, ...] = ()
    if recipe is None:
        notes = ("no recipe or training ridge given: no ridge can be recommended",)
    else:
        training = training_ridge(recipe, n)
        ridge = weighted_implicit_ridge(features, data.curvature, training, fraction)
        implicit = ridge / float(data.curvature.mean())
        rule = RidgeRule(training, ridge, implicit, kernel.projected_ridge(implicit), ())
        recommendation = _rule_row(rule, package.unit(setting["p"], k))
    if kernel.singular:
        reason = f"the projected Gram matrix (k = {k}) is singular with μ = 0: these scores are rounding noise"
        warnings = (reason, *notes, *data.notes, *_setting_warnings(True, recommendation, package))
        return Audit(setting, None, None, None, None, None, None, None, (), None, None, (), recommendation, warnings)
    draw = -data.residual[:, None] * kernel.kernel
    sd = np.abs(data.residual)[:, None] * np.sqrt(kernel.variance / setting["ensemble"])
    check = None
    if data.scores is not None:
        check = check_scores(data.scores, draw, sd, None)
    return Audit(
        setting=setting,
        implicit_ridge=kernel.implicit_ridge,
        effective_dimension=kernel.effective_dimension,
        spare=kernel.spare,
        mean=draw,
        sd=sd,
        projection_loss={
            "pearson": kernel.reliability(data.residual, setting["ensemble"]),
            "kendall": None,
            "spearman": None,
        },
        ridge_loss=None,
        budget=(),
        top_overlap=None,
        scores_check=check,
        sensitivity=(),
        recommendation=recommendation,
        warnings=(*notes, *data.notes),
    )


def _rule_row(rule: RidgeRule, unit: float) -> Row:
    return {
        "training_ridge": rule.training,
        "curvature_weighted_ridge": rule.curvature_weighted,
        "unit_curvature_ridge": rule.unit_curvature,
        "rule_ridge": rule.projected,
        "rule_value": None if rule.projected is None else rule.projected / unit,
    }


def _plan_row(plan: Plan, unit: float) -> Row:
    if not plan.curve:
        return {"best_ridge": None, "best_value": None, "best_kendall": None, "unprojected_kendall": plan.limit}
    ridge, best = plan.curve[0].ridge, plan.curve[0].kendall
    return {
        "best_ridge": ridge,
        "best_value": ridge / unit,
        "best_kendall": best,
        "unprojected_kendall": plan.limit,
    }


def _small(features: Array, queries: Array) -> tuple[Array, Array]:
    """As they are for p > n, whose Gram matrix goes by blocks; in double precision otherwise."""
    n, p = features.shape
    return (features, queries) if p > n else (np.asarray(features, float), np.asarray(queries, float))


def _law_row(law: Any) -> Row:
    return {"pearson": float(law.pearson), "kendall": float(law.kendall), "spearman": float(law.spearman)}


def _check_warnings(check: Row) -> list[str]:
    if check["kendall"] is None:
        return [
            "the scores point against the law (negative scale): check their sign, and the order of points and queries"
        ]
    found = []
    gap = check["kendall"] - check["predicted_kendall"]
    if abs(gap) > NOTABLE:
        found.append(
            f"the scores agree with their own kernel by Kendall {check['kendall']:.3f}, the law says "
            f"{check['predicted_kendall']:.3f}: the setting or the package's unit is not as stated, or half precision "
            "adds an error of its own"
        )
    return found


def _setting_warnings(singular: bool, recommendation: Row, package: Package) -> list[str]:
    found = []
    rule, present, best = (recommendation.get(name) for name in ("rule_value", "present_kendall", "best_kendall"))
    if singular and rule:
        found.append(
            f"set {package.name}'s {package.parameter} to {rule:.4g}"
            if package.name != "none"
            else f"set the projected ridge to {rule:.4g}"
        )
    if present is not None and best is not None and best - present > NOTABLE:
        value = recommendation["best_value"]
        found.append(
            f"{package.parameter} = {value:.4g} would lift the predicted Kendall with the reference from {present:.3f} "
            f"to {best:.3f} at the same k"
        )
    return found
