"""The store: what it keeps, what it refuses to trust, and in which order it gives rows back."""

import json
import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.engine.store import LABEL, CorruptError, NoResultsError, Store, encode, read_cell
from simulations.engine.study import Cell, Study, grid

MADE_BY = {"versions": {"python": "3"}, "commit": "c0ffee", "dirty": False}
CELL = Cell("toy", {"method": "a", "size": 3}, seed=7)
ROWS = [{"rung": "newton", "error": 0.1 + 0.2}, {"rung": "trak", "error": float("nan"), "unavailable": "singular"}]


def toy_study(quick, full=None):
    return Study("toy", "A toy.", lambda params, rng: [], quick, full or quick)


def filled(tmp_path, cells, rows=ROWS):
    store = Store(tmp_path)
    store.prepare("toy")
    for cell in cells:
        store.write(cell, encode(cell, rows, MADE_BY))
    return store


def path_of(store, cell=CELL):
    return store.out / "toy" / f"{cell.key}.parquet"


def test_rows_come_back_exactly_with_parameters_and_seed(tmp_path):
    frame = filled(tmp_path, [CELL]).load(toy_study([CELL.params]))
    assert list(frame.columns) == ["seed", "method", "size", "rung", "error", "unavailable"]
    assert frame.drop(columns=["error", "unavailable"]).to_numpy().tolist() == [
        [7, "a", 3, "newton"],
        [7, "a", 3, "trak"],
    ]
    assert frame["error"].iloc[0] == 0.1 + 0.2
    assert np.isnan(frame["error"].iloc[1])
    assert frame["unavailable"].isna().tolist() == [True, False]


def test_metadata_names_parameters_seed_versions_and_commit(tmp_path):
    table = pq.read_table(path_of(filled(tmp_path, [CELL])))
    label = json.loads(table.schema.metadata[LABEL])["label"]
    assert label == {"params": {"method": "a", "size": 3}, "seed": 7, **MADE_BY}


def test_numpy_scalars_and_mixed_numbers_are_kept(tmp_path):
    rows = [{"f": np.float64(1 / 3), "g": np.float32(0.1), "i": np.int64(2**53 + 1), "b": np.bool_(True), "m": 1}]
    rows.append({"f": 2.0, "g": np.float32(0.2), "i": 3, "b": False, "m": 2.5})
    frame = filled(tmp_path, [CELL], rows).load(toy_study([CELL.params]))
    assert frame["f"].tolist() == [1 / 3, 2.0]
    assert frame["g"].tolist() == [np.float32(0.1), np.float32(0.2)]
    assert frame["i"].tolist() == [2**53 + 1, 3]
    assert frame["b"].tolist() == [True, False]
    assert frame["m"].tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], ValueError, "returned no rows"),
        ([{}], ValueError, "returned no rows"),
        ([{"size": 3, "error": 1.0}], ValueError, r"repeat the parameters \['size'\]"),
        ([{"seed": 3, "error": 1.0}], ValueError, r"repeat the parameters \['seed'\]"),
        ([{"error": [1.0, 2.0]}], TypeError, r"'error' holds list<.*>, not numbers"),
        ([{"error": 1.0}, {"error": "large"}], pa.ArrowInvalid, "large"),
    ],
)
def test_rows_that_are_not_tidy_are_refused(rows, error, message):
    with pytest.raises(error, match=message):
        encode(CELL, rows, MADE_BY)


CONTENT = encode(CELL, ROWS, MADE_BY).to_pybytes()


@given(place=st.integers(0, len(CONTENT) - 1), flip=st.integers(1, 255))
def test_a_flipped_byte_is_found_or_changes_nothing(tmp_path_factory, place, flip):
    folder = tmp_path_factory.getbasetemp() / "flipped" / "toy"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{CELL.key}.parquet"
    path.write_bytes(CONTENT)
    table, label = read_cell(path)
    damaged = bytearray(CONTENT)
    damaged[place] ^= flip
    path.write_bytes(damaged)
    if not Store(folder.parent).is_done(CELL):
        with pytest.raises(CorruptError, match=path.name):
            read_cell(path)
        return
    again, label_again = read_cell(path)
    assert repr(again.to_pylist()) == repr(table.to_pylist())  # as text: NaN is not equal to itself
    assert (again.schema.names, again.schema.types) == (table.schema.names, table.schema.types)
    assert label_again == label


@given(length=st.integers(0, len(CONTENT) - 1))
def test_a_truncated_file_is_never_trusted(tmp_path_factory, length):
    folder = tmp_path_factory.getbasetemp() / "truncated" / "toy"
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder.parent)
    path_of(store).write_bytes(CONTENT[:length])
    assert not store.is_done(CELL)
    with pytest.raises(CorruptError, match="run its study again"):
        store.load(toy_study([CELL.params]))


def test_changed_numbers_under_the_old_signature_are_not_trusted(tmp_path):
    store = filled(tmp_path, [CELL])
    table = pq.read_table(path_of(store))
    better = table.set_column(1, "error", pa.array([0.0, 0.0])).replace_schema_metadata(table.schema.metadata)
    pq.write_table(better, path_of(store))
    assert not store.is_done(CELL)


def test_a_file_under_another_cells_name_is_not_trusted(tmp_path):
    store = filled(tmp_path, [CELL])
    other = Cell("toy", {"method": "b", "size": 3}, seed=7)
    path_of(store).rename(path_of(store, other))
    assert not store.is_done(other)
    with pytest.raises(CorruptError, match="altered"):
        read_cell(path_of(store, other))


def test_a_write_that_is_cut_short_leaves_no_result(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.prepare("toy")

    def killed(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store.write(CELL, encode(CELL, ROWS, MADE_BY))
    (leftover,) = (tmp_path / "toy").iterdir()
    assert leftover.suffix == ".tmp"
    assert not store.is_done(CELL)
    store.prepare("toy")
    assert leftover.exists()  # it may belong to a run that is still going
    os.utime(leftover, (0.0, time.time() - 4000))
    store.prepare("toy")
    assert not leftover.exists()


def test_a_finished_cell_forgets_its_failure(tmp_path):
    store = Store(tmp_path)
    store.prepare("toy")
    try:
        raise ValueError("not today")
    except ValueError as error:
        store.write_failure(CELL, error, MADE_BY)
    record = json.loads((tmp_path / "toy" / f"{CELL.key}.failed.json").read_text())
    assert record["params"] == CELL.params
    assert record["seed"] == 7
    assert record["error"] == "ValueError: not today"
    assert "test_store.py" in record["traceback"]
    assert store.has_failed(CELL)
    assert not store.is_done(CELL)
    store.write(CELL, encode(CELL, ROWS, MADE_BY))
    assert store.is_done(CELL)
    assert not store.has_failed(CELL)


def test_rows_load_in_the_order_of_the_grids_then_of_the_seeds(tmp_path):
    quick, full = grid(size=[10, 9]), grid(size=[9, 2, 10])
    cells = [Cell("toy", params, seed) for seed in (1, 0) for params in [*full, *grid(size=[5])]]
    frame = filled(tmp_path, cells).load(toy_study(quick, full))
    expected = [(size, seed) for size in (10, 9, 2) for seed in (0, 1)]  # 5 is in no grid
    assert list(zip(frame["size"][::2], frame["seed"][::2], strict=True)) == expected


def test_cells_whose_columns_differ_load_together(tmp_path):
    store = Store(tmp_path)
    store.prepare("toy")
    first, second = (Cell("toy", params, 0) for params in grid(size=[1, 2]))
    store.write(first, encode(first, [{"count": 1, "note": None}], MADE_BY))
    store.write(second, encode(second, [{"count": 0.5, "extra": "x"}], MADE_BY))
    frame = store.load(toy_study(grid(size=[1, 2])))
    assert frame["count"].tolist() == [1.0, 0.5]
    assert frame["extra"].isna().tolist() == [True, False]


def test_no_results_names_the_command(tmp_path):
    with pytest.raises(NoResultsError, match=f"python -m simulations run toy --out {tmp_path}"):
        Store(tmp_path).load(toy_study(grid(size=[1])))
