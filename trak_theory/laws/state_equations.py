"""The equations of state evolution, for trial values of their unknowns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

from trak_theory.laws.channels import Channel
from trak_theory.laws.design import Design
from trak_theory.laws.proximal import proximal
from trak_theory.losses import Loss

COARSE, PER_UNIT, FINEST = 40, 20, 2560  # quadrature nodes: least, for each unit of output, most


@dataclass(frozen=True, eq=False)
class TrainingPoints:
    """Quadrature over a training point: weight with Σ weight = 1, scale c, leave-one-out output z, and at the fit its
    residual r, curvature d, leverage h and damped curvature c²d/(1 + c²ηd); signal = weight × E[s | y, z]. All (m,)."""

    weight: Array
    scale: Array
    output: Array
    signal: Array
    residual: Array
    curvature: Array
    damped: Array
    leverage: Array

    def mean(self, values: Array) -> float:
        return float(self.weight @ values)


@dataclass(frozen=True)
class Moments:
    """Averages over the points: ζ = nE[c²d/(1 + c²ηd)], nE[c²r²], and ζ_s, the pull of the signal."""

    curvature: float
    noise: float
    pull: float


@dataclass(frozen=True)
class Equations:
    """The unknowns are u = (α, log σ, log η); D = ζs + λ over the eigenvalues s of Σ, t the signal's coordinates:

        α κ² = −ζ_s Σ s²t²/D        κ² ζ_s = nE[r s] − ακ²ζ
        σ² + α²κ² = ζ_s² Σ s³t²/D² + nE[c²r²] Σ s²/D²
        η = Σ s/D

    with z = c(αs + σξ), r and d at the proximal point of c²ηℓ(y, ·). Isotropic and of equal scale they read
    nE[r s] + λακ² = 0, pσ² = nη²E[r²], p = nE[ηd/(1 + ηd)] + λη.
    """

    design: Design
    ridge: float
    loss: Loss
    channel: Channel

    def points(self, unknowns: Array, counts: Array) -> TrainingPoints:
        """counts (l,): quadrature nodes for each Gaussian dimension, one number for each scale."""
        alpha, sigma, eta = float(unknowns[0]), float(np.exp(unknowns[1])), float(np.exp(unknowns[2]))
        parts = []
        for c, mass, count in zip(self.design.scales, self.design.scale_weights, counts, strict=True):
            drawn = self.channel.points(c * self.design.signal, alpha, c * sigma, int(count))
            size = np.full(drawn.weight.size, c)
            parts.append((drawn.label, drawn.output, mass * drawn.weight, mass * drawn.signal, size))
        label, output, weight, signal, scale = map(np.concatenate, zip(*parts, strict=True))
        fitted = proximal(self.loss, label, output, scale**2 * eta)
        with np.errstate(over="ignore", invalid="ignore"):
            gain = scale**2 * fitted.curvature
            damped = gain / (1.0 + eta * gain)
        return TrainingPoints(weight, scale, output, signal, fitted.residual, fitted.curvature, damped, eta * damped)

    def moments(self, alpha: float, points: TrainingPoints) -> Moments:
        n, kappa2 = self.design.n, self.design.signal**2
        curvature = n * points.mean(points.damped)
        pull = n * float(points.signal @ points.residual) / kappa2 - alpha * curvature if kappa2 > 0 else 0.0
        return Moments(curvature, n * points.mean((points.scale * points.residual) ** 2), pull)

    def powers(self, moments: Moments) -> Array:
        """E s_jθ̂_j² (m,), summed over the coordinates of each eigenvalue."""
        s, gram = self.design.eigenvalues, self.gram(moments)
        return moments.pull**2 * s**3 * self.design.energies / gram**2 + moments.noise * (
            self.design.counts * s**2 / gram**2
        )

    def gram(self, moments: Moments) -> Array:
        """D (m,)."""
        return moments.curvature * self.design.eigenvalues + self.ridge

    def gap(self, unknowns: Array, points: TrainingPoints) -> Array:
        """The unknowns minus what the equations make of them (3,)."""
        s, count, kappa2 = self.design.eigenvalues, self.design.counts, self.design.signal**2
        with np.errstate(all="ignore"):
            moments = self.moments(unknowns[0], points)
            gram = self.gram(moments)
            aligned = (s**2 * self.design.energies / gram).sum()
            alpha = -moments.pull * aligned / kappa2 if kappa2 > 0 else 0.0
            variance = self.powers(moments).sum() - alpha**2 * kappa2
            return unknowns - np.array([alpha, 0.5 * np.log(variance), np.log((count * s / gram).sum())])

    def spread(self, unknowns: Array) -> float:
        """Standard deviation of the leave-one-out output per unit scale."""
        return float(np.hypot(unknowns[0] * self.design.signal, np.exp(unknowns[1])))

    def counts(self, unknowns: Array) -> Array:
        """Enough nodes for losses that bend on the scale of one unit of output."""
        return np.clip(PER_UNIT * self.design.scales * self.spread(unknowns), COARSE, FINEST)
