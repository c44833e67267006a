"""A ledger folder, or an MLflow server, as the same frames: one row a trial, one row an epoch, predictions by trial."""

import io
import json
import os
import tempfile
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from analysis.question import Question
from study.config import Cell, Recipe, Study
from study.errors import ConfigError
from study.records import OBJECTIVE, SCHEMA
from study.space import Choice, Log, domains
from study.strategies import STRATEGIES
from study.tracking.ledger import Ledger, find


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """One confirm run on one split, images in the order of the file. logits [N, C], labels [N], groups [N] or None."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    logits: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """All that is known of a study."""

    study: Study
    facts: dict[str, Any]
    trials: pd.DataFrame  # one row a trial, in the order of asking; searched values as hp/<name>
    epochs: pd.DataFrame  # one row an epoch
    classes: dict[str, list[str]]  # by cell
    confusion: dict[str, np.ndarray]  # val, at the kept checkpoint, by trial
    openings: list[dict[str, Any]]
    amendments: list[dict[str, Any]]  # how the study grew
    chosen: dict[str, str]  # cell -> trial
    rule: str
    data_report: dict[str, Any]
    ledger: Ledger
    _cache: dict[str, dict[str, Predictions]] = field(default_factory=dict)

    @property
    def in_progress(self) -> bool:
        return not self.facts.get("finished_at")

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """By id."""
        return {c.id: c for c in self.study.cells}

    def questions(self, trials: pd.DataFrame) -> list[Question]:
        """Of each row of `trials`, by the cell whose budget it spent: a confirm run on one fold belongs to its cell's question."""
        by_cell = {name: Question.of(vars(self.cells[name])) for name in trials["cell"].unique()}
        return [by_cell[name] for name in trials["cell"]]

    def scored(self) -> pd.DataFrame:
        """Search trials that have a score, in the order of asking, with their question."""
        t = self.trials
        if not len(t) or OBJECTIVE not in t:
            return pd.DataFrame()
        scored = t[(t.stage == "search") & t[OBJECTIVE].notna()]
        return scored.assign(question=self.questions(scored))

    @property
    def scales(self) -> dict[str, str]:
        """Every searched hyperparameter and the axis it belongs on, "log", "linear" or "category"; those that most cells share come first."""
        scales: dict[str, str] = {}
        cells: dict[str, int] = {}
        for cell in self.study.cells:
            for name, domain in self.study.ranges(cell).items():
                scales.setdefault(name, "category" if isinstance(domain, Choice) else "log" if isinstance(domain, Log) else "linear")
                cells[name] = cells.get(name, 0) + 1
        return {name: scales[name] for name in sorted(scales, key=lambda n: -cells[n])}

    def confirmed(self) -> pd.DataFrame:
        """Completed confirm runs of the configurations that speak for their cells today: a search that grew may have replaced some."""
        t = self.trials
        if not len(t):
            return t
        done = t[(t.stage == "confirm") & (t.outcome == "completed")]
        tuned = [c for c in t.columns if str(c).startswith("hp/")]
        spoken = t[t.trial_id.isin(self.chosen.values())].set_index("cell")[tuned].reindex(done["cell"])
        same = (done[tuned].to_numpy() == spoken.to_numpy()) | (done[tuned].isna().to_numpy() & spoken.isna().to_numpy())
        return done[same.all(axis=1)]

    def predictions(self, trial_id: str) -> dict[str, Predictions]:
        """By split, "val" and "test"; empty where none were made."""
        if trial_id not in self._cache:
            data = self.ledger.measured(trial_id, "predictions")
            self._cache[trial_id] = {} if data is None else _predictions(data)
        return self._cache[trial_id]

    def measured(self, name: str) -> pd.DataFrame:
        """What `name` measured on every trial that has it, below one another with a trial_id; empty where no trial has."""
        tables = []
        for trial_id in self.trials["trial_id"] if len(self.trials) else ():
            data = self.ledger.measured(trial_id, name)
            if data is not None:
                tables.append(pq.read_table(io.BytesIO(data)).to_pandas().assign(trial_id=trial_id))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


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


def _predictions(data: bytes) -> dict[str, Predictions]:
    table = pq.read_table(io.BytesIO(data))
    split = np.asarray(table["split"].to_pylist())
    logits = np.array(table["logits"].combine_chunks().flatten(), dtype=np.float64).reshape(len(table), -1)
    labels = table["label"].to_numpy()
    images = np.asarray(table["image"].to_pylist())
    groups = None if table["group"].null_count else table["group"].to_numpy()
    out = {}
    for name in ("val", "test"):
        mask = split == name
        order = np.argsort(images[mask], kind="stable")  # one order for all runs, so that they pair up
        pick = np.flatnonzero(mask)[order]
        out[name] = Predictions(
            images=images[pick], labels=labels[pick], groups=None if groups is None else groups[pick], logits=logits[pick]
        )
    return out
