"""Blow-up of an exact one-step push on a young second moment, and the frozen steps that repair it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from trak_theory.numerics.agreement import agreement
from trak_theory.trajectory import AdamW, attribute, retrain_without, train
from trak_theory.trajectory.sweep.push import Estimator

SIZE, STEPS, P, RATE = 10, 20, 200, 1e-3
ESTIMATORS: tuple[Estimator, ...] = ("first-order", "hybrid", "exact-push", "two-step", "frozen-push")


@dataclass(frozen=True, eq=False)
class Tilt:
    """ℓ_i(θ) = a_iᵀθ: the gradients a_i (n, p) never change, so that Adam's moments are all there is to get wrong."""

    slopes: Array

    @property
    def n(self) -> int:
        return self.slopes.shape[0]

    @property
    def p(self) -> int:
        return self.slopes.shape[1]

    def loss(self, theta: Array, batch: Array) -> Array:
        return theta @ self.slopes[batch].T

    def gradient(self, theta: Array, batch: Array, weights: Array) -> Array:
        return weights @ self.slopes[batch]

    def sample_gradients(self, theta: Array, batch: Array) -> Array:
        return self.slopes[batch]

    def hvp(self, theta: Array, batch: Array, weights: Array, directions: Array) -> Array:
        return np.zeros_like(directions)

    ggn = hvp


def run(params: Params, rng: Generator) -> Rows:
    """One pass of AdamW over gradients that cancel to a relative `cancellation` in each of the first batches."""
    slopes = rng.standard_normal((SIZE * STEPS, P))
    for first in range(0, SIZE * int(params["cancelling"]), SIZE):
        batch = slopes[first : first + SIZE]
        batch -= (1 - float(params["cancellation"])) * batch.mean(0)
    objective = Tilt(slopes)
    trained = train(
        objective, np.zeros(P), list(np.arange(SIZE * STEPS).reshape(STEPS, SIZE)), AdamW(RATE, weight_decay=0.0)
    )
    removed = np.arange(SIZE)
    query = rng.standard_normal((P, 20))
    truth = retrain_without(trained, removed[:, None])
    exact = truth.influence(query)
    shared = {"batch": SIZE, "steps": STEPS, "p": P, "learning_rate": RATE, "queries": query.shape[1]}
    return [
        {
            **shared,
            "estimator": name,
            **agreement(exact, truth.matching(attribute(trained, query, estimator=name))).row(),
        }
        for name in ESTIMATORS
    ]


CANCELLATIONS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)

STUDY = Study(
    name="push_blowup",
    summary="Exact pushes blow up where batch gradients cancel in a young v; frozen steps repair it.",
    run=run,
    quick=grid(cancelling=[1, 2], cancellation=CANCELLATIONS, replicate=range(3)),
    full=grid(cancelling=[1, 2, 3, 5], cancellation=CANCELLATIONS, replicate=range(50)),
    seconds=0.2,
)
