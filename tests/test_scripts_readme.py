"""The README's Python runs as written and prints what the README shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
# A fenced Python block, and the indented lines after it, if any: what it prints.
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n((?:    [^\n]*\n)+))?", re.DOTALL)
BLOCKS = BLOCK.findall(README.read_text())


def test_there_is_something_to_run():
    assert BLOCKS


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs_and_prints_what_it_shows(number, tmp_path):
    code, shown = BLOCKS[number]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = "".join(line[4:] + "\n" for line in shown.splitlines())
    assert done.stdout == expected
