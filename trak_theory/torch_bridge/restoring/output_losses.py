"""Losses as functions of a sample's outputs z: their gradient there, and the directions in which they curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor
from torch.func import grad, jacrev, vmap

from trak_theory.errors import UnsupportedError
from trak_theory.torch_bridge.features import softmax_margin
from trak_theory.torch_bridge.restoring.softmax_directions import spread, top_directions
from trak_theory.torch_bridge.tokens import IGNORED, next_token_loss, token_counts

SMALL = 64  # outputs whose Hessian is formed
Function = Callable[[Tensor, Tensor], Tensor]


class OutputCurvature(NamedTuple):
    """Of B samples with outputs z (B, …), A = ∂²ℓ/∂z².

    gradient (B, …)       c = ∂ℓ/∂z
    directions (B, m, …)  b_a with Σ_a b_ab_aᵀ ≈ A
    rest (B, …)           r with E rrᵀ = A − Σ_a b_ab_aᵀ, a random draw
    trace (B,)            tr A
    decrement (B,)        cᵀA⁺c: ∞ where the loss pulls in a direction in which it does not curve
    """

    gradient: Tensor
    directions: Tensor
    rest: Tensor
    trace: Tensor
    decrement: Tensor


class OutputLoss(Protocol):
    """ℓ(z, y) as `restored` needs it."""

    @property
    def query(self) -> Function:
        """The output that influence is asked about unless told otherwise: (B, …), targets ↦ (B,)."""

    def curvature(self, outputs: Tensor, targets: Tensor, count: int, draws: Generator) -> OutputCurvature: ...


@dataclass(frozen=True)
class SoftmaxLoss:
    """Cross-entropy of logits (B, V) with integer labels (B,); queries are margins log π_y/(1 − π_y).

    The directions are the top eigenpairs of diag π − ππᵀ, see `top_directions`.

    >>> found = SoftmaxLoss().curvature(torch.zeros(1, 2), torch.tensor([0]), 1, torch.Generator())
    >>> found.trace, found.decrement
    (tensor([0.5000], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """

    query: Function = softmax_margin

    def curvature(self, outputs: Tensor, targets: Tensor, count: int, draws: Generator) -> OutputCurvature:
        logits = outputs.double()
        rows, trace = top_directions(logits, min(count, logits.shape[-1]))
        return OutputCurvature(
            cross_entropy_slope(logits, targets),
            _padded(rows, count),
            _unresolved(logits, rows, _signs(logits, draws)),
            trace,
            torch.exp(-softmax_margin(logits, targets)),
        )


@dataclass(frozen=True)
class NextTokenLoss:
    """`next_token_loss` of a causal language model: logits (B, L, V), labels (B, L), −100 where they do not count.

    tokens   None: ℓ is the mean over a sequence's own N tokens; a number: their sum over it, so that N is that number
             for all. A training loss that is the mean over all tokens of a batch has the mean length here.

    A sequence curves in every token, A = blockdiag_t(diag π_t − π_tπ_tᵀ)/N. One direction is a sum over tokens with
    random signs, b = Σ_t B_tᵀs_t/√(mN) for A_t = B_tᵀB_t: unbiased, E Σ_a b_ab_aᵀ = A, and it costs one backward pass
    for all tokens and all of the vocabulary. Queries are −`next_token_loss`.

    >>> labels = torch.tensor([[0, 1, -100]])
    >>> found = NextTokenLoss().curvature(torch.zeros(1, 3, 2), labels, 1, torch.Generator().manual_seed(0))
    >>> found.directions.shape, float(found.trace)
    (torch.Size([1, 1, 3, 2]), 0.5)
    """

    tokens: float | None = None

    @property
    def query(self) -> Function:
        return lambda outputs, targets: -next_token_loss(outputs, targets)

    def curvature(self, outputs: Tensor, targets: Tensor, count: int, draws: Generator) -> OutputCurvature:
        logits, labels = outputs[:, :-1].double(), targets[:, 1:]
        counted = labels != IGNORED
        own = torch.where(counted, labels, 0)
        probabilities = torch.softmax(logits, -1)
        size = self._divisors(targets)
        each = counted / size[:, None]
        drawn = [_factor(probabilities, _signs(logits, draws)) * (each / count).sqrt()[..., None] for _ in range(count)]
        odds = torch.where(counted, torch.exp(-softmax_margin(logits, own)), 0.0)
        return OutputCurvature(
            _whole(cross_entropy_slope(logits, own) * each[..., None]),
            _whole(torch.stack(drawn, 1)),
            torch.zeros_like(outputs),
            (spread(probabilities) * each).sum(-1),
            (odds * each).sum(-1),
        )

    def _divisors(self, targets: Tensor) -> Tensor:
        own = token_counts(targets).clamp(min=1).double()
        return own if self.tokens is None else torch.full_like(own, self.tokens)


@dataclass(frozen=True)
class SmallLoss:
    """Any loss of at most 64 outputs a sample, convex in them: outputs (B, …), targets (B, …) ↦ (B,).

    Squared errors, one logit, counts: gradient and Hessian by automatic differentiation. Queries are −ℓ by default.

    >>> squared = SmallLoss(lambda outputs, targets: (outputs[:, 0] - targets) ** 2 / 2)
    >>> found = squared.curvature(torch.tensor([[3.0]]), torch.tensor([1.0]), 1, torch.Generator())
    >>> float(found.gradient), float(found.directions), float(found.decrement)
    (2.0, 1.0, 4.0)
    """

    loss: Function
    query_output: Function | None = None

    @property
    def query(self) -> Function:
        return self.query_output or (lambda outputs, targets: -self.loss(outputs, targets))

    def curvature(self, outputs: Tensor, targets: Tensor, count: int, draws: Generator) -> OutputCurvature:
        flat = outputs.double().flatten(1)
        if flat.shape[1] > SMALL:
            raise UnsupportedError(
                f"a loss of {flat.shape[1]} outputs a sample: SmallLoss forms its Hessian, for at most {SMALL}; "
                "use SoftmaxLoss or NextTokenLoss, or bring an OutputLoss"
            )

        def single(z: Tensor, target: Tensor) -> Tensor:
            return self.loss(z.reshape(1, *outputs.shape[1:]), target[None])[0]

        slope, curve = (vmap(rule(single))(flat, targets) for rule in (grad, lambda loss: jacrev(grad(loss))))
        values, vectors = torch.linalg.eigh(curve)
        if bool((values < -1e-6 * values.abs().amax(-1, keepdim=True)).any()):
            raise UnsupportedError("the loss is not convex in the outputs: influence has no curvature to restore")
        roots = (values.clamp(min=0).sqrt()[:, None] * vectors).mT.flip(1)  # (B, C, C), steepest first
        rest = (_signs(roots[:, count:, 0], draws)[..., None] * roots[:, count:]).sum(1)
        shape = outputs.shape[1:]
        decrement = (slope * (torch.linalg.pinv(curve, hermitian=True) @ slope[..., None])[..., 0]).sum(-1)
        rows = _padded(roots[:, :count], count)
        return OutputCurvature(
            slope.reshape(outputs.shape),
            rows.reshape(len(rows), count, *shape),
            rest.reshape(outputs.shape),
            values.clamp(min=0).sum(-1),
            decrement,
        )


def cross_entropy_slope(logits: Tensor, labels: Tensor) -> Tensor:
    """π − onehot(y) (…, V), with 1 − π_y from the other classes."""
    probabilities = torch.softmax(logits, -1)
    place = labels[..., None]
    others = probabilities.scatter(-1, place, 0.0)
    return others.scatter(-1, place, -others.sum(-1, keepdim=True))


def _factor(probabilities: Tensor, signs: Tensor) -> Tensor:
    """Bᵀs = (I − π1ᵀ)√π s (…, V), where BᵀB = diag π − ππᵀ."""
    root = probabilities.sqrt() * signs
    return root - probabilities * root.sum(-1, keepdim=True)


def _unresolved(logits: Tensor, rows: Tensor, signs: Tensor) -> Tensor:
    """r = Bᵀ(I − VVᵀ)s, whose mean square is A − Σ b_ab_aᵀ for b_a = Bᵀv_a."""
    probabilities = torch.softmax(logits, -1)
    # v_a = B⁺ᵀb_a; Bᵀ VVᵀ s = Σ_a b_a (v_aᵀ s), with v_a = √π (x_a − Σ π x_a) for b_a = A x_a
    safe = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)
    left = rows / safe.sqrt()[..., None, :]
    coefficients = (left * signs[..., None, :]).sum(-1)
    return _factor(probabilities, signs) - (coefficients[..., None] * rows).sum(-2)


def _signs(like: Tensor, draws: Generator) -> Tensor:
    return (torch.randint(0, 2, like.shape, generator=draws) * 2 - 1).to(like.device, like.dtype)


def _padded(rows: Tensor, count: int) -> Tensor:
    """Zero directions where there are fewer outputs than directions."""
    missing = count - rows.shape[1]
    return rows if missing <= 0 else torch.cat([rows, rows.new_zeros(len(rows), missing, *rows.shape[2:])], 1)


def _whole(rows: Tensor) -> Tensor:
    """With the last position, which predicts nothing: (…, L − 1, V) ↦ (…, L, V)."""
    return torch.cat([rows, torch.zeros_like(rows[..., :1, :])], -2)
