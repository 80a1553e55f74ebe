"""The laws refuse what they cannot describe, with the numbers."""

import numpy as np
import pytest
from scipy.special import expit

from trak_theory import Logistic, Loss
from trak_theory.errors import ConvergenceError
from trak_theory.laws.channels import Labels
from trak_theory.laws.lds_law import lds_law
from trak_theory.laws.proximal import proximal
from trak_theory.laws.rank_law import rank_law
from trak_theory.laws.state_evolution import state_evolution

STATE = {"n": 100, "p": 40, "ridge": 1.0, "signal": 1.0}
RANK = {**STATE, "k": 20}


class Plain(Loss):
    """The logistic loss under a name that no channel is known for."""

    name = "plain"
    value, residual, curvature, third = Logistic.value, Logistic.residual, Logistic.curvature, Logistic.third


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n": 0}, ValueError, "n must be at least 1"),
        ({"p": 2.5}, TypeError, "p must be an integer"),
        ({"ridge": -1.0}, ValueError, "ridge must be ≥ 0"),
        ({"ridge": np.nan}, ValueError, "ridge has 1 non-finite"),
        ({"signal": -2.0}, ValueError, "signal must be ≥ 0"),
        ({"signal": np.ones(7)}, ValueError, "signal has 7 coordinates for p = 40"),
        ({"spectrum": np.ones(7)}, ValueError, "spectrum has 7 eigenvalues for p = 40"),
        ({"spectrum": -np.ones(40)}, ValueError, "spectrum must be ≥ 0"),
        ({"spectrum": np.zeros(40)}, ValueError, "no feature varies"),
        ({"scales": np.zeros(100)}, ValueError, "scales must be positive, got 0"),
        ({"loss": "hinge"}, ValueError, "unknown loss 'hinge'"),
        ({"noise": 1.0}, ValueError, "noise = 1.0 has no meaning for the logistic loss"),
        ({"loss": "squared", "noise": -1.0}, ValueError, "label noise must be a finite standard deviation"),
        ({"loss": "squared", "noise": 0.0, "ridge": 0.0}, ConvergenceError, "labels without noise"),
        ({"p": 100, "ridge": 0.0}, ValueError, "100 coefficients, n = 100 points and ridge 0"),
        ({"p": 70, "ridge": 0.0, "signal": 3.0}, ConvergenceError, "relative residual .*separable data"),
        ({"channel": Labels((0.0, 1.0), lambda y, s: 0.4 + 0 * s)}, ValueError, "probabilities sum to 0.8, not 1"),
    ],
)
def test_state_evolution_refuses(changes, error, message):
    with pytest.raises(error, match=message):
        state_evolution(**{**STATE, **changes})


def test_a_loss_without_a_channel_needs_one():
    with pytest.raises(ValueError, match="pass channel"):
        state_evolution(**STATE, loss=Plain())
    state_evolution(**STATE, loss=Plain(), channel=Labels((0.0, 1.0), lambda y, s: expit((2 * y - 1) * s)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"k": 41}, "k = 41 exceeds p = 40"),
        ({"ensemble": 0}, "ensemble must be at least 1"),
        ({"projected_ridge": -1.0}, "projected_ridge must be ≥ 0"),
        ({"top": 0.0}, "top must lie in"),
        (
            {"p": 300, "k": 100},
            "no rank law applies: k = 100, n = 100, rank of the features 100, projected ridge μ = 0",
        ),
        ({"p": 300, "k": 150}, "choose a smaller k or μ > 0"),
        ({"k": 35, "spectrum": np.r_[np.ones(30), np.zeros(10)]}, "rank of the features 30"),
    ],
)
def test_rank_law_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        rank_law(**{**RANK, **changes})


def test_a_projected_ridge_makes_the_refused_law_exist():
    assert 0 < rank_law(**{**RANK, "p": 300, "k": 150, "projected_ridge": 1.0}).kendall < 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 1.0}, "fraction must lie in"),
        ({"ridge": -1.0}, "ridge must be ≥ 0"),
        ({"ridge": 0.0, "p": 60}, "60 coefficients, subsets of 50 points and ridge 0"),
        ({"noise": 0.0, "ridge": 0.0}, "outputs do not depend on the subset"),
        ({"k": 41}, "k = 41 exceeds p = 40"),
        ({"p": 150, "k": 120}, "no rank law applies"),
        ({"p": 150, "scoring_ridge": 0.0}, "ridge 0: no inverse"),
        ({"scoring_ridge": -1.0}, "scoring_ridge must be ≥ 0"),
    ],
)
def test_lds_law_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        lds_law(**{"n": 100, "p": 40, "k": 20, "ridge": 1.0, **changes})


@pytest.mark.parametrize("bad", [(np.nan, 0.0, 1.0), (0.0, np.inf, 1.0), (0.0, 0.0, -1.0), (0.0, 0.0, np.nan)])
def test_the_proximal_operator_refuses(bad):
    with pytest.raises(ValueError, match="finite"):
        proximal(Logistic(), *bad)
