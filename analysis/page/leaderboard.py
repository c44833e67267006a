"""The best trials of each search with their settings, and the results of those that were confirmed."""

from typing import Any

import pandas as pd

from analysis.data.frames import Frames
from analysis.data.question import COLUMNS
from analysis.findings.pick import in_words
from analysis.verdict import Findings

MOST = 10  # a question


def leaderboard(frames: Frames, findings: Findings) -> pd.DataFrame:
    """Return one row per trial, the best of each search.

    The columns are question, place, strategy, number, validation (higher is better, optimistic because the search chose by it), test
    (mean over confirm runs of the configuration's cell, where it was chosen), epochs, seconds, settings in words, trial_id.
    """
    scored = frames.scored()
    if not len(scored):
        return pd.DataFrame()
    chosen = set(frames.chosen.values()) | {t for own in frames.confirmed_trials.values() for t in own}
    s = findings.strategies
    means = s[s.metric == frames.scored_by.key].set_index([*COLUMNS, "strategy"])["mean"] if len(s) else pd.Series()
    rows: list[dict[str, Any]] = []
    for question, own in scored.groupby("question", sort=False):
        best = own.sort_values([frames.scored_by.recorded, "seconds"], ascending=[False, True], kind="stable").head(MOST)
        for place, row in enumerate(best.to_dict("records"), 1):
            key = (*question.columns.values(), row["strategy"])
            rows.append(
                {
                    "question": question,
                    "place": place,
                    "strategy": row["strategy"],
                    "number": row["number"],
                    "validation": row[frames.scored_by.recorded],
                    "test": means.get(key) if row["trial_id"] in chosen else None,
                    "epochs": row["epochs"],
                    "seconds": row["seconds"],
                    "settings": settings(row, list(frames.scales)),
                    "trial_id": row["trial_id"],
                }
            )
    return pd.DataFrame(rows)


def settings(row: dict[str, Any], names: list[str]) -> str:
    """Return in words those of the searched fields that the trial has."""
    found = {name: row.get(f"hp/{name}") for name in names}
    return in_words({k: v for k, v in found.items() if v is not None and v == v})
