"""What a package left on disk: projected gradients, residuals, scores, and what it did not write down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy import ndarray as Array


class StoreError(ValueError):
    """A store that cannot be read: which file, what was expected, what was found, what to do."""


@dataclass(frozen=True, eq=False)
class Member:
    """One model of an ensemble, or one projection of a model.

    features        (n, k) rows x_i = Pᵀφ_i in the package's own scale, memory-mapped where the file allows it
    queries         (q, k) rows x*_j in the same scale; None where the store holds none
    residual        (n,) ∂ℓ/∂f, negative for 1 − p; None where the rows are gradients of the loss, which hold it
    preconditioned  (n, k) rows x_iᵀ(XᵀX + μI)⁻¹ up to one positive factor, where the package keeps them
    """

    name: str
    features: Array = field(repr=False)
    queries: Array | None = field(default=None, repr=False)
    residual: Array | None = field(default=None, repr=False)
    preconditioned: Array | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Store:
    """What PATH holds. Scores and residuals in the presence sign and as ∂ℓ/∂f, whatever the package's own sign.

    package, version   version as the store states it, None where it does not
    members            models or projections that the scores average; empty where only scores are stored
    scores             (n, q), presence sign f(with i) − f(without i), of unknown positive scale
    scores_name        of the set of queries that `queries` and `scores` belong to
    sign               +1 or −1: what the stored scores were multiplied by
    projected          False where the rows are whole gradients
    parameters         p, where the store tells it
    scale_factor       `scale(p)` = scale_factor · √p if `over_root_p` else scale_factor
    parameter, ridge   name of the package's ridge setting and its value, None where it is not stored
    unit               ridge in the coordinates of `features` (XᵀX + μI) of one unit of that setting
    blocks             widths of the diagonal blocks of the kernel, () for one block
    curvature          (n,) ∂²ℓ/∂f², our own format only
    learning_rates     (T,), our own format only
    missing            what is not stored, and the option that supplies it
    notes              remarks about this store, one sentence each
    """

    package: str
    path: Path
    version: str | None = None
    members: tuple[Member, ...] = ()
    scores: Array | None = field(default=None, repr=False)
    scores_name: str | None = None
    sign: int = 1
    projected: bool = True
    parameters: int | None = None
    scale_factor: float = 1.0
    over_root_p: bool = False
    parameter: str | None = None
    ridge: float | None = None
    unit: float = 1.0
    blocks: tuple[int, ...] = ()
    curvature: Array | None = field(default=None, repr=False)
    learning_rates: Array | None = field(default=None, repr=False)
    missing: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> Array | None:
        """Rows of the first member."""
        return self.members[0].features if self.members else None

    @property
    def queries(self) -> Array | None:
        return self.members[0].queries if self.members else None

    @property
    def residual(self) -> Array | None:
        """Mean over members, as the packages that average take it."""
        found = [member.residual for member in self.members if member.residual is not None]
        return np.asarray(np.mean(found, 0, dtype=np.float64)) if found else None

    @property
    def ensemble(self) -> int:
        return max(1, len(self.members))

    @property
    def n(self) -> int:
        known = self.features if self.features is not None else self.scores
        return 0 if known is None else len(known)

    @property
    def k(self) -> int | None:
        """Width of a stored row."""
        return None if self.features is None else self.features.shape[1]

    @property
    def dtype(self) -> str | None:
        known = self.features if self.features is not None else self.scores
        return None if known is None else str(known.dtype)

    def scale(self, parameters: int | None = None) -> float:
        """The factor by which stored rows are multiplied to be Pᵀφ with E PPᵀ = I (φ itself if not projected)."""
        if not self.over_root_p:
            return self.scale_factor
        p = parameters if parameters is not None else self.parameters
        if p is None:
            raise StoreError(f"{self.path}: {self.package} divides by √p and does not store p: give --parameters")
        return self.scale_factor * float(np.sqrt(p))

    def projected_ridge(self, value: float, parameters: int | None = None) -> float:
        """μ in the sum convention, for rows in the scale of E PPᵀ = I, of the package's own ridge setting."""
        return value * self.unit * self.scale(parameters) ** 2
