"""State evolution: what a fit in high dimension will look like, before any data is seen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike
from scipy.optimize import root

from trak_theory.errors import ConvergenceError
from trak_theory.laws.channels import Channel, channel_of
from trak_theory.laws.design import Design, Scales, design_of, scale_rule
from trak_theory.laws.state_equations import FINEST, Equations, TrainingPoints
from trak_theory.losses import Loss, as_loss
from trak_theory.numerics.checks import non_negative, real_array

TOLERANCE = 1e-8  # of every equation, relative, at twice the nodes of the solution
ROUGHLY = 1e-4  # the same with few nodes, where the last steps start from
GAIN, MAX_STEPS = 1e-2, 8  # of the steps at one number of nodes
STEP = 1e-4  # of a difference quotient
FARTHEST = 1e3  # what an equation is said to leave over where it cannot be evaluated
DIVERGED = 20.0  # outputs per max(1, κ) at which a fit without ridge has no minimiser in practice
SMALLEST_RIDGE, SMALLEST_STEP = 1e-6, 0.05  # of the continuation in log ridge
LARGE_SENSITIVITY, LARGE_SHARE = 0.08, 0.1


@dataclass(frozen=True, eq=False)
class StateEvolution:
    """The limit of a fit to n points as n and p grow together.

    alpha, sigma   the output without x in the training data is x·θ̂ = α s + c σ ξ, s = x·θ* the signal, ξ ~ N(0, 1)
    eta            η = tr ΣH⁻¹ (isotropic: tr H⁻¹); a point's leverage is c²ηd/(1 + c²ηd)
    sensitivity    −(∂ log σ/∂ log n)/√n, to about 1 %: the change of log σ when √n points are lost. It grows without
                   limit towards separability; the spread of log σ between data sets is two to four times as large
    dominance      share of tr(ΣH⁻¹ΣH⁻¹) that one direction adds, that of the fit; the laws leave it out
    warnings       what is not to be trusted at this size, in words
    points         quadrature over the training points, at the fit
    """

    alpha: float
    sigma: float
    eta: float
    sensitivity: float
    dominance: float
    warnings: tuple[str, ...]
    equations: Equations = field(repr=False)
    points: TrainingPoints = field(repr=False)

    @property
    def design(self) -> Design:
        return self.equations.design

    @property
    def ridge(self) -> float:
        return self.equations.ridge

    @property
    def square_residual(self) -> float:
        """E r² at the fit."""
        return self.points.mean(self.points.residual**2)


def state_evolution(
    *,
    n: int,
    p: int,
    ridge: float,
    signal: ArrayLike,
    loss: str | Loss = "logistic",
    noise: float | None = None,
    channel: Channel | None = None,
    spectrum: ArrayLike | None = None,
    scales: Scales = None,
) -> StateEvolution:
    """The state of argmin_θ Σ_i ℓ(y_i, x_i·θ) + (λ/2)‖θ‖², rows x_i = c_i Σ^½ g_i with g ~ N(0, I_p).

    signal κ = ‖Σ^½θ*‖, spread evenly over the coordinates of θ*, or these coordinates (p,) in the eigenbasis of Σ;
    labels y | s from `channel`, by default the one that the loss is the likelihood of (squared, huber: y = s + `noise`
    N(0, 1), default 1); spectrum the eigenvalues of Σ (p,), default 1; scales the c_i, as an array or a distribution
    with `ppf`, default 1. Solves the equations of `Equations` to 1e-8, quadrature included.

    Holds for any convex loss, in the limit n, p → ∞ with p/n fixed. Raises ConvergenceError with the residual where no
    root is found (separable data without ridge have none). Source: Sur & Candès 2019 (logistic, λ = 0), Salehi et al.
    2019 (ridge), El Karoui 2018 (scales); general form ours.

    >>> state = state_evolution(n=400, p=100, ridge=0.0, signal=1.0, loss="squared", noise=1.0)
    >>> round(state.eta, 4)  # p/(n − p)
    0.3333
    """
    design = design_of(n=n, p=p, signal=signal, spectrum=spectrum, scales=scales)
    ridge = float(non_negative("ridge", real_array("ridge", ridge, 0)))
    if ridge == 0 and design.rank >= n:
        raise ValueError(f"{design.rank} coefficients, n = {n} points and ridge 0: no unique minimiser; add a ridge")
    loss = as_loss(loss)
    return _state(Equations(design, ridge, loss, channel_of(loss, noise) if channel is None else channel))


def replace_scales(state: StateEvolution, scales: ArrayLike) -> StateEvolution:
    """The state of the same model with rows of other scales c_i."""
    nodes, weights = scale_rule(scales)
    return _state(replace(state.equations, design=replace(state.design, scales=nodes, scale_weights=weights)))


def _state(equations: Equations) -> StateEvolution:
    unknowns, points, jacobian = _solve(equations)
    sensitivity = _sensitivity(equations, unknowns, points, jacobian)
    dominance = _dominance(equations, unknowns, points)
    return StateEvolution(
        float(unknowns[0]),
        float(np.exp(unknowns[1])),
        float(np.exp(unknowns[2])),
        sensitivity,
        dominance,
        _warnings(equations, sensitivity, dominance),
        equations,
        points,
    )


def _solve(equations: Equations) -> tuple[Array, TrainingPoints, Array]:
    """The root, the points there and the equations' Jacobian: a rough root, refined with ever more nodes."""
    rough = replace(equations, design=equations.design.rough())
    unknowns = _root(rough, _first_guess(rough))
    if unknowns is None:
        unknowns = _follow(rough)
    jacobian = _jacobian(rough, unknowns)
    nodes = equations.counts(unknowns) / 2
    gap = equations.gap(unknowns, equations.points(unknowns, nodes))
    while nodes.min() <= FINEST:
        unknowns = _refine(equations, unknowns, nodes, gap, jacobian)
        nodes = 2 * nodes
        points = equations.points(unknowns, nodes)
        gap = equations.gap(unknowns, points)
        if np.abs(gap).max() <= TOLERANCE:
            return unknowns, points, jacobian
    raise _failure(equations, unknowns, float(np.abs(gap).max()))


def _refine(equations: Equations, unknowns: Array, nodes: Array, gap: Array, jacobian: Array) -> Array:
    """Broyden's steps until one more leaves over less than what the quadrature misses; updates the Jacobian."""
    goal = max(GAIN * float(np.abs(gap).max()), TOLERANCE)
    start = unknowns
    for _ in range(MAX_STEPS):
        step = -np.linalg.solve(jacobian, gap)
        unknowns = unknowns + step
        if np.abs(gap).max() <= goal:
            return unknowns
        gap = equations.gap(unknowns, equations.points(unknowns, nodes))
        if not np.isfinite(gap).all():
            break
        jacobian += np.outer(gap, step) / (step @ step)
    found = _root(equations, start, nodes, TOLERANCE)
    if found is None:
        raise _failure(equations, start)
    return found


def _first_guess(equations: Equations) -> Array:
    """The scales of a fit to a null signal with curvature and squared residual of one fifth."""
    design = equations.design
    eta = float(design.counts @ design.eigenvalues) / (0.2 * design.n + equations.ridge)
    return np.array([0.0, np.log(eta * np.sqrt(0.2 * design.n / design.p)), np.log(eta)])


def _root(equations: Equations, start: Array, counts: Array | None = None, tolerance: float = ROUGHLY) -> Array | None:
    """Powell's hybrid method from `start`; None where it does not arrive."""
    nodes = equations.counts(start) / 2 if counts is None else counts

    def gap(unknowns: Array) -> Array:
        if np.abs(unknowns[1:]).max() > 50.0 or abs(unknowns[0]) > FARTHEST:
            return np.full(3, FARTHEST)
        left = equations.gap(unknowns, equations.points(unknowns, nodes))
        return np.nan_to_num(left, nan=FARTHEST, posinf=FARTHEST, neginf=-FARTHEST)

    answer = root(gap, start, method="hybr", options={"xtol": 0.1 * tolerance, "factor": 1.0})
    return answer.x if np.abs(answer.fun).max() <= tolerance else None


def _follow(equations: Equations) -> Array:
    """Follow the root from a ridge so large that the fit is easy down to the one asked for."""
    n, ridge = equations.design.n, equations.ridge
    here, goal = np.log(100.0 * n + ridge), np.log(max(ridge, SMALLEST_RIDGE * n))
    easier, step = replace(equations, ridge=float(np.exp(here))), 3.0
    guess = _first_guess(easier)
    unknowns = _root(easier, guess)
    while unknowns is not None and here > goal:
        following = max(goal, here - step)
        easier = replace(equations, ridge=float(np.exp(following)))
        found = _root(easier, unknowns)
        diverged = equations.spread(unknowns) > DIVERGED * max(1.0, equations.design.signal)
        if (ridge == 0 and diverged) or (found is None and step < SMALLEST_STEP):
            raise _failure(easier, unknowns)
        if found is None:
            step /= 2
        else:
            here, unknowns, step = following, found, 1.5 * step
    if unknowns is not None and ridge == 0:
        easier, guess = equations, unknowns
        unknowns = _root(equations, unknowns)
    if unknowns is None:
        raise _failure(easier, guess)
    return unknowns


def _failure(equations: Equations, unknowns: Array, left: float | None = None) -> ConvergenceError:
    if left is None:
        points = equations.points(unknowns, equations.counts(unknowns))
        left = float(np.abs(equations.gap(unknowns, points)).max())
    sigma, eta = np.exp(unknowns[1:])
    design = equations.design
    return ConvergenceError(
        f"no state evolution found for the {equations.loss.name} loss at n = {design.n}, p = {design.p}, "
        f"ridge = {equations.ridge:g}, signal = {design.signal:g}: relative residual {left:.2g} at "
        f"α = {unknowns[0]:.4g}, σ = {sigma:.4g}, η = {eta:.4g}. With a small ridge there may be no minimiser "
        "(separable data) or no residual (labels without noise); a larger ridge makes the problem well posed"
    )


def _jacobian(equations: Equations, unknowns: Array) -> Array:
    counts = equations.counts(unknowns) / 2
    here = equations.gap(unknowns, equations.points(unknowns, counts))
    jacobian = np.empty((3, 3))
    for j, shift in enumerate(STEP * np.eye(3)):
        moved = unknowns + shift
        jacobian[:, j] = (equations.gap(moved, equations.points(moved, counts)) - here) / STEP
    return jacobian


def _sensitivity(equations: Equations, unknowns: Array, points: TrainingPoints, jacobian: Array) -> float:
    """−(∂ log σ/∂ log n)/√n by the implicit function theorem."""
    larger = replace(equations, design=replace(equations.design, n=equations.design.n * (1.0 + STEP)))
    moved = larger.gap(unknowns, points) - equations.gap(unknowns, points)
    change = np.linalg.solve(jacobian, -moved / STEP)
    return float(-change[1] / np.sqrt(equations.design.n))


def _dominance(equations: Equations, unknowns: Array, points: TrainingPoints) -> float:
    """Along the fit's direction u the curvature is E[d̃ z²]/E z², not E d̃ (d̃ = d/(1 + c²ηd)): a rank-one change of H.

    K = Σ^½H⁻¹Σ^½, δ the change of nE d̃ along u, δ′ = δ/(1 + δ uᵀKu): t = tr K² changes by δ′²(uᵀK²u)² − 2δ′uᵀK³u, which
    is compared with tr(ΣH⁻¹ΣH⁻¹) = t/(1 − a t), a = nE d̃².
    """
    moments, design = equations.moments(unknowns[0], points), equations.design
    along = design.n * points.mean(points.damped * points.output**2 / points.scale**2)
    along /= points.mean(points.output**2 / points.scale**2)
    kernel = design.eigenvalues / equations.gram(moments)
    powers = equations.powers(moments)
    first, second, third = (float(powers @ kernel**m / powers.sum()) for m in (1, 2, 3))
    delta = (along - moments.curvature) / (1.0 + (along - moments.curvature) * first)
    trace = float(design.counts @ kernel**2)
    change = delta**2 * second**2 - 2 * delta * third
    return change * (1.0 - design.n * points.mean(points.damped**2) * trace) / trace


def _warnings(equations: Equations, sensitivity: float, dominance: float) -> tuple[str, ...]:
    ends = np.concatenate(equations.loss.asymptotic_slopes(np.array([0.0, 1.0])))
    warnings = []
    if (ends == 0).any() and sensitivity > LARGE_SENSITIVITY:
        warnings.append(
            f"near-separable: losing √n points would change log σ by {sensitivity:.2g}, and a few exploding influences "
            "make Pearson and slope unreliable; trust Kendall, or raise the ridge"
        )
    if dominance > LARGE_SHARE:
        warnings.append(
            f"one direction, that of the fit, adds {dominance:.0%} to the kernel's second moment (strong signal, small "
            "ridge, small p); the laws leave it out and are off by about that order"
        )
    return tuple(warnings)
