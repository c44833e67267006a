"""The ledger's records in MLflow's terms: tags, parameters, rows of metrics, descriptions."""

import io
import json
import math
import re
import time
from dataclasses import asdict
from typing import Any

from study.console.text import markdown
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import SUMMARY, EpochRecord, TrialResult, dumps
from study.scoring.metric import DEFAULT, Metric
from study.tracking.cursor import mark
from study.tracking.mlflow_runs import Row
from study.tracking.names import class_names, first

METRIC = re.compile(r"[a-z0-9_]{1,60}")  # what a summary may call its numbers


REPORT_TO_COME = "The report with its figures will be the artifact `report.html`."


def note(study: Study, facts: dict[str, Any], amendments: list[dict[str, Any]], links: str) -> str:
    """Return the study in Markdown: the answer of each data set, `links` (a long verdict may be cut), the verdicts in numbers, how it
    grew.

    Our own texts are shown as they are, not as markup.
    """
    answers, verdicts = ((facts.get(k, []) if facts.get("finished_at") else []) for k in ("answers", "verdicts"))
    lines = [f"**{markdown(a)}**\n" for a in answers]
    lines += [markdown(study.about or f"Study {study.name}."), "", links, ""]
    lines += ["In numbers:\n"] * bool(answers)
    lines += [f"- {markdown(v)}" for v in verdicts] or ["No verdict yet: the study is running."]
    if amendments:
        lines += ["", "It grew:", "", *(f"- {markdown(amendment_text(a))}" for a in amendments)]
    return "\n".join(lines)


def cell_note(scores: dict[str, Any], metric: Metric = DEFAULT) -> str:
    """Return the mean test score of a cell's confirm runs with its interval, in points."""
    score = scores[metric.name]
    known = "low" in score
    interval = f", 95 % interval {100 * score['low']:.1f} to {100 * score['high']:.1f}" if known else ", a single run: no interval"
    return f"Mean test {metric.words} of its confirm runs {100 * score['mean']:.1f}{interval}."


def cell_tags(cell: Cell) -> dict[str, str]:
    return {"dataset": cell.dataset, "splits": cell.splits, "backbone": cell.backbone, "strategy": cell.strategy}


def fact_tags(facts: dict[str, Any]) -> dict[str, str]:
    versions = facts.get("versions", {})
    known = {f"version.{k}": str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
    return {k: str(facts[k]) for k in ("commit", "host", "python", "command") if k in facts} | known


def protocol_tags(study: Study) -> dict[str, str]:
    """Return the settings that all of the study's trials share, as tags."""
    return {f"protocol.{k}": str(v) for k, v in asdict(study.protocol).items()}


def params(config: TrialConfig) -> dict[str, Any]:
    """Return the settings that tell a cell's trials apart; all others are in config.json beside them."""
    return config.tuned()


def epoch_rows(epochs: list[EpochRecord], metric: Metric = DEFAULT) -> list[Row]:
    return [
        (name, value, e.ended_at, e.epoch)
        for e in epochs
        for name, value in {
            **_first(e.metrics, metric),
            **e.metrics,
            "train_seconds": e.train_seconds,
            "eval_seconds": e.eval_seconds,
        }.items()
    ]


def _first(metrics: dict[str, float], metric: Metric) -> dict[str, float]:
    return {f"{first(metric)}/validation": metric.natural(metrics[metric.recorded])} if metric.recorded in metrics else {}


def class_rows(result: TrialResult) -> list[Row]:
    """Return rows of the scores by class name, one section of charts for each figure."""
    if result.val is None:
        return []
    named = [("recall", result.val.recall), ("precision", result.val.precision), ("f1", result.val.f1)]
    return [
        (f"val_{name}/{of}", value, result.ended_at, result.best_epoch or 0)
        for name, values in named
        for of, value in zip(class_names(result.classes), values, strict=False)
        if value is not None
    ]


def score_rows(scores: dict[str, dict[str, float]], at: float, of: str = "", metric: Metric = DEFAULT) -> list[Row]:
    """Return the test scores of a run, a cell or (`of` a data set) a study, given by metric as {mean, low, high}, the interval 95 %."""
    named = {f"test/{metric}{of}": score for metric, score in scores.items()}
    named |= {f"{first(metric)}/test{of}": scores[metric.name]} if metric.name in scores else {}
    ends = {"mean": "", "low": "_low", "high": "_high"}
    return [(name + end, float(score[key]), at, 0) for name, score in named.items() for key, end in ends.items() if key in score]


def best_rows(picks: list[dict[str, Any]], at: float, metric: Metric = DEFAULT) -> list[Row]:
    """Return the scores of the network to use of each data set, for the study's run. With several, their names tell them apart."""
    rows: list[Row] = []
    for pick, name in zip(picks, class_names([p["of"] for p in picks]), strict=True):
        if pick["test"]:
            rows += score_rows({metric.name: pick["test"]}, at, f" of {name}" if len(picks) > 1 else "", metric)
    return rows


def measured_rows(name: str, data: bytes, result: TrialResult) -> list[Row]:
    """Return the summary in a measurement's file as NAME/KEY.

    There are no rows where it has no summary, or where the file is damaged, which its readers report.
    """
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
    """Return a hash of how the study ended; an empty text while it has not."""
    if not facts.get("finished_at"):
        return ""
    scores = [facts["scores"]] if facts.get("scores") else []  # of a study without confirm runs there are none
    scores += [p for p in facts.get("picks", []) if "delivered" in p]
    return mark(dumps([facts["finished_at"], facts.get("verdicts"), *scores]).encode())
