"""Fitted statsmodels results as GLMs in the sum convention.

model, family                         loss       weights                      offset
OLS, WLS                              squared    1, `weights`                 –
Logit                                 logistic   1                            `offset`
GLM, Gaussian, identity link          squared    freq_weights · var_weights   `offset`
GLM, Binomial 0/1, logit link         logistic   the same                     the same
GLM, Poisson, log link                poisson    the same                     `offset` + log `exposure`

No ridge anywhere. The dispersion does not move the optimum and is left out. An observation with frequency weight w is
one training point: leaving it out removes all w copies, as in statsmodels' own influence measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy import ndarray as Array

from trak_theory.glm.minimise import Objective

if TYPE_CHECKING:
    from statsmodels.base.model import LikelihoodModel, LikelihoodModelResults

SUPPORTED = "OLS, WLS, Logit, and GLM with family Gaussian, Binomial (0/1) or Poisson and its canonical link"
LOSS_OF_FAMILY = {
    ("Gaussian", "Identity"): "squared",
    ("Binomial", "Logit"): "logistic",
    ("Poisson", "Log"): "poisson",
}
STATIONARY = 1e-3  # the most that a Newton step may move an output, relative to max(1, max|f|)


class Arguments(TypedDict):
    """Arguments of `GLM`."""

    features: Array
    targets: Array
    loss: str
    weights: Array | None
    offset: Array | None


def translate(results: LikelihoodModelResults) -> Arguments:
    """Arguments of the GLM whose optimum is `results.params`; rows of the design are those of `results.model.exog`.

    Raises TypeError, by name, for models, families, links and penalties without a translation.

    >>> import numpy as np, statsmodels.api as sm
    >>> from trak_theory import GLM
    >>> rows = sm.add_constant(np.arange(6.0))
    >>> results = sm.OLS(np.array([1.0, 2.0, 2.0, 4.0, 3.0, 6.0]), rows).fit()
    >>> bool(np.allclose(GLM.from_statsmodels(results).fit().coef, results.params))
    True
    """
    model = getattr(results, "model", None)
    kind = type(model).__name__
    if not hasattr(results, "params") or model is None:
        raise TypeError(
            f"from_statsmodels needs the results of a fit, got {type(results).__name__}: pass what fit() returned"
        )
    if kind not in ("OLS", "WLS", "Logit", "GLM"):
        raise TypeError(f"from_statsmodels does not support {kind}; supported: {SUPPORTED}")
    _refuse_penalties(results, kind)
    return {
        "features": model.exog,
        "targets": model.endog,
        "loss": _loss(model, kind),
        "weights": _weights(model, kind),
        "offset": _offset(model, kind),
    }


def _refuse_penalties(results: LikelihoodModelResults, kind: str) -> None:
    fitted = type(getattr(results, "_results", results)).__name__
    if fitted.startswith(("L1", "Regularized")):
        raise TypeError(
            f"from_statsmodels does not support the penalised fit of {kind} ({fitted}): use fit() without a penalty, "
            "or give GLM(…, ridge=…) the L2 penalty yourself"
        )


def _loss(model: LikelihoodModel, kind: str) -> str:
    if kind != "GLM":
        return "logistic" if kind == "Logit" else "squared"
    family, link = type(model.family).__name__, type(model.family.link).__name__
    if (family, link) not in LOSS_OF_FAMILY:
        raise TypeError(f"from_statsmodels does not support GLM with {family} and link {link}; supported: {SUPPORTED}")
    if family == "Binomial" and (np.any(np.asarray(model.n_trials) != 1) or not np.isin(model.endog, (0, 1)).all()):
        raise TypeError(
            "from_statsmodels supports Binomial with one trial and outcomes 0 or 1, not counts or proportions: give "
            "every trial a row of its own"
        )
    return LOSS_OF_FAMILY[family, link]


def _weights(model: LikelihoodModel, kind: str) -> Array | None:
    if kind == "GLM":
        return np.asarray(model.freq_weights * model.var_weights, float)
    return np.broadcast_to(model.weights, model.endog.shape) if kind == "WLS" else None


def _offset(model: LikelihoodModel, kind: str) -> Array | None:
    if kind in ("OLS", "WLS"):
        return None
    offset = model._offset_exposure if kind == "GLM" else getattr(model, "offset", None)
    return None if offset is None else np.broadcast_to(np.asarray(offset, float), model.endog.shape)


def check_stationary(objective: Objective, results: LikelihoodModelResults) -> None:
    """Raise ValueError where a Newton step from `results.params` would still move an output noticeably.

    Such a fit is constrained, or has not converged.
    """
    outputs = objective.at(np.asarray(results.params, float)).outputs
    root = np.sqrt(objective.curvature(outputs))
    # Least squares: a design of deficient rank, which statsmodels fits by a pseudo-inverse, is refused by fit().
    pull = np.divide(objective.residual(outputs), root, out=np.zeros_like(root), where=root > 0)
    step = np.linalg.lstsq(root[:, None] * objective.features, pull, rcond=None)[0]
    moved = float(np.abs(objective.features @ step).max() / max(1.0, np.abs(outputs).max()))
    if not moved <= STATIONARY:
        raise ValueError(
            f"the parameters of this {type(results.model).__name__} are no stationary point of its "
            f"{objective.loss.name} loss: a Newton step would move an output by {moved:.2g} of the largest. "
            "A constrained fit has no translation; one that did not converge needs a larger maxiter"
        )
