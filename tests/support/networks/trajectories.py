"""Small runs for the trajectory tests, and slow twins of the optimisers and of the whole run."""

from __future__ import annotations

import numpy as np

from support.problems import random_glm
from trak_theory.trajectory import MLP, SGD, Adam, AdamW, train

HALVES = slice(0, 7)


def decaying(t):
    return 1.0 / (1 + 0.2 * t)


OPTIMIZERS = {
    "sgd": SGD(0.3),
    "sgd decay": SGD(0.3, weight_decay=0.05),
    "sgd momentum": SGD(0.1, momentum=0.9),
    "sgd dampening": SGD(0.1, momentum=0.9, dampening=0.3, weight_decay=0.05),
    "sgd nesterov": SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.05),
    "sgd clipped": SGD(0.3, momentum=0.5, clip_norm=0.9),
    "sgd groups": SGD(0.1, momentum=0.9, dampening=0.2, groups=[(HALVES, {"momentum": 0.0, "lr": 0.3})]),
    "sgd schedule": SGD(0.3, momentum=0.5, schedule=decaying),
    "adam": Adam(0.02),
    "adam decay": Adam(0.02, weight_decay=0.3),
    "adam amsgrad": Adam(0.02, weight_decay=0.3, amsgrad=True, betas=(0.9, 0.8)),
    "adamw": AdamW(0.02, weight_decay=0.3),
    "adamw young": AdamW(0.02, betas=(0.9, 0.95), eps=1e-4),
    "adamw amsgrad": AdamW(0.02, amsgrad=True, betas=(0.9, 0.7)),
    "adamw clipped": AdamW(0.02, clip_norm=0.9),
    "adamw inside": AdamW(0.02, eps=1e-3, eps_inside=True),
    "adamw groups": AdamW(
        0.02,
        schedule=[1.0 - t / 50 for t in range(40)],
        groups=[(HALVES, {"weight_decay": 0.0, "betas": (0.8, 0.99)}), ([8, 9], {"lr": 0.05, "eps": 1e-3})],
    ),
}


def small_network(seed=0, n=24, width=5, hidden=(4,), classes=3, activation="tanh"):
    rng = np.random.default_rng(seed)
    features, labels = rng.standard_normal((n, width)), rng.integers(0, classes, n)
    return MLP(features, labels, hidden=hidden, classes=classes, activation=activation)


def small_glm(seed=0, loss="logistic", n=24, p=11):
    return random_glm(seed, n=n, p=p, loss=loss, weights=True).objective()


def start(objective, seed=0):
    return 0.6 * np.random.default_rng([seed, 1]).standard_normal(objective.p)


def epochs(objective, size, count, seed=0):
    """Batches of `size` in `count` shuffled passes over the samples."""
    rng = np.random.default_rng([seed, 2])
    order = [rng.permutation(objective.n) for _ in range(count)]
    return [batch for samples in order for batch in samples.reshape(-1, size)]


def small_run(objective, optimizer, seed=0, size=6, count=3, **storage):
    return train(objective, start(objective, seed), epochs(objective, size, count, seed), optimizer, **storage)


def queries(objective, q=3, seed=0):
    return np.random.default_rng([seed, 3]).standard_normal((objective.p, q))


def replayed_end(run, weights_at):
    """θ_T of the run with the batch weights weights_at(t), complex ones included: a plain loop."""
    state = run.optimizer.start(run.state(0)[0].astype(complex))
    for t, batch in enumerate(run.batches):
        gradient = run.objective.gradient(state[0], batch, weights_at(t))
        state = run.optimizer.at(t, run.final)(state, gradient)
    return state[0]


def without(batch, sample, removal):
    """Weights of a batch without a sample."""
    kept = (batch != sample).astype(float)
    return kept / (len(batch) if removal == "keep" else kept.sum())


def derivative_of_run(run, sample, removal, steps=None):
    """−dθ_T/ds, weights (1−s)·full + s·without the sample, by a complex step through the whole run; presence sign."""
    h = 1e-30

    def weights_at(t):
        batch = run.batches[t]
        full = np.full(len(batch), 1.0 / len(batch))
        removed = without(batch, sample, removal) if steps is None or t in steps else full
        return full + 1j * h * (removed - full)

    return -replayed_end(run, weights_at).imag / h


def digits_run(seed, optimizer, *, n=200, size=20, steps=60, hidden=(16,), held_out=400, activation="tanh"):
    """A network on n digits in shuffled epochs, and the mean loss of held-out digits as the query."""
    from sklearn.datasets import load_digits

    from trak_theory.trajectory import loss_query

    features, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    inside, outside = order[:n], order[n : n + held_out]
    net = MLP(features[inside] / 16, labels[inside], hidden=hidden, classes=10, activation=activation)
    test = MLP(features[outside] / 16, labels[outside], hidden=hidden, classes=10, activation=activation)
    theta, batches = net.start(rng), []
    while len(batches) < steps:
        batches += list(rng.permutation(n).reshape(-1, size))
    return train(net, theta, batches[:steps], optimizer), loss_query(test, np.arange(held_out), mean=True)
