"""Every construction of the table is right or refused before the first step: none silently wrong, none late."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from support.constructions.families import FAMILIES  # noqa: E402
from support.constructions.layer_cases import LAYERS  # noqa: E402
from support.constructions.loop_cases import LOOPS  # noqa: E402
from support.constructions.page import page  # noqa: E402
from support.constructions.setup import N, derivative, loop  # noqa: E402
from support.constructions.trainer import TRAINER  # noqa: E402
from support.constructions.trainer import record as trained  # noqa: E402

from trak_theory.torch_bridge import TrajectoryRecorder  # noqa: E402
from trak_theory.trajectory import attribute, loss_query, retrain_without  # noqa: E402
from trak_theory.trajectory.states.training_step import advance  # noqa: E402

CASES = {case.name: case for case in (*LAYERS, *FAMILIES, *LOOPS)}
RIGHT = [name for name, case in CASES.items() if case.refused is None]
REFUSED = [name for name, case in CASES.items() if case.refused is not None]


def record(setup, module):
    """The run and the objective of a construction."""
    optimizer = setup.optimizer(module)
    objective = setup.objective(module)
    with TrajectoryRecorder(objective, optimizer, **{"clip_norm": setup.clip_norm, **setup.told}) as recorder:
        loop(setup, module, torch.ones(N, dtype=setup.dtype), recorder, optimizer)
    return recorder.run(), objective


@pytest.mark.parametrize("name", RIGHT)
def test_the_influence_is_the_derivative_of_the_loop_in_a_samples_weight(name):
    setup = CASES[name].build()
    run, objective = record(setup, setup.made())
    found = attribute(run, loss_query(objective, np.arange(3), mean=True), estimator="first-order").influence[:, 0]
    sample = int(np.abs(found).argmax())
    assert abs(found[sample]) > 1e-6
    assert found[sample] == pytest.approx(derivative(setup, sample), rel=setup.rel)


@pytest.mark.parametrize("name", REFUSED)
def test_the_refusal_comes_before_the_first_step_and_says_why(name):
    case = CASES[name]
    setup = case.build()
    module = setup.made()
    before = [value.detach().clone() for value in module.parameters()]
    with pytest.raises(ValueError, match=case.refused):
        record(setup, module)
    assert all(torch.equal(value, old) for value, old in zip(module.parameters(), before, strict=True))


TRAINED = {case.name: case for case in TRAINER}


@pytest.mark.parametrize("name", [name for name, case in TRAINED.items() if case.refused is None])
def test_a_trainers_run_replays_to_its_own_end_and_agrees_with_retraining(name, tmp_path):
    pytest.importorskip("peft", reason="peft is an optional extra")
    run = trained(TRAINED[name], tmp_path)
    state = run.state(0)
    for t, batch in enumerate(run.batches):
        state = advance(run.objective, batch, run.optimizer, t, state)
    length = torch.linalg.vector_norm(run.final - run.state(0)[0])
    assert torch.linalg.vector_norm(state[0] - run.final) < 1e-3 * length
    query = loss_query(run.objective, np.arange(3), mean=True)
    truth = retrain_without(run, [[i] for i in range(run.objective.n)])
    assert float(truth.agreement(attribute(run, query, estimator="frozen-push")).pearson) > 0.99


@pytest.mark.parametrize("name", [name for name, case in TRAINED.items() if case.refused is not None])
def test_a_trainer_is_refused_before_its_first_step(name, tmp_path):
    pytest.importorskip("peft", reason="peft is an optional extra")
    with pytest.raises(ValueError, match=TRAINED[name].refused) as caught:
        trained(TRAINED[name], tmp_path)
    assert {entry.name for entry in caught.traceback} & {"causal_lm_objective", "on_train_begin"}


def test_names_are_distinct():
    assert len(CASES) == len(LAYERS) + len(FAMILIES) + len(LOOPS)
    assert len(TRAINED) == len(TRAINER)


def test_the_page_is_the_table():
    assert (Path(__file__).parents[2] / "docs" / "what-works-with-torch.md").read_text() == page()
