"""A ledger folder, or an MLflow server, read into the same frames."""

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import Frames
from study.config import Recipe
from study.errors import ConfigError
from study.records import SCHEMA
from study.space import domains
from study.strategies import STRATEGIES
from study.tracking.ledger import Ledger, find


def load(source: str | Ledger, study: str | None = None, cache: Path | None = None) -> Frames:
    """`source`: a ledger, a study's folder, a results folder holding one study, or an MLflow URI (URI#STUDY names one of several).

    Raises ConfigError when there is no such study or it was written with another schema.
    """
    ledger = source if isinstance(source, Ledger) else _ledger(source, study, cache)
    question = ledger.study()
    if question is None:
        raise ConfigError(f"{ledger.folder.location} holds no study.json.")
    rows: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    classes: dict[str, list[str]] = {}
    confusion: dict[str, np.ndarray] = {}
    for trial_id, files in _trial_files(ledger):
        ask = files.get("config.json")
        if not ask:
            continue
        config = json.loads(ask)
        if config.get("schema") != SCHEMA:
            raise ConfigError(
                f"{ledger.folder.path('trials/' + trial_id)} was written with schema {config.get('schema')}; this version reads {SCHEMA}."
            )
        result = json.loads(files["result.json"]) if files.get("result.json") else None
        rows.append(_row(config, result))
        if result:
            classes.setdefault(config["cell"], result["classes"])
            if result.get("val"):
                confusion[trial_id] = np.array(result["val"]["confusion"])
        for line in (files.get("epochs.jsonl") or b"").split(b"\n")[:-1]:
            e = json.loads(line)
            epochs.append(
                {
                    "trial_id": trial_id,
                    "epoch": e["epoch"],
                    "seconds": e["train_seconds"] + e["eval_seconds"],
                    "images": e["images"],
                    **e["metrics"],
                }
            )
    trials = pd.DataFrame(rows)
    if len(trials):
        trials = trials.sort_values("sequence", kind="stable").reset_index(drop=True)
    selection = ledger.selection() or {"chosen": {}, "rule": ""}
    report = ledger.folder.read("data_report.json")
    return Frames(
        study=question,
        facts=ledger.facts(),
        trials=trials,
        epochs=pd.DataFrame(epochs),
        classes=classes,
        confusion=confusion,
        openings=ledger.test_openings(),
        amendments=ledger.amendments(),
        chosen=selection["chosen"],
        rule=selection["rule"],
        data_report=json.loads(report) if report else {},
        ledger=ledger,
    )


def _ledger(source: str, study: str | None, cache: Path | None) -> Ledger:
    if source.startswith(("http://", "https://", "sqlite://", "postgresql://", "mysql://")):
        from study.tracking.from_mlflow import read

        uri, _, name = source.partition("#")
        return read(uri, study or name or None, cache or Path(tempfile.mkdtemp(prefix="study-")))
    return Ledger(source, study) if study else find(source)


def _trial_files(ledger: Ledger) -> list[tuple[str, dict[str, bytes]]]:
    """Raw small files by trial; straight from the disk where it is one, since there may be tens of thousands."""
    names = ("config.json", "epochs.jsonl", "result.json")
    if ledger.folder.remote:
        folder = ledger.folder
        return [(t, {n: folder.read(f"trials/{t}/{n}") or b"" for n in names}) for t in folder.names("trials")]
    root, out = ledger.folder.path("trials"), []
    for trial in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        files = {}
        for name in names:
            try:
                with open(f"{root}/{trial}/{name}", "rb") as file:
                    files[name] = file.read()
            except (FileNotFoundError, NotADirectoryError):
                pass
        out.append((trial, files))
    return out


def _row(ask: dict[str, Any], result: dict[str, Any] | None) -> dict[str, Any]:
    config = ask["config"]
    cell = config["cell"]
    row = {
        "trial_id": ask["trial_id"],
        "sequence": ask["sequence"],
        "cell": ask["cell"],
        "stage": ask["stage"],
        "origin": ask["origin"],
        "number": ask["number"],
        "seed": config["seed"],
        **{k: cell[k] for k in ("dataset", "splits", "backbone", "strategy", "train_fraction")},
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
    tuned = {**config["strategy"], **config["recipe"]}
    row |= {f"hp/{k}": v for k, v in tuned.items()}
    row |= {f"hp/{k}": v for k, v in _published(cell["strategy"]).items() if k not in tuned}
    if result:
        row |= {
            k: result[k] for k in ("outcome", "reason", "epochs", "best_epoch", "seconds", "images", "attempts", "device", "started_at")
        }
        row |= {k: result["facts"].get(k) for k in ("trained_parameters", "peak_gpu_bytes")}
        row |= {k: result["facts"][k] for k in ("straggler",) if k in result["facts"]}
        row |= result["metrics"]
    return row


@cache
def _published(strategy: str) -> dict[str, Any]:
    """Defaults of the searched fields. A trial asked for before one of them existed does not name it: it ran with the default."""
    return {name: getattr(part, name) for part in (STRATEGIES[strategy](), Recipe()) for name in domains(type(part))}
