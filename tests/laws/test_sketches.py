"""Random projections: E PPᵀ = I for every kind, as z-scores at a fixed number of draws."""

import numpy as np
import pytest

from trak_theory import projection_matrix

DRAWS = 2000


@pytest.mark.parametrize("kind", ["normal", "rademacher", "sparse", "countsketch", "srht"])
def test_expectation_of_the_outer_product_is_the_identity(kind):
    rng = np.random.default_rng(0)
    p, k = 6, 5
    outer = []
    for _ in range(DRAWS):
        matrix = projection_matrix(p, k, kind=kind, rng=rng)
        matrix = matrix.toarray() if hasattr(matrix, "toarray") else matrix
        outer.append(matrix @ matrix.T)
    mean, se = np.mean(outer, axis=0), np.std(outer, axis=0) / np.sqrt(DRAWS)
    z = (mean - np.eye(p)) / np.where(se > 0, se, 1e-12)
    assert np.abs(z).max() < 4.5  # 36 entries, 21 of them distinct


@pytest.mark.parametrize("k", [1, 3, 8, 50])
def test_sparse_rows_hold_eight_unit_entries_that_never_collide(k):
    matrix = projection_matrix(60, k, kind="sparse", rng=np.random.default_rng(1))
    per_row = np.diff(matrix.indptr)
    assert np.all(per_row == min(8, k))
    assert np.allclose(np.abs(matrix.data), 1 / np.sqrt(min(8, k)))
    dense = matrix.toarray()
    assert np.allclose((dense**2).sum(1), 1.0)
    assert np.all((dense != 0).sum(1) == min(8, k))


def test_a_count_sketch_has_one_entry_in_each_row():
    matrix = projection_matrix(60, 7, kind="countsketch", rng=np.random.default_rng(1))
    assert np.all(np.diff(matrix.indptr) == 1)
    assert np.all(np.abs(matrix.data) == 1)


@pytest.mark.parametrize("p", [8, 60])
def test_a_randomised_hadamard_transform_has_orthogonal_columns_of_signs(p):
    matrix = projection_matrix(p, 5, kind="srht", rng=np.random.default_rng(1))
    assert np.allclose(np.abs(matrix), 1 / np.sqrt(5))
    if p == 8:
        assert np.allclose(matrix.T @ matrix, 8 / 5 * np.eye(5))
