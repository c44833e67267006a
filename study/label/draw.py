"""The draw of pictures to label from a folder, each with its probability and the predictions of every run of the study."""

import time
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.question import Question
from analysis.findings.comparisons import Gathered
from analysis.findings.labelled import trained
from analysis.findings.small_classes import small_classes
from analysis.statistics import survey
from study.conduct.workplace import Workplace
from study.console.text import joined, shown
from study.errors import ConfigError, StudyError
from study.label.pool import Pool, digest, look_through
from study.metrics import Counts, counts
from study.results import Results
from study.scoring.metric import DEFAULT
from study.tracking.ledger import Ledger


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """The record of a draw for the ledger, and the files of the pictures in the order in which they are to be looked at."""

    draw: dict[str, Any]
    files: dict[str, Path]  # by the name that the draw has
    channels: int  # of the pictures: 1 or 3
    lines: list[str]  # what was left out


def question_to_decide(results: Results, wanted: str) -> tuple[Gathered, list[tuple[str, str]]]:
    """(the question, its open pairs). Raises ConfigError where nothing is open, several questions are, or images have several labels."""
    metric = results.frames.scored_by
    if metric.key != DEFAULT.key:
        raise ConfigError(f"{results.folder} is scored by {metric.words}, and labels are drawn for {DEFAULT.words} alone.")
    if results.in_progress:
        raise ConfigError(f"{results.folder} is in progress. Finish it first: python -m study.sweep {results.folder}")
    asked = [g for g in results.findings.gathered if wanted in (g.question.dataset, g.question.data.short, "")]
    if asked and all(g.several for g in asked):
        raise ConfigError(
            f"{results.folder}: an image may have several labels there, and pictures to label are drawn for one class an image alone. "
            "Label pictures taken at random, and begin a new study with them."
        )
    found = [(g, pairs) for g in asked if not g.several and (pairs := _open(results, g))]
    names = [g.question.name for g in results.findings.gathered]
    if not found:
        raise ConfigError(
            f"{results.folder}: no two strategies are undecided on {wanted or joined(names) or 'it'}, so no label would decide one. What "
            "cannot be compared needs another step, which its report names."
        )
    if len(found) > 1:
        raise ConfigError(
            f"{results.folder} is undecided on {joined([g.question.name for g, _ in found])}. Name one: {results.folder}:DATASET."
        )
    return found[0]


def _open(results: Results, gathered: Gathered) -> list[tuple[str, str]]:
    """Its pairs that more labels may decide: undecided ones, or all of them where classes have too few test images."""
    if small_classes(gathered.labels, gathered.classes):
        return [*combinations(trained(gathered), 2)]
    pairs = results.pairs
    own = pairs[[Question.of(r) == gathered.question for r in pairs.to_dict("records")]] if len(pairs) else pairs
    return [(r["a"], r["b"]) for r in own.to_dict("records") if r["verdict"] == "undecided"]


def make_draw(
    results: Results,
    gathered: Gathered,
    pairs: Sequence[tuple[str, str]],
    folder: Path,
    paths: Sequence[Path],
    most: int,
    among: int,
    data: str | None,
) -> Drawn:
    """Looks at the pictures, or at `among` of them drawn at random, and draws `most`. Raises ConfigError, DataError."""
    ledger, lines = results.frames.ledger, list[str]()
    before = ledger.labelled()
    rng = np.random.Generator(np.random.Philox(key=[len(before), 23]))
    looked = sorted(rng.choice(len(paths), among, replace=False)) if len(paths) > among else range(len(paths))
    asked = [s for s in trained(gathered) if any(s in pair for pair in pairs)]
    theirs = _images_of(ledger, _runs(gathered, asked)[0], data, lines)
    pool = look_through(ledger, _runs(gathered, asked), [paths[k] for k in looked], theirs)
    squares = _squares(gathered, pairs, pool)
    labels = _labels_of(before, gathered.question)
    known = np.array([d in labels for d in pool.digests])
    if known.all():
        raise ConfigError(f"all {len(known)} pictures of {shown(str(folder))} were labelled before. Name another folder.")
    chance = survey.inclusion(squares, most, known)
    taken = survey.drawn(chance, rng)
    taken = taken[rng.permutation(len(taken))]  # their order says nothing of them
    names = [_named(pool.paths[k], folder) for k in taken]
    others = [t for t in _runs(gathered, trained(gathered)) if t not in pool.said]
    said = {t: v[taken] for t, v in pool.said.items()}
    if others:
        said |= look_through(ledger, others, [pool.paths[k] for k in taken]).said
    folds = int(gathered.fold.max()) + 1
    lines += _left_out(pool, len(paths), len(looked))
    draw = {
        **gathered.question.columns,
        "at": time.time(),
        "folder": str(folder),
        "pictures": len(pool.paths),
        "asked": asked,
        "worth": survey.worth(squares, chance),
        "filled": None,
        "images": [
            {"image": n, "sha256": pool.digests[k], "probability": float(chance[k]), "label": labels.get(pool.digests[k])}
            for n, k in zip(names, taken, strict=True)
        ],
        "fold": [int(k) for k in rng.permutation(np.arange(len(taken)) % folds)],
        "said": {t: [int(v) for v in own] for t, own in said.items()},
    }  # fmt: skip
    return Drawn(draw=draw, files=dict(zip(names, (pool.paths[k] for k in taken), strict=True)), channels=pool.channels, lines=lines)


def _runs(gathered: Gathered, strategies: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(t for s in strategies for own in gathered.trials[s].values() for t in own))


def _squares(gathered: Gathered, pairs: Sequence[tuple[str, str]], pool: Pool) -> np.ndarray:
    """[M]: each pair's expected squared influences, each pair given the same say."""
    said = {s: np.stack([pool.said[t] for t in _runs(gathered, [s])]) for pair in pairs for s in pair}
    at = {s: _mean_counts(gathered, s, pool.shares.shape[1]) for s in said}
    own = [survey.squared_influence(said[a], said[b], pool.shares, (at[a], at[b])) for a, b in pairs]
    return np.asarray(np.sum([one / max(float(one.sum()), 1e-300) for one in own], axis=0))


def _mean_counts(gathered: Gathered, strategy: str, classes: int) -> Counts:
    found = [counts(p, gathered.labels, classes) for p in gathered.predicted[strategy].values()]
    return Counts(**{name: np.mean([getattr(c, name) for c in found], axis=0) for name in ("hits", "said", "truth")})


def _labels_of(draws: Sequence[Mapping[str, Any]], question: Question) -> dict[str, str]:
    """Return by digest the labels that were given for the question before."""
    own = [d for d in draws if d["filled"] and Question.of(d) == question]
    return {image["sha256"]: image["label"] for d in own for image in d["images"]}


def _images_of(ledger: Ledger, trial: str, data: str | None, lines: list[str]) -> Collection[str]:
    """Digests of the study's own images; none, and a line that says why, where they are not at hand."""
    ask = ledger.ask(trial)
    assert ask is not None, "it has predictions"
    try:
        _, pixels = Workplace.of(ledger, data).images(ask)
    except StudyError as error:
        lines.append(f"not compared with the study's own images ({error}) Take care that it has none of these pictures.")
        return ()
    return {digest(image) for image in pixels}


def _left_out(pool: Pool, found: int, looked: int) -> list[str]:
    lines = [f"{found:,} pictures: {looked:,} of them, drawn at random, were looked at (--among)"] if looked < found else []
    lines += [f"left out: {_pictures(pool.known)} that the study has already"] if pool.known else []
    lines += [f"left out: {_pictures(pool.copies)} equal to another"] if pool.copies else []
    lines += [f"left out: {_pictures(len(pool.unreadable))} that cannot be read ({pool.unreadable[0]})"] if pool.unreadable else []
    return lines


def _pictures(count: int) -> str:
    return f"{count:,} picture{'s' * (count != 1)}"


def _named(path: Path, folder: Path) -> str:
    """Below the folder; letters that are none of Unicode as escapes."""
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    return unicodedata.normalize("NFC", str(name).encode("utf-8", "backslashreplace").decode())
