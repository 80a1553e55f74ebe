"""features.npz and folders of .npy: what is read, and what is refused by name."""

import zipfile

import numpy as np
import pytest

from trak_theory.auditing.stores import recognise
from trak_theory.errors import StoreError

N, K, Q = 20, 6, 3


def arrays(*, members=None, **others):
    rng = np.random.default_rng(0)
    lead = () if members is None else (members,)
    found = {
        "features": rng.standard_normal((*lead, N, K)),
        "queries": rng.standard_normal((*lead, Q, K)),
        "residual": -rng.random((*lead, N)),
        "scores": rng.standard_normal((N, Q)),
    }
    return {**found, **others}


def saved(folder, form, **content):
    if form == "folder":
        folder.mkdir(exist_ok=True)
        for name, array in content.items():
            np.save(folder / f"{name}.npy", array)
        return folder
    path = folder.with_suffix(".npz")
    (np.savez if form == "stored" else np.savez_compressed)(path, **content)
    return path


@pytest.mark.parametrize("form", ["folder", "stored", "compressed"])
def test_what_was_saved_is_read(form, tmp_path):
    content = arrays(curvature=np.full(N, 0.1), learning_rates=np.full(5, 0.3))
    store = recognise(saved(tmp_path / "store", form, **content))
    for name, array in content.items():
        np.testing.assert_array_equal(getattr(store, name), array)
    assert isinstance(store.features, np.memmap) is (form != "compressed")
    assert (store.package, store.ensemble, store.projected, store.scale()) == ("trak-theory", 1, None, 1.0)


def test_an_ensemble_has_one_leading_axis(tmp_path):
    content = arrays(members=2)
    store = recognise(saved(tmp_path / "store", "stored", **content))
    assert store.ensemble == 2
    np.testing.assert_array_equal(store.members[1].features, content["features"][1])
    np.testing.assert_allclose(store.residual, content["residual"].mean(0))


def test_features_are_projected_where_there_are_more_parameters_than_columns(tmp_path):
    store = recognise(saved(tmp_path / "store", "folder", **arrays(parameters=1000)))
    assert (store.projected, store.parameters) == (True, 1000)
    assert "parameters" not in store.missing


@pytest.mark.parametrize("position", [600, 500_000])
def test_damaged_bytes_are_found_by_their_checksum(position, tmp_path):
    """Also far behind what is read for the header: the array itself stays on disk."""
    rng = np.random.default_rng(0)
    large = {"features": rng.standard_normal((10_000, K)), "residual": -rng.random(10_000)}
    path = saved(tmp_path / "store", "stored", **large, queries=rng.standard_normal((Q, K)))
    assert recognise(path).n == 10_000
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="Bad CRC-32"):
        recognise(path)


def test_a_small_file_does_not_fill_the_memory(tmp_path):
    path = saved(tmp_path / "store", "compressed", **arrays(scores=np.zeros((N, 10**5))))
    with pytest.raises(StoreError, match="would expand to"):
        recognise(path)


def test_a_shape_beyond_the_file_is_refused_before_anything_is_allocated(tmp_path):
    path = saved(tmp_path / "store", "folder", **arrays())
    header = (path / "features.npy").read_bytes().replace(b"(20, 6)", b"(20000000000, 6)", 1)
    (path / "features.npy").write_bytes(header)
    with pytest.raises(StoreError, match=r"bytes, expected .* truncated or half-written"):
        recognise(path)


def test_bytes_behind_the_last_number_are_refused(tmp_path):
    path = saved(tmp_path / "store", "folder", **arrays())
    with (path / "features.npy").open("ab") as file:
        file.write(bytes(8))
    with pytest.raises(StoreError, match=r"1096 bytes, expected 1088 for \(20, 6\) of float64: bytes too many"):
        recognise(path)


@pytest.mark.parametrize(
    ("factor", "message"),
    [(1e150, "at most 1e[+]40 are read: rescale"), (1e-200, "at least 1e-40 is needed"), (0.0, "every entry is zero")],
)
def test_features_whose_powers_are_no_numbers_are_refused(factor, message, tmp_path):
    content = arrays()
    path = saved(tmp_path / "store", "folder", **{**content, "features": content["features"] * factor})
    with pytest.raises(StoreError, match=message):
        recognise(path)


@pytest.mark.parametrize("name", ["queries", "residual", "curvature", "scores"])
def test_what_is_left_of_a_half_written_file_may_have_no_square(name, tmp_path):
    content = arrays(curvature=np.full(N, 0.1))
    content[name] = np.where(np.arange(content[name].size).reshape(content[name].shape) == 0, 1e-310, 0.0)
    path = saved(tmp_path / "store", "folder", **content)
    with pytest.raises(StoreError, match=f"{name}.*: no entry exceeds 1e-310, at least 1e-40 is needed: rescale"):
        recognise(path)


@pytest.mark.parametrize("name", ["features", "queries", "scores"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_named_with_its_row(name, bad, tmp_path):
    content = arrays()
    content[name][2, 1] = bad
    with pytest.raises(StoreError, match=rf"{name}.*: NaN or inf, first in row 2 of {len(content[name])}"):
        recognise(saved(tmp_path / "store", "folder", **content))


def test_one_query_without_gradient_is_named_and_not_refused(tmp_path):
    content = arrays()
    content["queries"][1] = 0
    store = recognise(saved(tmp_path / "store", "folder", **content))
    assert any("1 of 3 rows are zero, the first is row 1" in note for note in store.notes)


def test_a_row_out_of_all_proportion_is_named(tmp_path):
    content = arrays()
    content["features"][7] *= 1e9
    store = recognise(saved(tmp_path / "store", "folder", **content))
    assert any("row 7 has norm" in note for note in store.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": np.ones((Q, K + 1))}, "do not belong to features"),
        ({"queries": np.ones((2, Q, K))}, r"expected \(n, p\) and \(q, p\)"),
        ({"residual": np.ones(N + 1)}, r"shape \(21,\), expected \(20,\)"),
        ({"scores": np.ones((Q, N))}, r"expected \(n, q\) = \(20, 3\)"),
        ({"curvature": -np.ones(N)}, "must be ≥ 0"),
        ({"parameters": np.array(2)}, "expected one integer of at least 6"),
        ({"features": np.array([["a"] * K] * N)}, "expected real numbers"),
        ({"residuals": np.ones(N)}, r"unknown arrays \['residuals'\]"),
    ],
)
@pytest.mark.parametrize("form", ["folder", "stored"])
def test_a_wrong_array_is_refused_by_name(change, message, form, tmp_path):
    path = saved(tmp_path / "store", form, **arrays(**change))
    with pytest.raises(StoreError, match=message):
        recognise(path)


def test_missing_arrays_are_named(tmp_path):
    path = saved(tmp_path / "store", "folder", features=np.ones((3, 2)))
    with pytest.raises(StoreError, match=r"lacks queries.npy, residual.npy"):
        recognise(path)


def test_an_array_that_is_there_twice_is_refused(tmp_path):
    path = saved(tmp_path / "store", "stored", **arrays())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("features.npy", b"another")
    with pytest.raises(StoreError, match="holds an array twice"):
        recognise(path)


@pytest.mark.parametrize("name", ["scores.pt", "batch_000000.meta", "influence.pkl"])
def test_pickles_are_refused_by_name(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n.")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(StoreError, match=rf"holds pickles \({name}"):
            recognise(path)


def test_two_stores_in_one_folder_are_told_apart_by_the_user(tmp_path):
    path = saved(tmp_path / "store", "folder", **arrays())
    (path / "batch_metadata.json").write_text("{}")
    with pytest.raises(StoreError, match="looks like a store of dattri and of trak-theory: give the folder of one"):
        recognise(path)


def test_what_was_looked_for_is_listed(tmp_path):
    with pytest.raises(StoreError, match=r"is no store of a known package; looked for traker: .*features.npy"):
        recognise(tmp_path)
    with pytest.raises(StoreError, match="no such file or folder"):
        recognise(tmp_path / "none")
