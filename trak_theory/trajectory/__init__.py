"""Training runs as objects: record one, retrain without samples, attribute its end to them."""

from trak_theory.trajectory.attributions import Attribution, attribute
from trak_theory.trajectory.convention import Convention
from trak_theory.trajectory.forward_mode import forward
from trak_theory.trajectory.largest.remedy import Remedy, retrain_top
from trak_theory.trajectory.largest.two_stages import TwoStages, attribute_samples, attribute_top
from trak_theory.trajectory.levels import ErrorLevels, error_levels
from trak_theory.trajectory.many_queries import ManyQueries, attribute_many
from trak_theory.trajectory.networks import MLP
from trak_theory.trajectory.objective import GLMObjective, Objective
from trak_theory.trajectory.optimizer.lion import Lion
from trak_theory.trajectory.optimizer.muon import Muon
from trak_theory.trajectory.optimizer.recipes import SGD, Adam, AdamW, Optimizer
from trak_theory.trajectory.optimizer.torch_settings import from_torch
from trak_theory.trajectory.proxies import calibrate
from trak_theory.trajectory.query import Query, loss_query
from trak_theory.trajectory.run import Run, as_sgd, astype, held, train
from trak_theory.trajectory.selection.gain import Gain, paired_gain
from trak_theory.trajectory.selection.horizon import HorizonMap, Task, tune_horizon
from trak_theory.trajectory.selection.lookahead import Lookahead, lookahead
from trak_theory.trajectory.selection.select import Selection, select
from trak_theory.trajectory.sweep.cost import RunSizes, SweepCost, sweep_cost, sweep_memory
from trak_theory.trajectory.truth import Truth, retrain_without
from trak_theory.trajectory.verdicts import Verdict, error_bound, verdict

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "Attribution",
    "Convention",
    "ErrorLevels",
    "GLMObjective",
    "Gain",
    "HorizonMap",
    "Lion",
    "Lookahead",
    "ManyQueries",
    "Muon",
    "Objective",
    "Optimizer",
    "Query",
    "Remedy",
    "Run",
    "RunSizes",
    "Selection",
    "SweepCost",
    "Task",
    "Truth",
    "TwoStages",
    "Verdict",
    "as_sgd",
    "astype",
    "attribute",
    "attribute_many",
    "attribute_samples",
    "attribute_top",
    "calibrate",
    "error_bound",
    "error_levels",
    "forward",
    "from_torch",
    "held",
    "lookahead",
    "loss_query",
    "paired_gain",
    "retrain_top",
    "retrain_without",
    "select",
    "sweep_cost",
    "sweep_memory",
    "train",
    "tune_horizon",
    "verdict",
]
