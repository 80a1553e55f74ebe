"""Restored influence in one pass: directions, sketches, ridge, error bars; resumed, sharded and refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from tests.support.networks.softmax_problem import CLASSES, QUERIES, TRAINING, network, points  # noqa: E402
from trak_theory import restored_block_influence  # noqa: E402
from trak_theory.errors import UnsupportedError  # noqa: E402
from trak_theory.projection.sketched_spectrum import SketchedSpectrum  # noqa: E402
from trak_theory.retraining.sketched_influence import SketchedCurvature  # noqa: E402
from trak_theory.torch_bridge import NextTokenLoss, SmallLoss, SoftmaxLoss, restored, softmax_block  # noqa: E402
from trak_theory.torch_bridge.restoring.kept_rows import KeptRows  # noqa: E402
from trak_theory.torch_bridge.restoring.softmax_directions import top_directions  # noqa: E402


def ask(**options):
    options = {"k": 40, "recipe": 0.5, "module": network(), "training": TRAINING, "queries": QUERIES} | options
    return restored(rng=np.random.default_rng(0), **options)


def curvature(logits: torch.Tensor) -> torch.Tensor:
    probabilities = torch.softmax(logits.double(), -1)
    return torch.diag_embed(probabilities) - probabilities[..., :, None] * probabilities[..., None, :]


@given(
    st.integers(2, 60),
    st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0, 300.0]),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_directions_lie_below_the_curvature_and_hold_nearly_all_that_so_few_can(classes, sharpness, count, seed):
    count = min(count, classes)
    logits = sharpness * torch.randn(3, classes, generator=torch.Generator().manual_seed(seed))
    rows, trace = top_directions(logits, count)
    exact = curvature(logits)
    assert torch.linalg.eigvalsh(exact - rows.mT @ rows).min() > -1e-14
    best = torch.linalg.eigvalsh(exact)[:, -count:].sum(-1)
    assert torch.all(rows.square().sum((-1, -2)) >= (1 - 2e-3) * best - 1e-14)
    assert torch.allclose(trace, exact.diagonal(dim1=-1, dim2=-2).sum(-1), rtol=1e-12, atol=1e-15)


def test_directions_of_near_certain_points_keep_their_relative_size():
    rows, trace = top_directions(torch.tensor([[0.0, -100.0, -101.0]]), 2)
    expected = 2 * (np.exp(-100.0) + np.exp(-101.0))  # Σ π(1 − π), to first order in what is left
    assert float(trace) == pytest.approx(expected, rel=1e-12)
    assert float(rows.square().sum()) == pytest.approx(expected, rel=1e-9)


def test_what_the_directions_leave_has_the_rest_of_the_curvature_as_its_mean_square():
    logits = torch.tensor([[1.0, 0.5, -0.3, -2.0]])
    rows, _ = top_directions(logits, 2)
    total = torch.zeros(CLASSES, CLASSES).double()
    from trak_theory.torch_bridge.restoring import output_losses

    for signs in product([-1.0, 1.0], repeat=CLASSES):
        (rest,) = output_losses._unresolved(logits.double(), rows, torch.tensor([signs]).double())
        total += torch.outer(rest, rest) / 2**CLASSES
    assert torch.allclose(total, curvature(logits)[0] - rows[0].T @ rows[0], atol=1e-15)


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_without_a_sketch_and_with_all_directions_it_is_the_softmax_block(fraction):
    found = ask(k=None, directions=CLASSES, fraction=fraction)
    expected = restored_block_influence(*softmax_block(network(), TRAINING, QUERIES), 0.5, fraction=fraction)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    assert found.kept == pytest.approx(1.0)
    assert found.neglected_dimension == pytest.approx(0.0, abs=1e-12)
    assert not found.sd.any()


def test_scales_are_coordinates():
    scales = np.random.default_rng(3).uniform(0.5, 2.0, 92)
    found = ask(k=None, directions=CLASSES, scales=scales)
    jacobian, probabilities, labels, queries = softmax_block(network(), TRAINING, QUERIES)
    expected = restored_block_influence(jacobian * scales, probabilities, labels, queries * scales, 0.5)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_named_parameters_are_columns_of_the_softmax_block():
    """The last bias comes last in θ, and the scales are those of the named parameters alone."""
    module = network()
    names = [name for name, _ in module.named_parameters()]
    sizes = [value.numel() for value in module.parameters()]
    scales = np.random.default_rng(4).uniform(0.5, 2.0, sum(sizes))
    jacobian, probabilities, labels, queries = softmax_block(network(), TRAINING, QUERIES)
    for chosen in (names[:2], names[2:], names[-1:]):
        own = np.concatenate([np.full(size, name in chosen) for name, size in zip(names, sizes, strict=True)])
        found = ask(k=None, directions=CLASSES, parameters=chosen, scales=scales[own])
        part, at = (jacobian * scales)[..., own], (queries * scales)[:, own]
        expected = restored_block_influence(part, probabilities, labels, at, 0.5)
        np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


def test_the_neglected_dimension_bounds_what_more_directions_add():
    few, all_of_them = (ask(k=None, directions=m) for m in (1, CLASSES))
    added = all_of_them.effective_dimension - few.effective_dimension
    assert 0 < added < few.neglected_dimension + 3 * few.neglected_dimension.se
    sketched = ask(k=60, directions=1, kind="normal")
    both = np.hypot(sketched.neglected_dimension.se, few.neglected_dimension.se)
    assert abs(sketched.neglected_dimension - few.neglected_dimension) < 6 * both


def test_a_sketched_spectrum_stands_for_the_ridge_that_is_asked():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 400)) * np.logspace(0, -1.5, 400)
    values = np.linalg.svd(features, compute_uv=False) ** 2
    k, wanted = 200, 10.0
    projected = features @ rng.standard_normal((400, k)) / np.sqrt(k)
    found = SketchedSpectrum(np.linalg.eigvalsh(projected.T @ projected), 0.0).standing_for(wanted)
    assert found.implicit_ridge == pytest.approx(wanted, rel=1e-9)
    degrees = np.sum(values / (values + wanted))
    assert found.effective_dimension == pytest.approx(degrees, rel=0.02)
    assert found.ridge == pytest.approx(wanted * (1 - degrees / k), rel=0.02)


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_the_mean_over_sketches_is_the_unsketched_kernel_and_error_bars_cover(fraction):
    """On rows of no network, by a path of its own: dense projections, scores solved in p dimensions."""
    rng = np.random.default_rng(1)
    n, p, k, ridge, draws = 60, 150, 100, 3.0, 300
    scale = np.logspace(0, -1, p)
    gradients, directions = rng.standard_normal((n, p)) * scale, rng.standard_normal((2 * n, p)) * scale
    queries = rng.standard_normal((4, p)) * scale
    exact = -gradients @ np.linalg.solve(directions.T @ directions + ridge * np.eye(p), queries.T)
    inside, total = 0.0, np.zeros_like(exact)
    for _ in range(draws):
        projection = rng.standard_normal((p, k)) / np.sqrt(k)
        sums = SketchedCurvature(n, np.zeros((k, k)))
        rows = np.stack([gradients, *directions.reshape(2, n, p)], 1) @ projection
        sums.add(rows, rows[:1, 0], np.ones(n))
        if fraction is not None:
            assert sums.rule_ridge(ridge, fraction=fraction) > ridge
        scores, variance = sums.influence(queries @ projection, ridge).of(rows[:, 0])
        inside += float(np.mean(np.abs(scores - exact) < 1.96 * np.sqrt(variance))) / draws
        total += scores / draws
    assert inside == pytest.approx(0.95, abs=0.012)
    assert np.linalg.norm(total - exact) < 0.25 * np.linalg.norm(exact)


def test_the_variance_counts_what_a_gradient_and_a_query_share():
    """Where both are one vector it is twice that of orthogonal ones: brute force over dense projections."""
    rng = np.random.default_rng(4)
    p, k, ridge, draws = 400, 300, 3.0, 400
    directions, pair = rng.standard_normal((60, p)), np.eye(p)[:2]
    scores, variances = np.empty((draws, 2, 2)), np.empty((draws, 2, 2))
    for draw in range(draws):
        projection = rng.standard_normal((p, k)) / np.sqrt(k)
        sums = SketchedCurvature(1, np.zeros((k, k)))
        rows = directions @ projection
        sums.add(np.concatenate([rows[:1], rows])[None], rows[:1], np.ones(1))
        scores[draw], variances[draw] = sums.influence(pair @ projection, ridge).of(pair @ projection)
    np.testing.assert_allclose(scores.var(0), variances.mean(0), rtol=0.25)
    assert scores[:, 0, 0].var() > 1.4 * scores[:, 0, 1].var()


def test_the_mean_of_sketches_has_their_variance_over_their_number():
    one, four = (ask(k=60, kind="normal", ensemble=count).sd for count in (1, 4))
    assert np.linalg.norm(four) == pytest.approx(np.linalg.norm(one) / 2, rel=0.1)


def test_each_neglected_direction_counts_its_slope_of_the_degrees_of_freedom():
    rng = np.random.default_rng(2)
    rows, rest, ridge, step = rng.standard_normal((10, 30)), rng.standard_normal((1, 30)), 2.0, 1e-3
    kept = KeptRows()
    kept.add(rows[:, None].repeat(2, 1), step * rest, np.ones(10))
    found = kept.influence(rows[:1], ridge).neglected[0]

    def degrees(gram):
        return np.trace(np.linalg.solve(gram + ridge * np.eye(30), gram))

    gram = rows.T @ rows
    assert found == pytest.approx(degrees(gram + step**2 * rest.T @ rest) - degrees(gram), rel=1e-4)


def test_kept_is_the_share_of_the_trace_in_the_top_eigenvalues():
    logits = network()(TRAINING[0]).detach()
    values = torch.linalg.eigvalsh(curvature(logits))
    assert ask(directions=2).kept == pytest.approx(float(values[:, -2:].sum() / values.sum()), rel=1e-9)


def test_the_ridge_of_the_rule_is_read_off_the_sketch():
    whole = ask(k=None, fraction=0.4, recipe=2.0)
    found = [
        ask(k=60, kind="normal", ensemble=8, fraction=0.4, recipe=2.0).ridge,
        ask(k=90, fraction=0.4, recipe=2.0).ridge,
    ]
    np.testing.assert_allclose(found, whole.ridge, rtol=0.03)
    assert whole.ridge > 2.2


def test_a_killed_pass_goes_on_where_it_was_and_shards_do_not_matter(tmp_path):
    whole = ask(folder=tmp_path, shard_rows=16, fraction=0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pass.json",
        *(f"shard-{place:05d}.npz" for place in range(4)),
    ]
    (tmp_path / "shard-00001.npz").unlink()
    with (tmp_path / "shard-00002.npz").open("r+b") as file:
        file.truncate(100)
    np.testing.assert_array_equal(ask(folder=tmp_path, shard_rows=16, fraction=0.5).scores, whole.scores)
    np.testing.assert_array_equal(ask(shard_rows=16, fraction=0.5, jobs=2).scores, whole.scores)
    np.testing.assert_allclose(ask(fraction=0.5).scores, whole.scores, rtol=1e-10)


@pytest.mark.parametrize(
    "change",
    [{"k": 41}, {"directions": 3}, {"training": points(50, 7)}, {"scales": np.full(92, 2.0)}, {"kind": "normal"}],
)
def test_a_folder_of_another_pass_is_refused(tmp_path, change):
    ask(folder=tmp_path)
    with pytest.raises(ValueError, match="holds another pass"):
        ask(folder=tmp_path, **change)


def test_a_folder_knows_the_model_and_the_loss_that_made_it(tmp_path):
    relu = network()
    relu[1] = nn.ReLU()
    ask(folder=tmp_path / "model")
    with pytest.raises(ValueError, match="its model_and_loss is"):
        ask(folder=tmp_path / "model", module=relu)

    def fit(weight):
        loss = SmallLoss(lambda outputs, labels: weight * (outputs.sum(-1) - labels).square())
        return ask(folder=tmp_path / "loss", loss=loss)

    fit(1.0)
    with pytest.raises(ValueError, match="its model_and_loss is"):
        fit(2.0)


@pytest.mark.parametrize("k", [None, 40])
@pytest.mark.parametrize("sharpness", [1e2, 1e4])
def test_points_that_are_nearly_certain_leave_the_ridge_finite(k, sharpness):
    sharp, labels = network(), network()(TRAINING[0]).argmax(1)
    with torch.no_grad():
        sharp[2].weight.mul_(sharpness)
        sharp[2].bias.mul_(sharpness)
    found = ask(module=sharp, training=(TRAINING[0], labels), k=k, kind="normal", fraction=0.5)
    assert np.isfinite(found.ridge)
    assert np.isfinite(found.scores).all()
    assert found.ridge >= 0.5


def test_other_queries_and_fractions_find_the_pass_done(tmp_path, monkeypatch):
    ask(folder=tmp_path)
    expected = ask(queries=points(5, 9), fraction=0.3)
    monkeypatch.setattr("trak_theory.torch_bridge.restoring.points.SketchedModule.points", None)
    found = ask(folder=tmp_path, queries=points(5, 9), fraction=0.3)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_sample_without_a_finite_gradient_costs_its_own_scores_alone():
    inputs, labels = TRAINING
    broken = inputs.clone()
    broken[3] = torch.nan
    found = ask(k=None, training=(broken, labels))
    others = np.delete(np.arange(50), 3)
    expected = ask(k=None, training=(inputs[others], labels[others]), recipe=0.5)
    np.testing.assert_allclose(found.scores[others], expected.scores, rtol=1e-6)
    assert np.isnan(found.scores[3]).all()
    assert found.warnings[0] == "1 of 50 samples have no finite gradient and score NaN: 3"
    with pytest.raises(ValueError, match="no sample has a finite gradient"):
        ask(training=(inputs * torch.nan, labels))


def test_a_query_without_a_finite_gradient_costs_its_own_column():
    inputs, labels = QUERIES
    broken = inputs.clone()
    broken[1] = torch.inf
    found, whole = ask(queries=(broken, labels)), ask()
    assert np.isnan(found.scores[:, 1]).all()
    np.testing.assert_allclose(found.scores[:, [0, 2]], whole.scores[:, [0, 2]], rtol=1e-12)
    assert "1 of 3 queries" in found.warnings[0]


def test_dead_layers_single_classes_and_single_queries_score_what_they_do():
    one = nn.Linear(6, 1).double()
    flat = restored(
        one,
        (TRAINING[0], torch.zeros(50, dtype=torch.long)),
        (QUERIES[0][:1], torch.zeros(1, dtype=torch.long)),
        0.5,
        k=None,
        rng=np.random.default_rng(0),
        query=lambda outputs, targets: outputs[:, 0],
    )
    assert not flat.scores.any()
    assert any("curves" in words for words in flat.warnings)
    dead = network()
    nn.init.zeros_(dead[2].weight)
    assert np.isfinite(ask(module=dead, queries=points(1, 4)).scores).all()


def test_a_sketch_below_the_degrees_of_freedom_is_said_to_be_too_small():
    assert any("k = 10 is too small" in words for words in ask(k=10, kind="normal").warnings)
    assert not ask(k=60, kind="normal").warnings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 1000}, "exceeds p = 92"),
        ({"kind": "srht"}, "unknown sketch 'srht'"),
        ({"directions": 0}, "directions must be at least 1"),
        ({"scales": [1.0]}, r"shape \(1,\)"),
        ({"recipe": -1.0}, "training ridge"),
        ({"shard_rows": 0}, "shard_rows"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        ask(**change)


def test_small_losses_find_their_curvature_themselves():
    targets = torch.randn(50, CLASSES, generator=torch.Generator().manual_seed(4)).double()
    loss = SmallLoss(lambda outputs, target: (outputs - target).square().sum(-1) / 2)
    found = ask(
        k=None, directions=CLASSES, loss=loss, training=(TRAINING[0], targets), queries=(QUERIES[0], targets[:3])
    )
    jacobian = softmax_block(network(), TRAINING, QUERIES).jacobian
    outputs = network()(TRAINING[0]).detach().numpy()
    gradients = np.einsum("nc,ncp->np", outputs - targets.numpy(), jacobian)
    rows = jacobian.reshape(-1, 92)
    asked = softmax_block(network(), QUERIES, QUERIES).jacobian
    pulls = network()(QUERIES[0]).detach().numpy() - targets[:3].numpy()
    queries = -np.einsum("qc,qcp->qp", pulls, asked)
    expected = -gradients @ np.linalg.solve(rows.T @ rows + 0.5 * np.eye(92), queries.T)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(UnsupportedError, match="not convex"):
        ask(loss=SmallLoss(lambda outputs, target: -outputs.square().sum(-1)), training=(TRAINING[0], targets))


def test_token_directions_are_unbiased():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 5, generator=draws).double()
    labels = torch.tensor([[1, 2, -100, 3]])
    repeats = 4000
    found = NextTokenLoss().curvature(logits, labels, repeats, draws)
    rows = found.directions[0].flatten(1) * repeats**0.5
    exact = torch.zeros(4, 5, 4, 5).double()
    for token in (0, 2):  # labels 2 and 3 count, of the tokens before them
        exact[token, :, token, :] = curvature(logits[0, token]) / 2
    error = rows.T @ rows / repeats - exact.reshape(20, 20)
    spread = (rows[:, :, None] * rows[:, None, :]).var(0).sqrt() / repeats**0.5
    assert torch.all(error.abs() <= 5 * spread + 1e-12)
    assert float(found.trace) == pytest.approx(float(exact.reshape(20, 20).trace()))
    assert float(found.gradient.sum()) == pytest.approx(0.0, abs=1e-12)


def test_the_decrement_is_that_of_the_margin():
    """cᵀA⁺c = (1 − π_y)/π_y, with which √d φ = g/√(cᵀA⁺c)."""
    logits, labels = torch.tensor([[1.0, 0.2, -1.0]]).double(), torch.tensor([1])
    found = SoftmaxLoss().curvature(logits, labels, 2, torch.Generator())
    slope = found.gradient[0]
    expected = slope @ torch.linalg.pinv(curvature(logits)[0]) @ slope
    assert float(found.decrement) == pytest.approx(float(expected), rel=1e-12)
