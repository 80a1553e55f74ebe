"""Look-ahead scores, the selection loop and the tuned horizon, each against an independent slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from support.networks.trajectories import (
    OPTIMIZERS,
    epochs,
    queries,
    small_glm,
    small_network,
    small_run,
    start,
    without,
)

from simulations.studies.trajectory.push_blowup import Tilt
from trak_theory.numerics.agreement import relative_error
from trak_theory.trajectory import (
    SGD,
    AdamW,
    HorizonMap,
    Query,
    Task,
    attribute,
    lookahead,
    loss_query,
    paired_gain,
    retrain_without,
    select,
    train,
    tune_horizon,
)
from trak_theory.trajectory.selection.filtering import REMEMBERED, WrongShare
from trak_theory.trajectory.selection.lookahead import segment

STEP = 1e-30
CANDIDATES, VALIDATION, JUDGE = np.arange(24), np.arange(24, 32), np.arange(32, 40)
NET = small_network(n=40)
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def stream(steps=8, size=6, seed=0):
    rng = np.random.default_rng([seed, 4])
    order = np.concatenate([rng.permutation(CANDIDATES) for _ in range(-(-steps * size // 24))])
    return list(order[: steps * size].reshape(steps, size))


def close(actual, expected, tol=1e-10):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tol * scale)


def complex_step(objective, batches, validation, optimizer, state, first, sample, removal="keep"):
    """f(θ) − f(θ without the sample in batches[0]) after all `batches`, to first order: a plain loop of complex θ."""
    state = tuple(part.astype(complex) for part in state)
    for t, batch in enumerate(batches, first):
        weights = np.full(len(batch), 1.0 / len(batch)) + 0j
        if t == first:
            weights += 1j * STEP * (without(batch, sample, removal) - weights.real)
        gradient = objective.gradient(state[0], batch, weights)
        state = optimizer.at(t, state[0].real)(state, gradient)
    return -objective.loss(state[0], validation).mean().imag / STEP


# --- scores ----------------------------------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("objective", [NET, small_glm(n=40)], ids=["network", "GLM"])
def test_first_order_scores_are_the_derivative_of_the_loss_k_steps_ahead(objective, optimizer):
    first, batches = 2, stream()
    run = train(objective, start(objective), batches, optimizer)
    query = loss_query(objective, VALIDATION, mean=True)
    horizons = range(len(batches) - first)
    for removal in ("keep", "renormalise"):
        found = lookahead(
            objective,
            batches[first:],
            query,
            optimizer,
            run.state(first),
            first=first,
            horizons=horizons,
            removal=removal,
        )
        for horizon, scores in zip(horizons, found.influence, strict=True):
            ahead = batches[first : first + 1 + horizon]
            expected = [
                complex_step(objective, ahead, VALIDATION, optimizer, run.state(first), first, sample, removal)
                for sample in batches[first]
            ]
            close(scores, np.array(expected))


@pytest.mark.parametrize("estimator", ["first-order", "two-step", "frozen-push", "exact-push", "hybrid", "sgd"])
def test_scores_of_a_shared_look_ahead_are_those_of_separate_ones_and_of_the_attribution(estimator):
    optimizer, first, grid = OPTIMIZERS["adamw groups"], 3, (5, 0, 2, 8)
    run, query = small_run(NET, optimizer, size=8), loss_query(small_network(5), np.arange(9), mean=True)

    def scores(horizons):
        ahead = run.batches[first:]
        return lookahead(
            NET, ahead, query, optimizer, run.state(first), first=first, horizons=horizons, estimator=estimator
        ).influence

    shared = scores(grid)
    for row, horizon in zip(shared, grid, strict=True):
        close(row, scores([horizon])[0], 1e-13)
        whole = attribute(run, query, estimator=estimator, horizon=horizon, occurrences="each")
        here = dict(zip(whole.samples, whole.influence[:, 0], strict=True))
        here |= {
            sample: value
            for step, sample, value in zip(whole.steps, whole.samples, whole.influence[:, 0], strict=True)
            if step == first
        }
        close(row, np.array([here[sample] for sample in run.batches[first]]), 1e-12)


def retrained(run, query, first, horizon):
    """The exact effect of each candidate of step `first`, at that step alone, K steps later."""
    part = segment(run.objective, run.batches[first : first + 1 + horizon], run.optimizer, run.state(first), first)
    truth = retrain_without(part, part.batches[0][:, None], occurrences="each")
    effect = truth.influence(query)[:, 0]
    here = {int(g[0]): effect[k] for k, g in enumerate(truth.groups) if truth.steps[k] == 0}
    return np.array([here[int(sample)] for sample in part.batches[0]])


def test_a_segment_is_the_run_that_it_is_cut_from():
    run = small_run(NET, OPTIMIZERS["adamw"], size=8)
    part = segment(NET, run.batches[4:9], run.optimizer, run.state(4), 4)
    for t in range(6):
        for a, b in zip(part.state(t), run.state(4 + t), strict=True):
            assert np.array_equal(a, b)
    for t in range(5):
        assert np.array_equal(part.gradient(t), run.gradient(4 + t))


def test_two_step_scores_are_exact_where_only_the_moments_are_nonlinear():
    rng = np.random.default_rng(0)
    tilt, optimizer = Tilt(rng.standard_normal((24, 7))), AdamW(0.02, weight_decay=0.3)
    run = small_run(tilt, optimizer)
    direction = queries(tilt, 1)
    query = Query(lambda theta: theta @ direction, lambda theta: direction.T)
    for first in (0, 1, 5):
        for horizon in (0, 1):
            found = lookahead(
                tilt,
                run.batches[first:],
                query,
                optimizer,
                run.state(first),
                first=first,
                horizons=[horizon],
                estimator="two-step",
            )
            close(found.influence[0], retrained(run, query, first, horizon))


def test_two_step_scores_are_nearer_to_retraining_than_first_order_ones():
    net, optimizer = small_network(n=64, width=12, hidden=(8,)), AdamW(3e-3)
    run = train(net, start(net), epochs(net, 8, 2), optimizer)
    query = loss_query(small_network(5, width=12, hidden=(8,)), np.arange(20), mean=True)
    errors = {"first-order": [], "two-step": []}
    for horizon in (0, 1, 4, 8):
        exact = retrained(run, query, 3, horizon)
        for name, kept in errors.items():
            found = lookahead(
                net, run.batches[3:], query, optimizer, run.state(3), first=3, horizons=[horizon], estimator=name
            )
            kept.append(relative_error(exact, found.influence[0]))
    assert np.all(np.array(errors["two-step"]) < 0.25 * np.array(errors["first-order"])), errors
    assert max(errors["two-step"]) < 0.1


# --- the loop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [0, 2, None])
@pytest.mark.parametrize("name", ["adamw", "sgd momentum", "adamw groups"])
def test_selection_by_look_ahead_is_a_plain_loop_over_complex_steps(name, horizon):
    optimizer, candidates = OPTIMIZERS[name], stream()
    chosen = select(NET, candidates, VALIDATION, optimizer, start=start(NET), keep=0.5, horizon=horizon)
    state = optimizer.start(start(NET))
    for t, batch in enumerate(candidates):
        end = len(candidates) if horizon is None else t + 1 + horizon
        scores = [complex_step(NET, candidates[t:end], VALIDATION, optimizer, state, t, sample) for sample in batch]
        kept = [sample for sample, score in zip(batch, scores, strict=True) if score in sorted(scores)[:3]]
        assert chosen.batches[t].tolist() == kept
        state = optimizer.at(t, state[0])(state, NET.gradient(state[0], np.array(kept), np.full(3, 1 / 3)))
    close(chosen.final, state[0], 1e-13)
    assert np.array_equal(chosen.run.final, chosen.final)


def test_the_policies_keep_what_they_say():
    optimizer, candidates = OPTIMIZERS["adamw"], stream()

    def batches(keep=1 / 3, **how):
        return select(NET, candidates, VALIDATION, optimizer, start=start(NET), keep=keep, **how).batches

    everything = train(NET, start(NET), candidates, optimizer)
    assert all(np.array_equal(a, b) for a, b in zip(batches(keep=1.0), candidates, strict=True))
    losses = NET.loss(start(NET), candidates[0])
    assert sorted(NET.loss(start(NET), batches(policy="largest-loss")[0])) == sorted(losses)[-2:]
    assert sorted(NET.loss(start(NET), batches(policy="lowest-loss")[0])) == sorted(losses)[:2]
    influence = attribute(
        everything, loss_query(NET, VALIDATION, mean=True), estimator="first-order", occurrences="each"
    )
    for t, kept in enumerate(batches(policy="offline")):
        here = influence.steps == t
        best = influence.samples[here][np.argsort(influence.influence[here, 0])[:2]]
        assert set(kept) == set(best)
    again = [batches(policy="random", rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert all(np.array_equal(a, b) for a, b in zip(again[0], again[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(again[0], again[2], strict=True))
    filtered = [batches(policy="loss-filter", wrong=0.5, rng=np.random.default_rng(seed)) for seed in range(20)]
    smaller = candidates[0][np.argsort(losses)[:3]]
    assert {sample for kept in filtered for sample in kept[0]} == set(smaller)
    everyone = batches(keep=5 / 6, policy="loss-filter", wrong=0.5, rng=np.random.default_rng(0))[0]
    assert set(everyone) == set(candidates[0]) - {candidates[0][np.argmax(losses)]}
    geometry = [batches(policy="look-ahead", estimator=name) for name in ("sgd", "first-order")]
    assert not all(np.array_equal(a, b) for a, b in zip(*geometry, strict=True))


def test_the_wrong_share_is_estimated_from_the_losses_of_clean_samples():
    rng, share = np.random.default_rng(0), WrongShare()
    for _ in range(REMEMBERED):
        clean, candidates = rng.exponential(size=2000), rng.exponential(size=2000)
        candidates[:600] += 5.0
        found = share.update(candidates, clean)
    assert found == pytest.approx(0.3, abs=0.03)
    assert WrongShare().update(np.zeros(4), np.ones(3)) == 0.0


def test_selection_trains_with_the_batch_weights_of_its_objective():
    weighted = small_network(n=40)
    weighted.batch_weights = np.linspace(0.5, 2.0, 40)
    chosen = select(weighted, stream(), VALIDATION, AdamW(0.02), start=start(NET), keep=1.0)
    assert np.array_equal(chosen.final, train(weighted, start(NET), stream(), AdamW(0.02)).final)
    assert not np.array_equal(chosen.final, train(NET, start(NET), stream(), AdamW(0.02)).final)


def test_under_sgd_the_two_geometries_are_one():
    for horizon in (0, 3):
        kept = [
            select(
                NET, stream(), VALIDATION, SGD(0.3), start=start(NET), keep=0.5, horizon=horizon, estimator=name
            ).batches
            for name in ("sgd", "first-order", "two-step")
        ]
        assert np.array_equal(kept[0], kept[1])
        assert np.array_equal(kept[0], kept[2])


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_the_cost_counts_every_gradient_and_product(horizon):
    steps, size, kept, validation = 8, 6, 3, len(VALIDATION)
    chosen = select(NET, stream(steps), VALIDATION, AdamW(), start=start(NET), keep=0.5, horizon=horizon)
    reach = np.minimum(horizon, steps - 1 - np.arange(steps))
    expected = np.sum((reach + 1) * size + size + validation + 2 * reach * size + kept)
    assert chosen.cost == expected
    assert chosen.multiple == pytest.approx(expected / (steps * kept))


# --- the tuned horizon -----------------------------------------------------------------------------------------------


def test_a_paired_gain_is_students():
    rng = np.random.default_rng(0)
    losses, reference = rng.standard_normal((2, 9))
    expected = ttest_1samp(reference - losses, 0.0).confidence_interval(1 - 0.05 / 4)
    gain = paired_gain([*losses, np.nan], [*reference, 1.0], comparisons=4)
    assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert gain.pairs == 9
    assert str(paired_gain([1.0, 1.0, 1.0], [2.0, 2.1, 1.9])) == "+1.0000 [+0.7516, +1.2484]"
    assert str(paired_gain([1.0, 2.0], [2.0, 1.0])).startswith("no difference (+0.0000 [")


def tasks(count, seed=0):
    return [Task(NET, start(NET, k), stream(seed=seed + k), VALIDATION, JUDGE) for k in range(count)]


def optimizer_at(rate):
    return AdamW(rate)


def test_the_grid_is_every_pair_on_every_task():
    problems = tasks(4)
    found = tune_horizon(
        problems,
        optimizer_at,
        learning_rates=[1e-2, 3e-2],
        horizons=[0, 2, None],
        keep=0.5,
        rng=np.random.default_rng(0),
    )
    for (row, column, k), loss in np.ndenumerate(found.losses):
        task, rate, horizon = problems[k], found.learning_rates[row], found.horizons[column]
        chosen = select(NET, task.candidates, VALIDATION, AdamW(rate), start=task.start, keep=0.5, horizon=horizon)
        assert loss == NET.loss(chosen.final, JUDGE).mean()
        assert found.multiples[row, column] == pytest.approx(chosen.multiple)
    assert found.random.shape == (2, 4)
    assert np.isfinite(found.random).all()
    gain = found.gain(3e-2, 2)
    assert gain.mean == pytest.approx(np.mean(found.random[1] - found.losses[1, 1]))
    gain = found.gain(3e-2, 2, at_equal="compute")
    assert gain.mean == pytest.approx(np.mean(found.longer[1, 1] - found.losses[1, 1]))


def test_random_selection_for_longer_is_a_plain_loop_that_stops_at_the_lowest_validation_loss():
    task, optimizer, ends = tasks(1)[0], AdamW(3e-2), [3, 8, 21]
    found = dict(
        zip(ends, task.longer(optimizer, [e / 8 for e in ends], keep=0.5, rng=np.random.default_rng(5)), strict=True)
    )
    assert len(task.candidates) == 8
    rng, state, visited = np.random.default_rng(5), optimizer.start(task.start), []
    for t in range(21):
        kept = task.candidates[t % 8][np.sort(rng.choice(6, 3, replace=False))]
        state = optimizer.at(t, state[0])(state, NET.gradient(state[0], kept, np.full(3, 1 / 3)))
        if t + 1 in (3, 8, 16, 21):
            visited.append((NET.loss(state[0], VALIDATION).mean(), state[0]))
        if t + 1 in ends:
            np.testing.assert_allclose(found[t + 1][0], state[0], rtol=1e-12)
            np.testing.assert_allclose(found[t + 1][1], min(visited, key=lambda pair: pair[0])[1], rtol=1e-12)


def test_the_recipe_says_when_the_compute_is_better_spent_on_steps():
    noise = 0.02 * np.random.default_rng(0).standard_normal((3, 8))
    won, lost = horizon_map(1.0 + noise, longer=1.5), horizon_map(1.0 + noise, longer=0.5)
    assert won.pays(1e-3)
    assert not lost.pays(1e-3)
    assert "train on random samples for longer" not in won.recipe()
    assert lost.recipe().endswith("at equal compute: train on random samples for longer instead")
    assert lost.table()[0]["gain_over_random"].startswith("+1.9")
    assert lost.table()[0]["gain_at_equal_compute"].startswith("-0.5")


def test_halving_runs_the_better_half_on_twice_the_tasks():
    how = {
        "learning_rates": [1e-4, 1e-2, 3e-2],
        "horizons": [0, 1],
        "keep": 0.5,
    }
    whole = tune_horizon(tasks(8), optimizer_at, **how, rng=np.random.default_rng(0))
    part = tune_horizon(tasks(8), optimizer_at, **how, rng=np.random.default_rng(0), search="halving")
    ran = ~np.isnan(part.losses)
    assert np.array_equal(part.losses[ran], whole.losses[ran])
    assert sorted(ran.sum(2).ravel()) == [3, 3, 3, 4, 8, 8]
    early = whole.losses[:, :, :3].mean(2)
    assert set(map(tuple, np.argwhere(ran.sum(2) > 3))) == set(
        map(tuple, np.argwhere(early <= np.sort(early.ravel())[2]))
    )
    assert part.recipe().count("\n") == 2


def horizon_map(losses, longer=3.0, multiples=(2.0, 5.0, 30.0)):
    losses = np.array(losses, float)
    random, longer = np.full((1, losses.shape[-1]), 3.0), np.full((1, *losses.shape), longer)
    return HorizonMap((1e-3,), (0, 4, None), losses[None], random, longer, np.array([multiples]), "AdamW")


def test_the_recipe_takes_the_cheapest_horizon_that_shows_no_difference():
    noise = 0.02 * np.random.default_rng(0).standard_normal((3, 8))
    noise -= noise.mean(1, keepdims=True)
    same = horizon_map(2.0 + noise)
    assert same.cheapest(1e-3) == 0
    assert same.table()[0]["gain_over_best"].startswith(("no difference", "best"))
    better = horizon_map(np.array([2.0, 1.0, 0.99])[:, None] + noise)
    assert (better.best(1e-3), better.cheapest(1e-3)) == (None, 4)
    line = better.recipe()
    assert line.startswith(
        "at lr 0.001: K = 4 with AdamW geometry; costs 5× a plain step in sample gradients; gain over"
    )
    assert "against K = to the end: no difference" in line
    noisy = horizon_map(np.array([1.2, 1.9, 1.0])[:, None] + noise * np.array([[1], [100], [1]]))
    assert noisy.table()[1]["gain_over_best"].startswith("no difference")
    assert noisy.cheapest(1e-3) is None  # K = 4 shows no difference from the best for being noisy, and is worse than 0
    best = horizon_map(np.array([2.0, 1.0, 0.5])[:, None] + noise)
    assert best.cheapest(1e-3) is None
    assert "no difference" not in best.recipe()


def test_the_gain_of_the_choice_is_measured_on_runs_left_out():
    losses = 2.0 + np.random.default_rng(3).standard_normal((3, 6)) * np.array([[0.5], [0.1], [0.1]])
    found = horizon_map(losses)
    gains = []
    for k in range(6):
        rest = horizon_map(np.delete(losses, k, axis=1))
        gains.append(3.0 - losses[rest.horizons.index(rest.cheapest(1e-3)), k])
    assert found.chosen_gain(1e-3).mean == pytest.approx(np.mean(gains))


def test_a_choice_that_hangs_on_one_run_is_not_judged_on_it():
    found = horizon_map([[2.0, 2.0, 2.0], [1.0, 1.1, 0.9], [4.0, 4.0, 4.0]])
    assert found.cheapest(1e-3) == 4  # on three runs; on any two of them the interval covers zero
    assert found.gain(1e-3, 4).mean == pytest.approx(2.0)
    assert found.chosen_gain(1e-3).mean == pytest.approx(1.0)
