"""Former name of `trak_theory.loo.rung_bounds`."""

from trak_theory.loo.rung_bounds import (
    influence_interval,
    linearisation_interval,
    projection_interval,
    unit_curvature_interval,
)

__all__ = ["influence_interval", "linearisation_interval", "projection_interval", "unit_curvature_interval"]
