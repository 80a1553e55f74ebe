"""The runner and its command line: interrupted, failing, on any number and kind of workers."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from support import toy_study
from typer.testing import CliRunner

import simulations.__main__ as command_line
from simulations.engine import progress
from simulations.engine.runner import run
from simulations.engine.store import Store
from simulations.engine.study import Cell, Study, UnknownStudyError, all_studies, find_study, grid
from simulations.workloads.data import REAL, gaussian_problem, real_problem
from trak_theory import GLM

TOY = Path(toy_study.__file__)


def rows(out, study=toy_study.STUDY):
    """The loaded rows as bytes: floats as their shortest exact digits."""
    return Store(Path(out)).load(study).to_csv(index=False).encode()


def start(out, *options, **environment):
    """The toy's command line in a process (and process group) of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(TOY), "run", "toy", "--out", str(out), *options],
        # Two threads asked for: the runner must not listen.
        env={
            **os.environ,
            "TOY_LOG": str(Path(out).with_suffix(".log")),
            "OMP_NUM_THREADS": "2",
            "OPENBLAS_NUM_THREADS": "2",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # As from a terminal, also where the tests run in the background with the keyboard's interrupt ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def starts(out):
    """[(process, index)] of every cell that was started, in order."""
    log = Path(out).with_suffix(".log")
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


def stored(out):
    keys = {Cell("toy", params, 0).key: params["index"] for params in toy_study.GRID}
    return {keys[path.stem] for path in Path(out).glob("toy/*.parquet")}


def wait_until(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def is_alive(process):
    try:
        os.kill(process, 0)
        # An orphan that nobody reaps is dead all the same.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not os.path.isdir("/proc")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("toy") / "uninterrupted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_LOG", str(out.with_suffix(".log")))
        (outcome,) = run([toy_study.STUDY], out=out)
    assert (outcome.computed, outcome.kept, outcome.failures) == (12, 0, [])
    frame = Store(out).load(toy_study.STUDY)
    assert set(frame["threads"]) == {1}
    assert set(frame["threads_of_later_libraries"]) == {"1"}
    return rows(out)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_in_the_middle_and_restarted_gives_the_same_bytes(tmp_path, uninterrupted, jobs):
    out = tmp_path / "killed"
    process = start(out, "--jobs", str(jobs), TOY_SECONDS="0.5")
    wait_until(lambda: len(stored(out)) >= 3)
    process.kill()  # SIGKILL, to the main process only
    process.communicate(timeout=20)  # its workers end with it: they hold the other end of its output
    wait_until(lambda: not any(is_alive(worker) for worker, _ in starts(out)), seconds=10)
    before, kept = starts(out), stored(out)
    assert 3 <= len(kept) < 12
    lost = {index for _, index in before} - kept
    assert len(lost) <= jobs  # the running cells, and no others

    process = start(out, "--jobs", str(jobs))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert summary(output) == (12 - len(kept), len(kept), 0)
    assert rows(out) == uninterrupted
    counts = Counter(index for _, index in starts(out))
    assert set(counts) == set(range(12))
    assert {index for index, count in counts.items() if count > 1} == lost
    assert not list(out.glob("toy/*.tmp"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_from_the_keyboard_ends_all_at_once_and_keeps_what_is_done(tmp_path, jobs):
    out = tmp_path / "interrupted"
    process = start(out, "--jobs", str(jobs), TOY_SECONDS="0.5")
    wait_until(lambda: len(stored(out)) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "toy: interrupted; finished cells are kept" in output
    wait_until(lambda: not any(is_alive(worker) for worker, _ in starts(out)), seconds=10)
    assert 2 <= len(stored(out)) < 12
    assert not list(out.glob("toy/*.failed.json"))


def test_rows_do_not_depend_on_the_number_or_order_of_workers(tmp_path, uninterrupted, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    get_reusable_executor().shutdown()  # workers of an earlier test do not know of TOY_LOG
    backwards = dataclasses.replace(toy_study.STUDY, quick=toy_study.GRID[::-1])
    for jobs, study in ((2, toy_study.STUDY), (3, backwards)):
        run([study], jobs=jobs, out=tmp_path / str(jobs))
        assert rows(tmp_path / str(jobs)) == uninterrupted
    run([toy_study.STUDY], seed=1, out=tmp_path / "seed")
    assert rows(tmp_path / "seed") != uninterrupted


def test_cells_of_several_studies_share_the_workers_longest_first(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "both.log"))
    few = toy_study.GRID[:3]
    short = dataclasses.replace(toy_study.STUDY, quick=few, seconds=lambda params: 1.0 + params["index"])
    long = dataclasses.replace(short, name="other", quick=toy_study.GRID[3:5], seconds=300.0)
    said = []
    outcomes = run([short, long], out=tmp_path, announce=said.append)
    assert [outcome.computed for outcome in outcomes] == [3, 2]
    assert said == ["5 cells to compute, about 10 min on one core, 10 min with 1 at work"]
    assert [index for _, index in starts(tmp_path / "both")] == [3, 4, 2, 1, 0]
    run([short, long], out=tmp_path, jobs=2, announce=said.append)
    assert said[1] == "0 cells to compute, about 0 s on one core, 0 s with 2 at work"


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bytes_and_survives_a_killed_worker(tmp_path, uninterrupted, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "dask.log"))
    monkeypatch.setenv("TOY_SECONDS", "0.1")
    monkeypatch.setenv("PYTHONPATH", str(TOY.parent), prepend=os.pathsep)
    cluster = subprocess.Popen(
        [sys.executable, "-c", DASK_CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    address, victim = cluster.stdout.readline().split()
    victim = int(victim)
    out = tmp_path / "dask"
    process = start(out, "--dask", address)
    try:
        wait_until(lambda: stored(out) and victim in dict(starts(out)))
        os.kill(victim, signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
    finally:
        cluster.communicate("done\n", timeout=60)
    assert process.returncode == 0, output
    workers = {worker for worker, _ in starts(out)}
    assert len(workers) >= 2
    assert process.pid not in workers
    assert rows(out) == uninterrupted


@pytest.mark.slow
def test_a_worker_with_other_code_is_refused_before_the_first_cell(tmp_path, monkeypatch):
    """The cluster's processes see a copy of the study in which one number is another."""
    out, copy = tmp_path / "other", tmp_path / "copy"
    copy.mkdir()
    changed = TOY.read_text().replace("(120, 120)", "(120, 121)")
    assert changed != TOY.read_text()
    (copy / TOY.name).write_text(changed)
    monkeypatch.setenv("TOY_LOG", str(out.with_suffix(".log")))
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(copy), prepend=os.pathsep)
        cluster = subprocess.Popen(
            [sys.executable, "-c", DASK_CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    address, _ = cluster.stdout.readline().split()
    process = start(out, "--dask", address)
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        cluster.communicate("done\n", timeout=60)
    assert process.returncode == 1, output
    assert re.search(r"the worker tcp://\S+ has other code for toy_study: other source", output)
    assert not starts(out)
    assert not stored(out)


DASK_CLUSTER = """
from dask.distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, cluster.workers[0].pid, flush=True)
        input()
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The command line on the toy study, in this process: toy("run", …) → result with exit_code and output."""
    monkeypatch.setattr(command_line, "_studies", toy_study.studies)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "results.log"))
    return lambda *words: CliRunner().invoke(command_line.app, [*words, "--out", str(tmp_path / "results")])


def test_a_failing_cell_is_recorded_does_not_stop_the_rest_and_is_tried_again(tmp_path, toy, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "4")
    result = toy("run", "toy", "--jobs", "1")
    assert result.exit_code == 1
    assert summary(result.output) == (11, 0, 1)
    assert "failed: {'kind': 'only', 'index': 4}: ArithmeticError: cell 4 does not add up" in result.output
    (record,) = (tmp_path / "results" / "toy").glob("*.failed.json")
    assert str(record) in result.output
    assert '"index": 4' in record.read_text()
    assert "toy_study.py" in record.read_text()
    assert status(toy) == {"quick": (11, 0, 1, 0), "full": (11, 0, 1, 0)}

    monkeypatch.delenv("TOY_FAIL")
    result = toy("run", "toy", "--jobs", "1")
    assert result.exit_code == 0
    assert summary(result.output) == (1, 11, 0)
    assert not record.exists()
    assert status(toy) == {"quick": (12, 0, 0, 0), "full": (12, 0, 0, 0)}
    counts = Counter(index for _, index in starts(tmp_path / "results"))
    assert counts == Counter({index: 1 + (index == 4) for index in range(12)})


def test_a_corrupt_file_is_computed_again(tmp_path, toy, uninterrupted):
    assert status(toy)["quick"] == (0, 0, 0, 12)
    assert toy("run", "toy", "--jobs", "1").exit_code == 0
    first, second, *_ = sorted((tmp_path / "results" / "toy").glob("*.parquet"))
    intact = first.read_bytes()
    first.write_bytes(intact[:-20])
    second.write_bytes(b"")
    assert status(toy)["quick"] == (10, 0, 0, 2)
    result = toy("run", "toy", "--jobs", "1")
    assert summary(result.output) == (2, 10, 0)
    assert first.read_bytes() == intact
    assert rows(tmp_path / "results") == uninterrupted


def summary(output):
    """(computed, kept, failed) of the last line on the toy."""
    pattern = r"toy: (\d+) cells computed.*, (\d+) were there, (\d+) failed"
    return tuple(map(int, re.findall(pattern, output)[-1]))


def status(toy):
    """size → (fresh, stale, failed, missing)"""
    result = toy("status", "toy")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()[1:]]
    return {size: tuple(map(int, counts)) for _, size, *counts in lines}


def test_a_worker_that_dies_is_reported_and_nothing_finished_is_lost(tmp_path):
    out = tmp_path / "died"
    process = start(out, "--jobs", "2", TOY_DIE="6", TOY_SECONDS="0.05")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "a worker process was killed" in output
    assert "run it again to continue" in output
    assert not own_tracebacks(output), output
    assert stored(out)
    assert 6 not in stored(out)


def own_tracebacks(output):
    """All but those of the process that tracks joblib's semaphores and folders.

    A killed worker leaves some behind or takes them back twice; depending on who comes first, the tracker prints what
    it was told wrong, and cleans up all the same.
    """
    return [text for text in re.split(r"(?m)^(?=Traceback )", output)[1:] if "resource_tracker.py" not in text]


def test_tracebacks_are_told_from_those_of_the_tracker():
    tracker = (
        'Traceback (most recent call last):\n  File "/x/loky/backend/resource_tracker.py", line 1, in main\nKeyError\n'
    )
    ours = 'Traceback (most recent call last):\n  File "/x/simulations/engine/runner.py", line 1, in run\nValueError\n'
    assert own_tracebacks(f"toy: said\n{tracker}toy: said\n") == []
    assert own_tracebacks(f"{tracker}{ours}") == [ours]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_without_a_terminal_there_is_a_line_from_time_to_time(tmp_path, toy, monkeypatch, jobs):
    monkeypatch.setattr(progress, "EVERY", 0.1)
    monkeypatch.setenv("TOY_SECONDS", "0.1")
    lines = toy("run", "toy", "--jobs", jobs).output.splitlines()
    pattern = re.compile(r"toy: (\d+)/12 cells, \S+ (s|min|h) gone, about \S+ (s|min|h) left")
    found = [int(match[1]) for line in lines if (match := pattern.fullmatch(line))]
    assert found
    assert found == sorted(found)


def test_what_is_left_corrects_itself_study_by_study(monkeypatch):
    """Cells of `slow` take ten times what they say, those of `right` what they say: both are known after one each."""
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(progress, "time", clock)
    run = progress.Progress({"slow": [1.0] * 5, "right": [1.0] * 11, "unknown": [2.0]}, workers=2)
    assert run.remaining() == (5 + 11 + 2) / 2  # nothing finished: what the studies say
    run.finish("slow", 1.0, 10.0, failed=False)
    run.finish("right", 1.0, 1.0, failed=True)
    clock.monotonic = lambda: 40.0
    pace = 11.0 / 40.0  # seconds of work in a second of the clock
    left = 4 * 10.0 + 10 * 1.0 + 2.0 * (11.0 / 2.0)  # a study without a cell takes the scale of all
    assert run.remaining() == pytest.approx(left / pace)
    assert run.line() == "2/17 cells, 1 failed, 40 s gone, about 4 min left"


def test_list_names_every_study_with_its_line():
    result = CliRunner().invoke(command_line.app, ["list"])
    assert result.exit_code == 0
    for study in all_studies():
        assert f"{study.name}  ({len(study.quick)} cells quick, {len(study.full)} full)" in result.output
        assert study.summary in result.output
    assert "ladder" in [study.name for study in all_studies()]


def test_status_without_a_name_counts_every_study(tmp_path):
    result = CliRunner().invoke(command_line.app, ["status", "--out", str(tmp_path)])
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()[1:]]
    for study in all_studies():
        assert [study.name, "quick", "0", "0", "0", str(len(study.quick))] in lines
        assert [study.name, "full", "0", "0", "0", str(len(study.full))] in lines


def test_finding_a_study_loads_no_data_sets_and_no_plots():
    code = "import sys; from simulations.engine.study import find_study; find_study('ladder'); print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "statsmodels", "torch", "matplotlib", "pandas", "joblib"} & set(answer.stdout.split())


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["status", "--help"], ["list", "--help"]])
def test_help_says_what_each_command_does(words):
    result = CliRunner().invoke(command_line.app, words)
    assert result.exit_code == 0
    assert "Usage:" in result.output
    for command in ("list", "run", "status") if words == ["--help"] else ():
        assert command in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "laddr"], "unknown study 'laddr': choose one of"),
        (["status", "runner"], "unknown study 'runner': choose one of"),
        (["run", "ladder", "--jobs", "0"], "--jobs"),
        (["run", "ladder", "--seed", "-1"], "--seed"),
        (["run", "ladder", "--size", "huge"], "--size"),
    ],
)
def test_wrong_words_are_named(words, message):
    result = CliRunner().invoke(command_line.app, words)
    assert result.exit_code == 2
    assert message in result.output


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(command_line.app, ["run", "ladder", "--out", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert str(tmp_path / "file") in result.output


def test_a_run_needs_at_least_one_worker(tmp_path):
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        run([toy_study.STUDY], jobs=0, out=tmp_path)


def test_a_study_is_found_by_its_module():
    assert find_study("ladder").name == "ladder"
    for name in ("store", "benchmarks", "os.path", ""):
        with pytest.raises(UnknownStudyError, match="ladder"):
            find_study(name)


@pytest.mark.parametrize(
    ("cells", "error", "message"),
    [
        ([], ValueError, "the quick grid is empty"),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], ValueError, "twice"),
        ([{"a": np.float64(1.0)}], TypeError, "a = .* is a float64; parameters are plain"),
        ([{"a": [1]}], TypeError, "is a list"),
        ([{"a": float("nan")}], ValueError, "not JSON compliant"),
        ([{"seed": 1}], ValueError, "cannot be named 'seed'"),
    ],
)
def test_a_study_with_a_bad_grid_is_refused(cells, error, message):
    with pytest.raises(error, match=message):
        Study("toy", "A toy.", toy_study.run, cells, toy_study.GRID)


def test_what_a_cell_is_decides_its_name_and_its_numbers():
    cell = Cell("toy", {"a": 1, "b": "x"}, 0)
    same = Cell("toy", {"b": "x", "a": 1}, 0)
    others = [
        Cell("yot", {"a": 1, "b": "x"}, 0),
        Cell("toy", {"a": 1.0, "b": "x"}, 0),
        Cell("toy", {"a": True, "b": "x"}, 0),
        Cell("toy", {"a": "1", "b": "x"}, 0),
        Cell("toy", {"a": 1, "b": "x"}, 1),
    ]
    assert same.key == cell.key
    assert same.rng().integers(2**60) == cell.rng().integers(2**60)
    assert len({cell.key, *(other.key for other in others)}) == 6
    assert len({int(one.rng().integers(2**60)) for one in (cell, *others)}) == 6


def test_grid_is_the_product_of_its_axes():
    assert grid(a=[1, 2], b=range(2)) == [{"a": 1, "b": 0}, {"a": 1, "b": 1}, {"a": 2, "b": 0}, {"a": 2, "b": 1}]


@pytest.mark.parametrize(
    ("name", "points", "loss"),
    [
        ("breast_cancer", 569, "logistic"),
        ("digits_3_vs_8", 357, "logistic"),
        ("diabetes", 442, "squared"),
        ("randhie", 20190, "poisson"),
    ],
)
def test_real_problems_are_standardised_on_their_training_points(name, points, loss):
    problem = real_problem(name, queries=40, ridge=2.5, rng=np.random.default_rng(1))
    features, queries = problem.features, problem.queries
    assert problem.loss == loss
    assert (len(features), len(queries)) == (points - 40, 40)
    assert np.all(features[:, 0] == 1)
    assert np.all(queries[:, 0] == 1)
    # Rounding of a mean of n standardised values.
    np.testing.assert_allclose(features[:, 1:].mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(features[:, 1:].std(0), 1, rtol=1e-10)
    assert problem.ridge.tolist() == [0.0] + [2.5] * (features.shape[1] - 1)
    assert isinstance(problem.glm(), GLM)  # checks the targets' domain
    # The split takes every point once: undo the scaling and compare with the raw table.
    raw, targets, _ = REAL[name]()
    together = np.vstack([features, queries])[:, 1:]
    varies = raw[:, raw.std(0) > 0]
    if together.shape[1] == varies.shape[1]:
        correlation = np.corrcoef(np.sort(together, 0).T, np.sort(varies, 0).T)
        np.testing.assert_allclose(np.diag(correlation, together.shape[1]), 1, atol=1e-9)
    if loss != "squared":
        assert set(problem.targets) <= set(targets)


def test_too_many_queries_are_refused():
    with pytest.raises(ValueError, match=r"diabetes has 442 points: queries must lie in \[1, 440\], got 441"):
        real_problem("diabetes", queries=441, ridge=1.0, rng=np.random.default_rng(0))


@pytest.mark.parametrize("loss", ["squared", "logistic", "poisson", "huber"])
def test_gaussian_problems_have_the_spectrum_and_the_signal_that_they_name(loss):
    n, p, signal, decay = 20_000, 4, 1.5, 0.7
    problem = gaussian_problem(
        n=n, p=p, queries=3, loss=loss, ridge=0.0, signal=signal, decay=decay, rng=np.random.default_rng(3)
    )
    assert problem.queries.shape == (3, p)
    spectrum = np.array([1, 2, 3, 4]) ** -decay
    spectrum *= 4 / spectrum.sum()
    # A sample variance of normal data has relative standard deviation √(2/n).
    assert np.all(np.abs((problem.features**2).mean(0) / spectrum - 1) / np.sqrt(2 / n) < 4)
    # The fitted signal √(θ̂ᵀ diag(s) θ̂) has the sandwich variance, by the delta method.
    fit = problem.glm().fit()
    found = np.sqrt(spectrum @ fit.coef**2)
    lin = fit.linearize((spectrum * fit.coef / found)[None])
    se = np.sqrt(np.sum((lin.residual[:, None] * lin.cross) ** 2))
    assert abs(found - signal) / se < 4
    assert se < 0.05 * signal
