"""The Python of the README and of the guides runs as written and prints what the page shows."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
PAGES = [HOME / "README.md", *sorted((HOME / "docs").rglob("*.md"))]
# A fenced Python block, and the indented lines after it, if any: what it prints.
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n((?:    [^\n]*\n)+))?", re.DOTALL)
EXTRA = re.compile(r"^(?:from|import) (peft|torch|transformers)\b", re.MULTILINE)
# The pages run as if warnings were errors, but for one that PEFT causes in the next name of a property.
WARNINGS = ["-W", "error", "-W", "ignore::FutureWarning:transformers.modeling_utils"]
BLOCKS = {f"{page.stem}-{i}": block for page in PAGES for i, block in enumerate(BLOCK.findall(page.read_text()))}


def test_there_is_something_to_run():
    assert {name.rsplit("-", 1)[0] for name in BLOCKS} >= {"README", "can-i-trust-my-scores", "trained-with-adamw"}


def test_links_lead_somewhere():
    for page in [*PAGES, HOME / "CONTRIBUTING.md", HOME / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", BLOCKS)
def test_block_runs_and_prints_what_it_shows(name, tmp_path):
    code, shown = BLOCKS[name]
    missing = [extra for extra in EXTRA.findall(code) if find_spec(extra) is None]
    if missing:
        pytest.skip(f"{missing[0]} is an optional extra")
    done = subprocess.run(
        [sys.executable, *WARNINGS, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = "".join(line[4:] + "\n" for line in shown.splitlines())
    assert done.stdout == expected
