"""Corrupted stores through the command: a verdict, or exit status 2 with one clear line, and never a traceback."""

import traceback
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.corruptions import KINDS, PACKAGES, corrupt, files_of, half_written, written
from typer.testing import CliRunner

import trak_theory
from trak_theory.auditing.reporting import report
from trak_theory.cli.main import app

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
STORES = [name for names in PACKAGES.values() for name in names]
OURS = str(Path(trak_theory.__file__).parent)
DRAWN = 10  # one page in so many is drawn, which takes longer than the audit
FULL = ["traker/single", "bergson/trak", "npz"]  # which give a verdict when whole


def command(path, out):
    """The options that let a whole store of any package pass."""
    options = ["--projected"] if path.suffix == ".npz" or path.name == "folder" else []
    return CliRunner().invoke(app, ["audit", str(path), "--out", str(out), *options])


def refusal(path, out):
    """None for a verdict; otherwise the line of the refusal, which this project worded itself."""
    done = command(path, out)
    assert isinstance(done.exception, SystemExit | None), "".join(traceback.format_exception(done.exception))
    if done.exit_code in (0, 3):
        return None
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert done.output.count("\n") == 1
    assert done.output.startswith("error: ")
    assert len(done.output) < 1000
    deliberate(done.exception.__context__.__cause__)
    return done.output


def deliberate(error):
    """Raised in this package, not inside of numpy on numbers that nobody had checked."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    told = "".join(traceback.format_exception(error))
    assert where.filename.startswith(OURS) or isinstance(error, OSError), told


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Working copies, damaged and restored again and again."""
    folder = tmp_path_factory.mktemp("stores")
    return {name: written(folder, name) for name in STORES}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(STORES),
    kind=st.sampled_from(KINDS),
    which=st.integers(0, 99),
    seed=st.integers(0, 2**32 - 1),
)
@example(name="traker/ensemble", kind=half_written, which=82, seed=2)  # a projection is singular without a ridge
@example(name="folder", kind=half_written, which=1, seed=19)  # one number above 0 is left, and its square is none
@example(name="folder", kind=half_written, which=2, seed=22)
@example(name="folder", kind=half_written, which=3, seed=32)
def test_a_corrupted_store_gets_a_verdict_or_one_line(stores, tmp_path_factory, name, kind, which, seed):
    path, rng = stores[name], np.random.default_rng(seed)
    files = files_of(path)
    restore = corrupt(kind, files[which % len(files)], files, rng)
    with pytest.MonkeyPatch.context() as patch:
        if seed % DRAWN:
            patch.setattr(report, "page_of", lambda audit, made: "")
        try:
            refusal(path, tmp_path_factory.getbasetemp() / "report")
        finally:
            restore()


@pytest.mark.parametrize("name", FULL)
def test_control_the_whole_stores_get_a_verdict(name, stores, tmp_path):
    assert refusal(stores[name], tmp_path / "report") is None


@pytest.mark.parametrize("name", [name for name in STORES if name not in (*FULL, "traker/ensemble", "traker/half")])
def test_what_a_store_lacks_is_said(name, stores, tmp_path):
    told = refusal(stores[name], tmp_path / "report")
    if name in ("folder", "compressed"):
        assert told is None
    else:
        assert any(words in told for words in ("scores only", "no query gradients", "modules has")), told
