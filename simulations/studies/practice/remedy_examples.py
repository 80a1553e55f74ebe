"""Training images that TRAK names for a query, without a ridge and with the rule's, beside exact leave-one-out."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.data import digits
from trak_theory import GLM, leave_one_out, trak
from trak_theory.glm.model import Fit
from trak_theory.numerics.agreement import spearman
from trak_theory.retraining.ridge_rule import ridge_rule

EXACT, RULED, RELEASED = "exact leave-one-out", "TRAK, ridge of the rule", "TRAK, no ridge"
DIGIT, RIDGE = 8, 0.5
TOP = 5


def run(params: Params, rng: Generator) -> Rows:
    """One split: for held-out images of the digit, the training images that most raise its logit, by each answer."""
    splitting, projecting = rng.spawn(2)
    fit, queries, chosen, asked = _fitted(params, splitting)
    lin, k = fit.linearize(queries), int(params["k"])
    ridge = ridge_rule(lin, RIDGE, k=k).projected or 0.0
    seed = int(projecting.integers(2**63))  # one projection for both ridges: they differ in nothing else
    truth = leave_one_out(fit, queries).influence
    scores = {
        EXACT: truth,
        RULED: trak(lin, k=k, ridge=ridge, rng=np.random.default_rng(seed)),
        RELEASED: trak(lin, k=k, ridge=0.0, rng=np.random.default_rng(seed)),
    }
    shared = {"ridge": RIDGE, "projected_ridge": ridge}
    return [
        {**shared, "query": query, "query_image": int(image), "answer": answer, **row}
        for query, image in enumerate(asked)
        for answer, score in scores.items()
        for row in _top(score[:, query], truth[:, query], chosen)
    ]


def _fitted(params: Params, rng: Generator) -> tuple[Fit, Array, Array, Array]:
    """Logistic regression of "is it the digit" on random ReLU features; features of the queries; images of both."""
    n, p, count = (int(params[name]) for name in ("n", "p", "queries"))
    pixels, labels = digits()
    features = np.maximum(pixels @ rng.standard_normal((pixels.shape[1], p)), 0.0) / np.sqrt(p)
    chosen, rest = np.split(rng.permutation(len(labels)), [n])
    asked = rest[labels[rest] == DIGIT][:count]
    fit = GLM(features[chosen], labels[chosen] == DIGIT, loss="logistic", ridge=RIDGE).fit()
    return fit, features[asked], chosen, asked


def _top(score: Array, truth: Array, images: Array) -> Rows:
    agreed = spearman(truth, score)
    return [
        {"rank": rank, "image": int(images[i]), "score": float(score[i]), "truth": float(truth[i]), "spearman": agreed}
        for rank, i in enumerate(np.argsort(-score)[:TOP])
    ]


CELLS = grid(n=[500], p=[800], k=[400], queries=[20], replicate=range(4))

STUDY = Study(
    name="remedy_examples",
    summary="Which training images TRAK names for a digit: with the ridge of the rule those of exact leave-one-out.",
    run=run,
    quick=CELLS,
    full=CELLS,
    seconds=0.8,
)
