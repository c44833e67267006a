"""The results of a study, read from its ledger and its MLflow database, and their differences from its unkilled twin's."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.records import Outcome
from study.tracking.client import KEY
from study.tracking.ledger import Ledger


@dataclass(kw_only=True)
class Differences:
    """One line for each difference from the twin."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)

    def add(self, other: "Differences") -> None:
        self.lost += other.lost
        self.doubled += other.doubled
        self.unequal += other.unequal


def differences(results: Path, twin: Path, study: str) -> Differences:
    """Compare trials, epochs, choice, opening, verdict and MLflow's rows of `results` with those of `twin`, except times and places."""
    found = _compare(_counted(results, study), _counted(twin, study))
    found.lost += [f"{k} {r.outcome}: {r.reason}" for k, r in Ledger(str(results), study).results().items() if r.outcome is Outcome.FAILED]
    return found


def _compare(ours: dict[str, list[Any]], planned: dict[str, list[Any]]) -> Differences:
    found = Differences(lost=[f"{k} is missing" for k in planned.keys() - ours.keys()])
    for key, values in ours.items():
        if len(values) > max(len(planned.get(key, [])), 1) or key not in planned:
            found.doubled.append(f"{key}: {len(values)} instead of {len(planned.get(key, []))}")
        elif values != planned[key]:
            found.unequal.append(f"{key}: {_apart(str(values), str(planned[key]))}")
    return found


def _apart(one: str, other: str) -> str:
    """Return both texts from a little before their first difference on."""
    at = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(at - 40, 0)
    return f"{one[begin : begin + 200]} instead of {other[begin : begin + 200]}"


def _counted(results: Path, study: str) -> dict[str, list[Any]]:
    """Return by name everything that must be there as often as planned and have the planned value."""
    ledger, found = Ledger(str(results), study), dict[str, list[Any]]()
    for ask in ledger.asks():
        found[f"ask {ask.trial_id}"] = [(ask.cell, ask.number, ask.stage, ask.origin, ask.config)]
        for epoch in ledger.epochs(ask.trial_id):
            found.setdefault(f"epoch {epoch.epoch} of {ask.trial_id}", []).append((epoch.metrics, epoch.images, epoch.confusion))
        for name in ledger.measurements(ask.trial_id):
            found[f"{name} of {ask.trial_id}"] = [ledger.measured(ask.trial_id, name)]
    for trial, result in ledger.results().items():
        found[f"result of {trial}"] = [(result.outcome, result.epochs, result.best_epoch, result.metrics, result.val)]
    found["choice"] = [{k: v for k, v in (ledger.selection() or {}).items()}]
    found["opening"] = [(o["hash"], o["trials"]) for o in ledger.test_openings()]
    # commands in a verdict name its own folder, and the study's file beside it
    found["verdicts"] = [json.dumps(ledger.facts().get("verdicts"), sort_keys=True).replace(str(results.parent), "FOLDER")]
    return found | _mlflow(results / "mlflow.db", study)


def _mlflow(database: Path, study: str) -> dict[str, list[Any]]:
    """Return the rows of runs, params, metrics and models, by the key that finds a run again.

    Times are counted, but their values are not compared.
    """
    found: dict[str, list[Any]] = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as store:
        runs = "FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = ? AND t.value LIKE ? WHERE r.lifecycle_stage = 'active'"
        known = {
            run: (key, status) for run, key, status in store.execute(f"SELECT r.run_uuid, t.value, r.status {runs}", (KEY, f"{study}:%"))
        }  # noqa: S608
        for key, status in known.values():
            found.setdefault(f"run {key}", []).append(status)
        for run, name, value in store.execute("SELECT run_uuid, key, value FROM params"):
            if run in known:
                found.setdefault(f"param {name} of {known[run][0]}", []).append(value)
        for run, name, step, value in store.execute("SELECT run_uuid, key, step, value FROM metrics"):
            if run in known:
                timed = "seconds" in name or name.startswith("time")
                found.setdefault(f"metric {name} of {known[run][0]} at {step}", []).append(None if timed else value)
        models = Counter(name for (name,) in store.execute("SELECT name FROM model_versions"))
        return found | {f"versions of model {name}": [None] * n for name, n in models.items()}
