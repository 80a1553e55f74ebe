"""Rows of a file, read in blocks: the same numbers, whoever reads them, and never all at once."""

import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from typer.testing import CliRunner

from trak_theory import errors
from trak_theory.auditing.checking.recomputed import RoundedRows
from trak_theory.auditing.stored import audit_store
from trak_theory.auditing.stores import recognise
from trak_theory.cli.main import app
from trak_theory.errors import MissingExtraError
from trak_theory.numerics import gram
from trak_theory.numerics.gram import blocked_gram, gram_workers, over_blocks, weighted_sum
from trak_theory.numerics.rows import StoredRows
from trak_theory.projection.projected_features import ProjectedKernel

N, K, Q = 30_000, 64, 2
CLUSTER = """
from dask.distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(gram, "BLOCK_ENTRIES", 2**14)
    monkeypatch.setattr(gram, "PRODUCT_ENTRIES", 2**13)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Half precision, with the scores that the rows give at μ = 3."""
    path, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    rows, queries = (rng.standard_normal((m, K)).astype(np.float16) for m in (N, Q))
    wide, residual = rows.astype(float), -rng.random(N)
    kernel = wide @ np.linalg.solve(wide.T @ wide + 3.0 * np.eye(K), queries.T.astype(float))
    arrays = {"features": rows, "queries": queries, "residual": residual, "scores": -residual[:, None] * kernel}
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


@pytest.fixture(scope="module")
def cluster():
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip()
    process.communicate("done\n", timeout=120)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, float])
def test_blocks_give_what_whole_matrices_give(dtype, small_blocks):
    rng = np.random.default_rng(1)
    rows, weights = rng.standard_normal((2000, 30)).astype(dtype), rng.random(2000)
    wide = rows.astype(float)
    np.testing.assert_allclose(blocked_gram(rows, weights=weights), wide.T @ (weights[:, None] * wide), atol=1e-10)
    np.testing.assert_allclose(weighted_sum(rows, weights), weights @ wide, atol=1e-10)
    right = rng.standard_normal((30, 3))
    np.testing.assert_allclose(over_blocks(lambda block: block @ right, StoredRows(rows, 2.0)), 2 * wide @ right)


def test_energies_from_two_matrices_are_those_of_the_rows(small_blocks):
    """Against the formula point by point: y_iᵀWy_i and y_iᵀWx*_j of y = r x, centred."""
    rng = np.random.default_rng(2)
    rows, queries, residual = rng.standard_normal((500, 20)) + 0.3, rng.standard_normal((4, 20)), -rng.random(500)
    first, second = ProjectedKernel(rows, queries, 2.0), ProjectedKernel(rows, queries, 50.0)
    one, two = (np.linalg.inv(rows.T @ rows + ridge * np.eye(20)) for ridge in (2.0, 50.0))
    weighted = residual[:, None] * rows
    weighted -= weighted.mean(0)
    lengths = (
        np.einsum("ia,ab,ib->i", weighted, one @ two, weighted).sum()
        * np.einsum("ja,ab,jb->j", queries, one @ two, queries).sum()
    )
    noise = (lengths + np.sum((weighted @ one @ two @ queries.T) ** 2)) / np.trace(one @ two)
    cross = np.sum((weighted @ one @ queries.T) * (weighted @ two @ queries.T)) - noise
    assert first.energies(second, first.scatter(residual)) == pytest.approx((cross, noise), rel=1e-9)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("mapped", [True, False])
def test_rows_are_pickled_as_their_place_in_the_file(order, mapped, tmp_path):
    array = np.asarray(np.arange(30_000.0, dtype=np.float32).reshape(1000, 30), order=order)
    np.save(tmp_path / "rows.npy", array)
    rows = StoredRows(np.load(tmp_path / "rows.npy", mmap_mode="r" if mapped else None), 2.0).part(7, 500).part(3, 400)
    content = pickle.dumps(rows)
    assert (len(content) < 1000) == mapped
    np.testing.assert_array_equal(pickle.loads(content).read(), 2.0 * array[10:407])


def test_rounding_is_the_same_in_whatever_parts_it_is_read():
    rows = RoundedRows(StoredRows(np.ones((50, 4))), 0.1, np.random.PCG64(3))
    parts = np.concatenate([rows.part(start, start + 7).read() for start in range(0, 50, 7)])
    np.testing.assert_array_equal(parts, rows.read())
    np.testing.assert_array_equal(rows.read(), 1 + 0.1 * np.random.default_rng(3).uniform(-0.5, 0.5, (50, 4)))


def test_an_audit_holds_no_copy_of_its_rows(store, small_blocks):
    """n k doubles would be 15 MB; what is held has n q = 0.5 MB a piece."""
    found = recognise(store)
    settings = {"ridge": 3.0, "projected": True, "parameters": 1000, "recipe": 1e5, "fraction": 0.5}
    audit_store(found, **settings)
    tracemalloc.start()
    audited = audit_store(found, **settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert audited.recomputed.explanation is None
    assert peak < 8 * N * K


def test_any_number_of_threads_gives_the_same_audit(store, small_blocks):
    found = recognise(store)
    settings = {"ridge": 3.0, "projected": True, "parameters": 1000, "recipe": 1e5, "fraction": 0.5}
    alone = audit_store(found, **settings)
    with gram_workers(3):
        shared = audit_store(found, **settings)
    for name in ("mean", "sd"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(alone, name))
    for name in ("verdict", "recomputed", "recommendation", "map", "top_overlap"):
        assert getattr(shared, name) == getattr(alone, name)


def test_a_dask_cluster_gives_the_same_bits(store, cluster, tmp_path, small_blocks):
    pytest.importorskip("distributed")
    words = ["audit", str(store), "--projected", "--parameters", "1000", "--ridge", "3", "--training-ridge", "10"]
    written = []
    for name, more in (("alone", []), ("dask", ["--dask", cluster])):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / name), *more])
        assert done.exit_code in (0, 3), done.output
        written.append((tmp_path / name / "error_bars.parquet").read_bytes())
    assert written[0] == written[1]


def test_rows_in_memory_are_sent_to_a_cluster(cluster, small_blocks):
    pytest.importorskip("distributed")
    rows = np.random.default_rng(4).standard_normal((3000, 20)).astype(np.float32)
    alone = blocked_gram(rows)
    with gram_workers(dask=cluster):
        np.testing.assert_array_equal(blocked_gram(rows), alone)


def test_a_worker_without_the_file_is_one_line(store, cluster, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("trak_theory.numerics.rows._where", lambda root: str(tmp_path / "elsewhere.npy"))
    words = ["audit", str(store), "--projected", "--out", str(tmp_path / "r"), "--dask", cluster]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    assert "elsewhere.npy" in done.output
    assert done.output.count("\n") == 1


def test_a_missing_extra_and_a_wrong_address_are_named(monkeypatch, store, tmp_path):
    words = ["audit", str(store), "--projected", "--out", str(tmp_path / "r"), "--dask", "nonsense:"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    with monkeypatch.context() as patch:
        patch.setattr(errors, "find_spec", lambda name: None if name == "distributed" else True)
        with pytest.raises(
            MissingExtraError, match=r"distributed is not installed: pip install 'trak-theory\[cluster\]'"
        ):
            gram_workers(dask="tcp://localhost:1").__enter__()
