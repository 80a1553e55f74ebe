"""The registry of claims holds, and its command prints what it found."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import toy_claims
from typer.testing import CliRunner

import trak_theory.claims
from simulations.ledger.page import FORMULA_MARKS, between
from trak_theory.claims import registry
from trak_theory.cli.claims import HEADINGS, SEED
from trak_theory.cli.main import app


@pytest.mark.parametrize("name", registry())
def test_claim_holds(name):
    """The very draws of the command."""
    entry = registry()[name].check(np.random.default_rng([SEED, *name.encode()]))
    assert entry.holds, entry
    assert entry.domain
    assert entry.domain != "None"


def test_registry_covers_every_kind_of_source_and_names_them():
    claims = registry().values()
    assert {claim.kind for claim in claims} >= {"identity", "expansion", "limit"}
    assert all(claim.source and claim.statement for claim in claims)


def test_two_claims_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(trak_theory.claims, "MODULES", ("support.toy_claims", "support.toy_claims"))
    with pytest.raises(ValueError, match="two claims are named 'identity true'"):
        registry()


@pytest.mark.parametrize("claim", toy_claims.CLAIMS, ids=lambda claim: claim.name)
def test_verdicts(claim):
    assert claim.check(np.random.default_rng(0)).holds == claim.name.endswith(" true")


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setattr(trak_theory.claims, "MODULES", ("support.toy_claims",))


def run(*arguments):
    return CliRunner().invoke(app, ["claims", *arguments])


@pytest.mark.usefixtures("toys")
def test_the_table_is_markdown_with_one_line_a_claim():
    answer = run()
    lines = answer.output.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(cells[0]) == HEADINGS
    assert len({len(line) for line in lines}) == 1
    assert [row[0] for row in cells[2:]] == [claim.name for claim in toy_claims.CLAIMS]
    for row in cells[2:]:
        assert row[-1] == ("holds" if row[0].endswith(" true") else "FAILS")


@pytest.mark.usefixtures("toys")
def test_json_is_strict_and_complete():
    answer = run("--json")
    entries = json.loads(answer.output, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [entry["name"] for entry in entries] == [claim.name for claim in toy_claims.CLAIMS]
    first = entries[0]
    assert first["statement"] == "x_1"
    assert first["domain"] == "a random number"
    assert entries[2]["measured"] is None


@pytest.mark.usefixtures("toys")
def test_a_false_claim_fails_the_command(monkeypatch):
    assert run().exit_code == 3
    monkeypatch.setattr(toy_claims, "CLAIMS", [claim for claim in toy_claims.CLAIMS if claim.name.endswith(" true")])
    assert run().exit_code == 0


@pytest.mark.usefixtures("toys")
def test_draws_depend_on_the_claim_alone(monkeypatch):
    """Another claim before it does not change what a claim draws."""
    drawn = []

    def remember(rng):
        """a random number, kept"""
        drawn.append(rng.random())

    last = trak_theory.claims.Claim("last", "identity", "x", "ours", lambda _: 1.0, lambda _: 1.0, remember)
    monkeypatch.setattr(toy_claims, "CLAIMS", [*toy_claims.CLAIMS, last])
    run()
    monkeypatch.setattr(toy_claims, "CLAIMS", [last])
    run()
    assert len(drawn) == 2
    assert drawn[0] == drawn[1]


def test_one_format_at_a_time():
    answer = run("--json", "--latex")
    assert answer.exit_code == 2
    assert "choose one of --json and --latex" in answer.output


def test_latex_is_printed_whole():
    answer = run("--latex")
    assert answer.exit_code == 0
    assert answer.output.startswith("\\documentclass")
    assert answer.output.endswith("\\end{document}\n")


def test_the_page_shows_every_claim():
    """Names, kinds and sources; the digits of a slack may differ from machine to machine."""
    page = (Path(__file__).parents[2] / "CLAIMS.md").read_text()
    lines = between(page, FORMULA_MARKS).splitlines()[2:]
    shown = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    expected = [(claim.name, claim.kind, claim.source, "holds") for claim in registry().values()]
    assert [(*row[:3], row[-1]) for row in shown] == expected, "update it with: make claims"
