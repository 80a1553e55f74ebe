"""Claims of the tests' own: one true and one false of each kind."""

import numpy as np

from trak_theory.claims import Claim, Estimate


def anything(rng):
    """a random number"""
    return rng.random()


def toy(name, kind, predicted, measured):
    return Claim(name, kind, "x_1", "ours", lambda case: predicted, lambda case: measured, anything)


CLAIMS = [
    toy("identity true", "identity", np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-12])),
    toy("identity false", "identity", np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-6])),
    toy("identity undefined", "identity", np.array([1.0, 2.0]), np.array([1.0, np.nan])),
    toy("bound true", "bound", np.array([1.0, np.inf, 0.0]), np.array([0.9, 5.0, 0.0])),
    toy("bound false", "bound", np.array([1.0, 1.0]), np.array([0.9, 1.1])),
    toy("bound undefined", "bound", np.array([1.0, 1.0]), np.array([0.9, np.nan])),
    toy("expansion true", "expansion", -2.0, Estimate(-2.05, 0.01)),
    toy("expansion false", "expansion", -2.0, Estimate(-2.2, 0.5)),
    toy("limit true", "limit", 1.0, Estimate(1.3, 0.1)),
    toy("limit false", "limit", 1.0, Estimate(1.5, 0.1)),
    toy("limit without error", "limit", 1.0, Estimate(1.0, 0.0)),
]
