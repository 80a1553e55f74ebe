"""Block conjugate gradients against dense solves, where right-hand sides repeat, vanish or outnumber the rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_theory.numerics.block_cg import block_conjugate_gradients


def system(seed: int, size: int = 30, condition: float = 4.0):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return (basis * np.logspace(0, condition, size)) @ basis.T, rng


def solve(matrix, right, steps, precondition=lambda rest: rest, tol=0.0):
    return block_conjugate_gradients(
        lambda columns: matrix @ columns,
        right,
        np.zeros_like(right),
        precondition,
        done=lambda found, rest: bool(np.linalg.norm(rest) <= tol * np.linalg.norm(right)),
        steps=steps,
    )


@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_it_solves_whatever_columns_it_is_given(seed, count, repeated, vanishing):
    matrix, rng = system(seed)
    right = rng.standard_normal((30, count))
    if repeated:
        right[:, -1] = right[:, 0]
    if vanishing:
        right[:, 0] = 0.0
    found, _ = solve(matrix, right, 200, tol=1e-10)
    expected = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * max(np.abs(expected).max(), 1e-30))


@pytest.mark.parametrize("seed", range(24))
def test_columns_that_nearly_depend_on_each_other_and_have_any_size_do_not_keep_the_others(seed):
    """Condition 1e6: rounding makes equal columns drift apart, and their difference would be a direction."""
    matrix, rng = system(seed, condition=6.0)
    right = rng.standard_normal((30, 2 + seed % 12)) * 10.0 ** rng.uniform(-6, 6, 2 + seed % 12)
    right[:, -1] = right[:, 0]
    if seed % 3 == 0:
        right[:, 1] = right[:, 0] + 1e-9 * rng.standard_normal(30) * np.abs(right[:, 0]).max()
    found, _ = solve(matrix, right, 300, tol=1e-10)
    exact = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_each_step_leaves_less_in_the_norm_of_the_matrix_and_many_columns_need_fewer():
    matrix, rng = system(1)
    right = rng.standard_normal((30, 6))
    exact = np.linalg.solve(matrix, right)

    def left(steps, columns=slice(None)):
        error = (solve(matrix, right[:, columns], steps)[0] - exact[:, columns])[:, 0]
        return error @ matrix @ error

    sizes = [left(steps) for steps in range(1, 6)]
    assert all(later < earlier for earlier, later in pairwise(sizes))
    assert left(5) < 1e-6 * left(5, slice(0, 1))  # 5 · 6 = 30 directions are all there are
    assert left(5) < 1e-11 * left(1)


def test_the_inverse_as_preconditioner_needs_one_step():
    matrix, rng = system(2)
    right = rng.standard_normal((30, 2))
    _, steps = solve(matrix, right, 50, precondition=lambda rest: np.linalg.solve(matrix, rest), tol=1e-9)
    assert steps == 1
    assert solve(matrix, right, 50, tol=1e-9)[1] > 5


@pytest.mark.parametrize("steps", [1, 3])
def test_it_stops_after_its_steps(steps):
    matrix, rng = system(3)
    assert solve(matrix, rng.standard_normal((30, 1)), steps)[1] == steps
