"""The files of a report: one HTML page, JSON for machines, Parquet for the error bars."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import numpy as np

from trak_theory.auditing.reporting.page import Made, page_of
from trak_theory.auditing.result import Audit
from trak_theory.errors import require

FILES = ("report.html", "audit.json", "error_bars.parquet")
ARRAYS = ("mean", "sd", "scores")
ROW_GROUP = 2**20  # rows of the table that are written together
PACKAGES = ("jinja2", "matplotlib", "pyarrow")

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


def check_writable(out: Path) -> None:
    """Raise what `write_report` would, before the work: a missing package, a file in the way, no permission."""
    require(*PACKAGES)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file, not a folder for the report")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}."):
        pass
    if out.exists() and not os.access(out, os.W_OK):
        raise PermissionError(f"{out} cannot be written")


def write_report(audit: Audit, out: Path, made: Made | None = None) -> list[Path]:
    """Write report.html, audit.json and error_bars.parquet into `out`; nothing appears there before all are complete.

    error_bars.parquet has columns point, query, score (as given, else computed), expected (mean over projections) and
    sd, in the unit of the given scores; left out where no law applies. Files of an earlier report are replaced.
    """
    out = Path(out)
    check_writable(out)
    made = Made.now("arrays", ()) if made is None else made
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as staging:
        stage = Path(staging)
        (stage / "report.html").write_text(page_of(audit, made), encoding="utf-8")
        record = {**as_json(audit), "made": asdict(made)}
        (stage / "audit.json").write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")
        _write_error_bars(audit, stage / "error_bars.parquet")
        out.mkdir(exist_ok=True)
        (out / "error_bars.parquet").unlink(missing_ok=True)
        written = [out / name for name in FILES if (stage / name).exists()]
        for path in written:
            os.replace(stage / path.name, path)
    return written


def as_json(audit: Audit) -> dict[str, Json]:
    """Everything but the arrays, the verdict first; numbers that are not finite become null."""
    record = {entry.name: _plain(getattr(audit, entry.name)) for entry in fields(audit) if entry.name not in ARRAYS}
    return {**record, "reference": audit.reference, "warnings": list(audit.warnings)}


def _plain(value: object) -> Json:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _write_error_bars(audit: Audit, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if audit.mean is None or audit.sd is None:
        return
    n, q = audit.mean.shape
    scores = audit.mean if audit.scores is None else audit.scores
    step = max(1, ROW_GROUP // q)
    names = ("point", "query", "score", "expected", "sd")
    schema = pa.schema(zip(names, (pa.int32(), pa.int32(), *[pa.float64()] * 3), strict=True))
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, step):
            some = slice(start, start + step)
            numbers = [array[some].ravel() for array in (scores, audit.mean, audit.sd)]
            points, queries = np.divmod(np.arange(start * q, start * q + numbers[0].size), q)
            columns = [points.astype(np.int32), queries.astype(np.int32), *numbers]
            writer.write_table(pa.table(dict(zip(names, columns, strict=True)), schema))
