"""Stores that bergson, dattri, kronfluence and LogIX themselves wrote: what is read is what they computed."""

import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

from trak_theory.auditing.stored import audit_store
from trak_theory.auditing.stores import recognise
from trak_theory.auditing.stores.contents import RecoveredRidge
from trak_theory.auditing.stores.recovery import recovered_ridges
from trak_theory.errors import StoreError

STORES = Path(__file__).parents[1] / "fixtures" / "stores"
BERGSON, KRONFLUENCE, DATTRI, LOGIX, TRAKER = (
    STORES / name for name in ("bergson", "kronfluence", "dattri", "logix", "traker")
)


def float64(*arrays):
    return [np.asarray(array, float) for array in arrays]


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("name", "members"), [("trak", 1), ("ensemble", 2)])
def test_bergson_trak_scores_are_those_of_the_features_and_queries_that_are_read(name, members):
    """The whitening of its query index is undone, so that G stands once; scale: each member over the mean of |nG|."""
    store = recognise(BERGSON / name)
    assert (store.package, store.version, store.method, store.ensemble) == ("bergson", "2.5.1", "trak", members)
    kernel = 0.0
    for member in store.members:
        rows, queries = float64(member.features, member.queries)
        inverse = np.linalg.inv(rows.T @ rows + store.ridge * member.units[0] * np.eye(store.k))
        kernel = kernel + rows @ inverse @ queries.T / (store.n * np.abs(inverse)).mean() * store.n
    expected = -store.residual[:, None] * kernel / members
    assert relative(store.scores, expected) < 2e-5


def test_bergson_queries_are_gradients_and_not_their_products_with_the_inverse():
    """A query index of `bergson build` without a Hessian would hold them; the whitened ones are far from them."""
    store = recognise(BERGSON / "trak")
    stored = np.fromfile(BERGSON / "trak" / "query" / "gradients.bin", np.float32).reshape(store.queries.shape)
    correlation = np.corrcoef(stored.ravel(), store.queries.ravel())[0, 1]
    assert correlation < 0.9


def test_bergson_scores_declared_as_better_when_lower_are_turned():
    """score_cfg.higher_is_better = false changes no stored number, it says how they are meant."""
    store = recognise(BERGSON / "score")
    assert (store.sign, store.method, store.blocks) == (-1, "dot product", (16, 16))
    rows, queries = float64(store.features, store.queries)
    assert relative(store.scores, -rows @ queries.T) < 1e-6


def test_bergson_index_and_scores_are_read_alone():
    index, scores = recognise(BERGSON / "trak" / "index"), recognise(BERGSON / "trak" / "scores")
    assert index.scores is None
    assert index.features.shape == (48, 24)
    assert scores.features is None
    assert scores.scores.shape == (48, 4)
    assert "bergson build RUN/index" in scores.missing["features"]


def test_a_bergson_projection_of_before_2_0_is_named(tmp_path):
    copy = shutil.copytree(BERGSON / "trak" / "index", tmp_path / "index")
    settings = yaml.safe_load((copy / "processor_config.yaml").read_text())
    del settings["projection_version"], settings["projection_scale"]
    (copy / "processor_config.yaml").write_text(yaml.safe_dump(settings))
    store = recognise(copy)
    assert any("before 2.0" in note for note in store.notes)
    assert store.scale(600) == pytest.approx(np.sqrt(600 / 24))


def test_a_bergson_query_index_of_another_projection_is_refused(tmp_path):
    copy = shutil.copytree(BERGSON / "trak", tmp_path / "trak")
    path = copy / "query" / "processor_config.yaml"
    path.write_text(path.read_text().replace("rademacher", "normal"))
    with pytest.raises(StoreError, match="rebuild one of them"):
        recognise(copy)


def test_an_unfinished_bergson_run_is_refused_with_its_count(tmp_path):
    copy = shutil.copytree(BERGSON / "trak" / "scores", tmp_path / "scores")
    content = bytearray((copy / "scores.bin").read_bytes())
    content[4] = 0
    (copy / "scores.bin").write_bytes(bytes(content))
    with pytest.raises(StoreError, match="191 of 192 scores are marked written"):
        recognise(copy)


def test_the_sign_of_bergson_scores_is_never_guessed(tmp_path):
    copy = shutil.copytree(BERGSON / "trak" / "scores", tmp_path / "scores")
    (copy / "config.yaml").unlink()
    with pytest.raises(StoreError, match="no such file"):
        recognise(copy)


def reconfigured(path, tmp_path, before, after):
    copy = shutil.copytree(path, tmp_path / "run")
    config = copy / "scores" / "config.yaml"
    assert config.read_text().count(before) == 1
    config.write_text(config.read_text().replace(before, after))
    return copy


def test_largest_scores_over_queries_are_refused(tmp_path):
    with pytest.raises(StoreError, match="one score a point, the largest over queries"):
        recognise(reconfigured(BERGSON / "score", tmp_path, "score: individual", "score: nearest"))


def test_cosines_are_named_and_not_held_against_dot_products(tmp_path):
    copy = reconfigured(BERGSON / "score", tmp_path, "unit_normalize: false", "unit_normalize: true")
    np.random.default_rng(0).standard_normal(48 * 32).astype(np.float32).tofile(copy / "index" / "gradients.bin")
    assert any("scores are cosines" in note for note in recognise(copy).notes)


def test_modules_of_kronfluence_add_up_to_its_total():
    total, modules = (recognise(KRONFLUENCE / "digits", scores=name) for name in ("all", "modules"))
    assert relative(total.scores, modules.scores) < 1e-6
    assert (total.n, total.scores.shape, total.ridge) == (48, (48, 4), 1e-3)


def test_scores_and_arguments_of_two_kronfluence_runs_are_told_apart(tmp_path):
    copy = shutil.copytree(KRONFLUENCE / "digits" / "scores_all", tmp_path / "scores_all")
    arguments = json.loads((copy / "score_arguments.json").read_text())
    (copy / "score_arguments.json").write_text(json.dumps({**arguments, "damping_factor": 0.5}))
    with pytest.raises(StoreError, match=r"written with damping_factor = 0.001, but score_arguments.json says 0.5"):
        recognise(copy)


@pytest.mark.parametrize(("size", "indices"), [(47, None), (48, [0, 1, 2])])
def test_kronfluence_scores_of_another_data_set_are_refused(size, indices, tmp_path):
    copy = shutil.copytree(KRONFLUENCE / "digits" / "scores_all", tmp_path / "scores_all")
    (copy / "train_dataset_metadata.json").write_text(json.dumps({"dataset_size": size, "indices": indices}))
    with pytest.raises(StoreError, match=r"has shape \(4, 48\), expected \(queries, points\) = \(4, (47|3)\)"):
        recognise(copy)


def test_self_influence_of_kronfluence_is_named():
    with pytest.raises(StoreError, match="only self-influence is there"):
        recognise(KRONFLUENCE / "digits" / "scores_self")


def test_dattri_products_with_the_inverse_follow_from_the_rows_that_are_read():
    """Chunks in their order, blocks, and the unit of its damping: c λ̄ on XᵀX/n, block by block."""
    store = recognise(DATTRI / "logra")
    member = store.members[0]
    rows, solved = float64(member.features, member.preconditioned)
    start = 0
    for width, unit in zip(store.blocks, member.units, strict=True):
        block = slice(start, start + width)
        gram = rows[:, block].T @ rows[:, block] + 0.05 * unit * np.eye(width)
        assert relative(solved[:, block], len(rows) * rows[:, block] @ np.linalg.inv(gram)) < 1e-5
        start += width


@pytest.mark.parametrize("path", [DATTRI / "logra", LOGIX / "full", LOGIX / "lora"])
def test_each_block_of_a_row_is_an_outer_product(path):
    """Gradients of a linear layer at one sample have rank one: offsets, widths and order of the blocks are right."""
    store = recognise(path)
    shapes = {81: (9, 9), 9: (3, 3), 16: (4, 4), 192: (12, 16), 120: (10, 12)}
    start = 0
    for width in store.blocks:
        for row in np.asarray(store.features[:, start : start + width], float):
            values = np.linalg.svd(row.reshape(shapes[width]), compute_uv=False)
            assert values[1] < 1e-5 * values[0]
        start += width
    assert start == store.k


def test_chunks_of_logix_are_joined_in_the_order_of_the_samples():
    """36 samples in the first chunk, 12 in the second."""
    store = recognise(LOGIX / "full")
    parts = [np.fromfile(LOGIX / "full" / f"log_rank_0_chunk_{chunk}.mmap", np.float32) for chunk in (0, 1)]
    np.testing.assert_array_equal(store.features, np.concatenate(parts).reshape(48, 312))


@pytest.mark.parametrize(
    ("path", "ridges"), [(TRAKER / "single", [0.02]), (TRAKER / "ensemble", [0.02]), (DATTRI / "logra", None)]
)
def test_a_ridge_that_was_not_written_down_is_recovered(path, ridges):
    store = recognise(path)
    member = store.members[0]
    expected = [0.05 * unit for unit in member.units] if ridges is None else ridges
    found = member.recovered
    assert store.recovered_ridge.value == pytest.approx(0.05 if ridges is None else 0.02, rel=1e-4)
    np.testing.assert_allclose([ridge.value for ridge in found], expected, rtol=1e-4)
    assert all(ridge.misfit < 1e-4 for ridge in found)


def test_a_ridge_of_zero_in_half_precision_is_zero_to_within_its_error():
    (found,) = recognise(TRAKER / "half").members[0].recovered
    assert abs(found.value) < 4 * found.se
    assert found.se < 2e-3


def test_rows_that_are_no_product_with_the_inverse_do_not_fit():
    """The control of the two above."""
    member = recognise(TRAKER / "single").members[0]
    shuffled = np.random.default_rng(0).permutation(np.asarray(member.preconditioned))
    (found,) = recovered_ridges(member.features, shuffled)
    assert found.misfit > 0.9


def exchanged(path, first, second):
    content = (path / first).read_bytes()
    (path / first).write_bytes((path / second).read_bytes())
    (path / second).write_bytes(content)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("0/grads.mmap", "1/grads.mmap", "features.mmap is not grads.mmap times an inverse"),
        ("0/features.mmap", "1/features.mmap", "scores differ by"),
        ("0/queries_grads.mmap", "1/queries_grads.mmap", "scores differ by"),
    ],
)
def test_files_of_two_models_that_were_exchanged_are_named(first, second, message, tmp_path):
    """Nothing but the numbers tells: same sizes, same types."""
    copy = shutil.copytree(TRAKER / "ensemble", tmp_path / "store")
    exchanged(copy, first, second)
    assert any(message in note for note in recognise(copy).notes)


def test_a_bergson_index_of_another_projection_seed_is_refused(tmp_path):
    """It differs in no setting that the index records, only in its numbers."""
    copy = shutil.copytree(BERGSON / "ensemble", tmp_path / "store")
    exchanged(copy, "checkpoint_0/index/gradients.bin", "checkpoint_1/index/gradients.bin")
    with pytest.raises(StoreError, match="index/ is not the run's"):
        recognise(copy)


def test_stores_as_written_raise_no_remark_of_damage():
    paths = [TRAKER / name for name in ("single", "ensemble", "half")]
    paths += [BERGSON / name for name in ("trak", "ensemble", "score")]
    for path in [*paths, DATTRI / "logra", LOGIX / "full", LOGIX / "lora", KRONFLUENCE / "digits" / "scores_all"]:
        assert not [note for note in recognise(path).notes if "differ" in note or "not grad" in note or "norm" in note]


def mean_spearman(first, second):
    return np.mean([spearmanr(one, other)[0] for one, other in zip(first.T, second.T, strict=True)])


def test_packages_agree_in_sign_on_the_same_network():
    """traker, kronfluence and dattri scored the same 48 points and 4 queries."""
    paths = [TRAKER / "single", KRONFLUENCE / "digits" / "scores_all", DATTRI / "logra"]
    scores = [np.asarray(recognise(path).scores, float) for path in paths]
    for first, second in combinations(scores, 2):
        assert mean_spearman(first, second) > 0.25  # 48 points, 4 queries: noise is .07


@pytest.mark.parametrize("name", ["traker/single", "traker/half", "kronfluence/digits/scores_all", "dattri/logra"])
def test_points_of_the_class_of_a_query_help_it(name):
    """The sign by what it means: 16 pairs of one class, whose mean has a standard error of a quarter."""
    labels = pytest.importorskip("sklearn.datasets", reason="scikit-learn is an optional extra").load_digits().target
    same = labels[:48, None] == labels[None, 48:52]
    scores = np.asarray(recognise(STORES / name).scores, float)
    assert same.sum() == 16
    assert scores[same].mean() - scores[~same].mean() > scores.std()


@pytest.mark.parametrize("path", [TRAKER / "ensemble", BERGSON / "ensemble"])
def test_an_ensemble_of_models_raises_no_alarm(path):
    """Both packages divide each model's kernel by its mean |G| before they average; bergson's μ is each model's own."""
    store = recognise(path)
    found = audit_store(store).recomputed
    assert found.explanation is None
    assert found.difference < 1e-4
    uneven = [replace(member, weight=1.0 + index) for index, member in enumerate(store.members)]
    assert audit_store(replace(store, members=tuple(uneven))).recomputed.explanation is not None


def with_lost_ridge(store, n):
    """The first n points of a store of one model, as if its inverse told no ridge."""
    (member,) = store.members
    lost = RecoveredRidge(0.0, 0.0, 1.0)
    some = replace(member, features=member.features[:n], residual=member.residual[:n], recovered=(lost,))
    return replace(store, members=(some,), scores=store.scores[:n])


def test_more_dimensions_than_points_get_a_verdict_without_an_option():
    """traker as it comes: k = 2,048 and lambda_reg = 0 on a few hundred points."""
    store = recognise(TRAKER / "single")
    found = audit_store(with_lost_ridge(store, store.k - 4))
    assert "rounding noise" in found.verdict.sentence
    assert any("lambda_reg = 0, the default of traker, is taken" in remark for remark in found.remarks)
    with pytest.raises(StoreError, match="give --ridge"):
        audit_store(with_lost_ridge(store, store.n))
