"""The registry of claims. A module registers its claims as CLAIMS, and its name in MODULES."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from trak_theory.claims.claim import Claim, Entry
from trak_theory.numerics.estimate import Estimate

__all__ = ["Claim", "Entry", "Estimate", "checked", "ledger", "registry"]

MODULES = (
    "trak_theory.claims.identities",
    "trak_theory.claims.derivatives",
    "trak_theory.claims.expansions",
    "trak_theory.claims.limits",
    "trak_theory.claims.bounds",
)


def registry() -> dict[str, Claim]:
    """Name → claim, in the order of the modules."""
    claims: dict[str, Claim] = {}
    for module in MODULES:
        for claim in import_module(module).CLAIMS:
            if claim.name in claims:
                raise ValueError(f"two claims are named {claim.name!r}; the second is in {module}")
            claims[claim.name] = claim
    return claims


def ledger(*, seed: int) -> list[Entry]:
    """Every claim checked."""
    return [checked(name, seed=seed) for name in registry()]


def checked(name: str, *, seed: int) -> Entry:
    """One claim of the registry. It draws from a generator of its own, so that no other claim matters."""
    return registry()[name].check(np.random.default_rng([seed, *name.encode()]))
