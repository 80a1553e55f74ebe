"""The look-ahead studies, their figures and the benchmark: run small, drawn from what was stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulations.benchmarks import lookahead as benchmark
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.engine.study import grid
from simulations.studies.lookahead import horizon_map, lookahead_fidelity, lookahead_selection
from simulations.workloads.selection_tasks import SETTINGS, setting

NAME = "digits_wrong_labels"
SMALL = {
    lookahead_fidelity: grid(setting=[NAME], learning_rate=[1e-2], replicate=[0]),
    lookahead_selection: grid(setting=[NAME], learning_rate=[1e-2], replicate=range(2)),
    horizon_map: grid(setting=[NAME], steps=[10], longest=[2], learning_rate=[1e-3, 1e-2], replicate=range(3)),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A few cells of each study, with fewer steps; the figures look for those."""
    out = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lookahead_selection.STEPS, NAME, 20)
        patch.setattr(lookahead_fidelity, "PLACES", (40,))
        for module, cells in SMALL.items():
            patch.setattr(module, "STUDY", replace(module.STUDY, quick=cells, full=cells))
            (outcome,) = run([module.STUDY], out=out)
            assert not outcome.failures, outcome.failures
        yield out


def load(results, module):
    return Store(results).load(module.STUDY)


@pytest.mark.slow
def test_fidelity_of_the_scores_is_told_from_that_of_the_horizon(results):
    frame = load(results, lookahead_fidelity).set_index(["estimator", "horizon"])
    np.testing.assert_allclose(frame.loc["retraining", "own"], 1.0, rtol=1e-12)
    assert (frame.loc["two-step", "own"] > 0.95).all()
    ends = frame["to_the_end"]
    np.testing.assert_array_equal(frame.loc[ends, "own"], frame.loc[ends, "final"])
    assert frame.loc[("retraining", 0), "final"] < frame.loc[("retraining", 16), "final"]


@pytest.mark.slow
def test_selection_rows_say_what_was_kept_and_what_it_cost(results):
    frame = load(results, lookahead_selection)
    first = frame[frame["replicate"] == 0]
    equal = first[first["compute_of"].isna()].set_index("policy")
    assert set(lookahead_selection.POLICIES) < set(equal.index)
    assert equal.loc["random", "multiple"] == 1
    assert equal.loc["all candidates", "multiple"] == 2
    assert equal.loc["K = 0", "flawed"] < 0.2 < equal.loc["random", "flawed"] < 0.4
    assert equal["multiple"]["K = 0"] < equal["multiple"]["K = 4"] < equal["multiple"]["K = 16"]
    more = first[first["policy"] == "random, more steps"].set_index("compute_of")
    for name in lookahead_selection.MATCHED:
        assert more.loc[name, "multiple"] == equal.loc[name, "multiple"]
    stopped = first[first["policy"] == "random, more steps, stopped"].set_index("compute_of")
    assert set(stopped.index) == set(more.index)


def test_the_sets_of_a_setting_are_disjoint_and_only_candidates_are_flawed():
    for name in [name for name in SETTINGS if name.startswith("digits")]:
        problem = setting(name, np.random.default_rng(0))
        sets = [problem.candidates, problem.validation, problem.judge, problem.test]
        assert len(np.unique(np.concatenate(sets))) == sum(map(len, sets)) == problem.objective.n
        assert not problem.flawed[np.concatenate(sets[1:])].any()
        share = problem.flawed[problem.candidates].mean()
        assert share == pytest.approx(0.3 if name == NAME else 0.7)


def test_wrong_labels_are_all_wrong_and_turned_digits_keep_theirs():
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    wrong, turned = (setting(name, np.random.default_rng(0)) for name in (NAME, "digits_domains"))
    changed = wrong.objective.labels != labels
    assert np.array_equal(changed, wrong.flawed)
    assert np.array_equal(turned.objective.labels, labels)
    k = int(np.flatnonzero(turned.flawed)[0])
    assert np.array_equal(turned.objective.features[k].reshape(8, 8), np.rot90(features[k].reshape(8, 8) / 16))


@pytest.mark.slow
def test_two_domains_of_text(monkeypatch):
    pytest.importorskip("torch", reason="torch is an optional extra")
    pytest.importorskip("transformers", reason="transformers is an optional extra")
    from simulations.workloads import selection_text

    monkeypatch.setattr(selection_text, "WARM_UP", 5)
    problem = setting("text_domains", np.random.default_rng(0))
    sets = [problem.candidates, problem.validation, problem.judge, problem.test]
    assert len(np.unique(np.concatenate(sets))) == sum(map(len, sets))
    assert problem.flawed[problem.candidates].mean() == pytest.approx(0.7)
    assert not problem.flawed[np.concatenate(sets[1:])].any()
    assert 4.0 < problem.mean_loss(problem.start, problem.test) < np.log(256)  # chance; five steps do not get far


def test_the_benchmark_prints_a_table_of_multiples(monkeypatch):
    monkeypatch.setattr(benchmark, "STEPS", 2)
    rng = np.random.default_rng(0)
    lines = benchmark.measure(setting(NAME, rng), rng, 1)
    assert all(line.count("|") == benchmark.HEADER.splitlines()[0].count("|") for line in lines)
    multiples = {line.split("|")[1].strip(): float(line.split("|")[4]) for line in lines}
    assert multiples["plain step"] == 1
    assert multiples["K = 0"] < multiples["K = 4"] < multiples["K = 16"]
