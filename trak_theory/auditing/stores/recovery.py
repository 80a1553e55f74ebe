"""The ridge that a package used and did not write down, from rows that it multiplied by the inverse."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.contents import Member
from trak_theory.errors import StoreError
from trak_theory.numerics.gram import blocked_gram

ROWS = 4096  # enough for two unknowns


class RecoveredRidge(NamedTuple):
    """μ of XᵀX + μI in the scale of the stored rows, the standard error of the fit, and its relative residual.

    misfit is about the precision of the stored numbers (1e-5, half precision 2e-2) if the rows are what they should be,
    and near 1 if they are of another model.
    """

    value: float
    se: float
    misfit: float


def recovered_ridges(member: Member, blocks: tuple[int, ...] = ()) -> tuple[RecoveredRidge, ...]:
    """μ of each block, by least squares in (μ, 1/c) on F(S + μI) = X/c, with F = cX(S + μI)⁻¹ as stored, S = XᵀX.

    The standard error takes the residuals for independent; rounding of the package's own inverse is common to all rows
    and can exceed it tenfold. Source: ours.
    """
    if member.preconditioned is None:
        raise StoreError(f"model {member.name}: no rows times the inverse are stored, the ridge cannot be recovered")
    edges = np.cumsum((0, *(blocks or (member.features.shape[1],))))
    slices = [slice(start, end) for start, end in pairwise(edges)]
    return tuple(_ridge(member.features[:, block], member.preconditioned[:, block]) for block in slices)


def _ridge(rows: Array, preconditioned: Array) -> RecoveredRidge:
    gram = blocked_gram(rows)
    some, solved = (np.asarray(array[:ROWS], np.float64) for array in (rows, preconditioned))
    design = np.stack([-solved.ravel(), some.ravel()], 1)
    target = (solved @ gram).ravel()
    scales = np.linalg.norm(design, axis=0)
    normal = (design / scales).T @ (design / scales)
    found = np.linalg.solve(normal, (design / scales).T @ target) / scales
    residual = np.linalg.norm(target - design @ found)
    error = residual / np.sqrt(max(target.size - 2, 1)) * np.sqrt(np.linalg.inv(normal)[0, 0]) / scales[0]
    return RecoveredRidge(float(found[0]), float(error), float(residual / np.linalg.norm(target)))
