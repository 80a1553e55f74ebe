"""Retraining without training: the linearised model refitted to other data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from warnings import warn

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.linalg import eigh
from scipy.sparse import csr_array
from scipy.special import logit

from trak_theory.linearization import Linearization
from trak_theory.loo.bounds import strong_convexity_radius
from trak_theory.losses import Logistic, Loss, Squared, as_loss
from trak_theory.numerics.checks import non_negative, query_array, real_array
from trak_theory.numerics.spectrum import spectrum
from trak_theory.retraining.restored import class_labels, gauss_newton_rows, probability_rows
from trak_theory.retraining.reweighted_minima import ReweightedMinima
from trak_theory.retraining.ridge_rule import TrainingRecipe, training_ridge
from trak_theory.retraining.subsets import Subsets, membership
from trak_theory.shallow.heads import Head, ScalarHead, SoftmaxHead, head_like
from trak_theory.shallow.objective import Objective
from trak_theory.shallow.outputs import LinearOutputs

CONSISTENT = 1e-4  # of the largest entry: a residual and a curvature in single precision agree to this
SATURATED = -np.log(np.finfo(float).eps)  # the output that stands for a residual of 0


@dataclass(frozen=True, eq=False)
class Reweighted:
    """Outputs of the twin refitted with B sets of weights, less its outputs on all data.

    change (B, q)    NaN in the rows of `unresolved`
    radius (B, q)    |change − that of the exact minimiser in the twin's coordinates| ≤ radius; what rounding makes of
                     these coordinates, a few ε of the parameters they stand for, is not in it
    unresolved       row → the reason
    """

    change: Array
    radius: Array
    unresolved: dict[int, str]


@dataclass(frozen=True, eq=False)
class Twin:
    """A trained model's twin: its linearisation at θ̂ under the loss and the ridge of its training.

        δ_w = argmin Σ_i w_i ℓ(y_i, f⁰_i + J_iδ) + (αλ/2)‖δ − c‖²,   α = Σw_i/n,   c = Jᵀr/λ, so that δ = 0 for w = 1

    Weight decay belongs to a mean loss: a share α of the data has the ridge αλ. c is the pull of decay and of early
    stopping that holds δ = 0 in place. For a generalised linear model c = −θ̂ and the twin is the refit itself.

    objective         the problem for w = 1, in at most as many coordinates as the training outputs span
    queries (q, m)    gradients of the query outputs in these coordinates
    sample_weights    (n,) of the training itself
    captured          share of the curvature-weighted rows (squared) in these coordinates: 1 unless a rank was given
    """

    objective: Objective
    queries: Array = field(repr=False)
    sample_weights: Array = field(repr=False)
    captured: float = 1.0

    def refit(self, subsets: Subsets) -> Array:
        """f_S − f_all (B, q): the outputs after training on each subset, less those after training on everything.

        An index given twice counts twice. A subset whose problem was not solved is NaN, with a warning that names it;
        `reweight(membership(subsets, n))` has the certified radii.
        """
        found = self.reweight(membership(subsets, self._points))
        if found.unresolved:
            warn("; ".join(f"subset {row}: {why}" for row, why in found.unresolved.items()), RuntimeWarning, 2)
        return found.change

    def group_newton(self, subsets: Subsets) -> Array:
        """f_S − f_all (B, q) by one Newton step of `refit` from δ = 0: one linear system per subset."""
        weights = membership(subsets, self._points)
        return self._problems.newton_steps(self._loss_weights(weights)) @ self.queries.T

    def reweight(self, weights: ArrayLike) -> Reweighted:
        """Outputs with weights (B, n) ≥ 0 on the points, less those with all weights 1.

        0 removes a point, 2 doubles it. Certificate: ‖δ − δ_w‖ ≤ ‖∇F(δ)‖/(αλ) for any convex loss, where ‖∇F‖ has an
        allowance for its rounding.
        """
        minima = self._problems.minima(self._loss_weights(self._checked(weights)))
        change = minima.points @ self.queries.T
        change[~minima.solved] = np.nan
        distance = strong_convexity_radius(minima.gradient_norm, self.objective.ridge)
        unresolved = {
            int(b): f"‖∇F‖ = {minima.gradient_norm[b]:.2g} is left of {minima.first_norm[b]:.2g}; a larger ridge helps"
            for b in np.flatnonzero(~minima.solved)
        }
        return Reweighted(change, distance[:, None] * np.linalg.norm(self.queries, axis=1), unresolved)

    def relabel(self, targets: ArrayLike) -> Twin:
        """The twin with other training targets (n,): its refits still subtract the outputs on the data as they were."""
        head = head_like(self.objective.head, targets)
        if head.targets.shape != (self._points,):
            raise ValueError(f"targets have shape {head.targets.shape}, the twin was trained on {self._points} points")
        _check_targets(head)
        return replace(self, objective=replace(self.objective, head=head))

    @property
    def _points(self) -> int:
        return self.objective.outputs.shape[0]

    @cached_property
    def _problems(self) -> ReweightedMinima:
        return ReweightedMinima(self.objective, self.sample_weights)

    def _loss_weights(self, weights: Array) -> Array:
        """Weights of the losses beside the ridge λ of all data: w/α times those of the training."""
        return weights / weights.mean(1, keepdims=True) * self.sample_weights

    def _checked(self, weights: ArrayLike) -> Array:
        weights = non_negative("weights", real_array("weights", weights, 2))
        if weights.shape[1] != self._points:
            raise ValueError(f"weights have shape {weights.shape}, the twin was trained on {self._points} points")
        empty = np.flatnonzero(weights.sum(1) == 0)
        if empty.size:
            raise ValueError(f"weights[{empty[0]}] are all 0: nothing is left to train on")
        return weights


def twin(
    lin: Linearization,
    recipe: TrainingRecipe | float,
    *,
    loss: str | Loss = "logistic",
    targets: ArrayLike | None = None,
    outputs: ArrayLike | None = None,
) -> Twin:
    """The kernel-machine twin of a trained model with one output per point.

    lin        features (n, p), residual, curvature and queries (q, p) at the trained parameters; its ridge is not used
    recipe     how the model was trained, or its training ridge λ_t (for Adam in the coordinates of `adam_scales`)
    loss       of the outputs: a name or a `Loss`
    targets    (n,), default 1: the margin log p/(1 − p) of the own class under the logistic loss is the cross entropy
    outputs    f⁰ (n,), default: recovered from the residual (logistic and squared loss, sample weights 1)

    Exact in min(n, p) coordinates.

    >>> from trak_theory import GLM
    >>> rng = np.random.default_rng(0)
    >>> x, subset = rng.standard_normal((60, 3)), np.arange(0, 60, 2)
    >>> y = (x[:, 0] + rng.standard_normal(60) > 0).astype(float)
    >>> fit = GLM(x, y, loss="logistic", ridge=2.0).fit()
    >>> half = GLM(x[subset], y[subset], loss="logistic", ridge=1.0).fit()
    >>> model = twin(fit.linearize(np.eye(3)), 2.0, targets=y)
    >>> bool(np.allclose(model.refit([subset]), half.coef - fit.coef, atol=1e-10))
    True
    """
    loss = as_loss(loss)
    n = len(lin.residual)
    targets = np.ones(n) if targets is None else _one_per_point("targets", targets, n)
    head = ScalarHead(loss, targets)
    _check_targets(head)
    values = _recovered(lin, loss, targets) if outputs is None else _one_per_point("outputs", outputs, n)
    weights = np.ones(n) if outputs is None else _sample_weights(lin, loss, targets, values)
    _check_consistency(lin, weights * loss.residual(targets, values), weights * loss.curvature(targets, values))
    space = spectrum(lin.features, lin.queries)
    ridge = training_ridge(recipe, n)
    return Twin(_objective(space.training[:, None, :], values[:, None], head, ridge, weights), space.queries, weights)


def block_twin(
    jacobian: ArrayLike,
    probabilities: ArrayLike,
    labels: ArrayLike,
    queries: ArrayLike,
    recipe: TrainingRecipe | float,
    *,
    rank: int | None = None,
    rng: Generator | None = None,
) -> Twin:
    """The twin of a softmax classifier, with all C logits of every point linearised.

    jacobian J (n, C, p)    ∂z_ic/∂θ of the logits
    probabilities π (n, C)  softmax of the logits
    labels y (n,)           the classes, integers below C
    queries φ* (q, p)       gradients of the query outputs
    recipe                  as for `twin`
    rank                    coordinates to work in, found by a sketch of the curvature-weighted rows with `rng`; default
                            all min(nC, p), exact. `captured` is the share of the curvature that they keep: below .98,
                            as a convolutional network with its flat spectrum may be, take more

    Cost of B subsets: some hundred products of J, in its coordinates, with a B-column matrix.
    """
    jacobian = real_array("jacobian", jacobian, 3)
    n, classes, p = jacobian.shape
    queries = query_array(queries, p)
    probabilities = probability_rows(probabilities, (n, classes))
    head = SoftmaxHead(class_labels(labels, n, classes), classes)
    values = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    ridge, weights = training_ridge(recipe, n), np.ones(n)
    if rank is None:
        rows, queries, captured = *_all_coordinates(jacobian, queries), 1.0
    else:
        rows, queries, captured = _sketched_coordinates(jacobian, probabilities, queries, rank, rng)
    return Twin(_objective(rows, values, head, ridge, weights), queries, weights, captured)


def _objective(rows: Array, values: Array, head: Head, ridge: float, weights: Array) -> Objective:
    """Outputs f⁰ + Jδ (n, C), with the centre c = Jᵀr/λ at which δ = 0 is the minimum."""
    residual = weights[:, None] * head.residual(values)
    return Objective(LinearOutputs(rows, values), head, ridge, np.einsum("nc,ncm->m", residual, rows) / ridge)


def _one_per_point(name: str, values: ArrayLike, n: int) -> Array:
    array = real_array(name, values, 1)
    if array.shape != (n,):
        raise ValueError(f"{name} have shape {array.shape} for n = {n} points")
    return array


def _check_targets(head: Head) -> None:
    """The domain of the loss; unlike without a ridge, one class alone has a minimiser."""
    if isinstance(head, ScalarHead):
        head.loss.check(head.targets)


def _recovered(lin: Linearization, loss: Loss, targets: Array) -> Array:
    """Outputs f⁰ (n,) from residuals ∂ℓ/∂f; a saturated logistic output is ±36."""
    if isinstance(loss, Squared):
        return targets + lin.residual
    if not isinstance(loss, Logistic):
        raise ValueError(f"the outputs do not follow from the residuals of the {loss.name} loss; pass outputs")
    probability = lin.residual + targets
    if np.any((probability < 0) | (probability > 1)):
        index = int(np.argmax(np.abs(probability - 0.5)))
        raise ValueError(
            f"residual[{index}] = {lin.residual[index]:g} is none of the logistic loss with target {targets[index]:g}, "
            "which lies in [−target, 1 − target]; pass loss, targets and outputs"
        )
    sign = np.where(targets == 1, -1.0, 1.0)  # from the small side: p = 1 + r loses what r = p − 1 holds
    return np.clip(sign * logit(np.abs(lin.residual)), -SATURATED, SATURATED)


def _sample_weights(lin: Linearization, loss: Loss, targets: Array, values: Array) -> Array:
    """w_i of the linearisation's w_i ∂ℓ/∂f and w_i ∂²ℓ/∂f², from the larger of the two; 1 where both vanish."""
    residual, curvature = loss.residual(targets, values), loss.curvature(targets, values)
    by_residual = np.abs(residual) > curvature
    bottom = np.where(by_residual, residual, curvature)
    top = np.where(by_residual, lin.residual, lin.curvature)
    return np.divide(top, bottom, out=np.ones_like(top), where=np.abs(bottom) > np.finfo(float).tiny)


def _check_consistency(lin: Linearization, residual: Array, curvature: Array) -> None:
    for name, given, expected in (("residual", lin.residual, residual), ("curvature", lin.curvature, curvature)):
        gap = np.abs(given - expected)
        if gap.max() > CONSISTENT * np.abs(expected).max():
            index = int(np.argmax(gap))
            raise ValueError(
                f"{name}[{index}] = {given[index]:g} is not that of the loss at its targets and outputs, "
                f"{expected[index]:g}; pass the loss, targets and outputs that the linearisation was made from"
            )


def _all_coordinates(jacobian: Array, queries: Array) -> tuple[Array, Array]:
    n, classes, p = jacobian.shape
    if p <= n * classes:
        return jacobian, queries
    space = spectrum(jacobian.reshape(n * classes, p), queries)
    return space.training.reshape(n, classes, -1), space.queries


def _sketched_coordinates(
    jacobian: Array, probabilities: Array, queries: Array, rank: int, rng: Generator | None
) -> tuple[Array, Array, float]:
    """Rows and queries in an orthonormal basis of `rank` random signed sums of curvature-weighted rows."""
    if rng is None:
        raise ValueError("a rank needs rng: its coordinates are random")
    rows = gauss_newton_rows(jacobian, probabilities)
    buckets, signs = rng.integers(0, rank, len(rows)), rng.choice([-1.0, 1.0], len(rows))
    sketch = csr_array((signs, (buckets, np.arange(len(rows)))), shape=(rank, len(rows))) @ rows
    values, vectors = eigh(sketch @ sketch.T)
    kept = values > rank * np.finfo(float).eps * values[-1]
    if not kept.any():
        raise ValueError(f"the {rank} signed sums of the gradients all vanish: take a larger rank, or none")
    basis = sketch.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    reduced = (jacobian.reshape(-1, jacobian.shape[2]) @ basis).reshape(*jacobian.shape[:2], -1)
    captured = float(np.sum(gauss_newton_rows(reduced, probabilities) ** 2) / np.sum(rows**2))
    return reduced, queries @ basis, captured
