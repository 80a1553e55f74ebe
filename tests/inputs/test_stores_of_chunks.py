"""Rows in many files or in bfloat16 are read block by block: the same numbers, and never joined in memory."""

import json
import pickle
import tracemalloc
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from trak_theory.auditing import inputs
from trak_theory.auditing.stored import audit_store
from trak_theory.auditing.stores import chunks, recognise, recovery, values
from trak_theory.numerics import gram
from trak_theory.numerics.gram import blocked_gram, gram_workers
from trak_theory.numerics.rows import ChunkedRows, StoredRows

N, K, FILES = 4000, 256, 6
EDGES = tuple(pairwise(np.linspace(0, N, FILES + 1).astype(int)))
BLOCK = 2**15


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (chunks, inputs, recovery, values):
        monkeypatch.setattr(module, "BLOCK", BLOCK)
    monkeypatch.setattr(gram, "BLOCK_ENTRIES", BLOCK)
    monkeypatch.setattr(gram, "PRODUCT_ENTRIES", BLOCK)


def written_dattri(path, rows, dtype):
    """The layout of dattri 0.3, one batch a chunk; uint16 is bfloat16."""
    (path / "grad").mkdir(parents=True)
    info = {str(index): {"sample_count": int(stop - start)} for index, (start, stop) in enumerate(EDGES)}
    metadata = {"batch_info": info, "layer_dims": [K], "total_samples": N}
    (path / "batch_metadata.json").write_text(json.dumps(metadata))
    for index, (start, stop) in enumerate(EDGES):
        stem = f"chunk_gradients_{index}_{index}"
        rows[start:stop].tofile(path / "grad" / f"{stem}.mmap")
        content = {"chunk_filename": stem, "storage_dtype": dtype, "shape": [int(stop - start), K], "layer_dims": [K]}
        content["batches"] = [{"batch_idx": index}]
        (path / "grad" / f"{stem}_metadata.json").write_text(json.dumps(content))
    return path


def written_logix(path, rows, dtype):
    """The layout of LogIX 0.1, a list of samples a chunk."""
    path.mkdir()
    for index, (start, stop) in enumerate(EDGES):
        file = path / f"log_rank_0_chunk_{index}.mmap"
        rows[start:stop].tofile(file)
        samples = [
            {
                "data_id": str(start + row),
                "path": [["logix_lora_B", "grad"]],
                "offset": row * K * rows.itemsize,
                "shape": [[K]],
                "dtype": dtype,
            }
            for row in range(int(stop - start))
        ]
        file.with_name(f"{file.stem}_metadata.json").write_text(json.dumps(samples))
    return path


def written_bergson(path, rows, dtype):
    path.mkdir()
    rows.tofile(path / "gradients.bin")
    info = {"num_grads": N, "grad_sizes": {"all": K}, "base_dtype": dtype}
    (path / "info.json").write_text(json.dumps(info))
    return path


WRITERS = {"dattri": written_dattri, "logix": written_logix, "bergson": written_bergson}
NAMES = {"dattri": "uint16"}


@pytest.fixture(scope="module")
def numbers():
    """(N, K) float32 that bfloat16 holds exactly."""
    rows = np.random.default_rng(0).standard_normal((N, K)).astype(np.float32)
    return (rows.view(np.uint32) & 0xFFFF0000).view(np.float32)


def store_of(package, numbers, half, tmp_path):
    stored = (numbers.view(np.uint32) >> 16).astype(np.uint16) if half else numbers
    name = NAMES.get(package, "bfloat16") if half else "float32"
    return recognise(WRITERS[package](tmp_path / "store", stored, name))


@pytest.mark.parametrize(
    ("package", "half"), [("dattri", 0), ("dattri", 1), ("logix", 0), ("logix", 1), ("bergson", 1)]
)
def test_the_numbers_are_those_that_were_written(package, half, numbers, small_blocks, tmp_path):
    store = store_of(package, numbers, half, tmp_path)
    assert (store.n, store.k, store.dtype) == (N, K, "float32")
    np.testing.assert_array_equal(store.features, numbers)
    np.testing.assert_array_equal(store.features[490:1010, 3:7], numbers[490:1010, 3:7])
    np.testing.assert_array_equal(blocked_gram(store.features), blocked_gram(numbers))
    np.testing.assert_array_equal(StoredRows(store.features, 2.0).part(7, 600).read(), 2.0 * numbers[7:600])


def peak_of(run):
    run()
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(("package", "half"), [("dattri", 0), ("dattri", 1), ("logix", 1), ("bergson", 1)])
def test_reading_a_store_never_holds_its_rows(package, half, numbers, small_blocks, tmp_path):
    """Joined they would be 4 n k = 4.1 MB, and 2 MB as bfloat16; LogIX's metadata, a dictionary a sample, is held."""
    store = store_of(package, numbers, half, tmp_path)
    if package != "logix":
        assert peak_of(lambda: recognise(store.path)) < N * K
    several, whole = (peak_of(partial(blocked_gram, rows)) for rows in (store.features, numbers))
    assert several < whole + 16 * BLOCK


def test_the_audit_is_that_of_rows_in_one_array(numbers, small_blocks, tmp_path):
    """A dattri store with queries and scores beside it, in the same memory."""
    store = replace(store_of("dattri", numbers, True, tmp_path), blocks=())
    rng = np.random.default_rng(1)
    queries = rng.standard_normal((2, K))
    scores = numbers @ np.linalg.solve(numbers.T @ numbers.astype(float) + 30.0 * np.eye(K), queries.T)
    member = replace(store.members[0], queries=queries, units=(1.0,))
    settings = {"ridge": 30.0, "parameters": 5000}
    found, peaks = {}, {}
    for name, rows in (("joined", numbers), ("chunks", member.features)):
        given = replace(store, members=(replace(member, features=rows),), scores=scores)
        found[name] = audit_store(given, **settings)
        peaks[name] = peak_of(partial(audit_store, given, **settings))
    np.testing.assert_array_equal(found["chunks"].mean, found["joined"].mean)
    np.testing.assert_array_equal(found["chunks"].sd, found["joined"].sd)
    assert found["chunks"].recomputed.difference == found["joined"].recomputed.difference < 1e-12
    assert peaks["chunks"] < peaks["joined"] + 16 * BLOCK


def test_chunks_are_pickled_as_places_in_files(numbers, tmp_path):
    store = store_of("dattri", numbers, True, tmp_path)
    rows = StoredRows(store.features, 3.0).part(400, 2600)
    content = pickle.dumps(rows)
    assert len(content) < 3000
    np.testing.assert_array_equal(pickle.loads(content).part(10, 1500).read(), 3.0 * numbers[410:1900])


def test_threads_share_chunks(numbers, small_blocks, tmp_path):
    rows = store_of("logix", numbers, True, tmp_path).features
    with gram_workers(3):
        np.testing.assert_array_equal(blocked_gram(rows), blocked_gram(numbers))


def test_rows_are_slices_without_gaps():
    rows = ChunkedRows((np.arange(6.0).reshape(3, 2), np.arange(6.0, 10.0).reshape(2, 2)))
    whole = np.arange(10.0).reshape(5, 2)
    for start in range(-6, 7):
        for stop in range(-6, 7):
            np.testing.assert_array_equal(rows[start:stop].read(), whole[start:stop])
    with pytest.raises(IndexError, match="without gaps"):
        rows[::2]
