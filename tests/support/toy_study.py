"""A study of the tests' own, and a command line that knows no other: python toy_study.py run toy …

Each cell logs that it starts, in the file that the environment variable TOY_LOG names. TOY_FAIL is the index of a cell
that raises, TOY_DIE of one that takes its process with it, TOY_SECONDS what a cell takes.
"""

import os
import time

import numpy as np
from threadpoolctl import threadpool_info

import simulations.__main__ as command_line
from simulations.engine.study import Study, UnknownStudyError, grid


def run(params, rng):
    with open(os.environ["TOY_LOG"], "a") as log:
        log.write(f"{os.getpid()} {params['index']}\n")
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    if params["index"] == int(os.environ.get("TOY_FAIL", "-1")):
        raise ArithmeticError(f"cell {params['index']} does not add up")
    if params["index"] == int(os.environ.get("TOY_DIE", "-1")):
        os._exit(1)
    # Large enough for BLAS to use threads if it may: their number changes the last digits.
    singular = np.linalg.svd(rng.standard_normal((120, 120)), compute_uv=False)
    threads = max(pool["num_threads"] for pool in threadpool_info())
    shared = {"threads": threads, "threads_of_later_libraries": os.environ.get("OMP_NUM_THREADS")}
    return [{"rank": rank, "value": value, **shared} for rank, value in enumerate(singular[:3])]


GRID = grid(kind=["only"], index=range(12))
STUDY = Study("toy", "A toy.", run, GRID, GRID)


def studies(name):
    if name not in ("toy", "all"):
        raise UnknownStudyError(name)
    return [STUDY]


if __name__ == "__main__":
    import toy_study  # by its name, under which workers know it too

    command_line._studies = toy_study.studies
    command_line.app()
