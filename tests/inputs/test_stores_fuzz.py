"""Corrupted stores: each reads to its own bytes, or is refused in one line, and never with another exception."""

import json
import shutil
import tracemalloc
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trak_theory.auditing.stores import Store, recognise
from trak_theory.errors import StoreError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "stores"
PACKAGES = {
    "traker": ("traker/single", "traker/ensemble", "traker/half"),
    "bergson": ("bergson/trak", "bergson/trak/scores", "bergson/score"),
    "kronfluence": ("kronfluence/digits/scores_all", "kronfluence/digits/scores_modules"),
    "dattri": ("dattri/logra",),
    "logix": ("logix/full", "logix/lora"),
    "own": ("npz", "compressed", "folder"),
}
CASES = 31  # of each kind of corruption and package: 11 kinds, 6 packages, 2,046 stores
MEMORY = 3_000_000  # bytes beyond twice the store: parsers and blocks of a small store
MISTAKES = (TypeError, AttributeError, NameError, IndexError, KeyError, AssertionError)
VALUES = [None, -1, 0, True, 2**70, 1e308, "", "float16", "../..", [], {}, [[1]], "NaN", 7]


def written(folder, name):
    """A copy of a fixture, or a store of our own format."""
    path = folder / name.replace("/", "_")
    if "/" in name:
        return shutil.copytree(FIXTURES / name, path)
    rng = np.random.default_rng(1)
    arrays = {
        "features": rng.standard_normal((30, 8)),
        "queries": rng.standard_normal((3, 8)),
        "residual": -rng.random(30),
    }
    arrays["scores"] = rng.standard_normal((30, 3))
    path.mkdir()
    if name == "folder":
        for key, array in arrays.items():
            np.save(path / f"{key}.npy", array)
        return path
    (np.savez if name == "npz" else np.savez_compressed)(path / "features.npz", **arrays)
    return path / "features.npz"


def files_of(path):
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def truncated(content, rng):
    return content[: rng.integers(0, len(content))] if content else b""


def bits_flipped(content, rng):
    """Half of them in the first 300 bytes, where headers are."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        end = min(len(damaged), 300) if rng.random() < 0.5 else len(damaged)
        damaged[rng.integers(0, end)] ^= 1 << int(rng.integers(0, 8))
    return bytes(damaged)


def half_written(content, rng):
    half = int(rng.integers(0, len(content)))
    return content[:half] + bytes(len(content) - half)


def appended(content, rng):
    return content + rng.bytes(int(rng.integers(1, 64)))


def random_bytes(content, rng):
    return rng.bytes(int(rng.integers(0, 400)))


def garbage(content, rng):
    """JSON that is deep, of another kind, or has one value replaced; for other files text."""
    try:
        tree = json.loads(content)
    except ValueError:
        return [b"[" * 1000, b"{}", b"null", b"&a [*a]", b"\xff\xfe"][rng.integers(0, 5)]
    if rng.random() < 0.2:
        return [b"[" * 200_000, b"[]", b"null", b'{"a": 1e999}', b"9" * 5000][rng.integers(0, 5)]
    replace_one(tree, rng)
    return json.dumps(tree).encode()


def replace_one(tree, rng):
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    if not keys:
        return
    key = keys[rng.integers(0, len(keys))]
    if isinstance(tree[key], dict | list) and rng.random() < 0.7:
        replace_one(tree[key], rng)
    else:
        tree[key] = VALUES[rng.integers(0, len(VALUES))]


def retyped(content, rng):
    """A .npy file of another dtype or shape; its bytes turned round for other files."""
    if not content.startswith(b"\x93NUMPY"):
        return content[::-1]
    changes = [
        (b"<f4", b"<f8"),
        (b"<f4", b"|O8"),
        (b"<f4", b"<c8"),
        (b"<f2", b"<f4"),
        (b"(48, ", b"(96, "),
        (b"(48, ", b"(-4, "),
    ]
    old, new = changes[rng.integers(0, len(changes))]
    return content.replace(old, new, 1)


def enormous(content, rng):
    """The largest numbers of four bytes, everywhere or once, beyond the header."""
    head, body = content[:128], bytearray(content[128:])
    if rng.random() < 0.5:
        body = bytearray(np.full(len(body) // 4 + 1, 3e38, np.float32).tobytes()[: len(body)])
    elif len(body) > 8:
        start = int(rng.integers(0, len(body) - 8))
        body[start : start + 8] = np.array([1e150]).tobytes()
    return head + bytes(body)


CONTENTS = (truncated, bits_flipped, half_written, appended, random_bytes, garbage, retyped, enormous)
KINDS = (*CONTENTS, "missing", "exchanged", "directory")


def corrupt(kind, file, files, rng):
    """Changes the folder in place; returns what restores it."""
    other = files[rng.integers(0, len(files))]
    saved = {path: path.read_bytes() for path in (file, other)}
    if kind == "missing":
        file.unlink()
    elif kind == "exchanged":
        file.write_bytes(saved[other])
        other.write_bytes(saved[file])
    elif kind == "directory":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(kind(saved[file], rng))
    return partial(restored, saved)


def restored(saved):
    for path, content in saved.items():
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)


def arrays_of(store):
    found = [store.scores, store.curvature, store.learning_rates]
    for member in store.members:
        found += [member.features, member.queries, member.residual, member.preconditioned]
    return [np.array(array) for array in found if array is not None]


def refusal(path):
    """The message with which a store is refused, or None for one that can be used.

    A mistake in a reader would be refused as well, with the traceback of a TypeError or the like behind it.
    """
    try:
        store = recognise(path)
    except StoreError as error:
        if isinstance(error.__cause__, MISTAKES):
            pytest.fail(f"a mistake in the reader: {error.__cause__!r}")
        return str(error)
    is_usable(store, sum(file.stat().st_size for file in files_of(path)))
    return None


def is_usable(store, size):
    """Consistent sizes, finite numbers, and no more of them than the files hold."""
    for array in arrays_of(store):
        assert np.isfinite(array).all()
    for member in store.members:
        n, k = member.features.shape
        assert store.scores is None or len(store.scores) == n
        assert member.queries is None or member.queries.shape[1] == k
        assert member.residual is None or member.residual.shape == (n,)
    assert sum(array.nbytes for array in arrays_of(store)) <= 8 * size


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Working copies, damaged and restored again and again."""
    folder = tmp_path_factory.mktemp("stores")
    return {package: [written(folder, name) for name in names] for package, names in PACKAGES.items()}


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: getattr(kind, "__name__", kind))
def test_a_corrupted_store_is_usable_or_refused_in_one_line(kind, package, stores):
    rng = np.random.default_rng([list(PACKAGES).index(package), KINDS.index(kind)])
    refused = 0
    for case in range(CASES):
        path = stores[package][case % len(stores[package])]
        files = files_of(path)
        restore = corrupt(kind, files[rng.integers(0, len(files))], files, rng)
        message = refusal(path)
        refused += message is not None
        assert message is None or ("\n" not in message and len(message) < 1000)
        restore()
    for path in stores[package]:
        assert isinstance(recognise(path), Store)
    if kind in ("missing", truncated, random_bytes, "directory"):
        assert refused > CASES / 4  # a check that accepts everything would not be one


@pytest.mark.parametrize("name", ["npz", "compressed"])
def test_an_archive_reads_to_its_own_numbers_or_not_at_all(name, tmp_path):
    """300 bits of the file, one at a time: the checksum of .npz finds what changes a number."""
    path = written(tmp_path, name)
    content, expected = path.read_bytes(), arrays_of(recognise(path))
    rng = np.random.default_rng(2)
    for position in rng.choice(len(content), 300, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(bytes(damaged))
        try:
            found = arrays_of(recognise(path))
        except StoreError:
            continue
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("package", PACKAGES)
def test_reading_takes_no_more_memory_than_the_store(package, stores):
    """Truncated and damaged ones included: no size in a header is trusted."""
    rng = np.random.default_rng(3)
    path = stores[package][0]
    recognise(path)
    tracemalloc.start()
    for kind in (bits_flipped, garbage, retyped, truncated) * 5:
        files = files_of(path)
        restore = corrupt(kind, files[rng.integers(0, len(files))], files, rng)
        tracemalloc.reset_peak()
        with suppress(StoreError):
            recognise(path)
        _, peak = tracemalloc.get_traced_memory()
        assert peak < MEMORY + 2 * sum(file.stat().st_size for file in files_of(path))
        restore()
    tracemalloc.stop()


def test_the_corruptions_change_the_store(tmp_path):
    """The control of this file: what is called damaged is damaged, and the fixtures are not."""
    path = written(tmp_path, "traker/single")
    file = path / "0" / "grads.mmap"
    content = file.read_bytes()
    for kind in CONTENTS:
        changed = kind(content, np.random.default_rng(4))
        assert changed != content or kind is retyped
