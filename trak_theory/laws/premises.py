"""The premises of the a-priori laws, measured on rows of the features: spread of their norms, and kurtosis.

Both are seen in inner products alone, so that no basis is preferred. For rows x = c Σ^½ z with independent coordinates
z_a of kurtosis κ, and effective dimension p_e = (tr Σ)²/tr Σ²,

    (E‖x‖²)²/E(x·x′)² = p_e     E cos⁴/(E cos²)² = 3 + (κ² − 3)/p_e     Var‖x‖²/(E‖x‖²)² = Var c² + (κ − 1)/p_e

over pairs of rows x, x′ with E c² = 1; cosines, so that long rows do not count as kurtosis. Gaussian coordinates have
κ = 3, sparse ones 3/density.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

from trak_theory.numerics.checks import real_array

FEW_ROWS = 20
MOST_ROWS = 2_000
OTHER_DIMENSION = 1.25  # ratio of measured and declared p_e that is no chance


@dataclass(frozen=True, eq=False)
class RowPremises:
    """Premises of the laws, measured on rows of the features.

    dimension  p_e
    kurtosis   κ ≥ 3 of independent coordinates with the same fourth moment of cos
    scales     c_i (m,) with the spread that ‖x_i‖ has beyond that of Gaussian rows; their mean square is 1
    """

    dimension: float
    kurtosis: float
    scales: Array

    @property
    def spread(self) -> float:
        """Var c² over rows: 0 for Gaussian rows."""
        return float(np.var(self.scales**2))


def row_premises(rows: ArrayLike) -> RowPremises:
    """Kurtosis and spread of a sample of rows (m, p); the first 2,000 count.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> gaussian = rng.standard_normal((400, 200))
    >>> sparse = gaussian * (rng.random((400, 200)) < 0.05)
    >>> round(row_premises(gaussian).kurtosis), round(row_premises(sparse).kurtosis, -1)  # 3 and 60 in the limit
    (3, 50.0)
    """
    sample = real_array("rows", rows, 2)[:MOST_ROWS]
    squares = np.einsum("ip,ip->i", sample, sample)
    sample, squares = sample[squares > 0], squares[squares > 0]
    if len(sample) < FEW_ROWS:
        raise ValueError(f"{len(sample)} non-zero rows: the premises need at least {FEW_ROWS}")
    unit = sample / np.sqrt(squares)[:, None]
    pairs = np.triu_indices(len(unit), 1)
    cosines = (unit @ unit.T)[pairs] ** 2
    fourth = float((cosines**2).mean() / cosines.mean() ** 2)
    kurtosis = np.sqrt(max((fourth - 3) / cosines.mean() + 3, 9.0))
    dimension = float(squares.mean() ** 2 / np.mean((sample @ sample.T)[pairs] ** 2))
    relative = squares / squares.mean()
    spread = relative.var()
    kept = np.sqrt(max(spread - 2 / dimension, 0.0) / spread) if spread > 0 else 0.0
    return RowPremises(dimension, float(kurtosis), np.sqrt(1 + kept * (relative - 1)))
