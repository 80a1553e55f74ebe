"""The audit of scores whose unprojected gradients are known: everything follows from one eigendecomposition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.auditing.checking.alarms import Calibration, ScoreCheck
from trak_theory.auditing.checking.score_draws import drawn
from trak_theory.auditing.findings import (
    alarm_clause,
    alarm_numbers,
    rounding_sentence,
    smallest_eigenvalue,
    zero_scores,
)
from trak_theory.auditing.inputs import AuditData
from trak_theory.auditing.measures import (
    Row,
    assumed_ridge,
    budget,
    check_scores,
    kendall,
    kept_share,
    sensitivity,
    top_overlap,
    weighted_scores,
)
from trak_theory.auditing.packages import Package
from trak_theory.auditing.planning import Plan, plan_against
from trak_theory.auditing.result import Audit
from trak_theory.auditing.verdict import NOTABLE, Advice, decide
from trak_theory.laws.conditional_rank_law import RandomScores, rank_law_of_scores
from trak_theory.laws.rank_law import RankLaw
from trak_theory.numerics.rows import StoredRows
from trak_theory.numerics.spectrum import gram_eigenvalues, spectrum
from trak_theory.projection.kernel_law import KernelLaw
from trak_theory.retraining.ridge_rule import RidgeRule, TrainingRecipe, rule_from_eigenvalues


@dataclass(frozen=True, eq=False)
class Laws:
    """The law of the scores at the stated setting, and their mean and standard deviation (n, q); None without a law."""

    data: AuditData
    law: KernelLaw

    @cached_property
    def usable(self) -> bool:
        return not self.law.singular and bool(np.isfinite(self.law.noisy_query_square).all())

    @cached_property
    def mean(self) -> Array | None:
        return -self.data.residual[:, None] * self.law.mean if self.usable else None

    @cached_property
    def sd(self) -> Array | None:
        return np.abs(self.data.residual)[:, None] * np.sqrt(self.law.variance) if self.usable else None

    @cached_property
    def random(self) -> RandomScores | None:
        everyone = np.ones(len(self.data.residual), bool)
        return RandomScores(self.data.residual, self.law, everyone) if self.usable else None

    def agreement_with(self, reference: Array | None) -> RankLaw | None:
        return None if self.random is None or reference is None else rank_law_of_scores(reference, self.random)


def examine(
    data: AuditData,
    setting: Row,
    package: Package,
    recipe: TrainingRecipe | float | None,
    fraction: float | None,
    rng: Generator,
) -> Audit:
    """The audit from unprojected features."""
    space = spectrum(*_small(data.features, data.queries))
    n, k, unit = setting["n"], setting["k"], package.unit(setting["p"], setting["k"])
    laws = Laws(data, KernelLaw(space, k, setting["ensemble"], setting["ridge"]))
    law, mean, sd = laws.law, laws.mean, laws.sd
    eigenvalues = gram_eigenvalues(np.sqrt(data.curvature)[:, None] * space.training)
    training, notes = assumed_ridge(recipe, eigenvalues, n)
    curvature = float(data.curvature.mean())
    spectra = {"weighted": eigenvalues, "plain": space.eigenvalues}
    rule = rule_from_eigenvalues(training, **spectra, mean_curvature=curvature, n=n, fraction=fraction, k=k)
    reference = weighted_scores(space, data, rule.curvature_weighted)
    if not reference.any():
        raise ValueError("features, queries and residuals give scores of 0 for every pair: no score says anything")
    own, total = laws.agreement_with(mean), laws.agreement_with(reference)
    rungs = budget(space, data, reference, rule.unit_curvature, mean, total)
    plan = plan_against(reference, data.residual, space, _around(k, setting["ensemble"], space.p))
    recommendation = {
        **_rule_row(rule, unit),
        **_best_at(k, plan, unit),
        "present_kendall": float(total.kendall) if total else None,
        "most_costly": max(rungs, key=lambda row: row["lost"])["rung"] if mean is not None else None,
    }
    advice = _advice(recommendation, package)
    check, broken = _checked(data, laws, data.arithmetic(package.name), rng)
    kept = _kept(data, mean, sd, setting["top"])
    comparison = _comparison(data, mean, sd, own)
    return Audit(
        verdict=decide(broken=broken, kept=kept, top=setting["top"], now=setting["value"], advice=advice),
        advice=advice,
        setting={**setting, "rank": space.rank},
        implicit_ridge=None if law.singular else law.implicit_ridge,
        effective_dimension=None if law.singular else law.effective_dimension,
        residual_degrees_of_freedom=None if law.singular else law.residual_degrees_of_freedom,
        mean=mean,
        sd=sd,
        scale=1.0 if comparison is None else comparison["scale"],
        projection_loss=None if own is None else _law_row(own),
        ridge_loss=None if mean is None else kendall(reference, mean),
        budget=tuple(rungs),
        top_overlap=kept,
        check=check,
        scores_check=comparison,
        sensitivity=tuple(sensitivity(space, data, laws.random, eigenvalues, training, fraction, k)),
        recommendation=recommendation,
        map=_map(plan, unit),
        findings=_findings(laws, check, broken, comparison, advice, package),
        remarks=(*rule.warnings, *notes, *data.notes),
    )


def _best_at(k: int, plan: Plan, unit: float) -> Row:
    """The best ridge at the present k, where the plan has one, and what no projection would reach."""
    best = next((choice for choice in plan.curve if choice.k == k), None)
    found = (best.ridge, best.ridge / unit, best.kendall) if best else (None, None, None)
    names = ("best_ridge", "best_value", "best_kendall")
    return {**dict(zip(names, found, strict=True)), "unprojected_kendall": plan.limit}


def _small(features: Array | StoredRows, queries: Array) -> tuple[Array, Array]:
    """As they are for p > n, whose Gram matrix goes by blocks; in double precision otherwise."""
    features = features.read() if isinstance(features, StoredRows) else features
    n, p = features.shape
    return (features, queries) if p > n else (np.asarray(features, float), np.asarray(queries, float))


def _around(k: int, ensemble: int, p: int) -> list[tuple[int, int, float]]:
    """The present k and a few others, at the same number of projections."""
    others = {max(1, min(p, round(k * factor))) for factor in (0.25, 0.5, 1, 2, 4)}
    return [(each, ensemble, 0.0) for each in sorted(others)]


def _map(plan: Plan, unit: float) -> tuple[Row, ...]:
    return tuple(
        {"k": choice.k, "ridge": choice.ridge, "value": choice.ridge / unit, "kendall": choice.kendall}
        for choice in plan.grid
    )


def _rule_row(rule: RidgeRule, unit: float) -> Row:
    return {
        "training_ridge": rule.training,
        "curvature_weighted_ridge": rule.curvature_weighted,
        "unit_curvature_ridge": rule.unit_curvature,
        "rule_ridge": rule.projected,
        "rule_value": None if rule.projected is None else rule.projected / unit,
    }


def _advice(recommendation: Row, package: Package) -> Advice:
    """The ridge with the best predicted Kendall; the value of the rule is the appendix."""
    value, ridge = recommendation["best_value"], recommendation["best_ridge"]
    present, predicted = recommendation["present_kendall"], recommendation["best_kendall"]
    return Advice(package.parameter, value, ridge, "Kendall", present, predicted)


def _law_row(law: RankLaw) -> Row:
    return {"pearson": float(law.pearson), "kendall": float(law.kendall), "spearman": float(law.spearman)}


def _kept(data: AuditData, mean: Array | None, sd: Array | None, top: int) -> float | None:
    if mean is None or sd is None:
        return None
    scores = data.informative_scores
    return top_overlap(mean, sd, top) if scores is None else kept_share(scores, mean, sd, top)


def _comparison(data: AuditData, mean: Array | None, sd: Array | None, own: RankLaw | None) -> Row | None:
    scores = data.informative_scores
    if scores is None or mean is None or sd is None or own is None or not scores.any():
        return None
    return check_scores(scores, mean, sd, float(own.kendall))


def _checked(data: AuditData, laws: Laws, epsilon: float, rng: Generator) -> tuple[ScoreCheck | None, str | None]:
    """The alarms, and what is broken about the scores in one clause."""
    law = laws.law
    if law.singular:
        return (
            None,
            f"they are rounding noise: k = {law.k} exceeds the rank {law.space.rank} of the gradients and μ = 0",
        )
    largest = float(law.space.eigenvalues[-1])
    if rounding := rounding_sentence(largest, smallest_eigenvalue(law), epsilon):
        return None, rounding
    if (scores := data.informative_scores) is None:
        return None, None
    if zeros := zero_scores(data):
        return None, zeros
    if not laws.usable or law.noise == 0:
        return None, None
    points = (data.residual != 0) & (law.training_square > 0)
    queries = np.ones(scores.shape[1], bool)
    draws = drawn(law, data.residual, _gram(data.queries), (points, queries))
    check = Calibration(draws, rng).check(scores[np.ix_(draws.points, draws.queries)])
    return check, alarm_clause(check) if check.alarm else None


def _gram(rows: Array) -> Array:
    rows = np.asarray(rows, float)
    return rows @ rows.T


def _findings(
    laws: Laws,
    check: ScoreCheck | None,
    broken: str | None,
    comparison: Row | None,
    advice: Advice,
    package: Package,
) -> tuple[str, ...]:
    found = [laws.law.diagnosis] if laws.law.diagnosis else []
    if broken:
        found.append(f"these scores are not to be used: {broken}")
    if check is not None and check.alarm:
        found.append(alarm_numbers(check))
    if comparison is not None and comparison["kendall"] is None:
        found.append("the scores point against the law (negative scale): check sign and order of points and queries")
    elif comparison is not None and abs(gap := comparison["kendall"] - comparison["predicted_kendall"]) > NOTABLE:
        found.append(
            f"the scores agree with their own kernel by Kendall {comparison['kendall']:.3f}, {gap:+.3f} from what the "
            "law says: the setting or the package's unit is not as stated, or half precision adds an error of its own"
        )
    return (*found, *_to_do(laws.law.singular, advice, package))


def _to_do(singular: bool, advice: Advice, package: Package) -> list[str]:
    if advice.value is None:
        return []
    if singular:
        owner = f"{package.name}'s {package.parameter}" if package.name != "none" else "the projected ridge"
        return [f"set {owner} to {advice.value:.4g}"]
    if advice.present is None or advice.predicted is None or advice.gain <= NOTABLE:
        return []
    return [
        f"{package.parameter} = {advice.value:.4g} would lift the predicted Kendall with the reference from "
        f"{advice.present:.3f} to {advice.predicted:.3f} at the same k"
    ]
