"""The benchmark of a large store, on a small one."""

import re

from typer.testing import CliRunner

from simulations.benchmarks.__main__ import app


def test_every_step_is_printed_with_its_memory():
    done = CliRunner().invoke(app, ["large_store", "--n", "400", "--k", "16", "--jobs", "2", "--repeats", "1"])
    assert done.exit_code == 0, done.output
    rows = re.findall(r"\| ([\w, =]+) \| [\d.]+ s \| [\d.]+ s \| \d+ MiB \|", done.output)
    assert rows == ["recognise", "blocked_gram", "blocked_gram, jobs = 2"]
    assert "difference between the two Gram matrices: 0\n" in done.output


def test_the_audit_runs_in_a_process_of_its_own():
    for words in (["--n", "300", "--k", "16", "--jobs", "1"], ["--n", "60", "--k", "90", "--unprojected"]):
        done = CliRunner().invoke(app, ["large_store", *words, "--repeats", "1"])
        assert done.exit_code == 0, done.output
        rows = re.findall(r"\| n = (\d+), jobs = 1 \| [\d.]+ s \| [\d.]+ s \| ([\d.]+) GiB \| (\w+)", done.output)
        assert [row[0] for row in rows] == (["60"] if "60" in words else ["300", "150"])
        assert all(0 < float(peak) < 2 and answer in ("Do", "Trust") for _, peak, answer in rows)
