"""The linear datamodelling score of any scores from a twin: its order without retraining, its level from a few."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike

from trak_theory.numerics.checks import positive_count, real_array
from trak_theory.retraining.crossed import crossed_mean, pseudo_values
from trak_theory.retraining.datamodeling_score import FEWEST, OverQueries, over_queries
from trak_theory.retraining.kernel_twin import Twin
from trak_theory.retraining.per_query import (
    PerQuery,
    constant_outputs,
    constant_queries,
    mean_or_nan,
    spearman_per_query,
)
from trak_theory.retraining.subsets import Subsets, membership


@dataclass(frozen=True, eq=False)
class PredictedLds(OverQueries):
    """A predicted LDS: mean, se, interval and per query as of a measured one.

    against_twin    LDS of the scores against the twin's refits of the simulated subsets
    product         that times the fidelity of the twin: right where the errors of scores and twin are uncorrelated
    """

    against_twin: OverQueries
    product: float


@dataclass(frozen=True, eq=False)
class Retrained:
    """Subsets (m, n) as counts, the twin's outputs there and those of the network (m, q)."""

    members: Array
    twin: Array
    network: Array

    @cached_property
    def fidelity(self) -> PerQuery:
        return spearman_per_query(self.twin, self.network, constant_outputs(self.twin, self.network))


@dataclass(frozen=True, eq=False)
class TwinReference:
    """Refits of a twin to many random subsets, and to the few that a network was retrained on.

    simulated, refits    subsets (M, n) as counts, and the twin's outputs there (M, q)
    retrained            None: scores can be ranked, their level is unknown
    """

    simulated: Array = field(repr=False)
    refits: Array = field(repr=False)
    retrained: Retrained | None = field(repr=False)

    def against_twin(self, scores: ArrayLike) -> OverQueries:
        """LDS of scores (n, q) against the twin's refits: ranks scores without any retraining."""
        return over_queries(_measured(self._checked(scores), self.simulated, self.refits))

    @property
    def fidelity(self) -> OverQueries:
        """Spearman over the retrained subsets of the twin's outputs with the network's, mean over queries."""
        return over_queries(self._truth.fidelity)

    def predict(self, scores: ArrayLike) -> PredictedLds:
        """LDS of scores s (n, q) against retraining f, with the twin t as a control variate.

            ρ_sf = ρ_st ρ_tf + ρ_sf·t √((1 − ρ_st²)(1 − ρ_tf²)),

        the product alone where the partial correlation vanishes: where what the scores miss of the twin tells nothing
        of what the twin misses of the network. Scores nearer to the network than the twin break it upwards, scores with
        an error of the twin's kind downwards. Consistent either way, and with the noise of the few subsets removed so
        far as the twin shares it:

            ρ̂_sf − ρ̂_tf (ρ̂_st − ρ_st),    ρ_st from the simulated subsets, the rest from the m retrained ones,

        jackknifed over the m subsets; the error of the simulated ρ_st is added. Source: ours.
        """
        scores, truth = self._checked(scores), self._truth
        known, fidelity = _measured(scores, self.simulated, self.refits), truth.fidelity
        direct, shared = (_measured(scores, truth.members, outputs) for outputs in (truth.network, truth.twin))
        undefined = {**known.undefined, **direct.undefined, **shared.undefined, **fidelity.undefined}
        kept = np.setdiff1d(np.arange(scores.shape[1]), list(undefined))
        value = direct.values - fidelity.values * (shared.values - known.values)
        without = direct.without - fidelity.without * (shared.without - known.values)
        estimate = crossed_mean(pseudo_values(value, without)[:, kept], mean_or_nan(value[kept]))
        simulation = mean_or_nan(fidelity.values[kept]) ** 2 * over_queries(known).estimate.subset_variance
        estimate = replace(estimate, subset_variance=estimate.subset_variance + simulation)
        product = mean_or_nan((known.values * _unbiased(fidelity))[kept])
        value[list(undefined)] = np.nan
        return PredictedLds(estimate, value, undefined, over_queries(known), product)

    @property
    def _truth(self) -> Retrained:
        if self.retrained is None:
            raise ValueError("the level of an LDS needs retrained subsets; without them only `against_twin` is known")
        return self.retrained

    def _checked(self, scores: ArrayLike) -> Array:
        scores = real_array("scores", scores, 2)
        expected = (self.simulated.shape[1], self.refits.shape[1])
        if scores.shape != expected:
            raise ValueError(f"scores have shape {scores.shape}, the twin has points and queries {expected}")
        return scores


def twin_reference(
    model: Twin,
    *,
    fraction: float,
    retrained: tuple[Subsets, ArrayLike] | None = None,
    simulated: int = 400,
    rng: Generator,
) -> TwinReference:
    """The twin refitted to `simulated` random subsets of a `fraction` of the points, and to those in `retrained`.

    retrained: subsets of about that size and the network's outputs (m, q) after training on them; 10 to 20 give the
    level of an LDS to a few hundredths.

    >>> from trak_theory import GLM, newton
    >>> from trak_theory.retraining import twin
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((40, 3))
    >>> y = (x[:, 0] + rng.standard_normal(40) > 0).astype(float)
    >>> lin = GLM(x, y, loss="logistic", ridge=2.0).fit().linearize(rng.standard_normal((5, 3)))
    >>> reference = twin_reference(twin(lin, 2.0, targets=y), fraction=0.5, rng=rng)
    >>> f"{reference.against_twin(newton(lin)).mean:.2f}"
    '0.98'
    """
    n, count = model.objective.outputs.shape[0], positive_count("simulated", simulated)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    size = round(fraction * n)
    chosen = np.argsort(rng.random((count, n)), axis=1)[:, :size]
    members = membership(chosen, n)
    refits = model.reweight(members).change
    solved = np.isfinite(refits).all(1)
    truth = None if retrained is None else _retrained(model, *retrained)
    return TwinReference(members[solved], refits[solved], truth)


def _retrained(model: Twin, subsets: Subsets, outputs: ArrayLike) -> Retrained:
    members, network = membership(subsets, model.objective.outputs.shape[0]), real_array("outputs", outputs, 2)
    expected = (len(members), len(model.queries))
    if network.shape != expected or len(members) < FEWEST:
        raise ValueError(
            f"outputs of the retrained network have shape {network.shape} for {len(members)} subsets and "
            f"{expected[1]} queries; at least {FEWEST} subsets are needed"
        )
    return Retrained(members, model.refit(subsets), network)


def _measured(scores: Array, members: Array, outputs: Array) -> PerQuery:
    return spearman_per_query(members @ scores, outputs, constant_queries(members, scores, outputs))


def _unbiased(measured: PerQuery) -> Array:
    return pseudo_values(measured.values, measured.without).mean(0)
