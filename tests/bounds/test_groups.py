"""Radii of leave_group_out: on hostile problems in sixty digits, where they are tight, and what breaks if halved."""

import numpy as np
import pytest

from simulations.workloads.hostile_problems import CONTEXT, hostile_problems
from simulations.workloads.truth_in_60_digits import NoUniqueMinimiserError
from trak_theory import GLM, leave_group_out
from trak_theory.loo.certificates import certificate_for
from trak_theory.loo.solving.group_problems import certificate_without

GROUPS_OF_A_PROBLEM = 3


def ratios_on_hostile_problems(count, seed):
    """Error/radius of every finite entry; inf where a radius is finite and no minimiser exists."""
    rng = np.random.default_rng(seed)
    found = []
    for problem, _ in zip(hostile_problems(rng), range(count), strict=False):
        try:
            fit = problem.glm().fit()
        except (ValueError, RuntimeError):  # one class only, no minimiser, singular, not converged
            continue
        n = len(fit.glm.targets)
        groups = [rng.choice(n, int(rng.integers(1, n)), replace=False) for _ in range(GROUPS_OF_A_PROBLEM)]
        answer, truth = leave_group_out(fit, groups, problem.queries), problem.truth(fit.coef)
        for g, group in enumerate(groups):
            finite = np.flatnonzero(np.isfinite(answer.radius[g]))
            assert g in answer.unresolved or finite.size == len(problem.queries)
            if finite.size:
                found += ratios(truth, group, problem.queries, answer, g)
    return np.array(found)


def ratios(truth, group, queries, answer, g):
    try:
        exact = truth.influence(tuple(group.tolist()), queries, answer.coef[g])
    except NoUniqueMinimiserError:
        return [np.inf]
    errors = [abs(e - CONTEXT.mpf(float(i))) for e, i in zip(exact, answer.influence[g], strict=True)]
    radii = map(float, answer.radius[g])
    return [float(error / r) if r else (np.inf if error else 0.0) for error, r in zip(errors, radii, strict=True)]


def test_no_radius_is_false_on_hostile_problems():
    found = ratios_on_hostile_problems(60, seed=3)
    assert found.size > 1000
    assert found.max() <= 1


@pytest.mark.slow
def test_no_radius_is_false_on_many_hostile_problems():
    found = ratios_on_hostile_problems(900, seed=4)
    assert found.size > 20_000
    assert found.max() <= 1


def test_a_radius_is_near_the_error_and_half_of_it_is_false():
    """Counts with an intercept alone: Newton's step past the minimiser, where the certificate is an equality."""
    counts = np.array([0.0, 0.0, 0.0, 4.0, 6.0, 5.0, 7.0, 3.0])
    fit = GLM(np.ones((8, 1)), counts, loss="poisson").fit()
    certificate = certificate_without(certificate_for(fit, np.ones((1, 1)), sharp=False), [np.array([0, 1])]).sharp
    problems = certificate.evaluator.problems
    block = np.array([0])
    points = problems.newton_points(block)
    dual_norm, _ = certificate.evaluator.dual_norms(block)
    (_, bound), _ = certificate.near(block, certificate.evaluator.evaluate(block, points, dual_norm))
    exact = np.log(counts[2:].mean()) - np.log(counts.mean())
    hessian = counts.sum() * (6 / 8)
    distance = np.sqrt(hessian) * abs(abs(points[0, 0]) / np.sqrt(counts.sum()) - exact)
    assert distance <= bound[0]
    assert not distance <= bound[0] / 1.5
    assert distance > 0.5 * bound[0]


def test_sharp_reach_is_smaller_and_still_covers_every_remaining_row():
    rng = np.random.default_rng(0)
    fit = GLM(rng.standard_normal((30, 4)), np.arange(30) % 2, loss="logistic", ridge=0.1).fit()
    groups = [np.array([0, 5, 9]), np.arange(14)]
    loose = certificate_without(certificate_for(fit, np.eye(4), sharp=False), groups).evaluator
    sharp = certificate_without(certificate_for(fit, np.eye(4), sharp=False), groups).sharp.evaluator
    for g, group in enumerate(groups):
        keep = np.setdiff1d(np.arange(30), group)
        rows = fit.glm.features[keep]
        hessian = (rows.T * fit.curvature[keep]) @ rows + 0.1 * np.eye(4)
        largest = np.sqrt(np.einsum("ip,ip->i", rows, np.linalg.solve(hessian, rows.T).T).max())
        block = np.array([g])
        assert largest <= sharp.dual_norms(block)[0][0] <= largest * (1 + 1e-9)
        assert sharp.dual_norms(block)[0][0] <= loose.dual_norms(block)[0][0] * (1 + 1e-12)
