"""The table of letters and the bridge from an expression to numbers."""

import subprocess
import sys

import numpy as np
import pytest
import sympy as sp
from support.problems import queries_for, random_glm

from trak_theory import Linearization, influence, newton
from trak_theory.symbolic.notation import (
    LETTERS,
    G_j,
    c,
    d,
    d_j,
    evaluate,
    f,
    h,
    j,
    lamda,
    n,
    numeric,
    p,
    q,
    r,
    v,
    verify,
)

RNG = np.random.default_rng(0)


def linearization(**options):
    glm = random_glm(3, weights=True, **options)
    return glm.fit().linearize(queries_for(glm, 3))


def test_an_expression_in_the_letters_is_an_attribution():
    lin = linearization()
    np.testing.assert_allclose(evaluate(-r * c / (1 - h), lin), newton(lin), rtol=1e-13)
    np.testing.assert_allclose(evaluate(-r * c, lin), influence(lin), rtol=1e-13)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (h, lambda lin: lin.leverage[:, None]),
        (d * v, lambda lin: lin.leverage[:, None]),
        (n * p * q, lambda lin: np.prod(lin.features.shape) * len(lin.queries)),
        (lamda, lambda lin: lin.ridge[0]),
        (sp.Integer(2), lambda lin: 2.0),
        (sp.Sum(d_j[j] * G_j[j] ** 2, (j, 0, n - 1)), lambda lin: squared_gram(lin)),
    ],
    ids=lambda part: "read" if callable(part) else str(part),
)
def test_every_letter_is_read_where_the_table_says(expression, value):
    lin = linearization()
    expected = np.broadcast_to(value(lin), (len(lin.features), len(lin.queries)))
    np.testing.assert_allclose(evaluate(expression, lin), expected, rtol=1e-12)


def squared_gram(lin):
    inverse = np.linalg.inv((lin.features.T * lin.curvature) @ lin.features + np.diag(lin.ridge))
    gram = lin.features @ inverse @ lin.features.T
    return ((gram**2) @ lin.curvature)[:, None]


def test_readings_of_a_linearization_are_its_own():
    """Every letter that can be read has the axes that the table gives it."""
    lin = linearization()
    sizes = {"n": len(lin.features), "q": len(lin.queries), "j": len(lin.features)}
    for letter in LETTERS.values():
        if letter.read is not None:
            assert np.shape(letter.read(lin)) == tuple(sizes[axis] for axis in letter.shape), letter.name


def test_names_in_code_are_unique():
    names = [letter.name for letter in LETTERS.values()]
    assert len(set(names)) == len(names)


def test_the_numpy_function_takes_code_names():
    function = numeric(-r * c / (1 - h))
    assert function(residual=2.0, cross=3.0, leverage=0.5) == -12.0


def test_unknown_letters_and_missing_values_are_named():
    lin = linearization()
    with pytest.raises(ValueError, match=r"'Q'.*not letters"):
        evaluate(sp.Symbol("Q") * r, lin)
    with pytest.raises(ValueError, match="pass target="):
        evaluate(sp.Symbol("y", real=True) * r, lin)
    uneven = Linearization(lin.features, lin.residual, lin.curvature, np.arange(1.0, 9.0), lin.queries)
    with pytest.raises(ValueError, match="one common ridge"):
        evaluate(lamda * r, uneven)


def test_verify_accepts_identities_and_refutes_near_misses():
    assert verify(sp.sin(f) ** 2 + sp.cos(f) ** 2, 1, rng=RNG)
    assert not verify(sp.sin(f) ** 2 + sp.cos(f) ** 2, 1 + sp.Rational(1, 10**30), rng=RNG)
    assert not verify(sp.sqrt(f**2), f, rng=RNG)  # wrong for f < 0 only: the domain of f holds both signs
    assert verify(sp.sqrt(d**2), d, rng=RNG)
    assert verify(sp.Matrix([f, d]), sp.Matrix([f, d]), rng=RNG)
    assert not verify(sp.Matrix([f, d]), sp.Matrix([f, 2 * d]), rng=RNG)
    with pytest.raises(ValueError, match="shape"):
        verify(sp.Matrix([f, d]), f, rng=RNG)


def test_verify_draws_from_the_given_domain():
    step = sp.Piecewise((0, f < 5), (1, True))
    assert verify(step, 0, rng=RNG)
    assert not verify(step, 0, domains={f: (4.0, 9.0)}, rng=RNG)


def test_importing_the_package_imports_no_sympy():
    code = "import sys, trak_theory, trak_theory.loo.series; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
