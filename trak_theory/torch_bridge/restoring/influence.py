"""Restored influence of any module in one pass: a few curvature directions a point, sketched as they come."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy import ndarray as Array
from numpy.random import Generator, default_rng
from numpy.typing import ArrayLike
from torch import nn

from trak_theory.numerics.checks import non_negative, positive_count, real_array
from trak_theory.projection.error_bars import crowding_premise
from trak_theory.projection.matrices import ENTRIES_PER_ROW
from trak_theory.retraining.ridge_rule import TrainingRecipe, training_ridge
from trak_theory.retraining.sketched_influence import SketchedCurvature
from trak_theory.torch_bridge.features import Function, Samples
from trak_theory.torch_bridge.module import FlatModule, Rows, digest, follow
from trak_theory.torch_bridge.refusals import check_module
from trak_theory.torch_bridge.restoring.assembly import Curvature, Restored, assembled
from trak_theory.torch_bridge.restoring.kept_rows import KeptRows
from trak_theory.torch_bridge.restoring.output_losses import OutputLoss, SoftmaxLoss
from trak_theory.torch_bridge.restoring.points import SketchedModule
from trak_theory.torch_bridge.restoring.shards import Pass, Progress, Shards, array_digest
from trak_theory.torch_bridge.sketch import CountSketch, NormalSketch, Sketch

Kind = Literal["countsketch", "sparse", "normal"]
PROBED = 64  # samples whose neglected curvature is sampled
SHARD_ROWS = 512


def restored(
    module: nn.Module,
    training: Samples,
    queries: Samples,
    recipe: TrainingRecipe | float,
    *,
    fraction: float | None = None,
    k: int | None,
    directions: int = 2,
    ensemble: int = 1,
    kind: Kind = "countsketch",
    loss: OutputLoss | None = None,
    query: Function | None = None,
    parameters: Iterable[str] | None = None,
    scales: ArrayLike | None = None,
    folder: Path | str | None = None,
    shard_rows: int = SHARD_ROWS,
    jobs: int = 1,
    progress: Progress = iter,
    rng: Generator,
) -> Restored:
    """T_ij = −g_iᵀ(Σ_i Σ_a (J_iᵀb_ia)(J_iᵀb_ia)ᵀ + λI)⁻¹φ*_j with Σ_a b_ab_aᵀ ≈ ∂²ℓ/∂z², sketched to k dimensions.

    `restored_block_influence` for models whose n·C logit gradients nobody can hold: each sample costs 1 + `directions`
    backward passes, of which k numbers each are kept.

    training, queries   (inputs, targets), as in `linearize`
    recipe, fraction    as in `ridge_rule`; λ uses the degrees of freedom that the sketch itself shows
    directions m        of each sample's loss; see `OutputLoss` for which
    k                   None: no sketch, all (n(1 + m) + q)p numbers are held
    ensemble J          independent sketches, whose scores are averaged
    kind                countsketch: one entry ±1 a parameter; sparse: eight; normal: dense, p·k draws a gradient
    loss, query         SoftmaxLoss() by default, and its query: margins
    scales (p,)         coordinates in which training pulls all parameters with one ridge (`adam_scales`,
                        `training_coordinates`)
    folder              keep the pass on disk, shard by shard: a killed pass goes on where it was, and other queries,
                        recipes or fractions find it done. Needs the same rng
    jobs                joblib workers, inside `joblib.parallel_config("dask")` a cluster's; results do not depend on it

    Memory: J(k² + (n + q)k) numbers and one block of gradients. Cost: a forward and 1 + m backward passes a
    sample, n m k² flops, and the eigenvalues of one k × k matrix a sketch. The sketch costs p additions a gradient.
    Error bars are over sketches alone: directions that are drawn themselves (`NextTokenLoss`) add noise of their own.
    Raises ValueError where no sample has a finite gradient, or a folder holds another pass. Source: ours; the laws of
    `projection_law` and `subset_ridge`.

    >>> inputs, labels = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    >>> model = nn.Linear(5, 3)
    >>> found = restored(model, (inputs, labels), (inputs[:2], labels[:2]), 1.0, k=12, rng=default_rng(0))
    >>> found.scores.shape, found.sd.shape
    ((60, 2), (60, 2))
    """
    check_module(module, curvature=False)
    model = FlatModule(module, parameters)
    rows, own = Rows(*training), None if scales is None else _checked_scales(scales, model.p)
    loss = SoftmaxLoss() if loss is None else loss
    width = model.p if k is None else _checked_width(k, model.p)
    seed = int(rng.integers(2**62))
    kept = "none" if k is None else kind
    positive_count("ensemble", ensemble)
    sketches = [_sketch(kept, model.p, width, default_rng([seed, member])) for member in range(ensemble)]
    sketched = SketchedModule(model, sketches, None if own is None else follow(torch.from_numpy(own), model.theta()))
    what = Pass(
        samples=rows.fingerprint(),
        parameters=digest({"theta": model.theta()}) + model.fingerprint(),
        scales=array_digest(own),
        model_and_loss=f"{type(module).__name__}, {type(loss).__name__}, {sketched.fingerprint(rows, loss)}",
        kind=kept,
        k=width,
        directions=positive_count("directions", directions),
        ensemble=ensemble,
        shard_rows=positive_count("shard_rows", shard_rows),
        probed=-(-PROBED * shard_rows // rows.n),
        seed=seed,
    )
    shards = Shards(sketched, rows, loss, what, None if folder is None else Path(folder), positive_count("jobs", jobs))
    curvatures: list[Curvature] = [
        KeptRows() if k is None else SketchedCurvature(rows.n, np.zeros((k, k))) for _ in sketches
    ]
    return assembled(
        shards.passes(progress),
        curvatures,
        sketched.queries(Rows(*queries), loss.query if query is None else query),
        training_ridge(recipe, rows.n),
        fraction,
        premise=lambda spread: "" if k is None else crowding_premise(spread, model.p, k, kind),
    )


def _sketch(kind: str, p: int, k: int, rng: Generator) -> Sketch:
    if kind == "none":
        return lambda rows: rows
    if kind == "normal":
        return NormalSketch(k, rng=rng)
    if kind not in ENTRIES_PER_ROW:
        raise ValueError(f"unknown sketch {kind!r}: choose one of {get_args(Kind)}")
    return CountSketch(p, k, entries=min(ENTRIES_PER_ROW[kind], k), rng=rng)


def _checked_width(k: int, p: int) -> int:
    if positive_count("k", k) > p:
        raise ValueError(f"k = {k} exceeds p = {p}: a sketch cannot add dimensions; use k ≤ p, or None for no sketch")
    return k


def _checked_scales(scales: ArrayLike, p: int) -> Array:
    own = non_negative("scales", real_array("scales", scales, 1))
    if own.shape != (p,):
        raise ValueError(f"scales have shape {own.shape}; the module has {p} trained parameters")
    return own
