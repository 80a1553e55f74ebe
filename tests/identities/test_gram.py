"""The Gram matrix by blocks is the Gram matrix."""

import tracemalloc

import numpy as np
import pytest

from trak_theory.numerics.gram import blocked_gram


@pytest.mark.parametrize("block_rows", [None, 1, 7, 50, 1000])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_blocks_of_any_size_and_type_add_up(block_rows, dtype):
    """In double precision throughout: half-precision entries as large as 300 overflow in their own."""
    rows = (100 * np.random.default_rng(0).standard_normal((50, 9))).clip(-120, 120).astype(dtype)
    expected = rows.astype(float).T @ rows.astype(float)
    found = blocked_gram(rows, block_rows=block_rows)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_a_file_is_never_in_memory_as_a_whole(tmp_path):
    """16 MB of half precision would be 64 MB in double; k² + block · k doubles are 2.1 MB."""
    path = tmp_path / "rows.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (40_000, 200))
    rows[:, 0] = 1
    tracemalloc.start()
    found = blocked_gram(np.load(path, mmap_mode="r"), block_rows=1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[0, 0] == 40_000
    assert peak < 6e6


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones((2, 3), complex), np.empty((0, 3)), np.array([["a"]])])
def test_what_is_no_real_matrix_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must be a real \(n, k\) matrix"):
        blocked_gram(wrong)
    with pytest.raises(ValueError, match="block_rows must be at least 1"):
        blocked_gram(np.ones((2, 2)), block_rows=0)
