"""The table as a page: `PYTHONPATH=.:tests python -m support.constructions.page > docs/what-works-with-torch.md`."""

from __future__ import annotations

from collections.abc import Iterable

from support.constructions.families import FAMILIES
from support.constructions.layer_cases import LAYERS
from support.constructions.loop_cases import LOOPS
from support.constructions.setup import Case
from support.constructions.trainer import TRAINER, TrainerCase

HEAD = """# What works with torch

{count} constructions, each trained by the tests (`tests/bridge/test_what_works.py`). **Right**: the influence is the
derivative of your own loop in the sample's weight, against differences over the whole training by torch alone; for the
Trainer, the recorded run ends where the Trainer's did, and agrees with retraining. **Refused**: `UnsupportedError`
before the first step, with the reason and what to change. None is silently wrong, and none fails after the training.

The refusals come from the layers' classes, from a preflight (gradients of single samples one at a time against the
batch's, Hessian-vector products against differences of gradients, two steps of a sweep; about ten gradients on four
samples) and from the first gradient of the loop. `TrajectoryRecorder`, `record_training` and `TrajectoryCallback` run
them; `trak_theory.torch_bridge.preflight(objective)` runs without a loop.
"""


def page() -> str:
    cases: list[Case | TrainerCase] = [*LAYERS, *FAMILIES, *LOOPS, *TRAINER]
    right = [case for case in cases if case.refused is None]
    refused = [case for case in cases if case.refused is not None]
    titles = (f"## Right ({len(right)})\n", f"\n## Refused before the first step ({len(refused)})\n")
    lines = [HEAD.format(count=len(cases)), titles[0], *_table(right), titles[1], *_table(refused), ""]
    return "\n".join(lines)


def _table(cases: Iterable[Case | TrainerCase]) -> list[str]:
    lines = ["| kind | construction | remark |", "|---|---|---|"]
    for case in cases:
        lines.append(f"| {case.group} | {case.name} | {case.remark} |")
    return lines


if __name__ == "__main__":
    print(page(), end="")
