"""One style for all figures, and one way to save them: vector PDF, PNG, caption and the plotted numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from trak_theory.numerics.estimate import mean

COLUMN, PAGE = 3.3, 6.8  # inches: one column, and the width of the page

# Okabe and Ito's colours, safe for colour-blind readers; each comes with a marker, so that it also reads in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GUIDE = "0.75"  # grey of grids and of lines that only lead the eye
POINTS = 8  # of every text, at the printed width

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same figure on every machine
    "font.size": POINTS,
    **dict.fromkeys(("axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), POINTS),
    **dict.fromkeys(("legend.fontsize", "legend.title_fontsize", "figure.titlesize", "figure.labelsize"), POINTS),
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "0.88",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "errorbar.capsize": 1.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 300,
}


@dataclass(frozen=True)
class Drawing:
    """A figure, the numbers that it shows, and its caption with n, p, k and units."""

    figure: Figure
    numbers: pd.DataFrame
    caption: str

    def save(self, name: str, out: Path) -> list[Path]:
        """Write OUT/<name>.pdf, .png, .csv and .txt; the same results give the same bytes."""
        out.mkdir(parents=True, exist_ok=True)
        paths = [out / f"{name}.{suffix}" for suffix in ("pdf", "png", "csv", "txt")]
        pdf, png, csv, txt = paths
        self.figure.savefig(pdf, metadata={"CreationDate": None})
        self.figure.set_layout_engine("none")  # both files have the one layout, which takes as long as the drawing
        self.figure.savefig(png, metadata={"Software": None})
        self.numbers.to_csv(csv, index=False)
        txt.write_text(self.caption + "\n", encoding="utf-8")
        return paths


@contextmanager
def style() -> Iterator[None]:
    with mpl.rc_context(SETTINGS):
        yield


def mean_and_error(values: pd.Series) -> pd.Series:
    """Mean over replicates, its standard error (NaN for one replicate) and their number; NaN values left out."""
    found = mean(values)
    return pd.Series({"mean": found.value, "se": found.se, "replicates": values.notna().sum()})
