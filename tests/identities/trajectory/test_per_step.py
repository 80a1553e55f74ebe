"""Influence along a run: steps add up to the whole, and to what removal at one step at a time gives."""

from __future__ import annotations

import numpy as np
import pytest

from trak_theory.losses import Logistic
from trak_theory.trajectory import AdamW, GLMObjective, attribute, train

N, P, Q = 12, 3, 2


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(1)
    objective = GLMObjective(rng.normal(size=(N, P)), rng.integers(2, size=N).astype(float), np.ones(N), Logistic())
    batches = [rng.choice(N - 1, 4) for _ in range(9)]  # with repetitions; the last sample in none
    return train(objective, rng.normal(size=P), batches, AdamW(0.05))


QUERIES = np.random.default_rng(2).normal(size=(P, Q))


@pytest.mark.parametrize("estimator", ["two-step", "frozen-push", "first-order", "sgd"])
def test_the_steps_of_a_sample_add_up_to_its_influence(run, estimator):
    found = attribute(run, QUERIES, estimator=estimator)
    total = np.zeros((N, Q))
    np.add.at(total, found.per_step.samples, found.per_step.influence)
    np.testing.assert_allclose(total, found.influence, rtol=0, atol=1e-15)
    each = attribute(run, QUERIES, estimator=estimator, occurrences="each")
    np.testing.assert_array_equal(found.per_step.influence, each.influence)
    np.testing.assert_array_equal(each.per_step.steps, each.steps)


def test_one_sample_along_the_run(run):
    found = attribute(run, QUERIES)
    sample = int(run.batches[0][0])
    steps, influence = found.per_step.of(sample)
    np.testing.assert_array_equal(steps, run.occurrences(sample))
    np.testing.assert_allclose(influence.sum(0), found.influence[sample], atol=1e-15)
    size = np.abs(influence[:, 1])
    named = found.per_step.dominant(sample, query=1, share=0.7)
    kept = np.isin(steps, named)
    assert size[kept].sum() >= 0.7 * size.sum()
    assert size[kept].sum() - size[kept].min() < 0.7 * size.sum()  # one step fewer would not do
    np.testing.assert_array_equal(named, steps[np.argsort(-size)][: len(named)])
    assert len(found.per_step.dominant(sample, share=1.0)) == len(steps)


def test_what_is_asked_wrongly_is_refused(run):
    along = attribute(run, QUERIES).per_step
    with pytest.raises(ValueError, match="sample 11 is in no batch of this run"):
        along.of(N - 1)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got 0"):
        along.dominant(0, share=0)
    other = train(run.objective, run.state(0)[0], run.batches[:3], AdamW(0.05))
    with pytest.raises(ValueError, match="of different runs"):
        along.minus(attribute(other, QUERIES).per_step)


def test_the_figure_shows_the_steps_and_names_the_largest(run):
    figure = pytest.importorskip("matplotlib.figure")
    axes = figure.Figure().subplots()
    found = attribute(run, QUERIES)
    sample = int(run.batches[0][0])
    error = found.per_step.minus(found.vary(damping=0.9).per_step)
    found.per_step.draw(axes, sample, error=error)
    influence = found.per_step.of(sample).influence
    bars = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(bars, influence[:, 0])
    assert axes.texts[0].get_text() == f"step {found.per_step.dominant(sample)[0]}"
    assert axes.get_lines()[0].get_ydata()[-1] == pytest.approx(found.influence[sample, 0])
