"""Errors of data attribution scores: derived, bounded, predicted and measured, for TRAK and influence functions."""

from pathlib import Path

from trak_theory.attribution import (
    group_influence,
    group_newton,
    influence,
    newton,
    trak,
    trak_as_released,
    trak_mean_factors,
    trak_over_models,
)
from trak_theory.auditing.audit import Audit, audit
from trak_theory.auditing.planning import Plan, plan_a_priori, plan_projection
from trak_theory.glm.model import GLM, Fit
from trak_theory.laws.conditional_rank_law import conditional_rank_law
from trak_theory.laws.confidence import RankConfidence, ranked_with_confidence
from trak_theory.laws.lds_law import lds_law
from trak_theory.laws.rank_law import RankLaw, rank_law, rank_law_of
from trak_theory.laws.state_evolution import StateEvolution, state_evolution
from trak_theory.linearization import Linearization, drop_ridge, project, unit_curvature
from trak_theory.loo.certified_order import CertifiedOrder, certified_order
from trak_theory.loo.exact import LeaveOneOut, leave_one_out
from trak_theory.loo.groups import leave_group_out
from trak_theory.loo.intervals import Interval, newton_interval
from trak_theory.loo.ladder import Ladder, ladder
from trak_theory.loo.series import group_interaction, infinitesimal_jackknife, newton_expansion
from trak_theory.losses import Logistic, Loss, Poisson, PseudoHuber, Squared
from trak_theory.numerics.agreement import Agreement, agreement
from trak_theory.projection.error_bars import ProjectionLaw, projection_law
from trak_theory.projection.matrices import projection_matrix
from trak_theory.retraining.restored import restored_block_influence, restored_influence
from trak_theory.retraining.ridge_rule import RidgeRule, TrainingRecipe, adam_scales, ridge_rule, subset_ridge

__version__ = "0.2.0.dev0"
__path__.append(str(Path(__file__).with_name("_former_names")))  # bounds, kernel_bounds, from_sklearn

__all__ = [
    "GLM",
    "Agreement",
    "Audit",
    "CertifiedOrder",
    "Fit",
    "Interval",
    "Ladder",
    "LeaveOneOut",
    "Linearization",
    "Logistic",
    "Loss",
    "Plan",
    "Poisson",
    "ProjectionLaw",
    "PseudoHuber",
    "RankConfidence",
    "RankLaw",
    "RidgeRule",
    "Squared",
    "StateEvolution",
    "TrainingRecipe",
    "adam_scales",
    "agreement",
    "audit",
    "certified_order",
    "conditional_rank_law",
    "drop_ridge",
    "group_influence",
    "group_interaction",
    "group_newton",
    "infinitesimal_jackknife",
    "influence",
    "ladder",
    "lds_law",
    "leave_group_out",
    "leave_one_out",
    "newton",
    "newton_expansion",
    "newton_interval",
    "plan_a_priori",
    "plan_projection",
    "project",
    "projection_law",
    "projection_matrix",
    "rank_law",
    "rank_law_of",
    "ranked_with_confidence",
    "restored_block_influence",
    "restored_influence",
    "ridge_rule",
    "state_evolution",
    "subset_ridge",
    "trak",
    "trak_as_released",
    "trak_mean_factors",
    "trak_over_models",
    "unit_curvature",
]
