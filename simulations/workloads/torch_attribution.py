"""Rows of the torch studies about attribution at the end of a run: restored influence, TRAK, ridge, predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.stats import rankdata

from simulations.engine.study import Rows
from simulations.studies.laws.lds_law import correlation
from simulations.workloads.digits_mlp import random_subsets
from trak_theory import Linearization, agreement, influence
from trak_theory.attribution import newton, trak, trak_kernel
from trak_theory.laws.conditional_rank_law import rank_law_against
from trak_theory.numerics.agreement import spearman
from trak_theory.numerics.spectrum import spectrum
from trak_theory.projection.kernel_law import KernelLaw
from trak_theory.retraining.restored import restored_influence, ridge_products
from trak_theory.retraining.ridge_rule import TrainingRecipe, adam_scales, ridge_rule
from trak_theory.trajectory import Query, Run, loss_query, retrain_without

if TYPE_CHECKING:
    from trak_theory.torch_bridge.settings.image import ImageSetting
    from trak_theory.torch_bridge.sketch import Sketch

FRACTION = 0.5
EXPONENTS = (-4, -2, -1, 0, 1, 2, 4)  # ridges tried: the rule's times 2^these
RESAMPLES = 100
DIMENSIONS = (0.25, 0.5, 2.0)  # k / n
RESTORED = "restored influence"
RELEASED = "TRAK, k = n/4, μ = 0"
RULED = "TRAK, k = 2n, ridge of the rule"


@dataclass(frozen=True, eq=False)
class Trained:
    """A setting after a recorded run: its margins linearised at θ_T, and queries that read held-out margins."""

    setting: ImageSetting
    run: Run
    recipe: TrainingRecipe
    queries: int

    def linearize(self, sketch: Sketch | None = None) -> Linearization:
        from trak_theory.torch_bridge.features import MARGIN, linearize

        rows, asked = self.setting.objective.rows, self.setting.held_out.rows
        few = (asked.args[0][: self.queries], asked.targets[: self.queries])
        return linearize(self.setting.network, MARGIN, (rows.args[0], rows.targets), few, sketch=sketch)

    @property
    def margins(self) -> Query:
        from trak_theory.torch_bridge import TorchObjective
        from trak_theory.torch_bridge.features import softmax_margin

        asked = self.setting.held_out.rows
        objective = TorchObjective(self.setting.network, softmax_margin, asked.args[0], asked.targets)
        return loss_query(objective, np.arange(self.queries))

    def scales(self, lin: Linearization) -> tuple[Array, float]:
        """Scales (p,) of the parameters in which training pulls all of them with one ridge, and that ridge."""
        n, p = lin.features.shape
        if self.run.optimizer.slots < 2:
            return np.ones(p), self.recipe.ridge(n)
        step, moment = self.run.step(self.run.steps - 1), self.run.state(self.run.steps)[2]
        return adam_scales(self.recipe, moment.numpy() / step.correction2, n)  # type: ignore[attr-defined]


def trained(setting: ImageSetting, recipe: str, learning_rate: float, *, queries: int, rng: Generator) -> Trained:
    """Train a setting with AdamW, or with SGD and momentum .9, weight decay 10⁻³."""
    import torch

    decay, momentum = (0.01, 0.0) if recipe == "AdamW" else (1e-3, 0.9)
    parameters = setting.network.parameters()
    optimizer = (
        setting.adamw(learning_rate)
        if recipe == "AdamW"
        else torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=decay)
    )
    run = setting.train(optimizer, rng)
    rule = TrainingRecipe(decay, learning_rate, steps=setting.size.steps, momentum=momentum)
    return Trained(setting, run, rule, queries)


def attribution_rows(model: Trained, *, subsets: int, left_out: int, draws: int, rng: Generator) -> Rows:
    """Rows told apart by `part`:

    lds      every score's linear datamodelling score over retrainings on half of the samples, and its bootstrap error
             over subsets: the curvature-weighted kernel (restored influence) at ridges around the rule's, TRAK with
             and without the rule's ridge
    point    left-out samples: restored influence and retraining, first query
    loo      their agreement, and TRAK's, mean over queries
    law      TRAK at k dimensions: predicted and measured Spearman with the Newton step, and how many scores lie within
             1.96 predicted standard deviations; sketches streamed over the gradients (a ridge where k > n)
    """
    choosing, leaving, sketching, projecting, resampling = rng.spawn(5)
    lin = model.linearize()
    n, p = lin.features.shape
    scales, training = model.scales(lin)
    scaled = replace(lin, features=lin.features * scales, queries=lin.queries * scales, ridge=training)
    shared = {"n": n, "p": p, "asked": model.queries, "left_out": left_out}
    members = random_subsets(n, round(FRACTION * n), subsets, choosing)
    complements = [np.setdiff1d(np.arange(n), member) for member in members]
    finals = retrain_without(model.run, complements, removal="renormalise").final
    outputs = np.stack([model.margins.read(theta) for theta in finals])
    rows: Rows = []
    for name, exponent, scores in _scores(lin, scaled, training, projecting):
        lds, error = _datamodel_score(scores[members].sum(1), outputs, resampling)
        rows.append({"part": "lds", "score": name, "exponent": exponent, "lds": lds, "lds_se": error})
    chosen = np.sort(leaving.choice(n, left_out, replace=False))
    exact = retrain_without(model.run, chosen[:, None], removal="renormalise").influence(model.margins)
    restored = restored_influence(scaled, training)[chosen]
    for i, truth, found in zip(chosen.tolist(), exact[:, 0].tolist(), restored[:, 0].tolist(), strict=True):
        rows.append({"part": "point", "sample": i, "truth": truth, "restored": found})
    rows.append({"part": "loo", "score": RESTORED, **agreement(exact, restored).row()})
    released = trak(lin, k=n // 4, rng=projecting)[chosen]
    rows.append({"part": "loo", "score": RELEASED, **agreement(exact, released).row()})
    rows += _laws(model, lin, newton(scaled), draws, sketching)
    return [{**shared, **row} for row in rows]


def _datamodel_score(predicted: Array, outputs: Array, rng: Generator) -> tuple[float, float]:
    """Mean over queries of the Spearman correlation over subsets, and its bootstrap error over subsets."""

    def score(chosen: Array) -> float:
        return correlation(rankdata(predicted[chosen], axis=0), rankdata(outputs[chosen], axis=0))

    count = len(outputs)
    spread = np.std([score(rng.integers(count, size=count)) for _ in range(RESAMPLES)], ddof=1)
    return score(np.arange(count)), float(spread)


def _scores(
    lin: Linearization, scaled: Linearization, training: float, rng: Generator
) -> Iterator[tuple[str, int, Array]]:
    n, p = lin.features.shape
    rule = ridge_rule(scaled, training, fraction=FRACTION, k=min(2 * n, p))
    weighted = np.sqrt(scaled.curvature)[:, None] * scaled.features
    for exponent in EXPONENTS:
        kernel = ridge_products(weighted, scaled.features, scaled.queries, 2.0**exponent * rule.curvature_weighted)
        yield RESTORED, exponent, -scaled.residual[:, None] * kernel
    yield RELEASED, 0, trak(lin, k=n // 4, rng=rng)
    yield RULED, 0, trak(scaled, k=min(2 * n, p), ridge=rule.projected or 0.0, rng=rng)


def _laws(model: Trained, lin: Linearization, reference: Array, draws: int, rng: Generator) -> Rows:
    """TRAK by streamed sketches at several k, with a ridge where there is no kernel without one."""
    n, p = lin.features.shape
    space, rows = spectrum(lin.features, lin.queries), []
    for share in DIMENSIONS:
        k, ridge = round(share * n), 0.0 if share < 1 else 0.03 * float(np.sum(lin.features**2)) / n
        law = KernelLaw(space, k, 1, ridge)
        predicted = rank_law_against(reference, lin.residual, law)
        mean, sd = -lin.residual[:, None] * law.mean, np.abs(lin.residual)[:, None] * np.sqrt(law.variance)
        for kind in ("normal", "count"):
            found, inside = [], []
            for child in rng.spawn(draws):
                projected = without_empty_columns(model.linearize(_sketch(kind, p, k, child)))
                scores = influence(trak_kernel(projected, ridge=ridge))
                found.append(np.mean([spearman(a, b) for a, b in zip(reference.T, scores.T, strict=True)]))
                inside.append(float(np.mean(np.abs(scores - mean) < 1.96 * sd)))
            row: dict[str, Any] = {"part": "law", "sketch": kind, "k": k, "k_over_n": share, "draws": draws}
            row |= {"predicted": float(predicted.spearman), "measured": float(np.mean(found))}
            row |= {"measured_se": float(np.std(found, ddof=1) / np.sqrt(draws)), "coverage": float(np.mean(inside))}
            rows.append(row)
    return rows


def without_empty_columns(lin: Linearization) -> Linearization:
    """Without columns to which a sketch sends no gradient: the kernel is that of the others."""
    held = lin.features.any(axis=0)
    return replace(lin, features=lin.features[:, held], ridge=lin.ridge[held], queries=lin.queries[:, held])


def _sketch(kind: str, p: int, k: int, rng: Generator) -> Sketch:
    from trak_theory.torch_bridge.sketch import CountSketch, NormalSketch

    return NormalSketch(k, rng=rng) if kind == "normal" else CountSketch(p, k, rng=rng)
