"""The verdict again, on the test images and on pictures that were labelled later: those that `study.label` drew with known probabilities.

The first verdict stays. This one is a further look at the test images, and is held to the level of one. Pictures that show none of the
classes are left out, and the others of their draw stand for those that do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.comparisons import Compared, Gathered, Side, difference_of, mean_of
from analysis.findings.small_classes import small_classes
from analysis.findings.verdict_pairs import Pair, judge, look
from analysis.statistics.cross_fitting import OuterFolds, cross_fit
from analysis.statistics.scored_runs import score_runs
from analysis.statistics.survey import Sample, hajek
from study.scoring.metric import DEFAULT
from study.strategies import EVERY

NONE = ""
"""The label of a picture that shows none of the classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Relabelled:
    """One question with all pictures that were labelled for it."""

    question: Question
    draws: tuple[Mapping[str, Any], ...]  # those that count, as the ledger has them
    pairs: tuple[Pair, ...]
    means: Mapping[str, float]  # by strategy, on all images together
    problem: str = ""  # why there are no pairs

    @property
    def labels(self) -> int:
        """Return the number of pictures that were labelled."""
        return sum(len(d["images"]) for d in self.draws)


def relabelled(frames: Frames, gathered: Sequence[Gathered], compared: Sequence[Compared], resamples: int) -> list[Relabelled]:
    """Return one result per question for which pictures were labelled.

    `compared` holds all pairs of the study on test images. Those of other questions are judged beside the new ones, as in every look.
    """
    found = []
    for own in gathered:
        draws = counted([d for d in frames.labelled if d["filled"] and Question.of(d) == own.question])
        if not draws:
            continue
        problem = _problem(own, draws)
        again, means = ([], {}) if problem else _compare(own, draws, compared, resamples)
        others = [c for c in compared if c.question != own.question]
        looks = look(frames) + sum(1 + len(d.get("corrected", ())) for d in frames.labelled if d["filled"])
        judged = judge([*again, *others], frames, looks=looks)[: len(again)]
        found.append(Relabelled(question=own.question, draws=tuple(draws), pairs=tuple(judged), means=means, problem=problem))
    return found


def counted(draws: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the draws that count.

    A draw from pictures some of which were labelled before contains these, and takes the place of what they were in.
    """
    out: list[Mapping[str, Any]] = []
    for draw in draws:
        own = _digests(draw)
        out = [d for d in out if not own & _digests(d)] + [draw]
    return out


def _digests(draw: Mapping[str, Any]) -> set[str]:
    return {image["sha256"] for image in draw["images"]}


def _problem(gathered: Gathered, draws: Sequence[Mapping[str, Any]]) -> str:
    known = set.intersection(*(set(d["said"]) for d in draws))
    missing = [t for s in trained(gathered) for runs in gathered.trials[s].values() for t in runs if t not in known]
    return f"{len(missing)} runs joined the study after these pictures were drawn" if missing else ""


def trained(gathered: Gathered) -> list[str]:
    """Return the strategies that are compared: all except the line to beat."""
    return [s for s in gathered.predicted if not EVERY[s].yardstick]


def _compare(
    gathered: Gathered, draws: Sequence[Mapping[str, Any]], compared: Sequence[Compared], resamples: int
) -> tuple[list[Compared], dict[str, float]]:
    """Return (the question's pairs on all images with labels, the strategies' scores there)."""
    sides = sides_with(gathered, draws, resamples)
    labels = np.concatenate([gathered.labels, *(_labels(gathered, d) for d in draws)])
    small = small_classes(labels, gathered.classes)
    before = {(c.a, c.b): c for c in compared if c.question == gathered.question}
    pairs = [
        replace(before[a, b], estimate=difference_of(sides[a], sides[b]), small_classes=small)
        for a, b in combinations(sides, 2)
        if (a, b) in before
    ]
    return pairs, {s: mean_of(side).mean for s, side in sides.items()}


def sides_with(gathered: Gathered, draws: Sequence[Mapping[str, Any]], resamples: int) -> dict[str, Side]:
    """Return by strategy what is compared on the test images and the labelled pictures together, on the primary metric."""
    kept = [[k for k, image in enumerate(d["images"]) if image["label"] != NONE] for d in draws]
    chances = [np.array([d["images"][k]["probability"] for k in own]) for d, own in zip(draws, kept, strict=True)]
    weights = [hajek(p, _total(d, own)) for p, d, own in zip(chances, draws, kept, strict=True)]
    before = len(gathered.labels)
    labels = np.concatenate([gathered.labels, *(_labels(gathered, d) for d in draws)])
    fold = np.concatenate([gathered.fold, *(np.array(d["fold"])[own] for d, own in zip(draws, kept, strict=True))])
    sample = Sample(
        stratum=np.concatenate([np.zeros(before, int), *(np.full(len(w), k + 1) for k, w in enumerate(weights))]),
        weights=np.concatenate([np.ones(before), *weights]),
        groups=_groups(gathered.groups, sum(map(len, kept))),
    )
    said = {s: _said(gathered, s, draws, kept) for s in trained(gathered)}
    classes = max(gathered.num_classes, int(labels.max()) + 1, *(int(p.max()) + 1 for runs in said.values() for p in runs))
    if gathered.nested:
        folds = OuterFolds(labels=labels, fold=fold, classes=classes, groups=sample.groups, weights=sample.weights)
        return {s: cross_fit(np.stack(runs), folds) for s, runs in said.items()}
    again, units = sample.resample(resamples), sample.units()
    search = {s: [gathered.searches[seed] for seed in gathered.predicted[s]] for s in said}
    return {
        s: score_runs(runs, search[s], labels, classes, again, units, (DEFAULT.name,), each=sample.weights)[DEFAULT.name]
        for s, runs in said.items()
    }


def _total(draw: Mapping[str, Any], kept: Sequence[int]) -> float:
    """Return the number of images that the draw counts for: those that tell as much, less the share that shows none of the classes."""
    inverse = np.array([1 / image["probability"] for image in draw["images"]])
    return float(draw["worth"] * inverse[list(kept)].sum() / inverse.sum())


def _labels(gathered: Gathered, draw: Mapping[str, Any]) -> np.ndarray:
    place = {name: k for k, name in enumerate(gathered.classes)}
    return np.array([place[image["label"]] for image in draw["images"] if image["label"] != NONE], int)


def _groups(groups: np.ndarray | None, more: int) -> np.ndarray | None:
    """Return the groups with each picture that was labelled later as a unit of its own."""
    return None if groups is None else np.concatenate([groups, int(groups.max()) + 1 + np.arange(more)])


def _said(gathered: Gathered, strategy: str, draws: Sequence[Mapping[str, Any]], kept: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Return by run [N] classes, predicted for test images, then for the pictures.

    With outer folds they are those of the network whose fold a picture was put into.
    """
    return [
        np.concatenate([runs, *_of_draws(trials, draws, kept)])
        for runs, trials in zip(gathered.predicted[strategy].values(), gathered.trials[strategy].values(), strict=True)
    ]


def _of_draws(trials: Sequence[str], draws: Sequence[Mapping[str, Any]], kept: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    for draw, own in zip(draws, kept, strict=True):
        told = np.array([draw["said"][t] for t in trials])
        yield told[np.array(draw["fold"])[list(own)], list(own)]
