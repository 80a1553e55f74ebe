"""Multilayer perceptrons trained by torch: attribution along the run and at its end, against retraining."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.torch_attribution import attribution_rows, trained
from simulations.workloads.torch_runs import trajectory_rows

if TYPE_CHECKING:
    from trak_theory.torch_bridge.settings.image import ImageSetting

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
PAPER_RATES = (1e-5, 1e-4, 1e-3)
RECIPES = {"AdamW": 5e-3, "SGD": 0.05}  # learning rates of the attribution side
# images of it: n, batch, hidden units, steps, held-out
SMALL, LARGE = (200, 40, 24, 120, 60), (1000, 100, 64, 400, 100)


def run(params: Params, rng: Generator) -> Rows:
    """One network; side `trajectory`: every estimator along the run; `attribution`: restored influence and TRAK."""
    if params["side"] == "attribution":
        return _at_the_end(params, rng)
    setting = _setting(str(params["data"]), int(params["length"]), rng)
    trajectory = setting.train(setting.adamw(float(params["learning_rate"])), rng)
    removed = rng.choice(setting.size.n, int(params["removals"]), replace=False)
    return trajectory_rows(trajectory, setting.query, removed)


def _setting(data: str, length: int, rng: Generator) -> ImageSetting:
    from trak_theory.torch_bridge.settings.image import Size, digits_mlp, mnist_mlp

    if data == "digits":
        return digits_mlp(Size(n=200, batch=20, steps=length, held_out=200), rng=rng)
    return mnist_mlp("small" if data == "mnist, n = 640" else "paper", rng=rng)


def _at_the_end(params: Params, rng: Generator) -> Rows:
    from trak_theory.torch_bridge.settings.image import Size, digits_mlp

    n, batch, hidden, steps, held_out = SMALL if params["data"] == "digits" else LARGE
    setting = digits_mlp(Size(n=n, batch=batch, steps=steps, held_out=held_out), hidden=hidden, rng=rng)
    recipe = str(params["recipe"])
    model = trained(setting, recipe, RECIPES[recipe], queries=held_out, rng=rng)
    return attribution_rows(model, subsets=int(params["subsets"]), left_out=40, draws=4, rng=rng)


def _trajectories(data: str, length: int, removals: int, rates: tuple[float, ...], seeds: int) -> list[Params]:
    return grid(
        side=["trajectory"],
        data=[data],
        length=[length],
        removals=[removals],
        learning_rate=rates,
        replicate=range(seeds),
    )


def _attributions(data: str, recipe: str, subsets: int, seeds: int) -> list[Params]:
    return grid(side=["attribution"], data=[data], recipe=[recipe], subsets=[subsets], replicate=range(seeds))


def _seconds(params: Params) -> float:
    return {"mnist": 25, "digits, n = 1000": 40, "mnist, n = 640": 3}.get(str(params["data"]), 4)


STUDY = Study(
    name="torch_mlp",
    summary="What the theory says of multilayer perceptrons that torch trained, along the run and at its end.",
    run=run,
    quick=[
        *_trajectories("digits", 60, 200, RATES[::2], 1),
        *_trajectories("mnist, n = 640", 10, 60, (1e-3,), 1),
        *_attributions("digits", "AdamW", 50, 1),
    ],
    full=[
        *_trajectories("digits", 60, 200, RATES, 6),
        *_trajectories("digits", 20, 200, RATES, 6),
        *_trajectories("digits", 180, 200, RATES, 6),
        *_trajectories("mnist, n = 640", 10, 60, (1e-3,), 6),
        *_trajectories("mnist", 74, 100, PAPER_RATES, 5),
        *_attributions("digits", "AdamW", 50, 6),
        *_attributions("digits", "SGD", 50, 6),
        *_attributions("digits, n = 1000", "AdamW", 100, 5),
        *_attributions("digits, n = 1000", "SGD", 100, 5),
    ],
    seconds=_seconds,
    extra="torch",
)
