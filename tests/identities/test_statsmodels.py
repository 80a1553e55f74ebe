"""GLM.from_statsmodels: the optimum of the results, and statsmodels' own influence measures."""

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import MLEInfluence

from trak_theory import GLM, influence, leave_one_out, newton
from trak_theory.loo.ladder import subset_models

N, P = 80, 4


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    features = sm.add_constant(rng.standard_normal((N, P - 1)))
    offset = 0.4 * rng.standard_normal(N)
    outputs = offset + features @ np.array([0.2, 0.7, -0.5, 0.3])
    return features, {
        "real": outputs + rng.standard_normal(N),
        "label": (rng.random(N) < 1 / (1 + np.exp(-outputs))).astype(float),
        "count": rng.poisson(np.exp(outputs)).astype(float),
        "offset": offset,
        "frequency": rng.integers(1, 5, N).astype(float),
        "variance": rng.uniform(0.5, 2.0, N),
    }


FAMILIES = {
    "Gaussian": (sm.families.Gaussian, "real"),
    "Binomial": (sm.families.Binomial, "label"),
    "Poisson": (sm.families.Poisson, "count"),
}


def fitted(data, family, *, extras=()):
    """extras: names of the optional arguments to pass."""
    features, values = data
    make, target = FAMILIES[family]
    names = {"offset": "offset", "freq_weights": "frequency", "var_weights": "variance"}
    options = {name: values[names[name]] for name in extras}
    if "exposure" in extras:
        options["exposure"] = np.exp(values["variance"])
    return sm.GLM(values[target], features, family=make(), **options).fit(tol=1e-14)


names = pytest.mark.parametrize("family", FAMILIES)
ALL_EXTRAS = [(), ("offset",), ("freq_weights",), ("offset", "freq_weights", "var_weights")]


@names
@pytest.mark.parametrize("extras", ALL_EXTRAS, ids=lambda extras: "+".join(extras) or "plain")
def test_the_optimum_of_a_glm_is_that_of_its_results(data, family, extras):
    results = fitted(data, family, extras=extras)
    fit = GLM.from_statsmodels(results).fit()
    assert np.allclose(fit.coef, results.params, rtol=0, atol=1e-6)
    assert np.allclose(fit.outputs, results.fittedvalues if family == "Gaussian" else results.predict(which="linear"))


def test_exposure_is_an_offset_of_its_logarithm(data):
    features, values = data
    exposure = np.exp(values["variance"])
    results = sm.GLM(values["count"], features, family=sm.families.Poisson(), exposure=exposure).fit(tol=1e-14)
    assert np.allclose(GLM.from_statsmodels(results).fit().coef, results.params, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda X, v: sm.OLS(v["real"], X).fit(),
        lambda X, v: sm.OLS(v["real"], X).fit(cov_type="HC3"),
        lambda X, v: sm.WLS(v["real"], X, weights=v["variance"]).fit(),
        lambda X, v: sm.WLS(v["real"], X, weights=2.0).fit(),
        lambda X, v: sm.Logit(v["label"], X).fit(disp=0, tol=1e-12),
        lambda X, v: sm.Logit(v["label"], X, offset=v["offset"]).fit(disp=0, tol=1e-12),
    ],
    ids=["OLS", "OLS robust", "WLS", "WLS scalar", "Logit", "Logit offset"],
)
def test_the_optimum_of_a_linear_or_logit_model_is_that_of_its_results(data, make):
    results = make(*data)
    assert np.allclose(GLM.from_statsmodels(results).fit().coef, results.params, rtol=0, atol=1e-6)


@names
@pytest.mark.parametrize("extras", ALL_EXTRAS, ids=lambda extras: "+".join(extras) or "plain")
def test_newton_is_the_one_step_dfbeta_of_glm_influence(data, family, extras):
    results = fitted(data, family, extras=extras)
    measures = results.get_influence()  # a GLMInfluence with weighted rows
    fit = GLM.from_statsmodels(results).fit()
    lin = fit.linearize(np.eye(P))
    # Its Pearson residual leaves a frequency weight w out where its rows carry √w: √w is missing.
    frequency = np.sqrt(np.broadcast_to(results.model.freq_weights, N))[:, None]
    assert np.allclose(newton(lin), frequency * measures.d_params, atol=1e-7)
    assert np.allclose(newton(lin), MLEInfluence(results).d_params, atol=1e-7)
    assert np.allclose(lin.leverage, measures.hat_matrix_diag, atol=1e-7)
    assert not np.allclose(influence(lin), measures.d_params, atol=1e-4)


@names
def test_exact_influence_is_the_refit_of_statsmodels(data, family):
    results = fitted(data, family, extras=("offset", "freq_weights"))
    truth = leave_one_out(GLM.from_statsmodels(results).fit(), np.eye(P))
    model = results.model
    for i in range(0, N, 16):
        keep = np.arange(N) != i
        without = sm.GLM(
            model.endog[keep],
            model.exog[keep],
            family=FAMILIES[family][0](),
            offset=model.offset[keep],
            freq_weights=model.freq_weights[keep],
        ).fit(tol=1e-14)
        assert np.allclose(truth.influence[i], results.params - without.params, atol=1e-7)


def test_pandas_and_missing_rows_are_what_statsmodels_made_of_them(data):
    import pandas as pd

    features, values = data
    frame = pd.DataFrame(features, columns=list("abcd")).assign(y=values["real"])
    frame.loc[3, "b"] = np.nan
    results = sm.OLS(frame["y"], frame[list("abcd")], missing="drop").fit()
    glm = GLM.from_statsmodels(results)
    assert len(glm.targets) == N - 1
    assert np.allclose(glm.fit().coef, results.params, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X, v: sm.GLM(v["count"] + 1, X, family=sm.families.Gamma(sm.families.links.Log())).fit(), "Gamma"),
        (
            lambda X, v: sm.GLM(v["label"], X, family=sm.families.Binomial(sm.families.links.Probit())).fit(),
            "Binomial and link Probit",
        ),
        (lambda X, v: sm.Probit(v["label"], X).fit(disp=0), "does not support Probit"),
        (lambda X, v: sm.GLS(v["real"], X).fit(), "does not support GLS"),
        (lambda X, v: sm.OLS(v["real"], X).fit_regularized(alpha=0.1), "penalised fit of OLS"),
        (lambda X, v: sm.Logit(v["label"], X).fit_regularized(alpha=1.0, disp=0), "penalised fit of Logit"),
        (
            lambda X, v: sm.GLM(np.c_[v["count"] + 1, v["frequency"]], X, family=sm.families.Binomial()).fit(),
            "one trial",
        ),
        (lambda X, v: sm.OLS(v["real"], X), "pass what fit"),
    ],
    ids=["Gamma", "probit link", "Probit", "GLS", "ridge OLS", "L1 Logit", "binomial counts", "not fitted"],
)
def test_models_without_a_translation_are_refused_by_name(data, make, message):
    with pytest.raises(TypeError, match=message):
        GLM.from_statsmodels(make(*data))


def test_a_constrained_fit_is_refused(data):
    features, values = data
    model = sm.GLM(values["count"], features, family=sm.families.Poisson())
    with pytest.raises(ValueError, match="no stationary point"):
        GLM.from_statsmodels(model.fit_constrained(([[0.0, 1.0, 0.0, 0.0]], [3.0])))


def test_the_offset_belongs_to_every_refit(data):
    results = fitted(data, "Binomial", extras=("offset",))
    glm = GLM.from_statsmodels(results)
    (part,) = subset_models(glm, np.eye(P), count=1, rng=np.random.default_rng(0))
    plain = GLM(glm.features, glm.targets, loss="logistic")
    (without,) = subset_models(plain, np.eye(P), count=1, rng=np.random.default_rng(0))
    assert not np.allclose(part.residual, without.residual, atol=1e-3)
    with pytest.raises(ValueError, match="offset has 3 values for n = 80"):
        GLM(glm.features, glm.targets, offset=np.zeros(3))
    with pytest.raises(ValueError, match="no offset"):
        glm.objective()
