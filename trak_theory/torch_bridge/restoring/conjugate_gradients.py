"""Restored influence without the error of a sketch: conjugate gradients that start from it, with a certified end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike
from torch import nn

from trak_theory.numerics.checks import positive_count
from trak_theory.retraining.ridge_rule import TrainingRecipe, training_ridge
from trak_theory.torch_bridge.features import Function, Samples
from trak_theory.torch_bridge.module import FlatModule, Rows, follow
from trak_theory.torch_bridge.refusals import check_module
from trak_theory.torch_bridge.restoring.certified_solve import Queries, RestoredByCG, sketched, solved
from trak_theory.torch_bridge.restoring.direction_kernel import DirectionKernel
from trak_theory.torch_bridge.restoring.influence import SHARD_ROWS, _checked_scales, _checked_width
from trak_theory.torch_bridge.restoring.output_losses import OutputLoss, SoftmaxLoss
from trak_theory.torch_bridge.sketch import CountSketch


def restored_by_cg(
    module: nn.Module,
    training: Samples,
    queries: Samples,
    recipe: TrainingRecipe | float,
    *,
    fraction: float | None = None,
    k: int,
    directions: int = 2,
    loss: OutputLoss | None = None,
    query: Function | None = None,
    parameters: Iterable[str] | None = None,
    scales: ArrayLike | None = None,
    tol: float = 1e-3,
    steps: int = 50,
    shard_rows: int = SHARD_ROWS,
    rng: Generator,
) -> RestoredByCG:
    """What `restored(…, k=None)` computes, to a tolerance, by a few more passes over the data and no gradient held.

    With the curvature directions Ψ (n m, p) of the samples, x_j = (ΨᵀΨ + λI)⁻¹φ*_j is

        x_j = (φ*_j − Ψᵀα_j)/λ,      (ΨΨᵀ + λI)α_j = Ψφ*_j,

    solved for all queries together by block conjugate gradients. They start from a CountSketch Y (n m, k) of Ψ and are
    preconditioned by (YYᵀ + λI)⁻¹, through its k × k Gram matrix. The rest of each query, ε_j = Ψx̂_j − α_j for the x̂_j
    that was found, certifies every score, since x̂_j − x_j = (ΨᵀΨ + λI)⁻¹Ψᵀε_j:

        ‖Ψ(x̂_j − x_j)‖ ≤ ‖ε_j‖,      |g_iᵀ(x̂_j − x_j)| ≤ ‖g_i‖_{H⁻¹}‖Ψᵀε_j‖_{H⁻¹} ≤ ‖g_i‖‖ε_j‖/√λ

    training … scales   as in `restored`; `directions` = number of outputs gives the whole Gauss–Newton matrix
    k                   of the sketch; with `fraction` its degrees of freedom give λ
    tol                 stop once ‖ε_j‖ ≤ tol·‖α_j‖ for every query
    steps               at most; what is left is in `bound`, and in words

    Memory: n m(k + 4q) + k² + O(p·min(q, c)) numbers, c the vectors of p that fill 128 MiB. Cost: the pass of
    `restored`, then 2 + `steps` times a derivative forward and one backward for each query and sample; many queries
    share what they find, and need fewer steps. Raises ValueError where no sample has a finite gradient. Source: ours;
    `block_conjugate_gradients`, and the sketch as preconditioner as Avron, Clarkson & Woodruff (2017), SIAM J. Matrix
    Anal. Appl. 38, 1116–1138.

    >>> inputs, labels = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    >>> model, queries = nn.Linear(5, 3), (inputs[:2], labels[:2])
    >>> found = restored_by_cg(model, (inputs, labels), queries, 1.0, k=12, rng=np.random.default_rng(0))
    >>> found.scores.shape, bool(found.residual.max() < 1e-3), found.steps < 9
    ((60, 2), True, True)
    """
    check_module(module, curvature=False)
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    model, rows = FlatModule(module, parameters), Rows(*training)
    own = None if scales is None else follow(torch.from_numpy(_checked_scales(scales, model.p)), model.theta())
    sketch = CountSketch(model.p, _checked_width(k, model.p), rng=rng)
    loss = SoftmaxLoss() if loss is None else loss
    count, shard_rows = positive_count("directions", directions), positive_count("shard_rows", shard_rows)
    kernel = DirectionKernel(model, rows, loss, count, own, int(rng.integers(2**62)), shard_rows)
    passed = sketched(kernel, sketch, k)
    lost = passed.broken
    if lost.any():
        kernel = replace(kernel, rows=_others(rows, np.flatnonzero(~lost)), _held=[])
        passed = sketched(kernel, sketch, k)
    ridge = passed.sums.rule_ridge(training_ridge(recipe, rows.n), fraction=fraction)
    asked = Queries(kernel, Rows(*queries), loss.query if query is None else query, sketch)
    return solved(kernel, asked, passed, ridge, tol, positive_count("steps", steps)).with_lost(lost)


def _others(rows: Rows, places: Array) -> Rows:
    """Some of the samples, copied."""
    index = torch.from_numpy(places)
    named = {name: part[index] for name, part in rows.named.items()}
    return Rows(named or tuple(part[index] for part in rows.args), rows.targets[index])
