"""Recognition of the package that wrote PATH, by the files that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trak_theory.auditing.stores import own
from trak_theory.auditing.stores.contents import Store
from trak_theory.auditing.stores.files import reading
from trak_theory.auditing.stores.packages import bergson, dattri, kronfluence, logix, traker
from trak_theory.errors import StoreError

PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".joblib", ".meta"})  # .pt and .meta: dattri-llm's
EXPORT = "dattri-llm and torch.save write them; save the arrays with numpy.savez as features.npz"
MOST_FOLDERS, MOST_NAMED = 100, 3


@dataclass(frozen=True)
class Reader:
    """Reader of one package's stores, and the files it is known by."""

    package: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, str | None], Store]
    marks: tuple[str, ...]


READERS = (
    Reader("traker", traker.matches, traker.read, traker.MARKS),
    Reader("bergson", bergson.matches, bergson.read, bergson.MARKS),
    Reader("kronfluence", kronfluence.matches, kronfluence.read, kronfluence.MARKS),
    Reader("dattri", dattri.matches, dattri.read, dattri.MARKS),
    Reader("logix", logix.matches, logix.read, logix.MARKS),
    Reader("trak-theory", own.matches, own.read, own.MARKS),
)


def recognise(path: Path | str, *, scores: str | None = None) -> Store:
    """The store at PATH: of traker, bergson, kronfluence, dattri or LogIX, or of this project.

    path    a folder or a file; nothing in it is unpickled or changed, large arrays are memory-mapped
    scores  name of one set of scores, where a store holds several: traker's experiment, kronfluence's scores_<name>

    Reads every file once, to check its numbers. Raises StoreError, one line that names the file, what was expected and
    found, and what to do.

    >>> import tempfile, numpy as np
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.savez(folder / "features.npz", features=np.eye(3), queries=np.ones((2, 3)), residual=[-0.5, -0.2, -0.1])
    >>> store = recognise(folder / "features.npz")
    >>> store.package, store.n, store.k, store.missing["ridge"]
    ('trak-theory', 3, 3, '--ridge: the ridge of the scores is not stored')
    """
    path = Path(path)
    with reading(path):
        if not path.exists():
            raise StoreError(f"{path}: no such file or folder")
        found = [reader for reader in READERS if reader.matches(path)]
        if len(found) != 1:
            raise StoreError(f"{path}: {_told_apart(path, found)}")
        return found[0].read(path, scores)


def _told_apart(path: Path, found: list[Reader]) -> str:
    if found:
        return f"looks like a store of {' and of '.join(reader.package for reader in found)}: give the folder of one"
    if inside := _inside(path):
        return f"is no store itself, but holds {', '.join(inside)}: give the folder of one"
    files = [path] if path.is_file() else sorted(path.iterdir())
    if pickles := [file.name for file in files if file.suffix in PICKLES]:
        return f"holds pickles ({pickles[0]}; {', '.join(sorted(PICKLES))}), which are never loaded: {EXPORT}"
    looked_for = "; ".join(f"{reader.package}: {' or '.join(reader.marks)}" for reader in READERS)
    return f"is no store of a known package; looked for {looked_for}"


def _inside(path: Path) -> list[str]:
    """The first sub-folders that are stores, with the package that wrote them; at most two levels down."""
    folders = (sub for pattern in ("*/", "*/*/") for sub in islice(sorted(path.glob(pattern)), MOST_FOLDERS))
    known = ((sub, reader.package) for sub in folders for reader in READERS if reader.matches(sub))
    return [f"{sub.relative_to(path)} ({package})" for sub, package in islice(known, MOST_NAMED)]
