"""The files that bergson writes: configuration, gradient index, structured scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from trak_theory.auditing.stores.chunks import joined
from trak_theory.auditing.stores.files import (
    count,
    decoded,
    dtype_named,
    entry,
    file_size,
    read_json,
    read_raw,
    reading,
)
from trak_theory.auditing.stores.values import checked_rows
from trak_theory.errors import StoreError, require
from trak_theory.numerics.rows import ChunkedRows

LARGEST_YAML = 2**16  # bytes; a configuration has three thousand
SETTINGS = ("projection_dim", "projection_type", "projection_scale", "projection_target", "projection_version")
OLD = (
    "projection version 1, of bergson before 2.0: its matrices came from PyTorch's generators and cannot be drawn "
    "again; an index of 2.0 does not fit it"
)


@dataclass(frozen=True)
class Config:
    """config.yaml of one step: who wrote it, and settings by the name of their group."""

    version: str | None
    steps: tuple[tuple[str, dict[str, object]], ...]

    def field(self, group: str, name: str) -> object:
        """The setting `name` of the first group of that name, at any depth; None where there is none."""
        found = next((value for _, step in self.steps for value in _groups(step, group)), {})
        return found.get(name)

    def sign(self, folder: Path) -> int:
        """+1 where positive scores are proponents: score_cfg says so; MAGIC's are derivatives of the loss."""
        if any(name == "magic" for name, _ in self.steps):
            return -1
        higher = self.field("score_cfg", "higher_is_better")
        if not isinstance(higher, bool):
            file = folder / "config.yaml"
            raise StoreError(f"{file}: higher_is_better should be true or false, found {higher!r:.40}")
        return 1 if higher else -1

    @property
    def whitened(self) -> bool:
        return self.field("preprocess_cfg", "hessian_path") is not None

    @property
    def plain(self) -> bool:
        """Scores are dot products of whole rows: no normalisation, every module."""
        return not self.field("preprocess_cfg", "unit_normalize") and not self.field("score_cfg", "modules")

    @property
    def method(self) -> str:
        names = {name for name, _ in self.steps}
        if "magic" in names:
            return "magic"
        return "influence" if self.whitened else "dot product"

    @property
    def projected(self) -> bool | None:
        dimension = self.field("index_cfg", "projection_dim")
        return None if dimension is None else bool(dimension)

    @property
    def notes(self) -> tuple[str, ...]:
        loss = self.field("index_cfg", "loss_fn")
        found = () if loss in (None, "ce", "log_odds") else (f"gradients of {loss}: a positive score lowers it",)
        normalised = self.field("preprocess_cfg", "unit_normalize") is True
        if self.field("score_cfg", "modules"):
            found = (*found, "scores are those of some modules only")
        return (*found, "rows were normalised: scores are cosines, which no ridge explains") if normalised else found


@dataclass(frozen=True, eq=False)
class Index:
    """gradients.bin with the widths of its modules and its projection."""

    rows: Array | ChunkedRows
    sizes: dict[str, int]
    settings: dict[str, object]
    notes: tuple[str, ...]

    @property
    def projected(self) -> bool:
        return bool(self.settings.get("projection_dim"))

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block a module, unless one projection takes them all."""
        return tuple(self.sizes.values()) if len(self.sizes) > 1 else ()

    @property
    def over_root_p(self) -> bool:
        """Rows of P with norm one over their p entries, as before bergson 2.0."""
        return self.projected and self.settings.get("projection_scale", "row_norm") == "row_norm" and not self.blocks

    @property
    def scale_factor(self) -> float:
        return 1 / float(np.sqrt(self.rows.shape[1])) if self.over_root_p else 1.0


def config_of(folder: Path, *, required: bool = False) -> Config:
    """config.yaml of a folder; an empty one where there is none and none is required."""
    path = folder / "config.yaml"
    if not path.exists() and not required:
        return Config(None, ())
    content = _yaml(path)
    metadata = content.get("metadata")
    version = metadata.get("bergson_version") if isinstance(metadata, dict) else None
    steps = []
    for step in entry(path, content, "steps", list):
        for name, settings in step.items() if isinstance(step, dict) else ():
            steps.append((str(name), settings if isinstance(settings, dict) else {}))
    if not steps:
        raise StoreError(f"{path}: no step of bergson's in it: half-written")
    return Config(None if version is None else str(version), tuple(steps))


def index_of(folder: Path) -> Index:
    """gradients.bin, memory-mapped."""
    file, info = folder / "info.json", read_json(folder / "info.json")
    if info.get("attribute_tokens"):
        raise StoreError(f"{file}: one row a token, expected one a document: build it without attribute_tokens")
    sizes = entry(file, info, "grad_sizes", dict)
    widths = {name: count(file, sizes, name) for name in sizes}
    n, name = count(file, info, "num_grads"), entry(file, info, "base_dtype", str)
    rows = read_raw(folder / "gradients.bin", dtype_named(file, name), (n, sum(widths.values())))
    settings, notes = _projection(folder / "processor_config.yaml")
    return Index(joined([rows], name), widths, settings, notes)


def _projection(path: Path) -> tuple[dict[str, object], tuple[str, ...]]:
    if not path.exists():
        return {}, ("processor_config.yaml is missing: projection and its version are unknown",)
    content = _yaml(path)
    settings = {name: content.get(name) for name in SETTINGS}
    settings["projection_version"] = settings["projection_version"] or 1
    settings["projection_scale"] = settings["projection_scale"] or "row_norm"
    if not settings["projection_dim"]:
        return settings, ()
    version = settings["projection_version"]
    notes: tuple[str, ...] = (OLD,) if version == 1 else ()
    if version not in (1, 2):
        notes = (f"projection version {version!r:.40} is not known, 1 and 2 are",)
    if settings["projection_target"] != "global":
        notes += ("each module has a projection of its own, from both sides: error bars are for independent entries",)
    return settings, notes


def score_matrix(folder: Path) -> tuple[Array, tuple[str, ...]]:
    """(n, q) scores as stored, a view of scores.bin; StoreError unless every one was written."""
    file, info = folder / "info.json", read_json(folder / "info.json")
    if info.get("attribute_tokens"):
        raise StoreError(f"{file}: one row a token, expected one a document: score without attribute_tokens")
    if (folder / "candidates.npy").exists():
        raise StoreError(f"{folder}: scores of candidate rows only: score all points, without score_cfg.candidates")
    n, q = count(file, info, "num_rows" if "num_rows" in info else "num_items"), count(file, info, "num_scores")
    name, step, itemsize = _layout(file, entry(file, info, "dtype", dict), q)
    dtype = dtype_named(file, name)
    raw = read_raw(folder / "scores.bin", np.dtype(np.uint8), (n, itemsize))
    written = np.ndarray((n, q), np.uint8, raw, dtype.itemsize, (itemsize, step))
    if (done := int(np.count_nonzero(np.asarray(written) == 1))) < n * q:
        raise StoreError(f"{folder / 'scores.bin'}: {done} of {n * q} scores are marked written: finish the run")
    scores = decoded(np.ndarray((n, q), dtype, raw, 0, (itemsize, step)), name)
    return scores, checked_rows(folder / "scores.bin", scores)


def _layout(file: Path, dtype: dict[str, object], q: int) -> tuple[str, int, int]:
    """Name of the number's dtype, bytes from one query to the next, bytes of a row: as bergson lays them out."""
    formats = entry(file, dtype, "formats", list)
    name = formats[0] if formats and isinstance(formats[0], str) else ""
    size = dtype_named(file, name).itemsize
    step = 1 << size.bit_length()
    expected = {
        "names": [f"{kind}_{query}" for query in range(q) for kind in ("score", "written")],
        "formats": [name, "bool"] * q,
        "offsets": [query * step + shift for query in range(q) for shift in (0, size)],
        "itemsize": (q * step + 7) // 8 * 8,
    }
    wrong = [key for key, value in expected.items() if dtype.get(key) != value]
    if wrong:
        raise StoreError(f"{file}: {', '.join(wrong)} of 'dtype' are not those of {q} (score, written) pairs of {name}")
    return name, step, int((q * step + 7) // 8 * 8)


def _groups(settings: dict[str, object], group: str) -> list[dict[str, object]]:
    own = settings.get(group)
    found = [own] if isinstance(own, dict) else []
    for value in settings.values():
        if isinstance(value, dict):
            found += _groups(value, group)
    return found


def _yaml(path: Path) -> dict[str, object]:
    require("yaml")
    import yaml

    with reading(path):
        if (size := file_size(path)) > LARGEST_YAML:
            raise StoreError(f"{path}: {size} bytes of configuration, at most {LARGEST_YAML} are read")
        content = yaml.safe_load(path.read_bytes())  # not the C loader: deep nesting ends the process there
    if not isinstance(content, dict):
        raise StoreError(f"{path}: expected names and values, found {type(content).__name__}")
    return content
