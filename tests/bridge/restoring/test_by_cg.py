"""Restored influence by conjugate gradients: against dense solves, its certificate, drawn directions, refusals."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from tests.support.networks.softmax_problem import CLASSES, QUERIES, TRAINING, network  # noqa: E402
from trak_theory import restored_block_influence  # noqa: E402
from trak_theory.torch_bridge import (  # noqa: E402
    NextTokenLoss,
    SmallLoss,
    SoftmaxLoss,
    restored,
    restored_by_cg,
    softmax_block,
)
from trak_theory.torch_bridge.module import FlatModule, Rows  # noqa: E402
from trak_theory.torch_bridge.restoring import certified_solve, direction_kernel  # noqa: E402
from trak_theory.torch_bridge.restoring.direction_kernel import DirectionKernel  # noqa: E402


def ask(**options):
    options = {"k": 30, "recipe": 0.5, "module": network(), "training": TRAINING, "queries": QUERIES} | options
    return restored_by_cg(rng=np.random.default_rng(0), **options)


def dense(ridge: float = 0.5, scales: float | np.ndarray = 1.0) -> np.ndarray:
    jacobian, probabilities, labels, queries = softmax_block(network(), TRAINING, QUERIES)
    return restored_block_influence(jacobian * scales, probabilities, labels, queries * scales, ridge)


@pytest.mark.parametrize("ridge", [0.05, 5.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_with_all_directions_it_solves_the_softmax_block(ridge, scaled):
    scales = np.random.default_rng(3).uniform(0.5, 2.0, 92)
    found = ask(recipe=ridge, directions=CLASSES, tol=1e-11, scales=scales if scaled else None)
    expected = dense(ridge, scales if scaled else 1.0)
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    assert found.kept == pytest.approx(1.0)
    assert not found.warnings


def test_with_few_directions_it_is_the_kernel_without_a_sketch():
    found = ask(fraction=0.5, directions=2, tol=1e-10)
    expected = restored(
        network(), TRAINING, QUERIES, found.ridge, k=None, directions=2, rng=np.random.default_rng(0)
    ).scores
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())  # rows in float32
    assert found.ridge > 0.5


def test_more_steps_leave_less_and_say_so():
    short, long = ask(tol=1e-10, steps=2), ask(tol=1e-10)
    assert short.steps == 2
    assert short.warnings[0].endswith("not tol = 1e-10; raise steps = 2")
    assert np.all(short.residual > 1e-10)
    assert np.all(long.residual <= 1e-10)
    assert np.all(np.abs(short.scores - long.scores) <= short.bound)


def test_the_iteration_starts_from_the_sketch():
    """With k = p the sketch of a CountSketch that keeps every coordinate apart is the answer itself."""
    wide = nn.Sequential(nn.Linear(6, CLASSES, bias=False)).double()
    options = {"module": wide, "k": 24, "tol": 1e-9}
    assert ask(**options).steps < 24
    assert ask(**options, steps=1).residual.max() < ask(module=wide, k=2, tol=1e-9, steps=1).residual.max()


@given(st.integers(0, 2**31), st.floats(-3, 2), st.integers(1, CLASSES), st.floats(-3, 3))
@settings(max_examples=12, deadline=None)
def test_the_bound_holds_for_any_coefficients_whatever_the_iteration_did(seed, log_ridge, directions, log_size):
    """A certificate is of the answer, not of how it came about: random coefficients in place of an iteration."""
    ridge, draws = 10.0**log_ridge, np.random.default_rng(seed)

    def guessed(product, right, start, precondition, *, done, steps):
        return start + 10.0**log_size * draws.standard_normal(start.shape), 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified_solve, "block_conjugate_gradients", guessed)
        guess = ask(recipe=ridge, directions=directions)
    exact = ask(recipe=ridge, directions=directions, tol=1e-9)
    assert np.all(np.abs(guess.scores - exact.scores) <= guess.bound + exact.bound)


def test_half_the_bound_is_attained():
    """One sample with ‖ψ‖² = λ: the error of any coefficient is exactly half its bound."""
    linear = nn.Linear(1, 1, bias=False).double()
    one = torch.full((1, 1), 2.0).double(), torch.zeros(1).double()

    def guessed(product, right, start, precondition, *, done, steps):
        return start + 0.3, 0

    def solve():
        squared = SmallLoss(lambda outputs, targets: (outputs[:, 0] - targets).square() / 2)
        return ask(module=linear, training=one, queries=one, recipe=4.0, k=1, directions=1, loss=squared, tol=1e-12)

    exact = solve().scores
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified_solve, "block_conjugate_gradients", guessed)
        guess = solve()
    np.testing.assert_allclose(np.abs(guess.scores - exact) / guess.bound, 0.5, rtol=1e-6)


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.words, self.head = nn.Embedding(7, 5), nn.Linear(5, 7)

    def forward(self, words):
        return self.head(torch.tanh(self.words(words).cumsum(1)))


def test_drawn_directions_are_the_same_at_every_product(monkeypatch):
    words = torch.randint(7, (20, 6), generator=torch.Generator().manual_seed(2))
    model = FlatModule(Language().double())
    parts = []
    for held in (2**27, 1):  # rows of directions kept, and found anew; many vectors at once, and one
        monkeypatch.setattr(direction_kernel, "BLOCK_BYTES", held)
        kernel = DirectionKernel(model, Rows(words, words), NextTokenLoss(), 2, None, 5, 8)
        rows = np.concatenate([part.rows[0] for part in kernel.sketched(lambda rows: rows)])
        directions = rows[:, 1:].reshape(40, model.p).astype(float)
        gram = kernel.gram_product(np.eye(40))
        np.testing.assert_allclose(gram, directions @ directions.T, rtol=0, atol=1e-6 * np.abs(gram).max())
        pull = kernel.along(np.eye(model.p)[:, :3]).pull
        np.testing.assert_allclose(pull, rows[:, 0, :3], rtol=0, atol=1e-6)
        parts.append(gram)
    np.testing.assert_allclose(parts[0], parts[1], rtol=0, atol=1e-12)


def test_a_language_model_is_solved_with_its_drawn_directions():
    words = torch.randint(7, (20, 6), generator=torch.Generator().manual_seed(2))
    found = ask(
        module=Language().double(), training=(words, words), queries=(words[:2], words[:2]), k=20, loss=NextTokenLoss()
    )
    assert found.residual.max() < 1e-3
    assert found.scores[0, 0] > 0  # a sequence raises its own log-likelihood


def test_a_sample_without_a_finite_gradient_costs_its_own_scores_alone():
    inputs, labels = TRAINING
    broken = inputs.clone()
    broken[3] = torch.nan
    found, others = ask(training=(broken, labels), tol=1e-9), np.delete(np.arange(50), 3)
    expected = ask(training=(inputs[others], labels[others]), tol=1e-9)
    np.testing.assert_allclose(found.scores[others], expected.scores, rtol=1e-5)
    assert np.isnan(found.scores[3]).all()
    assert np.isnan(found.bound[3]).all()
    assert found.warnings[0] == "1 of 50 samples have no finite gradient and score NaN: 3"
    with pytest.raises(ValueError, match="no sample has a finite gradient"):
        ask(training=(inputs * torch.nan, labels))


def test_a_query_without_a_finite_gradient_costs_its_own_column():
    inputs, labels = QUERIES
    broken = inputs.clone()
    broken[1] = torch.inf
    found, whole = ask(queries=(broken, labels), tol=1e-9), ask(tol=1e-9)
    assert np.isnan(found.scores[:, 1]).all()
    np.testing.assert_allclose(found.scores[:, [0, 2]], whole.scores[:, [0, 2]], rtol=1e-5)
    assert "1 of 3 queries" in found.warnings[0]


def test_single_precision_says_where_it_ends():
    single = network().float()
    samples = {name: (own[0].float(), own[1]) for name, own in (("training", TRAINING), ("queries", QUERIES))}
    found = ask(module=single, **samples, tol=1e-14, recipe=1e-3)
    assert found.residual.max() > 1e-14
    assert "single precision goes no further" in found.warnings[0] or "raise steps" in found.warnings[0]
    np.testing.assert_allclose(ask(module=single, **samples).scores, ask().scores, rtol=1e-2, atol=1e-3)


def test_many_outputs_that_do_not_curve_score_what_the_ridge_says():
    flat = ask(
        loss=SoftmaxLoss(),
        directions=1,
        module=nn.Linear(6, 1).double(),
        k=3,
        training=(TRAINING[0], torch.zeros(50, dtype=torch.long)),
        queries=(QUERIES[0], torch.zeros(3, dtype=torch.long)),
        query=lambda outputs, _: outputs[:, 0],
    )
    assert not flat.scores.any()
    assert not flat.bound.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 1000}, "exceeds p = 92"),
        ({"directions": 0}, "directions must be at least 1"),
        ({"scales": [1.0]}, r"shape \(1,\)"),
        ({"recipe": -1.0}, "training ridge"),
        ({"shard_rows": 0}, "shard_rows"),
        ({"tol": 0.0}, "tol must be positive"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        ask(**change)


def test_modules_without_a_forward_derivative_are_transposed_twice():
    class NoForward(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(inputs):
            return inputs.clone()

        @staticmethod
        def setup_context(context, inputs, output):
            pass

        @staticmethod
        def backward(context, slope):
            return slope

    class Only(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, inputs):
            return NoForward.apply(self.inner(inputs))

    found, expected = ask(module=Only(), tol=1e-9), ask(tol=1e-9)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


@pytest.mark.parametrize("layer", ["convolution", "recurrent"])
def test_layers_that_forward_mode_or_vmap_cannot_enter(layer):
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.inner, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, CLASSES)

        def forward(self, inputs):
            return self.head(self.inner(inputs)[0][:, -1])

    torch.manual_seed(3)
    stages = [nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten()]
    module = Last() if layer == "recurrent" else nn.Sequential(*stages, nn.Linear(16, CLASSES))
    shape = (12, 3, 4) if layer == "recurrent" else (12, 1, 4, 4)
    draws = torch.Generator().manual_seed(5)
    samples = torch.randn(shape, generator=draws).double(), torch.randint(CLASSES, (12,), generator=draws)
    options = {"module": module.double(), "training": samples, "queries": tuple(part[:2] for part in samples)}
    block = softmax_block(*options.values())
    expected = restored_block_influence(*block, 0.5)
    found = ask(**options, directions=CLASSES, tol=1e-9)
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
