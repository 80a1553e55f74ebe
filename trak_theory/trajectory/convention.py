"""What "without sample i" means: the removal and the occurrences. Truth and estimate must agree on both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from array_api_compat import array_namespace
from numpy import ndarray as Array

Removal = Literal["keep", "renormalise"]
Occurrences = Literal["all", "each"]


@dataclass(frozen=True)
class Convention:
    """removal       keep: the batch gradient stays a sum over |B|; renormalise: it is the mean of what is left
    occurrences   all: the sample is removed from the whole run; each: from one step at a time
    """

    removal: Removal = "keep"
    occurrences: Occurrences = "all"

    def __post_init__(self) -> None:
        one_of("removal", self.removal, get_args(Removal))
        one_of("occurrences", self.occurrences, get_args(Occurrences))

    def write_in(self, gradient: Any, samples: Any, counts: Any, size: int) -> Any:
        """ξ_i (b, p): what the batch gradient (p,) changes by when sample i, `counts` times in it, is removed.

        keep: −c ∇ℓ_i/|B|;   renormalise: c (g − ∇ℓ_i)/(|B| − c).   samples ∇ℓ_i (b, p), counts c (b,).
        """
        if self.removal == "keep":
            return -(counts / size)[:, None] * samples
        return (counts / (size - counts))[:, None] * (gradient - samples)

    def weights(self, kept: Any) -> Any:
        """Weights (…, B) of a batch of which the samples `kept` (…, B), 1 or 0, are left."""
        if self.removal == "keep":
            return kept / kept.shape[-1]
        return kept / array_namespace(kept).sum(kept, axis=-1, keepdims=True)

    def refuse_empty(self, t: int, batch: Array, left: int, what: str) -> None:
        """Raise where a batch of which `left` samples are left has no mean."""
        if self.removal == "renormalise" and left == 0:
            raise ValueError(
                f"removing {what} leaves batch {t} (size {len(batch)}) empty: its mean does not exist; "
                'use removal="keep" or larger batches'
            )


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
