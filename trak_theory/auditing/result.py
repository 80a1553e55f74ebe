"""Result of an audit."""

from __future__ import annotations

from dataclasses import dataclass, field

from numpy import ndarray as Array

from trak_theory.auditing.checking.alarms import ScoreCheck
from trak_theory.auditing.checking.recomputed import Recomputation
from trak_theory.auditing.measures import Row
from trak_theory.auditing.verdict import Advice, Verdict

REFERENCE = (
    "We compare your scores with the influence function of the linearised network, not projected, regularised as your "
    "training was."
)
REFERENCE_PROJECTED = (
    "Only projected gradients are known: we compare your scores with the unprojected kernel at the ridge of your "
    "training, which one projection suffices to predict."
)


@dataclass(frozen=True, eq=False)
class Audit:
    """Result of an audit. Ridges in the sum convention; attributions (n, q) in the presence sign.

    verdict            the one answer: trust the order, or not, and what to do; `advice` is its one recommended value
    setting            sizes, package, its parameter, k, J, μ, projected (or not), aim
    implicit_ridge γ   what the projection amounts to; None where there is no kernel (k > rank, μ = 0)
    effective_dimension, residual_degrees_of_freedom   df(γ) and k − df₂
    scores             as given; None if none were
    mean, sd           of every score over projections, times `scale`: in the unit of the given scores, if any. For
                       projected features `mean` is the scores of the given projections themselves
    scale              factor of the given scores on −r_i φ_iᵀK_Pφ*_j; 1 without scores
    projection_loss    predicted Pearson, Kendall, Spearman with the unprojected kernel at the same γ
    ridge_loss         Kendall of that kernel with the reference, with its standard error over queries
    budget             rungs from the reference down: Kendall with the reference and what each step costs
    top_overlap        expected share of each query's top m that a fresh projection would keep
    check              the given scores against simulated ones of their law: the alarms
    scores_check       Kendall, Pearson, coverage and spread of the given scores, in words of the law
    recomputed         the given scores against exact algebra on the stored projected features
    sensitivity        agreement and rule for other training ridges
    recommendation     rule and search, with predictions: the appendix of `advice`
    map                predicted agreement of other k and ridges
    retrained          LDS against retrained outputs, with its error and ceilings; None where none were given
    findings, remarks  sentences about the scores, and about the input
    """

    verdict: Verdict
    advice: Advice
    setting: Row
    implicit_ridge: float | None = None
    effective_dimension: float | None = None
    residual_degrees_of_freedom: float | None = None
    scores: Array | None = field(default=None, repr=False)
    mean: Array | None = field(default=None, repr=False)
    sd: Array | None = field(default=None, repr=False)
    scale: float = 1.0
    projection_loss: Row | None = None
    ridge_loss: Row | None = None
    budget: tuple[Row, ...] = ()
    top_overlap: float | None = None
    check: ScoreCheck | None = None
    scores_check: Row | None = None
    recomputed: Recomputation | None = None
    sensitivity: tuple[Row, ...] = ()
    recommendation: Row = field(default_factory=dict)
    map: tuple[Row, ...] = ()
    retrained: Row | None = None
    findings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """What the scores were compared with, in words."""
        known = REFERENCE_PROJECTED if self.setting["projected_input"] else REFERENCE
        end = "Nothing was retrained." if self.retrained is None else "The LDS compares them with retrained models too."
        return f"{known} {end}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Remarks about the input, then findings about the scores; the advice comes last."""
        return (*self.remarks, *self.findings)
