"""More parameters than points: what rounding of the rotation into the row space does to certified radii."""

import numpy as np
import pytest

from simulations.workloads.truth_in_60_digits import Truth, exactly
from trak_theory import GLM, leave_group_out, leave_one_out, newton_interval
from trak_theory.loo.rounding import rotation_error
from trak_theory.numerics.whitening import row_space

GROUPS = [[0], [0, 1]]


def wide_features(rng):
    n = int(rng.integers(3, 6))
    p = n + int(rng.integers(1, 4))
    return rng.standard_normal((n, p)) * 10.0 ** rng.uniform(-2, 2, p)


def answers(fit, queries):
    """Influence and radius, by each of the three certificates."""
    single, group = leave_one_out(fit, queries), leave_group_out(fit, GROUPS, queries)
    interval = newton_interval(fit, queries, chord_steps=2)
    return [(single.influence, single.radius), (group.influence, group.radius), (interval.center, interval.radius)]


@pytest.mark.parametrize("empty", [0, 1, -1])
def test_a_column_of_zeros_has_no_influence_and_the_radius_knows(empty):
    """The rotation has entries of size ε where it should have zeros: ε of everything, not of nothing."""
    proved = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        features = wide_features(rng)
        features[:, empty] = 0.0
        counts = rng.integers(0, 5, len(features)).astype(float)
        weights, ridge = 10.0 ** rng.uniform(-3, 0, len(features)), 10.0 ** rng.uniform(-9, 0)
        fit = GLM(features, counts, loss="poisson", ridge=ridge, weights=weights).fit()
        for found, radius in answers(fit, np.eye(features.shape[1])[[empty]]):
            assert not np.any(np.abs(found) > radius)
            proved += np.isfinite(radius).sum()
    assert proved > 100


def test_rows_that_nearly_coincide_leave_the_span_by_more_than_their_difference():
    """Two rows that differ by 1e-6 and pull against each other, in sixty digits; queries in and out of their span."""
    worst = 0.0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        features = wide_features(rng)
        features[1] = features[0] + 1e-6 * rng.standard_normal(features.shape[1])
        counts = np.array([0.0, 9.0, *rng.integers(0, 5, len(features) - 2)])
        arguments = {"features": features, "targets": counts, "loss": "poisson", "ridge": 1e-9}
        fit = GLM(**arguments).fit()
        queries = np.vstack([np.eye(features.shape[1]), rng.standard_normal((4, features.shape[1]))])
        p, n = features.shape[1], len(features)
        truth = Truth(
            **(arguments | {"ridge": np.full(p, 1e-9), "weights": np.ones(n), "offset": np.zeros(n), "delta": 1.0}),
            start=fit.coef,
        )
        found = leave_one_out(fit, queries)
        for i in range(n):
            exact = truth.influence((i,), queries, found.coef[i])
            errors = [float(abs(e - float(own))) for e, own in zip(exact, found.influence[i], strict=True)]
            worst = max(worst, np.max(np.array(errors) / found.radius[i]))
    assert 1e-6 < worst <= 1


@pytest.mark.parametrize("spread", [0, 4])
def test_a_rotation_keeps_rows_to_within_its_error(spread):
    """φ ∘ scale against ψ Qᵀ of the computed rotation, exactly; the control: a tenth of the error is too little."""
    ratios = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, p = int(rng.integers(2, 12)), int(rng.integers(13, 40))
        features, ridge = rng.standard_normal((n, p)) * 10.0 ** rng.uniform(-spread, spread, p), rng.uniform(0.1, 1, p)
        space = row_space(features, ridge)
        rotation = space.basis / space.scale[:, None]
        left = exactly((features * space.scale).tolist()) - exactly(space.features.tolist()) @ exactly(
            rotation.T.tolist()
        )
        lengths = np.sqrt((left.astype(float) ** 2).sum(1))
        ratios.append(np.max(lengths / rotation_error(space, features)))
    assert 0.1 < np.max(ratios) <= 1
