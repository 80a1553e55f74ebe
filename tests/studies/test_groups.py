"""The study of groups: the figure plots the stored numbers, and the errors are those of one data set by hand."""

import csv

import numpy as np
import pytest
from support.oracles import refit

from paper_figures.drawing.style import style
from paper_figures.ladder.groups import draw
from simulations.engine.store import Store
from simulations.studies.ladder.groups import FIXED, GROUPS, RIDGE_PER_POINT, SIGNAL, STUDY, _errors
from simulations.workloads.data import gaussian_problem


def test_errors_of_single_points_are_those_of_refits():
    n = 60
    found = _errors(n, FIXED, 1, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    problem = gaussian_problem(
        n=n, p=FIXED, queries=1, loss="logistic", ridge=RIDGE_PER_POINT * n, signal=SIGNAL, rng=rng
    )
    points = [int(rng.choice(n, 1, replace=False)[0]) for _ in range(GROUPS)]
    glm, fit = problem.glm(), problem.glm().fit()
    hessian = (glm.features.T * fit.curvature) @ glm.features + RIDGE_PER_POINT * n * np.eye(FIXED)
    errors = []
    for i in points:
        step = np.linalg.solve(hessian, fit.residual[i] * glm.features[i])
        leverage = fit.curvature[i] * glm.features[i] @ np.linalg.solve(hessian, glm.features[i])
        errors.append(np.linalg.norm(fit.coef + step / (1 - leverage) - refit(glm, i, fit.coef)))
    assert found["newton"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_exponents_and_figure(shipped, tmp_path):
    frame = Store(shipped).load(STUDY)
    chosen = frame[(frame["regime"] == "n, d = 10") & (frame["measure"] == "difference")]
    np.testing.assert_allclose(chosen["slope"].mean(), -2, atol=0.3)
    with style():
        drawing = draw(shipped)
    drawing.save("groups", tmp_path)
    plotted = list(csv.DictReader((tmp_path / "groups.csv").read_text().splitlines()))
    for row in plotted:
        stored = frame[(frame["regime"] == row["regime"]) & (frame["measure"] == row["gap"])]
        stored = stored[stored["size"] == int(row["size"])]
        assert float(row["mean"]) == pytest.approx(stored["error"].mean())
