"""Every exception that the library raises under a name of its own."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

EXTRAS = {
    "sympy": "derivations",
    "jinja2": "audit",
    "matplotlib": "audit",
    "pandas": "audit",
    "pyarrow": "audit",
    "yaml": "audit",
    "safetensors": "audit",
    "joblib": "studies",
    "sklearn": "studies",
    "statsmodels": "studies",
    "threadpoolctl": "studies",
    "tqdm": "studies",
    "torch": "torch",
    "transformers": "torch",
    "peft": "torch",
    "tokenizers": "torch",
    "gguf": "torch",
    "dask": "cluster",
    "distributed": "cluster",
}


class MissingExtraError(ImportError):
    """A package that an extra of this project installs is not there; the message names the extra."""

    def __init__(self, module: str) -> None:
        package = module.partition(".")[0]
        extra = EXTRAS.get(package, package)
        super().__init__(f"{package} is not installed: pip install 'trak-theory[{extra}]'", name=package)


def require(*modules: str) -> None:
    """Raise MissingExtraError for the first of these top-level modules that cannot be found.

    >>> require("numpy")
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtraError(module)


class ClusterError(RuntimeError):
    """A worker of a Dask cluster failed, with its reason."""


class RankDeficientError(np.linalg.LinAlgError):
    """The Hessian has no inverse in floating point: there is no unique minimiser."""


class ScaleError(ValueError):
    """Numbers whose squares leave the range of float64."""


class NoMinimiserError(ValueError):
    """The objective has no minimiser (separable data without a ridge)."""


class ConvergenceError(RuntimeError):
    """Newton's method stopped short of the tolerance; the message carries the numbers."""


class IndefiniteHessianError(ConvergenceError):
    """A stationary point that is no strict minimum: leave-one-out has no unique continuation from it."""


class DeadNetworkError(ValueError):
    """Every hidden unit is constant on the training points: the network is a constant."""


class UnsupportedError(ValueError):
    """A model or a loop that a trajectory cannot describe."""


class StoreError(ValueError):
    """A store that cannot be read: which file, what was expected, what was found, what to do."""
