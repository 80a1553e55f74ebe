"""The words and tables of a report's page."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.resources import files
from platform import python_version

import numpy as np

import trak_theory
from trak_theory.auditing.measures import Row
from trak_theory.auditing.reporting.pictures import pictures
from trak_theory.auditing.result import Audit
from trak_theory.auditing.verdict import Advice

Section = tuple[str, str, list[Row]]

GLOSSARY = {
    "score": "What the output on a query owes to one training point: output with it minus output without it. "
    "Positive where the point helps.",
    "presence sign": "The sign convention above.",
    "reference": "The influence function of the linearised network with nothing projected, regularised as the training "
    "was. Nothing is retrained for it.",
    "k, ensemble": "Random dimensions that gradients are projected to, and how many projections are averaged.",
    "μ": "Ridge of the projected Gram matrix, in the sum convention; a package's own parameter is a multiple.",
    "implicit ridge γ": "k random dimensions act like a ridge γ on the unprojected gradients, plus noise.",
    "effective dimension": "How many directions of the gradients survive that ridge.",
    "seed": "Of the random projection: another seed is another projection, all else equal.",
    "Kendall's τ": "Share of pairs of points in the same order minus share in the opposite order: 1 same, 0 unrelated.",
    "Pearson's r": "Correlation of the scores themselves: 1 proportional, 0 unrelated.",
    "LDS": "Linear datamodelling score: how well summed scores predict outputs of models retrained on subsets. Read it "
    "against its ceiling: training noise alone keeps it below 1.",
    "alarm": "The given scores are compared with 299 simulated sets of scores of the stated setting; a statistic more "
    "extreme than in all of them but one is an alarm. Healthy scores raise one in 1 of 150 audits.",
}


@dataclass(frozen=True)
class Made:
    """Origin of a report: input, date, versions, command."""

    input: str
    date: str
    versions: str
    command: str

    @staticmethod
    def now(source: str, command: Iterable[str] | None = None) -> Made:
        """Of this moment and this process."""
        versions = f"trak-theory {trak_theory.__version__}, numpy {np.__version__}, Python {python_version()}"
        words = sys.argv if command is None else command
        return Made(source, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", versions, " ".join(words))


def page_of(audit: Audit, made: Made) -> str:
    """One HTML page that needs nothing else."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "numeric": _numeric, "words": lambda key: str(key).replace("_", " ")}
    template = files("trak_theory.auditing.reporting").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        audit=audit,
        made=made,
        source=made.input,
        pictures=pictures(audit),
        reference=audit.reference,
        tables=_kept(_tables(audit)),
        appendix=_kept(_appendix(audit)),
        glossary=GLOSSARY,
    )


def _number(value: object) -> str:
    if isinstance(value, float):
        return "–" if not np.isfinite(value) else f"{value:.4g}"
    return "–" if value is None else str(value)


def _numeric(rows: list[Row]) -> set[str]:
    """Columns of numbers alone."""
    return {key for key in rows[0] if all(isinstance(row[key], int | float | None) for row in rows)}


def _kept(sections: list[Section]) -> list[Section]:
    return [section for section in sections if section[2]]


def _listed(row: Row) -> list[Row]:
    return [{"": key.replace("_", " "), "value": value} for key, value in row.items() if value is not None]


def _advised(advice: Advice) -> Row:
    return {
        advice.parameter: advice.value,
        "projected ridge μ": advice.ridge,
        f"predicted {advice.measure} now": advice.present,
        f"predicted {advice.measure} then": advice.predicted,
    }


def _tables(audit: Audit) -> list[Section]:
    law: Row = {
        "implicit ridge γ": audit.implicit_ridge,
        "effective dimension df(γ)": audit.effective_dimension,
        "degrees of freedom of the error bars, k − df₂": audit.residual_degrees_of_freedom,
        f"share of the top {audit.setting['top']} that another seed keeps": audit.top_overlap,
    }
    losses = (
        [] if audit.projection_loss is None else [{k: v for k, v in audit.projection_loss.items() if v is not None}]
    )
    return [
        (
            "Recommendation",
            "The one setting to use, with its predicted agreement.",
            _listed(_advised(audit.advice)) if audit.advice.value is not None else [],
        ),
        (
            "Against retraining",
            "Linear datamodelling score: Spearman correlation, over retrained subsets, of summed scores with outputs; "
            "mean over queries, with its error over subsets and queries.",
            [] if audit.retrained is None else _listed(audit.retrained),
        ),
        ("Setting", "", _listed(audit.setting)),
        (
            "What the projection is",
            "k random dimensions are a ridge γ, plus noise with a known variance.",
            _listed(law),
        ),
        (
            "Budget",
            "Kendall's τ with the reference, rung by rung, and what each step takes away.",
            list(audit.budget),
        ),
        (
            "Projection loss",
            "Predicted agreement with the unprojected kernel at the same γ: what noise alone takes away.",
            losses,
        ),
        (
            "Ridge loss",
            "Agreement of that unprojected kernel with the reference: curvature weights kept, ridge from the recipe. "
            "It loses by the ridge and by the curvature weights; the budget tells them apart.",
            [audit.ridge_loss] if audit.ridge_loss else [],
        ),
    ]


def _rounded(row: Row) -> Row:
    """Three decimals are enough of a logarithm, and fit a phone."""
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def _appendix(audit: Audit) -> list[Section]:
    check, recomputed = audit.check, audit.recomputed
    statistics = [] if check is None else [_rounded(asdict(statistic)) for statistic in check.statistics]
    return [
        (
            "other ridges",
            "The rule from the training recipe, and the search for the best predicted agreement.",
            _listed(audit.recommendation),
        ),
        (
            "If the training ridge were other",
            "Kendall's τ of the present scores with that reference, and the projected ridge μ of the rule.",
            list(audit.sensitivity),
        ),
        ("the given scores against the law", "", [audit.scores_check] if audit.scores_check else []),
        (
            "the given scores against 299 simulated ones",
            "Excess: distance from their median, in units of their 99.5 % distance. Logarithms but for correlation, "
            "coverage and Kendall. " + ("" if check is None else f"Joint p-value {check.p_value:.3f}."),
            statistics,
        ),
        (
            "the given scores computed again",
            "‖T − sT₀‖/‖T‖ with scores T₀ from the stored features, and what rounding allows.",
            [] if recomputed is None else _listed(asdict(recomputed)),
        ),
    ]
