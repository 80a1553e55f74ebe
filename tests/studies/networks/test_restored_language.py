"""The benchmark of restored influence on a language model, on a small one."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from simulations.benchmarks import restored_language
from simulations.benchmarks.__main__ import app
from trak_theory.torch_bridge.settings.language import gpt2


@pytest.fixture
def small(monkeypatch):
    """A GPT-2 of 34,432 parameters and the tokens of its text in place of SmolLM2."""

    def setting(sequences, queries, length, rng):
        found = gpt2(rng=rng)
        tokens = found.objective.rows.named["input_ids"][:, :length]
        rows = (slice(sequences), slice(sequences, sequences + queries))
        return found.model, *(({"input_ids": tokens[part]}, tokens[part]) for part in rows)

    monkeypatch.setattr(restored_language, "_setting", setting)


def printed(*arguments):
    found = CliRunner().invoke(
        app, ["restored_language", "--k", "64", "--sequences", "24", "--shard", "10", *arguments]
    )
    assert found.exit_code == 0, found.output
    return found.stdout


def test_the_table_names_epoch_pass_and_rest(small):
    text = printed()
    assert "p = 34432, n = 24" in text
    rows = re.findall(r"^\| ([^|]+) \| \d+ \| ([\d.]+) \| [\d.]+ \|$", text, re.MULTILINE)
    assert [name.split(",")[0] for name, _ in rows] == [
        "one epoch",
        "gradient and 2 directions a sequence",
        "8 queries",
    ]
    assert rows[0][1] == "1.0"
    freedom, ridge, bars = map(
        float, re.search(r"^(\d+) degrees .* ridge ([\d.e+-]+); .* ([\d.]+) of", text, re.M).groups()
    )
    assert 0 < freedom < 24 * 2
    assert ridge > 0
    assert bars > 0


def test_a_kept_pass_is_found_again(small, tmp_path):
    first = printed("--folder", str(tmp_path))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(kept) == 3
    again = printed("--folder", str(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")} == kept
    assert first.splitlines()[-1] == again.splitlines()[-1]


def test_shards_are_told_once():
    ends, ticks = {}, iter(np.arange(10.0))
    for _ in range(2):
        assert list(restored_language._told(range(3), ends, lambda: next(ticks))) == [0, 1, 2]
    assert ends == {0: 0.0, 1: 1.0, 2: 2.0}
