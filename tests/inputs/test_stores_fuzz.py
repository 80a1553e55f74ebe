"""Corrupted stores: each reads to its own bytes, or is refused in one line, and never with another exception."""

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import settings
from support.corruptions import (
    CONTENTS,
    KINDS,
    MISTAKES,
    PACKAGES,
    bits_flipped,
    corrupt,
    files_of,
    garbage,
    random_bytes,
    retyped,
    truncated,
    written,
)

from trak_theory.auditing.stores import Store, recognise
from trak_theory.errors import StoreError

# Of each kind of corruption and package, 11 × 6: 330 stores, and 2,046 in the nightly profile.
CASES = max(5, 1 + settings.default.max_examples // 66)
MEMORY = 3_000_000  # bytes beyond twice the store: parsers and blocks of a small store


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
        assert refused >= max(1, CASES // 4)  # a check that accepts everything would not be one


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
