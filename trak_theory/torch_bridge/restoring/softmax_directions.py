"""The directions in which the loss of a softmax curves most, from its probabilities alone."""

from __future__ import annotations

import torch
from torch import Tensor

RESOLVED = 8  # largest probabilities beyond `count` that span the search space by themselves
TAIL_POWERS = 2  # and π, π² of the others


def top_directions(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """b (…, m, V) with Σ_a b_ab_aᵀ ≼ A = diag π − ππᵀ, nearly its m top eigenpairs √λ_a u_a; and tr A (…,).

    logits (…, V), π their softmax in double precision; m = `count`, at most V; directions of no curvature are 0.
    Rayleigh–Ritz: u from A within the m + 8 largest classes and π, π² of the rest, b_a = A u_a/√θ_a, so that the sum
    lies below A exactly (Nyström) whatever the space misses; it is all of ℝ^V for V ≤ m + 8. The rest of an eigenvector
    is π/(π − λ) = −Σ_j (π/λ)^j there, cut after two powers. Cost: O(V) a direction and one (m + 10)³ problem a sample;
    no V × V matrix.

    >>> rows, trace = top_directions(torch.tensor([[2.0, 1.0, 0.0]]), 2)
    >>> bool(((rows**2).sum() - trace).abs() < 1e-12)
    True
    """
    probabilities = torch.softmax(logits.double(), -1)
    space = _search_space(probabilities, count)
    curved = curvature_product(probabilities, space)
    values, vectors = torch.linalg.eigh(space @ curved.mT)
    values, vectors = values[..., -count:].flip(-1), vectors[..., -count:].flip(-1)
    small = values <= torch.finfo(values.dtype).tiny
    scale = torch.where(small, 0.0, values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt())
    return (vectors.mT @ curved) * scale[..., None], spread(probabilities)


def curvature_product(probabilities: Tensor, vectors: Tensor) -> Tensor:
    """(diag π − ππᵀ)v (…, K, V) for π (…, V), v (…, K, V), as π(v − Σ_c π_c v_c).

    Constants in v do not count: v is taken relative to the likeliest class, whose 1 − π then never occurs.
    """
    top = probabilities.argmax(-1)[..., None, None].expand(*vectors.shape[:-1], 1)
    relative = vectors - vectors.gather(-1, top)
    centre = (relative * probabilities[..., None, :]).sum(-1, keepdim=True)
    return probabilities[..., None, :] * (relative - centre)


def spread(probabilities: Tensor) -> Tensor:
    """tr(diag π − ππᵀ) = Σ_c π_c(1 − π_c), without cancellation where one class is nearly certain."""
    top, place = probabilities.max(-1)
    others = probabilities.scatter(-1, place[..., None], 0.0)
    rest = others.sum(-1)
    return top * rest + (others * (1 - others)).sum(-1)


def _search_space(probabilities: Tensor, count: int) -> Tensor:
    """Orthonormal rows (…, K, V): the largest classes one by one, and powers of the other probabilities."""
    classes = probabilities.shape[-1]
    kept = min(classes, count + RESOLVED)
    places = probabilities.topk(kept, -1).indices
    single = torch.zeros(*places.shape, classes, dtype=probabilities.dtype, device=probabilities.device)
    single.scatter_(-1, places[..., None], 1.0)
    if kept == classes:
        return single
    rest = probabilities.scatter(-1, places, 0.0)
    rows: list[Tensor] = []
    for power in range(1, TAIL_POWERS + 1):
        row = (rest / rest.amax(-1, keepdim=True).clamp(min=torch.finfo(rest.dtype).tiny)) ** power
        for _ in range(2):  # Gram–Schmidt, twice is enough
            row = row - sum(((row * other).sum(-1, keepdim=True) * other for other in rows), torch.zeros_like(row))
        size = row.norm(dim=-1, keepdim=True)
        rows.append(torch.where(size > 1e-12, row / size.clamp(min=1e-12), 0.0))
    return torch.cat([single, torch.stack(rows, -2)], -2)
