"""The benchmark against released packages: everything of it that needs no released package."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import digits_features
from typer.testing import CliRunner

from paper_figures import rivals_cost
from paper_figures.rivals import draw
from simulations.benchmarks.__main__ import app
from simulations.benchmarks.rivals import advice, cases, command, exchange, networks, trajectory
from simulations.benchmarks.rivals.cases import HALF, HUNDREDTH, Case, Truth, arrays_of
from simulations.benchmarks.rivals.environments import RECORD, Rival, prepare
from simulations.benchmarks.rivals.exchange import Answer, Failure, ask
from simulations.benchmarks.rivals.released import Scored, Subject
from simulations.benchmarks.rivals.runners import refits, statsmodels
from simulations.benchmarks.rivals.runners.ours import network as ours_network
from simulations.benchmarks.rivals.runners.ours import run as ours_run
from simulations.benchmarks.rivals.runners.ours import trajectory as ours_trajectory
from simulations.benchmarks.rivals.tables import table
from simulations.benchmarks.rivals.trajectory import arrays_of_run
from simulations.benchmarks.rivals.trak_audit import Setting, audited, compared, failed_gates, within_gates
from simulations.studies.practice.ridge_rule import RECIPES, coordinates
from simulations.workloads.data import gaussian_problem
from simulations.workloads.digits_mlp import relu_network
from simulations.workloads.subset_training import Optimizer
from simulations.workloads.training_runs import setting
from trak_theory import GLM, influence, leave_one_out, newton, project, trak
from trak_theory.attribution import trak_kernel
from trak_theory.auditing.audit import audit
from trak_theory.retraining import block_twin, compare, lds
from trak_theory.retraining.restored import restored_influence
from trak_theory.trajectory import AdamW, attribute, retrain_without, train

HERE = Path(sys.executable)


def test_the_command_is_registered():
    answer = CliRunner().invoke(app, ["rivals", "--help"])
    assert answer.exit_code == 0, answer.output
    assert "--environments" in answer.output


@pytest.fixture(scope="module")
def model():
    return digits_features.small_network()


def counts(ridge):
    """A Poisson problem whose column 0 is an intercept, as arrays for the runners."""
    problem = gaussian_problem(
        n=40, p=4, queries=5, loss="poisson", ridge=ridge, signal=0.5, rng=np.random.default_rng(0)
    )
    features, queries = problem.features, problem.queries
    features[:, 0], queries[:, 0], problem.ridge[0] = 1.0, 1.0, 0.0
    return {"features": features, "targets": problem.targets, "ridge": problem.ridge, "queries": queries}


def fitted(arrays):
    return GLM(arrays["features"], arrays["targets"], loss="poisson", ridge=arrays["ridge"]).fit()


def test_a_program_answers_with_arrays_seconds_memory_and_versions():
    arrays = counts(0.5)
    answer = ask(HERE, "ours.glm", arrays, {"loss": "poisson", "method": "newton"}, repeats=3)
    assert isinstance(answer, Answer)
    np.testing.assert_allclose(answer.arrays["influence"], newton(fitted(arrays).linearize(arrays["queries"])))
    assert len(answer.seconds) == 3
    assert answer.timing.smallest == min(answer.seconds[1:])
    assert answer.memory >= 0 or not Path("/proc/self/status").exists()
    assert answer.named_versions == f"numpy {np.__version__}"


def test_a_failing_program_says_why():
    unknown = ask(HERE, "no_such_program", {}, {})
    assert isinstance(unknown, Failure)
    assert "no_such_program" in unknown.reason
    broken = ask(HERE, "ours.glm", counts(0.5), {"loss": "cubic", "method": "newton"})
    assert isinstance(broken, Failure)
    assert "cubic" in broken.reason
    absent = ask(HERE.parent / "no-python", "ours.glm", {}, {})
    assert isinstance(absent, Failure)
    assert "no-python" in absent.reason


def test_a_program_that_was_killed_says_so(monkeypatch):
    killed = subprocess.CompletedProcess([], -9, "", "calculating: 3/25")
    monkeypatch.setattr(exchange.subprocess, "run", lambda *_, **__: killed)
    answer = ask(HERE, "ours.glm", {}, {})
    assert isinstance(answer, Failure)
    assert "signal 9" in answer.reason


@pytest.mark.slow
def test_a_rival_that_does_not_install_is_reported(tmp_path):
    rival = Rival("absent", (str(tmp_path / "no-such-package"),))
    (found,) = prepare(tmp_path / "environments", [rival]).values()
    assert isinstance(found, Failure)
    assert "no-such-package" in found.reason
    assert ask(found, "traker", {}, {}) is found
    assert not (tmp_path / "environments" / "absent" / RECORD).exists()  # so that the next run tries again


def test_an_installed_rival_is_left_alone(tmp_path):
    rival = Rival("there", ("package==1.0",))
    python = tmp_path / "there" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / "there" / RECORD).write_text(json.dumps([rival.requirements, rival.removed]))
    assert prepare(tmp_path, [rival]) == {"there": python}


def package_scores(lin, package, k, value, rng):
    """What the packages compute: gradients over √p, times N(0, 1) (traker) or N(0, 1/k) (dattri), plus value · I."""
    p = lin.features.shape[1]
    matrix = rng.standard_normal((p, k)) / (np.sqrt(k) if package == "dattri" else 1.0)
    rows, queries = (array / np.sqrt(p) @ matrix for array in (lin.features, lin.queries))
    kernel = rows @ np.linalg.solve(rows.T @ rows + value * np.eye(k), queries.T)
    return 7.0 * -lin.residual[:, None] * kernel


@pytest.mark.slow
@pytest.mark.parametrize(("package", "k", "value"), [("traker", 90, 0.2), ("dattri", 90, 0.002)])
def test_unit_maps_on_scores_made_as_the_packages_do(model, package, k, value):
    """They pass the gates; with the parameter read in the other package's unit they do not."""
    lin = model.margin_linearization()
    case = Setting(package, k, value)
    scores = [package_scores(lin, package, k, value, child) for child in np.random.default_rng(0).spawn(12)]
    right = compared(case, audited(case, lin, package), scores)
    assert within_gates(right), right
    wrong = compared(case, audited(case, lin, {"traker": "dattri", "dattri": "traker"}[package]), scores)
    assert not within_gates(wrong), wrong


def test_failed_gates_name_rows_that_do_not_hold():
    good = {"package": "traker", "k": 64, "rung": "single precision", "within gates": True}
    assert failed_gates([good, {**good, "rung": "half precision"}]) == []
    bad = [{**good, "within gates": False}, {**good, "refused": False}, {**good, "reason": "it fell over"}]
    found = failed_gates(bad)
    assert len(found) == 3
    assert "it fell over" in found[2]


def test_the_twin_answers_for_each_subset(model):
    """The program's outputs are the refits of the block twin, and only methods that predict are told the subsets."""
    n = model.network.n
    subsets = np.random.default_rng(1).permuted(np.tile(np.arange(n), (3, 1)), axis=1)[:, : n // 2]
    recipe = "full batch, momentum"
    found = ours_network.work(
        {**arrays_of(model), "subsets": subsets},
        {"method": "twin", "recipe": recipe, "fraction": 0.5, "k": 40, "seed": 2},
    )
    assert set(found) == {"outputs"}
    block = (model.jacobian, model.probabilities, model.labels, model.query_gradients)
    known = coordinates(replace(model, optimizer=RECIPES[recipe][0]))[1]
    exact = block_twin(*block, known, rank=40, rng=np.random.default_rng(2)).refit(subsets)
    np.testing.assert_allclose(found["outputs"], exact, atol=1e-6 * np.abs(exact).max())
    assert {method.options.get("method") for method in networks.METHODS if method.predicts} == {"twin"}


@pytest.fixture
def short(monkeypatch):
    """The network of AdamW, smaller and trained for twelve steps."""
    for name, value in {"N": 100, "SUBSETS": 8, "QUERIES": 4}.items():
        monkeypatch.setattr(cases, name, value)
    optimizer = Optimizer((2e-3,) * 12, weight_decay=1e-2, batch_size=20, adam=True, decoupled=True)
    monkeypatch.setitem(RECIPES, "AdamW", (optimizer, 0.5))


def mean_square_gradient(network, run):
    """Of the batches, the step t back from the last weighed by .999^t."""
    squares = [
        network.gradient(run.state(t)[0], batch, np.full(len(batch), 1 / len(batch))) ** 2
        for t, batch in enumerate(run.batches)
    ]
    return np.average(squares, axis=0, weights=0.999 ** np.arange(len(squares))[::-1])


def test_where_few_are_removed_the_truth_is_the_recorded_run_without_them(short, tmp_path):
    case = cases.CASES["AdamW"](tmp_path, np.random.default_rng(3))
    network, held_out = (
        relu_network(case.arrays[f"{kind}inputs"], case.arrays[f"{kind}labels"], 128) for kind in ("", "query_")
    )
    run = train(network, case.arrays["start"], list(case.arrays["batches"]), RECIPES["AdamW"][0].steps)
    np.testing.assert_allclose(case.arrays["theta"], run.final, rtol=1e-12)
    np.testing.assert_allclose(case.arrays["second_moment"], mean_square_gradient(network, run), rtol=1e-9, atol=1e-18)
    few = case.truths[HUNDREDTH]
    removed = np.stack([np.setdiff1d(np.arange(100), kept) for kept in few.subsets])
    exact = retrain_without(run, removed, removal="renormalise").influence(cases.margin_query(held_out))
    now = cases.margin_query(held_out).read(run.final)
    np.testing.assert_allclose(now - exact, few.outputs, rtol=1e-9, atol=1e-12)
    assert np.abs(few.again - few.outputs).max() > 0.01 * np.abs(few.outputs).max()
    scores = ours_run.work(case.arrays, {"recipe": "AdamW", "estimator": "two-step"})["scores"]
    assert np.corrcoef(scores[removed[:, 0]].ravel(), exact.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("fraction", [0.5, 0.9])
def test_the_ridge_of_a_network_knows_the_share_removed(model, fraction):
    recipe = "full batch, momentum"
    own = replace(model, optimizer=RECIPES[recipe][0])
    expected = restored_influence(model.margin_linearization(), coordinates(own)[1], fraction=fraction)
    settings = {"method": "restored", "recipe": recipe, "fraction": fraction}
    np.testing.assert_allclose(ours_network.work(arrays_of(model), settings)["scores"], expected, rtol=1e-9)


def test_methods_and_networks_are_chosen_by_name():
    assert {method.environment for method in networks.named("(ours)")} == {None}
    assert {method.environment for method in networks.named("traker")} == {"traker"}
    answer = CliRunner().invoke(app, ["rivals", "network", "--on", "no such network", "--environments", "/nonexistent"])
    assert answer.exit_code == 2
    assert "no network" in answer.output


def test_paired_differences_are_of_this_project_s_methods_each_less_the_next(monkeypatch, tmp_path, capsys):
    """Scores, outputs and a package's scores: the first two are compared, as `compare` does for their sums."""
    rng = np.random.default_rng(4)
    scores, noise = rng.standard_normal((2, 30, 6))
    subsets = rng.permuted(np.tile(np.arange(30), (40, 1)), axis=1)[:, :15]
    truth = scores[subsets].sum(1) + rng.standard_normal((40, 6))
    answers = {"outputs": scores[subsets].sum(1), "block": scores + noise, "theirs": -scores}
    methods = [
        replace(networks._ours(name, "s", name, predicts=name == "outputs"), on=("a",)) for name in ("outputs", "block")
    ]
    methods.append(networks.Method("theirs", "s", "traker", "traker", {"method": "theirs"}, on=("a",)))

    def answer(method, _, case, truth, repeats):
        found = answers[method.options["method"]]
        outputs = found[: len(truth.outputs)] if method.predicts else None
        return Answer({"scores": found} if outputs is None else {"outputs": outputs}, [1.0], 0.0, {})

    monkeypatch.setattr(networks, "METHODS", methods)
    monkeypatch.setattr(networks, "_answer", answer)
    monkeypatch.setattr(networks, "CASES", {"a": lambda *_: case})
    few = Truth(0.9, subsets[:8], truth[:8], truth[:8])
    case = Case({}, "", {}, {HALF: Truth(0.5, subsets, truth, truth), HUNDREDTH: few})
    again, *rows = networks.measure({}, tmp_path, seed=0, repeats=1)
    assert (again["method"], again["LDS"], again["LDS, 1 %"]) == ("retraining", 1.0, 1.0)
    assert rows[1]["LDS, 1 %"] == pytest.approx(lds(scores + noise, subsets[:8], truth[:8]).mean)
    assert [row["LDS"] > 0 for row in rows] == [True, True, False]
    expected = compare(scores, scores + noise, subsets, truth).mean
    assert rows[0]["LDS"] - rows[1]["LDS"] == pytest.approx(expected.value)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"| a | outputs, s | block, s | {expected.value:.4g} | {expected.se:.4g} |"


def test_rows_of_an_earlier_table_stay_unless_measured_again(tmp_path):
    rows = pd.DataFrame({"network": "a", "method": ["one", "two"], "setting": "s", "LDS": [0.1, 0.2]})
    path = tmp_path / "network.csv"
    assert command._beside(rows, path) is rows
    rows.to_csv(path, index=False)
    again = pd.DataFrame({"network": "a", "method": ["two", "two"], "setting": ["s", "t"], "LDS": [0.3, 0.4]})
    assert command._beside(again, path)["LDS"].tolist() == [0.3, 0.4, 0.1]


def test_streamed_trak_is_trak_of_its_projection(model):
    k, batch = 60, 25
    settings = {"method": "trak", "recipe": "full batch, momentum", "fraction": 0.5, "k": k, "seed": 3, "batch": batch}
    scores = ours_network.work(arrays_of(model), settings)["scores"]
    lin = model.margin_linearization()
    matrix = ours_network._projection(lin.features.shape[1], k, batch, np.random.default_rng(3))
    assert np.mean(matrix.astype(float) ** 2) == pytest.approx(1 / k, rel=0.02)
    expected = influence(project(trak_kernel(lin), matrix.astype(float)))
    np.testing.assert_allclose(scores, expected, atol=1e-3 * np.abs(expected).max())


def test_refits_and_statsmodels_are_exact_and_newton():
    arrays = counts(0.5)
    exact = leave_one_out(fitted(arrays), arrays["queries"]).influence
    np.testing.assert_allclose(
        refits.work(arrays, {"loss": "poisson"})["influence"], exact, atol=1e-6 * np.abs(exact).max()
    )
    arrays = counts(0.0)
    one_step = statsmodels.work(arrays, {"loss": "poisson"})["influence"]
    expected = newton(fitted(arrays).linearize(arrays["queries"]))
    np.testing.assert_allclose(one_step, expected, rtol=1e-6, atol=1e-9)


def test_a_run_survives_the_exchange():
    problem = setting("digits", n=40, rng=np.random.default_rng(0))
    run = problem.train(AdamW(1e-2, weight_decay=0.01), size=8, steps=6, rng=np.random.default_rng(1))
    settings = {"estimator": "two-step", "lr": 1e-2, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}
    for queries in (1, 8):
        query = trajectory.mean_losses(problem.held_out, queries)
        found = ours_trajectory.work(arrays_of_run(problem, run), {**settings, "queries": queries})["influence"]
        expected = attribute(run, query, estimator="two-step").influence
        assert expected.shape == (40, queries)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
    whole = attribute(run, problem.query, estimator="first-order").influence
    settings |= {"estimator": "first-order", "queries": 8}
    parts = ours_trajectory.work(arrays_of_run(problem, run), settings)["influence"]
    np.testing.assert_allclose(parts.mean(1), whole[:, 0], rtol=1e-9, atol=1e-15)  # parts of one size


def test_figure_from_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match="network"):
        draw(tmp_path)
    network = pd.DataFrame(
        {
            "network": "a",
            "method": ["mine (ours)", "theirs"],
            "setting": "s",
            "LDS": [0.8, np.nan],
            "s.e.": [0.01, np.nan],
        }
    )
    trajectory = pd.DataFrame(
        {
            "learning rate": [1e-3, 1e-2, 1e-2],
            "queries": [1, 1, 8],
            "method": "theirs",
            "Spearman": [0.9, 0.8, 0.7],
            "s.e.": [0.01, 0.02, 0.03],
        }
    )
    network.to_csv(tmp_path / "network.csv", index=False)
    trajectory.to_csv(tmp_path / "trajectory.csv", index=False)
    assert draw(tmp_path)[0] == tmp_path / "rivals.pdf"
    plotted = pd.read_csv(tmp_path / "rivals.csv")
    assert plotted["LDS"].dropna().tolist() == [0.8]
    assert plotted["Spearman"].dropna().tolist() == [0.9, 0.8]


def test_pareto_front_is_what_nothing_cheaper_equals():
    rng = np.random.default_rng(2)
    cost, score = rng.integers(0, 12, (2, 60)).astype(float)
    x, y = rivals_cost.front(cost, score)
    beaten = {
        (c, s)
        for c, s in zip(cost, score, strict=True)
        if any(a <= c and b >= s and (a, b) != (c, s) for a, b in zip(cost, score, strict=True))
    }
    assert list(zip(x, y, strict=True)) == sorted(set(zip(cost, score, strict=True)) - beaten)


def test_figure_of_costs_leaves_out_what_has_none(tmp_path):
    network = pd.DataFrame(
        {
            "network": ["a", "a", "b", "b"],
            "method": ["mine (ours)", "theirs", "theirs", "retraining"],
            "setting": "s",
            "LDS": [0.8, 0.5, 0.6, 0.9],
            "s.e.": 0.01,
            "CPU s": [3.0, 1.0, 2.0, np.nan],
            "MiB": [30.0, 10.0, 20.0, np.nan],
        }
    )
    network.to_csv(tmp_path / "network.csv", index=False)
    assert rivals_cost.draw(tmp_path)[0] == tmp_path / "rivals_cost.pdf"
    assert pd.read_csv(tmp_path / "rivals_cost.csv")["LDS"].tolist() == [0.8, 0.5, 0.6]


def test_tables_show_what_is_missing():
    lines = table([{"a": 0.123456, "b": True}, {"a": None, "b": False}], ["a", "b"]).splitlines()
    assert lines[2:] == ["| 0.1235 | yes |", "| — | **no** |"]


class Exact:
    """A package that is this project itself: scores of fresh projections, audited from the gradients."""

    name, default, setting = "exact", 0.0, "k = 90"

    def subject(self, rng, folder):
        lin = digits_features.network_gradients()
        return Subject({}, lin, 0.5, None, folder)

    def scored(self, subject, seed, value, *, k=None):
        k = 90 if k is None else k
        scores = trak(subject.lin, k=k, ridge=value, rng=np.random.default_rng([seed, k]))
        return Scored(value, scores, self._audit(subject, value, k))

    def averaged(self, subject, seed, value, count):
        return self._audit(subject, value, 90, ensemble=count)

    def _audit(self, subject, value, k, **options):
        lin = subject.lin
        known = {"curvature": lin.curvature, "recipe": subject.recipe, "ridge": value, "k": k}
        return audit(lin.features, lin.queries, lin.residual, **known, **options)


def test_advice_followed_gives_what_it_promised(tmp_path):
    package = Exact()
    found = advice.followed(package, package.subject(None, tmp_path))
    assert [each.step for each in found] == ["default", "advice"] * 2 + ["advice, J = 2", "twice the k"]
    for each in found:
        assert each.measured == pytest.approx(each.predicted, abs=0.04), each
    assert found[1].measured > found[0].measured + 0.1
    row = advice._summary([[found[0]], [found[2]]])
    gaps = [each.measured - each.predicted for each in (found[0], found[2])]
    assert row["difference"] == pytest.approx(np.mean(gaps))
    assert row["s.e."] == pytest.approx(np.std(gaps, ddof=1) / np.sqrt(2))


def test_a_package_that_fails_is_a_row_with_its_reason(tmp_path):
    package = Exact()
    package.scored = lambda *_, **__: Failure("it fell over")
    (row,) = advice._followed(package, 0, 1)
    assert row["reason"] == "it fell over"
