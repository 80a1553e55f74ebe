"""Small networks on teacher data, with held-out queries: shared by the tests of the shallow models."""

from __future__ import annotations

import numpy as np

from trak_theory.shallow import TwoLayer

SMOOTH = ("tanh", "softplus", "erf", "gelu")
CLASSES = 3


def teacher(seed, *, n=40, d=3, queries=8, loss="squared", noise=0.3):
    """Inputs (n, d), targets (n,), query inputs (q, d) and query targets of a smooth teacher with an interaction."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((n + queries, d))
    signal = np.sin(1.5 * inputs[:, 0]) + 0.5 * inputs[:, 1] * inputs[:, 2]
    if loss == "squared":
        targets = signal + noise * rng.standard_normal(signal.size)
    elif loss == "softmax":
        targets = np.digitize(signal + noise * rng.standard_normal(signal.size), (-0.5, 0.5)).astype(float)
        targets[:CLASSES] = range(CLASSES)
    else:
        targets = (rng.random(signal.size) < 1 / (1 + np.exp(-2 * signal))).astype(float)
        targets[:2] = 0.0, 1.0
    return inputs[:n], targets[:n], inputs[n:], targets[n:]


def trained(seed, *, width=5, activation="tanh", loss="squared", ridge=1.0, n=40, d=3, queries=8, noise=0.3, **options):
    """A fit and its queries."""
    inputs, targets, query_inputs, query_targets = teacher(seed, n=n, d=d, queries=queries, loss=loss, noise=noise)
    if loss == "softmax":
        options["classes"] = CLASSES
    model = TwoLayer(inputs, targets, width=width, activation=activation, loss=loss, ridge=ridge, **options)
    fit = model.fit(model.initial(np.random.default_rng(seed)))
    return fit, fit.at(query_inputs, query_targets if loss == "softmax" else None)
