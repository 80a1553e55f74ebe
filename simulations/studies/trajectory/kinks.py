"""Networks with kinks at an ordinary learning rate: what retraining a few samples can repair, and what it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.training_runs import setting
from trak_theory.numerics.agreement import agreement
from trak_theory.trajectory import AdamW, Attribution, Run, attribute, retrain_without, train
from trak_theory.trajectory.proxies import most_influential

N, BATCH, STEPS, RATE = 120, 20, 60, 1e-3
RETRAINED = 15
STARTS, JITTER = 4, 3e-3  # runs from starts that differ by normal noise of that size


def run(params: Params, rng: Generator) -> Rows:
    """Frozen push of one run, and the same with RETRAINED samples replaced by the truth, chosen in four ways.

    spread   those whose estimates differ most between runs from jittered starts; their mean for all others
    oracle   those with the largest errors, which only retraining everyone tells: no choice can do much better
    """
    problem = setting(str(params["family"]), n=N, rng=rng)
    trained = problem.train(AdamW(RATE, weight_decay=0.01), size=BATCH, steps=STEPS, rng=rng)
    exact = retrain_without(trained, np.arange(N)[:, None]).influence(problem.query)
    attribution = attribute(trained, problem.query, estimator="frozen-push")
    score, found = attribution.influence, _from_jittered_starts(trained, attribution, rng)
    mean, spread = found.mean(0), found.std(0)[:, 0]
    estimates = {
        "frozen push": score,
        "random retrained": _repaired(score, exact, rng.permutation(N)),
        "largest retrained": _repaired(score, exact, most_influential(score)),
        "largest spread retrained": _repaired(mean, exact, np.argsort(-spread)),
        "largest errors retrained (oracle)": _repaired(score, exact, np.argsort(-np.abs(score - exact)[:, 0])),
    }
    shared = {"n": N, "p": problem.network.p, "steps": STEPS, "retrained": RETRAINED, "defect": attribution.defect}
    return [{**shared, "choice": name, **agreement(exact, s).row()} for name, s in estimates.items()]


def _from_jittered_starts(trained: Run, attribution: Attribution, rng: Generator) -> Array:
    """Estimates (1 + STARTS, n, q) of the run and of runs from jittered starts on the same batches."""
    found = [attribution.influence]
    for _ in range(STARTS):
        start = trained.state(0)[0] + JITTER * rng.standard_normal(trained.objective.p)
        other = train(trained.objective, start, trained.batches, trained.optimizer)
        found.append(replace(attribution, run=other).vary().influence)
    return np.stack(found)


def _repaired(score: Array, exact: Array, order: Array) -> Array:
    repaired = score.copy()
    repaired[order[:RETRAINED]] = exact[order[:RETRAINED]]
    return repaired


STUDY = Study(
    name="kinks",
    summary="ReLU at 1e-3: the largest, the most spread and the truly worst of the estimates replaced by retraining.",
    run=run,
    quick=grid(family=["digits_relu", "digits_deep_relu", "breast_cancer_relu"], replicate=range(1)),
    full=grid(
        family=["digits_relu", "digits_deep_relu", "digits_leaky_relu", "breast_cancer_relu", "wine_relu"],
        replicate=range(5),
    ),
    seconds=1.7,
)
