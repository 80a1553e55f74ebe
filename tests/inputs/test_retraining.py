"""Wrong subsets, outputs, replicates and twins are refused with what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from support.networks.random_networks import random_block
from support.problems import random_glm

from trak_theory import Linearization
from trak_theory.retraining import block_twin, compare, lds, membership, stack, twin

RNG = np.random.default_rng(0)
SCORES, OUTPUTS = RNG.standard_normal((10, 3)), RNG.standard_normal((8, 3))
SUBSETS = np.argsort(RNG.random((8, 10)), axis=1)[:, :5]


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        (np.ones((8, 10), bool), "subset 0 is a mask; give indices"),
        ([[0, 1], [2.5]], "subset 1 must hold integer indices, got dtype float64"),
        ([[0, 1], [0, 10]], r"subset 1 spans \[0, 10\], the points are 0 … 9"),
        ([[0, 1], [-1]], r"subset 1 spans \[-1, -1\]"),
        ([[0, 1], []], r"subset 1 must be a non-empty row of indices, got shape \(0,\)"),
        ([], "there are no subsets"),
        ([3, 4], r"subset 0 must be a non-empty row of indices, got shape \(\)"),
    ],
)
def test_subsets(subsets, message):
    with pytest.raises((ValueError, TypeError), match=message):
        membership(subsets, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": OUTPUTS.T}, r"outputs have shape \(3, 8\); 8 subsets and 3 columns of scores need \(8, 3\)"),
        ({"outputs": np.where(OUTPUTS > 2, np.nan, np.inf)}, "outputs has 24 non-finite entries"),
        (
            {"subsets": SUBSETS[:4], "outputs": OUTPUTS[:4]},
            "4 subsets cannot give a rank .* at least 5",
        ),
        ({"replicates": OUTPUTS[None]}, "the only replicate equals the outputs"),
        ({"replicates": OUTPUTS[None, :, :2]}, r"replicates have shape \(1, 8, 2\), expected \(R, 8, 3\)"),
        ({"replicates": OUTPUTS}, "replicates must have 3 axes"),
    ],
)
def test_lds(change, message):
    arguments = {"scores": SCORES, "subsets": SUBSETS, "outputs": OUTPUTS, **change}
    with pytest.raises(ValueError, match=message):
        lds(**arguments)


def test_few_subsets_come_with_a_warning():
    assert lds(SCORES, SUBSETS, OUTPUTS).warnings == ("8 subsets: intervals were tested from 20 on",)


def test_levels_and_scores_to_compare():
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\), got 95"):
        lds(SCORES, SUBSETS, OUTPUTS).interval(95)
    with pytest.raises(ValueError, match="subset 0 spans"):
        compare(SCORES, SCORES[:5], SUBSETS, OUTPUTS)
    with pytest.raises(ValueError, match=r"shapes \(10, 3\) and \(11, 3\) cannot be compared"):
        compare(SCORES, np.vstack([SCORES, SCORES[:1]]), SUBSETS, OUTPUTS)


GLM = random_glm(0, n=12, p=3)
FIT = GLM.fit()
LIN = FIT.linearize(np.eye(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"residual\[\d+\] = 0.\d+ is none of the logistic loss with target 1"),
        ({"targets": np.ones(5)}, r"targets have shape \(5,\) for n = 12"),
        ({"targets": np.full(12, 2.0)}, "logistic targets must be 0 or 1; 12 of"),
        ({"targets": GLM.targets, "outputs": FIT.outputs + 1.0}, r"curvature\[\d+\]|residual\[\d+\]"),
        ({"targets": GLM.targets, "outputs": FIT.outputs[:4]}, r"outputs have shape \(4,\)"),
        ({"targets": GLM.targets, "loss": "squared"}, r"curvature\[\d+\] = .* is not that of the loss"),
        ({"targets": GLM.targets, "loss": "poisson"}, "poisson loss; pass outputs"),
        ({"targets": GLM.targets, "loss": "hinge"}, "unknown loss 'hinge'"),
    ],
)
def test_twin(arguments, message):
    with pytest.raises(ValueError, match=message):
        twin(LIN, 1.0, **arguments)


def test_twin_ridge_weights_and_labels():
    with pytest.raises(ValueError, match="training ridge must be finite and > 0, got 0"):
        twin(LIN, 0.0, targets=GLM.targets)
    model = twin(LIN, 1.0, targets=GLM.targets)
    with pytest.raises(ValueError, match=r"weights have shape \(2, 5\), the twin was trained on 12 points"):
        model.reweight(np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"weights\[1\] are all 0"):
        model.reweight(np.stack([np.ones(12), np.zeros(12)]))
    with pytest.raises(ValueError, match="weights must be ≥ 0"):
        model.reweight(-np.ones((1, 12)))
    with pytest.raises(ValueError, match=r"targets have shape \(5,\)"):
        model.relabel(np.ones(5))
    with pytest.raises(ValueError, match="logistic targets must be 0 or 1"):
        model.relabel(np.full(12, 0.5))
    with pytest.raises(ValueError, match="targets must have 1 axes"):
        model.relabel(np.ones((2, 12)))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_has_a_minimiser_with_a_ridge(label):
    own = np.full(12, 0.7)
    lin = replace(LIN, residual=own - label, curvature=own * (1 - own))
    model = twin(lin, 1.0, targets=np.full(12, label))
    assert np.isfinite(model.refit([[0, 1]])).all()
    assert model.captured == 1.0


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_outputs_of_another_model_are_noticed_in_any_unit(unit):
    targets, outputs = unit * RNG.standard_normal((2, 12))
    lin = Linearization(LIN.features, outputs - targets, np.ones(12), 1.0, np.eye(3))
    assert np.isfinite(twin(lin, 1.0, loss="squared", targets=targets, outputs=outputs).refit([[0, 1]])).all()
    with pytest.raises(ValueError, match=r"\[\d+\] = .* is not that of the loss"):
        twin(lin, 1.0, loss="squared", targets=targets, outputs=1.1 * outputs)


def test_blocks():
    jacobian, probabilities, labels, queries = random_block(RNG, 6, 3, 5)
    with pytest.raises(ValueError, match="a rank needs rng"):
        block_twin(jacobian, probabilities, labels, queries, 1.0, rank=3)
    with pytest.raises(ValueError, match="labels span"):
        block_twin(jacobian, probabilities, labels + 3, queries, 1.0)
    with pytest.raises(ValueError, match="softmax labels must be integers 0 … 2"):
        block_twin(jacobian, probabilities, labels, queries, 1.0).relabel(labels + 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": OUTPUTS}, "candidates must have 3 axes"),
        (
            {"candidates": np.ones((2, 8, 4))},
            r"candidates have shape \(2, 8, 4\), outputs \(8, 3\); expected \(C, 8, 3\)",
        ),
        ({"candidates": np.full((2, 8, 3), np.nan)}, "candidates has 48 non-finite entries"),
        ({"candidates": np.ones((2, 4, 3)), "outputs": OUTPUTS[:4]}, "4 subsets cannot give weights .* at least 5"),
        ({"folds": 1}, "folds must be at least 2, got 1"),
        ({"folds": 0}, "folds must be at least 1, got 0"),
    ],
)
def test_stack(change, message):
    arguments = {"candidates": np.stack([OUTPUTS, OUTPUTS]), "outputs": OUTPUTS, "rng": RNG, **change}
    with pytest.raises(ValueError, match=message):
        stack(**arguments)


def test_a_stack_predicts_from_as_many_candidates_and_queries():
    found = stack(np.stack([OUTPUTS, OUTPUTS]), OUTPUTS, rng=RNG)
    with pytest.raises(ValueError, match=r"candidates have shape \(3, 8, 3\); the weights are of 2 candidates and 3 q"):
        found.predict(np.ones((3, 8, 3)))
