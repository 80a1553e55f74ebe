"""Estimates of an estimate's own error, row by row, and the factor that makes them a bound. Source: ours."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy import ndarray as Array
from numpy.typing import ArrayLike

FLOOR = 0.05  # of each estimate, and of all of them together
DAMPED = 0.9  # the share of the Hessian that the second sweep keeps


def curvature_proxy(influence: Array, damped: Array, index: float) -> Array:
    """√(d² + mean d² + (.05² + κ² + κ_q²)(s² + mean s²)) (n, q): an estimate of |error| without retraining.

    s = influence (n, q); d = s − s^γ, its change where Hessians are multiplied by γ = .9; index = √(κ² + κ_q²), at most
    1: how far predicted paths are from being runs, and how far the query is from linear along them (see `Tracked`);
    means over the samples that have any influence, so that those which no batch held do not count.
    """
    own, change = influence**2, (influence - damped) ** 2
    count = max(1, np.count_nonzero(np.any(own + change > 0, axis=1)))
    share = FLOOR**2 + min(index, 1.0) ** 2
    return np.sqrt(change + change.sum(0) / count + share * (own + own.sum(0) / count))


def sensitivity(influence: Array, damped: Array) -> float:
    """G = ‖s − s^γ‖/‖s‖, mean over the queries: where it is large, s stands on a curvature that retraining changes."""
    size = np.linalg.norm(influence, axis=0)
    change = np.linalg.norm(influence - damped, axis=0)
    return float(np.mean(change / np.where(size > 0, size, 1.0)))


def calibrate(proxies: Sequence[ArrayLike], errors: Sequence[ArrayLike], *, coverage: float = 0.9) -> float:
    """The factor c for which |error| ≤ c · proxy holds for a new row with a probability of at least `coverage`.

    proxies, errors: arrays of equal shapes, one pair for each run with known truth; m numbers in all. c is the
    ⌈(m + 1) · coverage⌉-th smallest |error|/proxy (split conformal, Vovk et al. 2005): exact on average over which rows
    are known, whatever the errors' law, where the known rows are a random choice of all. Rows whose proxy and error
    both are 0 are left out.

    Raises ValueError where m is too small to say: 9 numbers are needed for .9, 19 for .95.

    >>> calibrate([np.ones(9)], [np.arange(1, 10)])
    9.0
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must lie in (0, 1), got {coverage}")
    pairs = [(np.ravel(np.abs(e)), np.ravel(p)) for e, p in zip(errors, proxies, strict=True)]
    error, proxy = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    seen = (error > 0) | (proxy > 0)
    ratios = np.sort(error[seen] / np.where(proxy[seen] > 0, proxy[seen], np.finfo(float).tiny))
    rank = ceil((ratios.size + 1) * coverage - 1e-9)
    if rank > ratios.size:
        needed = ceil(coverage / (1 - coverage) - 1e-9)
        raise ValueError(
            f"{ratios.size} rows with known truth cannot support a coverage of {coverage:g}: at least {needed} are "
            "needed"
        )
    return float(ratios[rank - 1])


def most_influential(influence: Array) -> Array:
    """Samples from the largest to the smallest max_j |I_ij|/rms_j, over queries j."""
    return np.argsort(-scaled_size(influence, np.sqrt(np.mean(influence**2, axis=0))), kind="stable")


def scaled_size(influence: Array, unit: Array) -> Array:
    """max_j |I_ij|/u_j (n,) over queries j with units u (q,)."""
    return (np.abs(influence) / np.where(unit > 0, unit, 1.0)).max(1)
