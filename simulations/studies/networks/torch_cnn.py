"""A convolutional network trained by torch: attribution along the run and at its end, against retraining."""

from __future__ import annotations

from numpy.random import Generator

from simulations.engine.study import Params, Rows, Study, grid
from simulations.workloads.torch_attribution import attribution_rows, trained
from simulations.workloads.torch_runs import trajectory_rows

RATES = (3e-4, 1e-3, 1e-2)
LEARNING_RATE = 3e-3  # of the attribution side


def run(params: Params, rng: Generator) -> Rows:
    """One network; side `trajectory`: every estimator along the run; `attribution`: restored influence and TRAK."""
    from trak_theory.torch_bridge.settings.image import Size, mnist_cnn

    if params["side"] == "attribution":
        n = int(params["images"])
        setting = mnist_cnn(Size(n=n, batch=20, steps=int(params["length"]), held_out=40), rng=rng)
        model = trained(setting, "AdamW", LEARNING_RATE, queries=40, rng=rng)
        return attribution_rows(
            model, subsets=int(params["subsets"]), left_out=int(params["removals"]), draws=4, rng=rng
        )
    setting = mnist_cnn("small" if params["size"] == "small" else "large", rng=rng)
    trajectory = setting.train(setting.adamw(float(params["learning_rate"])), rng)
    removed = rng.choice(setting.size.n, int(params["removals"]), replace=False)
    return trajectory_rows(trajectory, setting.query, removed)


def _trajectories(size: str, removals: int, rates: tuple[float, ...], seeds: int) -> list[Params]:
    return grid(side=["trajectory"], size=[size], removals=[removals], learning_rate=rates, replicate=range(seeds))


def _attributions(images: int, length: int, subsets: int, removals: int, seeds: int) -> list[Params]:
    return grid(
        side=["attribution"],
        images=[images],
        length=[length],
        subsets=[subsets],
        removals=[removals],
        replicate=range(seeds),
    )


def _seconds(params: Params) -> float:
    if params["side"] == "attribution":
        return 25 if params["images"] == 120 else 300
    return 18 if params["size"] == "small" else 100


STUDY = Study(
    name="torch_cnn",
    summary="What the theory says of a convolutional network that torch trained, along the run and at its end.",
    run=run,
    quick=[*_trajectories("small", 40, RATES[1:2], 1), *_attributions(120, 60, 24, 16, 1)],
    full=[
        *_trajectories("small", 40, RATES, 6),
        *_trajectories("large", 60, RATES, 5),
        *_attributions(120, 60, 24, 16, 5),
        *_attributions(1000, 200, 100, 40, 3),
    ],
    seconds=_seconds,
    extra="torch",
)
