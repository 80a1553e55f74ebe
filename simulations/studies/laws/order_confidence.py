"""Does `ranked_with_confidence` keep its promise over fresh projections? Gaussian, sparse, wide and real features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler

from simulations.engine.study import Params, Rows, Study, grid
from trak_theory import GLM, Fit, leave_one_out, ranked_with_confidence, trak
from trak_theory.laws.confidence import Method, RankConfidence
from trak_theory.loo.certified_order import proved_pairs_in_order
from trak_theory.loo.intervals import Interval
from trak_theory.projection.matrices import Sketch

FRESH = 100  # projections that each answer is held against
QUERIES = 5


@dataclass(frozen=True)
class Setting:
    """A projection (k, projections averaged, μ) of a GLM; `design` names real data, or is empty for Gaussian rows."""

    n: int
    p: int
    loss: str
    ridge: float
    k: int
    ensemble: int
    projected_ridge: float
    decay: float = 0.0  # column j has standard deviation j^−decay
    density: float = 1.0  # share of entries that are not 0
    design: str = ""
    kind: Sketch = "normal"


SETTINGS = {
    "small": Setting(100, 20, "logistic", 1.0, 10, 1, 1.0),
    "ensemble": Setting(100, 20, "squared", 1.0, 16, 4, 0.0),
    "k near p": Setting(150, 60, "logistic", 5.0, 45, 1, 0.0),
    "counts": Setting(150, 60, "poisson", 5.0, 30, 2, 10.0),
    "p > n": Setting(120, 200, "logistic", 10.0, 80, 1, 5.0),
    "decaying": Setting(120, 200, "logistic", 10.0, 60, 1, 1.0, decay=0.6),
    "sparse": Setting(150, 80, "logistic", 2.0, 50, 1, 0.0, density=0.1),
    "wide": Setting(100, 300, "squared", 20.0, 90, 1, 20.0),
    "decaying counts": Setting(200, 40, "poisson", 1.0, 28, 1, 0.0, decay=0.6),
    "digits": Setting(150, 64, "logistic", 1.0, 30, 1, 1.0, design="digits"),
    "cancer": Setting(150, 30, "logistic", 1.0, 15, 1, 1.0, design="cancer"),
    "cancer, small ridge": Setting(150, 30, "logistic", 0.1, 20, 4, 0.1, design="cancer"),
    "CountSketch, sparse": Setting(150, 80, "logistic", 2.0, 50, 1, 1.0, density=0.1, kind="countsketch"),
    "SRHT, digits": Setting(150, 64, "logistic", 1.0, 30, 1, 1.0, design="digits", kind="srht"),
}
NORMAL = [name for name, setting in SETTINGS.items() if setting.kind == "normal"]


def run(params: Params, rng: Generator) -> Rows:
    """One answer on one data set, and how many of FRESH projections reach the share that it promises."""
    setting, method = SETTINGS[str(params["setting"])], str(params["method"])
    answer, reached = answered(setting, method, rng)  # type: ignore[arg-type]
    return [
        {
            "promised": answer.share,
            "expected": answer.expected,
            "proved": answer.proved,
            "kept": int((reached >= answer.share).sum()),
            "fresh": FRESH,
            "reached": float(reached.mean()),
            "worst": float(reached.min()),
            "reached_sd": float(reached.std(ddof=1)),
        }
    ]


def answered(setting: Setting, method: Method, rng: Generator) -> tuple[RankConfidence, Array]:
    """The answer for a data set of `setting`, and the shares that FRESH projections reach."""
    fit, queries = problem(setting, rng)
    projection: dict[str, Any] = {
        "k": setting.k,
        "ensemble": setting.ensemble,
        "ridge": setting.projected_ridge,
        "kind": setting.kind,
    }
    answer = ranked_with_confidence(fit, queries=queries, method=method, rng=rng, **projection)
    lin, exact = fit.linearize(queries), leave_one_out(fit, queries)
    truth = Interval(exact.influence, exact.radius)
    shares = [proved_pairs_in_order(truth, trak(lin, rng=rng, **projection)).mean() for _ in range(FRESH)]
    return answer, np.array(shares)


def problem(setting: Setting, rng: Generator) -> tuple[Fit, Array]:
    """A fit of `setting`, and queries (QUERIES, p)."""
    rows, queries, targets = _real(setting, rng) if setting.design else _synthetic(setting, rng)
    return GLM(rows, targets, loss=setting.loss, ridge=setting.ridge).fit(), queries


def _synthetic(setting: Setting, rng: Generator) -> tuple[Array, Array, Array]:
    n, p = setting.n, setting.p
    rows = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -setting.decay
    rows *= (rng.random((n, p)) < setting.density) / np.sqrt(setting.density)
    outputs = rows @ rng.standard_normal(p) / np.sqrt(p)
    targets = {
        "logistic": (rng.random(n) < 1 / (1 + np.exp(-outputs))).astype(float),
        "poisson": rng.poisson(np.exp(0.5 * outputs)).astype(float),
        "squared": outputs + rng.standard_normal(n),
    }[setting.loss]
    return rows, rng.standard_normal((QUERIES, n)) @ rows / np.sqrt(n), targets


def _real(setting: Setting, rng: Generator) -> tuple[Array, Array, Array]:
    """n random rows of the data set and QUERIES others."""
    rows, targets = _cancer() if setting.design == "cancer" else _threes_and_eights()
    order = rng.permutation(len(rows))
    training, held_out = order[: setting.n], order[setting.n : setting.n + QUERIES]
    return rows[training], rows[held_out], targets[training]


def _cancer() -> tuple[Array, Array]:
    rows, labels = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(rows), labels.astype(float)


def _threes_and_eights() -> tuple[Array, Array]:
    pixels, labels = load_digits(return_X_y=True)
    chosen = np.isin(labels, (3, 8))
    return pixels[chosen] / 16, (labels[chosen] == 8).astype(float)


def _cells(replicates: int) -> list[Params]:
    drawn = grid(setting=list(SETTINGS), method=["draws"], replicate=range(replicates))
    return drawn + grid(setting=NORMAL, method=["law"], replicate=range(replicates))


STUDY = Study(
    name="order_confidence",
    summary="Share of fresh projections that reach the order promised by ranked_with_confidence, on fourteen settings.",
    run=run,
    quick=_cells(1)[::4],
    full=_cells(20),
    seconds=2,
)
