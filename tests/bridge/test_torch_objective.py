"""A torch module as an objective, against the written-out network, finite differences and plain autograd."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from support.networks.torch_problems import N, batches, cnn_objective, images, mlp_objective  # noqa: E402
from torch import nn  # noqa: E402

from trak_theory.torch_bridge import TorchObjective, cross_entropy, shared_pass  # noqa: E402
from trak_theory.trajectory import MLP, AdamW, attribute, loss_query, retrain_without, train  # noqa: E402
from trak_theory.trajectory.sweep import blocks  # noqa: E402
from trak_theory.trajectory.sweep.sample_rows import SampleRows  # noqa: E402

BATCH = np.array([3, 5, 5, 9, 1])
WEIGHTS = torch.tensor([0.2, 0.1, 0.4, 0.3, 0.7], dtype=torch.float64)


def directions(p, count=3, seed=2):
    return torch.randn(count, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def twin():
    pixels, labels = images((6,))
    return MLP(pixels.numpy(), labels.numpy(), hidden=(5,), classes=3)


@pytest.mark.parametrize("chunk", [None, 1, 2, 7, 100])
def test_every_method_is_the_written_out_networks(chunk):
    ours, theirs = mlp_objective(chunk=chunk), twin()
    theta, w, many = ours.theta(), WEIGHTS.numpy(), directions(theirs.p, 4)
    each = torch.rand(2, 2, len(BATCH), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    models = many.reshape(2, 2, -1)
    flat = theta.numpy()
    pairs = [
        (ours.loss(theta, BATCH), theirs.loss(flat, BATCH)),
        (ours.loss(models, BATCH), theirs.loss(models.numpy(), BATCH)),
        (ours.gradient(theta, BATCH, WEIGHTS), theirs.gradient(flat, BATCH, w)),
        (ours.gradient(models, BATCH, each), theirs.gradient(models.numpy(), BATCH, each.numpy())),
        (ours.gradient(models, BATCH, WEIGHTS), theirs.gradient(models.numpy(), BATCH, w)),
        (ours.sample_gradients(theta, BATCH), theirs.sample_gradients(flat, BATCH)),
        (ours.hvp(theta, BATCH, WEIGHTS, many), theirs.hvp(flat, BATCH, w, many.numpy())),
        (ours.ggn(theta, BATCH, WEIGHTS, many), theirs.ggn(flat, BATCH, w, many.numpy())),
        (ours.outputs(theta, BATCH), theirs.outputs(flat, BATCH)),
    ]
    for actual, expected in pairs:
        assert not actual.requires_grad
        np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-13)


def language_model(tied):
    """The smallest model with everything that matters: embedding, attention by hand, LayerNorm, tied output."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 6)
            self.mix, self.norm, self.head = nn.Linear(6, 18), nn.LayerNorm(6), nn.Linear(6, 20, bias=False)
            if tied:
                self.head.weight = self.embed.weight

        def forward(self, tokens):
            x = self.embed(tokens)
            q, k, v = self.mix(x).chunk(3, -1)
            score = (q @ k.transpose(-1, -2)).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
            return self.head(self.norm(x + score.softmax(-1) @ v))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model().double()
    tokens = torch.randint(12, (N, 5), generator=torch.Generator().manual_seed(1))  # tokens 12 … 19 never come

    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs.transpose(-1, -2), targets, reduction="none").mean(-1)

    return TorchObjective(model, loss, tokens, torch.roll(tokens, -1, 1))


OBJECTIVES = {"mlp": mlp_objective, "cnn": cnn_objective, "language": lambda: language_model(True)}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_derivatives_are_finite_differences_of_the_loss(name):
    objective = OBJECTIVES[name]()
    theta, many, step = objective.theta(), directions(objective.p), 1e-6

    def slope(at):
        return objective.gradient(at, BATCH, WEIGHTS)

    moved = torch.stack([(slope(theta + step * v) - slope(theta - step * v)) / (2 * step) for v in many])
    product = objective.hvp(theta, BATCH, WEIGHTS, many)
    np.testing.assert_allclose(product, moved, rtol=0, atol=1e-8 * float(product.abs().max()))

    def total(at):
        return WEIGHTS @ objective.loss(at, BATCH)

    along = torch.stack([(total(theta + step * v) - total(theta - step * v)) / (2 * step) for v in many])
    np.testing.assert_allclose(many @ slope(theta), along, rtol=1e-6, atol=1e-8)
    rows = objective.sample_gradients(theta, BATCH)
    np.testing.assert_allclose(WEIGHTS @ rows, slope(theta), rtol=0, atol=1e-12)


def test_the_gauss_newton_product_is_made_of_the_jacobian():
    objective = cnn_objective()
    theta, many = objective.theta(), directions(objective.p)
    step = 1e-5
    jacobian = [
        (objective.outputs(theta + step * v, BATCH) - objective.outputs(theta - step * v, BATCH)) / (2 * step)
        for v in many
    ]
    probability = objective.outputs(theta, BATCH).softmax(-1)
    curvature = torch.diag_embed(probability) - probability[:, :, None] * probability[:, None, :]
    expected = torch.stack([
        torch.stack([torch.einsum("b,bc,bcd,bd->", WEIGHTS, u, curvature, v) for v in jacobian]) for u in jacobian
    ])  # fmt: skip
    product = objective.ggn(theta, BATCH, WEIGHTS, many) @ many.T
    np.testing.assert_allclose(product, expected, rtol=1e-6, atol=1e-9)


def test_many_models_of_a_convolution_are_those_models_one_by_one():
    objective = cnn_objective()
    models = objective.theta() + 0.1 * directions(objective.p)
    together = objective.gradient(models, BATCH, WEIGHTS)
    for one, row in zip(models, together, strict=True):
        np.testing.assert_allclose(row, objective.gradient(one, BATCH, WEIGHTS), rtol=0, atol=1e-14)


def test_tied_weights_are_one_parameter():
    tied, untied = language_model(True), language_model(False)
    assert tied.p + 20 * 6 == untied.p
    assert "head.weight" not in tied.model.places
    # A tied gradient is the sum over both uses.
    theta = untied.theta()
    embed, head = (untied.model.places[name] for name in ("embed.weight", "head.weight"))
    theta[head] = theta[embed]
    parts = untied.gradient(theta, BATCH, WEIGHTS)
    shared = torch.cat([theta[: head.start], theta[head.stop :]])
    both = tied.gradient(shared, BATCH, WEIGHTS)[tied.model.places["embed.weight"]]
    np.testing.assert_allclose(both, parts[embed] + parts[head], rtol=0, atol=1e-14)


def test_tokens_that_never_come_have_no_gradient_and_samples_that_never_come_no_influence():
    objective = language_model(False)
    theta = objective.theta()
    unused = objective.model.places["embed.weight"]
    rows = objective.gradient(theta, np.arange(N), torch.ones(N, dtype=torch.float64))[unused].reshape(20, 6)
    assert torch.all(rows[12:] == 0)
    assert torch.all(rows[:12].abs().sum(1) > 0)
    run = train(objective, theta, [batch[batch != 4] for batch in batches(6)], AdamW(1e-2))
    query = loss_query(objective, [0, 1])
    assert not attribute(run, query).influence[4].any()
    assert not retrain_without(run, [[4]]).influence(query).any()
    final = run.final[unused].reshape(20, 6)[12:]
    np.testing.assert_allclose(final, theta[unused].reshape(20, 6)[12:] * (1 - 1e-4) ** 6, rtol=1e-12)  # decay only


def test_a_subset_of_the_parameters_is_trained_and_the_rest_follows_dtype():
    whole, part = mlp_objective(), mlp_objective(parameters=["2.weight", "2.bias"])
    assert part.p == 5 * 3 + 3
    expected = whole.gradient(whole.theta(), BATCH, WEIGHTS)[whole.p - part.p :]
    np.testing.assert_allclose(part.gradient(part.theta(), BATCH, WEIGHTS), expected, rtol=0, atol=1e-15)
    single = part.gradient(part.theta().float(), BATCH, WEIGHTS.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-6)
    frozen = mlp_objective()
    frozen.model.module[0].requires_grad_(False)
    pixels, labels = images((6,))
    assert TorchObjective(frozen.model.module, cross_entropy, pixels, labels).p == part.p


def test_inputs_go_in_by_position_or_by_name():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, first, second):
            return self.layer(first - second)

    pixels, labels = images((6,))
    other = images((6,), seed=5)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Two().double()
    plain = TorchObjective(model.layer, cross_entropy, pixels - other, labels)
    theta = plain.theta()
    for inputs in ((pixels, other), {"second": other, "first": pixels}):
        objective = TorchObjective(model, cross_entropy, inputs, labels)
        for method in ("loss", "sample_gradients"):
            np.testing.assert_allclose(
                getattr(objective, method)(theta, BATCH), getattr(plain, method)(theta, BATCH), rtol=0, atol=1e-14
            )
        np.testing.assert_allclose(
            objective.hvp(theta, BATCH, WEIGHTS, theta[None]), plain.hvp(theta, BATCH, WEIGHTS, theta[None]), atol=1e-14
        )


def test_theta_is_read_and_written():
    objective = mlp_objective()
    theta = objective.theta()
    objective.model.load(theta + 1)
    assert torch.equal(objective.theta(), theta + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": lambda z, y: nn.functional.cross_entropy(z, y)}, "one value per sample"),
        ({"targets": torch.zeros(3, dtype=torch.long)}, "differ in their number of samples"),
        ({"parameters": ["9.weight"]}, "no parameter '9.weight'"),
        ({"parameters": []}, "no parameter to train"),
        ({"chunk": 0}, "chunk must be at least 1"),
    ],
)
def test_wrong_inputs_are_named(change, message):
    pixels, labels = images((6,))
    settings = {"loss": cross_entropy, "inputs": pixels, "targets": labels, **change}
    with pytest.raises(ValueError, match=message):
        TorchObjective(mlp_objective().model.module, **settings)


def test_parameters_of_two_precisions_are_refused():
    module = mlp_objective().model.module
    module[0].float()
    with pytest.raises(ValueError, match="differ in dtype or device"):
        TorchObjective(module, cross_entropy, *images((6,)))


@pytest.mark.parametrize("single", [1, 10**9])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_pass_gives_the_gradient_the_hessian_and_the_samples_products(monkeypatch, name, single):
    monkeypatch.setattr(shared_pass, "SINGLE", single)
    objective = OBJECTIVES[name]()
    theta, many, rows = objective.theta(), directions(objective.p), objective.sample_gradients(objective.theta(), BATCH)
    shared = objective.shared_pass(theta, BATCH, WEIGHTS)
    np.testing.assert_allclose(shared.gradient, objective.gradient(theta, BATCH, WEIGHTS), rtol=0, atol=1e-13)
    for own in (many, many[:1]):
        curved = torch.ones_like(own)
        inner = shared.products(own, curved, factor=0.5)
        wanted = 1 + objective.hvp(theta, BATCH, WEIGHTS, own) / 2
        np.testing.assert_allclose(curved, wanted, rtol=0, atol=1e-12)
        np.testing.assert_allclose(inner, own @ rows.T, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(shared.products(own), inner)
        assert not curved.requires_grad
        assert not inner.requires_grad


def test_a_batch_that_is_split_shares_no_pass():
    objective = mlp_objective(chunk=len(BATCH) - 1)
    assert objective.shared_pass(objective.theta(), BATCH, WEIGHTS) is None
    assert mlp_objective(chunk=len(BATCH)).shared_pass(objective.theta(), BATCH, WEIGHTS) is not None


@pytest.mark.parametrize("small", [1, 40, 10**6])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_parts_of_sample_gradients_are_their_columns(monkeypatch, name, small):
    objective = OBJECTIVES[name]()
    whole = objective.sample_gradients(objective.theta(), BATCH)
    monkeypatch.setattr(blocks, "SMALL", small)
    rows = SampleRows.of(objective, objective.theta(), BATCH)
    assert torch.equal(torch.cat([rows[block] for block in rows.pieces], 1), whole)
    many = directions(objective.p)
    np.testing.assert_allclose(rows.inner(many), whole @ many.T, rtol=0, atol=1e-12)
