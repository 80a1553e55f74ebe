"""The ladder of a network: from leave-one-out in the same basin, through its kernel machine, down to TRAK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.attribution import newton, trak, trak_kernel
from trak_theory.linearization import unit_curvature
from trak_theory.loo.ladder import Ladder, climb_down
from trak_theory.projection.matrices import Sketch
from trak_theory.shallow.kernel_machines import (
    BlockLinearization,
    block_influence,
    kernel_machine,
    linearize,
    linearize_margin,
    margin_kernel_machine,
)
from trak_theory.shallow.model import ShallowFit
from trak_theory.shallow.queries import Queries
from trak_theory.shallow.series import displacement
from trak_theory.shallow.truth import ShallowLeaveOneOut, leave_one_out

Output = Literal["block", "margin"]


@dataclass(frozen=True, eq=False)
class ShallowLadder(Ladder):
    """Ordered rungs, name → attribution (n, q); each gives up one more thing than the rung above it.

    exact               nothing: the neighbouring minimum without the point
    linear output       the curvature of the query's output: −∇g·(θ̂_{−i} − θ̂)
    kernel machine      the curvature of the training outputs: exact leave-one-out of the model linearised at θ̂
    newton, influence, unit curvature, no ridge, projected, ensemble      as for generalised linear models

    Below `linear output`, output "block" keeps all C outputs of a softmax and "margin" only TRAK's scalar margin.
    """

    truth: ShallowLeaveOneOut = field(repr=False)  # type: ignore[assignment]


def shallow_ladder(
    fit: ShallowFit,
    queries: Queries,
    *,
    k: int,
    ensemble: int = 1,
    ridge: float = 0.0,
    kind: Sketch = "normal",
    output: Output = "block",
    truth: ShallowLeaveOneOut | None = None,
    rng: Generator,
) -> ShallowLadder:
    """Climb down from exact leave-one-out to TRAK; `truth` may be handed over if it is already known.

    k the projected dimension, `ensemble` the number of projections averaged, `ridge` the μ of the projected kernel.
    Rows that the truth leaves unresolved are NaN in the first two rungs; `agreement` leaves them out.
    """
    margin = output == "margin"
    block = BlockLinearization(linearize_margin(fit, queries), 1) if margin else linearize(fit, queries)
    truth = leave_one_out(fit, queries) if truth is None else truth
    if len(truth.rows) != len(fit.outputs) or truth.influence.shape[1] != queries.count:
        raise ValueError(
            f"truth covers {truth.influence.shape} of {(len(fit.outputs), queries.count)} points and queries"
        )
    seed = int(rng.integers(2**63))

    def averaged(count: int) -> Array:
        same = np.random.default_rng(seed)
        return block.total(trak(block.lin, k=k, ridge=ridge, ensemble=count, kind=kind, rng=same))

    steps: dict[str, Callable[[], Array]] = {
        "exact": lambda: truth.influence,
        "linear output": lambda: -(truth.theta - fit.theta) @ queries.gradient(fit.theta).T,
        "kernel machine": lambda: (margin_kernel_machine if margin else kernel_machine)(fit, queries),
        "newton": lambda: newton(block.lin) if block.classes == 1 else block.newton(),
        "influence": lambda: block_influence(block),
        "unit curvature": lambda: block_influence(replace(block, lin=unit_curvature(block.lin))),
        "no ridge": lambda: block_influence(replace(block, lin=trak_kernel(block.lin, ridge=ridge))),
        "projected": lambda: averaged(1),
        "ensemble": lambda: averaged(ensemble),
    }
    return ShallowLadder(*climb_down(steps), truth)


def full_hessian_rungs(fit: ShallowFit, queries: Queries) -> dict[str, Array]:
    """The rungs that keep Σ r_i∇²f_i, which Gauss–Newton drops; linear in the query's output, (n, q).

    newton, full Hessian      −∇g·δ with δ one Newton step on F without i; NaN where that Hessian is indefinite
    influence, full Hessian   −r_iᵀJ_i ∇²F(θ̂)⁻¹ ∇g
    """
    gradient = queries.gradient(fit.theta)
    step = displacement(fit.objective, fit.theta, np.arange(len(fit.outputs))).first
    residual = fit.model.head.residual(fit.outputs)
    rows = np.einsum("nc,ncp->np", residual, fit.objective.outputs.jacobian(fit.theta))
    return {
        "newton, full Hessian": -step @ gradient.T,
        "influence, full Hessian": -rows @ fit.solve(gradient).T,
    }
