"""This project's scores of a torch module, presence sign: TRAK, and restored influence through the torch bridge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.scoring import Block, Training, scores
from simulations.benchmarks.rivals.runners.shared.torch_network import network
from trak_theory import Linearization
from trak_theory.torch_bridge.features import MARGIN, linearize, softmax_block
from trak_theory.torch_bridge.sketch import NormalSketch


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: the training ridge in the coordinates of `scales`, the truth's fraction, and those of `scores`."""
    settings = dict(settings)
    known = Training(settings.pop("ridge"), settings.pop("fraction"))
    return scores(Module(arrays, known), subsets=arrays.get("subsets"), **settings)


@dataclass(frozen=True, eq=False)
class Module:
    """A packed module with its data as `scores` reads it, in double precision."""

    arrays: dict[str, Array]
    known: Training

    def training(self) -> Training:
        return self.known

    def margins(self) -> Linearization:
        scales = self.arrays["scales"]
        lin = linearize(network(self.arrays, torch.float64), MARGIN, *self._samples())
        return replace(lin, features=lin.features * scales, queries=lin.queries * scales)

    def block(self) -> Block:
        scales = self.arrays["scales"]
        found = softmax_block(network(self.arrays, torch.float64), *self._samples())
        return found.jacobian * scales, found.probabilities, found.labels, found.queries * scales

    def projected(self, k: int, batch: int, rng: Generator) -> Linearization:
        """Gradients and projections in single precision; the bridge chooses its own batches."""
        return linearize(network(self.arrays), MARGIN, *self._samples(), sketch=NormalSketch(k, rng=rng))

    def _samples(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        names = (("inputs", "labels"), ("query_inputs", "query_labels"))
        return [(torch.from_numpy(self.arrays[x]), torch.from_numpy(self.arrays[y])) for x, y in names]


if __name__ == "__main__":
    serve(work, "torch")
