"""Probes of one data set in order: scores with intervals over images, and the networks that may be as good as the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.statistics import resampling as st
from analysis.statistics.intervals import difference_interval, fixed_difference, images_estimate, share_interval
from analysis.statistics.scored_runs import Runs, score_runs
from study.scoring import DEFAULT
from study.screen.probe import Probed, Task


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The rank of one network. Scores are macro-F1, shares in [0, 1]; intervals are over images alone."""

    rank: int
    probed: Probed
    mean: float
    low: float
    high: float
    accuracy: float
    behind: float  # what the first scores above it, paired over images
    behind_low: float  # of the interval that holds for all networks at once (Bonferroni)
    behind_high: float

    @property
    def may_be_best(self) -> bool:
        """Return True where it is the first, or its difference from the first is not decided."""
        return self.rank == 1 or not self.behind_low > 0


def rank(task: Task, probes: Sequence[Probed], resamples: int = st.RESAMPLES) -> list[Ranked]:
    """Return the networks, the highest macro-F1 first; of equal ones the smaller network."""
    weights = st.shared_weights(len(task.labels), task.groups, resamples)
    units = st.image_units(len(task.labels), task.groups)
    scored = [score_runs([p.said], [0], task.labels, len(task.classes), weights, units, (DEFAULT.name, "accuracy")) for p in probes]
    order = sorted(range(len(probes)), key=lambda k: (-scored[k][DEFAULT.name].scores[0], probes[k].parameters))
    first = scored[order[0]][DEFAULT.name] if order else None
    confidence = 1 - (1 - st.CONFIDENCE) / max(len(probes) - 1, 1)
    return [_ranked(k + 1, probes[own], scored[own], first, confidence) for k, own in enumerate(order) if first is not None]


def _ranked(place: int, probed: Probed, scored: dict[str, Runs], first: Runs, confidence: float) -> Ranked:
    own = scored[DEFAULT.name]
    low, high = share_interval(images_estimate(float(own.scores[0]), own.resampled[0], own.units))
    behind = fixed_difference(first, own)
    least, most = difference_interval(behind, confidence) if place > 1 else (0.0, 0.0)
    return Ranked(
        rank=place,
        probed=probed,
        mean=float(own.scores[0]),
        low=low,
        high=high,
        accuracy=float(scored["accuracy"].scores[0]),
        behind=behind.mean,
        behind_low=least,
        behind_high=most,
    )


def values(task: Task, found: Sequence[Ranked], left_out: dict[str, str]) -> dict[str, Any]:
    """Return the ranking as plain values, for JSON."""
    return {
        "dataset": task.dataset,
        "images": len(task.labels),
        "groups": None if task.groups is None else len(np.unique(task.groups)),
        "classes": list(task.classes),
        "folds": len(task.folds),
        "networks": [
            {
                "rank": r.rank,
                "network": r.probed.network,
                **{k: getattr(r, k) for k in ("mean", "low", "high", "accuracy", "behind", "behind_low", "behind_high", "may_be_best")},
                **{k: getattr(r.probed, k) for k in ("image_size", "pass_seconds", "probe_seconds", "parameters", "megabytes")},
                "strengths": list(r.probed.strengths),
                "weights": r.probed.weights,
                "licence": r.probed.licence,
            }
            for r in found
        ],
        "left_out": [{"network": network, "reason": reason} for network, reason in left_out.items()],
    }
