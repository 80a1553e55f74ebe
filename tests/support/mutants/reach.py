"""Which fast tests run which line of the package: python reach.py > {"seconds", "lines"}.

The tests are those of tests/controls/mutants.toml. What a test module computes while it is imported is named by the
module. A test that is still running after a while is left alone: none that a mutant should meet first.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).parents[3]
FEW, ALL = 5, 200  # examples of a property here, and in the fast suite
LONG = 1.5  # seconds of CPU
OWN = (str(ROOT / "trak_theory"), str(ROOT / "tests"))


class Contexts:
    """Names each test to coverage as the context of the lines that it runs, and keeps its seconds."""

    def __init__(self, measured):
        self.measured, self.seconds, self.properties, self.failed = measured, defaultdict(float), set(), []

    def pytest_collection(self):
        from hypothesis import settings  # which pytest wants to load itself

        settings.register_profile("few", settings(), max_examples=FEW)
        settings.load_profile("few")

    def pytest_collectstart(self, collector):
        self.measured.switch_context(collector.nodeid)

    def pytest_collection_finish(self, session):
        self.properties = {item.nodeid for item in session.items if hasattr(item.obj, "hypothesis")}

    def pytest_runtest_logstart(self, nodeid):
        self.measured.switch_context(nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self):
        signal.signal(signal.SIGVTALRM, _too_long)
        signal.setitimer(signal.ITIMER_VIRTUAL, LONG)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def pytest_runtest_logreport(self, report):
        examples = ALL / FEW if report.nodeid in self.properties else 1
        self.seconds[report.nodeid] += report.duration * examples if report.passed else math.inf
        if report.failed:
            self.failed.append(report.nodeid)


def _too_long(_, frame):
    """Ends the test where package or test is at work, else a moment later: a library might hold a lock, or a callback
    swallow what is raised.
    """
    if frame.f_code.co_filename.startswith(OWN) and frame.f_code.co_filename != __file__:
        pytest.skip(f"more than {LONG} seconds")
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)


def _fail_whole(tests):
    """Whether tests fail where none was ended before them, which may leave a shared random generator half used."""
    return bool(tests) and subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], stdout=sys.stderr).returncode


def reach(tests):
    """Seconds of each test, and {file of the package: {line: tests and test modules}}."""
    measured = coverage.Coverage(data_file=None, source=[str(ROOT / "trak_theory")], config_file=False)
    contexts = Contexts(measured)
    measured.start()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", *tests], plugins=[contexts])
    measured.stop()
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or _fail_whole(contexts.failed):
        sys.exit(f"the tests fail without a mutant: exit status {code}")
    data = measured.get_data()
    files = {str(Path(file).relative_to(ROOT)): data.contexts_by_lineno(file) for file in data.measured_files()}
    return {"seconds": contexts.seconds, "lines": files}


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    answer, sys.stdout = sys.stdout, sys.stderr
    json.dump(reach(tomllib.loads(Path("tests/controls/mutants.toml").read_text())["tests"]), answer)
