"""The linear datamodelling score (LDS) of TRAK and of exact leave-one-out influence, before anything is fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from trak_theory.laws.design import Design, design_of
from trak_theory.laws.kernel_limit import kernel_limit, unprojected_limit
from trak_theory.laws.rank_law import refuse_singular
from trak_theory.numerics.checks import non_negative, positive_count, real_array


@dataclass(frozen=True)
class LdsLaw:
    """Pearson correlation, over random subsets S, of Σ_{i∈S} score_i with the output of the model trained on S.

    ceiling     of the best scores there are: what a sum over points can explain at all
    exact       of exact leave-one-out influence
    kernel      of −r_i φ_iᵀ(ΦᵀΦ + γI)⁻¹φ*, at `scoring_ridge` γ
    trak        of TRAK, at its own implicit ridge and with the variance of its projections

    The LDS in use is a Spearman correlation: (6/π) asin(value/2), as outputs over subsets are close to normal.
    """

    ceiling: float
    exact: float
    kernel: float
    trak: float


def lds_law(
    *,
    n: int,
    p: int,
    k: int,
    ridge: float = 0.0,
    signal: float = 1.0,
    noise: float = 1.0,
    fraction: float = 0.5,
    projected_ridge: float = 0.0,
    ensemble: int = 1,
    scoring_ridge: float | None = None,
) -> LdsLaw:
    """Least squares with ridge λ on n points x ~ N(0, I_p), y = s + noise · ε, κ = ‖θ*‖ = `signal`.

    Subsets hold a `fraction` α of the points and are fitted with ridge αλ, as a mean loss with weight decay would be;
    `scoring_ridge` γ of the kernel score, by default the implicit ridge of TRAK with k dimensions and μ. With e, the
    root of p = Ne/(1+e) + λe, for subsets (e_S, αn) and for all points (e_f, n),

        q(a, b, N) = (ab/p)/(1 − Nab/(p(1+a)(1+b)))
        C(a, b, N) = σ²Nq/((1+a)(1+b)) + λ_aλ_bκ²q/p           covariance of the errors of two fits that share N points
        V = C(e_S, e_S, αn) − C(e_S, e_S, α²n)                   variance of an output over subsets
        ceiling² = α(1−α) n q(e_S, e_S, α²n) (σ² + C(e_S, e_S, α²n)) / ((1+e_S)² V)
        LDS = √(α(1−α)n/V) q(e_S, e, αn) (σ² + C(e_S, e_f, αn)) / ((1+e_S) √(v (σ² + C(e_f, e_f, n))))

    (e, v) = (e_f, q(e_f, e_f, n)) for exact influence, (e₂, q₂₂) at γ for the kernel, (e₂, q₂₂ + noise/J) for TRAK.
    With λ = 0 and p < αn: ceiling² = (1 − p/(αn))/(1 − p/n), exact influence attains it, and TRAK's is ρ times it, ρ
    the Pearson correlation of `rank_law`. With λ > 0 a larger scoring ridge beats exact influence: LDS does not measure
    leave-one-out fidelity. Exact as n, p, k → ∞ in proportion. Source: ours.
    """
    n, p, k = positive_count("n", n), positive_count("p", p), positive_count("k", k)
    ensemble = positive_count("ensemble", ensemble)
    settings = {"ridge": ridge, "signal": signal, "noise": noise, "projected_ridge": projected_ridge}
    checked = {name: float(non_negative(name, real_array(name, value, 0))) for name, value in settings.items()}
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    if checked["ridge"] == 0 and p >= fraction * n:
        raise ValueError(
            f"{p} coefficients, subsets of {fraction * n:g} points and ridge 0: no unique minimiser; add a ridge"
        )
    if checked["signal"] * checked["ridge"] == 0 and checked["noise"] == 0:
        raise ValueError("labels without noise that the model fits exactly: outputs do not depend on the subset")
    law = SubsetLaw(n, p, fraction, checked["ridge"], checked["signal"], checked["noise"])
    whole = law.design
    refuse_singular(whole, k, checked["projected_ridge"])
    limit = kernel_limit(whole, k=k, projected_ridge=checked["projected_ridge"])
    gamma = limit.implicit_ridge if scoring_ridge is None else scoring_ridge
    kernel = unprojected_limit(whole, float(non_negative("scoring_ridge", real_array("scoring_ridge", gamma, 0))))
    exact = unprojected_limit(whole, law.ridge)
    return LdsLaw(
        ceiling=law.ceiling,
        exact=law.score(exact.e2, exact.square),
        kernel=law.score(kernel.e2, kernel.square),
        trak=law.score(limit.e2, limit.square + limit.noise / ensemble),
    )


@dataclass(frozen=True)
class SubsetFit:
    """A fit, to all points or to a subset, in the limit: e = tr (ΦᵀΦ + λI)⁻¹ and its ridge λ."""

    e: float
    ridge: float


@dataclass(frozen=True)
class SubsetLaw:
    """The quantities of `lds_law`, for one design."""

    n: int
    p: int
    fraction: float
    ridge: float
    signal: float
    noise: float

    @cached_property
    def design(self) -> Design:
        return design_of(n=self.n, p=self.p, signal=self.signal)

    @cached_property
    def whole(self) -> SubsetFit:
        return SubsetFit(unprojected_limit(self.design, self.ridge).e2, self.ridge)

    @cached_property
    def subset(self) -> SubsetFit:
        ridge = self.fraction * self.ridge
        return SubsetFit(unprojected_limit(replace(self.design, n=self.fraction * self.n), ridge).e2, ridge)

    def overlap(self, a: float, b: float, shared: float) -> float:
        """q(a, b, N)."""
        product = a * b / self.p
        return product / (1.0 - shared * product / ((1.0 + a) * (1.0 + b)))

    def error(self, a: SubsetFit, b: SubsetFit, shared: float) -> float:
        """C(a, b, N), plus the noise of a new label."""
        overlap = self.overlap(a.e, b.e, shared)
        variance = self.noise**2 * (1.0 + shared * overlap / ((1.0 + a.e) * (1.0 + b.e)))
        return variance + a.ridge * b.ridge * self.signal**2 * overlap / self.p

    @cached_property
    def variance(self) -> float:
        """V."""
        size = self.fraction * self.n
        return self.error(self.subset, self.subset, size) - self.error(self.subset, self.subset, self.fraction * size)

    @property
    def scale(self) -> float:
        """√(α(1−α)n/V) / (1 + e_S)."""
        per_point = self.fraction * (1.0 - self.fraction) * self.n
        return float(np.sqrt(per_point / self.variance)) / (1.0 + self.subset.e)

    @property
    def ceiling(self) -> float:
        e, shared = self.subset.e, self.fraction**2 * self.n
        return self.scale * float(np.sqrt(self.overlap(e, e, shared) * self.error(self.subset, self.subset, shared)))

    def score(self, e: float, square: float) -> float:
        """LDS of −r_i φ_iᵀKφ* for a kernel with tr K = e and tr K² = square."""
        shared = self.fraction * self.n
        aligned = self.overlap(self.subset.e, e, shared) * self.error(self.subset, self.whole, shared)
        return self.scale * aligned / float(np.sqrt(square * self.error(self.whole, self.whole, self.n)))
