"""Retraining on other data: measured by the linear datamodelling score, and predicted by the linearised model."""

from trak_theory.retraining.datamodeling_score import Lds, OverQueries, compare, fidelity, lds
from trak_theory.retraining.kernel_twin import Reweighted, Twin, block_twin, twin
from trak_theory.retraining.lds_prediction import PredictedLds, TwinReference, twin_reference
from trak_theory.retraining.stacking import Stacked, stack
from trak_theory.retraining.subsets import membership

__all__ = [
    "Lds",
    "OverQueries",
    "PredictedLds",
    "Reweighted",
    "Stacked",
    "Twin",
    "TwinReference",
    "block_twin",
    "compare",
    "fidelity",
    "lds",
    "membership",
    "stack",
    "twin",
    "twin_reference",
]
