"""The store: what it keeps, what it refuses to trust, and in which order it gives rows back."""

import json
import os
import re
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.engine.reading import CorruptError, IncompleteError, NoResultsError, SeedsError, StaleError, reading
from simulations.engine.source import code_of
from simulations.engine.store import LABEL, Store, encode, read_cell
from simulations.engine.study import Cell, Study, grid


def run(params, rng):
    return []


CODE = code_of(run)
MADE_BY = {"versions": {"python": "3"}, "commit": "c0ffee", "dirty": False, "code": CODE.label()}
OTHER = {**MADE_BY, "code": {"source": "0" * 16, "packages": {**CODE.packages, "numpy": "1.0"}}}
CELL = Cell("toy", {"method": "a", "size": 3}, seed=7)
ROWS = [{"rung": "newton", "error": 0.1 + 0.2}, {"rung": "trak", "error": float("nan"), "unavailable": "singular"}]


def toy_study(quick, full=None):
    return Study("toy", "A toy.", run, quick, full or quick)


def filled(tmp_path, cells, rows=ROWS, made_by=MADE_BY):
    store = Store(tmp_path)
    store.prepare("toy")
    for cell in cells:
        store.write(cell, encode(cell, rows, made_by))
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
    if Store(folder.parent).state(CELL, CODE) == "missing":
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
    assert store.state(CELL, CODE) == "missing"
    with pytest.raises(CorruptError, match="run its study again"):
        store.load(toy_study([CELL.params]))


def test_changed_numbers_under_the_old_signature_are_not_trusted(tmp_path):
    store = filled(tmp_path, [CELL])
    table = pq.read_table(path_of(store))
    better = table.set_column(1, "error", pa.array([0.0, 0.0])).replace_schema_metadata(table.schema.metadata)
    pq.write_table(better, path_of(store))
    assert store.state(CELL, CODE) == "missing"


def test_a_file_under_another_cells_name_is_not_trusted(tmp_path):
    store = filled(tmp_path, [CELL])
    other = Cell("toy", {"method": "b", "size": 3}, seed=7)
    path_of(store).rename(path_of(store, other))
    assert store.state(other, CODE) == "missing"
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
    assert store.state(CELL, CODE) == "missing"
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
    assert store.state(CELL, CODE) == "failed"
    store.write(CELL, encode(CELL, ROWS, MADE_BY))
    assert store.state(CELL, CODE) == "fresh"


def test_rows_load_in_the_order_of_the_grids_then_of_the_seeds(tmp_path):
    quick, full = grid(size=[10, 9]), grid(size=[9, 2, 10])
    cells = [Cell("toy", params, seed) for seed in (1, 0) for params in [*full, *grid(size=[5])]]
    store = filled(tmp_path, cells)
    with reading([0, 1]):
        frame = store.load(toy_study(quick, full))
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


def test_a_whole_size_is_taken_alone_and_refused_where_a_cell_is_missing(tmp_path):
    quick, more = [{"x": 0}], [{"x": 0}, {"x": 1}]
    store, study = filled(tmp_path, toy_study(more).cells("full", 3)), toy_study(quick, more)
    with reading([3], whole="full"):
        assert list(store.load(study)["x"].unique()) == [0, 1]
    with reading([3], whole="quick"):
        assert list(store.load(study)["x"].unique()) == [0]
    store.path(study.cells("full", 3)[1]).unlink()
    with reading([3], whole="full"), pytest.raises(IncompleteError, match=r"1 cells .* run toy --size full"):
        store.load(study)
    with reading([3, 4], whole="quick"), pytest.raises(IncompleteError, match="under the seed 4"):
        store.load(study)
    with pytest.raises(ValueError, match="named seeds"), reading(whole="quick"):
        pass


def test_seeds_are_pooled_only_when_asked(tmp_path):
    store = filled(tmp_path, [Cell("toy", CELL.params, seed) for seed in (0, 3)])
    with pytest.raises(SeedsError, match=r"'toy' under the seeds \[0, 3\]: say which to take with --seed"):
        store.load(toy_study([CELL.params]))
    for seeds in ([3], [0, 3]):
        with reading(seeds):
            assert sorted(set(store.load(toy_study([CELL.params]))["seed"])) == seeds
    with reading([5]), pytest.raises(NoResultsError):
        store.load(toy_study([CELL.params]))


def test_rows_of_other_code_are_refused_with_the_reason_unless_told(tmp_path):
    first, second = (Cell("toy", params, 0) for params in grid(size=[1, 2]))
    store = filled(tmp_path, [first])
    store.write(second, encode(second, ROWS, OTHER))
    study = toy_study([first.params, second.params])
    assert [store.state(cell, CODE) for cell in (first, second)] == ["fresh", "stale"]
    reason = f"1 of 2 cells are stale (other source; numpy 1.0, here {np.__version__})"
    with pytest.raises(
        StaleError, match=re.escape(f"toy: {reason}") + ".*python -m simulations run toy .*--keep-stale"
    ):
        store.load(study)
    with reading(keep_stale=True) as rules:
        assert len(store.load(study)) == 4
    assert rules.stale == {"toy": reason}
    with pytest.raises(StaleError):  # the permission ends with its block
        store.load(study)


def test_rows_that_do_not_name_their_code_are_stale(tmp_path):
    unnamed = {name: value for name, value in MADE_BY.items() if name != "code"}
    store = filled(tmp_path, [CELL], made_by=unnamed)
    assert store.state(CELL, CODE) == "stale"
    with pytest.raises(StaleError, match="computed before results named their code"):
        store.load(toy_study([CELL.params]))
