"""Wrong inputs and networks without an optimum: what is wrong, with the numbers, and what to do."""

import numpy as np
import pytest
from support.networks.shallow_problems import teacher, trained

from trak_theory.errors import ConvergenceError
from trak_theory.shallow import (
    DeadNetworkError,
    IndefiniteHessianError,
    RandomFeatures,
    TwoLayer,
    leave_one_out,
    margin_glm,
    predict_linearisation_error,
    retrain,
    shallow_ladder,
    tangent_glm,
)

INPUTS, TARGETS, QUERIES, _ = teacher(0, n=20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"width": 2.5}, "width must be an integer"),
        ({"ridge": 0.0}, "ridge must be positive, got 0"),
        ({"ridge": -1.0}, "ridge must be positive, got -1"),
        ({"scale": 0.0}, "scale must be positive"),
        ({"activation": "sine"}, "unknown activation 'sine': choose one of"),
        ({"centre": "start"}, "unknown centre 'start'"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"classes": 3}, "scalar losses have one output"),
        ({"loss": "logistic"}, "logistic targets must be 0 or 1"),
        ({"loss": "softmax"}, "softmax labels must be integers"),
        ({"targets": TARGETS[:5]}, "targets has 5 values for n = 20 inputs"),
        ({"targets": np.r_[TARGETS[:-1], np.nan]}, "targets has 1 non-finite entries"),
        ({"inputs": INPUTS[:0]}, "inputs is empty"),
        ({"inputs": INPUTS[:1], "targets": TARGETS[:1]}, "one training point only"),
    ],
)
def test_a_wrong_model_is_refused(change, message):
    options = {"inputs": INPUTS, "targets": TARGETS, "width": 3, "ridge": 1.0} | change
    with pytest.raises((ValueError, TypeError), match=message):
        TwoLayer(options.pop("inputs"), options.pop("targets"), **options)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.arange(20) % 3 - 1.0, None, r"integers 0 … 1; 7 of 20 are not, first: targets\[0\] = -1"),
        (np.arange(20) % 3 + 0.5, None, "softmax labels must be integers"),
        (np.arange(20) % 3 + 0.0, 2, r"integers 0 … 1; 6 of 20 are not, first: targets\[2\] = 2"),
        (np.zeros(20), None, "at least two classes"),
    ],
)
def test_wrong_labels_are_refused(labels, classes, message):
    with pytest.raises(ValueError, match=message):
        TwoLayer(INPUTS, labels, width=3, ridge=1.0, loss="softmax", classes=classes)


def test_a_wrong_start_is_refused():
    model = TwoLayer(INPUTS, TARGETS, width=3, ridge=1.0)
    with pytest.raises(ValueError, match="start has 4 values for p = 16 parameters"):
        model.fit(np.zeros(4))


def test_wrong_queries_are_refused():
    fit, _ = trained(0, loss="softmax")
    with pytest.raises(ValueError, match="query inputs have width 2, the network takes d = 3"):
        fit.at(QUERIES[:, :2], np.zeros(len(QUERIES)))
    with pytest.raises(ValueError, match="softmax queries need labels"):
        fit.at(QUERIES)
    with pytest.raises(ValueError, match=r"integers 0 … 2; 8 of 8 are not"):
        fit.at(QUERIES, np.full(len(QUERIES), 3))
    with pytest.raises(ValueError, match="query targets has 2 values for q = 8 inputs"):
        fit.at(QUERIES, np.zeros(2))


def test_wrong_rows_are_refused():
    fit, queries = trained(0, n=20)
    for rows in (np.array([20]), np.array([-1]), np.array([0.5])):
        with pytest.raises(ValueError, match="rows must be point numbers in 0 … 19"):
            leave_one_out(fit, queries, rows=rows)
        with pytest.raises(ValueError, match="rows must be point numbers in 0 … 19"):
            retrain(fit, queries, rows=rows)


def test_margins_and_blocks_are_not_confused():
    scalar, queries = trained(0, n=20)
    many, _ = trained(0, n=20, loss="softmax")
    with pytest.raises(ValueError, match="a scalar loss has one output already"):
        shallow_ladder(scalar, queries, k=3, output="margin", rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="the margin is TRAK's output for a softmax"):
        margin_glm(scalar)
    with pytest.raises(ValueError, match="block of outputs for each point"):
        tangent_glm(many)


def test_a_truth_of_other_points_is_refused():
    fit, queries = trained(0, n=20)
    truth = leave_one_out(fit, queries, rows=np.arange(5))
    with pytest.raises(ValueError, match=r"truth covers \(5, 8\) of \(20, 8\) points and queries"):
        shallow_ladder(fit, queries, k=3, truth=truth, rng=np.random.default_rng(0))


def test_a_kink_at_the_minimum_is_no_stationary_point():
    """y = |x − 0.1| + noise pulls a ReLU's kink onto a training point."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((60, 3))
    model = TwoLayer(inputs, np.abs(inputs[:, 0] - 0.1), width=6, activation="relu", ridge=0.5)
    with pytest.raises(ConvergenceError, match=r"no stationary point reached: gradient norm .* kink of σ"):
        model.fit(model.initial(np.random.default_rng(0)))


def test_too_large_a_ridge_kills_every_unit():
    model = TwoLayer(INPUTS, TARGETS, width=3, ridge=1e3)
    with pytest.raises(DeadNetworkError, match="all 3 hidden units are constant on the 20 training points"):
        model.fit(model.initial(np.random.default_rng(0)))


def test_dead_units_are_named():
    fit, _ = trained(2, ridge=6.0)
    _, weights, _ = fit.model.network.split(fit.theta)
    alive = np.setdiff1d(np.arange(5), fit.dead_units)
    assert fit.dead_units.size > 0
    assert np.all(np.linalg.norm(weights[:, fit.dead_units], axis=0) < 1e-6)
    assert np.all(np.linalg.norm(weights[:, alive], axis=0) > 1e-2)


def test_a_flat_minimum_is_refused():
    """More units than data and a ridge below rounding: a valley, no strict minimum."""
    model = TwoLayer(INPUTS[:4], TARGETS[:4], width=6, ridge=1e-14)
    with pytest.raises(ConvergenceError) as error:
        model.fit(model.initial(np.random.default_rng(0)))
    assert isinstance(error.value, IndefiniteHessianError) or "gradient norm" in str(error.value)
    assert "larger ridge" in str(error.value)


def test_relu_has_no_prediction():
    inputs, targets, queries, _ = teacher(1, n=20)
    model = TwoLayer(inputs, targets, width=2, activation="relu", ridge=1.0, centre="initial")
    start = model.initial(np.random.default_rng(0))
    start[: 2 * 4].reshape(2, 4)[:, -1] = 30.0  # every unit active everywhere: linear, no kink in reach
    fit = model.fit(start)
    with pytest.raises(ValueError, match="relu has no second derivative at its kinks"):
        predict_linearisation_error(fit, fit.at(queries))
    assert np.isinf(leave_one_out(fit, fit.at(queries)).radius).all()


def test_rows_that_fail_say_why_and_carry_no_number(monkeypatch):
    import trak_theory.shallow.truth as truth_module

    fit, queries = trained(0, n=20)

    def failing(*_):
        raise ConvergenceError("a reason")

    monkeypatch.setattr(truth_module, "stationary_point", failing)
    truth = retrain(fit, queries, rows=np.array([3]))
    assert truth.unresolved == {3: "leaving out point 3: a reason"}
    assert np.isnan(truth.influence).all()
    assert np.isinf(truth.radius).all()
    assert np.isinf(truth.distance).all()


def test_random_features_check_their_inputs():
    layer = RandomFeatures.draw(3, 4, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="inputs have width 2, the features take 3"):
        layer.features(INPUTS[:, :2])
    with pytest.raises(ValueError, match="width must be at least 1"):
        RandomFeatures.draw(3, 0, rng=np.random.default_rng(0))
