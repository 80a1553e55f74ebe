"""The honest remedy where no estimate holds: retrain without the samples that matter most."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from numpy import ndarray as Array

from trak_theory.numerics.checks import positive_count
from trak_theory.trajectory.attributions import Attribution
from trak_theory.trajectory.proxies import most_influential
from trak_theory.trajectory.run import Run
from trak_theory.trajectory.truth import retrain_without


@dataclass(frozen=True, eq=False)
class Remedy:
    """influence (n, q): the truth for the `retrained` samples (m,), the estimate for all others; presence sign."""

    influence: Array
    retrained: Array
    attribution: Attribution = field(repr=False)


def retrain_top(run: Run, attribution: Attribution, m: int, *, cache: Path | str | None = None) -> Remedy:
    """Replace the m largest estimates by retraining; m retrainings, see `retrain_without` for `cache`."""
    if attribution.steps is not None:
        raise ValueError('retrain_top retrains without a sample from the whole run: attribute with occurrences="all"')
    chosen = most_influential(attribution.influence)[: positive_count("m", m)]
    removal = attribution.convention.removal
    truth = retrain_without(run, chosen[:, None], removal=removal, cache=cache)
    influence = attribution.influence.copy()
    influence[chosen] = truth.influence(attribution.query)
    return Remedy(influence, chosen, attribution)
