"""bfloat16 as the packages store it: the upper 16 bits of float32, named uint16, bfloat16 or BF16."""

import json
import shutil
from pathlib import Path

import numpy as np

from trak_theory.auditing.stores import recognise

STORES = Path(__file__).parents[1] / "fixtures" / "stores"


def upper_bits(file):
    """Halves a file of float32 in place; the numbers that are left, as float32."""
    bits = np.frombuffer(file.read_bytes(), np.uint32) >> 16
    file.write_bytes(bits.astype(np.uint16).tobytes())
    return (bits << 16).view(np.float32)


def rewritten(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_dattri_names_it_uint16(tmp_path):
    copy = shutil.copytree(STORES / "dattri" / "logra", tmp_path / "store")
    expected = []
    for file in sorted(copy.rglob("chunk_*.mmap")):
        expected.append(upper_bits(file))
        rewritten(file.with_name(f"{file.stem}_metadata.json"), storage_dtype="uint16")
    store = recognise(copy)
    np.testing.assert_array_equal(store.features, np.concatenate(expected[:2]).reshape(48, 18))
    assert store.dtype == "float32"


def test_bergson_names_it_bfloat16(tmp_path):
    copy = shutil.copytree(STORES / "bergson" / "trak" / "index", tmp_path / "index")
    expected = upper_bits(copy / "gradients.bin")
    rewritten(copy / "info.json", base_dtype="bfloat16")
    np.testing.assert_array_equal(recognise(copy).features, expected.reshape(48, 24))


def test_bergson_scores_in_it_have_another_layout(tmp_path):
    """Two bytes and a flag, four bytes from one query to the next."""
    copy = shutil.copytree(STORES / "bergson" / "trak" / "scores", tmp_path / "scores")
    scores = np.array(recognise(copy).scores)
    offsets = [4 * query + shift for query in range(4) for shift in (0, 2)]
    names = [f"{kind}_{query}" for query in range(4) for kind in ("score", "written")]
    rewritten(
        copy / "info.json",
        dtype={"names": names, "formats": ["bfloat16", "bool"] * 4, "offsets": offsets, "itemsize": 16},
    )
    fields = np.dtype({"names": names, "formats": ["u2", "?"] * 4, "offsets": offsets, "itemsize": 16})
    rows = np.zeros(48, fields)
    for query in range(4):
        rows[f"score_{query}"] = np.ascontiguousarray(scores[:, query]).view(np.uint32) >> 16
        rows[f"written_{query}"] = True
    (copy / "scores.bin").write_bytes(rows.tobytes())
    np.testing.assert_allclose(recognise(copy).scores, scores, rtol=2**-7)


def test_safetensors_names_it_bf16(tmp_path):
    copy = shutil.copytree(STORES / "kronfluence" / "digits" / "scores_all", tmp_path / "scores_all")
    file = copy / "pairwise_scores.safetensors"
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["all_modules"] = {"dtype": "BF16", "shape": [4, 48], "data_offsets": [0, 384]}
    text = json.dumps(header).encode()
    bits = np.frombuffer(content[end:], np.uint32) >> 16
    file.write_bytes(len(text).to_bytes(8, "little") + text + bits.astype(np.uint16).tobytes())
    expected = (bits << 16).view(np.float32).reshape(4, 48).T
    np.testing.assert_array_equal(recognise(copy).scores, expected)
