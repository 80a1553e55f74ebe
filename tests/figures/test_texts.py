"""Texts of all figures: 8 pt at the printed width, whole, apart from each other; legends beside the data."""

import re
from contextlib import suppress
from importlib import import_module

import pytest
from matplotlib.figure import Figure
from support.pictures import covered, cut, overlapping, small, texts_of

from paper_figures.__main__ import figure_modules
from paper_figures.drawing.style import COLUMN, PAGE, POINTS, style
from simulations.engine.reading import IncompleteError, reading
from simulations.findings.registry import CONFIRMATION, LATER

MISPRINT = re.compile(r"\bnan\b|(?<![\d.,])1 (?:runs|networks|seeds|data sets|settings|draws|random splits)\b")


def faults(figure, caption=""):
    texts = texts_of(figure)
    found = {
        "small": small(texts, POINTS),
        "overlapping": overlapping(texts),
        "cut": cut(figure, texts),
        "covered by a legend": covered(figure),
        "misprinted": MISPRINT.findall("\n".join([caption, *(text.get_text() for text in texts)])),
        "width": [] if figure.get_figwidth() in (COLUMN, PAGE) else [figure.get_figwidth()],
    }
    return {name: what for name, what in found.items() if what}


def drawn(name, results, seed, size):
    with style(), reading([seed], whole=size):
        drawing = import_module(figure_modules()[name]).draw(results)
    return drawing.figure, drawing.caption


def whole(name, results):
    """The figure and its caption at full size, under the seed that confirms its studies."""
    for seed in LATER.values():
        with suppress(IncompleteError):
            return drawn(name, results, seed, "full")
    return drawn(name, results, CONFIRMATION, "full")


def test_texts_are_at_least_8_points():
    assert POINTS == 8


@pytest.mark.parametrize("name", figure_modules())
def test_texts_of_the_quick_size(name, both_sizes):
    with style():
        assert faults(*drawn(name, both_sizes, 0, "quick")) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", figure_modules())
def test_texts_of_the_full_size(name, both_sizes):
    figure, caption = whole(name, both_sizes)
    with style():
        assert faults(figure, caption) == {}


def test_each_fault_is_seen():
    with style():
        figure = Figure(figsize=(PAGE, 2.0))
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], label="curve")
        axis.legend(loc="upper right")
        axis.set_title("covered")
        axis.text(0.3, 0.8, "small", fontsize=POINTS - 1)
        axis.text(0.5, 0.2, "one")
        axis.text(0.51, 0.2, "other")
        axis.text(0.1, 0.1, "slope 1 ± nan")
        axis.text(0.9, 0.5, "a text that is far too long for its place")
        found = faults(figure, "Mean over 1 runs of 21 networks.")
    assert found["small"] == ["small"]
    assert found["overlapping"] == [("one", "other")]
    assert "a text that is far too long for its place" in found["cut"]
    assert found["covered by a legend"] == ["covered"]
    assert found["misprinted"] == ["1 runs", "nan"]


def test_a_fair_figure_has_no_fault():
    with style():
        figure = Figure(figsize=(COLUMN, 2.0), layout="constrained")
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], label="curve")
        axis.legend(loc="upper left")
        axis.set(title="a title", xlabel="x", ylabel="y")
        assert faults(figure, "Mean over 1 run, 2 seeds and 1,001 networks.") == {}
