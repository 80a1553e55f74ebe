"""The ridge of an attribution kernel from the training recipe alone: no ground truth, no tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from trak_theory.linearization import Linearization
from trak_theory.numerics.checks import non_negative, positive_count, real_array
from trak_theory.numerics.spectrum import gram_eigenvalues
from trak_theory.numerics.whitening import EPS

INTERPOLATED = 0.01  # mean |residual| of a run that has nothing left to learn


@dataclass(frozen=True)
class TrainingRecipe:
    """Training of a network on the mean loss of its points: θ ← θ − η_t v_t, v ← m v + ∇ + wd·θ.

    weight_decay wd    of the mean loss plus (wd/2)‖θ‖²
    learning_rates     η_t, one per step; or one number, with `steps` = T
    momentum m         of the heavy ball, in [0, 1)

    >>> TrainingRecipe(weight_decay=1e-3, learning_rates=0.1, steps=100, momentum=0.9).ridge(500)
    5.5
    """

    weight_decay: float
    learning_rates: Any
    steps: int | None = None
    momentum: float = 0.0

    def __post_init__(self) -> None:
        ndim = min(np.ndim(self.learning_rates), 1)
        rates = non_negative("learning_rates", real_array("learning_rates", self.learning_rates, ndim))
        if ndim == 0:
            rates = np.full(positive_count("steps", self.steps), float(rates))
        elif self.steps is not None and self.steps != rates.size:
            raise ValueError(f"steps = {self.steps} but {rates.size} learning rates; leave steps out")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not (np.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be finite and ≥ 0, got {self.weight_decay}")
        if self.weight_decay == 0 and not rates.any():
            raise ValueError("all learning rates are 0: nothing was trained")
        object.__setattr__(self, "learning_rates", rates)

    @property
    def elapsed(self) -> float:
        """Σ_t η_t/(1 − m), the time of the gradient flow that the steps follow."""
        return float(self.learning_rates.sum() / (1 - self.momentum))

    def ridge(self, n: int) -> float:
        """λ_t = n (wd + 1/Σ_t η_t/(1 − m)), sum convention, for n training points.

        Weight decay, and the pull of early stopping towards the start: gradient flow for a time τ shrinks like a
        ridge n/τ. Source: the second term is a rule of thumb of the field (Ali et al. 2019), here added up.
        """
        return positive_count("n", n) * (self.weight_decay + 1 / self.elapsed)


def training_ridge(recipe: TrainingRecipe | float, n: int) -> float:
    """λ_t of a recipe for n points, or a training ridge given as a number > 0."""
    if isinstance(recipe, TrainingRecipe):
        return recipe.ridge(n)
    if not (np.isfinite(recipe) and recipe > 0):
        raise ValueError(f"the training ridge must be finite and > 0, got {recipe}")
    return float(recipe)


def adam_scales(
    recipe: TrainingRecipe, second_moment: ArrayLike, n: int, *, decoupled: bool = True
) -> tuple[Array, float]:
    """Scales (p,) of the parameters in which Adam's training pulls all of them with one ridge, and that ridge λ_t.

    Adam moves parameter a by η_t/√v_a, so that its flow has lived for τ_a = Σ_t η_t/√v_a, and

        λ_a = n (wd √v_a + √v_a/Σ_t η_t)  (decoupled decay, AdamW)        n (wd + √v_a/Σ_t η_t)  (coupled)

    with √v_a from `second_moment` v (p,), the bias-corrected exponential average at the end of training, and n points.
    λ_t is the median of λ_a, the scale √(λ_t/λ_a), and 0 where v_a = 0: no gradient ever moved that parameter. Multiply
    features, queries or Jacobians by the scales and pass λ_t on to `ridge_rule`, `restored_influence` or `audit`. The
    momentum of `recipe` is not used. Source: ours; a rule of thumb, tested on small networks only.
    """
    moment = non_negative("second_moment", real_array("second_moment", second_moment, 1))
    used = moment > 0
    if not used.any():
        raise ValueError("second_moment is 0 for every parameter: nothing was trained")
    root = np.sqrt(moment)
    decay = recipe.weight_decay * (root if decoupled else 1.0)
    ridges = positive_count("n", n) * (decay + root / recipe.learning_rates.sum())
    common = float(np.median(ridges[used]))
    return np.where(used, np.sqrt(common / np.where(used, ridges, 1.0)), 0.0), common


def subset_ridge(eigenvalues: ArrayLike, ridge: float, *, n: int, fraction: float) -> float:
    """The ridge λ_α at which the kernel of all n points is the mean kernel of random subsets of αn points.

    eigenvalues of D^½ΦΦᵀD^½ (any order, zeros may be left out); ridge λ of all n points, αλ for a subset (one mean
    loss and weight decay for both). With x = df(λ_α)/n the mean leverage,

        λ_α = λ (1 + (1 − α) e),     e = (x/(1 − x)) (1 + (1 − α) e)/α.

    Derivation: for independent inclusions b_i ~ Bernoulli(α) the deterministic equivalent of
    (Σ b_i d_i φ_iφ_iᵀ + αλ)⁻¹ weighs each point by w with E[b/(1 + b e)] = w/(1 + w e), e = d_i φ_iᵀQφ_i without i:
    w = α/(1 + (1 − α) e), and leverage x = w e/(1 + w e). Points are taken to be alike. Source: ours.
    """
    eigenvalues = non_negative("eigenvalues", real_array("eigenvalues", eigenvalues, 1))
    return inflated_ridge(lambda at: float(np.sum(eigenvalues / (eigenvalues + at))), ridge, n=n, fraction=fraction)


def inflated_ridge(degrees: Callable[[float], float], ridge: float, *, n: int, fraction: float) -> float:
    """λ_α of `subset_ridge` from df(λ) as a function, decreasing in λ."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
    if not ridge > 0:
        raise ValueError(f"the rule needs a training ridge > 0, got {ridge}")

    def excess(log_ridge: float) -> float:
        candidate = float(np.exp(log_ridge))
        leverage = degrees(candidate) / n
        odds = leverage / (1 - leverage)
        # 1 + (1 − α)e = 1/(1 − (1 − α)odds/α) while the subset can carry that many degrees of freedom.
        return float(ridge / candidate - (1 - odds * (1 - fraction) / fraction))

    high = np.log(ridge) + 1.0
    while excess(high) > 0:
        high += 1.0
    return float(np.exp(brentq(excess, np.log(ridge) - 1e-9, high, xtol=1e-13, rtol=4 * EPS)))


@dataclass(frozen=True)
class RidgeRule:
    """The ridges, sum convention, with which each kernel stands for the retraining that is asked about.

    training            λ_t of the recipe
    curvature_weighted  for (ΦᵀDΦ + λI)⁻¹: λ_t for leave-one-out, `subset_ridge` for subsets
    unit_curvature      for (ΦᵀΦ + γI)⁻¹: the one above over the mean curvature
    projected           μ for (PᵀΦᵀΦP + μI)⁻¹ in k dimensions; None without k; 0 with a warning where k is too small
    warnings            in words
    """

    training: float
    curvature_weighted: float
    unit_curvature: float
    projected: float | None
    warnings: tuple[str, ...]


def ridge_rule(
    lin: Linearization, recipe: TrainingRecipe | float, *, fraction: float | None = None, k: int | None = None
) -> RidgeRule:
    """The rule for a linearisation and the recipe of its training (or its training ridge λ_t, a number).

    fraction None: the truth is leave-one-out; α: it is retraining on random subsets of αn points (the linear
    datamodelling score). k: also the ridge inside a k-dimensional random projection, μ = γ(1 − df(γ)/k).
    The ridge of `lin` itself is not used. Cost: eigenvalues of the smaller Gram matrix, twice with k.

    >>> lin = Linearization(np.eye(4), np.ones(4), np.full(4, 0.25), 0.0, np.eye(4))
    >>> rule = ridge_rule(lin, 2.0)
    >>> rule.curvature_weighted, rule.unit_curvature
    (2.0, 8.0)
    """
    weighted = gram_eigenvalues(np.sqrt(lin.curvature)[:, None] * lin.features)
    rule = rule_from_eigenvalues(
        training_ridge(recipe, len(lin.features)),
        weighted=weighted,
        plain=gram_eigenvalues(lin.features) if k is not None else None,
        mean_curvature=float(lin.curvature.mean()),
        n=len(lin.features),
        fraction=fraction,
        k=k,
    )
    return replace(rule, warnings=rule.warnings + _interpolation(lin.residual, recipe))


def _interpolation(residual: Array, recipe: TrainingRecipe | float) -> tuple[str, ...]:
    """Without weight decay the ridge is the time of training alone, in which the curvature itself has vanished."""
    left = float(np.abs(residual).mean())
    if not isinstance(recipe, TrainingRecipe) or recipe.weight_decay > 0 or left > INTERPOLATED:
        return ()
    return (
        f"the run interpolates (no weight decay, mean |residual| {left:.1g}): most of its steps were taken at larger "
        "curvatures than the final ones; ridges down to a third of the rule's scored .00 to .03 higher on small "
        "networks (study ridge_rule), so try training ridges λ_t/3 and λ_t",
    )


def rule_from_eigenvalues(
    training: float,
    *,
    weighted: Array,
    plain: Array | None,
    mean_curvature: float,
    n: int,
    fraction: float | None,
    k: int | None,
) -> RidgeRule:
    """`ridge_rule` from the eigenvalues of ΦᵀDΦ and, with k, of ΦᵀΦ."""
    ridge = training if fraction is None else subset_ridge(weighted, training, n=n, fraction=fraction)
    if not mean_curvature > 0:
        raise ValueError("all curvatures are 0: the loss is flat at the optimum and no ridge follows from it")
    implicit = ridge / mean_curvature
    if k is None or plain is None:
        return RidgeRule(training, ridge, implicit, None, ())
    needed = float(np.sum(plain / (plain + implicit)))
    projected = implicit * (1 - needed / positive_count("k", k))
    warnings: tuple[str, ...] = ()
    if projected < 0:
        warnings = (
            f"k = {k} is below the {needed:.0f} degrees of freedom at the ridge γ = {implicit:.4g}: even μ = 0 "
            f"shrinks more than that; use k > {needed:.0f}",
        )
    return RidgeRule(training, ridge, implicit, max(projected, 0.0), warnings)
