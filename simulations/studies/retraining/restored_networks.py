"""LDS of restored influence, by sketch and conjugate gradients, on a CNN of 1e5 and a GPT-2 of 1e6 parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from trak_theory import influence
from trak_theory.attribution import trak_kernel
from trak_theory.retraining import fidelity
from trak_theory.retraining.sketched_influence import gram_spectrum

if TYPE_CHECKING:
    from torch import nn

    from simulations.workloads.retrained.modules import Experiment

SKETCHED, SOLVED = "restored, one sketch", "restored, conjugate gradients"
RULED, RELEASED, AGAIN = "TRAK, ridge of the rule", "TRAK, μ = 0", "retraining in another batch order"
SHARES = (0.01, 0.5)  # removed


def run(params: Params, rng: Generator) -> Rows:
    """One network: fidelity of every answer where 1 % and where half of the samples are removed."""
    building, ordering, choosing, repeating, sketching = rng.spawn(5)
    model = _experiment(params, building)
    order, other = model.recipe.batches(model.n, ordering), model.recipe.batches(model.n, repeating)
    module, optimizer = model.trained(order)
    rows: Rows = []
    for share in SHARES:
        removed = max(1, round(share * model.n))
        ranks = np.argsort(choosing.random((int(params["subsets"]), model.n)), axis=1)
        kept = np.argsort(ranks, axis=1) >= removed
        outputs = model.outputs(order, kept)
        answers: dict[str, tuple[Array, dict[str, float]]] = {AGAIN: (model.outputs(other, kept), {})}
        for name, scores, cost in _answers(model, module, optimizer, int(params["k"]), 1 - share, sketching):
            answers[name] = (kept @ scores, cost)
        for name, (predicted, cost) in answers.items():
            found = fidelity(predicted, outputs)
            row = {"share": share, "answer": name, "fidelity": found.mean.value, "se": found.se, **cost}
            rows.append({"n": model.n, "p": model.p, **row})
    return rows


def _experiment(params: Params, rng: Generator) -> Experiment:
    from simulations.workloads.retrained.modules import Recipe, cnn, gpt2

    recipe = Recipe(int(params["batch"]), int(params["steps"]), 1e-3)
    n, queries = int(params["samples"]), int(params["queries"])
    if params["model"] == "CNN":
        return cnn(n, queries, recipe, rng)
    return gpt2(int(params["width"]), int(params["layers"]), 32, n, queries, recipe, rng)


def _answers(
    model: Experiment, module: nn.Module, optimizer: Any, k: int, fraction: float, rng: Generator
) -> Iterator[tuple[str, Array, dict[str, float]]]:
    """Name, scores (n, q), and what they cost."""
    import torch

    from trak_theory.torch_bridge import linearize, restored, restored_by_cg, training_coordinates
    from trak_theory.torch_bridge.sketch import CountSketch

    scales, training = training_coordinates(module, optimizer, model.n, schedule=np.ones(model.recipe.steps))
    shared: dict[str, Any] = {"fraction": fraction, "k": k, "scales": scales, "loss": model.curvature, "rng": rng}
    samples = model.training, model.queries
    found = restored(module, *samples, training, **shared)
    yield SKETCHED, found.scores, {"dimension": found.effective_dimension}
    solved = restored_by_cg(module, *samples, training, **shared)
    yield SOLVED, solved.scores, {"products": solved.steps, "residual": float(solved.residual.max())}
    sketch, factor = CountSketch(model.p, k, rng=rng), torch.from_numpy(scales).float()
    lin = linearize(module, model.scalar, *samples, sketch=lambda rows: sketch(rows * factor))
    wanted = found.ridge / float(lin.curvature.mean())
    ridge = gram_spectrum(lin.features.T @ lin.features).standing_for(wanted).ridge
    yield RULED, influence(trak_kernel(lin, ridge=ridge)), {}
    small = CountSketch(model.p, max(2, model.n // 4), rng=rng)
    yield RELEASED, influence(trak_kernel(linearize(module, model.scalar, *samples, sketch=small))), {}


CNN: dict[str, list[Any]] = {"model": ["CNN"], "width": [0], "layers": [0]}
TEXT: dict[str, list[Any]] = {"model": ["GPT-2"]}

FEW: dict[str, list[Any]] = {"queries": [6], "subsets": [12], "k": [128], "replicate": [0, 1]}
SMALL_CELLS = [
    *grid(**CNN, samples=[60], batch=[20], steps=[12], **FEW),
    *grid(**TEXT, width=[32], layers=[2], samples=[48], batch=[16], steps=[9], **FEW),
]
MANY: dict[str, list[Any]] = {"k": [1024], "replicate": [0, 1]}

STUDY = Study(
    name="restored_networks",
    summary="Restored influence ranks retrainings of a CNN and of a language model better than TRAK.",
    run=run,
    quick=SMALL_CELLS[::2],  # of each setting the first
    full=[
        *SMALL_CELLS,
        *grid(**CNN, samples=[500], batch=[50], steps=[100], queries=[40], subsets=[40], **MANY),
        *grid(
            **TEXT, width=[128], layers=[5], samples=[256], batch=[16], steps=[48], queries=[32], subsets=[30], **MANY
        ),
    ],
    seconds=lambda params: 20 if params["subsets"] == 12 else 600,
    extra="torch",
)
