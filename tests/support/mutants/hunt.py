"""Mutants of the core rooms against the fast tests: python hunt.py REACH RESULTS [JOBS [COUNT [SEED]]].

REACH is what reach.py wrote. Each of JOBS processes copies the tree and mutates its copy. A mutant meets the tests that
run its line, the quickest first, and if they let it live every fast test of their files. RESULTS gets a line for each
mutant as it is judged; an interrupted run goes on from there if the package is the same, and survivors meet tests that
have changed. Exit status 1: too few were killed, or a survivor is not in tests/controls/mutants.toml.
"""

import compileall
import hashlib
import json
import os
import shutil
import sys
import tempfile
import tomllib
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from py_compile import PycInvalidationMode

from mutate import run
from sites import Mutant, places, sample

ROOT = Path(__file__).parents[3]
SEED, COUNT = 20261129, 320
COPIED = ("trak_theory", "tests", "simulations", "paper_figures", "pyproject.toml", "README.md", "CLAIMS.md")
QUICK = 6.0  # seconds of tests that every mutant meets
HANGS, LIMIT = 120, 900  # seconds of CPU, after which a mutant hangs: in quick tests, in a file
ENOUGH = 0.95  # of the mutants that are not equivalent


class Reach:
    """The tests that run each line."""

    def __init__(self, measured):
        self.seconds, self.lines = measured["seconds"], measured["lines"]

    def contexts(self, mutant):
        """Tests that run the line, and test modules that do while imported; of the whole file if all do on import."""
        lines = self.lines.get(mutant.path, {})
        own = {context for context in lines.get(str(mutant.number), []) if context in self.seconds}
        return own or {context for contexts in lines.values() for context in contexts}

    def quick(self, mutant):
        """Tests of the line, cheapest functions first."""
        functions = defaultdict(list)
        for test in sorted(self.contexts(mutant) & self.seconds.keys()):
            functions[test.partition("[")[0]].append(test)
        cost = {name: sum(self.seconds[test] for test in tests) for name, tests in functions.items()}
        order = sorted(functions, key=cost.__getitem__)
        spent = accumulate(cost[name] for name in order)
        return [
            test
            for name, total in zip(order, spent, strict=True)
            if total <= QUICK or name == order[0]
            for test in functions[name]
        ]

    def files(self, mutant):
        """The files of these tests, cheapest first."""
        cost = Counter()
        for test, seconds in self.seconds.items():
            cost[test.partition("::")[0]] += seconds
        return sorted({context.partition("::")[0] for context in self.contexts(mutant)}, key=cost.__getitem__)


def killed_by(mutant, reach):
    """The tests that turn red, in words; empty if none does."""
    path, original = Path(mutant.path), Path(mutant.path).read_text()
    path.write_text(mutant.source)
    try:
        quick = reach.quick(mutant)
        if quick and run(quick, HANGS):
            return "quick tests"
        return next((file for file in reach.files(mutant) if run([file, "-m", "not slow"], LIMIT)), "")
    finally:
        path.write_text(original)


def check_unmutated(reach):
    """The cheapest test of each file passes in a fork: what turns red later is a mutant's doing."""
    cheapest = {test.partition("::")[0]: test for test in sorted(reach.seconds, key=reach.seconds.get, reverse=True)}
    if code := run(list(cheapest.values())):
        raise SystemExit(f"tests fail without a mutant: exit status {code}")


def settle(reach, scratch):
    """A copy of the tree to work in, for this process alone."""
    folder = tempfile.mkdtemp(dir=scratch)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, Path(folder, name))
    os.chdir(folder)
    sys.path.insert(0, folder)
    # The digest of a source, not its second, tells whether its bytecode is of this mutant.
    compileall.compile_dir("trak_theory", quiet=1, force=True, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    check_unmutated(reach)


def digest(folder):
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(folder).glob("**/*.py")))).hexdigest()


def stored(results, tests):
    """The fates found with this package. Who was killed stays so; who survived other tests is tried again."""
    package = digest("trak_theory")
    lines = results.read_text().splitlines() if results.exists() else []
    if lines[:1] != [package]:
        results.write_text(f"{package}\n")
        return {}
    rows = [row for row in map(json.loads, lines[1:]) if row["killed_by"] or row["tests"] == tests]
    return {Mutant(**row["mutant"]): row["killed_by"] for row in rows}


def hunt(mutants, reach, results, jobs):
    """{mutant: what kills it}."""
    tests = digest("tests")
    known = stored(results, tests)
    fates = {mutant: known[mutant] for mutant in mutants if mutant in known}
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(jobs, get_context("fork"), settle, (reach, scratch)) as pool,
    ):
        running = {pool.submit(killed_by, mutant, reach): mutant for mutant in mutants if mutant not in fates}
        for done in as_completed(running):
            mutant, fate = running[done], done.result()
            fates[mutant] = fate
            with results.open("a") as file:
                file.write(json.dumps({"mutant": asdict(mutant), "killed_by": fate, "tests": tests}) + "\n")
            print(f"{len(fates)}/{len(mutants)} {mutant.path}:{mutant.number} {fate or 'LIVES'}", file=sys.stderr)
    return {mutant: fates[mutant] for mutant in mutants}


def report(rooms, everything, fates, equivalent):
    """A table in Markdown, and the share that is killed of those that are not equivalent."""
    exist = Counter(rooms[str(place.path)] for place in everything)
    fate = {mutant: "killed" if killer else key(mutant) in equivalent for mutant, killer in fates.items()}
    counts = {room: Counter(fate[mutant] for mutant in fate if rooms[mutant.path] == room) for room in exist}
    counts["all"] = sum(counts.values(), Counter())
    lines = ["| room | places | mutants | killed | equivalent | other survivors |", "|---|---|---|---|---|---|"]
    for room, count in counts.items():
        row = (room, exist[room] or len(everything), count.total(), count["killed"], count[True], count[False])
        lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines), counts["all"]["killed"] / (counts["all"]["killed"] + counts["all"][False])


def key(mutant):
    return mutant.path, mutant.line, mutant.mutated


def main(reach, results, jobs=1, count=COUNT, seed=SEED):
    os.chdir(ROOT)
    settings = tomllib.loads(Path("tests/controls/mutants.toml").read_text())
    reach, results = Reach(json.loads(Path(reach).read_text())), Path(results)
    rooms = {f"trak_theory/{file}": room for room, files in settings["rooms"].items() for file in files}
    judged = {(entry["path"], entry["line"], entry["mutated"]): entry["equivalent"] for entry in settings["survivors"]}
    equivalent = {each for each, same in judged.items() if same}
    everything = [place for file in rooms for place in places(Path(file))]
    fates = hunt(sample(everything, int(count), int(seed)), reach, results, int(jobs))
    table, share = report(rooms, everything, fates, equivalent)
    print(f"Seed {seed}.\n\n{table}\n\nKilled: {share:.1%} of those that are not equivalent.")
    unjudged = [mutant for mutant, killer in fates.items() if not killer and key(mutant) not in judged]
    for mutant in unjudged:
        print(f"\nNot judged: {mutant.path}:{mutant.number}\n- {mutant.line}\n+ {mutant.mutated}")
    return int(share < ENOUGH or bool(unjudged))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
