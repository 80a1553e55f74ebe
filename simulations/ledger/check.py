"""Checks that the page of claims is what its rows and its code say, and that the rows are what the studies compute."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from simulations.engine.evidence import unpack
from simulations.engine.source import code_of
from simulations.engine.store import Store, read_cell
from simulations.engine.study import Cell, Study, find_study
from simulations.ledger.agreement import differing
from simulations.ledger.confirmed import confirmed_table
from simulations.ledger.judge import findings_table, judge_all, judge_confirmed, made_from, of_other_code, stored_cells
from simulations.ledger.page import DIGEST_MARKS, FULL_MARKS, STUDY_MARKS, between, digests

CHEAP = 3.0  # seconds that a cell to compute again may be expected to take
TRAINING = "digits_mlp.py"  # the workload that fits digits to convergence


def faults(page: Path, quick: Path, full: Path) -> list[str]:
    """Faults of a page, in words; empty if it says what its rows and its code give."""
    text = page.read_text(encoding="utf-8")
    if between(text, DIGEST_MARKS) != digests(text, made_from(), (quick, full)):
        return [f"{page.name} was edited, or its code or rows have changed: its digests differ"]
    with unpacked(quick) as store:
        if stale := of_other_code(store):
            return [f"rows of {', '.join(stale)} were computed by other code"]
        judged = replace(judge_all(store, keep_stale=True), stale={})  # of packages, which the recomputed sample judges
    if between(text, STUDY_MARKS) != findings_table(judged):
        return ["the tables of studies are not what the rows give"]
    with unpacked(full) as store:
        if between(text, FULL_MARKS) != confirmed_table(judged, judge_confirmed(store)):
            return ["the tables of the full size are not what the rows give"]
    return []


@contextmanager
def unpacked(evidence: Path) -> Iterator[Store]:
    """A store of shipped rows, gone after the block."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        unpack(evidence, store)
        yield store


def recomputed(evidence: Path, count: int) -> Iterator[tuple[Cell, list[str]]]:
    """Some cheap cells, drawn by the digest of the rows: each with the columns that come out otherwise today.

    Cells of other source are left out: `faults` names their studies.
    """
    rng = np.random.default_rng(int(hashlib.sha256(evidence.read_bytes()).hexdigest()[:12], 16))
    with unpacked(evidence) as store:
        cheap = [cell for cell, label in stored_cells(store) if _is_cheap(cell) and _is_of_today(cell, label)]
        for place in rng.choice(len(cheap), min(count, len(cheap)), replace=False):
            cell = cheap[place]
            there = read_cell(store.path(cell))[0].to_pylist()
            yield cell, differing(there, find_study(cell.study).run(dict(cell.params), cell.rng()))


def _is_of_today(cell: Cell, label: Mapping[str, Any]) -> bool:
    return label["code"]["source"] == code_of(find_study(cell.study).run).source


def _is_cheap(cell: Cell) -> bool:
    study = find_study(cell.study)
    return study.extra is None and study.duration(cell.params) <= CHEAP and not _trains_to_the_end(study)


def _trains_to_the_end(study: Study) -> bool:
    """Whether cells fit a ReLU network of hundreds of steps: they multiply what one processor rounds otherwise."""
    return any(path.name == TRAINING for path, _ in code_of(study.run).files)
