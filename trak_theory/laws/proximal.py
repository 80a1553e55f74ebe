"""The proximal operator of a loss, safeguarded: the exact root or an error, never something else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.special import wrightomega

from trak_theory.errors import ConvergenceError
from trak_theory.losses import Loss, Poisson, Squared
from trak_theory.numerics.whitening import EPS

MAX_STEPS = 200
ROUNDING = 8.0 * EPS


@dataclass(frozen=True, eq=False)
class ProximalPoint:
    """f = prox_{ηℓ(y,·)}(z) with the residual ℓ′(y, f) and the curvature ℓ″(y, f) there."""

    output: Array
    residual: Array
    curvature: Array


def proximal(loss: Loss, targets: ArrayLike, outputs: ArrayLike, step: ArrayLike) -> ProximalPoint:
    """argmin_f η ℓ(y, f) + (f − z)²/2: the root of f + η ℓ′(y, f) = z, elementwise with broadcasting.

    targets y, outputs z, step η ≥ 0. A point that leaves training with leverage η d/(1 + η d) has z as its
    leave-one-out output and f as its fitted one. Newton's method inside a bracket that always holds the root:
    plain Newton diverges for large η. Stops at the rounding of f + ηℓ′ − z; raises ConvergenceError with the
    residual otherwise.
    """
    y, z, eta = (np.asarray(a, float) for a in np.broadcast_arrays(targets, outputs, step))
    if not (np.isfinite(y).all() and np.isfinite(z).all() and np.isfinite(eta).all() and np.all(eta >= 0)):
        raise ValueError("proximal needs finite targets and outputs and finite steps η ≥ 0")
    if type(loss) is Squared:
        f = (z + eta * y) / (1.0 + eta)
    elif type(loss) is Poisson:
        f = _poisson_root(y, z, eta)
    else:
        shape = z.shape
        y, z, eta = (a.ravel() for a in (y, z, eta))
        low, high = _bracket(loss, y, z, eta)
        f = _root(loss, y, z, eta, low, high, 0.5 * (low + high))
        y, f = y.reshape(shape), f.reshape(shape)
    with np.errstate(over="ignore"):
        return ProximalPoint(f, loss.residual(y, f), loss.curvature(y, f))


def _poisson_root(y: Array, z: Array, eta: Array) -> Array:
    """f + ηe^f = a, a = z + ηy: ηe^f = ω(a + log η), Wright's function; of f = a − ω = log ω/η the exact difference."""
    a = z + eta * y
    with np.errstate(divide="ignore", invalid="ignore"):
        log_eta = np.log(eta)
        omega = wrightomega(a + log_eta)
        return np.where(omega < 1.0, a - omega, np.log(omega) - log_eta)


def _bracket(loss: Loss, y: Array, z: Array, eta: Array) -> tuple[Array, Array]:
    """The root lies between z and z − ηℓ′(z); that end is drawn in where it is far away (or overflows)."""
    with np.errstate(over="ignore"):
        pull = eta * loss.residual(y, z)
    sign, limit = np.sign(pull), np.abs(pull)
    width = np.minimum(limit, 1.0)
    while True:
        far = z - sign * width
        with np.errstate(over="ignore", invalid="ignore"):
            short = (width < limit) & (sign * (far + eta * loss.residual(y, far) - z) > 0)
        if not short.any():
            slack = ROUNDING * np.maximum(1.0, np.abs(z))
            return np.minimum(z, far) - slack, np.maximum(z, far) + slack
        width = np.where(short, np.minimum(4.0 * width, limit), width)


def _root(loss: Loss, y: Array, z: Array, eta: Array, low: Array, high: Array, f: Array) -> Array:
    last = 2.0 * (high - low)
    for _ in range(MAX_STEPS):
        with np.errstate(over="ignore", invalid="ignore"):
            pull = eta * loss.residual(y, f)
            gap = f + pull - z
            slope = 1.0 + eta * loss.curvature(y, f)
            newton = f - gap / slope
            rounding = ROUNDING * (slope * np.maximum(1.0, np.abs(f)) + np.abs(pull) + np.abs(z))
        low, high = np.where(gap < 0, f, low), np.where(gap > 0, f, high)
        done = (np.isfinite(gap) & (np.abs(gap) <= rounding)) | (high - low <= ROUNDING * np.abs(f))
        if done.all():
            return f
        slow = ~((newton > low) & (newton < high) & (2 * np.abs(newton - f) <= last))
        following = np.where(done, f, np.where(slow, 0.5 * (low + high), newton))
        last, f = np.where(done, last, np.abs(following - f)), following
        if 2 * done.sum() > done.size:  # go on with the others alone
            left = ~done
            f[left] = _root(loss, y[left], z[left], eta[left], low[left], high[left], f[left])
            return f
    worst = int(np.argmax(np.where(done, 0.0, np.abs(gap))))
    raise ConvergenceError(
        f"the proximal operator of the {loss.name} loss did not converge in {MAX_STEPS} steps: at y = {y[worst]:g}, "
        f"z = {z[worst]:g}, η = {eta[worst]:g} the residual f + ηℓ′ − z is still {gap[worst]:.3g}; is ℓ convex and "
        "are its derivatives right?"
    )
