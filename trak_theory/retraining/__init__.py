"""Retraining on other data: measured by the linear datamodelling score, and predicted."""

from trak_theory.retraining.datamodeling_score import Lds, OverQueries, compare, lds
from trak_theory.retraining.subsets import membership

__all__ = ["Lds", "OverQueries", "compare", "lds", "membership"]
