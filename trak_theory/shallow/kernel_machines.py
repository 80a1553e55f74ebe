"""The first approximation: the network replaced by its tangent model at θ̂, and what is left for the ladder below.

A scalar loss gives a generalised linear model on the tangent features φ_i = ∇f_i(θ̂), with the offset that keeps its
outputs, and so does TRAK's margin of a softmax. The full softmax has a block of C tangent rows for each point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy import ndarray as Array
from scipy.special import expit

from trak_theory.attribution import influence
from trak_theory.errors import ConvergenceError
from trak_theory.glm.model import GLM
from trak_theory.linearization import Linearization
from trak_theory.loo.exact import leave_one_out
from trak_theory.losses import Logistic, Loss, Remainder
from trak_theory.shallow.heads import ScalarHead, SoftmaxHead
from trak_theory.shallow.model import ShallowFit
from trak_theory.shallow.queries import Queries
from trak_theory.shallow.series import tangent_objective
from trak_theory.shallow.solve import cholesky
from trak_theory.shallow.truth import descend


@dataclass(frozen=True, eq=False)
class Offset(Loss):
    """ℓ(y, o_i + f): a loss with one offset o_i for each training point, so that a GLM can start from given outputs."""

    name: ClassVar[str] = "offset"
    loss: Loss
    offset: Array = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "self_concordance", self.loss.self_concordance)

    def value(self, targets: Array, outputs: Array) -> Array:
        return self.loss.value(targets, self.offset + outputs)

    def residual(self, targets: Array, outputs: Array) -> Array:
        return self.loss.residual(targets, self.offset + outputs)

    def curvature(self, targets: Array, outputs: Array) -> Array:
        return self.loss.curvature(targets, self.offset + outputs)

    def third(self, targets: Array, outputs: Array) -> Array:
        return self.loss.third(targets, self.offset + outputs)

    def asymptotic_slopes(self, targets: Array) -> tuple[Array, Array]:
        return self.loss.asymptotic_slopes(targets)

    def taylor_remainder(self, targets: Array, outputs: Array, weights: Array) -> Remainder:
        return self.loss.taylor_remainder(targets, self.offset + outputs, weights)


def tangent_glm(fit: ShallowFit) -> GLM:
    """The linearised model of a network with one output, in θ − θ_c: its minimiser is θ̂ − θ_c."""
    if not isinstance(fit.model.head, ScalarHead):
        raise ValueError("the softmax has a block of outputs for each point: use margin_glm or kernel_machine")
    features = fit.objective.outputs.jacobian(fit.theta)[:, 0, :]
    return _offset_glm(fit, features, fit.outputs[:, 0], fit.model.head.targets, fit.model.head.loss)


def margin_glm(fit: ShallowFit) -> GLM:
    """TRAK's shortcut for a softmax: logistic loss log(1 + e^{−m}) of the margin m, linearised at θ̂ as one output."""
    training = _training_margins(fit)
    margins = training.value(fit.theta[None])[0]
    return _offset_glm(fit, training.gradient(fit.theta), margins, np.ones(len(margins)), Logistic())


def _training_margins(fit: ShallowFit) -> Queries:
    if not isinstance(fit.model.head, SoftmaxHead):
        raise ValueError("the margin is TRAK's output for a softmax; a scalar loss has one output already")
    return Queries(fit.objective.outputs, fit.model.head)


def _offset_glm(fit: ShallowFit, features: Array, outputs: Array, targets: Array, loss: Loss) -> GLM:
    offset = outputs - features @ (fit.theta - fit.objective.centre)
    return GLM(features, targets, loss=Offset(loss, offset), ridge=fit.objective.ridge)


def kernel_machine(fit: ShallowFit, queries: Queries) -> Array:
    """Exact leave-one-out of the linearised model (n, q), presence sign; queries read its own (linearised) outputs.

    Rows that do not converge are NaN.
    """
    if isinstance(fit.model.head, ScalarHead):
        return leave_one_out(tangent_glm(fit).fit(), queries.gradient(fit.theta)).influence
    flat, linear = tangent_objective(fit), queries.linear(fit.theta)
    solve = cholesky(flat.hessian(fit.theta, np.ones(len(fit.outputs))))
    found = descend(flat, fit.theta, solve, np.arange(len(fit.outputs)), tol=1e-10)
    rows = [np.full_like(fit.theta, np.nan) if isinstance(at, ConvergenceError) else at for at in found]
    return linear.value(fit.theta[None]) - linear.value(np.stack(rows))


def margin_kernel_machine(fit: ShallowFit, queries: Queries) -> Array:
    """The same for the linearised margin, training and query margins each linear in θ (n, q)."""
    return leave_one_out(margin_glm(fit).fit(), queries.gradient(fit.theta)).influence


@dataclass(frozen=True, eq=False)
class BlockLinearization:
    """A linearisation whose rows come in blocks of C for each point: rows i·C … i·C + C − 1 belong to point i.

    The outputs of each point are rotated to the eigenbasis of its curvature ∂²L/∂f², so that every row has a curvature
    of its own and all endomaps and verbs of a Linearization apply; `total` adds a block's rows up.
    """

    lin: Linearization
    classes: int

    def total(self, attribution: Array) -> Array:
        """(n·C, q) → (n, q)."""
        return attribution.reshape(-1, self.classes, attribution.shape[1]).sum(1)

    def newton(self) -> Array:
        """One Newton step without point i's block, I = −r_iᵀ(I − H_i)⁻ᵀ J_iM⁻¹∇g, H_i the block's leverage (n, q)."""
        training, _ = self.lin.whitened
        blocks = training.reshape(-1, self.classes, training.shape[1])
        root = np.sqrt(self.lin.curvature).reshape(-1, self.classes)
        gram = blocks @ blocks.swapaxes(1, 2)
        leverage = root[:, :, None] * gram * root[:, None, :]
        cross = self.lin.cross.reshape(*root.shape, -1)
        # The step is H_{−i}⁻¹J_iᵀr with H_{−i} = H − J_iᵀDJ_i: J M⁻¹ → J M⁻¹ + gram D^½ (I − H_i)⁻¹ D^½ J M⁻¹.
        inner = np.linalg.solve(np.eye(self.classes) - leverage, root[:, :, None] * cross)
        stepped = cross + (gram * root[:, None, :]) @ inner
        return -np.einsum("nc,ncq->nq", self.lin.residual.reshape(root.shape), stepped)


def block_linearization(
    jacobian: Array, residual: Array, curvature: Array, *, ridge: float, queries: Array
) -> BlockLinearization:
    """From output Jacobians (n, C, p), residuals (n, C), curvatures (n, C, C) and query gradients (q, p)."""
    n, classes, p = jacobian.shape
    values, basis = np.linalg.eigh(curvature)
    rotation = basis.swapaxes(1, 2)
    rows = (rotation @ jacobian).reshape(n * classes, p)
    pushes = (rotation @ residual[:, :, None]).reshape(-1)
    return BlockLinearization(Linearization(rows, pushes, values.clip(0.0).reshape(-1), ridge, queries), classes)


def linearize(fit: ShallowFit, queries: Queries) -> BlockLinearization:
    """The Gauss–Newton linearisation at θ̂: C rows for each point (C = 1: the ordinary one)."""
    return block_linearization(
        fit.objective.outputs.jacobian(fit.theta),
        fit.model.head.residual(fit.outputs),
        fit.model.head.curvature(fit.outputs),
        ridge=fit.objective.ridge,
        queries=queries.gradient(fit.theta),
    )


def linearize_margin(fit: ShallowFit, queries: Queries) -> Linearization:
    """TRAK's scalar margin: features ∇m_i, residual −(1 − p_i), curvature p_i(1 − p_i)."""
    training = _training_margins(fit)
    margins = training.value(fit.theta[None])[0]
    return Linearization(
        training.gradient(fit.theta),
        -expit(-margins),
        expit(margins) * expit(-margins),
        fit.objective.ridge,
        queries.gradient(fit.theta),
    )


def block_influence(block: BlockLinearization) -> Array:
    """The influence function summed over each point's block, (n, q)."""
    return block.total(influence(block.lin))
