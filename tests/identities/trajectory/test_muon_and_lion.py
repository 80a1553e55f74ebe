"""Muon and Lion: their steps, exact derivatives and pushes, against complex steps, differences and retraining."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.trajectories import derivative_of_run, epochs, queries, small_network, small_run, start

from trak_theory.trajectory import Lion, Muon, attribute, forward, retrain_without, train
from trak_theory.trajectory.optimizer.newton_schulz import NewtonSchulz
from trak_theory.trajectory.sweep import blocks

NET = small_network()
SHAPES = [(5, 4), (1, 4), (4, 3), (1, 3)]  # biases as rows
MUONS = {
    "plain": Muon(0.02, shapes=SHAPES, nesterov=False, weight_decay=0.3),
    "nesterov": Muon(0.02, shapes=SHAPES, momentum=0.8),
    "rms": Muon(0.02, shapes=SHAPES, adjust_lr_fn="match_rms_adamw", ns_steps=3),
    "clipped": Muon(0.02, shapes=SHAPES, clip_norm=0.3, schedule=lambda t: 1 / (1 + t)),
    "groups": Muon(0.02, shapes=SHAPES, groups=[(slice(0, 20), {"lr": 0.05, "weight_decay": 0.0})]),
}
LIONS = {
    "plain": Lion(0.02, weight_decay=0.3),
    "clipped": Lion(0.02, betas=(0.8, 0.9), clip_norm=0.3),
    "groups": Lion(0.02, groups=[(slice(0, 20), {"betas": (0.5, 0.7)})]),
}
EXACT = ("exact-push", "two-step", "frozen-push")


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 3), (1, 5), (5, 1)])
def test_the_derivative_of_newton_schulz_is_its_complex_step_and_its_adjoint_the_transpose(shape):
    rng, iteration = np.random.default_rng(0), NewtonSchulz()
    u, du, cotangent = rng.standard_normal((3, *shape))
    tangent = iteration.tangent(u, du)
    np.testing.assert_allclose(tangent, iteration(u + 1e-30j * du).imag / 1e-30, rtol=0, atol=1e-13)
    assert np.sum(iteration.adjoint(u, cotangent) * du) == pytest.approx(np.sum(cotangent * tangent), rel=1e-12)


def test_newton_schulz_of_nothing_is_nothing_and_linear_there():
    iteration, du = NewtonSchulz(), np.random.default_rng(0).standard_normal((3, 4))
    assert not iteration(0.0 * du).any()
    slope = 3.4445**5 / iteration.eps
    np.testing.assert_allclose(iteration.tangent(0.0 * du, du), slope * du, rtol=1e-12)


def test_newton_schulz_takes_singular_values_near_one_and_keeps_the_vectors():
    u = np.random.default_rng(1).standard_normal((5, 8))
    left, _, right = np.linalg.svd(u, full_matrices=False)
    values = left.T @ NewtonSchulz()(u) @ right.T
    assert np.abs(values - np.diag(np.diag(values))).max() < 1e-12
    assert 0.6 < np.diag(values).min() <= np.diag(values).max() < 1.3


def test_newton_schulz_in_bfloat16_is_torchs_to_the_bit_for_matrices_that_lie_stand_or_come_in_stacks():
    muon = pytest.importorskip("torch.optim._muon", reason="torch has Muon from version 2.9")
    torch = pytest.importorskip("torch")
    stack = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 8, 5)))
    iteration = NewtonSchulz()
    for given in (stack, stack.mT):
        expected = [
            muon._zeropower_via_newtonschulz(u, iteration.coefficients, iteration.steps, iteration.eps) for u in given
        ]
        assert iteration.in_bfloat16(given).dtype == torch.float64
        np.testing.assert_array_equal(iteration.in_bfloat16(given), torch.stack(expected).double())
        np.testing.assert_array_equal(iteration.in_bfloat16(given[0]), expected[0].double())


@pytest.mark.parametrize("optimizer", LIONS.values(), ids=LIONS)
def test_the_moment_of_lion_has_its_derivative_though_none_of_it_reaches_the_parameters(optimizer):
    rng = np.random.default_rng(0)
    state = optimizer.at(0, start(NET))(optimizer.start(start(NET)), rng.standard_normal(NET.p))
    gradient, step = rng.standard_normal(NET.p), optimizer.at(1, state[0])
    dstate, cotangent, dgradient = rng.standard_normal((2, NET.p)), rng.standard_normal((2, NET.p)), gradient[::-1]
    tangent = step.tangent(state, gradient, tuple(dstate), dgradient)
    moved = step(tuple(x + 1e-30j * dx for x, dx in zip(state, dstate, strict=True)), gradient + 1e-30j * dgradient)
    for own, part in zip(tangent, moved, strict=True):
        np.testing.assert_allclose(own, part.imag / 1e-30, rtol=1e-12, atol=1e-14)
    before, slope = step.adjoint(state, gradient, tuple(cotangent))
    backwards = sum(a @ b for a, b in zip(before, dstate, strict=True)) + slope @ dgradient
    assert sum(a @ b for a, b in zip(cotangent, tangent, strict=True)) == pytest.approx(backwards, rel=1e-12)


def test_a_step_of_lion_is_the_papers():
    """Algorithm 2 of Chen et al.: c = β₁m + (1−β₁)g, θ − η(sign c + λθ), m′ = β₂m + (1−β₂)g."""
    theta, m, g = np.array([1.0, -2.0, 3.0]), np.array([0.5, -0.1, 0.0]), np.array([-1.0, 2.0, 4.0])
    after = Lion(0.1, betas=(0.6, 0.75), weight_decay=0.5).at(0, theta)((theta, m), g)
    np.testing.assert_allclose(after[0], [1 + 0.1 - 0.05, -2 - 0.1 + 0.1, 3 - 0.1 - 0.15], rtol=1e-15)
    np.testing.assert_allclose(after[1], [0.125, 0.425, 1.0], rtol=1e-15)


@pytest.mark.parametrize("removal", ["keep", "renormalise"])
@pytest.mark.parametrize("name", MUONS)
def test_first_order_is_the_derivative_of_the_run(name, removal):
    run, columns = small_run(NET, MUONS[name]), queries(NET)
    found = attribute(run, columns, estimator="first-order", removal=removal).influence
    for sample in (0, 7):
        expected = columns.T @ derivative_of_run(run, sample, removal)
        np.testing.assert_allclose(found[sample], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*MUONS, *(f"lion {name}" for name in LIONS)])
@pytest.mark.parametrize("estimator", [*EXACT, "hybrid", "first-order"])
def test_forward_and_reverse_agree_whatever_the_block(monkeypatch, name, estimator):
    optimizer = LIONS[name.removeprefix("lion ")] if name.startswith("lion") else MUONS[name]
    run, columns = small_run(NET, optimizer, every=4), queries(NET)
    moved = forward(run, [3, 8], estimator=estimator)
    monkeypatch.setattr(blocks, "SMALL", 16)
    found = attribute(run, columns, estimator=estimator).influence[[3, 8]]
    np.testing.assert_allclose(found, -moved @ columns, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [*MUONS.values(), *LIONS.values()])
def test_the_last_step_without_a_sample_is_exact(optimizer):
    run, columns = train(NET, start(NET), epochs(NET, 6, 1), optimizer), queries(NET)
    last, t = run.batches[-1], run.steps - 1
    for sample in last:
        weights = (last != sample) / len(last)
        without = run.step(t)(run.state(t), NET.gradient(run.state(t)[0], last, weights))[0]
        expected = (run.final - without) @ columns
        for estimator in EXACT:
            found = attribute(run, columns, estimator=estimator).influence[sample]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)


def test_muon_predicts_retraining_at_a_small_rate():
    run, columns = small_run(NET, Muon(1e-3, shapes=SHAPES)), queries(NET, 1)
    truth = retrain_without(run, np.arange(NET.n)[:, None]).influence(columns)
    found = attribute(run, columns).influence
    assert np.corrcoef(found[:, 0], truth[:, 0])[0, 1] > 0.95


def test_lion_has_no_derivative_and_its_pushes_count_flipped_signs():
    run, columns = small_run(NET, LIONS["plain"]), queries(NET, 1)
    assert not attribute(run, columns, estimator="first-order").influence.any()
    assert not derivative_of_run(run, 3, "keep").any()
    one = train(NET, start(NET), run.batches[:1], LIONS["plain"])
    flips = forward(one, run.batches[0], estimator="exact-push") / (2 * 0.02)
    assert flips.any()
    np.testing.assert_allclose(flips, np.round(flips), atol=1e-12)


def test_matrices_that_do_not_fill_the_parameters_are_refused():
    with pytest.raises(ValueError, match=r"matrices .* hold 20 numbers, θ has 39"):
        small_run(NET, Muon(0.1, shapes=[(5, 4)]))
