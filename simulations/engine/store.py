"""A content-addressed store: one Parquet file for each finished cell, OUT/<study>/<key>.parquet.

A file appears whole or not at all, and carries its parameters, seed, code, versions, commit and a digest of its rows;
what does not match its digest or its name is never trusted, and what other code computed is stale. A cell that failed
leaves <key>.failed.json instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from simulations.engine.reading import CorruptError, IncompleteError, NoResultsError, SeedsError, StaleError, rules
from simulations.engine.source import code_of
from simulations.engine.study import Cell, Rows, Size, Study, canonical

if TYPE_CHECKING:
    import pandas as pd

    from simulations.engine.source import Code

Label = Mapping[str, Any]  # what a file says of its rows: params, seed, code, versions, commit, dirty
State = Literal["fresh", "stale", "failed", "missing"]
STATES: tuple[State, ...] = ("fresh", "stale", "failed", "missing")

LABEL = b"trak_theory"
ABANDONED_AFTER = 3600.0  # seconds, after which a temporary file belongs to a killed process


@dataclass(frozen=True)
class Store:
    """Results under the folder `out`."""

    out: Path

    def prepare(self, study: str) -> None:
        """Make the study's folder, prove that it can be written, and sweep what killed processes left there."""
        folder = self.out / study
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        for leftover in folder.glob("*.tmp"):
            if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER:
                leftover.unlink(missing_ok=True)

    def state(self, cell: Cell, code: Code) -> State:
        """State of a cell: its rows are there or not, intact or not, computed by this code or another."""
        try:
            _, label = read_cell(self._path(cell, "parquet"))
        except (FileNotFoundError, CorruptError):
            return "failed" if self._path(cell, "failed.json").exists() else "missing"
        return "stale" if code.difference(label.get("code")) else "fresh"

    def write(self, cell: Cell, content: pa.Buffer) -> None:
        """Store a finished cell (see `encode`), and forget an earlier failure."""
        _write_atomically(self._path(cell, "parquet"), content)
        self._path(cell, "failed.json").unlink(missing_ok=True)

    def write_failure(self, cell: Cell, error: Exception, provenance: Label) -> None:
        record = {
            "study": cell.study,
            "params": cell.params,
            "seed": cell.seed,
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
            **provenance,
        }
        text = json.dumps(record, indent=2, ensure_ascii=False)
        _write_atomically(self._path(cell, "failed.json"), text.encode())

    def load(self, study: Study, size: Size = "full") -> pd.DataFrame:
        """All stored rows of the study's grids: columns seed, parameters, results; in the order of the grids.

        With the size quick those of the quick grid alone. Cells that no grid lists any more are left out.
        Which seeds, whether a whole size, and whether rows of other code, is for `reading` to say; see there.
        Raises a ResultsError: nothing there, a size that is not whole, a corrupt file, stale rows, or several seeds.
        """
        found = []
        self._check_whole(study)
        places = study.places(rules().whole or size)
        for path in sorted((self.out / study.name).glob("*.parquet")):
            table, label = read_cell(path)
            place = places.get(canonical(label["params"]))
            if place is not None and label["seed"] in (rules().seeds or [label["seed"]]):
                found.append((place, label["seed"], table, label))
        if not found:
            raise NoResultsError(f"no results for the study {study.name!r} in {self.out}; {self._remedy(study)}")
        self._check_seeds(study, {seed for _, seed, *_ in found})
        self._check_code(study, [label for *_, label in found])
        found.sort(key=lambda entry: entry[:2])
        tables = [_with_parameters(table, label) for *_, table, label in found]
        return pa.concat_tables(tables, promote_options="permissive").to_pandas(use_threads=False)

    def _check_whole(self, study: Study) -> None:
        size, seeds = rules().whole, rules().seeds
        if size is None or seeds is None:
            return
        for seed in seeds:
            if missing := sum(not self.path(cell).exists() for cell in study.cells(size, seed)):
                raise IncompleteError(
                    f"{missing} cells of the {size} size of {study.name!r} are missing under the seed {seed} in "
                    f"{self.out}; compute them with: python -m simulations run {study.name} --size {size} "
                    f"--seed {seed} --out {self.out}"
                )

    def _check_seeds(self, study: Study, seeds: set[int]) -> None:
        if rules().seeds is None and len(seeds) > 1:
            raise SeedsError(
                f"{self.out} holds the study {study.name!r} under the seeds {sorted(seeds)}: say which to take with "
                "--seed, once for each seed to pool"
            )

    def _check_code(self, study: Study, labels: list[Label]) -> None:
        code = code_of(study.run)
        reasons = Counter(code.difference(label.get("code")) for label in labels)
        fresh = reasons.pop("", 0)
        if not reasons:
            return
        what = f"{len(labels) - fresh} of {len(labels)} cells are stale ({', '.join(sorted(reasons))})"
        if not rules().keep_stale:
            raise StaleError(f"{study.name}: {what}; {self._remedy(study)}, or take them as they are: --keep-stale")
        rules().stale[study.name] = what

    def _remedy(self, study: Study) -> str:
        return f"compute them with: python -m simulations run {study.name} --out {self.out}"

    def path(self, cell: Cell) -> Path:
        return self._path(cell, "parquet")

    def _path(self, cell: Cell, suffix: str) -> Path:
        return self.out / cell.study / f"{cell.key}.{suffix}"


def encode(cell: Cell, rows: Rows, provenance: Label) -> pa.Buffer:
    """A finished cell as a Parquet file. Raises where the rows are not tidy: scalars under one type a column."""
    table = _as_table(cell, rows)
    label = {"params": cell.params, "seed": cell.seed, **provenance}
    signed = json.dumps({"label": label, "digest": _digest(table, label)})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({LABEL: signed}), sink)
    return sink.getvalue()


def read_cell(path: Path) -> tuple[pa.Table, Label]:
    """Rows and label of a stored cell. Raises CorruptError unless digest, parameters and file name agree."""
    content = path.read_bytes()
    try:
        table = read_parquet(content)
        signed = json.loads(table.schema.metadata[LABEL])
        label = signed["label"]
        cell = Cell(path.parent.name, label["params"], label["seed"])
        intact = cell.key == path.stem and signed["digest"] == _digest(table, label)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{path} cannot be read ({error}); run its study again to recompute it") from error
    if not intact:
        raise CorruptError(f"{path} was altered after it was written; run its study again to recompute it")
    return table, label


def read_parquet(content: bytes) -> pa.Table:
    """Without Arrow's thread pools, which now and then abort a process at its end (apache/arrow #34314)."""
    return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)


def _as_table(cell: Cell, rows: Rows) -> pa.Table:
    """Tidy rows as columns, in the order of their first appearance; a value that a row lacks is null."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        raise ValueError("the study returned no rows")
    taken = [name for name in columns if name in cell.params or name == "seed"]
    if taken:
        raise ValueError(f"the rows repeat the parameters {taken}; a loaded frame has them as columns already")
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in columns})
    for field in table.schema:
        if pa.types.is_nested(field.type):
            raise TypeError(f"column {field.name!r} holds {field.type}, not numbers, text or booleans; use more rows")
    return table


def _with_parameters(table: pa.Table, label: Label) -> pa.Table:
    parameters = {"seed": label["seed"], **label["params"]}
    arrays = [pa.array([value] * len(table)) for value in parameters.values()]
    return pa.table([*arrays, *table.columns], names=[*parameters, *table.column_names])


def _digest(table: pa.Table, label: Label) -> str:
    """Of names, types, values and label: independent of how a version of Parquet lays them out."""
    types = {field.name: str(field.type) for field in table.schema}
    return hashlib.sha256(json.dumps([types, table.to_pylist(), label], sort_keys=True).encode()).hexdigest()


def _write_atomically(path: Path, content: Any) -> None:
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
