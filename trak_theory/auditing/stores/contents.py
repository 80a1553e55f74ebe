"""Contents of a package's store: projected gradients, residuals, scores, and the settings it did not write down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from trak_theory.errors import StoreError
from trak_theory.numerics.rows import ChunkedRows

OTHERWISE = "audit the network itself, from the file that `trak-theory features` writes"


class RecoveredRidge(NamedTuple):
    """μ of XᵀX + μI in the scale of the stored rows, its standard error, relative residual of the fit, and factor.

    misfit is about the precision of the stored numbers (1e-5, half precision 2e-2) if the rows are what they should be,
    and near 1 if they are of another model, or if XᵀX was singular in the precision it was inverted in.
    """

    value: float
    se: float
    misfit: float
    factor: float = 1.0


@dataclass(frozen=True, eq=False)
class Member:
    """One model of an ensemble, or one projection of a model.

    features        (n, k) rows x_i = Pᵀφ_i in the package's own scale, mapped; several files, bfloat16: ChunkedRows
    queries         (q, k) rows x*_j in the same scale; None where the store holds none
    residual        (n,) ∂ℓ/∂f, negative for 1 − p; None where the rows are gradients of the loss, which hold it
    preconditioned  (n, k) rows x_iᵀ(XᵀX + μI)⁻¹ up to one positive factor a block, where the package keeps them
    units           per block of G, the μ (in the scale of `features`) of one unit of the package's ridge setting; ()
                    where that setting is no ridge, or not known
    weight          factor on this model's kernel in the mean over models that the package takes
    recovered       per block of G, the μ that `features` and `preconditioned` tell; () without the latter

    With G = (XᵀX + μI)⁻¹ its scores are −r_i x_iᵀGx*_j, and x_iᵀGx*_j where the residual is None; packages that divide
    by the mean |G| of each model, as traker and bergson do, take the mean of −r_i w x_iᵀGx*_j with weights w.
    """

    name: str
    features: Array | ChunkedRows = field(repr=False)
    queries: Array | None = field(default=None, repr=False)
    residual: Array | None = field(default=None, repr=False)
    preconditioned: Array | ChunkedRows | None = field(default=None, repr=False)
    units: tuple[float, ...] = (1.0,)
    recovered: tuple[RecoveredRidge, ...] = ()
    weight: float = 1.0


def mean_residual(members: Sequence[Member]) -> Array | None:
    """(n,) mean of the residuals that are there."""
    found = [member.residual for member in members if member.residual is not None]
    return np.asarray(np.mean(found, 0, dtype=np.float64)) if found else None


@dataclass(frozen=True, eq=False)
class Store:
    """Contents of PATH in one sign and one unit, whatever the package's own.

    package, version   version as the store states it, None where it does not
    method             trak, influence, or dot product (no Hessian)
    members            models or projections that the scores average; empty where only scores are stored
    scores             (n, q), presence sign f(with i) − f(without i), of unknown positive scale; f is the margin, or
                       minus the query's loss: positive where the point helps the query
    scores_name        of the set of queries that `queries` and `scores` belong to
    sign               +1 or −1: what the stored scores were multiplied by
    projected          False where the rows are whole gradients, None where the store does not tell
    parameters         p, where the store tells it
    scale_factor       `scale(p)` is scale_factor · √p if `over_root_p`, else scale_factor
    parameter, ridge   name of the package's ridge setting and its value, None where it is not stored
    blocks             widths of the diagonal blocks of G, () for a single one
    curvature          (n,) ∂²ℓ/∂f², in our own format only
    learning_rates     (T,), in our own format only
    missing            what is not stored, and the option that supplies it
    notes              remarks about this store, one sentence each
    """

    package: str
    path: Path
    version: str | None = None
    method: str = "trak"
    members: tuple[Member, ...] = ()
    scores: Array | None = field(default=None, repr=False)
    scores_name: str | None = None
    sign: int = 1
    projected: bool | None = True
    parameters: int | None = None
    scale_factor: float = 1.0
    over_root_p: bool = False
    parameter: str | None = None
    ridge: float | None = None
    blocks: tuple[int, ...] = ()
    curvature: Array | None = field(default=None, repr=False)
    learning_rates: Array | None = field(default=None, repr=False)
    missing: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> Array | ChunkedRows | None:
        """Rows of the first member."""
        return self.members[0].features if self.members else None

    @property
    def queries(self) -> Array | None:
        """Query rows of the first member."""
        return self.members[0].queries if self.members else None

    @property
    def residual(self) -> Array | None:
        """Mean over members, as the packages that average take it."""
        return mean_residual(self.members)

    @property
    def ensemble(self) -> int:
        return max(1, len(self.members))

    @property
    def n(self) -> int:
        known = self.scores if self.features is None else self.features
        return 0 if known is None else len(known)

    @property
    def k(self) -> int | None:
        """Width of a stored row."""
        return None if self.features is None else self.features.shape[1]

    @property
    def dtype(self) -> str | None:
        known = self.scores if self.features is None else self.features
        return None if known is None else str(known.dtype)

    @property
    def recovered_ridge(self) -> RecoveredRidge | None:
        """The package's ridge setting in its own unit, as the redundancy of the store tells it; None without any.

        Of all models and blocks the most precise value, and the largest misfit.
        """
        found = [
            (ridge.se / unit, ridge.value / unit)
            for member in self.members
            for ridge, unit in zip(member.recovered, member.units, strict=False)
        ]
        if not found:
            return None
        se, value = min(found)
        misfit = max(ridge.misfit for member in self.members for ridge in member.recovered)
        return RecoveredRidge(value, se, misfit)

    def scale(self, parameters: int | None = None) -> float:
        """The factor by which stored rows become Pᵀφ with E PPᵀ = I (φ itself if not projected)."""
        if not self.over_root_p:
            return self.scale_factor
        p = parameters if parameters is not None else self.parameters
        if p is None:
            raise StoreError(f"{self.path}: {self.package} divides by √p and does not store p: give --parameters")
        return self.scale_factor * float(np.sqrt(p))

    def projected_ridge(self, value: float, parameters: int | None = None, *, member: int = 0) -> float:
        """μ in the sum convention, for rows in the scale of E PPᵀ = I, of the package's own ridge setting."""
        units = self.members[member].units if self.members else ()
        if len(units) != 1:
            raise StoreError(
                f"{self.path}: no single ridge: {len(units)} blocks of the kernel have one each, see `units`"
            )
        return value * units[0] * self.scale(parameters) ** 2
