"""A forecast before the run: the smallest difference that a study's design can detect, and whether it can show that none matters."""

import dataclasses
import io
import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from analysis.data.question import Question
from analysis.statistics.forecast import Sight, Spread, design
from analysis.statistics.resampling import image_units
from study.errors import ConfigError, EnvironmentProblem
from study.question.study_config import Study
from study.scoring.metric import DEFAULT, Metric
from study.storage.folder import Folder
from study.tracking.ledger import Ledger

TestSet = tuple[int, np.ndarray | None]  # how many images, and their sessions where they have any


def sights(study: Study, tests: Mapping[tuple[str, str], TestSet], results: Folder) -> Iterator[str]:
    """Yield one line per question.

    `tests` holds the test sets by (data set, split protocol). `results` is the folder of earlier studies, whose measured spread is
    better than the default.
    """
    cells = {Question.of_cell(c, study): c for c in study.cells}
    strategies = {q: len({c.strategy for c in study.cells if c.question == cell.question}) for q, cell in cells.items()}
    pairs = sum(math.comb(n, 2) for n in strategies.values())
    for question, cell in cells.items():
        if strategies[question] < 2:
            continue
        count, groups = tests[cell.dataset, cell.split_protocol]
        spread, source = spread_for(question, results, study.scored_by)
        seen = design(
            study.searches, study.confirm_seeds // study.searches, image_units(count, groups).effective, spread, pairs, folds=study.folds
        )
        yield f"{question.name}: {_said(seen, study, source)}"


def _said(seen: Sight | None, study: Study, source: str) -> str:
    if seen is None:
        return "one run a strategy, or one test image, shows nothing of the spread: no verdict can be reached. Raise confirm_seeds"
    metric = study.scored_by
    worth = metric.count(study.margin)
    margin = (
        f"and can say that nothing worth {worth} lies between them"
        if seen.reaches(study.margin / 100)
        else (
            f"but not that nothing worth {worth} lies between them: that needs a margin of {_points(seen.margin, metric)} or "
            "more, or more seeds and images"
        )
    )
    who = f"{study.searches} searches" if study.searches > 1 else "one search, so of these configurations alone"
    return (
        f"with {study.confirm_seeds} seeds and {who} it sees differences from {_points(seen.difference, metric)} "
        f"{metric.measured} on in 80 % of studies, {margin} (spread: {source})"
    )


def _points(share: float, metric: Metric) -> str:
    most = metric.width if math.isfinite(metric.width) else math.inf
    return f"{math.ceil(1000 * min(share, most)) / 10:g}"


def spread_for(question: Question, results: Folder, metric: Metric = DEFAULT) -> tuple[Spread, str]:
    """Return the spread and its source: the newest study with the same question, or the default where there is none."""
    for name in sorted(results.names(), key=lambda n: _made_at(results, n), reverse=True):
        found = _measured(question, results, name, metric)
        if found is not None:
            return found, f"as in {name}"
    usual, span = Spread(), metric.span
    return dataclasses.replace(
        usual, search=usual.search * span, seed=usual.seed * span, disagreement=usual.disagreement * span**2
    ), "a default, measured on a small part of DeepWeeds"


def _made_at(results: Folder, name: str) -> float:
    """Return when the study finished as Unix time, or when its tables were written where it did not finish or cannot be read."""
    try:
        finished = Ledger(results.location, name).facts().get("finished_at")
    except (ConfigError, EnvironmentProblem):
        finished = None
    return float(finished or results.modified(f"{name}/tables/pairs.csv") or 0.0)


def _measured(question: Question, results: Folder, name: str, metric: Metric) -> Spread | None:
    """Return the measured spread, or None where that study has no such question or no readable tables.

    It feeds a forecast, never a verdict, so a table that cannot be read is no error.
    """
    rows = {}
    for table in ("strategies", "pairs"):
        data = results.read(f"{name}/tables/{table}.csv")
        try:
            frame = pd.read_csv(io.BytesIO(data or b""))
            rows[table] = frame[[Question.of(r) == question for r in frame.to_dict("records")]]
        except (ValueError, KeyError):
            return None
    strategies, pairs = rows["strategies"], rows["pairs"]
    if (
        not len(strategies)
        or not len(pairs)
        or not {"metric", "sd_seeds", "effective_units"} <= set(strategies)
        or "se_images" not in pairs
    ):
        return None
    macro = strategies[strategies.metric == metric.key]
    if not len(macro) or macro.sd_seeds.isna().all() or pairs.se_images.isna().all():
        return None  # of one run each
    seed = float(np.sqrt(np.nanmean(macro.sd_seeds.to_numpy(float) ** 2)))
    images = float(np.nanmean(pairs.se_images.to_numpy(float) ** 2) * macro.effective_units.max())
    if not (0 < seed < metric.span and 0 < images < math.inf):
        return None
    return dataclasses.replace(Spread(), seed=seed, disagreement=images)
