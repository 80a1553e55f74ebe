"""The random design of the a-priori laws: rows x = c Σ^½ g, in the eigenbasis of Σ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from trak_theory.numerics.checks import non_negative, positive_count, real_array
from trak_theory.numerics.quadrature import gauss_rule

SCALE_NODES, FEW_SCALES = 12, 4
DENSITY_NODES, QUANTILES = 200, 20_000  # of a law of scales with a density, and of any other


@runtime_checkable
class Distribution(Protocol):
    """A law of scales: anything with a quantile function, such as a frozen distribution of `scipy.stats`."""

    def ppf(self, q: Array, /) -> Array: ...


Scales: TypeAlias = ArrayLike | Distribution | None


@dataclass(frozen=True, eq=False)
class Design:
    """n rows x_i = c_i Σ^½ g_i, g ~ N(0, I_p), and a signal θ*.

    eigenvalues s, counts, energies Σθ*² (m,)   distinct eigenvalues of Σ, how many, and the signal's energy there
    scales c, scale_weights (l,)                quadrature of the law of the scales
    signal                                      κ = √Σ s θ*², the standard deviation of x·θ* per unit scale
    """

    n: float  # an integer, but for derivatives
    p: int
    eigenvalues: Array
    counts: Array
    energies: Array
    scales: Array
    scale_weights: Array

    @property
    def rank(self) -> int:
        return int(self.counts.sum())

    @property
    def signal(self) -> float:
        return float(np.sqrt((self.eigenvalues * self.energies).sum()))

    @property
    def dimension(self) -> float:
        """(tr Σ)²/tr Σ²."""
        return float((self.counts @ self.eigenvalues) ** 2 / (self.counts @ self.eigenvalues**2))

    def rough(self) -> Design:
        """The same with a short rule for the scales."""
        nodes, weights = gauss_rule(np.log(self.scales), self.scale_weights, FEW_SCALES)
        return replace(self, scales=np.exp(nodes), scale_weights=weights)


def design_of(*, n: int, p: int, signal: ArrayLike, spectrum: ArrayLike | None = None, scales: Scales = None) -> Design:
    """The design from what a user says.

    spectrum (p,) ≥ 0, default all 1; signal κ, spread evenly over the coordinates, or the coordinates θ*_j (p,) in
    the eigenbasis; scales None (all 1), the c_i themselves, or a distribution with a quantile function `ppf`.
    """
    n, p = positive_count("n", n), positive_count("p", p)
    eigenvalues = np.ones(p) if spectrum is None else non_negative("spectrum", real_array("spectrum", spectrum, 1))
    if eigenvalues.shape != (p,):
        raise ValueError(f"spectrum has {eigenvalues.size} eigenvalues for p = {p}")
    if not eigenvalues.any():
        raise ValueError("the spectrum is zero: no feature varies")
    squares = _squared_coordinates(signal, eigenvalues)
    distinct, place = np.unique(eigenvalues, return_inverse=True)
    used = distinct > 0
    return Design(
        n,
        p,
        distinct[used],
        np.bincount(place)[used].astype(float),
        np.bincount(place, squares)[used],
        *scale_rule(scales),
    )


def _squared_coordinates(signal: ArrayLike, eigenvalues: Array) -> Array:
    if np.ndim(signal) == 0:
        kappa = float(non_negative("signal", real_array("signal", signal, 0)))
        return np.full(eigenvalues.size, kappa**2 / eigenvalues.sum())
    coordinates = real_array("signal", signal, 1)
    if coordinates.shape != eigenvalues.shape:
        raise ValueError(f"signal has {coordinates.size} coordinates for p = {eigenvalues.size}")
    return coordinates**2


def scale_rule(scales: Scales) -> tuple[Array, Array]:
    """Gauss rule for the law of c, in log c: scales may span decades."""
    if scales is None:
        return np.ones(1), np.ones(1)
    values, weights = _quantiles(scales) if isinstance(scales, Distribution) else (scales, None)
    values = real_array("scales", values, 1)
    if np.any(values <= 0):
        raise ValueError(f"scales must be positive, got {values.min():g}")
    weights = np.full(values.size, 1.0 / values.size) if weights is None else weights
    nodes, masses = gauss_rule(np.log(values), weights, SCALE_NODES)
    return np.exp(nodes), masses


def _quantiles(distribution: Distribution) -> tuple[Array, Array]:
    """Values and weights: c = ppf(Φ(z)) is smooth in z where c has a density, so few z are enough.

    Both rules end at the same quantile, 1/(2·20,000): beyond it a heavy tail would decide the moments.
    """
    if hasattr(distribution, "pdf"):
        last = float(ndtri(0.5 / QUANTILES))
        nodes = np.linspace(last, -last, DENSITY_NODES)
        weights = np.exp(-0.5 * nodes**2)
        return distribution.ppf(ndtr(nodes)), weights / weights.sum()
    return distribution.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES), np.full(QUANTILES, 1.0 / QUANTILES)
