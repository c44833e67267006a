"""The table of labels, where an image may have several: what stands for the confusion matrix, for a label is taken for no other."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.comparisons import mean_of
from analysis.page.by_class import by_question, differences, f1_runs
from analysis.statistics.intervals import share_interval
from analysis.verdict import Findings
from study.inference.softmax import sigmoid
from study.metrics import counts


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One label under one strategy, over its confirm runs on test; scores are shares, thresholds probabilities."""

    question: Question
    strategy: str
    label: str
    images: int  # test images that have it
    f1: float
    low: float
    high: float
    precision: float
    recall: float
    threshold_low: float  # the least of the runs'
    threshold_high: float
    behind: float  # F1 less that of the strategy with the highest mean, whose own interval is not known
    behind_low: float
    behind_high: float


def label_rows(frames: Frames, findings: Findings) -> list[LabelRow]:
    """Return a row for each label and strategy of every question whose images may have several labels, by label."""
    out: list[LabelRow] = []
    for own in by_question(frames, findings):
        if not own.gathered.several:
            continue
        sides = {strategy: f1_runs(own, strategy) for strategy in own.ranked}
        for strategy, runs in sides.items():
            apart = differences(runs, sides[own.ranked[0]])
            thresholds = _thresholds(frames, chain(*own.gathered.trials[strategy].values()), len(own.names))
            c = [counts(p, own.gathered.labels, len(own.names)) for p in own.gathered.predicted[strategy].values()]
            precision = np.mean([one.hits / np.maximum(one.said, 1) for one in c], axis=0)
            recall = np.mean([one.hits / np.maximum(one.truth, 1) for one in c], axis=0)
            for k, side in runs.items():
                e, first = mean_of(side), strategy == own.ranked[0]
                low, high = share_interval(e)
                out.append(
                    LabelRow(
                        question=own.question,
                        strategy=strategy,
                        label=own.names[k],
                        images=int(own.images[k]),
                        f1=e.mean,
                        low=low,
                        high=high,
                        precision=float(precision[k]),
                        recall=float(recall[k]),
                        threshold_low=float(thresholds[:, k].min()),
                        threshold_high=float(thresholds[:, k].max()),
                        behind=0.0 if first else apart[k].mean,
                        behind_low=float("nan") if first else apart[k].low,
                        behind_high=float("nan") if first else apart[k].high,
                    )
                )
    place = {key: n for n, key in enumerate(dict.fromkeys((row.question, row.label) for row in out))}
    return sorted(out, key=lambda row: place[row.question, row.label])


def _thresholds(frames: Frames, trials: Iterable[str], labels: int) -> np.ndarray:
    """Return the thresholds [runs, L] of these trials' runs, as probabilities."""
    tests = [test for trial in trials if (test := frames.predictions(trial).get("test")) is not None]
    found = [sigmoid(test.thresholds) for test in tests if test.thresholds is not None]
    return np.array(found) if found else np.full((1, labels), np.nan)
