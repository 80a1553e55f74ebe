"""The displacement series and the predicted linearisation error: their orders, and the prediction against the truth."""

import numpy as np
import pytest
from scipy.stats import rankdata
from support.networks.shallow_problems import teacher, trained

from trak_theory import agreement
from trak_theory.shallow import TwoLayer, kernel_machine, leave_one_out, linearize, predict_linearisation_error
from trak_theory.shallow.series import displacement

COPIES = np.array([8, 16, 32])


def copies_of(count, loss, ridge):
    """The same θ̂ with `count` copies of every point and of the ridge: leaving one out moves it by O(1/count)."""
    inputs, targets, query_inputs, query_targets = teacher(0, n=16, loss=loss)
    model = TwoLayer(
        np.tile(inputs, (count, 1)),
        np.tile(targets, count),
        width=4,
        loss=loss,
        ridge=ridge * count,
        **({"classes": 3} if loss == "softmax" else {}),
    )
    fit = model.fit(model.initial(np.random.default_rng(1)))
    return fit, fit.at(query_inputs, query_targets if loss == "softmax" else None)


@pytest.mark.parametrize(("loss", "ridge"), [("squared", 0.6), ("logistic", 1.5), ("softmax", 1.5)])
def test_orders_in_the_number_of_copies(loss, ridge):
    rows, errors = np.arange(6), []
    for count in COPIES:
        fit, queries = copies_of(count, loss, ridge)
        truth = leave_one_out(fit, queries, rows=rows)
        series, predicted = (
            displacement(fit.objective, fit.theta, rows),
            predict_linearisation_error(fit, queries, rows=rows),
        )
        moved = truth.theta - fit.theta
        machine = kernel_machine(fit, queries)[rows]
        errors.append(
            [
                np.linalg.norm(moved),
                np.linalg.norm(moved - series.first),
                np.linalg.norm(moved - series.first - series.second),
                np.linalg.norm(truth.influence - machine),
                np.linalg.norm(truth.influence - machine - predicted.total),
            ]
        )
    orders = -np.polyfit(np.log(COPIES), np.log(errors), 1)[0]
    # Kernel machine and network differ at first order already (Σ r∇²f); the prediction leaves a third-order error.
    np.testing.assert_allclose(orders, [1, 2, 3, 1, 3], atol=0.35)


def test_the_parts_of_the_prediction_add_up_and_a_wrong_sign_is_seen():
    fit, queries = trained(0, ridge=6.0)
    error = leave_one_out(fit, queries).influence - kernel_machine(fit, queries)
    predicted = predict_linearisation_error(fit, queries)
    right = agreement(error, predicted.total).relative_error
    parts = predicted.dropped_curvature, predicted.query_curvature, predicted.path_curvature
    np.testing.assert_array_equal(predicted.total, sum(parts))
    for k in range(3):
        wrong = [-part if j == k else part for j, part in enumerate(parts)]
        assert agreement(error, sum(wrong)).relative_error > 1.5 * right


def partial_spearman(one, two, others):
    """Rank correlation of `one` and `two` given the ranks of `others`."""
    basis = np.column_stack([np.ones(len(one)), *map(rankdata, others)])
    left = [r - basis @ np.linalg.lstsq(basis, r, rcond=None)[0] for r in (rankdata(one), rankdata(two))]
    return np.corrcoef(left)[0, 1]


def diabetes():
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return data.data * 20, (data.target - data.target.mean()) / data.target.std(), "squared", 10.0


def breast_cancer():
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return (data.data - data.data.mean(0)) / data.data.std(0), data.target.astype(float), "logistic", 2.0


@pytest.mark.slow
@pytest.mark.parametrize("data", [diabetes, breast_cancer])
def test_the_prediction_without_retraining_against_the_truth(data):
    """Signed slope in [.8, 1.25] on the trusted rows, which are most; ranks beyond |influence| and leverage."""
    inputs, targets, loss, ridge = data()
    order = np.random.default_rng(0).permutation(len(targets))
    training, held_out = order[:200], order[200:220]
    model = TwoLayer(inputs[training], targets[training], width=6, loss=loss, ridge=ridge)
    fit = model.fit(model.initial(np.random.default_rng(1)))
    queries = fit.at(inputs[held_out])
    truth, machine = leave_one_out(fit, queries).influence, kernel_machine(fit, queries)
    predicted = predict_linearisation_error(fit, queries)
    kept = predicted.trusted & np.isfinite(truth).all(1)
    assert kept.mean() > 0.7
    error, total = (truth - machine)[kept], predicted.total[kept]
    assert 0.8 <= agreement(error, total).slope <= 1.25
    leverage = linearize(fit, queries).lin.leverage[kept]
    given = [
        partial_spearman(np.abs(error[:, j]), np.abs(total[:, j]), (np.abs(machine[kept, j]), leverage))
        for j in range(queries.count)
    ]
    assert np.mean(given) > 0.5
