"""Claims about studies are judged as they say, and CLAIMS.md is what the code as it is would write."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from simulations.__main__ import app
from simulations.engine.store import NoResultsError
from simulations.engine.study import all_studies
from simulations.findings import all_findings
from simulations.findings.finding import Finding, contrast, law_gap, mean, number
from simulations.findings.ledger import findings_table, fingerprint, judge_all
from trak_theory.claims import Estimate

PAGE = Path(__file__).parents[2] / "CLAIMS.md"


def verdict(relation, predicted, value, se, tolerance=0.0):
    finding = Finding("toy", "a number", "ours", relation, predicted, lambda _: Estimate(value, se), tolerance)
    return finding.judge(pd.DataFrame()).verdict


@pytest.mark.parametrize(
    ("relation", "value", "se", "expected"),
    [
        ("=", 1.0, 0.0, "holds"),
        ("=", 1.3, 0.11, "holds"),
        ("=", 1.3, 0.09, "FAILS"),
        ("≥", 1.1, 0.04, "holds"),
        ("≥", 1.1, 0.06, "unclear"),
        ("≥", 0.9, 0.06, "unclear"),
        ("≥", 0.9, 0.04, "FAILS"),
        ("≤", 0.9, 0.04, "holds"),
        ("≤", 1.1, 0.06, "unclear"),
        ("≤", 1.1, 0.04, "FAILS"),
        ("≤", 1.0, np.nan, "holds"),
        ("≤", 1.0 + 1e-12, np.nan, "FAILS"),
    ],
)
def test_verdicts(relation, value, se, expected):
    assert verdict(relation, 1.0, value, se, tolerance=0.1 if relation == "=" else 0.0) == expected


def test_a_measurement_that_is_not_a_number_is_an_error():
    with pytest.raises(ValueError, match="toy: 'a number' measured nan"):
        verdict("=", 1.0, np.nan, 0.1)


def test_means_and_contrasts():
    rows = pd.DataFrame(
        {
            "run": [0, 0, 1, 1, 2, 2],
            "by": list("abababab")[:6],
            "part": ["law", "data"] * 3,
            "kendall": [3.0, 1.0, 5.0, 2.0, 9.0, 5.0],
        }
    )
    assert contrast(rows, "by", "a", "b", "kendall", ["run"]) == Estimate(3.0, pytest.approx(1 / np.sqrt(3)))
    assert law_gap(rows, ["run"]).value == 3.0
    assert mean([1.0, np.nan, 3.0]) == Estimate(2.0, 1.0)
    assert np.isnan(number(4).se)


def test_every_study_but_helpers_has_a_claim_and_failures_are_discussed():
    assert {study.name for study in all_studies()} == {finding.study for finding in all_findings()}
    assert len({(finding.study, finding.statement) for finding in all_findings()}) == len(all_findings())


def test_studies_that_were_not_run_are_named(tmp_path):
    with pytest.raises(NoResultsError, match=r"quick sizes of .*ladder.* are not complete"):
        judge_all(tmp_path)
    answer = CliRunner().invoke(app, ["claims", "--results", str(tmp_path)])
    assert answer.exit_code == 1
    assert "python -m simulations run all" in answer.output


def test_the_table_shows_verdict_command_figure_and_discussion():
    finding = Finding("ladder", "a |b|", "ours", "≥", 1.0, lambda _: Estimate(0.5, 0.01), discussion="why")
    table = findings_table([finding.judge(pd.DataFrame())])
    assert table.startswith("0 of 1 claims hold, 0 are unclear within two standard errors, 1 fail.")
    assert "| a \\|b\\| | ours | ≥ 1 | 0.5 | 0.01 | FAILS |" in table
    assert "python -m simulations run ladder" in table
    assert "python -m paper_figures ladder" in table
    assert "*a |b|*: why" in table


def test_claims_page_is_fresh():
    """Made from these findings, studies and grids; every claim of a study is there, and every failure is discussed."""
    page = PAGE.read_text()
    remedy = "update it with: make claims"
    assert re.findall("<!-- made from (.*) -->", page) == [fingerprint()], remedy
    undiscussed = []
    for finding in all_findings():
        lines = [
            line
            for line in page.splitlines()
            if line.startswith(f"| {finding.statement.replace('|', chr(92) + '|')} |")
        ]
        assert lines, f"{finding.statement}: {remedy}"
        if not any(line.endswith("| holds |") for line in lines) and not finding.discussion:
            undiscussed.append(finding.statement)
    assert not undiscussed
