"""The verdict on two sides as plain values, in the shape of a study's verdict (docs/verdict.schema.json)."""

from typing import Any

from analysis.findings.verdict_pairs import pair_row
from analysis.judge.judged import Judged, side_rows
from analysis.judge.words import headline, sentences, warnings
from analysis.page.verdict_values import FORMAT, known, pair_values, side_values


def judged_values(found: Judged) -> dict[str, Any]:
    """Return the verdict as plain values: the metrics' own numbers, with `margin` in the unit of the one decided on."""
    a, b = found.sides
    metrics: dict[str, dict[str, Any]] = {s.name: {} for s in found.sides}
    for row in side_rows(found):
        own = (row[k] for k in ("mean", "low", "high", "scores"))
        metrics[row["side"]].update(side_values(found.metric, row["metric"], *own))
    scope = "files" if found.scope == "files" else "configurations"
    labels, groups = found.truth.labels, found.truth.groups
    values = {
        "format": FORMAT,
        "of": "judge",
        "name": None,
        "metric": found.metric.text,
        "margin": found.margin,
        "final": True,
        "sentences": sentences(found),
        "warnings": warnings(found),
        "questions": [
            {
                "question": found.truth.path.name,
                "images": len(labels),
                "groups": None if groups is None else len(set(groups.tolist())),
                "sides": [{"name": s.name, "files": list(s.files), "metrics": metrics[s.name]} for s in found.sides],
                "pairs": [pair_values(pair_row(found.pair), list(found.pair.decision.reasons), headline(found), scope)],
                "classes": [
                    {
                        "class": found.truth.classes[k],
                        "images": int((labels == k).sum()),
                        "a": a.name,
                        "b": b.name,
                        "f1_a": found.f1[0][k],
                        "f1_b": found.f1[1][k],
                        "difference": d.mean,
                        "low": d.low,
                        "high": d.high,
                    }
                    for k, d in found.classes.items()
                ],
            }
        ],
    }
    return known(values)
