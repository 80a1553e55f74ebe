"""Ideas for runs where no estimate holds, against retraining: rank correlation and error."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing.style import COLOURS, GUIDE, MARKERS, PAGE, Drawing, mean_and_error
from simulations.engine.store import Store
from simulations.engine.study import find_study

MEASURES = {"spearman": "gain in Spearman's ρ", "relative_error": "change of the relative error"}
RUN, REFERENCE = ["seed", "replicate", "learning_rate", "steps"], "two-step"


def draw(results: Path) -> Drawing:
    frame = Store(results).load(find_study("dead_ends"))
    paired = _paired(frame)
    numbers = pd.concat(
        [
            paired.groupby(["learning_rate", "steps", "idea", "extra_runs"], sort=False)[measure]
            .apply(mean_and_error)
            .unstack()
            .reset_index()
            .assign(measure=measure)
            for measure in MEASURES
        ],
        ignore_index=True,
    )
    ideas = list(dict.fromkeys(numbers["idea"]))[::-1]
    figure = Figure(figsize=(PAGE, 0.6 + 0.2 * len(ideas)), layout="constrained")
    for axis, (measure, label) in zip(figure.subplots(1, 2, sharey=True), MEASURES.items(), strict=True):
        shown = numbers[numbers["measure"] == measure]
        for place, ((rate, steps), run) in enumerate(shown.groupby(["learning_rate", "steps"])):
            axis.errorbar(
                run["mean"],
                [ideas.index(idea) for idea in run["idea"]],
                xerr=run["se"],
                color=COLOURS[place],
                marker=MARKERS[place],
                linestyle="none",
                label=f"learning rate {rate:g}, {steps} steps",
            )
        axis.axvline(0.0, color="black", linestyle=":", linewidth=0.8)
        axis.set_xlabel(label)
        axis.grid(axis="y", color=GUIDE)
        axis.set_yticks(range(len(ideas)), ideas)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    first = frame.iloc[0]
    caption = (
        "AdamW runs on digits where estimates fail, paired differences from the two-step push (64-16-10 tanh network, "
        f"n = {first['n']}, |B| = {first['batch']}, p = {first['p']}, weight decay .01): agreement of each idea with "
        "exact retraining of every sample; dimensionless. Ideas with a 20 in their name cost twenty retrainings, the "
        f"jittered runs four, others none. The two-step push itself: {_levels(frame)}. Means ± s.e. of the differences "
        f"over {numbers['replicates'].max():.0f} runs."
    )
    return Drawing(figure, numbers, caption)


def _paired(frame: pd.DataFrame) -> pd.DataFrame:
    """Measures of each idea less those of the two-step push on the same run."""
    measures = list(MEASURES)
    reference = frame.loc[frame["idea"] == REFERENCE].set_index(RUN)[measures]
    ideas = frame[frame["idea"] != REFERENCE]
    level = reference.loc[pd.MultiIndex.from_frame(ideas[RUN])].set_index(ideas.index)
    return ideas.assign(**{measure: ideas[measure] - level[measure] for measure in measures})


def _levels(frame: pd.DataFrame) -> str:
    means = frame[frame["idea"] == REFERENCE].groupby(["learning_rate", "steps"])[list(MEASURES)].mean()
    found = (
        f"{row.spearman:.2f} and {row.relative_error:.2f} (learning rate {row.Index[0]:g})"
        for row in means.itertuples()
    )
    return "; ".join(found)
