"""Muon: momentum whose matrices are orthogonalised by Newton–Schulz."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from math import prod, sqrt
from typing import ClassVar, Literal

from array_api_compat import array_namespace

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.kernels import mix
from trak_theory.trajectory.optimizer.newton_schulz import NewtonSchulz
from trak_theory.trajectory.optimizer.recipes import Optimizer
from trak_theory.trajectory.optimizer.steps import State, StepMap

Shapes = Sequence[tuple[int, int]]
Adjust = Literal["original", "match_rms_adamw"]


@dataclass(frozen=True, kw_only=True)
class MuonStep(StepMap):
    """b' = μb + (1−μ)g,  U = b' (Nesterov: (1−μ)g + μb'),  θ' = (1−ηλ)θ − ηρ NS(U), matrix by matrix.

    NS is `NewtonSchulz`; ρ = √max(1, rows/columns) (original) or .2 √max(rows, columns) (match_rms_adamw). Not
    elementwise: a gradient entry moves every entry of its matrix. `bfloat16`: training rounds NS as torch does, while
    derivatives and differences are those of the iteration in the state's own precision, at the recorded states.
    """

    elementwise: ClassVar[bool] = False

    momentum: float
    nesterov: bool
    shapes: Shapes
    iteration: NewtonSchulz
    adjust: Adjust
    bfloat16: bool

    def _trained(self, state: State, g: Tensor) -> State:
        rounded = self.bfloat16 and hasattr(array_namespace(g), "bfloat16")
        return self._moved(state, g, self.iteration.in_bfloat16 if rounded else self.iteration)

    def _increment(self, state: State, g: Tensor, into: State, less: Tensor) -> State:
        change, buffer = self._moved(state, g, self.iteration)
        return change - less, buffer

    def _moved(self, state: State, g: Tensor, orthogonal: Callable[[Tensor], Tensor]) -> State:
        theta, buffer = state
        buffer = mix(self.momentum, buffer, g)
        direction = self._by_matrix(lambda place: orthogonal(place(self._used(g, buffer))), g)
        return -self.lr * direction - self.lr * self.weight_decay * theta, buffer

    def _tangent(self, state: State, g: Tensor, dstate: State, dg: Tensor) -> State:
        (_, buffer), (dtheta, dbuffer) = state, dstate
        used = self._used(g, mix(self.momentum, buffer, g))
        dbuffer = self.momentum * dbuffer + (1 - self.momentum) * dg
        moved = self._used(dg, dbuffer)
        direction = self._by_matrix(lambda place: self.iteration.tangent(place(used), place(moved)), moved)
        return (1 - self.lr * self.weight_decay) * dtheta - self.lr * direction, dbuffer

    def _adjoint(self, state: State, g: Tensor, cotangent: State) -> tuple[State, Tensor]:
        theta, to_buffer = cotangent
        used = self._used(g, mix(self.momentum, state[1], g))
        pulled = -self.lr * theta
        to_used = self._by_matrix(lambda place: self.iteration.adjoint(place(used), place(pulled)), pulled)
        if self.nesterov:
            to_buffer, slope = to_buffer + self.momentum * to_used, (1 - self.momentum) * to_used
        else:
            to_buffer, slope = to_buffer + to_used, 0.0
        before = ((1 - self.lr * self.weight_decay) * theta, self.momentum * to_buffer)
        return before, slope + (1 - self.momentum) * to_buffer

    def _used(self, g: Tensor, buffer: Tensor) -> Tensor:
        return mix(self.momentum, buffer, g) if self.nesterov else buffer

    def _by_matrix(self, function: Callable[[Callable[[Tensor], Tensor]], Tensor], like: Tensor) -> Tensor:
        """ρ · function of every matrix, which it takes out of vectors (…, p), as vectors again."""
        first, columns = 0, []
        for shape in self.shapes:
            last = first + prod(shape)
            own = function(partial(_matrix, slice(first, last), shape))
            columns.append(self._ratio(*shape) * own.reshape(*own.shape[:-2], last - first))
            first = last
        return array_namespace(like).concat(columns, axis=-1)

    def _ratio(self, rows: int, columns: int) -> float:
        return sqrt(max(1.0, rows / columns)) if self.adjust == "original" else 0.2 * sqrt(max(rows, columns))


def _matrix(place: slice, shape: tuple[int, int], x: Tensor) -> Tensor:
    """x (…, p) at a place, as (…, rows, columns)."""
    return x[..., place].reshape(*x.shape[:-1], *shape)


@dataclass(frozen=True)
class Muon(Optimizer):
    """torch.optim.Muon on matrices that fill θ one after another: `shapes` (rows, columns) of each, as in the module.

    torch computes the iteration in bfloat16: `bfloat16` repeats that on torch states (numpy has no such type) and is
    what `from_torch` sets. Source: Jordan et al. 2024; Liu et al. 2025 (match_rms_adamw).

    >>> import numpy as np
    >>> theta, g = np.zeros(6), np.array([3.0, 0.0, 0.0, 0.0, 1e-3, 0.0])
    >>> step = Muon(0.1, shapes=[(2, 3)], weight_decay=0.0).at(0, theta)
    >>> step((theta, theta), g)[0].round(3)
    array([-0.07 ,  0.   ,  0.   ,  0.   , -0.016,  0.   ])
    """

    rounding: ClassVar[float] = 2.0**-5  # of an update, where bfloat16 meets another order of summation

    lr: float = 1e-3
    _: KW_ONLY
    shapes: Shapes
    weight_decay: float = 0.1
    momentum: float = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[float, float, float] = NewtonSchulz.coefficients
    ns_steps: int = NewtonSchulz.steps
    eps: float = NewtonSchulz.eps
    adjust_lr_fn: Adjust | None = None
    bfloat16: bool = False

    @property
    def slots(self) -> int:
        return 1

    def at(self, t: int, theta: Tensor) -> MuonStep:
        held = sum(prod(shape) for shape in self.shapes)
        if held != theta.shape[-1]:
            raise ValueError(f"Muon's matrices {list(self.shapes)} hold {held} numbers, θ has {theta.shape[-1]}")
        return MuonStep(
            **self._shared(t, theta),
            momentum=self.momentum,
            nesterov=self.nesterov,
            shapes=self.shapes,
            iteration=NewtonSchulz(self.ns_coefficients, self.ns_steps, self.eps),
            adjust=self.adjust_lr_fn or "original",
            bfloat16=self.bfloat16,
        )
