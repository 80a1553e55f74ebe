"""Every figure of the paper is drawn from the shipped rows, in seconds and without computing anything."""

import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import paper_figures.__main__ as figures
from paper_figures.drawing.style import style
from paper_figures.laws import lds_law, leverage, rank_law, spectrum
from simulations.engine.reading import reading


@pytest.mark.parametrize("name", figures.figure_modules())
def test_a_figure_is_drawn(name, both_sizes, tmp_path):
    answer = CliRunner().invoke(
        figures.app, [name, "--results", str(both_sizes), "--out", str(tmp_path), "--jobs", "1"]
    )
    assert answer.exit_code == 0, answer.output
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".png", ".csv", ".txt"}
    assert all(path.stat().st_size > 0 for path in tmp_path.iterdir())
    assert (tmp_path / f"{name}.csv").read_text().count("\n") > 3
    caption = (tmp_path / f"{name}.txt").read_text()
    assert re.search(r"\d", caption)
    assert not re.search(r"\b(nan|None)\b", caption)
    assert re.search(r" (Full|Quick) size, seed \d+\.$", caption.strip())


def test_figures_are_drawn_by_several_processes(both_sizes, tmp_path):
    command = [sys.executable, "-m", "paper_figures", "plan", "groups", "--jobs", "2"]
    done = subprocess.run(
        [*command, "--results", str(both_sizes), "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.parametrize("figure", [lds_law, leverage, rank_law, spectrum], ids=lambda figure: figure.__name__)
def test_lines_run_from_left_to_right(figure, both_sizes):
    with style(), reading([0]):
        drawing = figure.draw(both_sizes)
    lines = [line for axis in drawing.figure.axes for line in axis.lines if line.get_linestyle() != "None"]
    assert len(lines) > 5
    for line in lines:
        assert np.all(np.diff(np.asarray(line.get_xdata(), float)) >= 0)
