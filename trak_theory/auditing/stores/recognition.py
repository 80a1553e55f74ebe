"""Which package wrote PATH, decided by the files that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trak_theory.auditing.stores import bergson, dattri, kronfluence, logix, own, traker
from trak_theory.auditing.stores.contents import Store
from trak_theory.auditing.stores.files import reading
from trak_theory.errors import StoreError


@dataclass(frozen=True)
class Reader:
    """How one package's stores are known and read."""

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
    """What PATH holds: a store of traker, or of this project.

    path    a folder or a file; nothing in it is unpickled or changed, large arrays are memory-mapped
    scores  name of one set of scores, where a store holds several

    Raises StoreError, one line that names the file, what was expected and found, and what to do.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(f"{path}: no such file or folder")
    with reading(path):
        found = [reader for reader in READERS if reader.matches(path)]
    if len(found) != 1:
        raise StoreError(f"{path}: {_told_apart(path, found)}")
    with reading(path):
        return found[0].read(path, scores)


def _told_apart(path: Path, found: list[Reader]) -> str:
    if found:
        return f"looks like a store of {' and of '.join(reader.package for reader in found)}: give the folder of one"
    looked_for = "; ".join(f"{reader.package}: {' or '.join(reader.marks)}" for reader in READERS)
    return f"is no store of a known package; looked for {looked_for}"
