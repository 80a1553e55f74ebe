"""Stores that traker itself wrote: what is read reproduces its own scores."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from trak_theory.auditing.stores import recognise
from trak_theory.errors import StoreError

STORES = Path(__file__).parents[1] / "fixtures" / "stores" / "traker"


def kernel_scores(store, ridge):
    """mean over models of −r x_iᵀGx*_j: mean kernel, each over its mean entry as traker has it, times mean residual."""
    kernel = 0.0
    for member in store.members:
        rows, queries = (np.asarray(array, float) for array in (member.features, member.queries))
        inverse = np.linalg.inv(rows.T @ rows + ridge * member.units[0] * np.eye(store.k))
        kernel = kernel + rows @ inverse @ queries.T / np.abs(inverse).mean()
    return -store.residual[:, None] * kernel / store.ensemble


@pytest.mark.parametrize(
    ("name", "ridge", "members", "precision"),
    [("single", 0.02, 1, 2e-5), ("ensemble", 0.02, 2, 2e-5), ("half", 0.0, 1, 0.04)],
)
def test_scores_from_the_features_that_are_read_are_the_stored_scores(name, ridge, members, precision):
    """Scale, sign and unit: the same numbers, not only the same order. float16 keeps 11 bits of a condition of 10³."""
    store = recognise(STORES / name)
    assert (store.package, store.ensemble, store.n, store.k) == ("traker", members, 48, 24)
    expected = kernel_scores(store, ridge)
    np.testing.assert_allclose(store.scores, expected, atol=precision * np.abs(expected).max())


def test_another_ridge_or_residual_does_not_reproduce_them():
    """The control of the test above."""
    store = recognise(STORES / "single")
    for wrong in (kernel_scores(store, 0.03), -kernel_scores(store, 0.02)):
        assert np.abs(store.scores - wrong).max() > 1e-2 * np.abs(wrong).max()


def test_scale_and_ridge_are_those_of_a_projection_with_unit_mean():
    """x√(p/k) and λp/k give the same kernel as x and λ."""
    store = recognise(STORES / "single")
    parameters = 334
    assert store.scale(parameters) == pytest.approx(np.sqrt(parameters / 24))
    assert store.projected_ridge(0.02, parameters) == pytest.approx(0.02 * parameters / 24)
    with pytest.raises(StoreError, match="give --parameters"):
        store.scale()


def test_residuals_are_negative_where_the_store_holds_one_minus_p():
    store = recognise(STORES / "single")
    stored = np.load(STORES / "single" / "0" / "out_to_loss.mmap")
    np.testing.assert_array_equal(store.residual, -stored.ravel().astype(float))


def test_arrays_stay_on_disk():
    store = recognise(STORES / "single")
    assert all(isinstance(array, np.memmap) for array in (store.features, store.queries, store.scores))
    assert not store.features.flags.writeable


def test_an_experiment_is_chosen_by_name():
    assert recognise(STORES / "single", scores="queries").scores_name == "queries"
    unfinished = recognise(STORES / "single", scores="unfinished")
    assert unfinished.scores is None
    assert unfinished.queries.shape == (2, 24)
    with pytest.raises(StoreError, match="no experiment 'other'"):
        recognise(STORES / "single", scores="other")


def test_two_finished_experiments_ask_for_a_name(tmp_path):
    copy = shutil.copytree(STORES / "single", tmp_path / "store")
    (copy / "experiments.json").write_text(
        (copy / "experiments.json").read_text().replace('"scores_finalized": 0', '"scores_finalized": 1')
    )
    with pytest.raises(StoreError, match=r"several experiments \(queries, unfinished\): name one"):
        recognise(copy)


def test_half_written_features_are_refused_with_their_count(tmp_path):
    copy = shutil.copytree(STORES / "single", tmp_path / "store")
    flags = np.load(copy / "0" / "_is_featurized.mmap", mmap_mode="r+")
    flags[40:] = 0
    flags.flush()
    with pytest.raises(StoreError, match="40 of 48 points were featurised"):
        recognise(copy)


def test_a_model_that_is_not_finalised_is_left_out_and_named(tmp_path):
    copy = shutil.copytree(STORES / "ensemble", tmp_path / "store")
    (copy / "id_1.json").write_text('{"1": {"is_featurized": 1, "is_finalized": 0}}')
    store = recognise(copy)
    assert store.ensemble == 1
    assert any("model 1 is left out" in note for note in store.notes)


def test_a_store_of_traker_before_0_2_is_named(tmp_path):
    (tmp_path / "metadata.json").write_text('{"JL dimension": 24, "JL matrix type": "normal"}')
    with pytest.raises(StoreError, match=r"of traker before 0.2"):
        recognise(tmp_path)


def test_the_name_of_an_experiment_never_leaves_the_folder(tmp_path):
    copy = shutil.copytree(STORES / "single", tmp_path / "store")
    (copy / "experiments.json").write_text('{"../../x": {"num_targets": 4, "scores_finalized": 1}}')
    with pytest.raises(StoreError, match="is no experiment"):
        recognise(copy)


def test_gradients_that_traker_deleted_are_asked_for(tmp_path):
    copy = shutil.copytree(STORES / "single", tmp_path / "store")
    (copy / "0" / "grads.mmap").unlink()
    with pytest.raises(StoreError, match=r"grads.mmap: no such file: keep it, finalize_features\(del_grads=False\)"):
        recognise(copy)
