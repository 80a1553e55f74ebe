"""Choice of the stored rows that a figure is drawn from: the largest size that all its studies hold whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulations.engine.study import Size
from simulations.findings.registry import CONFIRMATION, LATER


@dataclass(frozen=True)
class Chosen:
    """Seeds, pooled where there are several, and the size that is whole under each; None takes what is stored."""

    seeds: tuple[int, ...]
    size: Size | None

    def in_words(self) -> str:
        """The end of a caption."""
        size = f"{self.size} size" if self.size else "no whole size"
        seeds = ", ".join(map(str, self.seeds))
        named = f"seed {seeds}" if len(self.seeds) == 1 else f"seeds {seeds} pooled"
        return f"{size}, {named}.".capitalize()


def choices(seeds: Sequence[int] = (), size: Size | None = None) -> list[Chosen]:
    """Choices in the order of preference, given the seeds and the size that were asked for, if any.

    Without: the full size under a seed of the confirmation, then seed 0, full before quick; last, whatever there is.
    """
    asked = tuple(seeds) or (0,)
    preferred = [Chosen(asked, "full"), Chosen(asked, "quick")]
    if not seeds:
        preferred = [*(Chosen((seed,), "full") for seed in (CONFIRMATION, *LATER.values())), *preferred]
    return [*(chosen for chosen in preferred if size in (None, chosen.size)), Chosen(asked, None)]
