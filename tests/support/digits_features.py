"""Linearisations with real features: random ReLU features of the digits, and gradients of a small network on them."""

from dataclasses import replace
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from simulations.workloads.digits_mlp import digits_network
from simulations.workloads.subset_training import Optimizer
from trak_theory import Linearization

SHORT_RECIPE = Optimizer(learning_rates=(0.2,) * 100, weight_decay=1e-3, momentum=0.9)


@cache
def random_features(n=150, p=250, q=6):
    rng = np.random.default_rng(0)
    pixels = load_digits().data[rng.permutation(1797)[: n + q]] / 16
    rows = np.maximum((pixels - pixels.mean(0)) @ rng.standard_normal((64, p)), 0.0) / np.sqrt(p)
    return Linearization(rows[:n], rng.standard_normal(n), np.ones(n), 0.0, rows[n:])


@cache
def small_network(n=150, hidden=16, queries=40):
    return digits_network(SHORT_RECIPE, n=n, hidden=hidden, queries=queries, rng=np.random.default_rng(1))


@cache
def network_gradients():
    """In an orthonormal basis of all rows: a rotation, which normal projections do not see, and far fewer columns."""
    lin = small_network().margin_linearization()
    rows = np.linalg.qr(np.vstack([lin.features, lin.queries]).T)[1].T
    n = len(lin.features)
    return replace(lin, features=rows[:n], queries=rows[n:], ridge=0.0)
