"""Per-sample gradient features of any module: a trained network as a `Linearization`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor, nn
from torch.func import jacrev
from torch.utils._pytree import tree_map

from trak_theory.linearization import Linearization
from trak_theory.losses import Logistic, Loss, Squared
from trak_theory.torch_bridge.module import FlatModule, Inputs, Rows, Sample
from trak_theory.torch_bridge.refusals import check_module
from trak_theory.torch_bridge.sketch import Sketch
from trak_theory.trajectory.query import as_numpy

Function = Callable[[Tensor, Tensor], Tensor]
Samples = tuple[Inputs, Tensor]
BLOCK_BYTES = 2**27  # of the gradients held at one time


@dataclass(frozen=True)
class ScalarOutput:
    """The scalar f of a sample that is linearised, and the loss ℓ(t, f) that it was trained on.

    function   outputs (B, …), targets (B, …) ↦ f (B,)
    loss       ℓ with its residual ∂ℓ/∂f and curvature ∂²ℓ/∂f²
    target     targets (B, …) ↦ t (B,); None: t = 1, as for a margin with ℓ = log(1 + e^{−f})
    """

    function: Function
    loss: Loss
    target: Callable[[Tensor], Tensor] | None = None


def softmax_margin(outputs: Tensor, labels: Tensor) -> Tensor:
    """log π_y/(1 − π_y) of logits (B, C) ↦ (B,); its logistic loss is the cross-entropy."""
    own = labels[..., None] == torch.arange(outputs.shape[-1], device=outputs.device)
    others = torch.logsumexp(outputs.masked_fill(own, -torch.inf), -1)
    return (outputs * own).sum(-1) - others


def margin_of(loss: Function) -> ScalarOutput:
    """f = −log(e^ℓ − 1) of any positive loss ℓ = −log π: the log-odds of π, whose logistic loss is ℓ itself.

    For a language model with ℓ the mean over a sequence's tokens, π is their geometric mean probability.
    """

    def function(outputs: Tensor, targets: Tensor) -> Tensor:
        value = loss(outputs, targets)
        return -value - torch.log(-torch.expm1(-value))

    return ScalarOutput(function, Logistic())


def _first(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.reshape(len(outputs))


MARGIN = ScalarOutput(softmax_margin, Logistic())
BINARY = ScalarOutput(_first, Logistic(), target=lambda targets: targets.reshape(len(targets)))
REGRESSION = ScalarOutput(_first, Squared(), target=lambda targets: targets.reshape(len(targets)))


def linearize(
    module: nn.Module,
    output: ScalarOutput,
    training: Samples,
    queries: Samples,
    *,
    parameters: Iterable[str] | None = None,
    ridge: float = 0.0,
    sketch: Sketch | None = None,
) -> Linearization:
    """The module at its present parameters: φ_i = ∂f_i/∂θ (n, p), r_i = ∂ℓ_i/∂f, d_i = ∂²ℓ_i/∂f², φ*_j = ∂f_j/∂θ.

    output       MARGIN (softmax classes), BINARY (one logit, labels 0 and 1), REGRESSION, `margin_of(loss)` for a
                 language model, or a ScalarOutput of one's own
    training, queries   (inputs, targets), inputs as in `TorchObjective`
    sketch       rows come out as φP (n, k), and n×p is never held
    """
    model = _model(module, parameters)
    rows, asked = Rows(*training), Rows(*queries)
    f = np.concatenate([as_numpy(part) for part in _values(model, output.function, rows)])
    t = np.ones(rows.n) if output.target is None else as_numpy(output.target(rows.targets))
    return Linearization(
        gradients(model, output.function, rows, sketch),
        output.loss.residual(t, f),
        output.loss.curvature(t, f),
        ridge,
        gradients(model, output.function, asked, sketch),
    )


class SoftmaxBlock(NamedTuple):
    """Arguments of `restored_block_influence`, in its order: ∂z_ic/∂θ (n, C, p), π (n, C), y (n,), queries (q, p)."""

    jacobian: Array
    probabilities: Array
    labels: Array
    queries: Array


def softmax_block(
    module: nn.Module,
    training: Samples,
    queries: Samples,
    *,
    parameters: Iterable[str] | None = None,
    sketch: Sketch | None = None,
) -> SoftmaxBlock:
    """The Jacobian of all logits of a classifier, with margins as queries. It holds n·C·p numbers, or n·C·k."""
    model = _model(module, parameters)
    rows = Rows(*training)
    probabilities = [as_numpy(part) for part in _values(model, lambda z, _: torch.softmax(z.double(), -1), rows)]
    return SoftmaxBlock(
        gradients(model, lambda z, _: z, rows, sketch),
        np.concatenate(probabilities),
        rows.targets.cpu().numpy(),
        gradients(model, softmax_margin, Rows(*queries), sketch),
    )


def gradients(model: FlatModule, function: Function, rows: Rows, sketch: Sketch | None = None) -> Array:
    """∂function/∂θ of every sample at the module's present parameters: (n, p) or, for C values, (n, C, p); float64."""

    def single(theta: Tensor, sample: Sample) -> Tensor:
        args, named, target = tree_map(lambda part: part[None], sample)
        return function(model(theta, args, named), target)[0]

    theta, done = model.theta(), []
    for sample in _blocks(model, rows, theta):
        block = model.over(lambda row: jacrev(single)(theta, row), sample).detach()
        done.append(as_numpy(block if sketch is None else sketch(block)))
    return np.concatenate(done)


def _values(model: FlatModule, function: Function, rows: Rows) -> list[Tensor]:
    theta = model.theta()
    with torch.no_grad():
        return [function(model(theta, args, named), y) for args, named, y in _blocks(model, rows, theta)]


def _blocks(model: FlatModule, rows: Rows, theta: Tensor) -> Iterator[Sample]:
    at_once = max(1, BLOCK_BYTES // (model.p * theta.element_size()))
    for first in range(0, rows.n, at_once):
        yield rows.take(np.arange(first, min(first + at_once, rows.n)), theta)


def _model(module: nn.Module, parameters: Iterable[str] | None) -> FlatModule:
    check_module(module, curvature=False)
    return FlatModule(module, parameters)
