"""The audit of stored projected features: the scores again by exact algebra, and the law from the draw at hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.auditing.checking.recomputed import Recomputation, recompute
from trak_theory.auditing.findings import rounding_sentence, zero_scores
from trak_theory.auditing.inputs import SINGLE, AuditData
from trak_theory.auditing.measures import Row, kept_share
from trak_theory.auditing.packages import Package
from trak_theory.auditing.result import Audit
from trak_theory.auditing.verdict import NOTABLE, Advice, decide
from trak_theory.numerics.estimate import mean as mean_over
from trak_theory.projection.projected_features import ProjectedKernel, weighted_implicit_ridge
from trak_theory.retraining.ridge_rule import TrainingRecipe, training_ridge

KEPT_ENTRIES = 2**22  # of the scores that are looked at together


@dataclass(frozen=True, eq=False)
class Projections:
    """The kernels of the stored projections, and J: the number that the scores average."""

    kernels: tuple[ProjectedKernel, ...]
    residual: Array
    ensemble: int

    @property
    def first(self) -> ProjectedKernel:
        return self.kernels[0]

    @cached_property
    def singular(self) -> bool:
        return any(kernel.singular for kernel in self.kernels)

    @cached_property
    def _moments(self) -> tuple[Array, Array]:
        """Mean and summed squared deviation of the members' kernels (n, q), one after the other."""
        mean, squares = self.first.kernel, np.zeros((len(self.residual), len(self.first.queries)))
        for count, kernel in enumerate(self.kernels[1:], 2):
            values = kernel.kernel
            step = values - mean
            mean = mean + step / count
            squares += step * (values - mean)
        return mean, squares

    @property
    def kernel(self) -> Array:
        """The mean of the stored kernels (n, q)."""
        return self._moments[0]

    @cached_property
    def scores(self) -> Array:
        """−r × that mean (n, q)."""
        return -self.residual[:, None] * self.kernel

    @cached_property
    def sd(self) -> Array:
        """Standard deviation over projections of the mean of J kernels, times |r| (n, q)."""
        variance = reduce(np.add, (kernel.variance for kernel in self.kernels))
        return np.abs(self.residual)[:, None] * np.sqrt(variance / (len(self.kernels) * self.ensemble))

    @cached_property
    def scatters(self) -> tuple[Array, ...]:
        return tuple(kernel.scatter(self.residual) for kernel in self.kernels)

    def pearson(self, ridge: float | None = None, implicit: float | None = None) -> float:
        """Predicted correlation of the scores at μ with the unprojected kernel at γ; both their own by default."""
        found = []
        for kernel, scatter in zip(self.kernels, self.scatters, strict=True):
            own = kernel if ridge is None else kernel.at(ridge)
            target = own if implicit is None else kernel.at(kernel.projected_ridge(implicit))
            found.append(own.pearson_with(target, scatter, self.ensemble))
        return float(np.mean(found))

    def kept(self, scores: Array, top: int) -> float:
        """Share of each query's top m that fresh projections would keep, the means taken as normal across points.

        With τ² = Var T − mean sd² of a query, a fresh score given T is N(bT, (1 + b) sd²), b = τ²/(τ² + sd²).
        """
        step = max(1, KEPT_ENTRIES // len(scores))
        slices = [slice(start, start + step) for start in range(0, scores.shape[1], step)]
        shares = [self._kept(scores[:, some], self.sd[:, some], top) for some in slices]
        return float(np.average(shares, weights=[scores[0, some].size for some in slices]))

    @staticmethod
    def _kept(scores: Array, sd: Array, top: int) -> float:
        centred = scores - scores.mean(0)
        signal = np.maximum(np.mean(centred**2, 0) - np.mean(sd**2, 0), 0.0)
        noise = np.maximum(sd**2, np.finfo(float).tiny)
        share = signal / (signal + noise)
        return kept_share(scores, scores.mean(0) + share * centred, np.sqrt((1 + share) * noise), top)

    def spread_over_members(self) -> Row | None:
        """Measured against predicted standard deviation between the stored projections; None for a single one."""
        if len(self.kernels) < 2:
            return None
        measured = np.sum(self.residual[:, None] ** 2 * self._moments[1], 0) / (len(self.kernels) - 1)
        predicted = self.ensemble * np.sum(self.sd**2, 0)
        ratio = mean_over(measured / predicted)
        return {"measured over predicted variance": ratio.value, "se": ratio.se, "projections": len(self.kernels)}


def examine(
    data: AuditData,
    setting: Row,
    package: Package,
    recipe: TrainingRecipe | float | None,
    fraction: float | None,
    rng: Generator,
) -> Audit:
    """The audit from projected features: no unprojected gradient is needed."""
    kernels = tuple(
        ProjectedKernel(rows, np.asarray(asked, float)[data.informative], setting["ridge"])
        for rows, asked in data.members
    )
    stored = Projections(kernels, data.residual, setting["ensemble"])
    unit = package.unit(setting["p"] or setting["k"], setting["k"])
    remarks = list(data.notes)
    recommendation: Row = {}
    if recipe is None:
        remarks.append("A ridge is recommended where the training recipe (or training ridge) and p are both known.")
    else:
        recommendation = _rule(stored, data, recipe, fraction, unit)
    advice = _advice(stored, recommendation, package)
    recomputed, broken = _checked(data, stored, max(data.epsilon, SINGLE), rng)
    if stored.singular:
        return Audit(
            verdict=decide(broken=broken, kept=None, top=setting["top"], now=setting["value"], advice=advice),
            advice=advice,
            setting=setting,
            recommendation=recommendation,
            findings=(f"these scores are not to be used: {broken}", *_to_do(advice)),
            remarks=tuple(remarks),
        )
    scores = _in_unit(data, recomputed, stored.scores)
    kept = stored.kept(scores, setting["top"])
    return Audit(
        verdict=decide(broken=broken, kept=kept, top=setting["top"], now=setting["value"], advice=advice),
        advice=advice,
        setting=setting,
        implicit_ridge=stored.first.implicit_ridge,
        effective_dimension=stored.first.effective_dimension,
        residual_degrees_of_freedom=stored.first.residual_degrees_of_freedom,
        mean=stored.scores,
        sd=stored.sd,
        scale=1.0 if recomputed is None else recomputed.scale,
        projection_loss={"pearson": stored.pearson(), "kendall": None, "spearman": None},
        top_overlap=kept,
        recomputed=recomputed,
        scores_check=stored.spread_over_members(),
        recommendation=recommendation,
        map=_map(stored, unit),
        findings=(*((f"these scores are not to be used: {broken}",) if broken else ()), *_to_do(advice)),
        remarks=tuple(remarks),
    )


def _in_unit(data: AuditData, recomputed: Recomputation | None, expected: Array) -> Array:
    """The given scores in the unit of the law; the recomputed ones without them, or where they have no scale."""
    scores = data.informative_scores
    if scores is None or recomputed is None or not recomputed.scale > 0:
        return expected
    return scores / recomputed.scale


def _rule(
    stored: Projections, data: AuditData, recipe: TrainingRecipe | float, fraction: float | None, unit: float
) -> Row:
    training = training_ridge(recipe, len(data.residual))
    mean_curvature = float(data.curvature.mean())
    if not mean_curvature > 0:
        raise ValueError("all curvatures are 0: the loss is flat at the optimum and no ridge follows from it")
    ridge = weighted_implicit_ridge(stored.first.features, data.curvature, training, fraction)
    implicit = ridge / mean_curvature
    projected = stored.first.projected_ridge(implicit)
    return {
        "training_ridge": training,
        "curvature_weighted_ridge": ridge,
        "unit_curvature_ridge": implicit,
        "rule_ridge": projected,
        "rule_value": projected / unit,
        "present_pearson": None if stored.singular else stored.pearson(None, implicit),
        "rule_pearson": None if stored.first.at(projected).singular else stored.pearson(projected, implicit),
    }


def _advice(stored: Projections, recommendation: Row, package: Package) -> Advice:
    if not recommendation:
        present = None if stored.singular else stored.pearson()
        return Advice(package.parameter, None, None, "Pearson", present, None)
    value, ridge = recommendation["rule_value"], recommendation["rule_ridge"]
    present, predicted = recommendation["present_pearson"], recommendation["rule_pearson"]
    return Advice(package.parameter, value, ridge, "Pearson", present, predicted)


def _checked(
    data: AuditData, stored: Projections, epsilon: float, rng: Generator
) -> tuple[Recomputation | None, str | None]:
    """The scores again by exact algebra, and what is broken about them in one clause."""
    k = stored.first.k
    if stored.singular:
        return None, f"they are rounding noise: the projected Gram matrix (k = {k}) is singular with μ = 0"
    values = stored.first.eigen[0] + stored.first.ridge
    if rounding := rounding_sentence(float(values[-1]), float(values[0]), SINGLE):
        return None, rounding
    if (scores := data.informative_scores) is None:
        return None, None
    if zeros := zero_scores(data):
        return None, zeros
    if not np.linalg.norm(data.residual[:, None] * stored.kernel):
        return None, "the stored features, queries and residuals give scores of 0 for every pair"
    found = recompute(stored.kernels, stored.kernel, data.residual, scores, epsilon, rng)
    return found, found.explanation


def _map(stored: Projections, unit: float) -> tuple[Row, ...]:
    """Predicted Pearson with the unprojected kernel at the same γ for other ridges at this k."""
    top = float(stored.first.eigen[0][-1])
    return tuple(
        {"k": stored.first.k, "ridge": ridge, "value": ridge / unit, "pearson": stored.pearson(ridge)}
        for ridge in np.geomspace(1e-6 * top, top, 7).tolist()
    )


def _to_do(advice: Advice) -> list[str]:
    if advice.value is None or advice.predicted is None or advice.gain <= NOTABLE:
        return []
    before = "" if advice.present is None else f" from {advice.present:.3f}"
    return [
        f"{advice.parameter} = {advice.value:.4g} would lift the predicted Pearson with the unprojected kernel at the "
        f"ridge of training{before} to {advice.predicted:.3f} at the same k"
    ]
