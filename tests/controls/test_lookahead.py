"""False claims about look-ahead scores are found to be false."""

from __future__ import annotations

import numpy as np
from support.networks.trajectories import OPTIMIZERS, small_network, small_run

from trak_theory.numerics.agreement import relative_error
from trak_theory.trajectory import lookahead, loss_query

NET = small_network(n=48)
OPTIMIZER = OPTIMIZERS["adamw"]
RUN = small_run(NET, OPTIMIZER, size=8)
QUERY = loss_query(small_network(5), np.arange(12), mean=True)
FIRST, HORIZONS = 2, (0, 1, 4, 9)


def scores(batches=RUN.batches[FIRST:], state=None, first=FIRST, **how):
    state = RUN.state(FIRST) if state is None else state
    return lookahead(NET, batches, QUERY, OPTIMIZER, state, first=first, horizons=HORIZONS, **how).influence


RIGHT = scores()


def apart(wrong):
    return np.array([relative_error(right, row) for right, row in zip(RIGHT, wrong, strict=True)])


def test_the_formula_of_another_optimiser_is_not_the_derivative():
    assert apart(scores(estimator="sgd")).min() > 0.1


def test_a_wrong_step_count_is_not_the_derivative():
    assert apart(scores(first=0)).min() > 1e-3


def test_forgotten_moments_are_not_the_derivative():
    theta, m, v = RUN.state(FIRST)
    assert apart(scores(state=(theta, 0 * m, v))).min() > 1e-3
    assert apart(scores(state=(theta, m, 0 * v))).min() > 1e-3


def test_a_score_one_step_further_is_another_score():
    further = lookahead(
        NET,
        RUN.batches[FIRST:],
        QUERY,
        OPTIMIZER,
        RUN.state(FIRST),
        first=FIRST,
        horizons=[k + 1 for k in HORIZONS[:-1]],
    ).influence
    assert min(relative_error(a, b) for a, b in zip(RIGHT[:-1], further, strict=True)) > 1e-3


def test_the_future_is_the_batches_that_come_and_only_beyond_horizon_0():
    now, *later = RUN.batches[FIRST:]
    other = apart(scores([now, *later[::-1]]))
    assert other[0] == 0
    assert other[1:].min() > 1e-3


def test_curvature_carries_a_score_on():
    wrong = apart(scores(curvature="none"))
    assert wrong[0] == 0
    assert wrong[1:].min() > 1e-3
