"""Random problems with a prescribed spectrum: draw sizes, a seed and a condition, let numpy make the values."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from trak_theory import GLM

LOSS_NAMES = ("squared", "logistic", "poisson", "huber")


def design(rng, n, p, condition=10.0):
    """Features (n, p) with singular values from √n down to √n / condition."""
    m = min(n, p)
    left = np.linalg.qr(rng.standard_normal((n, m)))[0]
    right = np.linalg.qr(rng.standard_normal((p, m)))[0]
    return left * (np.sqrt(n) * np.logspace(0, -np.log10(condition), m)) @ right.T


def targets_for(rng, loss, outputs):
    if loss == "logistic":
        targets = (rng.random(outputs.size) < 1 / (1 + np.exp(-outputs))).astype(float)
        targets[:2] = 0.0, 1.0  # both classes, whatever the draw
        return targets
    if loss == "poisson":
        counts = rng.poisson(np.exp(np.clip(0.5 * outputs, -5, 3))).astype(float)
        if np.count_nonzero(counts) < 2:  # without any event, or after leaving its only one out, no minimiser exists
            counts[:2] += 1.0
        return counts
    return outputs + rng.standard_normal(outputs.size)


def random_glm(seed, *, n=40, p=8, loss="logistic", ridge=1.0, condition=10.0, weights=False, intercept=False):
    """A GLM on random features; `intercept` makes the last column ones with ridge 0."""
    rng = np.random.default_rng(seed)
    features = design(rng, n, p, condition)
    ridges = np.full(p, float(ridge)) if np.ndim(ridge) == 0 else np.asarray(ridge, float)
    if intercept:
        features[:, -1], ridges[-1] = 1.0, 0.0
    signal = rng.standard_normal(p) / np.sqrt(p)
    targets = targets_for(rng, loss, features @ signal)
    sample_weights = rng.uniform(0.5, 2.0, n) if weights else None
    return GLM(features, targets, loss=loss, ridge=ridges, weights=sample_weights)


def queries_for(glm, seed, q=5):
    rng = np.random.default_rng([seed, 1])
    return rng.standard_normal((q, len(glm.targets))) @ glm.features / np.sqrt(len(glm.targets))


seeds = st.integers(0, 2**31 - 1)
losses = st.sampled_from(LOSS_NAMES)


@st.composite
def glms(draw, *, losses=losses, max_n=40, max_p=50, ridges=(1e-2, 1.0, 30.0)):
    """Random GLMs on both sides of p = n, with and without weights and an unpenalised intercept."""
    return random_glm(
        draw(seeds),
        n=draw(st.integers(6, max_n)),
        p=draw(st.integers(2, max_p)),
        loss=draw(losses),
        ridge=draw(st.sampled_from(ridges)),
        condition=draw(st.sampled_from((1.0, 10.0, 1e3))),
        weights=draw(st.booleans()),
        intercept=draw(st.booleans()),
    )
