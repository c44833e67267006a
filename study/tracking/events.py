"""Records of the ledger in MLflow's terms: tags, parameters, rows of metrics, names of runs."""

import io
import json
import math
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from study.config import Cell, Study, TrialConfig
from study.records import SUMMARY, EpochRecord, TrialResult, dumps
from study.tracking.cursor import mark
from study.tracking.runs import Row

METRIC = re.compile(r"[a-z0-9_]{1,60}")  # what a summary may call its numbers


def cell_names(cells: Iterable[Cell]) -> dict[Cell, str]:
    """What people call each: data set and strategy, and of the rest what tells them apart. "mini_faces partial"."""
    cells = list(cells)
    several = {name: len({getattr(c, name) for c in cells}) > 1 for name in ("splits", "backbone", "train_fraction")}
    return {cell: " ".join(_parts(cell, several)) for cell in cells}


def _parts(cell: Cell, several: dict[str, bool]) -> Iterator[str]:
    dataset = cell.dataset.rstrip("/").rpartition("/")[2]  # of folder:/where/it/lies its last part
    yield f"{dataset}@{cell.splits}" if several["splits"] or cell.splits != "official" else dataset
    if several["backbone"]:
        yield cell.backbone
    yield cell.strategy
    if several["train_fraction"] or cell.train_fraction != 1:
        yield f"{cell.train_fraction:.3g} of the images"


def note(study: Study, facts: dict[str, Any], amendments: list[dict[str, Any]]) -> str:
    """The study in Markdown: its question, its verdict so far, how it grew. Texts of ours are shown as they are, not as markup."""
    verdicts = facts.get("verdicts", []) if facts.get("finished_at") else []
    lines = [_plain(study.about or f"Study {study.name}."), ""]
    lines += [f"- {_plain(v)}" for v in verdicts] or ["No verdict yet: the study is running."]
    if amendments:
        lines += ["", "It grew:", "", *(f"- {_plain(amendment_text(a))}" for a in amendments)]
    return "\n".join([*lines, "", "The report with its figures is the artifact `report.html`."])


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))


def cell_tags(cell: Cell) -> dict[str, str]:
    return {"dataset": cell.dataset, "splits": cell.splits, "backbone": cell.backbone, "strategy": cell.strategy}


def fact_tags(facts: dict[str, Any]) -> dict[str, str]:
    versions = facts.get("versions", {})
    known = {f"version.{k}": str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
    return {k: str(facts[k]) for k in ("commit", "host", "python", "command") if k in facts} | known


def params(config: TrialConfig) -> dict[str, Any]:
    protocol = {f"protocol.{k}": v for k, v in asdict(config.protocol).items()}
    return {**config.tuned(), **asdict(config.cell), **protocol, "seed": config.seed, "subset": config.subset}


def epoch_rows(epochs: list[EpochRecord]) -> list[Row]:
    return [
        (name, value, e.ended_at, e.epoch)
        for e in epochs
        for name, value in {**e.metrics, "train_seconds": e.train_seconds, "eval_seconds": e.eval_seconds}.items()
    ]


def class_rows(result: TrialResult) -> list[Row]:
    """Keyed by class index: names may hold anything, and servers refuse some of it."""
    if result.val is None:
        return []
    named = [("recall", result.val.recall), ("precision", result.val.precision), ("f1", result.val.f1)]
    return [
        (f"val/{name}_c{k:03d}", value, result.ended_at, result.best_epoch or 0)
        for name, values in named
        for k, value in enumerate(values)
        if value is not None
    ]


def measured_rows(name: str, data: bytes, result: TrialResult) -> list[Row]:
    """The summary in a measurement's file, as NAME/KEY; nothing where it has none, or where the file is damaged: readers of it say so."""
    import pyarrow.parquet as pq  # of all events, only these need it

    try:
        few = json.loads((pq.read_schema(io.BytesIO(data)).metadata or {}).get(SUMMARY.encode(), b"{}"))
        rows = [(str(k), float(v)) for k, v in few.items()]
    except Exception:  # whatever a damaged file makes of Arrow
        return []
    title = name.removeprefix("measured/").removesuffix(".parquet")
    return [(f"{title}/{k}", v, result.ended_at, result.best_epoch or 0) for k, v in rows if METRIC.fullmatch(k) and math.isfinite(v)]


def amendment_text(amendment: dict[str, Any]) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(amendment["at"]))
    return f"{day} UTC: {'; '.join(amendment['changes'])}" + (" (the test set was open)" if amendment["test_open"] else "")


def last_word(facts: dict[str, Any]) -> str:
    """A mark of how the study ended; empty while it has not."""
    if not facts.get("finished_at"):
        return ""
    return mark(dumps([facts["finished_at"], facts.get("verdicts")]).encode())
