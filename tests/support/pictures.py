"""Faults of a drawn figure: small texts, texts on texts, cut texts, and legends over data."""

from contextlib import contextmanager
from itertools import combinations, pairwise

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.patches import Rectangle
from matplotlib.text import Text

SLACK = 1.0  # pixels of a hundred to the inch: boxes hold the font's whole height, glyphs rarely fill it
APART = 3.0  # pixels between two texts of one line, which read as one otherwise


@contextmanager
def drawn_texts():
    """Every text that is drawn inside the block, with its box; ticks out of view are none of them."""
    found, draw = {}, Text.draw

    def note(self, renderer, *arguments, **options):
        if self.get_visible() and self.get_text().strip():
            found[self] = Text.get_window_extent(self, renderer)
        return draw(self, renderer, *arguments, **options)

    Text.draw = note
    try:
        yield found
    finally:
        Text.draw = draw


def texts_of(figure):
    """Text → its box in pixels, 100 to the inch."""
    figure.dpi = 100
    with drawn_texts() as found:
        FigureCanvasAgg(figure).draw()
    return found


def small(texts, points):
    return sorted({text.get_text() for text in texts if text.get_fontsize() < points})


def overlapping(texts):
    """Pairs of texts whose boxes share more than their margins, or follow each other without a space."""
    pairs = combinations([(text, box) for text, box in texts.items() if text.get_rotation() % 90 == 0], 2)
    return [(one.get_text(), other.get_text()) for (one, a), (other, b) in pairs if _share(a, b)]


def _share(a, b):
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > -APART and high > 2 * SLACK


def cut(figure, texts):
    """Texts that reach over the edge of the figure."""
    page = figure.bbox
    return [
        text.get_text()
        for text, box in texts.items()
        if min(box.x0, box.y0) < -SLACK or box.x1 > page.x1 + SLACK or box.y1 > page.y1 + SLACK
    ]


def covered(figure):
    """Titles of the panels, or their numbers, in which the legend lies over a curve, a marker or a bar."""
    return [
        axis.get_title() or place
        for place, axis in enumerate(figure.axes)
        if axis.get_legend() is not None and _hides(axis.get_legend().get_window_extent(), axis)
    ]


def _hides(box, axis):
    within = axis.bbox
    return any(
        bool(np.any(_inside(points, box) & _inside(points, within)))
        for artist in axis.get_children()
        if artist.get_visible() and (points := _points(artist, axis)) is not None and len(points)
    )


def _inside(points, box):
    x, y = np.asarray(points, float).T
    return (box.x0 < x) & (x < box.x1) & (box.y0 < y) & (y < box.y1)


def _points(artist, axis):
    """Points in pixels along what an artist draws; None for what leads the eye only or is no data."""
    if hasattr(artist, "get_xdata"):
        if artist.get_zorder() <= 0 or not len(artist.get_xdata()):
            return None
        corners = artist.get_transform().transform(np.column_stack(artist.get_data(orig=False)).astype(float))
        return corners if artist.get_linestyle() == "None" else _between(corners)
    if isinstance(artist, PathCollection):
        return artist.get_offset_transform().transform(artist.get_offsets())
    if isinstance(artist, LineCollection):
        lines = [artist.get_transform().transform(line) for line in artist.get_segments() if len(line)]
        return np.concatenate([_between(line) for line in lines]) if lines else None
    if isinstance(artist, Rectangle) and artist is not axis.patch and artist.get_zorder() > 0:
        return _between(artist.get_transform().transform([(0.1, 0.5), (1, 0.5)]))
    return None


def _between(corners):
    steps = np.linspace(0.0, 1.0, 40)[:, None]
    return np.concatenate([corners, *((1 - steps) * a + steps * b for a, b in pairwise(corners))])
