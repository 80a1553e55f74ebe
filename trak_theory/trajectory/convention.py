"""Removal conventions, "without sample i": denominator and occurrences. Truth and estimate must agree on both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from array_api_compat import array_namespace
from numpy import ndarray as Array

from trak_theory.numerics.tensor import Tensor

Removal = Literal["keep", "renormalise"]
Occurrences = Literal["all", "each"]


@dataclass(frozen=True)
class Convention:
    """What removing a sample means.

    removal       keep: the batch gradient stays a sum over |B|; renormalise: it is the mean of what is left
    occurrences   all: the sample is removed from the whole run; each: from one step at a time
    """

    removal: Removal = "keep"
    occurrences: Occurrences = "all"

    def __post_init__(self) -> None:
        one_of("removal", self.removal, get_args(Removal))
        one_of("occurrences", self.occurrences, get_args(Occurrences))

    def gradient_perturbation(self, gradient: Tensor, samples: Tensor, weights: Tensor, total: float) -> Tensor:
        """ξ_i (b, p): what the batch gradient (p,) changes by when sample i is removed.

        keep: −a ∇ℓ_i/A;   renormalise: a (g − ∇ℓ_i)/(A − a).   samples ∇ℓ_i (b, p); weights a (b,), what the sample
        weighs in the batch, all its occurrences together; total A of the whole batch (|B| without batch weights).
        """
        if self.removal == "keep":
            return -(weights / total)[:, None] * samples
        return (weights / (total - weights))[:, None] * (gradient - samples)

    def weights(self, kept: Tensor, weights: Tensor) -> Tensor:
        """Weights (…, B) in the mean of a batch of which `kept` (…, B), 1 or 0, are left; batch weights a (B,)."""
        xp = array_namespace(kept)
        left = kept * weights
        return left / (xp.sum(weights) if self.removal == "keep" else xp.sum(left, axis=-1, keepdims=True))

    def refuse_empty(self, t: int, batch: Array, left: float, what: str) -> None:
        """Raise where a batch of which the weight `left` is left has no mean."""
        if self.removal == "renormalise" and left == 0:
            raise ValueError(
                f"removing {what} leaves batch {t} (size {len(batch)}) empty: its mean does not exist; "
                'use removal="keep" or larger batches'
            )


def one_of(name: str, value: Tensor, allowed: tuple[Tensor, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
