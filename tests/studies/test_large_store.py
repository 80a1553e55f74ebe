"""The benchmark of a large store, on a small one."""

import re

from typer.testing import CliRunner

from simulations.benchmarks.__main__ import app


def test_both_steps_are_printed_with_their_memory():
    done = CliRunner().invoke(app, ["large_store", "--n", "400", "--k", "16"])
    assert done.exit_code == 0, done.output
    assert re.search(r"\| recognise \| [\d.]+ s \| \d+ MiB \|\n\| blocked_gram \| [\d.]+ s \| \d+ MiB \|", done.output)
