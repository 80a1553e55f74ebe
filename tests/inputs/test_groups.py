"""Groups that cannot be left out are named, one by one, and the others keep their results."""

import numpy as np
import pytest
from support.problems import queries_for, random_glm

from trak_theory import GLM, leave_group_out

BAD = {
    "empty": [],
    "repeats the index 4": [4, 9, 4],
    "holds every point": list(range(30)),
    "holds the index 30, outside 0 … 29": [2, 30],
    "holds the index -1": [-1],
    "list of integers": [0.5],
    "shape": [[1, 2], [3, 4]],
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_group_is_named_and_nothing_is_lost_for_the_others(reason):
    glm = random_glm(1, n=30, p=4)
    fit, queries = glm.fit(), queries_for(glm, 1)
    good = [[1], [2, 5]]
    alone = leave_group_out(fit, good, queries)
    found = leave_group_out(fit, [good[0], BAD[reason], good[1]], queries)
    assert list(found.unresolved) == [1]
    assert found.unresolved[1].startswith("group 1 ")
    assert reason in found.unresolved[1]
    assert np.isnan(found.influence[1]).all()
    assert np.isinf(found.radius[1]).all()
    assert np.array_equal(found.influence[[0, 2]], alone.influence)
    assert np.array_equal(found.radius[[0, 2]], alone.radius)


def test_a_group_whose_removal_separates_the_data_is_named():
    inputs = np.array([-3.0, -2, -1, 1, 2, 3, 0.5, -0.5])
    labels = np.array([0.0, 0, 0, 1, 1, 1, 0, 1])
    fit = GLM(inputs[:, None], labels, loss="logistic").fit()
    found = leave_group_out(fit, [[6, 7], [0], [0, 5]], np.ones((1, 1)))
    assert list(found.unresolved) == [0]
    assert "separable" in found.unresolved[0]
    assert np.isfinite(found.radius[1:]).all()


def test_a_group_that_alone_determines_a_coefficient_is_named():
    features = np.column_stack([np.ones(6), np.arange(6) < 2])
    fit = GLM(features, np.arange(6.0)).fit()
    found = leave_group_out(fit, [[0, 1], [0]], np.eye(2))
    assert list(found.unresolved) == [0]
    assert "without group 0 of 2 points" in found.unresolved[0]
    assert np.isfinite(found.radius[1]).all()


def test_all_points_but_those_without_weight_are_everything():
    fit = GLM(np.eye(3), np.ones(3), ridge=1.0, weights=[1.0, 1.0, 0.0]).fit()
    assert "every point of any weight (2 of 3)" in leave_group_out(fit, [[0, 1]], np.eye(3)).unresolved[0]


def test_no_groups_give_no_rows():
    glm = random_glm(1, n=30, p=4)
    assert leave_group_out(glm.fit(), [], queries_for(glm, 1)).influence.shape == (0, 5)
