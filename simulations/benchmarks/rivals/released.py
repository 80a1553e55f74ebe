"""Released packages as a user of the audit runs them: scores at a value of their own parameter, and the audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from simulations.benchmarks.rivals.cases import arrays_of
from simulations.benchmarks.rivals.environments import Environments
from simulations.benchmarks.rivals.exchange import Failure, ask
from simulations.studies.practice.audit_digits import RECIPE
from simulations.workloads.data import digits
from simulations.workloads.digits_mlp import digits_network
from trak_theory import Linearization
from trak_theory.auditing.audit import audit
from trak_theory.auditing.result import Audit
from trak_theory.auditing.stored import audit_store
from trak_theory.auditing.stores import recognise
from trak_theory.retraining.ridge_rule import TrainingRecipe

BATCH = 100
N, HIDDEN, QUERIES = 500, 64, 50
SEQUENCES, ASKED, SHARE = 300, 20, 0.1


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network: what its package reads, its gradients, and how it was trained."""

    arrays: dict[str, Array]
    lin: Linearization
    recipe: TrainingRecipe | float
    fraction: float | None
    folder: Path


class Scored(NamedTuple):
    """Scores of a package at a value of its parameter, with their audit."""

    value: float
    scores: Array
    audit: Audit


class Package(Protocol):
    """A released package with one projected dimension."""

    name: ClassVar[str]
    default: ClassVar[float]

    @property
    def setting(self) -> str: ...

    def subject(self, rng: Generator, folder: Path) -> Subject | Failure: ...

    def scored(self, subject: Subject, seed: int, value: float, *, k: int | None = None) -> Scored | Failure: ...

    def averaged(self, subject: Subject, seed: int, value: float, count: int) -> Audit:
        """The audit of one projection's scores as if they were the mean of `count`."""
        ...


def digits_subject(rng: Generator, folder: Path) -> Subject:
    """The digits network 64-64-10 of the study audit_digits, n = 500; the truth is training on half of the points."""
    model = digits_network(n=N, hidden=HIDDEN, queries=QUERIES, rng=rng)
    return Subject(arrays_of(model), model.margin_linearization(), RECIPE, 0.5, folder)


@dataclass(frozen=True)
class Traker:
    """traker's save_dir, audited with the recipe and p; `trak-theory audit SAVE_DIR --parameters P …`."""

    environments: Environments
    k: int
    half: bool
    name: ClassVar[str] = "traker"
    default: ClassVar[float] = 0.0

    @property
    def setting(self) -> str:
        return f"k = {self.k}, {'half' if self.half else 'single'} precision"

    def subject(self, rng: Generator, folder: Path) -> Subject:
        return digits_subject(rng, folder)

    def scored(self, subject: Subject, seed: int, value: float, *, k: int | None = None) -> Scored | Failure:
        store = self._store(subject, seed, value)
        options = {"k": self.k if k is None else k, "half": self.half, "block": None, "batch": BATCH}
        asked = {**options, "lambda_reg": value, "seed": seed, "store": str(store)}
        answer = ask(self.environments[self.name], "traker", subject.arrays, asked)
        if isinstance(answer, Failure):
            return answer
        return Scored(value, answer.arrays["scores"], self._audit(subject, store, value))

    def averaged(self, subject: Subject, seed: int, value: float, count: int) -> Audit:
        return self._audit(subject, self._store(subject, seed, value), value, ensemble=count)

    def _audit(self, subject: Subject, store: Path, value: float, ensemble: int = 1) -> Audit:
        return audit_store(
            recognise(store),
            parameters=subject.lin.features.shape[1],
            recipe=subject.recipe,
            fraction=subject.fraction,
            ridge=value,
            ensemble=ensemble,
        )

    def _store(self, subject: Subject, seed: int, value: float) -> Path:
        return subject.folder / f"{self.k}-{self.half}-{seed}-{value:.6g}"


@dataclass(frozen=True)
class Dattri:
    """dattri's TRAKAttributor, which writes nothing: its scores beside the gradients, as in features.npz."""

    environments: Environments
    k: int
    name: ClassVar[str] = "dattri"
    default: ClassVar[float] = 0.0

    @property
    def setting(self) -> str:
        return f"k = {self.k}"

    def subject(self, rng: Generator, folder: Path) -> Subject:
        return digits_subject(rng, folder)

    def scored(self, subject: Subject, seed: int, value: float, *, k: int | None = None) -> Scored | Failure:
        k = self.k if k is None else k
        asked = {"k": k, "regularization": value, "seed": seed, "batch": BATCH}
        answer = ask(self.environments[self.name], "dattri_trak", subject.arrays, asked)
        if isinstance(answer, Failure):
            return answer
        scores = answer.arrays["scores"]
        return Scored(value, scores, self._audit(subject, value, k, scores=scores))

    def averaged(self, subject: Subject, seed: int, value: float, count: int) -> Audit:
        return self._audit(subject, value, self.k, ensemble=count)

    def _audit(self, subject: Subject, value: float, k: int, **options: Any) -> Audit:
        lin = subject.lin
        return audit(
            lin.features,
            lin.queries,
            lin.residual,
            curvature=lin.curvature,
            package="dattri",
            k=k,
            ridge=value,
            recipe=subject.recipe,
            fraction=subject.fraction,
            **options,
        )


@dataclass(frozen=True)
class Bergson:
    """A run of `bergson trak` on a small GPT-2, with the index that the audit asks for."""

    environments: Environments
    k: int
    name: ClassVar[str] = "bergson"
    default: ClassVar[float] = 0.0

    @property
    def setting(self) -> str:
        return f"k = {self.k}"

    def subject(self, rng: Generator, folder: Path) -> Subject | Failure:
        """Its gradients are bergson's own, not projected; the ridge of training is a share of the mean curvature's."""
        arrays = {**_sequences(rng), "start": np.array(rng.integers(2**31))}
        made = self._run(arrays, folder, seed=0, value=None, k=self.k, whole=True)
        if isinstance(made, Failure):
            return made
        rows, queries = recognise(folder / "whole").features, recognise(folder / "whole_queries").features
        residual = recognise(made).residual
        assert rows is not None
        assert queries is not None
        assert residual is not None
        features, asked = np.array(rows, float), np.array(queries, float)
        curvature = -residual * (1 + residual)
        lin = Linearization(features, residual, curvature, 0.0, asked)
        ridge = SHARE * float(np.sum(curvature[:, None] * features**2)) / len(features)
        return Subject(arrays, lin, ridge, None, folder)

    def scored(self, subject: Subject, seed: int, value: float, *, k: int | None = None) -> Scored | Failure:
        default = value == self.default
        run = self._run(subject.arrays, subject.folder, seed, None if default else value, self.k if k is None else k)
        if isinstance(run, Failure):
            return run
        store = recognise(run)
        assert store.ridge == value  # as the run itself records it
        return Scored(value, np.array(store.scores), audit_store(store, recipe=subject.recipe))

    def averaged(self, subject: Subject, seed: int, value: float, count: int) -> Audit:
        store = recognise(subject.folder / self._name(seed, value, self.k))
        return audit_store(store, recipe=subject.recipe, ensemble=count)

    def _run(
        self, arrays: dict[str, Array], folder: Path, seed: int, value: float | None, k: int, whole: bool = False
    ) -> Path | Failure:
        """The folder of a run; one that is there already is not computed again."""
        name = self._name(seed, value, k)
        if (folder / name / "index").exists():
            return folder / name
        asked = {"folder": str(folder), "run": name, "k": k, "seed": seed, "damping": value, "whole": whole}
        answer = ask(self.environments[self.name], "bergson.trak", arrays, asked)
        return answer if isinstance(answer, Failure) else folder / name

    def _name(self, seed: int, value: float | None, k: int) -> str:
        return f"run-{k}-{seed}-{'default' if value is None else format(value, '.6g')}"


def _sequences(rng: Generator) -> dict[str, Array]:
    """Digits at 4 × 4 pixels of 17 levels and the label as a token of its own: training (n, 17) and queries (q, 17)."""
    pixels, labels = digits()
    pooled = np.round(pixels.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) * 16).astype(np.int64)
    tokens = np.hstack([pooled, 17 + labels[:, None]])[rng.permutation(len(labels))[: SEQUENCES + ASKED]]
    return {"training": tokens[:SEQUENCES], "queries": tokens[SEQUENCES:]}
