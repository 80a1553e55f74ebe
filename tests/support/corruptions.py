"""Stores of every package, and eleven ways to damage their files."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parents[1] / "fixtures" / "stores"
PACKAGES = {
    "traker": ("traker/single", "traker/ensemble", "traker/half"),
    "bergson": ("bergson/trak", "bergson/trak/scores", "bergson/score"),
    "kronfluence": ("kronfluence/digits/scores_all", "kronfluence/digits/scores_modules"),
    "dattri": ("dattri/logra",),
    "logix": ("logix/full", "logix/lora"),
    "own": ("npz", "compressed", "folder"),
}
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
