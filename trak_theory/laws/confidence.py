"""The share of pairs of points that TRAK puts in their true order, with a probability over the projection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from numpy.typing import ArrayLike
from scipy.linalg import qr
from scipy.stats import beta

from trak_theory.attribution import newton, trak
from trak_theory.glm.model import Fit
from trak_theory.linearization import Linearization
from trak_theory.loo.certified_order import certified_order, proved_pairs_in_order
from trak_theory.loo.exact import leave_one_out
from trak_theory.loo.intervals import Interval
from trak_theory.numerics.checks import positive_count
from trak_theory.numerics.spectrum import spectrum
from trak_theory.projection.error_bars import check_setting
from trak_theory.projection.kernel_law import KernelLaw
from trak_theory.projection.matrices import Sketch

Method = Literal["law", "draws"]
CERTAINTY = 0.95  # over the simulation, of the tolerance bound


@dataclass(frozen=True)
class RankConfidence:
    """With probability `confidence` over the projection, at least `share` of all pairs stand in their true order.

    share       lower bound, mean over queries
    expected    mean of the same over projections
    proved      share of pairs whose true order is known; no score can have more than that counted
    confidence  as asked for; of the simulation itself one is certain to .95
    """

    share: float
    expected: float
    proved: float
    confidence: float


def ranked_with_confidence(
    model: Linearization | Fit,
    *,
    k: int,
    ensemble: int = 1,
    ridge: float = 0.0,
    kind: Sketch = "normal",
    queries: ArrayLike | None = None,
    confidence: float = 0.99,
    draws: int = 499,
    method: Method = "draws",
    rng: Generator,
) -> RankConfidence:
    """Share of pairs of points that trak(lin, k=k, ensemble=J, ridge=μ, kind=kind) puts in their leave-one-out order.

    model       a Fit with `queries` (q, p): the truth is exact influence, a pair counts where certified intervals prove
                its order; or a Linearization: the truth is one Newton step
    method      "draws": projections themselves, of any `kind` (normal ones in the span of the rows).
                "law": for normal projections, scores −r_i(φ_iᵀRφ*_j + √(c/J) φ_iᵀR Z Rφ*_j), Z symmetric with
                independent normal entries (variance 1, on the diagonal 2): the mean and all covariances of the
                projection law, taken as normal. A few times cheaper, and an approximation: `expected` is right, the
                spread of the share comes out up to a quarter too small, and in one of twelve settings .979 ± .005 of
                projections reached a `share` meant for .99 (study `order_confidence`, full size)
    draws       B simulated projections; share is the j-th smallest, the largest j with P(Beta(j, B + 1 − j) ≤ 1 −
                confidence) ≥ .95

    Proof for "draws", whatever the sketch and the features: the simulated shares are independent copies of the one of
    a new projection, whose distribution function at the j-th smallest of them is at most a Beta(j, B + 1 − j): a
    tolerance bound, without asymptotics; and the intervals hold on every input. For "law" they are copies of something
    else: normal, with moments that have a relative error O(1/(k − df₂)). Source: Wilks 1941 for the tolerance bound;
    the rest ours.
    Raises ValueError where TRAK is not defined (k > rank, μ = 0), and where B is too small for the confidence.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.standard_normal((60, 8))
    >>> lin = Linearization(rows, rng.standard_normal(60), np.ones(60), 1.0, rows[:5])
    >>> found = ranked_with_confidence(lin, k=6, rng=rng)
    >>> bool(0.5 < found.share <= found.expected), found.proved
    (True, 1.0)
    """
    place = _place(confidence, draws)
    lin, truth = _truth(model, queries)
    check_setting(lin.features.shape[1], k=k, ensemble=ensemble, ridge=ridge)
    law = KernelLaw(spectrum(lin.features, lin.queries), k, ensemble, ridge)
    if law.singular:
        raise ValueError(f"no rank law applies: {law.diagnosis}")
    if method not in get_args(Method):
        raise ValueError(f"unknown method {method!r}: choose one of {get_args(Method)}")
    if method == "draws":
        scores = _of_projections(lin, rng, k=k, ensemble=ensemble, ridge=ridge, kind=kind)
    elif kind == "normal":
        scores = _of_the_law(law, lin.residual, rng)
    else:
        raise ValueError(f'the law simulates normal projections only: for kind = {kind!r} use method = "draws"')
    shares = np.sort([proved_pairs_in_order(truth, next(scores)).mean() for _ in range(draws)])
    proved = float(certified_order(truth, truth.center).proved)
    return RankConfidence(float(shares[place - 1]), float(shares.mean()), proved, confidence)


def _place(confidence: float, draws: int) -> int:
    """The largest j whose order statistic of `draws` is a tolerance bound of that confidence, certain to .95."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    places = np.arange(1, positive_count("draws", draws) + 1)
    certain = np.asarray(beta.cdf(1 - confidence, places, draws + 1 - places)) >= CERTAINTY
    if not certain[0]:
        enough = int(np.ceil(np.log(1 - CERTAINTY) / np.log(confidence)))
        raise ValueError(f"{draws} draws are too few for confidence {confidence}: take at least {enough}")
    return int(certain.sum())


def _truth(model: Linearization | Fit, queries: ArrayLike | None) -> tuple[Linearization, Interval]:
    if isinstance(model, Linearization):
        if queries is not None:
            raise ValueError("a linearisation has queries of its own: leave queries out")
        exact = newton(model)
        return model, Interval(exact, np.where(np.isnan(exact), np.inf, 0.0))
    if queries is None:
        raise ValueError("a fit needs queries (q, p)")
    found = leave_one_out(model, queries)
    return model.linearize(queries), Interval(found.influence, found.radius)


def _of_the_law(law: KernelLaw, residual: Array, rng: Generator) -> Iterator[Array]:
    """Scores (n, q) with the moments of the law: Z V from the symmetric block of Z in the span of V, and the rest."""
    inside = law.space.queries / (law.space.eigenvalues + law.implicit_ridge)
    basis, triangle = qr(inside.T, mode="economic", check_finite=False)
    beyond = np.sqrt(law.noisy_query_square - law.noise * np.einsum("qm,qm->q", inside, inside))
    while True:
        normal = rng.standard_normal(basis.shape)
        own = rng.standard_normal((basis.shape[1], basis.shape[1]))
        symmetric = (own + own.T) / np.sqrt(2)
        moved = (normal + basis @ (symmetric - basis.T @ normal)) @ triangle
        noise = np.sqrt(law.noise) * moved + rng.standard_normal(moved.shape) * beyond
        yield -residual[:, None] * (law.mean + law.rows @ noise)


def _of_projections(
    lin: Linearization, rng: Generator, *, k: int, ensemble: int, ridge: float, kind: Sketch
) -> Iterator[Array]:
    """TRAK scores of fresh projections; in an orthonormal basis of the rows normal ones are normal projections too."""
    rows = np.vstack([lin.features, lin.queries])
    if kind == "normal" and rows.shape[1] > len(rows) >= k:
        coordinates = qr(rows.T, mode="r", check_finite=False)[0][: len(rows)].T
        n = len(lin.features)
        lin = replace(lin, features=coordinates[:n], queries=coordinates[n:], ridge=0.0)
    while True:
        yield trak(lin, k=k, ensemble=ensemble, ridge=ridge, kind=kind, rng=rng)
