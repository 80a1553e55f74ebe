"""How wrong is a data attribution score? Derive, bound, predict and measure the errors of TRAK and its relatives."""

from trak_theory.agreement import Agreement, agreement
from trak_theory.attribution import (
    influence,
    newton,
    trak,
    trak_as_released,
    trak_mean_factors,
    trak_over_models,
)
from trak_theory.exact import LeaveOneOut, leave_one_out
from trak_theory.glm import GLM, Fit
from trak_theory.ladder import Ladder, ladder
from trak_theory.linearization import Linearization, drop_ridge, project, unit_curvature
from trak_theory.losses import Logistic, Loss, Poisson, PseudoHuber, Squared
from trak_theory.projection import projection_matrix

__all__ = [
    "GLM",
    "Agreement",
    "Fit",
    "Ladder",
    "LeaveOneOut",
    "Linearization",
    "Logistic",
    "Loss",
    "Poisson",
    "PseudoHuber",
    "Squared",
    "agreement",
    "drop_ridge",
    "influence",
    "ladder",
    "leave_one_out",
    "newton",
    "project",
    "projection_matrix",
    "trak",
    "trak_as_released",
    "trak_mean_factors",
    "trak_over_models",
    "unit_curvature",
]
