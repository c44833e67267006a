"""Reading of a ledger folder, or of an MLflow server, into the same frames."""

import atexit
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import LATE, Question
from analysis.findings.budget_check import checked
from study import early
from study.canonical import restore
from study.errors import ConfigError
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.training_settings import Recipe
from study.question.trial_config import TrialConfig
from study.records import Ask, TrialResult
from study.search.confirmed import Chosen, factors_of, planned
from study.space import domains
from study.storage.folder import as_text
from study.storage.options import server_and_study
from study.strategies import EVERY
from study.tracking.ledger import SERVERS, Ledger, find


def load(source: str | os.PathLike[str] | Ledger, study: str | None = None, cache: Path | None = None) -> Frames:
    """Read a study from `source`: a ledger, a study's folder, a results folder with one study, or an MLflow URI (URI#STUDY names one).

    Raises ConfigError where there is no such study or it was written with another schema.
    """
    ledger = source if isinstance(source, Ledger) else _ledger(source, study, cache)
    question = ledger.study()
    if question is None:
        raise ConfigError(f"{ledger.folder.location} holds no study.json.")
    trials, epochs = [], []
    classes: dict[str, list[str]] = {}
    confusion: dict[str, np.ndarray] = {}
    late = _late(question)
    for trial in ledger.trials():
        ask, result = trial.ask, trial.result
        trials.append(_row(ask, result, question.asked(ask.config["cell"]["strategy"]), late))
        epochs += [
            {"trial_id": ask.trial_id, "epoch": e.epoch, "seconds": e.seconds, "images": e.images, **e.metrics} for e in trial.epochs
        ]
        if result:
            classes.setdefault(ask.cell, result.classes)
            if result.val:
                confusion[ask.trial_id] = np.array(result.val.confusion)
    selection = ledger.selection() or {"chosen": {}, "rule": ""}
    confirmed, budgets = ledger.confirmed_trials(), ledger.budgets()
    frames = Frames(
        study=question,
        facts=ledger.facts(),
        trials=_in_order(pd.DataFrame(trials)),
        epochs=pd.DataFrame(epochs),
        classes=classes,
        confusion=confusion,
        openings=ledger.looks(),
        delivered=ledger.delivered(),
        labelled=ledger.labelled(),
        amendments=ledger.amendments(),
        chosen={cell: ask.trial_id for cell, ask in ledger.winners().items()},
        confirmed_trials=confirmed,
        planned=_planned(ledger, question, confirmed, budgets),
        budgets=budgets,
        rule=selection["rule"],
        data_report=ledger.data_report(),
        ledger=ledger,
    )
    classes.update({c.id: classes[source] for source, own in frames.lines_beside.items() for c in own if source in classes})
    return replace(frames, checked=checked(frames))


def _planned(ledger: Ledger, study: Study, chosen: Chosen, budgets: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return by cell the ids of the confirm runs that count for it."""
    known = {t: ask for own in chosen.values() for t in own if t and (ask := ledger.ask(t)) is not None}
    winners = {cell: [TrialConfig.from_dict(known[t].config) if t in known else None for t in own] for cell, own in chosen.items()}
    found: dict[str, list[str]] = {cell: [] for cell in chosen}
    for cell, _, config in planned(study, winners, factors_of(study, budgets, chosen)):
        found[cell].append(config.id)
    return found


def _in_order(trials: pd.DataFrame) -> pd.DataFrame:
    """Sort the trials in the order of asking. Their ids are hashes, so folders have another order."""
    return trials.sort_values("sequence", kind="stable").reset_index(drop=True) if len(trials) else trials


def _ledger(place: str | os.PathLike[str], study: str | None, cache: Path | None) -> Ledger:
    source = as_text(place)
    if source.startswith(SERVERS):
        from study.tracking.from_mlflow import read

        uri, name = server_and_study(source)
        return read(uri, study or name, cache or _copies())
    if study is None or isinstance(study, str) and not study:
        return find(source)
    return Ledger(source, study)


def _copies() -> Path:
    """Make a folder for a server's files, which lasts as long as this process: frames read from it until their end."""
    folder = early.temporary()
    atexit.register(folder.__exit__, None, None, None)
    return Path(folder.__enter__())


def _late(study: Study) -> Callable[[dict[str, Any]], dict[str, int]]:
    """Return a function from a cell as in JSON to the late columns of its question."""
    if all(c.budget == 1 and not c.image_size for c in study.cells):
        return lambda cell: dict.fromkeys(LATE, 0)
    return lambda cell: {k: Question.of_cell(restore(Cell, cell), study).columns[k] for k in LATE}


def _row(ask: Ask, result: TrialResult | None, asked: tuple[str, ...], late: Callable[[dict[str, Any]], dict[str, int]]) -> dict[str, Any]:
    """Return one trial's row. `asked` are recipe fields that the study searches besides, `late` is the function that `_late` returns."""
    config, cell = ask.config, ask.config["cell"]
    row = {
        "trial_id": ask.trial_id,
        "sequence": ask.sequence,
        "cell": ask.cell,
        "stage": ask.stage.value,
        "origin": ask.origin.value,
        "number": ask.number,
        "seed": config["seed"],
        **({"subset": config["subset"]} if "subset" in config else {}),
        **{k: cell[k] for k in ("dataset", "splits", "backbone", "strategy", "train_fraction")},
        **late(cell),
        "outcome": "running",
        "reason": "",
        "epochs": 0,
        "best_epoch": None,
        "seconds": 0.0,
        "images": 0,
        "attempts": 1,
        "device": "",
        "started_at": None,
        "trained_parameters": None,
        "peak_gpu_bytes": None,
    }
    if not EVERY[cell["strategy"]].exact:
        tuned = {**config["strategy"], **config["recipe"]}
        row |= {f"hp/{k}": v for k, v in tuned.items()}
        row |= {f"hp/{k}": v for k, v in _published(cell["strategy"], asked).items() if k not in tuned}
    if result:
        row |= {k: getattr(result, k) for k in ("reason", "epochs", "best_epoch", "seconds", "images", "attempts", "device", "started_at")}
        row["outcome"] = result.outcome.value
        row |= {k: result.facts.get(k) for k in ("trained_parameters", "peak_gpu_bytes")}
        row |= {k: result.facts[k] for k in ("straggler", "train_images", "cpu_seconds", "strength") if k in result.facts}
        row |= result.metrics
    return row


@cache
def _published(strategy: str, asked: tuple[str, ...]) -> dict[str, Any]:
    """Return the defaults of the searched fields.

    A trial asked for before a field existed does not name it, nor does one that has a late field at its default.
    """
    own, recipe = EVERY[strategy](), Recipe()
    return {n: getattr(own, n) for n in domains(type(own))} | {n: getattr(recipe, n) for n in (*domains(Recipe), *asked)}
