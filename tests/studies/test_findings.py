"""Claims about studies are judged by whole intervals, and CLAIMS.md is what its rows and its code give."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from simulations.__main__ import app
from simulations.engine.evidence import FULL, QUICK, pack, unpack
from simulations.engine.source import code_of
from simulations.engine.store import Store, encode, read_cell
from simulations.engine.study import all_studies, find_study
from simulations.findings import all_findings
from simulations.findings.finding import Finding, Judged
from simulations.findings.measures import (
    Measured,
    contrast,
    count,
    known,
    largest,
    law_gap,
    sample,
    share,
    stratified,
)
from simulations.ledger import check
from simulations.ledger.agreement import differing
from simulations.ledger.judge import Ledger, findings_table, judge_all, made_from, stored_cells
from simulations.ledger.page import FORMULA_MARKS, FULL_MARKS, STUDY_MARKS, MarksError, between, write_page

PAGE = Path(__file__).parents[2] / "CLAIMS.md"


def finding(relation="≥", predicted=1.0, tolerance=0.0, found=None, **fields):
    fields = {"study": "ladder", "statement": "a number", "source": "ours", **fields}
    return Finding(**fields, relation=relation, predicted=predicted, tolerance=tolerance, measure=lambda _: found)


def verdict(relation, low, high, tolerance=0.0, parts=()):
    found = Measured((low + high) / 2, low, high, "8 runs", parts)
    (judged,) = finding(relation, 1.0, tolerance, found).judge(pd.DataFrame())
    return judged.verdict


@pytest.mark.parametrize(
    ("relation", "low", "high", "expected"),
    [
        ("=", 0.95, 1.05, "holds"),
        ("=", 0.95, 1.15, "unclear"),  # near enough, and not known to be
        ("=", 0.5, 1.5, "unclear"),  # noise alone does not make a claim hold
        ("=", 1.11, 1.2, "FAILS"),
        ("=", 0.7, 0.89, "FAILS"),
        ("≥", 1.0, 1.2, "holds"),
        ("≥", 0.99, 1.2, "unclear"),
        ("≥", 0.8, 0.99, "FAILS"),
        ("≤", 0.8, 1.0, "holds"),
        ("≤", 0.8, 1.01, "unclear"),
        ("≤", 1.01, 1.2, "FAILS"),
        ("≥", 2 - np.inf, np.inf, "unclear"),
    ],
)
def test_a_verdict_is_where_the_whole_interval_lies(relation, low, high, expected):
    if np.isinf(high):
        found = Measured(2.0, -np.inf, np.inf, "1 run")
        assert finding(relation, 1.0, found=found).judge(pd.DataFrame())[0].verdict == expected
        return
    assert verdict(relation, low, high, tolerance=0.1 if relation == "=" else 0.0) == expected


def test_settings_that_disagree_are_not_hidden_by_their_mean():
    better, worse, between = Measured(3, 2, 4, ""), Measured(-1, -2, 0, ""), Measured(1, 0, 2, "")
    assert verdict("≥", 1.1, 1.9, parts=(better, worse)) == "mixed"
    assert verdict("≥", 1.1, 1.9, parts=(better, between)) == "holds"


def test_each_setting_is_judged_alone_where_the_claim_says_so():
    claim = Finding(
        "ladder",
        "gain, rate {rate:g}",
        "ours",
        "≥",
        0.1,
        lambda rows: sample(rows["gain"], "runs"),
        by=("rate",),
    )
    rows = pd.DataFrame({"rate": [0.01] * 3 + [0.003] * 3, "gain": [-0.3, -0.31, -0.32, 0.5, 0.51, 0.52]})
    judged = claim.judge(rows)
    assert [(each.statement, each.verdict) for each in judged] == [
        ("gain, rate 0.01", "FAILS"),
        ("gain, rate 0.003", "holds"),
    ]


def test_a_measurement_that_is_not_a_number_is_an_error():
    with pytest.raises(ValueError, match="ladder: 'a number' measured nan"):
        finding(found=Measured(np.nan, np.nan, np.nan, "")).judge(pd.DataFrame())


def test_intervals_are_students_and_one_value_has_none():
    found = sample([1.0, np.nan, 3.0], "runs")
    assert (found.value, found.over) == (2.0, "2 runs")
    assert found.high - 2.0 == pytest.approx(12.706, abs=1e-3)  # t with one degree of freedom, times 1
    alone = sample([4.0], "runs")
    assert (alone.value, alone.low, alone.high) == (4.0, -np.inf, np.inf)


def test_pairs_are_subtracted_before_anything_is_averaged():
    rows = pd.DataFrame({"replicate": [0, 0, 1, 1, 2, 2], "rung": list("ab") * 3, "value": [10, 9, 20, 19, 90, 89]})
    found = contrast(rows.assign(data="x"), "rung", "a", "b", "value", ["data"], "splits")
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)  # the spread of the replicates cancels
    assert found.over == "3 pairs of splits"


def test_other_numbers():
    assert count([True, False, True], 3, "problems") == Measured(2.0, 2.0, 2.0, "all 3 problems")
    assert largest([1.0, 3.0], "sweeps").value == 3.0
    exact = share([True] * 9 + [False], "runs")
    assert (exact.value, round(exact.low, 3), round(exact.high, 4)) == (0.9, 0.555, 0.9975)  # Clopper and Pearson
    gaps = known([0.1, -0.3], [0.03, 0.04], "draws")
    assert gaps.value == pytest.approx(0.2)
    assert gaps.high - 0.2 == pytest.approx(1.96 * 0.05 / 2)


def covered(measure, truth, rng, times=200):
    return np.mean([(found := measure(rng)).low <= truth <= found.high for _ in range(times)])


def test_intervals_of_settings_cover_their_fixed_mean():
    """Settings far apart, replicates few: 95 % of the intervals cover; those over pooled values cover nearly always."""
    means, sizes = np.array([0.0, 5.0, -5.0]), (4, 3, 6)

    def draw(rng):
        return pd.concat(
            pd.DataFrame({"setting": s, "value": means[s] + rng.standard_normal(n)}) for s, n in enumerate(sizes)
        ).set_index("setting")["value"]

    share_covered = covered(lambda rng: stratified(draw(rng), ["setting"], ""), 0.0, np.random.default_rng(0))
    assert abs(share_covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)


def test_the_gap_to_a_law_counts_data_sets_and_not_their_settings():
    """Twenty settings read off one data set move together: intervals over settings would be four times too narrow."""
    truth, settings = 0.5, np.arange(20)

    def draw(rng):
        shift = 0.1 * rng.standard_normal(5)
        data = [{"part": "data", "replicate": r, "k": k, "kendall": 1.0 + shift[r]} for r in range(5) for k in settings]
        law = [{"part": "law", "replicate": 0, "k": k, "kendall": 0.5} for k in settings]
        return pd.DataFrame(data + law).assign(design=0)

    share_covered = covered(lambda rng: law_gap(draw(rng), ["design"], ["k"]), truth, np.random.default_rng(1), 100)
    assert abs(share_covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 100)


def test_different_laws_are_not_pooled_into_one():
    """Two sizes with the same k: their mean law is the law of neither."""
    rows = pd.DataFrame(
        [
            {"part": part, "replicate": 0, "n": n, "k": 8, "kendall": n / 1000}
            for n in (400, 800)
            for part in ("data", "law")
        ]
    )
    with pytest.raises(ValueError, match=r"several laws under one .*name what tells them apart"):
        law_gap(rows.assign(design=0), ["design"], ["k"])
    assert law_gap(rows, ["n"], ["k"]).value == 0.0


def test_data_sets_that_a_design_lacks_are_not_data_sets_without_a_gap():
    """Six data sets of one size and ten of another, all off by .1: a gap of zero in four that do not exist is noise."""
    rng = np.random.default_rng(0)
    data = [
        {"part": "data", "n": n, "k": 8, "replicate": r, "kendall": 0.6 + 0.001 * rng.standard_normal()}
        for n, sets in ((400, 6), (1000, 10))
        for r in range(sets)
    ]
    law = [{"part": "law", "n": n, "k": 8, "replicate": 0, "kendall": 0.5} for n in (400, 1000)]
    found = law_gap(pd.DataFrame(data + law), ["n"], ["k"])
    assert found.over == "16 data sets, 2 settings"
    assert 0 < found.high - found.low < 0.005


def test_every_study_has_a_claim_and_every_row_can_be_read_alone():
    assert {study.name for study in all_studies()} == {claim.study for claim in all_findings()}
    assert len({(claim.study, claim.statement) for claim in all_findings()}) == len(all_findings())
    for claim in all_findings():
        assert not re.search(r"^(the same|and)\b|\b(the same in|there)\b|foretold", claim.statement), claim.statement


def test_no_threshold_is_one_that_cannot_fail():
    """A gain is asked to be one: no ≥ 0, no ≥ −.02, and an equality has a band."""
    for claim in all_findings():
        if claim.relation == "≥":
            assert claim.predicted > 0, claim.statement
        assert (claim.tolerance > 0) == (claim.relation == "="), claim.statement


def test_the_table_shows_first_what_does_not_hold_and_why():
    fails = finding(statement="a |b|", found=None, discussion="why")
    entries = [
        Judged(finding(statement="fine"), "fine", Measured(1.5, 1.4, 1.6, "8 runs"), "holds"),
        Judged(fails, "a |b|", Measured(0.5, 0.4, 0.6, "9 runs"), "FAILS"),
    ]
    table = findings_table(Ledger(entries, ["rank_law"], {"plan": "1 of 1 cells are stale (other source)"}))
    assert table.startswith("1 of 2 claims hold, 1 fail, 0 are unclear; mixed over settings: 0.")
    first, second = table.split("### ladder")
    assert "| ladder | a \\|b\\| | ours | ≥ 1 | 0.5 | 0.4 to 0.6 | 9 runs | FAILS |" in first
    assert "*ladder, a |b|*: why" in first
    assert "fine" not in first
    assert "Not measured, for want of results of the whole quick size: rank_law." in first
    assert "Stale: plan: 1 of 1 cells are stale (other source)." in first
    assert "| fine | ours | ≥ 1 | 1.5 | 1.4 to 1.6 | 8 runs | holds |" in second
    assert "python -m simulations run ladder" in second


def test_studies_that_were_not_run_are_named(tmp_path):
    answer = CliRunner().invoke(app, ["claims", "--out", str(tmp_path), "--update", str(tmp_path / "page.md")])
    assert answer.exit_code == 1
    assert "not complete in" in answer.output
    assert "ladder" in answer.output
    assert not (tmp_path / "page.md").exists()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("evidence"))
    unpack(QUICK, store)
    return store


def test_shipped_rows_are_packed_and_unpacked_without_a_change(unpacked, tmp_path):
    assert QUICK.stat().st_size <= 2 * 2**20
    cells = [cell for cell, _ in stored_cells(unpacked)][::40]
    pack(unpacked, cells, tmp_path / "packed.parquet")
    again = Store(tmp_path / "again")
    assert unpack(tmp_path / "packed.parquet", again) == len(cells)
    for cell in cells:
        table, label = read_cell(unpacked.path(cell))
        table_again, label_again = read_cell(again.path(cell))
        assert repr(table_again.to_pylist()) == repr(table.to_pylist())
        assert (table_again.schema.types, label_again) == (table.schema.types, label)


def test_the_page_says_what_its_rows_and_its_code_give():
    assert check.faults(PAGE, QUICK, FULL) == [], "compute the quick size again, and then: make claims"


def test_what_fails_is_discussed(unpacked):
    failed = [entry for entry in judge_all(unpacked, keep_stale=True).judged if entry.verdict in ("FAILS", "mixed")]
    assert [entry.statement for entry in failed if not entry.finding.discussion] == []


def test_what_fails_at_full_size_is_discussed():
    """On the page, which other tests hold against the rows."""
    full = between(PAGE.read_text(), FULL_MARKS)
    failed = re.findall(r"^\| (\w+) \| (.*?[^\\]) \| .* \| (?:FAILS|mixed) \|$", full, re.MULTILINE)
    assert len(failed) > 10
    plain = full.replace("\\|", "|")
    assert [place for place in failed if f"*{place[0]}, {place[1]}*: ".replace("\\|", "|") not in plain] == []


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"^\d+ of (\d+) claims hold", r"1\1 of 1\1 claims hold"),
        (r"\| holds \|$", "| FAILS |"),
        (r"\| ≤ 0\.02 \| 0\.0", "| ≤ 0.02 | 0.000"),
        (r"\| identity  \| ", "| bound     | "),
        (r"Holds\* and", "Holds* or"),
    ],
)
def test_an_edited_page_is_found_out(tmp_path, pattern, replacement):
    text = PAGE.read_text()
    edited = re.sub(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert edited != text
    (tmp_path / "CLAIMS.md").write_text(edited)
    assert check.faults(tmp_path / "CLAIMS.md", QUICK, FULL)


@pytest.mark.parametrize(
    ("tables", "fault"),
    [
        ("studies", "the tables of studies are not what the rows give"),
        ("full", "the tables of the full size are not what the rows give"),
    ],
)
def test_edited_tables_are_found_out_though_their_digest_is_mended(tmp_path, tables, fault):
    page = tmp_path / "CLAIMS.md"
    shutil.copy(PAGE, page)
    says = {
        "studies": between(PAGE.read_text(), STUDY_MARKS),
        "full": between(PAGE.read_text(), FULL_MARKS),
        "formulas": between(PAGE.read_text(), FORMULA_MARKS),
    }
    says[tables] += "\n\nAnd all is well."
    write_page(page, **says, made_from=made_from(), evidence=(QUICK, FULL))
    assert check.faults(page, QUICK, FULL) == [fault]


def test_a_random_sample_of_shipped_rows_is_computed_again():
    assert otherwise(QUICK, 3) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "count"), [(QUICK, 40), (FULL, 12)], ids=["quick", "full"])
def test_a_larger_sample_of_shipped_rows_is_computed_again(rows, count):
    assert otherwise(rows, count) == []


def otherwise(rows, size):
    return [(cell.study, cell.params, columns) for cell, columns in check.recomputed(rows, size) if columns]


def test_a_shipped_number_that_was_changed_is_found_out_and_rows_of_other_code_are_left_out(tmp_path):
    study = find_study("lds_law")
    cells = study.cells("quick", 0)[:2]
    sources = [code_of(study.run).source, "of old"]
    made = Store(tmp_path / "made")
    made.prepare("lds_law")
    for cell, source in zip(cells, sources, strict=True):
        rows = [{**row, "lds": row["lds"] + 0.01} for row in study.run(dict(cell.params), cell.rng())]
        made.write(cell, encode(cell, rows, {"code": {"source": source, "packages": {}}}))
    pack(made, cells, tmp_path / "rows.parquet")
    assert otherwise(tmp_path / "rows.parquet", 40) == [("lds_law", cells[0].params, ["lds"])]


def test_other_rows_are_told_from_last_digits():
    rows = [{"name": "a", "x": 1.0, "y": np.nan, "n": 3}, {"name": "b", "x": 1e-9, "y": 2.0, "n": 4}]
    assert differing(rows, [{**rows[0], "x": 1.0 + 1e-9}, rows[1]]) == []
    assert differing(rows, [{**rows[0], "x": 1.01}, rows[1]]) == ["x"]
    assert differing(rows, [{**rows[0], "y": 1.0}, rows[1]]) == ["y"]
    assert differing(rows, [{**rows[0], "n": 4}, rows[1]]) == ["n"]
    assert differing(rows, rows[:1]) == ["number of rows"]


@pytest.mark.parametrize("column", ["sign_se", "truth_radius"])
def test_what_measures_rounding_may_move_by_some_per_cent(column):
    assert differing([{column: 1.0}], [{column: 1.09}]) == []
    assert differing([{column: 1.0}], [{column: 1.11}]) == [column]


def test_what_vanishes_but_for_rounding_may_be_any_rounding():
    assert differing([{"gap": 0.0}], [{"gap": -6e-19}]) == []
    assert differing([{"gap": 0.0}], [{"gap": 1e-14}]) == ["gap"]


def test_a_page_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(MarksError, match="needs one line <!-- studies -->"):
        write_page(page, studies="x", full="w", formulas="y", made_from="z", evidence=(QUICK, FULL))
    assert page.read_text() == "no marks"


def test_studies_named_in_findings_exist():
    for claim in all_findings():
        assert find_study(claim.study).name == claim.study
