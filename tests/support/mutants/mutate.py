"""Run selected tests on mutated copies of the package: python mutate.py FOLDER < mutations.json > exit codes.

FOLDER holds the package, the tests and their settings. Every run is a fork of one process that has loaded the slow
libraries, and not the package: a mutation costs the time of its tests.
"""

import json
import os
import resource
import sys
from importlib import import_module
from pathlib import Path

import hypothesis
import pytest

for slow in ("hypothesis.strategies", "scipy.optimize", "scipy.stats", "sklearn.svm", "statsmodels.api", "sympy"):
    import_module(slow)

# pytest would load hypothesis itself, to rewrite its assertions, at every fork.
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"


class Unshrunk:
    """A property that fails is not asked for its smallest example."""

    def pytest_collection(self):
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile("unshrunk", hypothesis.settings(), phases=phases)
        hypothesis.settings.load_profile("unshrunk")


def run(selected, seconds=resource.RLIM_INFINITY):
    """The exit code of pytest on `selected`, in a fork that imports the package afresh; at most `seconds` of CPU."""
    child = os.fork()
    if child == 0:
        code = pytest.ExitCode.INTERNAL_ERROR
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            code = pytest.main([*OPTIONS, *selected], plugins=[Unshrunk()])
        finally:
            os._exit(int(code))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_mutated(mutation):
    path = Path("trak_theory", mutation["path"])
    source = path.read_text()
    if source.count(mutation["before"]) != 1:
        return f"{path} has changed: write this mutation anew"
    path.write_text(source.replace(mutation["before"], mutation["after"]))
    try:
        return run([mutation["seen_by"]])
    finally:
        path.write_text(source)


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    sys.path.insert(0, os.getcwd())
    sys.dont_write_bytecode = True
    mutations = json.load(sys.stdin)
    codes = {"unmutated": run(list(dict.fromkeys(mutation["seen_by"] for mutation in mutations)))}
    codes |= {mutation["name"]: run_mutated(mutation) for mutation in mutations}
    json.dump(codes, sys.stdout)
