"""Rank fidelity of look-ahead scores: to effects K steps later, and to effects on the end of the run."""

from __future__ import annotations

from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.selection_setting import BATCH
from simulations.workloads.selection_tasks import setting
from trak_theory.numerics.agreement import spearman
from trak_theory.trajectory import AdamW, Query, Run, lookahead, loss_query, retrain_without, train
from trak_theory.trajectory.selection.lookahead import segment
from trak_theory.trajectory.sweep.push import Estimator

STEPS, DECAY = 60, 0.01
HORIZONS = (0, 1, 4, 16)
PLACES = (5, 20, 40)  # steps whose candidates are scored
ESTIMATORS: tuple[Estimator, ...] = ("sgd", "first-order", "two-step")


def run(params: Params, rng: Generator) -> Rows:
    """At some steps of a run on all candidates: scores of every candidate against retraining without it at that step.

    own: Spearman with the effect on the validation loss at the score's own read-out; final: with that at the end. The
    scores named "retraining" are the exact effects at the read-out: their `final` is the ceiling of a horizon.
    """
    problem, rate = setting(str(params["setting"]), rng), float(params["learning_rate"])
    candidates = problem.stream(STEPS, rng)
    trained = train(problem.objective, problem.start, candidates, AdamW(rate, weight_decay=DECAY))
    query = loss_query(problem.objective, problem.validation, mean=True)
    shared = {"p": problem.objective.p, "steps": STEPS, "batch": BATCH}
    return [{**shared, **row} for t in PLACES for row in _at(trained, query, t)]


def _at(trained: Run, query: Query, t: int) -> Rows:
    horizons = (*HORIZONS, STEPS - 1 - t)
    truth = {horizon: _exact(trained, query, t, horizon) for horizon in horizons}
    scores = {("retraining", horizon): truth[horizon] for horizon in horizons}
    model, batches, optimizer = trained.objective, trained.batches[t:], trained.optimizer
    for estimator in ESTIMATORS:
        found = lookahead(
            model, batches, query, optimizer, trained.state(t), first=t, horizons=horizons, estimator=estimator
        )
        scores |= {(estimator, horizon): row for horizon, row in zip(horizons, found.influence, strict=True)}
    return [
        {
            "step": t,
            "estimator": estimator,
            "horizon": horizon,
            "to_the_end": horizon == horizons[-1],
            "own": spearman(truth[horizon], score),
            "final": spearman(truth[horizons[-1]], score),
        }
        for (estimator, horizon), score in scores.items()
    ]


def _exact(trained: Run, query: Query, t: int, horizon: int) -> Array:
    """The effect of each candidate of step t, at that step alone, on the query at θ_{t+1+K}; in the batch's order."""
    batches = trained.batches[t : t + 1 + horizon]
    part = segment(trained.objective, batches, trained.optimizer, trained.state(t), t)
    truth = retrain_without(part, batches[0][:, None], occurrences="each")
    assert truth.steps is not None
    here = truth.steps == 0
    place = {int(group[0]): k for k, group in enumerate(truth.groups) if here[k]}
    return truth.influence(query)[[place[int(sample)] for sample in batches[0]], 0]


RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)

STUDY = Study(
    name="lookahead_fidelity",
    summary="Rank fidelity of K-step look-ahead scores, to their own read-out and to the end of the run.",
    run=run,
    quick=grid(setting=["digits_wrong_labels"], learning_rate=[1e-3, 1e-2], replicate=range(3)),
    full=grid(setting=["digits_wrong_labels", "digits_domains"], learning_rate=RATES, replicate=range(10)),
    seconds=1.5,
)
