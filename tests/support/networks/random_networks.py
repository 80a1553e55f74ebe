"""Linearisations and softmax blocks of no particular network."""

from __future__ import annotations

import numpy as np

from trak_theory import Linearization


def random_linearization(rng, n, p, q=4):
    return Linearization(
        rng.standard_normal((n, p)), rng.standard_normal(n), rng.random(n), 0.0, rng.standard_normal((q, p))
    )


def random_block(rng, n, classes, p, q=3):
    return (
        rng.standard_normal((n, classes, p)),
        rng.dirichlet(np.ones(classes), n),
        rng.integers(0, classes, n),
        rng.standard_normal((q, p)),
    )
