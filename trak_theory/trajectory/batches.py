"""Batches of a training run."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.checks import positive_count


def shuffled_epochs(n: int, *, size: int, steps: int, rng: Generator) -> Array:
    """(steps, size) indices below n, without replacement within an epoch; what does not fill a batch is dropped.

    >>> shuffled_epochs(4, size=2, steps=3, rng=np.random.default_rng(0)).shape
    (3, 2)
    """
    if positive_count("size", size) > n:
        raise ValueError(f"a batch of {size} does not fit into n = {n} samples")
    per_epoch = n // size
    epochs = [rng.permutation(n)[: per_epoch * size] for _ in range(-(-steps // per_epoch))]
    return np.concatenate(epochs).reshape(-1, size)[:steps]
