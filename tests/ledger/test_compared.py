"""Results beside the shipped rows: what was recomputed alike, what came out otherwise, and what another seed gives."""

import math

import numpy as np
import pytest
from typer.testing import CliRunner

import simulations.__main__ as command_line
from simulations.engine.evidence import QUICK, pack, unpack
from simulations.engine.store import Store, encode, read_cell
from simulations.engine.study import Cell, find_study
from simulations.findings.finding import Finding, Judged
from simulations.findings.measures import Measured, sample
from simulations.ledger.compared import Move, compared, compared_table

STUDIES = [find_study("plan"), find_study("retrain_top")]


def cells(seed=0):
    return [cell for study in STUDIES for cell in study.cells("quick", seed)]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("evidence"))
    unpack(QUICK, store)
    return store


@pytest.fixture
def shipped(evidence, tmp_path):
    """Two small studies of the shipped rows."""
    return copied(evidence, Store(tmp_path / "shipped"))


def copied(source, target, seed=0, change=lambda row: row):
    """Cells of both studies in another store, under another seed, their rows changed."""
    for study in STUDIES:
        target.prepare(study.name)
    for cell in cells():
        table, label = read_cell(source.path(cell))
        code = {name: value for name, value in label.items() if name not in ("params", "seed")}
        moved = Cell(cell.study, cell.params, seed)
        target.write(moved, encode(moved, [change(row) for row in table.to_pylist()], code))
    return target


def shifted(row):
    """Rows of `plan` alone have the column."""
    return {name: value + 0.1 if name == "simulated" else value for name, value in row.items()}


def test_the_same_rows_are_found_the_same(shipped, tmp_path):
    found = compared(copied(shipped, Store(tmp_path / "here")), shipped)
    table = compared_table(found)
    assert table.startswith(f"{len(cells())} of {len(cells())} cells are the shipped ones but for rounding.")
    assert "|z| is 0 at most, beyond 1.96 for 0 (the same draws in 2 studies; " in table
    assert "; 0 verdicts differ." in table
    assert "ladder" in found.missing
    assert "Not compared, for want of the whole quick size: " in table
    assert "| study |" not in table


def test_another_number_is_named_with_its_study_and_column_and_the_claims_that_it_moves(shipped, tmp_path):
    found = compared(copied(shipped, Store(tmp_path / "here"), change=shifted), shipped)
    changed = {each.study: each for each in found.cells}
    assert (changed["plan"].otherwise, changed["plan"].columns) == (1, ("simulated",))
    assert changed["retrain_top"].otherwise == 0
    moved = [move for move in found.moves if abs(move.z) > 1.96]
    assert [move.here.finding.study for move in moved] == ["plan"]
    assert moved[0].z > 10
    table = compared_table(found)
    assert "| plan | 1 | 1 | simulated |" in table
    assert f"| {moved[0].shipped.found.value:.4g} | {moved[0].here.found.value:.4g} | +" in table


def test_under_another_seed_claims_alone_are_compared(shipped, tmp_path):
    here = copied(shipped, Store(tmp_path / "here"), seed=7)
    found = compared(here, shipped, seed=7)
    assert found.cells == []
    assert len(found.moves) == 3
    table = compared_table(found)
    assert table.startswith("No shipped cell has the seed 7: these are other draws")
    assert "(the same draws in 0 studies; of independent ones 5 % at most lie beyond)" in table


def test_a_study_that_lacks_a_cell_is_not_compared(shipped, tmp_path):
    here = copied(shipped, Store(tmp_path / "here"), change=shifted)
    here.path(STUDIES[1].cells("quick", 0)[-1]).unlink()
    found = compared(here, shipped)
    assert "retrain_top" in found.missing
    assert {each.study for each in found.cells} == {move.here.finding.study for move in found.moves} == {"plan"}


@pytest.mark.parametrize(
    ("here", "shipped", "z"),
    [
        ((1.0, 0.7, 1.3), (1.5, 1.1, 1.9), -1.96),  # .5 apart, and √(.3² + .4²) = .5
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.0),  # two counts
        ((2.0, 2.0, 2.0), (1.0, 1.0, 1.0), math.inf),
        ((2.0, -math.inf, math.inf), (1.0, 0.9, 1.1), 0.0),  # one run alone says nothing
    ],
)
def test_z_is_the_difference_in_its_standard_error(here, shipped, z):
    claim = Finding("ladder", "a number", "ours", "≥", 1.0, lambda _: None)
    first, second = (Judged(claim, "a number", Measured(*found, "8 runs"), "holds") for found in (shipped, here))
    assert Move(first, second).z == pytest.approx(z)


@pytest.mark.parametrize("count", [3, 8, 40])
def test_of_independent_draws_one_in_twenty_lies_beyond_at_most(count):
    """Fewer where intervals are Student's of a few values: a sum of two such is wider than need be."""
    rng, claim = np.random.default_rng(5), Finding("ladder", "a number", "ours", "≥", 1.0, lambda _: None)
    beyond = 0
    for _ in range(2000):
        pair = [Judged(claim, "", sample(rng.standard_normal(count), "runs"), "unclear") for _ in range(2)]
        beyond += abs(Move(*pair).z) > 1.96
    assert 0 < beyond <= 2000 * 0.05 + 3 * np.sqrt(2000 * 0.05 * 0.95)
    assert count < 40 or beyond > 2000 * 0.03


@pytest.fixture
def of_two_studies(shipped, tmp_path, monkeypatch):
    """The command takes these rows for the shipped ones."""
    monkeypatch.setattr(command_line, "QUICK", tmp_path / "quick.parquet")
    pack(shipped, cells(), command_line.QUICK)


@pytest.mark.usefixtures("of_two_studies")
def test_the_command_compares_what_is_there(shipped, tmp_path):
    here = copied(shipped, Store(tmp_path / "here"), change=shifted)
    result = CliRunner().invoke(command_line.app, ["compare", "--out", str(here.out)])
    assert result.exit_code == 0, result.output
    assert "| plan | 1 | 1 | simulated |" in result.output


@pytest.mark.usefixtures("of_two_studies")
def test_the_command_refuses_an_empty_folder_and_rows_of_other_code(shipped, tmp_path):
    result = CliRunner().invoke(command_line.app, ["compare", "--out", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert "holds no study whole at its quick size under the seed 0" in result.output
    here = Store(tmp_path / "here")
    here.prepare("plan")
    (cell,) = STUDIES[0].cells("quick", 0)
    rows = read_cell(shipped.path(cell))[0].to_pylist()
    here.write(cell, encode(cell, rows, {"code": {"source": "of old", "packages": {}}}))
    result = CliRunner().invoke(command_line.app, ["compare", "--out", str(here.out)])
    assert result.exit_code == 1
    assert "plan" in result.output
    assert "stale" in result.output or "other code" in result.output
