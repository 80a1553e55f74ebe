"""The benchmark of --outputs: trust withdrawn from scores without an LDS, from no others, and doubt named."""

import numpy as np
import pytest
from typer.testing import CliRunner

from simulations.benchmarks import audit_outputs
from simulations.benchmarks.__main__ import app
from simulations.benchmarks.audit_outputs import Printed, World, subsets_of
from trak_theory.retraining import lds


@pytest.mark.parametrize(
    ("correlation", "count", "withdrawn", "undecided"),
    [(0.7, 20, 0, 0), (0.7, 100, 0, 0), (0.3, 100, 0, 0), (0.0, 20, None, None), (-0.3, 20, 6, 0)],
)
def test_what_is_printed(correlation, count, withdrawn, undecided):
    world = World.drawn(correlation, np.random.default_rng(0))
    truth = world.true_lds(np.random.default_rng(1))
    found = [Printed.of(world, count, child) for child in np.random.default_rng(2).spawn(6)]
    assert sum(one.low <= truth <= one.high for one in found) >= 5
    if withdrawn is None:  # random scores, 20 subsets: either is right, nothing is not
        assert all(one.withdrawn or one.open for one in found)
    else:
        assert (sum(one.withdrawn for one in found), sum(one.open for one in found)) == (withdrawn, undecided)


def test_the_true_value_is_what_many_subsets_give():
    world = World.drawn(0.5, np.random.default_rng(3))
    subsets = subsets_of(600, np.random.default_rng(4))
    outputs = world.outputs(subsets, np.random.default_rng(5))
    measured = lds(world.scores[:, :40], list(subsets), outputs[:, :40])
    assert abs(measured.mean - world.true_lds(np.random.default_rng(6))) < 4 * measured.se


def test_a_row_for_every_kind_of_scores_and_number_of_subsets(monkeypatch):
    monkeypatch.setattr(audit_outputs, "SCORES", {"random": 0.0})
    done = CliRunner().invoke(app, ["audit_outputs", "--repeats", "2", "--worlds", "1"])
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if line.startswith("| random")]
    assert [row.split(" | ")[1] for row in rows] == ["20", "50", "100"]
