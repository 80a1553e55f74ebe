"""The Gram matrix by blocks is the Gram matrix."""

import tracemalloc
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trak_theory import errors
from trak_theory.errors import MissingExtraError
from trak_theory.numerics import gram
from trak_theory.numerics.gram import blocked_gram, gram_workers


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


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 8), st.integers(1, 20), st.integers(2, 5), st.sampled_from([np.float16, float])
)
def test_any_number_of_workers_gives_the_same_bits(n, k, block_rows, count, dtype):
    """Entries over ten orders of magnitude, whose sum depends on the order."""
    rng = np.random.default_rng([n, k, block_rows])
    rows = (rng.standard_normal((n, k)) * 10.0 ** rng.uniform(-5, 5, (n, 1))).clip(-6e4, 6e4).astype(dtype)
    alone = blocked_gram(rows, block_rows=block_rows)
    with gram_workers(count):
        shared = blocked_gram(rows, block_rows=block_rows)
    np.testing.assert_array_equal(shared, alone)


def test_blocks_are_multiplied_by_as_many_threads_as_were_asked_for(monkeypatch):
    """A block waits until a second one is under way."""
    barrier, multiply = Barrier(2, timeout=20), gram._gram
    monkeypatch.setattr(gram, "_gram", lambda *arguments: (barrier.wait(), multiply(*arguments))[1])
    with gram_workers(2):
        np.testing.assert_array_equal(blocked_gram(np.eye(4), block_rows=1), np.eye(4))


def test_several_workers_need_joblib(monkeypatch):
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"joblib is not installed: pip install 'trak-theory\[studies\]'"):
        gram_workers(2).__enter__()
    with gram_workers(1):
        assert blocked_gram(np.eye(2), block_rows=1)[0, 0] == 1
