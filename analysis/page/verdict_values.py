"""The verdict of a study as plain values for other programs, described in docs/verdict.schema.json. `analysis.judge` writes the same."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.verdict import Findings
from study.scoring.metric import Metric

FORMAT = 1
PAIR = (
    *("a", "b", "difference", "low", "high", "simultaneous_low", "simultaneous_high", "a_better", "within_margin", "b_better"),
    *("p", "p_holm", "p_equivalent"),
)
"""Numbers and names of a pair that are in its row of the table of pairs."""


def study_values(frames: Frames, found: Findings, classes: pd.DataFrame) -> dict[str, Any]:
    """Return everything that a study's page decides. `classes` holds the rows of the figure class_differences."""
    values = {
        "format": FORMAT,
        "of": "study",
        "name": frames.study.name,
        "metric": frames.scored_by.text,
        "margin": frames.study.margin,
        "final": not frames.in_progress,
        "sentences": [s.text for s in found.sentences],
        "warnings": list(found.warnings),
        "questions": [_question(q, found, classes, frames.scored_by) for q in _questions(found)],
    }
    return known(values)


def dump_values(values: Mapping[str, Any]) -> str:
    """Return the values as JSON in ASCII, so that no terminal takes a name for a command."""
    return json.dumps(values, indent=1, ensure_ascii=True, allow_nan=False)


def pair_values(row: Mapping[str, Any], reasons: list[str], text: str, scope: str) -> dict[str, Any]:
    """Return the values of one pair. `row` is its row of the table of pairs."""
    return {
        **{k: row[k] for k in PAIR},
        "verdict": row["verdict"],
        "winner": row["winner"] or None,
        "scope": scope,
        "reasons": reasons,
        "text": text,
    }


def side_values(metric: Metric, key: str, mean: float, low: float, high: float, scores: list[float]) -> dict[str, Any]:
    """A side's row of one metric, by its name, as the metric's own numbers. `key`: as tables call it, `metric`: the verdict's."""
    if key != metric.key:
        return {key: {"mean": mean, "low": low, "high": high, "scores": scores}}
    ends = sorted((metric.natural(low), metric.natural(high)))
    return {metric.name: {"mean": metric.natural(mean), "low": ends[0], "high": ends[1], "scores": [metric.natural(s) for s in scores]}}


def _questions(found: Findings) -> list[Question]:
    return list(dict.fromkeys(Question.of(r) for r in found.strategies.to_dict("records"))) if len(found.strategies) else []


def _question(question: Question, found: Findings, classes: pd.DataFrame, metric: Metric) -> dict[str, Any]:
    strategies = _of(found.strategies, question)
    seeds = _of(found.seeds, question)
    sides: dict[str, dict[str, Any]] = {}
    for row in strategies.to_dict("records"):
        side = sides.setdefault(row["strategy"], {"name": row["strategy"], "files": [], "metrics": {}})
        own = seeds[(seeds.strategy == row["strategy"]) & (seeds.metric == row["metric"])]
        side["metrics"].update(side_values(metric, row["metric"], row["mean"], row["low"], row["high"], own["score"].tolist()))
    ranking = next((r for r in found.rankings if r.question == question), None)
    for name, side in sides.items():
        side["loss_at_most"] = ranking.most(name) if ranking else None
    by_class = classes[classes.question == question].to_dict("records") if len(classes) else []
    return {
        "question": question.name,
        "images": int(strategies["images"].iloc[0]),
        "groups": int(strategies["units"].iloc[0]) if (strategies["units"] != strategies["images"]).any() else None,
        "sides": list(sides.values()),
        "good_enough": (ranking.good_enough if ranking else "") or None,
        "pairs": [
            pair_values(r, r["reasons"].split("; ") if r["reasons"] else [], r["text"], r["scope"])
            for r in _of(found.pairs, question).to_dict("records")
        ],
        "classes": [
            {"class": r["class"], "images": r["images"], "a": r["best"], "b": r["strategy"], "f1_a": r["f1_best"], "f1_b": r["f1"]}
            | {k: r[k] for k in ("difference", "low", "high")}
            for r in by_class
        ],
    }


def _of(table: pd.DataFrame, question: Question) -> pd.DataFrame:
    return table[[Question.of(r) == question for r in table.to_dict("records")]] if len(table) else table


def known(value: Any) -> Any:
    """Return the same with None in place of NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {k: known(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [known(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
