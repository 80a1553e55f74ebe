"""Figures: drawn from stored results, with the plotted numbers beside them."""

import csv
import dataclasses
import io
import shutil
import statistics

import pytest
from typer.testing import CliRunner

import paper_figures.__main__ as command_line
from paper_figures import overview
from paper_figures.drawing.style import style
from paper_figures.ladder.ladder import draw
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.engine.study import find_study
from simulations.findings.registry import CONFIRMATION
from simulations.studies.ladder.ladder import STUDY
from simulations.studies.practice import plan

DATA = ("digits_3_vs_8", "diabetes")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The ladder on two data sets and two splits of each."""
    out = tmp_path_factory.mktemp("results")
    few = [params for params in STUDY.quick if params["data"] in DATA and params["replicate"] < 2]
    (outcome,) = run([dataclasses.replace(STUDY, quick=few)], out=out)
    assert (outcome.computed, outcome.failures) == (4, [])
    return out


@pytest.fixture(scope="module")
def drawn(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("figures")
    answer = CliRunner().invoke(command_line.app, ["ladder", "--results", str(results), "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    for suffix in ("pdf", "png", "csv", "txt"):
        assert str(out / f"ladder.{suffix}") in answer.output
    return out


def test_the_rungs_of_the_ladder_study_are_complete_and_share_their_projections(results):
    frame = Store(results).load(STUDY)
    assert (frame["unavailable"] == "").all()
    assert (frame["unresolved"] == 0).all()
    assert (frame["truth_radius"] < 1e-8).all()
    assert frame.groupby(["data", "replicate"]).size().tolist() == [17] * 4
    assert (frame["k"] == round(frame["p"] * 0.5)).all()
    # Half precision of scores that share their projections hardly changes ranks.
    last = frame[(frame["rung"] == "as released") & (frame["against"] == "mean factors")]
    assert (last["kendall"] > 0.99).all()


def test_the_csv_equals_the_stored_numbers(results, drawn):
    stored = list(csv.DictReader(io.StringIO(Store(results).load(STUDY).to_csv(index=False))))
    plotted = list(csv.DictReader(io.StringIO((drawn / "ladder.csv").read_text())))
    expected = 0
    for row in plotted:
        values = [
            float(other[row["measure"]])
            for other in stored
            if all(other[key] == row[key] for key in ("data", "rung", "against"))
        ]
        assert float(row["mean"]) == pytest.approx(statistics.mean(values), rel=1e-12)
        assert float(row["se"]) == pytest.approx(statistics.stdev(values) / 2**0.5, rel=1e-9)
        assert row["replicates"] == "2"
        assert row["series"] == ("exact" if row["against"] == "exact" else "above")
        expected += 1
    # Two data sets, 17 comparisons, two measures; the released scores have no relative error.
    assert expected == 2 * 17 * 2 - 2 * 2


def test_every_plotted_number_is_in_the_figure(results):
    with style():
        drawing = draw(results)
    shown = {
        (axis.get_xscale() == "log", label, x)
        for axis in drawing.figure.axes
        for container in axis.containers
        for x in container.lines[0].get_xdata()
        for label in [container.get_label()]
    }
    numbers = drawing.numbers
    inside = numbers[(numbers["measure"] == "kendall") | (numbers["mean"] >= 1e-3)]
    assert len(inside) < len(numbers)  # the squared loss has an exact rung: an arrow at the edge
    labels = {"exact": "against the exact influence", "above": "against the rung above it"}
    expected = {
        (row.measure == "relative_error", labels[row.series], row.mean)
        for row in inside[["measure", "series", "mean"]].itertuples(index=False)
    }
    assert shown == expected


def test_the_files_are_what_they_say_and_the_same_each_time(results, drawn, tmp_path):
    assert (drawn / "ladder.pdf").read_bytes().startswith(b"%PDF")
    assert (drawn / "ladder.png").read_bytes().startswith(b"\x89PNG")
    caption = (drawn / "ladder.txt").read_text()
    for fact in ("50 held-out queries", "2 random splits", "Ridge 1", "10 models", "certified to within", "s.e."):
        assert fact in caption
    assert caption.endswith("No whole size, seed 0.\n")
    CliRunner().invoke(command_line.app, ["--results", str(results), "--out", str(tmp_path), "ladder"])
    for path in drawn.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_missing_results_name_the_command_that_makes_them(tmp_path):
    answer = CliRunner().invoke(command_line.app, ["--results", str(tmp_path), "--out", str(tmp_path / "figures")])
    assert answer.exit_code == 1
    assert f"python -m simulations run ladder --out {tmp_path}" in answer.output
    assert not (tmp_path / "figures").exists()


def test_a_corrupt_result_is_not_drawn(results, tmp_path):
    (tmp_path / "ladder").mkdir()
    whole = sorted((results / "ladder").glob("*.parquet"))
    for path in whole:
        (tmp_path / "ladder" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "ladder" / whole[0].name).write_bytes(whole[0].read_bytes()[:100])
    answer = CliRunner().invoke(command_line.app, ["ladder", "--results", str(tmp_path), "--out", str(tmp_path)])
    assert answer.exit_code == 1
    assert whole[0].name in answer.output


def test_an_unknown_figure_is_named():
    answer = CliRunner().invoke(command_line.app, ["laddr"])
    assert answer.exit_code == 2
    assert "unknown figure 'laddr': choose from" in answer.output
    assert "ladder" in answer.output


def test_help_says_what_is_drawn_from_what():
    answer = CliRunner().invoke(command_line.app, ["--help"])
    assert answer.exit_code == 0
    assert "--results" in answer.output


def caption_of(results, out, *options):
    answer = CliRunner().invoke(command_line.app, ["plan", "--results", str(results), "--out", str(out), *options])
    assert answer.exit_code == 0, answer.output
    return (out / "plan.txt").read_text().strip()


def test_a_figure_takes_the_full_size_where_it_is_whole(both_sizes, tmp_path):
    full = f"Full size, seed {CONFIRMATION}."
    assert caption_of(both_sizes, tmp_path).endswith(full)
    assert caption_of(both_sizes, tmp_path, "--size", "quick").endswith("Quick size, seed 0.")
    assert caption_of(both_sizes, tmp_path, "--seed", "0").endswith("Quick size, seed 0.")
    assert caption_of(both_sizes, tmp_path, "--seed", str(CONFIRMATION)).endswith(full)
    pooled = caption_of(both_sizes, tmp_path, "--seed", "0", "--seed", str(CONFIRMATION))
    assert pooled.endswith(f"Quick size, seeds 0, {CONFIRMATION} pooled.")


def test_a_figure_takes_the_quick_size_where_a_cell_of_the_full_one_is_missing(both_sizes, tmp_path):
    shutil.copytree(both_sizes / "plan", tmp_path / "plan")
    Store(tmp_path).path(plan.STUDY.cells("full", CONFIRMATION)[-1]).unlink()
    assert caption_of(tmp_path, tmp_path / "figures").endswith("Quick size, seed 0.")


def test_a_figure_of_several_studies_is_full_only_where_all_are(both_sizes, tmp_path):
    command = ["overview", "--results", str(both_sizes), "--out", str(tmp_path)]
    assert CliRunner().invoke(command_line.app, command).exit_code == 0
    store = Store(both_sizes)
    cells = [cell for name in overview.READ for cell in find_study(name).cells("full", CONFIRMATION)]
    size = "Full" if all(store.path(cell).exists() for cell in cells) else "Quick"
    assert f" {size} size, seed " in (tmp_path / "overview.txt").read_text()
