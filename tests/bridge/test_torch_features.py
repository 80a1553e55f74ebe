"""Gradient features of a module against explicit loops, the written-out network, and the dense projection."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is an optional extra")

from scipy.special import softmax  # noqa: E402
from support.networks.torch_problems import CLASSES, N, cnn, images, mlp, seeded  # noqa: E402
from torch import nn  # noqa: E402

from simulations.workloads.digits_mlp import everything, he_start, jacobian, margin_gradients, relu_network  # noqa: E402
from trak_theory import GLM, influence, trak  # noqa: E402
from trak_theory.attribution import trak_kernel  # noqa: E402
from trak_theory.projection.error_bars import projection_law  # noqa: E402
from trak_theory.retraining.restored import restored_block_influence  # noqa: E402
from trak_theory.torch_bridge import UnsupportedError, cross_entropy, features  # noqa: E402
from trak_theory.torch_bridge.features import (  # noqa: E402
    BINARY,
    MARGIN,
    REGRESSION,
    ScalarOutput,
    linearize,
    margin_of,
    softmax_block,
)
from trak_theory.torch_bridge.sketch import CountSketch, NormalSketch  # noqa: E402


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(4, CLASSES))  # a first derivative it has

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


SIZES = {mlp: (6,), cnn: (1, 8, 8), Recurrent: (3, 4), Attending: (3, 4)}


def by_hand(module, function, inputs, targets):
    """One backward pass for every sample."""
    rows = []
    for x, y in zip(inputs, targets, strict=True):
        module.zero_grad()
        function(module(x[None]), y[None]).sum().backward()
        rows.append(torch.cat([value.grad.reshape(-1) for value in module.parameters()]).numpy().copy())
    return np.array(rows)


def log_odds(outputs, labels):
    own = outputs.softmax(-1).gather(-1, labels[:, None])[:, 0]
    return torch.log(own / (1 - own))


@pytest.mark.parametrize("block", [1, 2**27])
@pytest.mark.parametrize("build", SIZES)
def test_margin_features_are_one_backward_pass_per_sample(build, block, monkeypatch):
    monkeypatch.setattr(features, "BLOCK_BYTES", block)
    module, training, asked = seeded(build), images(SIZES[build]), images(SIZES[build], seed=9, n=7)
    lin = linearize(module, MARGIN, training, asked, ridge=0.5)
    np.testing.assert_allclose(lin.features, by_hand(module, log_odds, *training), rtol=0, atol=1e-12)
    np.testing.assert_allclose(lin.queries, by_hand(module, log_odds, *asked), rtol=0, atol=1e-12)
    own = module(training[0]).softmax(-1)[torch.arange(N), training[1]].detach().numpy()
    np.testing.assert_allclose(lin.residual, own - 1, atol=1e-14)
    np.testing.assert_allclose(lin.curvature, own * (1 - own), atol=1e-14)
    # r φ is the gradient of the cross-entropy, whatever output was linearised.
    slopes = by_hand(module, cross_entropy, *training)
    np.testing.assert_allclose(lin.residual[:, None] * lin.features, slopes, rtol=0, atol=1e-12)
    other = linearize(module, margin_of(cross_entropy), training, asked, ridge=0.5)
    for name in ("features", "residual", "curvature", "queries"):
        np.testing.assert_allclose(getattr(other, name), getattr(lin, name), rtol=0, atol=1e-11)


def test_margins_of_saturated_samples_stay_finite_and_exact():
    outputs = torch.tensor([[60.0, 0.0, -5.0], [-60.0, 0.0, -5.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0])
    expected = [60 - np.logaddexp(0, -5), -60 - np.logaddexp(0, -5)]
    np.testing.assert_allclose(features.softmax_margin(outputs, labels), expected, rtol=1e-15)
    # log(1 + e^{−f}) = ℓ, as far as a loss near 0 can say
    found = margin_of(cross_entropy).function(outputs[1:], labels[1:])
    np.testing.assert_allclose(found, expected[1:], rtol=1e-12)


@pytest.mark.parametrize("output", [BINARY, REGRESSION])
def test_a_linear_module_is_a_glm(output):
    rows = images((6,))[0]
    targets = (rows[:, 0] > 0).double()
    module = seeded(lambda: nn.Linear(6, 1, bias=False))
    coef = module.weight.detach().numpy()[0]
    lin = linearize(module, output, (rows, targets), (rows[:4], targets[:4]), ridge=0.3)
    fit = GLM(rows.numpy(), targets.numpy(), loss=output.loss.name, ridge=0.3)
    f = rows.numpy() @ coef
    np.testing.assert_allclose(lin.features, rows, atol=1e-15)
    np.testing.assert_allclose(lin.residual, fit.loss.residual(targets.numpy(), f), atol=1e-14)
    np.testing.assert_allclose(lin.curvature, fit.loss.curvature(targets.numpy(), f), atol=1e-14)


def test_any_scalar_output_and_loss_will_do():
    module, (rows, labels) = seeded(mlp), images((6,))
    from trak_theory.losses import Squared

    output = ScalarOutput(lambda z, y: (z**2).sum(-1), Squared(), target=lambda y: y.double())
    lin = linearize(module, output, (rows, labels), (rows[:2], labels[:2]))
    f = (module(rows) ** 2).sum(-1).detach().numpy()
    np.testing.assert_allclose(lin.residual, f - labels.numpy(), atol=1e-13)
    expected = by_hand(module, lambda z, y: (z**2).sum(-1), rows, labels)
    np.testing.assert_allclose(lin.features, expected, atol=1e-12)


def test_the_language_margin_is_the_log_odds_of_the_mean_token_probability():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)

        def forward(self, tokens):
            return self.head(torch.tanh(self.embed(tokens)))

    module = seeded(Model)
    tokens = torch.randint(9, (N, 6), generator=torch.Generator().manual_seed(0))

    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs.transpose(-1, -2), targets, reduction="none").mean(-1)

    lin = linearize(module, margin_of(loss), (tokens, tokens), (tokens[:3], tokens[:3]))
    chance = np.exp(-loss(module(tokens), tokens).detach().numpy())
    np.testing.assert_allclose(lin.residual, chance - 1, atol=1e-14)
    np.testing.assert_allclose(lin.curvature, chance * (1 - chance), atol=1e-14)
    slopes = by_hand(module, loss, tokens, tokens)
    np.testing.assert_allclose(lin.residual[:, None] * lin.features, slopes, atol=1e-13)


def test_the_softmax_block_is_the_written_out_networks():
    rng = np.random.default_rng(0)
    training, asked = images((6,)), images((6,), seed=4, n=5)
    network, queries = (relu_network(*(part.numpy() for part in data), 5, 3) for data in (training, asked))
    theta = he_start(network, rng)
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    nn.utils.vector_to_parameters(torch.from_numpy(theta), module.parameters())
    block = softmax_block(module, training, asked)
    found = restored_block_influence(*block, 0.7, fraction=0.5)
    probabilities = softmax(network.outputs(theta, everything(network)), axis=1)
    block = jacobian(network, theta), probabilities, network.labels, margin_gradients(queries, theta)
    expected = restored_block_influence(*block, 0.7, fraction=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", ["normal", "count"])
def test_streamed_rows_are_the_rows_times_one_projection(kind, monkeypatch):
    module, training, asked = seeded(cnn), images((1, 8, 8)), images((1, 8, 8), seed=9, n=7)
    lin = linearize(module, MARGIN, training, asked)
    p, k = lin.features.shape[1], 12
    rng = np.random.default_rng(3)
    monkeypatch.setattr("trak_theory.torch_bridge.sketch.BLOCK", 100)  # p = 255: two blocks and a rest
    sketch = NormalSketch(k, rng=rng) if kind == "normal" else CountSketch(p, k, rng=rng)
    matrix = sketch(torch.eye(p, dtype=torch.float64)).numpy()
    monkeypatch.setattr(features, "BLOCK_BYTES", 5 * p * 8)
    streamed = linearize(module, MARGIN, training, asked, sketch=sketch)
    np.testing.assert_allclose(streamed.features, lin.features @ matrix, atol=1e-12)
    np.testing.assert_allclose(streamed.queries, lin.queries @ matrix, atol=1e-12)
    block = softmax_block(module, training, asked, sketch=sketch)
    whole = softmax_block(module, training, asked)
    np.testing.assert_allclose(block.jacobian, whole.jacobian @ matrix, atol=1e-12)
    if kind == "count":
        assert np.all(np.sort(np.abs(matrix), axis=1)[:, -2:] == [0, 1])
    else:
        assert len(np.unique(matrix)) == p * k  # no block repeats another's numbers


@pytest.mark.parametrize("kind", ["normal", "count"])
def test_sketches_keep_inner_products_on_average_with_their_own_variance(kind):
    draws, p, k = 4000, 30, 8
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, p))
    pair = torch.from_numpy(np.stack([a, b]))
    found = np.empty(draws)
    for i in range(draws):
        x, y = (NormalSketch(k, rng=rng) if kind == "normal" else CountSketch(p, k, rng=rng))(pair).numpy()
        found[i] = x @ y
    variance = ((a @ a) * (b @ b) + (a @ b) ** 2 - (2 * (a**2) @ (b**2) if kind == "count" else 0)) / k
    assert abs(found.mean() - a @ b) < 4 * np.sqrt(variance / draws)
    spread = ((found - a @ b) ** 2).std() / np.sqrt(draws)
    assert abs(np.mean((found - a @ b) ** 2) - variance) < 4 * spread


def test_scores_of_streamed_normal_sketches_follow_the_projection_law():
    module, training, asked = seeded(mlp), images((6,)), images((6,), seed=9, n=7)
    lin, k, draws = linearize(module, MARGIN, training, asked), 10, 200
    law = projection_law(lin, k=k, ridge=0.5)
    rng, total = np.random.default_rng(5), np.zeros(law.mean.shape)
    for _ in range(draws):
        streamed = linearize(module, MARGIN, training, asked, sketch=NormalSketch(k, rng=rng))
        total += influence(trak_kernel(streamed, ridge=0.5))
    dense = np.mean([trak(lin, k=k, ridge=0.5, rng=rng) for _ in range(draws)], axis=0)
    spread = np.mean(law.sd**2) ** 0.5 * np.sqrt(2 / draws)
    assert np.sqrt(np.mean((total / draws - dense) ** 2)) < 1.5 * spread


def test_features_are_refused_where_samples_interact():
    module = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    with pytest.raises(UnsupportedError, match="BatchNorm1d '1'"):
        linearize(module, MARGIN, images((6,)), images((6,)))
