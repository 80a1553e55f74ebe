"""Newton–Schulz iteration of Muon, and its exact derivative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from array_api_compat import array_namespace

from trak_theory.numerics.tensor import Tensor


@dataclass(frozen=True)
class NewtonSchulz:
    """U (…, m, n) ↦ X_k:  X_0 = U/max(‖U‖, ε),  A = XXᵀ,  X ← aX + (bA + cA²)X, k times; Frobenius norm.

    A map from U near to UVᵀ of its singular value decomposition, not equal to it: the singular values end between .7
    and 1.2. `tangent` and `adjoint` are the derivative of the iteration as it is, at U (m, n), for directions and
    cotangents (…, m, n). A tall U is transposed first. Source: torch.optim.Muon.
    """

    coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315)
    steps: int = 5
    eps: float = 1e-7

    def __call__(self, u: Tensor) -> Tensor:
        if u.shape[-2] > u.shape[-1]:
            return _turned(self(_turned(u)))
        x = u / self._norm(u)[0]
        for _ in range(self.steps):
            x = self._step(x)[2]
        return x

    def tangent(self, u: Tensor, du: Tensor) -> Tensor:
        if u.shape[-2] > u.shape[-1]:
            return _turned(self.tangent(_turned(u), _turned(du)))
        a, b, c = self.coefficients
        dx = self._scaled(u, du)
        for x, gram, mixed in self._path(u):
            dgram = dx @ _turned(x) + x @ _turned(dx)
            dmixed = b * dgram + c * (dgram @ gram + gram @ dgram)
            dx = a * dx + dmixed @ x + mixed @ dx
        return dx

    def adjoint(self, u: Tensor, cotangent: Tensor) -> Tensor:
        if u.shape[-2] > u.shape[-1]:
            return _turned(self.adjoint(_turned(u), _turned(cotangent)))
        a, b, c = self.coefficients
        for x, gram, mixed in reversed(list(self._path(u))):
            to_mixed = cotangent @ _turned(x)
            to_gram = b * to_mixed + c * (to_mixed @ gram + gram @ to_mixed)
            cotangent = a * cotangent + mixed @ cotangent + (to_gram + _turned(to_gram)) @ x
        return self._scaled(u, cotangent)

    def in_bfloat16(self, u: Tensor) -> Tensor:
        """As torch computes it, with the rounding of that; U (…, m, n), torch tensors."""
        if u.ndim > 2:
            return array_namespace(u).stack([self.in_bfloat16(own) for own in u])
        if u.shape[-2] > u.shape[-1]:
            return _turned(self.in_bfloat16(_turned(u)))
        (a, b, c), xp = self.coefficients, array_namespace(u)
        x = xp.astype(u, xp.bfloat16)
        x = x / xp.clip(xp.linalg.vector_norm(x), min=self.eps)
        for _ in range(self.steps):
            gram = x @ x.T
            x = xp.addmm(x, xp.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return xp.astype(x, u.dtype)

    def _norm(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """max(‖U‖, ε) (…, 1, 1), and whether it is ‖U‖."""
        xp = array_namespace(u)
        length = xp.sqrt(xp.sum(u * u, axis=(-2, -1), keepdims=True))
        larger = length.real > self.eps
        return xp.where(larger, length, self.eps * xp.ones_like(length)), larger

    def _scaled(self, u: Tensor, du: Tensor) -> Tensor:
        """The derivative of U/max(‖U‖, ε) along dU: symmetric."""
        xp = array_namespace(u)
        length, larger = self._norm(u)
        along = xp.sum(u * du, axis=(-2, -1), keepdims=True) / length**3
        return du / length - xp.where(larger, along, 0.0 * along) * u

    def _step(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A, bA + cA² and the next X."""
        a, b, c = self.coefficients
        gram = x @ _turned(x)
        mixed = b * gram + c * (gram @ gram)
        return gram, mixed, a * x + mixed @ x

    def _path(self, u: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """X, A and bA + cA² of every step."""
        x = u / self._norm(u)[0]
        for _ in range(self.steps):
            gram, mixed, after = self._step(x)
            yield x, gram, mixed
            x = after


def _turned(x: Tensor) -> Tensor:
    return x.mT
