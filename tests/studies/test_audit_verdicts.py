"""The benchmark of the audit's verdicts: right on a few problems, and able to find a wrong one."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from typer.testing import CliRunner

from simulations.benchmarks import audit_verdicts
from simulations.benchmarks.__main__ import app
from simulations.benchmarks.audit_verdicts import FAMILIES, INPUTS, TOLERANCE, Case, Trial
from trak_theory.auditing.verdict import decide

FACTORS = 1.0, 100.0, 0.003  # on the ridge of the rule


@cache
def trials(given="gradients"):
    """One model, k = 60, four projections."""
    case = Case.drawn(FAMILIES["digits, tanh features"], np.random.default_rng(3))
    first = replace(case, k=60, ensemble=4, ridge=0.0)
    rule = first.audited("projected features").recommendation["rule_ridge"]
    return [Trial.of(replace(first, ridge=factor * rule), given) for factor in FACTORS]


@pytest.mark.parametrize("given", INPUTS)
def test_trust_is_deserved_and_advice_comes_true(given):
    trusted = [trial for trial in trials(given) if trial.found.verdict.trust]
    assert trusted
    assert all(trial.deserved for trial in trusted)
    advised = [trial for trial in trials(given) if trial.followed is not None]
    assert advised
    for trial in advised:
        assert trial.followed == pytest.approx(trial.found.advice.predicted, abs=TOLERANCE)
        assert trial.followed > trial.agreement


def test_a_verdict_that_ignores_the_reference_is_found_out():
    """A ridge a hundred times too large is as stable as can be, and ranks by another kernel."""
    undeserved = []
    for trial in trials():
        found = trial.found
        alone = replace(found.advice, present=None, predicted=None)
        verdict = decide(broken=None, kept=found.top_overlap, top=found.setting["top"], now=0.0, advice=alone)
        undeserved.append(verdict.trust and not trial.deserved)
    assert undeserved == [False, True, False]
    assert "agreement with the reference is .32 (Kendall)" in trials()[1].found.verdict.sentence


def test_what_is_measured_follows_the_prediction():
    for trial in trials():
        assert trial.kept == pytest.approx(trial.found.top_overlap, abs=0.06)
        assert trial.agreement == pytest.approx(trial.found.advice.present, abs=0.06)


def test_a_row_for_every_family_and_input(monkeypatch):
    monkeypatch.setattr(audit_verdicts, "FAMILIES", {name: FAMILIES[name] for name in list(FAMILIES)[:1]})
    done = CliRunner().invoke(app, ["audit_verdicts", "--problems", "1"])
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if line.startswith(("| gradients", "| projected"))]
    assert [row.split(" | ")[1] for row in rows] == ["Gaussian", "all"] * len(INPUTS)
