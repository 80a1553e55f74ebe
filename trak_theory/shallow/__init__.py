"""Random features and two-layer networks, where TRAK's first approximation, linearisation, is measured exactly."""

from trak_theory.errors import DeadNetworkError, IndefiniteHessianError
from trak_theory.shallow.certificate import Certificate, certify, remainder_bound
from trak_theory.shallow.kernel_machines import (
    BlockLinearization,
    block_influence,
    block_linearization,
    kernel_machine,
    linearize,
    linearize_margin,
    margin_glm,
    margin_kernel_machine,
    tangent_glm,
)
from trak_theory.shallow.model import RandomFeatures, ShallowFit, TwoLayer
from trak_theory.shallow.queries import Queries
from trak_theory.shallow.rungs import ShallowLadder, full_hessian_rungs, shallow_ladder
from trak_theory.shallow.series import LinearisationError, predict_linearisation_error
from trak_theory.shallow.truth import ShallowLeaveOneOut, leave_one_out, left_basin, retrain

__all__ = [
    "BlockLinearization",
    "Certificate",
    "DeadNetworkError",
    "IndefiniteHessianError",
    "LinearisationError",
    "Queries",
    "RandomFeatures",
    "ShallowFit",
    "ShallowLadder",
    "ShallowLeaveOneOut",
    "TwoLayer",
    "block_influence",
    "block_linearization",
    "certify",
    "full_hessian_rungs",
    "kernel_machine",
    "leave_one_out",
    "left_basin",
    "linearize",
    "linearize_margin",
    "margin_glm",
    "margin_kernel_machine",
    "predict_linearisation_error",
    "remainder_bound",
    "retrain",
    "shallow_ladder",
    "tangent_glm",
]
