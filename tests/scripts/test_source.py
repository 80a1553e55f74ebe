"""The digest of a study's source: what changes it, what does not, and that nothing a study runs is left out of it."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from support import toy_study
from typer.testing import CliRunner

import paper_figures.__main__ as figures
import simulations.__main__ as command_line
from simulations.engine import source, syntax
from simulations.engine.reach import Reach
from simulations.engine.source import Code, OtherCodeError, check_unchanged, code_of
from simulations.engine.study import all_studies, find_study

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder that modules of the project are read from, empty at first: scratch.write(name, text), .read(name)."""
    folder = Scratch(tmp_path / "scratch")
    monkeypatch.setattr(syntax, "_roots", lambda package: [folder.root / package])
    folder.forget()
    yield folder
    monkeypatch.undo()
    folder.forget()


class Scratch:
    def __init__(self, root):
        self.root = root

    def forget(self):
        syntax.forget_sources()
        source._code.cache_clear()

    def copy_project(self):
        for package in syntax.PROJECT:
            shutil.copytree(ROOT / package, self.root / package, ignore=shutil.ignore_patterns("__pycache__"))

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
        self.forget()

    def edit(self, path, before, after):
        text = (self.root / path).read_text()
        assert text.count(before) == 1, f"{path} has changed: write this edit anew"
        self.write(path, text.replace(before, after))


# Every module of a small library: a study reaches `used` in each of these ways.
LIBRARY = {
    "simulations/__init__.py": "",
    "simulations/engine/study.py": "class Cell:\n    pass\n",
    "trak_theory/__init__.py": "from trak_theory.inner import exported\nfrom trak_theory.other import unrelated\n",
    "trak_theory/inner.py": "def exported():\n    return helper() + SCALE\n\ndef helper():\n    return 1\n\n"
    "def spare():\n    return 2\n\nSCALE = 3\n",
    "trak_theory/other.py": "def unrelated():\n    return 4\n",
    "trak_theory/lazy.py": "def late():\n    return 5\n",
    "trak_theory/named.py": "VALUE = 6\n",
    "trak_theory/room/__init__.py": "import warnings\nwarnings.simplefilter('ignore')\n",
    "trak_theory/room/deep.py": "class Base:\n    def size(self):\n        return 7\n\ndef beside():\n    return 8\n",
    "trak_theory/registry.py": "TABLE = {}\n\ndef register(f):\n    TABLE[f.__name__] = f\n    return f\n\n"
    "@register\ndef enlisted():\n    return 9\n",
    "simulations/work.py": '''"""A study."""
import numpy.linalg as algebra
from importlib import import_module

from trak_theory import exported
from trak_theory.registry import TABLE
from trak_theory.room import deep


class Mine(deep.Base):
    """Mine."""


def run(params, rng):
    """Run."""
    from trak_theory import lazy

    value = import_module("trak_theory.named").VALUE
    return [exported(), lazy.late(), value, Mine().size(), TABLE["enlisted"](), algebra.norm([1.0]), params, kept]


QUICK = [params for params in (1, 2)]
LISTED = [(kept := number) for number in (7, 8)]
STUDY = (run, QUICK)
''',
}


def reached(name="run"):
    found = Reach()
    found.enter(syntax.module_of("simulations.work"), name)
    return found


def digest():
    return frozenset(reached().texts())


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("simulations/work.py", "[1.0]", "[2.0]"),
        ("simulations/work.py", "in (7, 8)]", "in (7, 9)]"),
        ("trak_theory/inner.py", "helper() +", "helper() -"),
        ("trak_theory/inner.py", "return 1", "return 1.0"),
        ("trak_theory/inner.py", "SCALE = 3", "SCALE = 4"),
        (
            "trak_theory/__init__.py",
            "from trak_theory.inner import exported",
            "from trak_theory.inner import spare as exported",
        ),
        ("trak_theory/lazy.py", "return 5", "return 6"),
        ("trak_theory/named.py", "VALUE = 6", "VALUE = 7"),
        ("trak_theory/room/deep.py", "return 7", "return 8"),
        ("trak_theory/room/__init__.py", "'ignore'", "'error'"),
        ("trak_theory/registry.py", "return 9", "return 10"),
        ("simulations/work.py", "import numpy.linalg as algebra", "import scipy.linalg as algebra"),
    ],
)
def test_what_a_study_can_reach_changes_its_digest(scratch, path, before, after):
    for name, text in LIBRARY.items():
        scratch.write(name, text)
    intact = digest()
    scratch.edit(path, before, after)
    assert digest() != intact


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("simulations/work.py", '"""Run."""', '"""Runs, says another docstring."""'),
        ("simulations/work.py", "def run(params, rng):", "def run(params: dict, rng: object) -> list[float]:  # typed"),
        ("simulations/work.py", "in (1, 2)]", "in (1, 2, 3)]"),
        ("trak_theory/inner.py", "return 2", "return 20"),
        ("trak_theory/inner.py", "def helper():", "\n\n\ndef helper(\n):"),
        ("trak_theory/other.py", "return 4", "return 40"),
        ("trak_theory/room/deep.py", "return 8", "return 80"),
    ],
)
def test_what_it_cannot_reach_and_what_is_only_said_does_not(scratch, path, before, after):
    for name, text in LIBRARY.items():
        scratch.write(name, text)
    intact = digest()
    scratch.edit(path, before, after)
    assert digest() == intact


def test_packages_are_those_that_the_reached_code_imports(scratch):
    for name, text in LIBRARY.items():
        scratch.write(name, text)
    assert reached().packages >= {"numpy"}
    assert "scipy" not in reached().packages
    assert reached("QUICK").packages == set()


def test_a_broken_formula_makes_the_studies_stale_that_use_it_and_no_others(scratch):
    training, fitted = {"optimizer_mismatch", "push_blowup", "torch_mlp"}, {"ladder", "rank_law"}
    scratch.copy_project()
    before = {name: code_of(find_study(name).run) for name in (*training, *fitted)}

    def stale():
        return {name for name, code in before.items() if code_of(find_study(name).run) != code}

    steps, waist = "trak_theory/trajectory/optimizer/steps.py", "trak_theory/attribution.py"
    scratch.edit(steps, "d = 1.0 / (root + self.eps)", "d = 1.0 + 0.0 * root")
    assert stale() == training
    scratch.edit(steps, "d = 1.0 + 0.0 * root", "d = 1.0 / (root + self.eps)")
    scratch.edit(waist, "-lin.residual[:, None] * lin.cross", "lin.residual[:, None] * lin.cross")
    assert stale() >= fitted


def test_status_names_the_stale_studies_and_figures_refuse_them(scratch, tmp_path, monkeypatch):
    scratch.copy_project()
    words = ["--out", str(tmp_path / "results")]
    runner = CliRunner()
    assert runner.invoke(command_line.app, ["run", "plan", "--jobs", "1", *words]).exit_code == 0
    fresh = runner.invoke(command_line.app, ["status", "plan", *words]).output
    assert fresh.splitlines()[1].split() == ["plan", "quick", "1", "0", "0", "0"]
    assert "stale:" not in fresh

    scratch.edit(
        "trak_theory/attribution.py", "-lin.residual[:, None] * lin.cross", "lin.residual[:, None] * lin.cross"
    )
    stale = runner.invoke(command_line.app, ["status", "plan", *words]).output
    assert stale.splitlines()[1].split() == ["plan", "quick", "0", "1", "0", "0"]
    assert "stale: plan; compute them again" in stale
    drawing = ["plan", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "figures"), "--jobs", "1"]
    refused = runner.invoke(figures.app, drawing)
    assert refused.exit_code == 1
    assert "plan: 1 of 1 cells are stale (other source)" in refused.output
    assert not (tmp_path / "figures").exists()
    assert runner.invoke(figures.app, [*drawing, "--keep-stale"]).exit_code == 0
    assert "Stale: plan: 1 of 1 cells are stale" in (tmp_path / "figures" / "plan.txt").read_text()

    kept = runner.invoke(command_line.app, ["run", "plan", "--jobs", "1", "--keep-stale", *words])
    assert "plan: 0 cells computed, 1 were there" in kept.output
    again = runner.invoke(command_line.app, ["run", "plan", "--jobs", "1", *words])
    assert "plan: 1 cells computed (1 of them again, for other code)" in again.output
    assert runner.invoke(figures.app, drawing).exit_code == 0


def test_code_that_changes_while_a_process_runs_is_noticed(scratch):
    scratch.copy_project()
    run = find_study("plan").run
    check_unchanged(run)
    scratch.root.joinpath("trak_theory/attribution.py").touch()
    check_unchanged(run)  # written to, and the same
    path = scratch.root / "trak_theory/attribution.py"
    path.write_text(path.read_text().replace("-lin.residual[:, None]", "lin.residual[:, None]"))
    with pytest.raises(OtherCodeError, match=r"attribution\.py changed while this process ran"):
        check_unchanged(run)


def test_differences_are_named():
    here = Code("a" * 16, {"numpy": "2.0", "torch": "2.6"})
    assert here.difference(here.label()) == ""
    assert here.difference({"source": "b" * 16, "packages": here.packages}) == "other source"
    other = {"source": "a" * 16, "packages": {"numpy": "2.1"}}
    assert here.difference(other) == "numpy 2.1, here 2.0; torch none, here 2.6"


def test_a_study_outside_the_project_is_read_from_where_it_is():
    assert code_of(toy_study.run).source != code_of(toy_study.studies).source
    assert any(path.name == "toy_study.py" for path, _ in code_of(toy_study.run).files)


CHEAP = ("plan", "push_blowup", "spectrum", "retrain_top")
REST = [study.name for study in all_studies() if study.extra is None and study.name not in CHEAP]


@pytest.mark.parametrize("name", [*CHEAP, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def test_every_function_that_runs_is_in_the_digest(name):
    """By watching the interpreter, not by reading source: functions of the project that the cheapest cell calls."""
    study = find_study(name)
    params = min(study.quick, key=study.duration)
    ran = functions_run(lambda: study.run(dict(params), np.random.default_rng(0)))
    found = Reach()
    found.enter(syntax.entry_module(study.run.__module__), "run")
    spans = {}
    for path, node in found.statements():
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        spans.setdefault(str(path), []).append((first, node.end_lineno))
    missed = {
        (path, function)
        for path, function, line in ran
        if not any(first <= line <= last for first, last in spans.get(path, []))
    }
    assert len(ran) > 5
    assert not missed


def functions_run(call):
    """{(file, name, first line)} of the project's functions that run, but for those that an import runs."""
    roots = tuple(str(ROOT / package) for package in syntax.PROJECT)
    ran, known = set(), set()

    def watch(frame, event, _):
        code = frame.f_code
        if event != "call" or code in known or not code.co_filename.startswith(roots):
            return
        if not importing(frame):
            known.add(code)
            ran.add((code.co_filename, code.co_qualname, code.co_firstlineno))

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return ran


def importing(frame):
    while frame is not None and frame.f_code is not functions_run.__code__:
        if frame.f_code.co_name == "<module>":
            return True
        frame = frame.f_back
    return False
