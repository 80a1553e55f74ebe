"""Distance of a network from its kernel machine, along output scale, initial scale and width."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.studies.shallow.linearisation import QUERIES, network_problem
from trak_theory import Linearization, agreement, influence
from trak_theory.shallow import ShallowFit, TwoLayer, kernel_machine, leave_one_out

N, NOISE, WIDTH = 80, 0.3, 12
RIDGE, DECAY = 3.0, 2.0  # of the function around the start; of ordinary weight decay around zero

# One curve each: what grows, and from where to where.
SIZES: dict[str, tuple[float, ...]] = {
    "output scale": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
    "initial scale": (0.25, 0.5, 1.0, 2.0, 4.0),
    "width, NTK": (8.0, 16.0, 32.0, 64.0),
    "width, weight decay": (8.0, 16.0, 32.0, 64.0),
}
WIDER = 128.0


def run(params: Params, rng: Generator) -> Rows:
    """One network: its kernel machine and two kernel influences against exact leave-one-out; how far it moved."""
    splitting, starting = rng.spawn(2)
    problem = network_problem("teacher", n=N, noise=NOISE, rng=splitting)
    options, hidden, output = _curve(str(params["curve"]), float(params["size"]))
    model = problem.model(**options)
    fit = model.fit(model.initial(starting, hidden=hidden, output=output))
    queries = problem.queries(fit)
    truth = leave_one_out(fit, queries)
    gradient = queries.gradient(fit.theta)
    trained, untrained = _kernel(fit, gradient, trained=True), _kernel(fit, queries.gradient(fit.start), trained=False)
    estimates = {
        "kernel machine": kernel_machine(fit, queries),
        "kernel influence": influence(trained),
        "kernel influence at the start": influence(untrained),
    }
    gram, old = (lin.features @ lin.features.T for lin in (trained, untrained))
    shared = {
        "n": N,
        "p": fit.theta.size,
        "queries": QUERIES,
        "ridge": model.ridge,
        "width": model.network.width,
        "dead_units": len(fit.dead_units),
        "unresolved": len(truth.unresolved),
        "kernel_change": float(np.linalg.norm(gram - old) / np.linalg.norm(old)),
        "moved": float(np.linalg.norm(fit.theta - fit.start) / np.linalg.norm(fit.start)),
        "rms_residual": float(np.sqrt(np.mean(fit.model.head.residual(fit.outputs) ** 2))),
    }
    return [
        {**shared, "estimate": name, **agreement(truth.influence, estimate).row()}
        for name, estimate in estimates.items()
    ]


def _curve(curve: str, size: float) -> tuple[dict[str, Any], float, float]:
    """Options of the model, and the hidden and output scale of its start.

    output scale          f = s(h(θ) − h(θ₀)), ridge RIDGE s²: the ridge of the function stays
    initial scale         f = h(θ) − h(θ₀), both layers of θ₀ multiplied
    width, NTK            f = m^(−½)(…) centred at θ₀, output weights N(0, 1)
    width, weight decay   f = h(θ), penalty around zero: the ordinary network
    """
    if curve == "output scale":
        return {"width": WIDTH, "ridge": RIDGE * size**2, "scale": size, "centre": "initial"}, 1.0, 1.0
    if curve == "initial scale":
        return {"width": WIDTH, "ridge": RIDGE, "centre": "initial"}, size, size
    width = int(size)
    if curve == "width, NTK":
        return {"width": width, "ridge": RIDGE, "scale": size**-0.5, "centre": "initial"}, 1.0, size**0.5
    return {"width": width, "ridge": DECAY}, 1.0, 1.0


def _kernel(fit: ShallowFit, gradient: Any, *, trained: bool) -> Linearization:
    """The linearisation with features of the trained network, or of its start; residual and curvature of the former."""
    model: TwoLayer = fit.model
    features = fit.objective.outputs.jacobian(fit.theta if trained else fit.start)[:, 0, :]
    residual, curvature = model.head.residual(fit.outputs)[:, 0], model.head.curvature(fit.outputs)[:, 0, 0]
    return Linearization(features, residual, curvature, model.ridge, gradient)


def cells(replicates: int, *, wider: bool = False) -> list[Params]:
    sizes = {curve: [*s, WIDER] if wider and curve.startswith("width") else s for curve, s in SIZES.items()}
    return [params for curve, s in sizes.items() for params in grid(curve=[curve], size=s, replicate=range(replicates))]


STUDY = Study(
    name="feature_learning",
    summary="When does a network become its kernel machine: along output scale, initial scale and width?",
    run=run,
    quick=cells(1)[::2],
    full=cells(10, wider=True),
    seconds=1.7,
)
