"""`make theory`: the chapters as one PDF, by the commands of the Makefile; a page that lacks its files is refused."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
from support import visits
from support.source import ROOT

from paper_figures.__main__ import figure_modules

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("furo") is None, reason="the extra `docs` is not installed"),
    pytest.mark.skipif(visits.CHROMIUM is None, reason="no Chromium is installed"),
]


def run(*command, **environment):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **environment)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A folder in which the target `theory` has run, with pictures in place of the figures."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("build")
    (folder / "figures").mkdir()
    for name in figure_modules():
        Image.new("L", (2040, 900), 230).save(folder / "figures" / f"{name}.png")
        (folder / "figures" / f"{name}.txt").write_text("Not drawn.")
    (folder / "figures" / ".drawn").touch()
    recipe = re.search(r"^theory: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    for line in recipe.splitlines():
        command = line.strip().replace("$(BIN)/python", sys.executable).replace("build/", f"{folder}/")
        done = run("bash", "-c", f"TRAK_FIGURES={folder}/figures {command}")
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_has_its_pages_and_its_formulas(build):
    printed = (build / "theory.pdf").read_bytes()
    assert 25 < len(re.findall(rb"/Type\s*/Page\b", printed)) < 45
    assert b"MathJax" in printed  # its fonts are embedded


def test_a_page_away_from_its_files_is_refused(build, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    alone = shutil.copy(build / "theory" / "index.html", tmp_path / "elsewhere")
    done = run(sys.executable, "docs/print_theory.py", str(alone), str(tmp_path / "theory.pdf"))
    assert done.returncode != 0
    assert "files that are not there" in done.stderr
    assert not (tmp_path / "theory.pdf").exists()
