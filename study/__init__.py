"""A fair study of how much of a pretrained network should be fine-tuned.

    from study import Log, Protocol, Study, grid, load_study, own_dataset, run_study

Values are loaded at once; modules that train, search or draw are loaded when they are first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from study import early as early  # before all others: it begins as it is imported
from study.console import moved
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.space import Choice, Integer, Log, Steps, Uniform

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""The setting by which waiting threads sleep. Torch's would spin, and on a busy machine take the cores from the threads they wait for: a
step is ten times as slow (docs/performance.md). OpenMP reads it once, when torch is loaded; every module of ours loads this one first."""

SILENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""The settings by which libraries report to nobody how they are used: MLflow, ONNX Runtime and Ray would, to their makers. They are read
when a library is loaded; one that is set already stays."""
for _name, _value in SILENT.items():
    os.environ.setdefault(_name, _value)

moved.watch()

if TYPE_CHECKING:
    from study.datasets.from_python import own_dataset
    from study.results import Results, load_study, run_study
    from study.use.predictor import Predictor

LATER = {
    "run_study": "study.results",
    "load_study": "study.results",
    "Results": "study.results",
    "Predictor": "study.use.predictor",
    "own_dataset": "study.datasets.from_python",
}

__all__ = [
    "Cell", "Choice", "Integer", "Log", "Predictor", "Protocol", "Recipe", "Results", "Steps", "Study", "TrialConfig",
    "Uniform", "grid", "load_study", "own_dataset", "run_study",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in LATER:
        from study.console.progress import load

        load(LATER[name], what="PyTorch" if name == "Predictor" else "pandas and Plotly")
        return getattr(import_module(LATER[name]), name)
    raise AttributeError(f"module 'study' has no attribute {name!r}. It has {', '.join(__all__)}.")
