"""Finished cells of many studies in one small Parquet file, and back: what the repository ships its claims with.

A row is a cell: its label, its rows as columns in JSON, and the digest it was stored under. Unpacked, it is the cell
again, value for value and type for type; its own digest proves it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

import simulations
from simulations.engine.reading import NoResultsError
from simulations.engine.store import LABEL, Store, read_cell, read_parquet
from simulations.engine.study import Cell

QUICK = Path(simulations.__file__).parent / "evidence" / "quick.parquet"
FULL = QUICK.with_name("full.parquet")
SCHEMA = pa.schema([(name, pa.string()) for name in ("study", "label", "types", "columns", "digest")])


def pack(store: Store, cells: Iterable[Cell], path: Path) -> None:
    """Write cells of a store into one file. Raises CorruptError, or FileNotFoundError for a cell that is not there."""
    rows = [_packed(store, cell) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(rows, path)


def _write(rows: list[dict[str, str]], path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, compression="zstd", compression_level=19)


def pack_whole(store: Store, grids: Iterable[Sequence[Cell]], path: Path) -> None:
    """Write every grid that a store holds whole; of the others those that the file holds already stay."""
    with TemporaryDirectory() as folder:
        before = Store(Path(folder))
        if path.exists():
            unpack(path, before)
        whole = [(source, grid) for grid in grids for source in (store, before) if _holds(source, grid)]
        chosen = {grid[0].study: (source, grid) for source, grid in reversed(whole)}
        rows = [_packed(source, cell) for source, grid in chosen.values() for cell in grid]
    rows.sort(key=lambda row: row["study"])
    _write(rows, path)


def _holds(store: Store, grid: Sequence[Cell]) -> bool:
    return all(store.path(cell).exists() for cell in grid)


def unpack(path: Path, store: Store) -> int:
    """Put the cells of a file into a store, beside what is there; returns how many."""
    if not path.exists():
        raise NoResultsError(f"there is no {path}: python -m simulations claims --update CLAIMS.md writes it")
    rows = read_parquet(path.read_bytes()).to_pylist()
    for study in {row["study"] for row in rows}:
        store.prepare(study)
    for row in rows:
        label = json.loads(row["label"])
        store.path(Cell(row["study"], label["params"], label["seed"])).write_bytes(_unpacked(row, label))
    return len(rows)


def _packed(store: Store, cell: Cell) -> dict[str, str]:
    path = store.path(cell)
    table, label = read_cell(path)
    return {
        "study": cell.study,
        "label": json.dumps(label, sort_keys=True),
        "types": json.dumps({field.name: str(field.type) for field in table.schema}),
        "columns": json.dumps(table.to_pydict(), separators=(",", ":")),
        "digest": json.loads(table.schema.metadata[LABEL])["digest"],
    }


def _unpacked(row: dict[str, str], label: dict[str, object]) -> bytes:
    types, columns = json.loads(row["types"]), json.loads(row["columns"])
    table = pa.table({name: pa.array(columns[name], _type(text)) for name, text in types.items()})
    signed = json.dumps({"label": label, "digest": row["digest"]})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({LABEL: signed}), sink)
    return sink.getvalue().to_pybytes()


def _type(text: str) -> pa.DataType:
    return pa.null() if text == "null" else pa.type_for_alias(text)
