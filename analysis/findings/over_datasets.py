"""Two strategies over several data sets: where each was better, and the mean difference.

The interval of the mean includes the spread between data sets. A data set counts where all else is the same: kind of splits, backbone,
share of the training images, budget, image size and the study's protocol.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.data.question import Question
from analysis.findings.answers import turned
from analysis.findings.verdict_pairs import Pair
from analysis.statistics.decisions import ENOUGH_DATASETS, AcrossDatasets, Side, across_datasets
from study.scoring.metric import DEFAULT, Metric

OTHER: dict[Side | None, Side | None] = {"a": "b", "b": "a", None: None}


@dataclass(frozen=True, kw_only=True)
class OverDatasets:
    """The difference A minus B over several data sets."""

    a: str
    b: str
    questions: tuple[Question, ...]  # that differ in their data set alone
    across: AcrossDatasets
    short: int = 0  # data sets on which one of both was cut short
    metric: Metric = DEFAULT

    @property
    def setting(self) -> str:
        """Return what the data sets have in common, as readable text."""
        q = self.questions[0]
        splits = f", {q.data.splits_said}" if q.data.splits_said else ""
        return f"{q.backbone}{splits}{''.join(f', {size}' for size in q.lines[2:])}"

    @property
    def text(self) -> str:
        """Return the finding in words, without the names of the data sets."""
        x = self.across
        neither = x.datasets - x.better - x.worse
        stands = f"{self.a} against {self.b} ({self.setting}): better in {x.better} of {x.datasets} data sets, worse in {x.worse}"
        rest = f", neither shown in {neither}" if neither else ""
        short = f", cut short in {self.short}" if self.short else ""
        mean = (
            f"mean difference {100 * x.mean:+.1f} {self.metric.measured}, 95 % interval over data sets {100 * x.low:+.1f} to "
            f"{100 * x.high:+.1f}"
        )
        doubt = " Longer training may change this." if self.short else ""
        return (
            f"{stands}{rest}{short}; "
            f"{mean}.{doubt}{'' if x.general else f' From fewer than {ENOUGH_DATASETS} data sets nothing general is claimed.'}"
        )


def over_datasets(pairs: Sequence[Pair]) -> list[OverDatasets]:
    """Return every pair of strategies that at least two questions, alike except for their data set, compare."""
    groups: dict[tuple[object, ...], list[Pair]] = {}
    for p in pairs:
        q = p.question
        groups.setdefault((dataclasses.replace(q, dataset=""), frozenset((p.a, p.b))), []).append(p)
    return [_joined(sorted(own, key=lambda p: p.question)) for own in groups.values() if len(own) > 1]


def _joined(pairs: Sequence[Pair]) -> OverDatasets:
    a, b = pairs[0].a, pairs[0].b
    same = [p if p.a == a else _turned(p) for p in pairs]
    across = across_datasets([p.estimate for p in same], [p.decision for p in same])
    return OverDatasets(
        a=a,
        b=b,
        questions=tuple(p.question for p in same),
        across=across,
        short=sum(bool(p.short) for p in same),
        metric=same[0].estimate.metric,
    )


def _turned(p: Pair) -> Pair:
    decision = dataclasses.replace(p.decision, winner=OTHER[p.decision.winner])  # all that is read of it here
    return dataclasses.replace(p, a=p.b, b=p.a, estimate=turned(p.estimate), decision=decision)


def over_datasets_row(o: OverDatasets) -> dict[str, Any]:
    """Return its row of the table. Scores are shares, not points."""
    q, x = o.questions[0], o.across
    return {
        **{name: value for name, value in q.columns.items() if name != "dataset"},
        "a": o.a,
        "b": o.b,
        **dataclasses.asdict(x),
        "names": "; ".join(p.dataset for p in o.questions),
        "text": o.text,
    }
