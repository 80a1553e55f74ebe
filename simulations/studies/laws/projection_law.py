"""The error bars of TRAK scores, predicted from one eigendecomposition, against repeated random projections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.data import digits
from simulations.workloads.digits_mlp import digits_network
from trak_theory import Linearization, influence, project
from trak_theory.attribution import trak_kernel
from trak_theory.numerics.estimate import mean
from trak_theory.projection.error_bars import projection_law
from trak_theory.projection.matrices import projection_matrix

QUERIES = 10
SHOWN = 60  # scores whose standard deviations a cell reports
RANDOM_FEATURES = 600


def run(params: Params, rng: Generator) -> Rows:
    """One kernel, `draws` projections: how the z-scores spread, and some standard deviations one by one."""
    building, drawing, choosing = rng.spawn(3)
    n, draws = int(params["n"]), int(params["draws"])
    lin = FEATURES[str(params["features"])](n, building)
    k = round(float(params["k_over_n"]) * n)
    ridge = float(params["ridge_share"]) * float(np.sum(lin.features**2)) / n
    law = projection_law(lin, k=k, ridge=ridge)
    scores = np.stack([_scores(lin, k, ridge, child) for child in drawing.spawn(draws)])
    z = (scores - law.mean) / law.sd
    covered = np.mean(np.abs(z) < 1.96, (1, 2))
    slope = np.sum(scores * law.mean, (1, 2)) / np.sum(law.mean**2)
    chosen = choosing.choice(law.mean.size, SHOWN, replace=False)
    summary = {
        "k": k,
        "p": lin.features.shape[1],
        "projected_ridge": ridge,
        "implicit_ridge": law.implicit_ridge,
        "effective_dimension": law.effective_dimension,
        "spread_of_z": float(np.sqrt(np.mean(z**2))),
        "spread_of_z_se": mean(np.mean(z**2, (1, 2))).se / 2,
        "coverage": mean(covered).value,
        "coverage_se": mean(covered).se,
        "slope": mean(slope).value,
        "slope_se": mean(slope).se,
        "median_sd_ratio": float(np.median(scores.std(0) / law.sd)),
        "median_half_width": float(np.median(1.96 * law.sd / np.sqrt(np.mean(law.mean**2, 0)))),
    }
    return [
        {**summary, "predicted_sd": float(predicted), "simulated_sd": float(simulated)}
        for predicted, simulated in zip(law.sd.ravel()[chosen], scores.std(0, ddof=1).ravel()[chosen], strict=True)
    ]


def _scores(lin: Linearization, k: int, ridge: float, rng: Generator) -> Array:
    matrix = projection_matrix(lin.features.shape[1], k, rng=rng)
    return influence(project(trak_kernel(lin, ridge=ridge), matrix))


def random_relu_features(n: int, rng: Generator) -> Linearization:
    """600 random ReLU features of the digits, with normal residuals."""
    pixels, _ = digits()
    pixels = pixels[rng.permutation(len(pixels))[: n + QUERIES]]
    rows = np.maximum((pixels - pixels.mean(0)) @ rng.standard_normal((64, RANDOM_FEATURES)), 0.0)
    return Linearization(rows[:n], rng.standard_normal(n), np.ones(n), 0.0, rows[n:])


def network_gradients(n: int, rng: Generator) -> Linearization:
    """Margin gradients of a trained 64-32-10 network, rotated to n + q coordinates, which normal projections ignore."""
    lin = digits_network(n=n, hidden=32, queries=QUERIES, rng=rng).margin_linearization()
    rows = np.linalg.qr(np.vstack([lin.features, lin.queries]).T)[1].T
    return replace(lin, features=rows[:n], queries=rows[n:], ridge=0.0)


FEATURES = {"random features": random_relu_features, "network gradients": network_gradients}

STUDY = Study(
    name="projection_law",
    summary="The error bars of TRAK scores, predicted without a second projection, are right.",
    run=run,
    quick=grid(features=list(FEATURES), k_over_n=[0.2, 0.6, 0.9], ridge_share=[0.0, 0.03], n=[150], draws=[100]),
    full=[
        *grid(features=list(FEATURES), k_over_n=[0.2, 0.6, 0.9], ridge_share=[0.0, 0.03], n=[150], draws=[100]),
        *grid(
            features=list(FEATURES),
            k_over_n=[0.07, 0.15, 0.33, 0.5, 0.67, 0.9],
            ridge_share=[0.0, 0.03],
            n=[300],
            draws=[400],
        ),
        *grid(features=list(FEATURES), k_over_n=[0.8], ridge_share=[0.0, 0.03], n=[500], draws=[400]),
    ],
    seconds=lambda params: 0.3 if params["n"] == 150 else 6,
)
