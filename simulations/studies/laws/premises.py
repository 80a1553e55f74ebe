"""Do the laws say when they do not apply? Designs and sketches that break their premises, and what is warned of.

`python -m simulations.studies.laws.premises --results OUT` prints the verdict on what
`python -m simulations run premises` stored. Thresholds were set on the calibration cells; the evaluation cells have
other densities, tails, sizes and losses, and were fixed before they were run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import pandas as pd
import typer
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.store import Store
from simulations.engine.study import Params, Rows, Study, find_study, grid
from simulations.studies.laws.rank_grid import spectrum_of
from trak_theory import GLM, Linearization, agreement, influence, newton, project, projection_law, trak
from trak_theory.laws.channels import channel_of
from trak_theory.laws.premises import row_premises
from trak_theory.laws.rank_law import rank_law
from trak_theory.losses import as_loss
from trak_theory.projection.matrices import Sketch, projection_matrix

DATA_SETS, QUERIES, DRAWS = 8, 20, 300
HARMFUL_KENDALL, HARMFUL_SD = 0.03, 0.1
OTHER = ("top_overlap", "k − df₂")  # warnings that begin so are about another measure, or about k

Entries = Callable[[Generator, tuple[int, int], float], Array]
ENTRIES: dict[str, Entries] = {
    "gaussian": lambda rng, shape, _: rng.standard_normal(shape),
    "signs": lambda rng, shape, _: rng.choice([-1.0, 1.0], shape),
    "sparse": lambda rng, shape, density: rng.standard_normal(shape) * (rng.random(shape) < density) / density**0.5,
    "sparse binary": lambda rng, shape, density: (
        ((rng.random(shape) < density) - density) / (density * (1 - density)) ** 0.5
    ),
    "student": lambda rng, shape, freedom: rng.standard_t(freedom, shape) * ((freedom - 2) / freedom) ** 0.5,
}


def run(params: Params, rng: Generator) -> Rows:
    return [_design(params, rng) if params["part"] == "rank_law" else _sketch(params, rng)]


def _design(params: Params, rng: Generator) -> dict[str, Any]:
    """Kendall of TRAK with leave-one-out (one Newton step) over data sets, against the law for Gaussian rows."""
    n, p, loss = int(params["n"]), int(params["p"]), str(params["loss"])
    spectrum = spectrum_of(str(params["covariance"]), p)
    setting: dict[str, Any] = {"n": n, "p": p, "ridge": float(params["ridge"]), "signal": float(params["signal"])}
    k = int(params["k"])
    found, rows = [], np.zeros((n, p))
    for child in rng.spawn(DATA_SETS):
        lin, rows = _fitted(params, spectrum, child)
        found.append(float(agreement(newton(lin), trak(lin, k=k, rng=child)).kendall))
    law = rank_law(**setting, k=k, loss=loss, spectrum=spectrum, rows=rows)
    warned = [warning for warning in law.warnings if not warning.startswith(OTHER)]
    measured = row_premises(rows)
    return {
        "simulated": float(np.mean(found)),
        "se": float(np.std(found, ddof=1) / np.sqrt(len(found))),
        "law": law.kendall,
        "error": float(np.mean(found)) - law.kendall,
        "number": measured.kurtosis,
        "spread": measured.spread,
        "warnings": "; ".join(warned),
    }


def _fitted(params: Params, spectrum: Array, rng: Generator) -> tuple[Linearization, Array]:
    n, p, loss = int(params["n"]), int(params["p"]), as_loss(str(params["loss"]))
    draw, value = ENTRIES[str(params["entries"])], float(params["value"])
    rows, queries = (draw(rng, (m, p), value) * np.sqrt(spectrum) for m in (n, QUERIES))
    coef = rng.standard_normal(p)
    coef *= float(params["signal"]) / np.linalg.norm(np.sqrt(spectrum) * coef)
    targets = channel_of(loss, None).sample(rows @ coef, rng)
    return GLM(rows, targets, loss=loss, ridge=float(params["ridge"])).fit().linearize(queries), rows


def _sketch(params: Params, rng: Generator) -> dict[str, Any]:
    """Standard deviation of every score over draws of the projection, against `projection_law`."""
    kind: Sketch = params["sketch"]  # type: ignore[assignment]
    k, rows = int(params["k"]), _features(params, rng)
    features, queries = rows[:-QUERIES], rows[-QUERIES:]
    lin = Linearization(features, np.ones(len(features)), np.ones(len(features)), float(params["ridge"]), queries)
    law = projection_law(lin, k=k, kind=kind, ridge=float(params["ridge"]))
    draws = [
        influence(project(lin, projection_matrix(lin.features.shape[1], k, kind=kind, rng=rng))) for _ in range(DRAWS)
    ]
    used = law.sd > 1e-6 * law.sd.max()
    ratio = np.std(draws, axis=0, ddof=1)[used] / law.sd[used]
    sampling = 0.5 / DRAWS  # of a standard deviation, squared and relative, for normal scores
    return {
        "simulated": float(np.median(ratio)),
        "largest": float(ratio.max()),
        "se": float(np.sqrt(sampling)),
        "law": 1.0,
        "error": float(np.sqrt(max(np.mean((ratio - 1) ** 2) - sampling, 0.0))),
        "number": law.delocalisation,
        "warnings": law.diagnosis,
    }


def _features(params: Params, rng: Generator) -> Array:
    m, p, name = int(params["n"]) + QUERIES, int(params["p"]), str(params["entries"])
    if name == "digits":
        from sklearn.datasets import load_digits

        pixels = load_digits().data / 16.0
        return pixels[rng.choice(len(pixels), m, replace=False)]
    if name == "tokens":  # bags of 15 words, Zipf's law
        chances = 1 / np.arange(1, p + 1)
        return rng.multinomial(15, chances / chances.sum(), m).astype(float)
    return ENTRIES[name](rng, (m, p), float(params["value"])) * np.sqrt(spectrum_of(str(params["covariance"]), p))


def _design_cells(split: str, designs: list[tuple[str, float, str]], **sizes: Any) -> list[Params]:
    sized = grid(**{name: [value] for name, value in sizes.items()})
    return [
        {"part": "rank_law", "split": split, "entries": e, "value": v, "covariance": c, "sketch": "normal", **size}
        for e, v, c in designs
        for size in sized
    ]


def _sketch_cells(
    split: str, designs: list[tuple[str, float, str]], n: int, p: int, k: int, ridge: float
) -> list[Params]:
    return [
        {
            **{"part": "projection_law", "split": split, "entries": e, "value": v, "covariance": c, "sketch": sketch},
            **{"n": n, "p": 64 if e == "digits" else p, "k": k, "ridge": ridge, "signal": 0.0, "loss": "squared"},
        }
        for e, v, c in designs
        for sketch in get_args(Sketch)
    ]


ISOTROPIC = "isotropic"
CALIBRATED = [
    *[("gaussian", 0.0, covariance) for covariance in (ISOTROPIC, "dominant", "decay 1.2")],
    ("signs", 0.0, ISOTROPIC),
    *[("sparse", density, ISOTROPIC) for density in (0.5, 0.2, 0.1, 0.05, 0.02)],
    *[("student", freedom, ISOTROPIC) for freedom in (3.0, 5.0)],
]
EVALUATED = [
    *[("gaussian", 0.0, covariance) for covariance in (ISOTROPIC, "spiked", "dominant", "decay 0.6")],
    *[("sparse", density, ISOTROPIC) for density in (0.35, 0.15, 0.07, 0.03, 0.01)],
    *[("sparse binary", density, ISOTROPIC) for density in (0.4, 0.15, 0.05, 0.02)],
    *[("student", freedom, ISOTROPIC) for freedom in (3.0, 4.0, 8.0)],
]
ROWS = [("gaussian", 0.0, ISOTROPIC), ("sparse", 0.1, ISOTROPIC), ("sparse", 0.02, ISOTROPIC)]
MORE_ROWS = [("gaussian", 0.0, "decay 1.2"), ("sparse", 0.05, ISOTROPIC), ("sparse", 0.01, ISOTROPIC)]
REAL = [("tokens", 0.0, ISOTROPIC), ("digits", 0.0, ISOTROPIC)]
NEARLY_SEPARABLE = [("gaussian", 0.0, ISOTROPIC)]

CALIBRATION = [
    *_design_cells("calibration", CALIBRATED, n=300, p=60, k=30, ridge=3.0, signal=1.5, loss="logistic"),
    *_design_cells("calibration", CALIBRATED, n=300, p=150, k=60, ridge=3.0, signal=1.5, loss="squared"),
    *_design_cells("calibration", CALIBRATED, n=300, p=300, k=100, ridge=6.0, signal=1.5, loss="logistic"),
    *_design_cells("calibration", CALIBRATED, n=300, p=600, k=200, ridge=6.0, signal=1.5, loss="squared"),
    *_design_cells("calibration", NEARLY_SEPARABLE, n=100, p=40, k=25, ridge=0.01, signal=3.0, loss="logistic"),
    *_design_cells("calibration", NEARLY_SEPARABLE, n=100, p=45, k=25, ridge=0.05, signal=5.0, loss="logistic"),
    *_sketch_cells("calibration", ROWS + REAL, 120, 400, 28, 0.1),
    *_sketch_cells("calibration", ROWS + REAL, 120, 400, 60, 1.0),
]
EVALUATION = [
    *_design_cells("evaluation", EVALUATED, n=280, p=100, k=45, ridge=2.0, signal=1.2, loss="logistic"),
    *_design_cells("evaluation", EVALUATED, n=350, p=250, k=80, ridge=5.0, signal=2.0, loss="squared"),
    *_design_cells("evaluation", EVALUATED, n=400, p=480, k=120, ridge=8.0, signal=0.7, loss="poisson"),
    *_design_cells("evaluation", NEARLY_SEPARABLE, n=120, p=50, k=30, ridge=0.02, signal=2.0, loss="logistic"),
    *_design_cells("evaluation", NEARLY_SEPARABLE, n=150, p=45, k=25, ridge=0.01, signal=6.0, loss="logistic"),
    *_design_cells("evaluation", NEARLY_SEPARABLE, n=200, p=60, k=35, ridge=0.5, signal=4.0, loss="logistic"),
    *_sketch_cells("evaluation", MORE_ROWS + REAL, 160, 300, 24, 0.5),
    *_sketch_cells("evaluation", MORE_ROWS + REAL, 140, 450, 45, 0.2),
]
STUDY = Study(
    name="premises",
    summary="Which errors of the rank and projection laws are warned of, on designs and sketches that break them?",
    run=run,
    quick=[*CALIBRATION[4:6], CALIBRATION[7], *EVALUATION[:1], *EVALUATION[-25:-23]],
    full=CALIBRATION + EVALUATION,
    seconds=0.5,
)


def judge(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds whether the error is `harmful` beyond two standard errors, whether it is harmless, and what was warned of.

    warned: of anything; alarm: of the premises, not of too few degrees of freedom k − df₂.
    """
    table = frame.copy()
    kendall = table["part"] == "rank_law"
    limit = np.where(kendall, HARMFUL_KENDALL, HARMFUL_SD)
    size, noise = table["error"].abs(), np.where(kendall, 2 * table["se"], 0.0)
    table["harmful"], table["harmless"] = size - noise > limit, size <= limit
    table["warned"] = table["warnings"] != ""
    table["alarm"] = table["warned"] & ~table["warnings"].str.startswith("k = ")
    return table


def main(results: Annotated[Path, typer.Option(help="Folder that the study wrote.")] = Path("results")) -> None:
    """Print every cell that is harmful or warned of, and the counts; exit status 1 when a harmful one is silent."""
    table = judge(Store(results).load(find_study("premises")))
    shown = ["part", "split", "entries", "value", "covariance", "sketch", "n", "p", "k", "loss"]
    numbers = ["simulated", "law", "error", "se", "number", "warned"]
    typer.echo(table.loc[table["harmful"] | table["warned"], shown + numbers].round(3).to_string(index=False))
    for (part, split), cells in table.groupby(["part", "split"]):
        harmful, harmless = cells[cells["harmful"]], cells[cells["harmless"]]
        typer.echo(
            f"{part} {split}: {harmful['warned'].sum()} of {len(harmful)} harmful cells warned of, "
            f"{harmless['alarm'].sum()} of {len(harmless)} harmless ones alarmed about"
        )
    raise typer.Exit(int((table["harmful"] & ~table["warned"]).any()))


if __name__ == "__main__":
    typer.run(main)
