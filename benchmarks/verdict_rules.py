"""The rules that bar a verdict, as they are and as they were, on the same simulated studies.

By the former rule, a run had collapsed when it lay below its strategy's median test score by three robust standard deviations and five
points, whatever its search had found. It knew nothing of small classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis.findings.small_classes import small_classes
from analysis.statistics.collapse import LEAST_DROP, Collapse, collapse_reason, count, count_collapses
from analysis.statistics.decisions import Doubts
from analysis.statistics.scored_runs import Runs
from benchmarks.worlds import Split
from study.scoring.metric import DEFAULT, Metric

SDS_BEFORE = 3.0


@dataclass(frozen=True, kw_only=True)
class Ruled:
    """The result of a rule for one study."""

    collapses: list[Collapse]  # by strategy
    small: str

    @property
    def reasons(self) -> list[str | None]:
        """Return by pair why collapses bar it, or None."""
        return [collapse_reason(a, b) for a, b in combinations(self.collapses, 2)]

    @property
    def doubts(self) -> list[Doubts]:
        """Return the doubts of each pair."""
        return [Doubts(both=tuple(x for x in (self.small, r) if x)) for r in self.reasons]

    def mistaken(self, lost: Sequence[np.ndarray]) -> list[bool]:
        """Return, for each pair without a collapsed run, True where one counts as collapsed. From ten runs on that bars nothing."""
        pairs = zip(combinations(self.collapses, 2), combinations(lost, 2), strict=True)
        return [c.collapsed + d.collapsed > 0 for (c, d), (a, b) in pairs if not a.any() and not b.any()]

    def barred(self, lost: Sequence[np.ndarray]) -> list[bool]:
        """Return, for each pair without a collapsed run, True where a collapse bars it."""
        return [r is not None for r, (a, b) in zip(self.reasons, combinations(lost, 2), strict=True) if not a.any() and not b.any()]

    def found(self, lost: Sequence[np.ndarray]) -> list[bool]:
        """Return, for each run that collapsed in truth, True where it counts as collapsed."""
        return [w for c, own in zip(self.collapses, lost, strict=True) for w, gone in zip(c.which, own, strict=True) if gone]


def rules_now(runs: Sequence[Runs], over_search: Sequence[np.ndarray], splits: Sequence[Split], metric: Metric = DEFAULT) -> Ruled:
    """Apply the present rule. `over_search` [K] by strategy is described in analysis.statistics.collapse."""
    return Ruled(
        collapses=count_collapses([_by_run(r) for r in runs], over_search, len(np.unique(runs[0].search)), metric.margin / 100),
        small=small_classes(np.concatenate([s.labels for s in splits])) if metric.by_class else "",
    )


def rule_before(runs: Sequence[Runs]) -> Ruled:
    """Apply the former rule, which looks at test scores only."""
    scores = [_by_run(r) for r in runs]
    sd = _sd_before(scores)
    which = [np.median(s) - s > max(SDS_BEFORE * sd, LEAST_DROP / 100) for s in scores]
    return Ruled(collapses=[count(s, w) for s, w in zip(scores, which, strict=True)], small="")


def _sd_before(scores: Sequence[np.ndarray]) -> float:
    deviations = np.concatenate([np.abs(s - np.median(s)) for s in scores])
    k = len(scores[0])
    return float(1.4826 * np.median(deviations) * k / max(k - 0.9, 0.1))


def _by_run(runs: Runs) -> np.ndarray:
    """Return scores [K], the mean over folds where there are several."""
    folds = 1 if runs.fold is None else len(np.unique(runs.fold))
    return runs.scores.reshape(folds, -1).mean(axis=0)
