"""Headers of .safetensors files that do not describe their file, and the format's own writer as reference."""

import json

import numpy as np
import pytest

from trak_theory.auditing.stores.safetensors import read_safetensors
from trak_theory.errors import StoreError

PAYLOAD = np.arange(12, dtype=np.float32).tobytes()


def written(path, header, payload=PAYLOAD):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + payload)
    return path


def tensor(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_tensors_are_those_that_the_library_wrote(tmp_path):
    library = pytest.importorskip("safetensors.numpy", reason="safetensors is an optional extra")
    rng = np.random.default_rng(0)
    saved = {name: rng.standard_normal((3, 5)).astype(dtype) for name, dtype in (("a", "f2"), ("b", "f4"), ("c", "f8"))}
    library.save_file(saved, tmp_path / "x", metadata={"key": "value"})
    found, metadata = read_safetensors(tmp_path / "x")
    assert metadata == {"key": "value"}
    assert set(found) == set(saved)
    for name, array in saved.items():
        np.testing.assert_array_equal(found[name], array)
        assert isinstance(found[name], np.memmap)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": tensor([12], 0, 44)}, "44 bytes|48 bytes of tensors, expected 44"),
        ({"a": tensor([12], 4, 52)}, "expected one that begins at 0"),
        ({"a": tensor([6], 0, 24), "b": tensor([6], 20, 44)}, "expected one that begins at 24"),
        ({"a": tensor([6], 0, 24), "b": tensor([5], 28, 48)}, "expected one that begins at 24"),
        ({"a": tensor([13], 0, 48)}, "48 bytes, expected 52 for"),
        ({"a": tensor([12], 0, 48, "F64")}, "48 bytes, expected 96 for"),
        ({"a": tensor([12], 0, 48, "I32")}, "numbers of type 'I32'"),
        ({"a": tensor([12], 0, 48.0)}, "should be of type int"),
        ({"a": tensor([-12], 0, 48)}, "should be at least 1"),
        ({"a": [1, 2]}, "'data_offsets' should be of type list"),
        ([], "expected a JSON object as header"),
        (b"{'a", "cannot be read"),
    ],
)
def test_a_header_that_is_not_of_its_file_is_refused(header, message, tmp_path):
    with pytest.raises(StoreError, match=message):
        read_safetensors(written(tmp_path / "x", header))


@pytest.mark.parametrize("payload", [PAYLOAD[:-4], PAYLOAD + bytes(4)])
def test_a_file_of_another_length_is_refused(payload, tmp_path):
    with pytest.raises(StoreError, match=r"(44|52) bytes of tensors, expected 48"):
        read_safetensors(written(tmp_path / "x", {"a": tensor([12], 0, 48)}, payload))


def test_a_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "x").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(StoreError, match="truncated or damaged"):
        read_safetensors(tmp_path / "x")
