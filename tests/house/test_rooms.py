"""The house: rooms that depend downwards, modules that are what their names say, folders one can take in."""

from importlib import import_module
from types import ModuleType

import pytest
from support.source import PACKAGES, ROOT, circles, files, imported, modules

import trak_theory

LIBRARY = sorted(name for name in modules() if name.startswith("trak_theory"))
ABOVE = {"trak_theory": ("simulations", "paper_figures"), "simulations": ("paper_figures",), "paper_figures": ()}


def test_no_circle_of_imports():
    assert circles({name: imported(name) for name in modules()}) == []


def test_a_circle_would_be_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_circle_of_rooms():
    """The folders of the library, each as one node: what one uses of another, the other never uses of it."""
    rooms = {name: _room(name) for name in LIBRARY if name != "trak_theory"}
    edges = {room: set() for room in rooms.values()}
    for name, room in rooms.items():
        edges[room] |= {rooms[one] for one in imported(name) if one in rooms} - {room}
    assert circles(edges) == []


def _room(name):
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_upwards(package):
    upwards = {
        (name, one)
        for name in modules()
        if name.split(".")[0] == package
        for one in imported(name)
        if one.split(".")[0] in ABOVE[package]
    }
    assert upwards == set()


@pytest.mark.parametrize("name", LIBRARY)
def test_the_dotted_name_of_a_module_gives_the_module(name):
    """`import trak_theory.a.b as m` binds an attribute of `trak_theory.a`, which no function may hide."""
    pytest.importorskip("torch") if "torch_bridge" in name else None
    import_module(name)
    found = trak_theory
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert isinstance(found, ModuleType)


@pytest.mark.parametrize("name", ["bounds", "kernel_bounds", "from_sklearn", "losses"])
def test_the_names_that_modules_had_before_still_import(name):
    assert import_module(f"trak_theory.{name}").__all__


def test_the_root_of_the_library_has_at_most_twenty_entries():
    entries = [path.name for path in (ROOT / "trak_theory").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20, sorted(entries)


def test_no_folder_holds_more_than_fourteen_files():
    folders = {path.parent for path in files("trak_theory", "simulations", "paper_figures", "tests")}
    crowded = {str(folder): count for folder in folders if (count := len(list(folder.glob("*.py")))) > 14}
    assert crowded == {}
