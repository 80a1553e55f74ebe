"""The arrays of the trajectory algebra."""

from __future__ import annotations

from typing import Any, TypeAlias

Tensor: TypeAlias = Any  # a numpy array or a torch tensor: the algebra works on both, through array-api-compat
