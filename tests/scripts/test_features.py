"""`trak-theory features`: a torch model from a script becomes a file that the audit recognises."""

import numpy as np
import pytest
from typer.testing import CliRunner

from trak_theory.auditing.stores import recognise
from trak_theory.cli.main import app

SCRIPT = """
import torch
from trak_theory.torch_bridge import MARGIN


def factory():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 4)
    inputs, labels = torch.randn(12, 3), torch.arange(12) % 4
    return network, MARGIN, (inputs, labels), (inputs[:2], labels[:2])


def network():
    return torch.nn.Linear(3, 4)


constant = 3
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["features", *map(str, arguments)])


def test_the_file_holds_what_linearize_gives(script, tmp_path):
    out = tmp_path / "found.npz"
    answer = run(f"{script}:factory", "--out", out)
    assert answer.exit_code == 0, answer.output
    assert f"n = 12 points, p = 16 parameters, q = 2 queries; next: trak-theory audit {out}" in answer.output
    namespace = {}
    exec(compile(SCRIPT, "script", "exec"), namespace)
    from trak_theory.torch_bridge import linearize

    lin = linearize(*namespace["factory"]())
    with np.load(out) as stored:
        for name in ("features", "queries", "residual", "curvature"):
            np.testing.assert_array_equal(stored[name], getattr(lin, name))
    assert recognise(out).n == 12


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("factory", "names no function of a file: give SCRIPT.py:FACTORY"),
        ("{script}:absent", "has no function 'absent'"),
        ("{script}:constant", "has no function 'constant'"),
        ("{script}:network", "must return (module, output, training, queries)"),
    ],
)
def test_what_is_not_a_factory_is_named(script, name, message):
    answer = run(name.format(script=script))
    assert answer.exit_code == 2
    assert message in answer.output
    assert "Traceback" not in answer.output


def test_a_place_that_cannot_be_written_is_named(script, tmp_path):
    answer = run(f"{script}:factory", "--out", tmp_path / "no" / "folder.npz")
    assert answer.exit_code == 2
    assert "cannot be written" in answer.output
