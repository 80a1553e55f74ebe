"""Hostile leave-one-out problems, and what certified radii are worth on them.

Every family starts from a small well-posed GLM and twists it: leverage, separation, collinearity, scales, weights,
counts, duplicates, more columns than rows, unused columns, two rows, mixed ridges, sparse and integer data, outliers;
`compound` applies several twists to one problem. All numbers are exact floats, so that the truth is a matter of
arithmetic alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from trak_theory import GLM, PseudoHuber, leave_one_out
from trak_theory.errors import ConvergenceError, NoMinimiserError, RankDeficientError
from trak_theory.loo.intervals import newton_interval

from .truth_in_60_digits import CONTEXT, NoUniqueMinimiserError, Truth, exactly

LOSSES = ("squared", "logistic", "poisson", "huber")
LARGEST_COUNT = 1e6
QUERIES = 20
REFUSALS = (RankDeficientError, NoMinimiserError, ConvergenceError)


@dataclass
class Draft:
    """A problem in the making; targets are drawn last, from the outputs of `signal` if the loss wants them."""

    features: np.ndarray
    ridge: np.ndarray
    weights: np.ndarray
    loss: str
    delta: float = 1.0
    signal: float = 1.0  # typical size of the outputs
    noise: float = 1.0
    mean_count: float = 2.0


@dataclass(frozen=True, eq=False)
class HostileProblem:
    """One problem, its queries (q, p), and the family and twists that made it."""

    family: str
    glm_arguments: dict
    queries: np.ndarray

    def glm(self):
        arguments = dict(self.glm_arguments)
        if arguments["loss"] == "huber":
            arguments["loss"] = PseudoHuber(arguments.pop("delta"))
        else:
            arguments.pop("delta")
        return GLM(**arguments)

    def truth(self, start):
        return Truth(**self.glm_arguments, start=start)


def base(rng: np.random.Generator) -> Draft:
    """Condition of a few, a ridge of .01 to 10."""
    n, p = int(rng.integers(5, 11)), int(rng.integers(1, 5))
    return Draft(
        features=rng.standard_normal((n, p)),
        ridge=np.full(p, 10.0 ** rng.uniform(-2, 1)),
        weights=np.ones(n) if rng.random() < 0.5 else np.exp(rng.standard_normal(n)),
        loss=str(rng.choice(LOSSES)),
        delta=10.0 ** rng.uniform(-1, 1),
        signal=10.0 ** rng.uniform(-1, 0.7),
    )


def well_posed(draft: Draft, rng: np.random.Generator) -> None:
    """As it is."""


def extreme_leverage(draft: Draft, rng: np.random.Generator) -> None:
    rows = rng.choice(len(draft.features), rng.integers(1, 3), replace=False)
    draft.features[rows] *= 10.0 ** rng.uniform(1, 8, (rows.size, 1))
    draft.ridge *= 10.0 ** rng.uniform(-8, 0)


def nearly_separable(draft: Draft, rng: np.random.Generator) -> None:
    draft.loss, draft.signal = "logistic", 10.0 ** rng.uniform(1, 6)
    draft.ridge[:] = 10.0 ** rng.uniform(-14, -2)


def nearly_collinear(draft: Draft, rng: np.random.Generator) -> None:
    n, p = draft.features.shape
    if p == 1:
        draft.features, draft.ridge = np.repeat(draft.features, 2, axis=1), np.repeat(draft.ridge, 2)
        p = 2
    draft.features[:, -1] = draft.features[:, :-1] @ rng.standard_normal(p - 1)
    draft.features[:, -1] += 10.0 ** rng.uniform(-14, -3) * rng.standard_normal(n)
    draft.ridge *= 0.0 if rng.random() < 0.5 else 10.0 ** rng.uniform(-16, -4)


def scales(draft: Draft, rng: np.random.Generator) -> None:
    """Columns, or all of them, in units of 1e−12 to 1e12; the ridge in the units of the columns or not."""
    p = len(draft.ridge)
    units = 10.0 ** (np.full(p, rng.uniform(-12, 12)) if rng.random() < 0.5 else rng.uniform(-12, 12, p))
    draft.features *= units
    if rng.random() < 0.7:
        draft.ridge *= units**2


def wide_weights(draft: Draft, rng: np.random.Generator) -> None:
    draft.weights = 10.0 ** rng.uniform(-10, 10, len(draft.weights))
    if rng.random() < 0.3:
        draft.weights[0] = 0.0


def large_counts(draft: Draft, rng: np.random.Generator) -> None:
    draft.loss, draft.mean_count = "poisson", 10.0 ** rng.uniform(1, 6)
    draft.ridge *= 10.0 ** rng.uniform(-6, 2)
    draft.features[:, -1] = 1.0
    if rng.random() < 0.7:
        draft.ridge[-1] = 0.0


def duplicated(draft: Draft, rng: np.random.Generator) -> None:
    """As few distinct rows as columns, or a few more."""
    n, p = draft.features.shape
    distinct = min(n, p + int(rng.integers(0, 3)))
    draft.features = draft.features[rng.integers(0, distinct, n)]
    draft.ridge *= 0.0 if rng.random() < 0.3 else 10.0 ** rng.uniform(-10, 0)


def more_columns(draft: Draft, rng: np.random.Generator) -> None:
    """p > n, sometimes with an unpenalised column."""
    n = int(rng.integers(2, 6))
    p = n + int(rng.integers(1, 5))
    draft.features, draft.weights = rng.standard_normal((n, p)), np.resize(draft.weights, n)
    draft.ridge = 10.0 ** (np.full(p, rng.uniform(-6, 2)) if rng.random() < 0.5 else rng.uniform(-6, 2, p))
    if rng.random() < 0.5:
        draft.features[:, -1], draft.ridge[-1] = 1.0, 0.0


def unused_columns(draft: Draft, rng: np.random.Generator) -> None:
    """p > n, with columns that are zero: what rounding gives them is all that they have."""
    more_columns(draft, rng)
    unused = rng.random(len(draft.ridge)) < 0.5
    draft.features[:, unused & (draft.ridge > 0)] = 0.0
    draft.ridge *= 10.0 ** rng.uniform(-8, 0)


def two_rows(draft: Draft, rng: np.random.Generator) -> None:
    draft.features, draft.weights = draft.features[:2], draft.weights[:2]
    draft.ridge *= 10.0 ** rng.uniform(-8, 2)


def mixed_ridges(draft: Draft, rng: np.random.Generator) -> None:
    draft.ridge = 10.0 ** rng.uniform(-10, 8, len(draft.ridge)) * (rng.random(len(draft.ridge)) < 0.7)


def sparse(draft: Draft, rng: np.random.Generator) -> None:
    """Mostly zeros, some columns with one entry."""
    draft.features *= rng.random(draft.features.shape) < 0.4
    if rng.random() < 0.5:
        draft.features[:, 0] = 0.0
        draft.features[rng.integers(len(draft.features)), 0] = 1.0
    draft.ridge *= 0.0 if rng.random() < 0.3 else 10.0 ** rng.uniform(-12, 0)


def integers(draft: Draft, rng: np.random.Generator) -> None:
    """Small integers, or integer multiples of one row with almost no other: exactly singular without the other."""
    n, p = draft.features.shape
    if rng.random() < 0.5:
        draft.features = rng.integers(-2, 3, (n, p)).astype(float)
    else:
        draft.features = np.outer(rng.integers(-300, 300, n), rng.integers(-40, 40, p)).astype(float)
        draft.features[0] += rng.integers(-2, 3, p)
    draft.ridge *= 0.0 if rng.random() < 0.6 else 10.0 ** rng.uniform(-10, 0)


def outliers(draft: Draft, rng: np.random.Generator) -> None:
    draft.loss, draft.noise = str(rng.choice(("squared", "huber"))), 10.0 ** rng.uniform(0, 8)
    draft.delta = 10.0 ** rng.uniform(-3, 1)
    draft.ridge *= 10.0 ** rng.uniform(-4, 0)


Twist = Callable[[Draft, np.random.Generator], None]
TWISTS: tuple[Twist, ...] = (
    extreme_leverage, nearly_separable, nearly_collinear, scales, wide_weights, large_counts, duplicated,
    more_columns, unused_columns, two_rows, mixed_ridges, sparse, integers, outliers,
)  # fmt: skip
FAMILIES = ("well_posed", *(twist.__name__ for twist in TWISTS), "compound")


def hostile_problems(rng: np.random.Generator) -> Iterator[HostileProblem]:
    """Without end, the families in turn."""
    while True:
        yield _problem("well_posed", (), rng)
        for twist in TWISTS:
            yield _problem(twist.__name__, (twist,), rng)
        chosen = rng.choice(len(TWISTS), rng.integers(2, 5), replace=False)
        yield _problem("compound", tuple(TWISTS[k] for k in chosen), rng)


def _problem(family: str, twists: tuple[Twist, ...], rng: np.random.Generator) -> HostileProblem:
    draft = base(rng)
    for twist in twists:
        twist(draft, rng)
    arguments = {
        "features": draft.features,
        "targets": _targets(draft, rng),
        "loss": draft.loss,
        "ridge": draft.ridge,
        "weights": draft.weights,
        "offset": rng.standard_normal(len(draft.weights)) * min(draft.signal, 20.0) * (rng.random() < 0.2),
        "delta": draft.delta,
    }
    return HostileProblem(family, arguments, _queries(draft, rng))


def _targets(draft: Draft, rng: np.random.Generator) -> np.ndarray:
    size = np.abs(draft.features).max(0)
    coef = rng.standard_normal(size.size) / np.where(size > 0, size, 1.0)
    outputs = draft.signal * draft.features @ coef
    n = outputs.size
    if draft.loss == "logistic":
        targets = (rng.random(n) < 0.5 * (1 + np.tanh(outputs / 2))).astype(float)
        targets[:2] = 0.0, 1.0
        return targets
    if draft.loss == "poisson":
        mean = draft.mean_count * np.exp(np.clip(outputs, -3, 3))
        return rng.poisson(np.minimum(mean, LARGEST_COUNT)).astype(float) + (np.arange(n) < 2)
    targets = outputs + rng.standard_normal(n)
    targets[rng.integers(n)] += draft.noise - 1.0
    return np.round(targets * 16) / 16 if rng.random() < 0.3 else targets


def _queries(draft: Draft, rng: np.random.Generator) -> np.ndarray:
    """Combinations of rows, rows themselves, coefficients, and directions that ignore the units of the columns."""
    n, p = draft.features.shape
    kinds = (
        rng.standard_normal((QUERIES, n)) @ draft.features,
        draft.features[rng.integers(0, n, QUERIES)],
        np.eye(p)[rng.integers(0, p, QUERIES)],
        rng.standard_normal((QUERIES, p)),
    )
    return np.stack(kinds)[rng.integers(0, len(kinds), QUERIES), np.arange(QUERIES)]


@dataclass
class Verdict:
    """Error against radius on the problems of one family.

    ratios       error/radius of every entry with a finite radius
    infinite     number of entries whose radius is infinite
    false        (problem, i, j, ratio) of radii that do not hold; ratio inf where no unique minimiser exists
    refused      problems without a fit, by the name of the error
    """

    ratios: list = field(default_factory=list)
    infinite: int = 0
    false: list = field(default_factory=list)
    refused: Counter = field(default_factory=Counter)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.ratios + other.ratios,
            self.infinite + other.infinite,
            self.false + other.false,
            self.refused + other.refused,
        )


def exact_leave_one_out(fit, queries):
    """Influence and radius (n, q), and minimisers (n, p) near which the truth may be sought."""
    exact = leave_one_out(fit, queries)
    return exact.influence, exact.radius, exact.coef


def interval_after(chord_steps):
    """The same of `newton_interval`, which has no minimisers to offer."""

    def method(fit, queries):
        interval = newton_interval(fit, queries, chord_steps=chord_steps)
        return interval.center, interval.radius, np.full((len(interval.center), fit.coef.size), np.nan)

    return method


METHODS = {
    "leave_one_out": exact_leave_one_out,
    "newton_interval": interval_after(0),
    "newton_interval, 2 chord steps": interval_after(2),
}


def survey(rng: np.random.Generator, radii: int, methods=METHODS) -> dict[tuple[str, str], Verdict]:
    """(method, family) → verdict, on as many problems as it takes for `radii` finite radii of all methods together."""
    verdicts = {(name, family): Verdict() for name in methods for family in FAMILIES}
    for problem in hostile_problems(rng):
        examine(problem, methods, verdicts)
        if sum(len(verdict.ratios) for verdict in verdicts.values()) >= radii:
            return verdicts
    raise AssertionError("problems come without end")


def examine(problem: HostileProblem, methods, verdicts) -> None:
    """Hold the radii of every method against the truth about one problem."""
    try:
        fit = problem.glm().fit()
    except REFUSALS as error:
        for name in methods:
            verdicts[name, problem.family].refused[type(error).__name__] += 1
        return
    truth = problem.truth(fit.coef)
    for name, method in methods.items():
        _compare(verdicts[name, problem.family], problem, truth, *method(fit, problem.queries))


def _compare(verdict: Verdict, problem: HostileProblem, truth: Truth, influence, radius, coef) -> None:
    finite = np.isfinite(radius)
    verdict.infinite += int((~finite).sum())
    for i in map(int, np.flatnonzero(finite.any(1))):
        for j, ratio in zip(
            np.flatnonzero(finite[i]), _ratios(problem, truth, i, influence, radius, coef), strict=True
        ):
            verdict.ratios.append(ratio)
            if not ratio <= 1:
                verdict.false.append((problem, i, int(j), ratio))


def _ratios(problem: HostileProblem, truth: Truth, i: int, influence, radius, coef) -> list[float]:
    """error/radius of the entries of row i with a finite radius; inf where no unique minimiser exists."""
    finite = np.isfinite(radius[i])
    try:
        exact = truth.influence(i, problem.queries, coef[i])[finite]
    except NoUniqueMinimiserError:
        return [np.inf] * int(finite.sum())
    errors = abs(exact - exactly(influence[i, finite].tolist()))
    return [_ratio(error, size) for error, size in zip(errors, radius[i, finite].tolist(), strict=True)]


def _ratio(error, radius: float) -> float:
    if radius > 0:
        return float(error / CONTEXT.mpf(radius))
    return np.inf if error > 0 else 0.0


def report(verdicts: dict[tuple[str, str], Verdict]) -> Iterator[str]:
    """Lines: counts and the distribution of error/radius, by method and family and altogether."""
    yield (
        f"{'':16} {'radii':>8} {'false':>6} {'infinite':>8}   error/radius: "
        + " ".join(f"{q:>8}" for q in ("1 %", "10 %", "median", "90 %", "99 %", "max"))
        + "   refused"
    )
    for method in dict.fromkeys(name for name, _ in verdicts):
        own = {family: verdict for (name, family), verdict in verdicts.items() if name == method}
        yield method
        for family, verdict in {**own, "all": sum(own.values(), Verdict())}.items():
            yield _line(family, verdict)


def _line(family: str, verdict: Verdict) -> str:
    ratios = np.array(verdict.ratios or [np.nan])
    quantiles = " ".join(f"{value:8.1e}" for value in np.quantile(ratios, (0.01, 0.1, 0.5, 0.9, 0.99, 1)))
    refused = ", ".join(f"{count} {name}" for name, count in verdict.refused.items())
    counts = f"{len(verdict.ratios):8} {len(verdict.false):6} {verdict.infinite:8}"
    return f"{family:16} {counts}                 {quantiles}   {refused}"
