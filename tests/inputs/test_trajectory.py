"""Bad input to the trajectory tools: every refusal and its message."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, epochs, queries, small_glm, small_network, small_run, start

from trak_theory.trajectory import (
    MLP,
    SGD,
    Adam,
    AdamW,
    Query,
    attribute,
    forward,
    from_torch,
    retrain_without,
    train,
)

NET = small_network()
RUN = small_run(NET, OPTIMIZERS["adamw"])


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([[0, 24]], ValueError, r"batch 0 names sample 24, the objective has samples 0 … 23"),
        ([[0, 1], [-1, 2]], ValueError, r"batch 1 names sample -1"),
        ([[0, 1], []], ValueError, r"batch 1 must be a non-empty list of sample indices, got shape \(0,\)"),
        ([[0.0, 1.0]], TypeError, r"batch 0 must hold integer sample indices, got dtype float64"),
        ([], ValueError, r"at least one batch"),
    ],
)
def test_batches_are_checked(batches, error, message):
    with pytest.raises(error, match=message):
        train(NET, start(NET), batches, AdamW())


def test_the_start_is_checked():
    with pytest.raises(ValueError, match=r"theta0 has shape \(3,\), the objective has p = 39 parameters"):
        train(NET, np.zeros(3), epochs(NET, 6, 1), AdamW())
    broken = start(NET)
    broken[4] = np.nan
    with pytest.raises(ValueError, match="theta0 has non-finite entries"):
        train(NET, broken, epochs(NET, 6, 1), AdamW())


def test_a_run_that_leaves_the_finite_numbers_names_its_step():
    glm = small_glm(loss="squared")
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"step \d+: θ is not finite .*the batch loss is (inf|nan)"),
    ):
        train(glm, start(glm), epochs(glm, 6, 200), SGD(1e3))
    features = NET.features.copy()
    bad = MLP(features, NET.labels, hidden=(4,), classes=3)
    bad.features[9, 2] = np.nan
    step = next(t for t, batch in enumerate(epochs(bad, 6, 1)) if 9 in batch)
    with pytest.raises(FloatingPointError, match=rf"step {step}: .*the batch loss is nan"):
        train(bad, start(bad), epochs(bad, 6, 1), AdamW())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.1, nesterov=True), "Nesterov momentum needs momentum > 0 and dampening 0"),
        (lambda: SGD(-0.1), r"lr must lie in \[0, ∞\), got -0.1"),
        (lambda: AdamW(betas=(0.9, 1.0)), r"betas must lie in \[0, 1\), got \(0.9, 1.0\)"),
        (lambda: Adam(weight_decay=float("nan")), "weight_decay must lie in"),
        (lambda: AdamW(clip_norm=0.0), "clip_norm must be positive, got 0"),
        (
            lambda: AdamW(groups=[(slice(3), {"momentum": 0.9})]),
            r"AdamW cannot vary 'momentum' in group slice\(None, 3, None\)",
        ),
        (lambda: AdamW(groups=[(slice(3), {"lr": -1})]), r"lr in group .* must lie in"),
        (lambda: from_torch("RMSprop", []), "torch.optim.RMSprop is not covered; Adam"),
        (lambda: from_torch("NAdam", []), "torch.optim.NAdam is not covered; train with Adam or AdamW"),
        (lambda: from_torch("Adafactor", []), "torch.optim.Adafactor is not covered; train with AdamW"),
        (lambda: from_torch("ASGD", []), "torch.optim.ASGD is not covered; choose torch.optim.SGD, Adam, AdamW, Muon"),
        (
            lambda: from_torch("SGD", [(slice(3), {"lr": 0.1, "maximize": True})]),
            "SGD's option maximize = True is not covered",
        ),
        (
            lambda: from_torch(
                "AdamW", [(slice(3), {"lr": 0.1, "amsgrad": True}), (slice(3, 5), {"lr": 0.1, "amsgrad": False})]
            ),
            "AdamW's option amsgrad differs between parameter groups",
        ),
    ],
)
def test_optimisers_refuse_what_they_do_not_cover(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_options_without_effect_on_the_numbers_are_accepted():
    options = {"lr": 0.1, "foreach": True, "fused": None, "capturable": False, "maximize": False}
    assert from_torch("AdamW", [(slice(3), options)]).lr == 0.1
    assert type(from_torch("Adam", [(slice(3), {"lr": 0.1, "decoupled_weight_decay": True})])) is AdamW


def test_a_schedule_that_is_too_short_is_named():
    with pytest.raises(ValueError, match="the schedule has 2 values and was asked for step 2"):
        small_run(NET, SGD(0.1, schedule=[1.0, 0.5]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": -1}, "horizon must be an integer ≥ 0, or None for the end of the run, got -1"),
        ({"horizon": 1.5}, "horizon must be an integer ≥ 0"),
        ({"damping": 1.1}, r"damping must lie in \[0, 1\], got 1.1"),
        ({"estimator": "three-step"}, "estimator must be one of 'two-step', .*, got 'three-step'"),
        ({"curvature": "fisher"}, "curvature must be one of 'exact', 'ggn', 'none', got 'fisher'"),
        ({"removal": "drop"}, "removal must be one of 'keep', 'renormalise', got 'drop'"),
        ({"occurrences": "first"}, "occurrences must be one of 'all', 'each', got 'first'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        attribute(RUN, queries(NET), **settings)


def test_queries_are_checked():
    with pytest.raises(ValueError, match=r"shape \(p,\) or \(p, q\) with p = 39, got \(5, 1\)"):
        attribute(RUN, np.ones(5))
    with pytest.raises(ValueError, match="the query's gradient has 4 entries, θ has p = 39"):
        attribute(RUN, Query(lambda theta: 0.0, lambda theta: np.ones(4)))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[]], r"a group must be a non-empty list of sample indices, got \[\]"),
        ([[24]], "a group names sample 24, the objective has samples 0 … 23"),
        ([[0.5]], "a group must be a non-empty list of sample indices"),
    ],
)
def test_groups_are_checked(groups, message):
    with pytest.raises(ValueError, match=message):
        retrain_without(RUN, groups)


def test_a_batch_that_would_be_empty_has_no_mean():
    run = train(NET, start(NET), [[0, 1], [2], [3, 3]], AdamW())
    for sample, step in ((2, 1), (3, 2)):
        with pytest.raises(ValueError, match=rf"leaves batch {step} \(size \d\) empty"):
            retrain_without(run, [[sample]], removal="renormalise")
        with pytest.raises(ValueError, match=rf"leaves batch {step} \(size \d\) empty"):
            forward(run, [sample], removal="renormalise")
    with pytest.raises(ValueError, match=r"leaves batch 0 .* empty"):
        retrain_without(run, [[0, 1]], removal="renormalise")
    with pytest.raises(ValueError, match='use removal="keep"'):
        attribute(run, queries(NET), removal="renormalise")
    assert np.all(np.isfinite(attribute(run, queries(NET)).influence))
    assert np.all(np.isfinite(retrain_without(run, [[0, 1]]).influence(queries(NET))))


def test_conventions_are_never_mixed():
    truth = retrain_without(RUN, [[0], [1]])
    for other in ({"removal": "renormalise"}, {"occurrences": "each"}):
        with pytest.raises(ValueError, match=r"the truth was retrained under .* the estimate made under"):
            truth.agreement(attribute(RUN, queries(NET), **other))


def test_a_retraining_that_diverges_is_named():
    glm = small_glm(loss="squared")
    glm = replace(glm, features=glm.features * np.where(np.arange(glm.n) == 0, 3e2, 1.0)[:, None])
    batches = [np.array([1, 2])] * 3 + [np.array([0, 0])]
    run = train(glm, np.zeros(glm.p), batches, AdamW(0.01))
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="1 of 1 retrainings did not stay finite"):
        retrain_without(replace(run, optimizer=SGD(1e200)), [[1]])  # only the retraining diverges


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1, 5], r"labels must be integers in 0 … 2"), ([0.5, 1, 2], "labels must be integers"), ([0, 1], "2 values")],
)
def test_labels_are_checked(labels, message):
    with pytest.raises(ValueError, match=message):
        MLP(np.ones((3, 2)), labels, hidden=(2,), classes=3)


def test_states_outside_the_run_are_refused():
    with pytest.raises(IndexError, match="state 13 was asked for, the run has states 0 … 12"):
        RUN.state(13)
