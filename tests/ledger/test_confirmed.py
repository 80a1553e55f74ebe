"""The full size beside the quick one: what does not hold comes first, rows of other code and gaps are named."""

from datetime import date

import pandas as pd
import pytest

from simulations.engine.evidence import pack_whole, unpack
from simulations.engine.store import Store, encode
from simulations.engine.study import find_study
from simulations.findings import registry
from simulations.findings.finding import Finding, Judged
from simulations.findings.measures import Measured
from simulations.ledger import confirmed
from simulations.ledger.confirmed import confirmed_table
from simulations.ledger.judge import Ledger, judge_confirmed

PLAN = find_study("plan")


def entry(statement, value, verdict):
    found = Measured(value, value - 0.1, value + 0.1, "8 runs")
    finding = Finding("ladder", statement, "ours", "≥", 1.0, lambda _: found, discussion="Seen before.")
    return Judged(finding, statement, found, verdict)


@pytest.fixture
def page():
    quick = Ledger([entry("a", 1.5, "holds"), entry("b", 1.05, "unclear"), entry("c", 0.5, "FAILS")], [], {})
    full = Ledger([entry("a", 1.4, "holds"), entry("b", 0.8, "FAILS")], ["plan"], {"ladder": "other source"})
    return confirmed_table(quick, full)


def test_what_does_not_hold_at_full_size_stands_first_and_is_discussed(page):
    first, second = page.split("### What holds")
    assert first.startswith("1 of 2 claims hold, 1 fail")
    assert "Of 2 that the quick size judged too, 1 have another verdict there." in first
    assert "| ladder | b | ≥ 1 | 1.05 | 0.8 | 0.7 to 0.9 | 8 runs | unclear | FAILS |" in first
    assert "*ladder, b*: Seen before." in first
    assert "| ladder | a | ≥ 1 | 1.5 | 1.4 | 1.3 to 1.5 | 8 runs | holds | holds |" in second


def test_what_was_not_run_and_what_has_aged_is_named(page):
    assert "Not yet run at full size: plan (`python -m simulations run plan --size full --seed 20261129`)." in page
    assert "Code or packages have changed since these were run: ladder." in page
    changed = page.partition("### Claims changed after they were registered\n\n")[2].splitlines()
    amended = [place for place, entry in registry.registry().items() for _ in entry.amended]
    assert all(line.startswith(f"- {s}, *{c}*: ") for line, (s, c) in zip(changed, amended, strict=True))


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ({"threshold": "≥ 0.9"}, "- ladder, *a*: ≥ 0.9 until 2026-12-24: two networks diverge."),
        ({"wording": "b"}, "- ladder, *a*: worded “b” until 2026-12-24: two networks diverge."),
        ({"measured": "at all rates"}, "- ladder, *a*: measured at all rates until 2026-12-24: two networks diverge."),
    ],
)
def test_a_claim_that_was_changed_is_shown_with_its_past(monkeypatch, what, line):
    change = registry.Amendment(date(2026, 12, 24), "two networks diverge", **what)
    held_to = registry.Registered(date(2026, 11, 29), registry.parse_threshold("≥ 0.8"), "reason", (change,))
    monkeypatch.setattr(confirmed, "registry", lambda: {("ladder", "a"): held_to})
    assert line in confirmed_table(Ledger([], [], {}), Ledger([], [], {}))


def stored(store, seed, value, cells=None):
    """Made-up rows of the study `plan` at full size, of code that is not today's."""
    store.prepare("plan")
    for cell in PLAN.cells("full", seed)[:cells]:
        store.write(cell, encode(cell, [{"value": value}], {"code": {"source": "of old", "packages": {}}}))


def values(evidence, folder, seed):
    store = Store(folder)
    unpack(evidence, store)
    return [pd.read_parquet(store.path(cell))["value"][0] for cell in PLAN.cells("full", seed)]


def test_whole_sizes_replace_shipped_rows_and_parts_do_not(tmp_path):
    evidence, seed = tmp_path / "full.parquet", registry.CONFIRMATION
    grids = [PLAN.cells("full", seed), find_study("rank_law").cells("full", seed)]
    first, part, other = Store(tmp_path / "first"), Store(tmp_path / "part"), Store(tmp_path / "other")
    stored(first, seed, 1.0)
    pack_whole(first, grids, evidence)
    stored(part, seed, 2.0, cells=1)
    pack_whole(part, grids, evidence)
    assert values(evidence, tmp_path / "a", seed) == [1.0] * len(PLAN.full)
    stored(other, seed, 3.0)
    pack_whole(other, grids, evidence)
    assert values(evidence, tmp_path / "b", seed) == [3.0] * len(PLAN.full)


def test_rows_under_another_seed_confirm_nothing(tmp_path):
    store = Store(tmp_path)
    stored(store, registry.CONFIRMATION + 1, 1.0)
    assert "plan" in judge_confirmed(store).missing
    assert judge_confirmed(store).judged == []


def test_a_study_whose_first_seed_was_looked_at_is_confirmed_under_a_later_one(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.LATER, "plan", registry.CONFIRMATION + 1)
    store, seen = Store(tmp_path), []
    stored(store, registry.CONFIRMATION, 1.0)
    assert "plan" in judge_confirmed(store).missing
    stored(store, registry.CONFIRMATION + 1, 2.0)

    def judged(self, rows):
        seen.extend(rows["seed"].unique())
        return []

    monkeypatch.setattr(Finding, "judge", judged)
    assert "plan" not in judge_confirmed(store).missing
    assert set(seen) == {registry.CONFIRMATION + 1}
