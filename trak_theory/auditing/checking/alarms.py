"""Alarms with a known error rate: given scores against simulated ones of the same law."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.auditing.checking.score_draws import ScoreDraws
from trak_theory.auditing.checking.whitened import Whitening, whitening_of
from trak_theory.laws.conditional_rank_law import spread_triples
from trak_theory.projection.kernel_law import KernelLaw

DRAWS = 299
EXTREME = 2 / (DRAWS + 1)  # an alarm: at most one set of simulated scores is as extreme; 1 in 150 healthy ones
REACH = 0.995  # quantile of a statistic's own draws that its distance is measured by: heavy tails set no bar for others
PAIRS = 5_000
EQUAL = 1e-6  # in the logarithm: lengths that are alike show no trend
TINY = 1e-3  # of the typical score
FLOOR = 1e-6  # share of the energy below which single precision decides


@dataclass(frozen=True)
class Statistic:
    """A statistic of the given scores beside its mean and standard deviation under the law.

    excess: distance from the median of simulated scores, in units of their own 99.5 % distance on that side.
    """

    name: str
    value: float
    expected: float
    sd: float
    excess: float


@dataclass(frozen=True)
class ScoreCheck:
    """Statistics of given scores and the share of (simulated and given) scores as extreme as the given ones.

    p_value is that of the largest excess, a multiple of 1/(DRAWS + 1); healthy scores reach one of its two least
    values, an alarm, in 1 of 150 audits, whatever n, q and the dependence between points, queries and statistics.
    """

    statistics: tuple[Statistic, ...]
    p_value: float

    @property
    def alarm(self) -> bool:
        return self.p_value <= EXTREME

    @property
    def worst(self) -> Statistic:
        return max(self.statistics, key=lambda statistic: statistic.excess)


@dataclass(frozen=True, eq=False)
class Calibration:
    """The statistics of simulated scores (draws, statistics), to which those of given scores are compared."""

    draws: ScoreDraws
    rng: Generator

    @cached_property
    def yardstick(self) -> Yardstick:
        return yardstick_of(self.draws)

    @cached_property
    def simulated(self) -> list[dict[str, float]]:
        return [self.yardstick(scores) for scores in self.draws(DRAWS, self.rng)]

    def check(self, scores: Array) -> ScoreCheck:
        """Compare scores (n, q) of unknown positive scale, of the points and queries that are drawn."""
        given = self.yardstick(scores)
        table = np.array([list(row.values()) for row in (given, *self.simulated)])
        low, centre, high = np.quantile(table, [1 - REACH, 0.5, REACH], axis=0)
        reach = np.where(table > centre, high - centre, centre - low)
        excess = np.abs(table - centre) / np.where(reach > 0, reach, np.inf)
        extreme = excess.max(1)
        columns = zip(given, table[0], table[1:].mean(0), table[1:].std(0, ddof=1), excess[0], strict=True)
        rows = tuple(Statistic(name, *map(float, numbers)) for name, *numbers in columns)
        return ScoreCheck(rows, float(np.mean(extreme >= extreme[0])))


@dataclass(frozen=True, eq=False)
class Yardstick:
    """Statistics of scores T (n, q) against the mean and covariance that the law gives them.

    All are invariant to a positive factor on T: it is fitted by least squares first, in given and simulated scores
    alike. Whitened errors use both factors of the leading term of the covariance, (rr'φR²φ')(φ*R²φ*').
    """

    mean: Array
    sd: Array
    whitening: Whitening
    rivals: dict[str, Whitening]  # of settings that the scores may have been computed with instead
    lengths: dict[str, Array]  # centred logarithms of factors that a normalisation adds: rows (n, 1), columns (1, q)
    pairs: tuple[Array, Array]
    rank: int

    def __call__(self, scores: Array) -> dict[str, float]:
        scale = float(np.sum(scores * self.mean) / np.sum(self.mean**2)) or np.finfo(float).tiny
        given = scores / scale
        z = (given - self.mean) / self.sd
        energies = np.mean(z**2, 1), np.mean(z**2, 0)
        return {
            "correlation with the mean": scale * float(np.linalg.norm(self.mean) / np.linalg.norm(scores)),
            "spread of z": _log(float(np.mean(energies[0]))) / 2,
            "coverage of 95 % intervals": float(np.mean(np.abs(z) < 1.96)),
            "tails": _log(np.mean(z**4) / np.mean(energies[0]) ** 2),
            "worst query": _log(energies[1].max()) / 2,
            "worst point": _log(energies[0].max()) / 2,
            **self._joint(given - self.mean),
            **self._whitened(scores),
            **self._exchanged(given),
            **self._likelihoods(given),
            **self._spectrum(scores),
            "Kendall's τ with the mean": self._kendall(scores),
            **self._trends(given),
        }

    def _joint(self, error: Array) -> dict[str, float]:
        squares = self.whitening.rotated(error) ** 2
        strong = self.whitening.strong
        ratio = np.where(strong, squares, 0.0) / self.whitening.variances
        return {
            "joint spread": _log(float(ratio.sum() / strong.sum())) / 2,
            "worst direction": _log(float((ratio.sum(1) / np.maximum(strong.sum(1), 1)).max())) / 2,
            "weak directions": _log(FLOOR + squares[~strong].sum() / squares.sum()),
        }

    def _whitened(self, scores: Array) -> dict[str, float]:
        """Of scores without their factor: no large row or column outweighs the others."""
        error, correlation = self.whitening.standardised(scores)
        return {
            "correlation in whitened coordinates": correlation,
            "tails in whitened coordinates": _log(np.sum(error**4) / np.sum(error**2) ** 2),
        }

    def _exchanged(self, scores: Array) -> dict[str, float]:
        """Of the query that another's law fits better, or is the nearest to."""
        gains = self.whitening.query_gains(scores)
        return {"exchanged queries": float(gains.max())} if gains.size else {}

    def _likelihoods(self, scores: Array) -> dict[str, float]:
        """Of scores without their factor: the settings differ in the number of strong directions."""
        own = self.whitening.log_likelihood(scores)
        return {name: rival.log_likelihood(scores) - own for name, rival in self.rivals.items()}

    def _spectrum(self, scores: Array) -> dict[str, float]:
        energies = np.linalg.svd(scores / np.abs(scores).max(), compute_uv=False) ** 2
        return {
            "effective rank": _log(energies.sum() ** 2 / np.sum(energies**2)),
            "energy beyond the rank": _log(FLOOR + energies[self.rank :].sum() / energies.sum()),
        }

    def _kendall(self, scores: Array) -> float:
        first, second = self.pairs
        return float(np.mean(np.sign(self.mean[first] - self.mean[second]) * np.sign(scores[first] - scores[second])))

    def _trends(self, given: Array) -> dict[str, float]:
        """Slopes of log|T| − log √(E T²) on log lengths, both sizes plus a thousandth of the typical one.

        Half precision rounds the smallest scores to 0, whose logarithm would outweigh all others.
        """
        expected = np.hypot(self.mean, self.sd)
        least = TINY * np.sqrt(np.mean(expected**2))
        size = np.log(np.abs(given) + least) - np.log(expected + least)
        return {
            f"trend with {name}": float(np.mean(length * size) / np.mean(length**2))
            for name, length in self.lengths.items()
        }


def _log(value: float) -> float:
    return float(np.log(max(value, 1e-300)))


def yardstick_of(draws: ScoreDraws) -> Yardstick:
    """The yardstick of the drawn points and queries."""
    law, points, queries = draws.law, draws.points, draws.queries
    residual, training = draws.residual[points], law.space.training[points]
    lengths = {
        "residuals": np.abs(residual)[:, None],
        "lengths of points": np.sqrt(np.einsum("im,im->i", training, training))[:, None],
        "lengths of queries": np.sqrt(np.diag(draws.gram)[queries])[None],
    }
    logarithms = {name: np.log(length) - np.log(length).mean() for name, length in lengths.items()}
    first, second, _ = spread_triples(len(points))[:, :PAIRS]
    return Yardstick(
        mean=-residual[:, None] * law.mean[np.ix_(points, queries)],
        sd=np.abs(residual)[:, None] * np.sqrt(law.variance[np.ix_(points, queries)]),
        whitening=whitening_of(draws, law),
        rivals={name: whitening_of(draws, rival) for name, rival in _rivals(law).items()},
        lengths={name: each for name, each in logarithms.items() if np.ptp(each) > EQUAL},
        pairs=(first, second),
        rank=law.k * law.ensemble,
    )


def _rivals(law: KernelLaw) -> dict[str, KernelLaw]:
    """Laws of half and twice k, and of a third and three times μ, that exist."""
    settings = {
        "fit of half of k": (law.k // 2, law.ridge),
        "fit of twice k": (2 * law.k, law.ridge),
        "fit of a third of the ridge": (law.k, law.ridge / 3),
        "fit of three times the ridge": (law.k, law.ridge * 3),
    }
    changed = {name: each for name, each in settings.items() if each != (law.k, law.ridge) and each[0] > 0}
    rivals = {name: KernelLaw(law.space, k, law.ensemble, ridge) for name, (k, ridge) in changed.items()}
    return {name: rival for name, rival in rivals.items() if not rival.singular and rival.implicit_ridge > 0}
