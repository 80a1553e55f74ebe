"""Former name of `trak_theory.loo.bounds`."""

from trak_theory.loo.bounds import (
    chord_radius,
    largest_of_others,
    linearisation_radius,
    newton_certificate,
    newton_decrement_bound,
    strong_convexity_radius,
    two_layer_curvature,
)

__all__ = [
    "chord_radius",
    "largest_of_others",
    "linearisation_radius",
    "newton_certificate",
    "newton_decrement_bound",
    "strong_convexity_radius",
    "two_layer_curvature",
]
