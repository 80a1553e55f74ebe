"""One step of an optimiser as a map x_t, g_t ↦ x_{t+1}, with its linear tangent and its adjoint.

A state x = (θ, *slots) is a tuple of arrays (…, p); the slots are () for plain SGD, (b,) with momentum, (m, v) for
Adam and (m, v, w) with AMSGrad. Leading axes are models (or directions, for tangents and cotangents). Everything is
elementwise except the clipping norm, in the array namespace of the state, and complex states pass through: branches
(clipping, AMSGrad's maximum) are taken on real parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from array_api_compat import array_namespace

from trak_theory.numerics.tensor import Tensor
from trak_theory.trajectory.optimizer.kernels import (
    mix,
    mix_square,
    plus_product,
    plus_quotient,
    root_plus,
    scaled,
    written,
)
from trak_theory.trajectory.sweep.blocks import blocks, in_blocks, rows_of, squared_norm

State = tuple[Tensor, ...]

CLIP_MARGIN = 1e-6  # torch.nn.utils.clip_grad_norm_ divides by ‖g‖ + 1e-6


@dataclass(frozen=True, kw_only=True)
class StepMap(ABC):
    """x' = F(x, g) with every hyper-parameter of this step as a number, or one number per coordinate (p,).

    `step(x, g)` is x'; `step.increment(x, g)` is (θ' − θ, *slots'), which keeps small differences of θ' exact.
    `step.tangent(x, g, ẋ, ġ)` is ẋ' = F_x ẋ + F_g ġ; `step.adjoint(x, g, x̄')` is (x̄, ḡ) = (F_xᵀx̄', F_gᵀx̄').
    `step.part(block)` is the map of some coordinates: all is elementwise but the norm that the gradient is clipped by,
    and where `elementwise` is False, the map itself.
    """

    elementwise: ClassVar[bool] = True

    lr: Tensor
    weight_decay: Tensor = 0.0
    clip_norm: float | None = None

    def __call__(self, state: State, gradient: Tensor) -> State:
        clipping = Clipping.at(gradient, self.clip_norm)

        def after(block: slice) -> State:
            own = tuple(x[..., block] for x in state)
            change, *slots = self.part(block)._trained(own, clipping.value(gradient[..., block]))
            return (own[0] + change, *slots)

        return in_blocks(after, gradient.shape[-1], self.blocks(rows_of(gradient), gradient.shape[-1]))

    def blocks(self, rows: int, p: int) -> list[slice]:
        """Blocks of coordinates that the map can be applied to one after another."""
        return blocks(rows, p) if self.elementwise else [slice(None)]

    def part(self, block: slice) -> Self:
        """The map of some of the coordinates, for gradients that are clipped already."""
        varying = {name: value[block] for name, value in vars(self).items() if getattr(value, "ndim", 0)}
        return replace(self, clip_norm=None, **varying) if varying or self.clip_norm is not None else self

    def increment(self, state: State, gradient: Tensor, into: State | None = None, less: Tensor = 0.0) -> State:
        """(θ' − θ − less, *slots'); into: arrays to write to, like the result; into[1] may be the gradient."""
        return self._increment(state, clip(gradient, self.clip_norm), into or (None,) * len(state), less)

    def tangent(self, state: State, gradient: Tensor, dstate: State, dgradient: Tensor) -> State:
        clipped = clip(gradient, self.clip_norm)
        return self._tangent(state, clipped, dstate, clip_slope(gradient, self.clip_norm, dgradient))

    def adjoint(self, state: State, gradient: Tensor, cotangent: State) -> tuple[State, Tensor]:
        before, slope = self._adjoint(state, clip(gradient, self.clip_norm), cotangent)
        return before, clip_slope(gradient, self.clip_norm, slope)

    def adjoint_slots(self, state: State, g: Tensor, cotangent: State, into: State | None = None) -> State:
        """The slots of x̄ alone; gradient clipped already.

        into: arrays to write them to, like the result; they may be the slots of the cotangent.
        """
        return _written(self._adjoint(state, g, cotangent)[0][1:], into)

    def adjoint_ends(self, state: State, g: Tensor, cotangent: State, into: Tensor = None) -> tuple[Tensor, Tensor]:
        """θ̄ and ḡ alone; gradient clipped already; into: an array to write ḡ to."""
        (theta, *_), slope = self._adjoint(state, g, cotangent)
        return theta, written(slope, into)

    def trained(self, state: State, gradient: Tensor) -> State:
        """`increment` as training computes it, which may be in another precision; gradient clipped already."""
        return self._trained(state, gradient)

    def _trained(self, state: State, g: Tensor) -> State:
        return self._increment(state, g, (None,) * len(state), 0.0)

    @abstractmethod
    def _increment(self, state: State, g: Tensor, into: State, less: Tensor) -> State: ...

    @abstractmethod
    def _tangent(self, state: State, g: Tensor, dstate: State, dg: Tensor) -> State: ...

    @abstractmethod
    def _adjoint(self, state: State, g: Tensor, cotangent: State) -> tuple[State, Tensor]: ...


def _written(slots: State, into: State | None) -> State:
    return slots if into is None else tuple(written(own, to) for own, to in zip(slots, into, strict=True))


@dataclass(frozen=True)
class Clipping:
    """g ↦ g · min(1, c/(‖g‖ + δ)) at one g, the norm over the last axis, by numbers (…, 1) that all coordinates share.

    Its value is s g, its derivative dg ↦ s dg − r g (gᵀdg): symmetric, and so its own adjoint. Where clipping acts,
    s = c/(‖g‖ + δ) and r = s/(‖g‖(‖g‖ + δ)); elsewhere 1 and 0. None: no clipping anywhere.
    """

    scale: Tensor = None
    turn: Tensor = None

    @classmethod
    def at(cls, g: Tensor, norm: float | None) -> Clipping:
        if norm is None:
            return cls()
        return cls.of(squared_norm(lambda block: g[..., block], blocks(rows_of(g), g.shape[-1])), norm)

    @classmethod
    def of(cls, square: Tensor, norm: float) -> Clipping:
        """From ‖g‖² (…, 1)."""
        xp = array_namespace(square)
        length = xp.sqrt(square)
        scale, one = norm / (length + CLIP_MARGIN), xp.ones_like(length)
        active = scale.real < 1.0
        length = xp.where(active, length, one)
        turn = scale / (length * (length + CLIP_MARGIN))
        return cls(xp.where(active, scale, one), xp.where(active, turn, 0.0 * turn))

    def value(self, g: Tensor) -> Tensor:
        return g if self.scale is None else self.scale * g

    def slope(self, g: Tensor, dg: Tensor, along: Tensor) -> Tensor:
        """The derivative along dg; along = gᵀdg (…, 1) over all coordinates, g and dg may be parts."""
        return dg if self.scale is None else self.scale * dg - (self.turn * along) * g


def clip(g: Tensor, norm: float | None) -> Tensor:
    """g · min(1, c/(‖g‖ + 10⁻⁶)), the norm over the last axis."""
    return Clipping.at(g, norm).value(g)


def clip_slope(g: Tensor, norm: float | None, dg: Tensor) -> Tensor:
    """The derivative of `clip` at g along dg."""
    if norm is None:
        return dg
    return Clipping.at(g, norm).slope(g, dg, array_namespace(g).sum(g * dg, axis=-1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class SGDStep(StepMap):
    """d = g + λθ,  b' = μb + κd,  u = b' (Nesterov: d + μb'),  θ' = θ − ηu.

    κ = 1 at the first step and where μ = 0, else 1 − dampening, as in torch. Without momentum there is no slot.
    """

    momentum: Tensor = None
    fresh: Tensor = 1.0  # κ
    nesterov: bool = False

    def _increment(self, state: State, g: Tensor, into: State, less: Tensor) -> State:
        change, *slots = self._linear(state, g)
        return (change - less, *slots)

    def _tangent(self, state: State, g: Tensor, dstate: State, dg: Tensor) -> State:
        change, *slots = self._linear(dstate, dg)
        return (dstate[0] + change, *slots)

    def _linear(self, state: State, g: Tensor) -> State:
        theta, *slots = state
        d = g + self.weight_decay * theta
        if self.momentum is None:
            return (-self.lr * d,)
        buffer = self.momentum * slots[0] + self.fresh * d
        update = d + self.momentum * buffer if self.nesterov else buffer
        return -self.lr * update, buffer

    def _adjoint(self, state: State, g: Tensor, cotangent: State) -> tuple[State, Tensor]:
        theta, *slots = cotangent
        update = -self.lr * theta
        if self.momentum is None:
            return (theta + self.weight_decay * update,), update
        buffer = slots[0] + (self.momentum * update if self.nesterov else update)
        d = self.fresh * buffer + (update if self.nesterov else 0.0)
        return (theta + self.weight_decay * d, self.momentum * buffer), d


@dataclass(frozen=True, kw_only=True)
class AdamStep(StepMap):
    """m' = β₁m + (1−β₁)d,  v' = β₂v + (1−β₂)d²,  θ' = (1−ηλ)θ − η m̂/(√v̂ + ε),  m̂ = m'/(1−β₁ⁿ), v̂ = v'/(1−β₂ⁿ).

    AdamW (`decoupled`): d = g. Adam: d = g + λθ and no factor 1 − ηλ. AMSGrad takes w' = max(w, v') for v' in v̂.
    `inside` puts ε inside the root, √(v̂ + ε): smooth at v = 0, no twin in torch.
    """

    beta1: Tensor
    beta2: Tensor
    eps: Tensor
    correction1: Tensor  # 1 − β₁ⁿ
    correction2: Tensor  # 1 − β₂ⁿ
    decoupled: bool
    amsgrad: bool = False
    inside: bool = False

    @property
    def _decay(self) -> Tensor:
        """∂θ'/∂θ at fixed moments."""
        return 1 - self.lr * self.weight_decay if self.decoupled else 1.0

    def _moments(self, state: State, g: Tensor, into: State | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """d, m', v' and the second moment in use: v', or AMSGrad's w'."""
        theta, m, v, *largest = state
        d = g if self.decoupled else g + self.weight_decay * theta
        to_m, to_v = (None, None) if into is None else into[1:3]
        v, m = mix_square(self.beta2, v, d, to_v), mix(self.beta1, m, d, to_m)  # m' may be written over d
        if not self.amsgrad:
            return d, m, v, v
        xp = array_namespace(v)
        return d, m, v, xp.where(v.real > largest[0].real, v, largest[0])

    def _slots(self, m: Tensor, v: Tensor, used: Tensor) -> State:
        return (m, v, used) if self.amsgrad else (m, v)

    def _increment(self, state: State, g: Tensor, into: State, less: Tensor) -> State:
        _, m, v, used = self._moments(state, g, into)
        decay = (-self.lr * self.weight_decay if self.decoupled else 0.0) * state[0] - less
        scale = self.correction2**0.5
        if self.inside:
            root = root_plus(used + self.correction2 * self.eps, 0.0, into[0])
        else:
            root = root_plus(used, scale * self.eps, into[0])
        return (plus_quotient(decay, m, root, -self.lr * scale / self.correction1, into[0]), *self._slots(m, v, used))

    def _slopes(self, m: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        """D = ∂(m̂/(√v̂+ε))/∂m̂ and S = −∂(m̂/(√v̂+ε))/∂v̂ = m̂/(2√v̂(√v̂+ε)²), 0 where v̂ = 0."""
        xp = array_namespace(m)
        m_hat, v_hat = m / self.correction1, used / self.correction2
        if self.inside:
            d = 1.0 / xp.sqrt(v_hat + self.eps)
            return d, 0.5 * m_hat * d * d * d
        root = xp.sqrt(v_hat)
        d = 1.0 / (root + self.eps)
        smooth = root != 0
        return d, xp.where(smooth, 0.5 * m_hat * d * d / xp.where(smooth, root, xp.ones_like(root)), 0.0 * d)

    def _tangent(self, state: State, g: Tensor, dstate: State, dg: Tensor) -> State:
        d, m, v, used = self._moments(state, g)
        dtheta, dm, dv, *dlargest = dstate
        dd = dg if self.decoupled else dg + self.weight_decay * dtheta
        dm = self.beta1 * dm + (1 - self.beta1) * dd
        dv = self.beta2 * dv + 2 * (1 - self.beta2) * d * dd
        dused = dv
        if self.amsgrad:
            dused = array_namespace(v).where(v.real > state[3].real, dv, dlargest[0])
        slope_m, slope_v = self._slopes(m, used)
        change = slope_m / self.correction1 * dm - slope_v / self.correction2 * dused
        return (self._decay * dtheta - self.lr * change, *self._slots(dm, dv, dused))

    def adjoint_slots(self, state: State, g: Tensor, cotangent: State, into: State | None = None) -> State:
        _, *slots = self._adjoint_moments(state, g, cotangent, into)
        return self._decayed(slots, into)

    def adjoint_ends(self, state: State, g: Tensor, cotangent: State, into: Tensor = None) -> tuple[Tensor, Tensor]:
        d, to_m, to_v, *_ = self._adjoint_moments(state, g, cotangent)
        return self._ends(cotangent[0], d, to_m, to_v, into)

    def _adjoint(self, state: State, g: Tensor, cotangent: State) -> tuple[State, Tensor]:
        d, *slots = self._adjoint_moments(state, g, cotangent)
        decayed = self._decayed(slots, None)
        theta, slope = self._ends(cotangent[0], d, *slots[:2])
        return (theta, *decayed), slope

    def _ends(self, theta: Tensor, d: Tensor, to_m: Tensor, to_v: Tensor, into: Tensor = None) -> tuple[Tensor, Tensor]:
        """θ̄ and ḡ; to_m may be written over."""
        slope = plus_product(scaled(1 - self.beta1, to_m, to_m), d, to_v, 2 * (1 - self.beta2), into)
        theta = self._decay * theta
        return theta if self.decoupled else theta + self.weight_decay * slope, slope

    def _decayed(self, slots: Sequence[Tensor], into: State | None) -> State:
        to_m, to_v, *before = slots
        in_m, in_v, *_ = into or (None, None)
        return (scaled(self.beta1, to_m, in_m), scaled(self.beta2, to_v, in_v), *before)

    def _adjoint_moments(self, state: State, g: Tensor, cotangent: State, into: State | None = None) -> State:
        """d, what reaches m' and v' by way of θ' too, and for AMSGrad the adjoint of w."""
        d, m, v, used = self._moments(state, g)
        theta, to_m, to_v, *to_largest = cotangent
        in_m, in_v, *in_largest = into or (None,) * (len(state) - 1)
        slope_m, slope_v = self._slopes(m, used)
        to_m = plus_product(to_m, slope_m, theta, -self.lr / self.correction1, in_m)
        if not self.amsgrad:
            return d, to_m, plus_product(to_v, slope_v, theta, self.lr / self.correction2, in_v)
        to_used = self.lr * slope_v / self.correction2 * theta
        xp = array_namespace(v)
        grew, to_used = v.real > state[3].real, to_largest[0] + to_used
        to_v = to_v + xp.where(grew, to_used, 0.0 * to_used)
        return d, to_m, to_v, written(xp.where(grew, 0.0 * to_used, to_used), in_largest[0] if into else None)
