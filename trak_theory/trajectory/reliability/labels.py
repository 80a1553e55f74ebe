"""Labels of an attribution, and all thresholds between them. Source: ours.

Thresholds were chosen on runs of the families `CALIBRATED` of the study `proxy` alone, under another seed than that of
its results: those of the free verdict on 152, that of the bound on 255, those of audits on 510. Softmax regression,
tanh, GELU and ReLU networks, a CNN, matrix factorisation, GPT-2; SGD with momentum and AdamW, 20 to 160 steps, batches
of 5 to 20.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trak_theory.trajectory.reliability.audits import Plausible

Label = Literal["trust", "ranks only", "do not trust", "retrain a few to tell"]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds between the labels.

    spearman, error, ranks    deserves trust: Spearman ≥ .95 and relative error ≤ .35; ranks only: Spearman ≥ .8
    index                     √(κ² + κ_q²) up to which a run is called, in this order: trust, undecided, ranks only,
                              undecided; do not trust above
    sensitivity               G above which no run is called trust or ranks only without retraining
    audited                   up to which index (the second and the fourth limit, or any): shares of what an audit
                              leaves plausible (see `plausible_quality`) that must deserve trust, and that must deserve
                              ranks only, for an audited run to be called so
    bound                     half-width of the free bound, in proxies: in 95 % of the runs it was chosen on it covers
                              at least 90 % of the samples
    """

    spearman: float = 0.95
    error: float = 0.35
    ranks: float = 0.8
    index: tuple[float, float, float, float] = (0.16, 0.25, 0.45, 0.7)
    sensitivity: float = 0.25
    audited: tuple[tuple[float, float], ...] = ((0.3, 0.5), (0.975, 0.5), (np.inf, 0.95))
    bound: float = 2.0


THRESHOLDS = Thresholds()


def deserved(spearman: float, relative_error: float) -> Label:
    """The label that an attribution of known quality deserves."""
    if spearman >= THRESHOLDS.spearman and relative_error <= THRESHOLDS.error:
        return "trust"
    return "ranks only" if spearman >= THRESHOLDS.ranks else "do not trust"


def free_label(index: float, sensitivity: float) -> Label:
    """The label that is given without retraining."""
    trust, undecided, ranks, dubious = THRESHOLDS.index
    steady = sensitivity <= THRESHOLDS.sensitivity
    if index <= trust and steady:
        return "trust"
    if undecided < index <= ranks and steady:
        return "ranks only"
    return "retrain a few to tell" if index <= dubious else "do not trust"


def audited_label(plausible: Plausible, index: float) -> Label:
    """The label of an audited attribution: the best one that enough of the plausible qualities deserve.

    How many is enough depends on what was known before. Up to an index of .25 every run of the calibrated families
    deserved trust, and an audit only has to leave that plausible; from there to .7 trust is a one-sided confidence
    statement, a share of .975; beyond, where the paths announce errors that an audit of a few samples can miss, no run
    is called trust, and ranks only takes a share of .95.
    """
    _, settled, _, dubious = THRESHOLDS.index
    trust, ranks = THRESHOLDS.audited[int(not index <= settled) + int(not index <= dubious)]  # NaN: a lost path
    ranked = plausible.spearman >= THRESHOLDS.ranks
    trusted = (plausible.spearman >= THRESHOLDS.spearman) & (plausible.relative_error <= THRESHOLDS.error)
    if np.mean(trusted) >= trust:
        return "trust"
    return "ranks only" if np.mean(ranked) >= ranks else "do not trust"
