"""The benchmark of a large store, on a small one."""

import re

from typer.testing import CliRunner

from simulations.benchmarks.__main__ import app


def test_every_step_is_printed_with_its_memory():
    done = CliRunner().invoke(app, ["large_store", "--n", "400", "--k", "16", "--jobs", "2"])
    assert done.exit_code == 0, done.output
    rows = re.findall(r"\| ([\w, =]+) \| [\d.]+ s \| [\d.]+ s \| \d+ MiB \|", done.output)
    assert rows == ["recognise", "blocked_gram", "blocked_gram, jobs = 2"]
    assert "difference between the two Gram matrices: 0\n" in done.output
