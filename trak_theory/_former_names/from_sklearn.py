"""Former name of `trak_theory.glm.sklearn`."""

from trak_theory.glm.sklearn import (
    design_rows,
    translate,
)

__all__ = ["design_rows", "translate"]
