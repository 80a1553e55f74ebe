"""The suite turns red when the numeric code is mutated: a sign, a factor ½, D for I, a scale; and what survives."""

import json
import shutil
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAIN, LOSSES = "tests/symbolic/test_chain.py", "tests/symbolic/test_losses.py::test_the_numpy_function_is_the_loss"
SERIES = "tests/symbolic/test_series.py::test_each_term_is_the_derivative_of_actual_refits"
ADAMW = "tests/symbolic/test_adamw.py::test_optimiser_code_has_the_printed_tangent"
STEPS = "trajectory/optimizer/steps.py"
SKETCH = "tests/symbolic/test_projection.py::test_the_code_draws_projections_of_that_scale"

TWIN = "tests/identities/test_twin.py::test_block_twin_by_dense_newton"
LDS = "tests/identities/test_lds.py::test_spearman_and_its_delete_one_values_with_ties"
LAYOUT = "tests/identities/test_lds.py::test_variances_of_a_two_way_layout"
LABELS = (
    "tests/identities/trajectory/test_trajectory_proxies.py::test_the_free_label_follows_the_index_and_abstains_between"
)
ENSEMBLE = "tests/scripts/test_audit_verdict.py::test_the_ensemble_enters_sd_and_reliability"


@dataclass(frozen=True)
class Mutation:
    """One edit of one file of the package, and the tests that must see it."""

    name: str
    path: str
    before: str
    after: str
    seen_by: str


MUTATIONS = [
    Mutation(
        "influence loses its sign",
        "attribution.py",
        "-lin.residual[:, None] * lin.cross",
        "lin.residual[:, None] * lin.cross",
        CHAIN,
    ),
    Mutation("1 − h becomes 1 + h", "attribution.py", "1.0 - lin.leverage", "1.0 + lin.leverage", CHAIN),
    Mutation("I for D in the leverage", "linearization.py", "self.curvature * np.einsum", "np.einsum", CHAIN),
    Mutation("D for I in the kernel", "linearization.py", "np.ones_like(lin.curvature)", "lin.curvature", CHAIN),
    Mutation("logistic third loses ½", "losses.py", "np.tanh(outputs / 2)", "np.tanh(outputs)", LOSSES),
    Mutation("Huber third loses its sign", "losses.py", "-3.0 * error", "3.0 * error", LOSSES),
    Mutation(
        "Poisson residual flips a sign",
        "losses.py",
        "np.exp(outputs) - targets\n\n    def curvature",
        "np.exp(outputs) + targets\n\n    def curvature",
        LOSSES,
    ),
    Mutation("series loses 1/s!", "loo/series.py", " / factorial(s)", "", SERIES),
    Mutation("series loses (−1)^s", "loo/series.py", "(-1) ** s", "1", SERIES),
    Mutation(
        "the down-date flips its sign", "loo/solving/group_problems.py", "vectors + _times", "vectors - _times", SERIES
    ),
    Mutation("left-out point stays in F", "loo/series.py", "if downdated:", "if False:", SERIES),
    Mutation(
        "I for D in AdamW",
        STEPS,
        "d = 1.0 / (root + self.eps)",
        "d = 1.0 + 0.0 * root",
        ADAMW,
    ),
    Mutation(
        "AdamW's S loses ½",
        STEPS,
        "xp.where(smooth, 0.5 * m_hat",
        "xp.where(smooth, m_hat",
        ADAMW,
    ),
    Mutation(
        "projection loses 1/√k",
        "projection/matrices.py",
        "rng.standard_normal((p, k)) / np.sqrt(k)",
        "rng.standard_normal((p, k))",
        SKETCH,
    ),
    Mutation(
        "the twin's centre flips its sign",
        "retraining/kernel_twin.py",
        "residual, rows) / ridge",
        "residual, rows) / -ridge",
        TWIN,
    ),
    Mutation(
        "a subset keeps the ridge of all data",
        "retraining/kernel_twin.py",
        "weights / weights.mean(1, keepdims=True) * self",
        "weights * self",
        TWIN,
    ),
    Mutation(
        "ranks keep the pair left out", "retraining/rank_jackknife.py", "total - a * c - own", "total - a * c", LDS
    ),
    Mutation(
        "queries count the noise of single queries",
        "retraining/crossed.py",
        "/ queries - both",
        "/ queries",
        LAYOUT,
    ),
    # Those that an outside review saw survive; a claim count typed by hand is in tests/studies/test_findings.py.
    Mutation("trust reaches further", "trajectory/reliability/labels.py", "(0.16, 0.25,", "(0.36, 0.25,", LABELS),
    Mutation(
        "ranks only reaches further", "trajectory/reliability/labels.py", "0.25, 0.45, 0.7)", "0.6, 1.4, 1.6)", LABELS
    ),
    Mutation(
        "the audit's sd ignores the ensemble",
        "auditing/projected.py",
        "(len(self.kernels) * self.ensemble)",
        "len(self.kernels)",
        ENSEMBLE,
    ),
    Mutation(
        "the audit's reliability ignores the ensemble",
        "auditing/projected.py",
        "pearson_with(target, scatter, self.ensemble)",
        "pearson_with(target, scatter, 1)",
        ENSEMBLE,
    ),
    Mutation("β₂ for β₁ in Adam's first moment", STEPS, "mix(self.beta1, m, d,", "mix(self.beta2, m, d,", ADAMW),
]


@pytest.mark.slow
def test_the_suite_turns_red_for_each_mutation_and_for_no_other_reason(tmp_path):
    """Package, tests and settings are copied and mutated there; the unmutated copy is green."""
    for name in ("trak_theory", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    done = subprocess.run(
        [sys.executable, tmp_path / "tests" / "support" / "mutants" / "mutate.py", tmp_path],
        input=json.dumps([asdict(mutation) for mutation in MUTATIONS]),
        capture_output=True,
        text=True,
        check=True,
    )
    red = {mutation.name: int(pytest.ExitCode.TESTS_FAILED) for mutation in MUTATIONS}
    assert json.loads(done.stdout) == {"unmutated": int(pytest.ExitCode.OK), **red}


def test_judged_survivors_change_lines_that_still_stand():
    """A survivor of `make mutants` is judged anew when its line has changed."""
    judged = tomllib.loads((ROOT / "tests" / "controls" / "mutants.toml").read_text())["survivors"]
    for survivor in judged:
        assert survivor["line"] in map(str.strip, (ROOT / survivor["path"]).read_text().splitlines()), survivor
        assert survivor["line"] != survivor["mutated"]
        assert survivor["reason"]
    assert len({(each["path"], each["line"], each["mutated"]) for each in judged}) == len(judged)
