"""The one answer of an audit."""

from __future__ import annotations

from dataclasses import dataclass

NOTABLE = 0.05  # of an agreement: a gain worth recomputing for
TRUSTED_KENDALL, TRUSTED_PEARSON = 0.4, 0.6  # (2/π) asin .6 = .41
TRUSTED_SHARE = 0.5  # of the top m that another seed keeps


@dataclass(frozen=True)
class Verdict:
    """trust: whether the order of the scores can be used as it is; sentence: why, and what to do, with numbers."""

    trust: bool
    sentence: str


@dataclass(frozen=True)
class Advice:
    """The one setting to recompute with, and the agreement predicted for it; other values are the appendix.

    value      of the package's own parameter; None without a recipe to derive it from
    ridge      the same as μ, sum convention
    measure    of agreement with the reference: Kendall's τ, or Pearson's r where only projected features are known
    present, predicted   that agreement now and at `value`; None where no law applies
    """

    parameter: str
    value: float | None
    ridge: float | None
    measure: str
    present: float | None
    predicted: float | None

    @property
    def gain(self) -> float:
        """Predicted gain of recomputing; without a present agreement, all of it."""
        return 0.0 if self.value is None or self.predicted is None else self.predicted - (self.present or 0.0)


def decide(*, broken: str | None, kept: float | None, top: int, now: float, advice: Advice) -> Verdict:
    """The verdict, from the gravest reason down: scores that are not what they should be, unstable order, poor setting.

    broken  what is wrong with the scores themselves, in one clause; None if nothing
    kept    share of each query's top m that another seed would keep
    now     the present value of the package's parameter
    """
    if broken:
        return Verdict(False, f"Do not trust these scores: {broken}.{_recompute(advice, now)}")
    level = TRUSTED_KENDALL if advice.measure == "Kendall" else TRUSTED_PEARSON
    if kept is not None and kept < TRUSTED_SHARE:
        reason = f"{_percent(1 - kept)} of the top {top} would change with another seed"
    elif advice.present is not None and advice.present < level:
        reason = f"their predicted agreement with the reference is {_short(advice.present)} ({advice.measure})"
    elif advice.gain > NOTABLE:
        reason = f"another {advice.parameter} ranks clearly better"
    else:
        return Verdict(True, _trust(kept, top, advice))
    return Verdict(False, f"Do not trust the order: {reason}.{_recompute(advice, now)}")


def _trust(kept: float | None, top: int, advice: Advice) -> str:
    reasons = []
    if kept is not None:
        reasons.append(f"{_percent(kept)} of the top {top} would stay with another seed")
    if advice.present is not None:
        reasons.append(f"predicted agreement with the reference is {_short(advice.present)} ({advice.measure})")
    return f"Trust the order: {', and '.join(reasons)}."


def _recompute(advice: Advice, now: float) -> str:
    if advice.value is None:
        return " Give the training recipe and p (--parameters) for a ridge to recompute with."
    if advice.gain <= NOTABLE:
        return " No ridge at this k does clearly better: use a larger k, or average more projections."
    before = "" if advice.present is None else f"{_short(advice.present)} → "
    return (
        f" Set {advice.parameter} = {advice.value:.4g} (now {now:.4g}) and recompute: predicted agreement "
        f"({advice.measure}) {before}{_short(advice.predicted or 0.0)}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _short(number: float) -> str:
    """.43, −.05, 1.00."""
    return f"{number:.2f}".replace("0.", ".", 1).replace("-", "−")
