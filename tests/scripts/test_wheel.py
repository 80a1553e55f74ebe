"""The wheel, as a user without this repository gets it: built, read, and installed into an empty environment."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from zipfile import ZipFile

import pytest
from support.source import ROOT

import trak_theory
from trak_theory.errors import EXTRAS

pytestmark = pytest.mark.slow
CLEAN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=CLEAN, **options)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "trak_theory", source / "trak_theory", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code, said = run(sys.executable, "-m", "build", "--outdir", str(out), str(source))  # the wheel from the sdist
    assert code == 0, said
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def empty(wheel, tmp_path_factory):
    """The interpreter of an environment that holds the wheel and its base dependencies only."""
    home = tmp_path_factory.mktemp("home")
    assert run(sys.executable, "-m", "venv", "--without-pip", str(home))[0] == 0
    python = home / "bin" / "python"
    constraints = str(ROOT / "constraints.txt")
    code, said = run(sys.executable, "-m", "pip", "--python", str(python), "install", "-c", constraints, str(wheel))
    assert code == 0, said
    return python


def test_the_wheel_holds_the_library_alone(wheel):
    names = ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"trak_theory"}
    assert "trak_theory/py.typed" in names
    assert "trak_theory/_former_names/bounds.py" in names


def test_the_sdist_holds_the_library_and_its_licence(wheel):
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "trak_theory/auditing/reporting/report.html.jinja"} <= names
    assert archive.name == f"trak_theory-{trak_theory.__version__}.tar.gz"


def test_it_imports_without_a_warning_and_without_an_extra(empty, tmp_path):
    code = "import sys, trak_theory, trak_theory.bounds, trak_theory.trajectory; print(*sys.modules)"
    status, said = run(empty, "-W", "error", "-c", code, cwd=tmp_path)
    assert status == 0, said
    assert not set(EXTRAS) & set(said.split())


def test_the_command_says_its_version(empty, tmp_path):
    assert run(empty.with_name("trak-theory"), "--version", cwd=tmp_path) == (
        0,
        f"trak-theory {trak_theory.__version__}\n",
    )


@pytest.mark.parametrize(("arguments", "extra"), [(["claims"], "derivations"), (["claims", "--latex"], "derivations")])
def test_a_command_names_its_missing_extra(empty, tmp_path, arguments, extra):
    status, said = run(empty.with_name("trak-theory"), *arguments, cwd=tmp_path)
    assert status == 2
    assert re.fullmatch(rf"error: .*pip install 'trak-theory\[{extra}\]'\n", said), said


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import trak_theory.torch_bridge", "torch"),
        ("import trak_theory.symbolic.chain", "derivations"),
        ("import trak_theory as t; t.plan_a_priori(n=50, p=20, ridge=1.0, budget=40).plot()", "audit"),
    ],
)
def test_an_entrance_names_its_missing_extra(empty, tmp_path, code, extra):
    status, said = run(empty, "-c", code, cwd=tmp_path)
    assert status == 1
    assert said.splitlines()[-1].endswith(f"pip install 'trak-theory[{extra}]'"), said
