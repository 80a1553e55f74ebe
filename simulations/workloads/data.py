"""Data sets as generalised linear models with held-out query points: four real ones, and Gaussian designs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from scipy.special import expit

from trak_theory import GLM

Table = tuple[Array, Array, str]  # raw features (N, ·), targets (N,), name of the loss


@dataclass(frozen=True, eq=False)
class Problem:
    """features Φ (n, p), targets y (n,), loss by name, ridge (p,) in the sum convention, query rows Φ* (q, p)."""

    features: Array
    targets: Array
    loss: str
    ridge: Array
    queries: Array

    def glm(self) -> GLM:
        return GLM(self.features, self.targets, loss=self.loss, ridge=self.ridge)


def real_problem(name: str, *, queries: int, ridge: float, rng: Generator) -> Problem:
    """A real data set split at random into `queries` query points and n training points.

    Column 0 is the intercept, with ridge 0. The other features have mean 0 and standard deviation 1 over the training
    points; those constant there are dropped. Squared-loss targets are in training standard deviations.
    """
    raw, targets, loss = REAL[name]()
    if not 1 <= queries <= targets.size - 2:
        raise ValueError(
            f"{name} has {targets.size} points: queries must lie in [1, {targets.size - 2}], got {queries}"
        )
    order = rng.permutation(targets.size)
    held_out, training = order[:queries], order[queries:]
    centre, spread = raw[training].mean(0), raw[training].std(0)
    varies = spread > 1e-12 * np.abs(raw[training]).max(0)
    rows = np.ones((targets.size, 1 + int(varies.sum())))
    rows[:, 1:] = (raw[:, varies] - centre[varies]) / spread[varies]
    kept = targets[training]
    if loss == "squared":
        kept = (kept - kept.mean()) / kept.std()
    penalty = np.full(rows.shape[1], float(ridge))
    penalty[0] = 0.0
    return Problem(rows[training], kept, loss, penalty, rows[held_out])


def gaussian_problem(
    *,
    n: int,
    p: int,
    queries: int,
    loss: str,
    ridge: float,
    signal: float,
    decay: float = 0.0,
    rng: Generator,
) -> Problem:
    """Rows x ~ N(0, diag s) without an intercept, s_j ∝ j^(−decay) of mean 1, targets from the loss's own model.

    The linear output xᵀθ* has standard deviation `signal`; θ* is spread evenly over directions in the norm of s.
    squared: y = xᵀθ* + N(0, 1);  logistic: P(y = 1) = 1/(1 + e^(−xᵀθ*));  poisson: y ~ Poisson(e^(xᵀθ*));
    huber: y = xᵀθ* + Student's t with 3 degrees of freedom.
    """
    spectrum = np.arange(1, p + 1) ** -float(decay)
    spectrum *= p / spectrum.sum()
    direction = rng.standard_normal(p)
    coef = signal * direction / np.linalg.norm(direction) / np.sqrt(spectrum)
    rows = rng.standard_normal((n + queries, p)) * np.sqrt(spectrum)
    targets = TARGETS[loss](rows[:n] @ coef, rng)
    return Problem(rows[:n], targets, loss, np.full(p, float(ridge)), rows[n:])


TARGETS: dict[str, Callable[[Array, Generator], Array]] = {
    "squared": lambda output, rng: output + rng.standard_normal(output.size),
    "logistic": lambda output, rng: (rng.random(output.size) < expit(output)).astype(float),
    "poisson": lambda output, rng: rng.poisson(np.exp(output)).astype(float),
    "huber": lambda output, rng: output + rng.standard_t(3, output.size),
}


def digits() -> tuple[Array, Array]:
    """scikit-learn's digits: pixels in [0, 1] (1797, 64), labels (1797,)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels / 16, labels


def _breast_cancer() -> Table:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return data.data, data.target.astype(float), "logistic"


def _digits_3_vs_8() -> Table:
    pixels, labels = digits()
    chosen = np.isin(labels, (3, 8))
    return pixels[chosen] * 16, (labels[chosen] == 8).astype(float), "logistic"


def _diabetes() -> Table:
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return data.data, data.target, "squared"


def _randhie() -> Table:
    """RAND Health Insurance Experiment: outpatient visits of 20,190 persons and years."""
    from statsmodels.datasets import randhie

    data = randhie.load_pandas()
    return data.exog.to_numpy(float), data.endog.to_numpy(float), "poisson"


REAL: dict[str, Callable[[], Table]] = {
    "breast_cancer": _breast_cancer,
    "digits_3_vs_8": _digits_3_vs_8,
    "diabetes": _diabetes,
    "randhie": _randhie,
}
