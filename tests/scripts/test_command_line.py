"""The command line as a whole: version, completion, JSON, quiet and verbose, exit statuses, no traceback."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from support.source import ROOT
from typer.main import get_command
from typer.testing import CliRunner

from trak_theory import __version__
from trak_theory.cli.main import app

SCRIPT = """
import torch
from trak_theory.torch_bridge import MARGIN


def broken():
    return torch.ones(2) @ torch.ones(3)


def factory():
    inputs, labels = torch.randn(12, 3), torch.arange(12) % 4
    return torch.nn.Linear(3, 4), MARGIN, (inputs, labels), (inputs[:2], labels[:2])
"""


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def features(tmp_path):
    rng = np.random.default_rng(0)
    x, residual = rng.standard_normal((80, 12)), -rng.random(80)
    path = tmp_path / "features.npz"
    np.savez(path, features=x, queries=rng.standard_normal((4, 12)), residual=residual, curvature=residual + 1.1)
    return path


@pytest.fixture
def subsets(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "run.npz"
    drawn = np.array([rng.choice(40, 20, replace=False) for _ in range(25)])
    np.savez(path, scores=rng.standard_normal((40, 3)), subsets=drawn, outputs=rng.standard_normal((25, 3)))
    return path


@pytest.fixture
def script(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def calls(features, subsets, script, tmp_path):
    return {
        "audit": [features, "--out", tmp_path / "report", "--k", 6, "--training-ridge", 1.0],
        "features": [f"{script}:factory", "--out", tmp_path / "made.npz"],
        "lds": [subsets],
        "plan": ["--budget", 40, "--n", 60, "--p", 30, "--ridge", 1.0],
    }


def test_the_version_is_the_library_s():
    assert run("--version").output == f"trak-theory {__version__}\n"


def test_every_command_offers_json_and_describes_itself():
    for name, command in get_command(app).commands.items():
        assert any("--json" in option.opts for option in command.params), name
        assert command.help


@pytest.mark.parametrize("name", ["audit", "features", "lds", "plan"])
def test_json_is_strict_and_alone_on_standard_output(calls, name):
    answer = run("--quiet", name, *calls[name], "--json")
    assert answer.exit_code in (0, 3), answer.output
    assert isinstance(
        json.loads(answer.stdout, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON")), dict
    )


@pytest.mark.parametrize("name", ["audit", "features", "lds", "plan"])
def test_quiet_says_nothing_and_keeps_the_exit_status(calls, name):
    spoken, silent = run(name, *calls[name]), run("--quiet", name, *calls[name])
    assert spoken.stdout
    assert silent.stdout == ""
    assert silent.exit_code == spoken.exit_code


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "missing.npz", "--out", "report"],
        ["plan", "--budget", "10"],
        ["plan", "--budget", "10", "--features", "missing.npz"],
        ["lds", "missing.npz"],
        ["features", "missing.py:factory"],
        ["audit"],
        ["nonsense"],
        ["--quiet", "--verbose", "plan"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_exit_status_2_without_a_traceback(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = run(*arguments)
    assert answer.exit_code == 2
    assert "Traceback" not in answer.output
    assert "rror: " in answer.stderr  # click writes Error
    assert answer.stdout == ""


def test_verbose_shows_the_traceback_of_a_mistake():
    assert "Traceback" not in run("lds", "missing.npz").output
    assert "Traceback" in run("--verbose", "lds", "missing.npz").output


def test_what_a_script_raises_is_named_with_its_function(script):
    answer = run("features", f"{script}:broken")
    assert answer.exit_code == 2
    assert answer.stderr.startswith(f"error: {script}:broken raised RuntimeError: ")
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(shell):
    code = "import sys, trak_theory.cli.main as m; sys.argv[0] = 'trak-theory'; m.main()"
    command = [sys.executable, "-c", code, "--show-completion", shell]
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "trak-theory" in done.stdout


def test_the_citation_is_of_this_version():
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert __version__.startswith(cited)
    assert f"## {cited}" in (ROOT / "CHANGELOG.md").read_text()
