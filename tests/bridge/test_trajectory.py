"""The optimisers and the sweep against torch itself. Torch is an extra: without it there is nothing to compare with."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.trajectories import OPTIMIZERS, epochs, queries, small_network, small_run, start

from trak_theory.trajectory import attribute, forward, from_torch, retrain_without, train

torch = pytest.importorskip("torch", reason="torch is an optional extra")


@pytest.fixture(autouse=True)
def in_double_precision():
    """Torch's step counts too, for these tests alone."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class OnTorch:
    """A numpy objective for torch states: every call crosses over and back."""

    def __init__(self, inner):
        self.inner, self.n, self.p = inner, inner.n, inner.p

    @property
    def fingerprint(self):
        return self.inner.fingerprint

    def __getattr__(self, name):
        method = getattr(self.inner, name)

        def call(theta, batch, *arrays):
            return torch.from_numpy(np.asarray(method(theta.numpy(), batch, *(a.numpy() for a in arrays))))

        return call


def torch_run(objective, optimizer, batches):
    """The real torch.optim loop on a flat parameter split into the optimiser's groups; final θ and its groups."""
    kind = type(optimizer).__name__
    theta = torch.from_numpy(start(objective).copy())
    covered = np.zeros(objective.p, bool)
    for where, _ in optimizer.groups:
        covered[where] = True
    places = [~covered, *(where for where, _ in optimizer.groups)]
    places = [np.arange(objective.p)[where] for where in places]
    parameters = [torch.nn.Parameter(theta[torch.from_numpy(place)].clone()) for place in places]
    names = ("momentum", "dampening", "nesterov") if kind == "SGD" else ("betas", "eps", "amsgrad")
    common = {name: getattr(optimizer, name) for name in (*names, "lr", "weight_decay")}
    settings = [{}, *(own for _, own in optimizer.groups)]
    groups = [{"params": [part], **own} for part, own in zip(parameters, settings, strict=True)]
    twin = getattr(torch.optim, kind)(groups, **common)
    schedule = torch.optim.lr_scheduler.LambdaLR(twin, optimizer.rate)
    for batch in batches:
        flat = np.empty(objective.p)
        for place, part in zip(places, parameters, strict=True):
            flat[place] = part.detach().numpy()
        gradient = objective.gradient(flat, batch, np.full(len(batch), 1 / len(batch)))
        for place, part in zip(places, parameters, strict=True):
            part.grad = torch.from_numpy(gradient[place])
        if optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, optimizer.clip_norm)
        twin.step()
        yield flat, list(zip(places, twin.param_groups, strict=True))
        schedule.step()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adamw inside"])
def test_every_update_is_torchs(name):
    objective, optimizer = small_network(), OPTIMIZERS[name]
    run = small_run(objective, optimizer)
    for t, (flat, groups) in enumerate(torch_run(objective, optimizer, run.batches)):
        np.testing.assert_allclose(run.state(t)[0], flat, rtol=0, atol=1e-12)
        read = from_torch(
            type(optimizer).__name__,
            [(place, {k: v for k, v in group.items() if k != "params"}) for place, group in groups],
            clip_norm=optimizer.clip_norm,
        )
        state, gradient = run.state(t), objective.gradient(flat, run.batches[t], run.weights(t))
        for a, b in zip(read.at(t, flat)(state, gradient), run.state(t + 1), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("estimator", ["two-step", "frozen-push", "hybrid", "first-order", "sgd"])
@pytest.mark.parametrize("name", ["sgd nesterov", "adam amsgrad", "adamw groups", "adamw clipped"])
def test_torch_states_give_what_numpy_states_give(name, estimator):
    net, optimizer = small_network(), OPTIMIZERS[name]
    run, columns = small_run(net, optimizer), queries(net)
    other = train(OnTorch(net), torch.from_numpy(start(net)), epochs(net, 6, 3), optimizer, every=5)
    assert isinstance(other.final, torch.Tensor)
    np.testing.assert_allclose(other.final.numpy(), run.final, rtol=0, atol=1e-13)
    for removal in ("keep", "renormalise"):
        settings = {"estimator": estimator, "removal": removal}
        expected = attribute(run, columns, **settings)
        actual = attribute(other, columns, **settings)
        np.testing.assert_allclose(actual.influence, expected.influence, rtol=1e-9, atol=1e-12)
        moved = forward(other, [3, 4], **settings).numpy()
        np.testing.assert_allclose(moved, forward(run, [3, 4], **settings), rtol=1e-9, atol=1e-12)


def test_the_truth_runs_on_torch_states(tmp_path):
    net = small_network()
    run, columns = small_run(net, OPTIMIZERS["adamw"]), queries(net)
    other = train(OnTorch(net), torch.from_numpy(start(net)), epochs(net, 6, 3), OPTIMIZERS["adamw"])
    groups = [[1], [2, 3], [0]]
    for _ in range(2):
        truth = retrain_without(other, groups, cache=tmp_path)
        expected = retrain_without(run, groups).influence(columns)
        np.testing.assert_allclose(truth.influence(torch.from_numpy(columns)), expected, rtol=1e-10, atol=1e-13)


def test_low_precision_states_stay_in_their_precision():
    net = small_network()
    theta = torch.from_numpy(start(net)).to(torch.float32)
    run = train(OnTorch(net), theta, epochs(net, 6, 1), OPTIMIZERS["adamw groups"], every=3)
    assert {part.dtype for part in run.state(2)} == {torch.float32}
    assert attribute(run, queries(net)).influence.shape == (net.n, 3)
