"""The three pictures of a report, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.result import Audit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MARK, SHADE = "#010101", "#020202", "#030303"  # stand-ins that the page's colours replace
COLOURS = {INK: "currentColor", MARK: "var(--mark)", SHADE: "var(--shade)"}
SHOWN = 30
SIZE = (4.6, 3.0)
LINE_OF_TEXT = 0.08  # of the height of a picture


def pictures(audit: Audit) -> dict[str, str]:
    """SVG by title; a picture that has nothing to show is left out."""
    drawn = {}
    if audit.budget:
        drawn["What each step costs"] = _svg(_budget, audit)
    if audit.mean is not None and audit.sd is not None:
        drawn["How sure the top scores are"] = _svg(_error_bars, audit)
    if audit.map:
        drawn["What other settings would give"] = _svg(_map, audit)
    return drawn


def _budget(axis: Axes, audit: Audit) -> None:
    names = [row["rung"] for row in audit.budget]
    axis.barh(names, [row["kendall"] for row in audit.budget], color=MARK, height=0.6)
    for position, row in enumerate(audit.budget):
        axis.text(max(row["kendall"], 0) + 0.02, position, f"{row['kendall']:.2f}", va="center", color=INK)
    axis.invert_yaxis()
    axis.set_xlim(min(0, *(row["kendall"] for row in audit.budget)), 1.18)
    axis.set_xticks([0, 0.5, 1])
    axis.set_xlabel("Kendall's τ with the reference")


def _error_bars(axis: Axes, audit: Audit) -> None:
    """Largest scores of the first query that has any, each with the 95 % range over projections."""
    mean, sd = audit.mean, audit.sd
    assert mean is not None
    assert sd is not None
    scores = mean if audit.scores is None else audit.scores
    query = int(np.argmax(np.any(sd > 0, axis=0)))
    order = np.argsort(-scores[:, query], kind="stable")[:SHOWN]
    place = np.arange(order.size)
    axis.vlines(place, *_range(mean[order, query], sd[order, query]), color=SHADE, linewidth=4)
    axis.plot(place, scores[order, query], "o", color=MARK, markersize=3.5)
    axis.axhline(0, color=INK, linewidth=0.6)
    axis.set_xticks([0, order.size - 1], [f"point {order[0]}", f"point {order[-1]}"])
    axis.set_xlabel(f"largest scores of query {query}")
    axis.set_ylabel("score; bar: 95 % of seeds")


def _range(mean: Array, sd: Array) -> tuple[Array, Array]:
    return mean - 1.96 * sd, mean + 1.96 * sd


def _map(axis: Axes, audit: Audit) -> None:
    """Agreement against the package's own parameter, a line for every k; the present setting and the advice marked."""
    measure = "kendall" if "kendall" in audit.map[0] else "pearson"
    top = max(row[measure] for row in audit.map)
    least = _least_shown(audit)
    peaks: list[tuple[float, float, int]] = []
    for k in sorted({row["k"] for row in audit.map}):
        rows = sorted((row for row in audit.map if row["k"] == k), key=lambda row: row["value"])
        values, heights = [max(row["value"], least) for row in rows], [row[measure] for row in rows]
        own = k == audit.setting["k"]
        axis.plot(values, heights, color=MARK if own else INK, linewidth=2 if own else 0.8, alpha=1 if own else 0.6)
        peaks.append((max(heights), values[int(np.argmax(heights))], k))
    _name_lines(axis, peaks, audit.setting["k"])
    axis.set_xscale("log")
    axis.set_xlim(left=least)
    axis.set_ylim(top=top + 0.06)
    if audit.advice.value is not None and audit.advice.predicted is not None:
        axis.plot(max(audit.advice.value, least), audit.advice.predicted, "*", color=INK, markersize=10)
    axis.axvline(max(audit.setting["value"], least), color=INK, linestyle=":", linewidth=1)
    axis.set_xlabel(f"{audit.setting['parameter']} (dotted: now, star: advice; left edge: 0)")
    axis.set_ylabel(f"predicted {measure.title()}")


def _name_lines(axis: Axes, peaks: list[tuple[float, float, int]], own: int) -> None:
    """Names above the peaks; lines whose peaks are as high share one, so that no two overlap."""
    bottom, top = axis.get_ylim()
    groups: list[list[tuple[float, float, int]]] = []
    for peak in sorted(peaks):
        if groups and peak[0] - groups[-1][-1][0] < LINE_OF_TEXT * (top - bottom):
            groups[-1].append(peak)
        else:
            groups.append([peak])
    for group in groups:
        height, value, _ = group[-1]
        names = ", ".join(str(k) for k in sorted(k for *_, k in group))
        colour = MARK if any(k == own for *_, k in group) else INK
        axis.annotate(
            f"k = {names}", (value, height), (-5, 6), textcoords="offset points", color=colour, ha="right", size=8
        )


def _least_shown(audit: Audit) -> float:
    """Left edge: below a thousandth of the advice, or a millionth of the largest ridge, nothing changes any more."""
    largest = max(row["value"] for row in audit.map)
    wanted = [value for value in (audit.advice.value, audit.setting["value"]) if value]
    return max(min([1e-3 * value for value in wanted], default=0.0), 1e-6 * largest, 1e-300)


def _svg(draw: Callable[[Axes, Audit], None], audit: Audit) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    plain = {"svg.fonttype": "none", "svg.hashsalt": "audit", "font.family": "sans-serif", "font.size": 10}
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    settings: dict[str, object] = {**plain, **ink, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings):  # type: ignore[arg-type]
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(figure.add_subplot(), audit)
        return _inline(figure)


def _inline(figure: Figure) -> str:
    """Without prologue, name spaces, metadata and size, which a page has no use for."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = sink.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:xlink)?|width|height)="[^"]*(http|pt)[^"]*"', "", svg).replace("xlink:href", "href")
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg
