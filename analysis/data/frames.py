"""Data frames of a study: one row per trial, one row per epoch, predictions and measurements by trial."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.data.predictions import Predictions, read_measured, read_predictions
from analysis.data.question import Question
from study.console.text import shown
from study.question.cell import Cell, line_of
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.records import LEFT_OUT, Origin
from study.scoring.metric import Metric
from study.search.confirmed import factors_of
from study.space import Choice, Log
from study.strategies import LINES, Features
from study.tracking.ledger import Ledger

T = TypeVar("T")


def once(method: "Callable[[Frames], T]") -> "Callable[[Frames], T]":
    """A method that computes when it is first called: what it gives is the same for all who ask, and none of them changes it."""
    name = f"_{method.__name__}"

    @wraps(method)
    def known(frames: "Frames") -> T:
        if name not in frames.__dict__:
            frames.__dict__[name] = method(frames)
        return cast(T, frames.__dict__[name])

    return known


CONFIRMING = ("confirm", "budget")
"""Stages whose runs may count in a verdict: a run of the budget check may be a confirm run of the longer budget."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The result of a budget check for one strategy: does longer training raise its validation score?"""

    gains: bool  # False: flat
    found: str = ""  # of one that gains, in words that begin with its name


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Everything known of a study, as data frames and dictionaries."""

    study: Study
    facts: dict[str, Any]
    trials: pd.DataFrame  # one row a trial, in the order of asking; searched values as hp/<name>
    epochs: pd.DataFrame  # one row an epoch
    classes: dict[str, list[str]]  # by cell
    confusion: dict[str, np.ndarray]  # val, at the kept checkpoint, by trial
    openings: list[dict[str, Any]]  # of the test set, those that verdicts rest on
    amendments: list[dict[str, Any]]  # how the study grew
    chosen: dict[str, str]  # cell -> trial
    confirmed_trials: dict[str, list[str]]  # cell -> the search trials whose configurations are confirmed, one a search
    planned: dict[str, list[str]]  # cell -> the confirm runs that speak for it, by id, in their order: made or to be made
    budgets: list[dict[str, Any]]  # by question: what longer training brought on validation, and how long it is confirmed
    rule: str
    data_report: dict[str, Any]
    ledger: Ledger
    checked: Mapping[tuple[Question, str], Checked] = field(default_factory=dict)  # by question and strategy, where a budget check tells
    delivered: dict[str, dict[str, Any]] = field(default_factory=dict)  # by data set and split protocol, what was handed over
    labelled: list[dict[str, Any]] = field(default_factory=list)  # draws of pictures to label after the verdict, filled in or not
    _cache: dict[str, dict[str, Predictions]] = field(default_factory=dict)
    _tables: dict[str, dict[str, pa.Table]] = field(default_factory=dict)

    @property
    def in_progress(self) -> bool:
        """True while something is left to run."""
        return not self.facts.get("finished_at")

    @property
    def scored_by(self) -> Metric:
        """The study's metric: a column of `trials` and `epochs` holds its score on validation, and is called as the metric says."""
        return self.study.scored_by

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Return by id the cells that the study asks about, and the lines to beat that were solved for them."""
        return {c.id: c for c in self.study.cells} | {c.id: c for own in self.lines_beside.values() for c in own}

    @cached_property
    def lines_beside(self) -> dict[str, list[Cell]]:
        """Return, by the cell that a line to beat was solved for, the cells that it stands for, one per question.

        A line solved once is the line of every budget. The one at the network's own image size is the line of every smaller size.
        """
        solved = set(self.trials[self.trials["origin"] == Origin.LINE]["cell"]) if len(self.trials) else set()
        found: dict[str, dict[str, Cell]] = {}
        for cell in self.study.cells:
            for name in LINES:
                own = line_of(cell, name)
                sources = (own.id, replace(own, image_size=0).id) if name == Features.name else (own.id,)
                shown = replace(cell, strategy=name)
                for source in [s for s in sources if s in solved][:1]:
                    found.setdefault(source, {})[shown.id] = shown
        return {source: list(cells.values()) for source, cells in found.items()}

    def question_of(self, cell: Cell) -> Question:
        """Return the question within which the cell's strategy is compared."""
        return Question.of_cell(cell, self.study)

    def questions(self, trials: pd.DataFrame) -> list[Question]:
        """Return the question of each row of `trials`, by its cell. A confirm run on one fold belongs to its cell's question."""
        first = trials.drop_duplicates("cell").to_dict("records")  # a control's cell is none of the study's
        by_cell = {r["cell"]: self.question_of(self.cells[r["cell"]]) if r["cell"] in self.cells else Question.of(r) for r in first}
        return [by_cell[name] for name in trials["cell"]]

    @once
    def scored(self) -> pd.DataFrame:
        """Return the search trials that have a score, in the order of asking, with their question."""
        t, objective = self.trials, self.scored_by.recorded
        if not len(t) or objective not in t:
            return pd.DataFrame()
        scored = t[(t.stage == "search") & t[objective].notna()]
        return scored.assign(question=self.questions(scored))

    def random_trials(self) -> pd.DataFrame:
        """Return the search trials that were drawn at random and never stopped, and are therefore exchangeable.

        Failed trials are left out: a machine's failure is no score.
        """
        t = self.trials
        return t[(t.stage == "search") & (t.origin == "random") & ~t.outcome.isin(["running", "failed"])] if len(t) else t

    @property
    def scales(self) -> dict[str, str]:
        """Return every searched hyperparameter with its kind of axis ("log", "linear", "category"), those shared by most cells first."""
        scales: dict[str, str] = {}
        cells: dict[str, int] = {}
        for cell in self.study.cells:
            for name, domain in self.study.ranges(cell).items():
                scales.setdefault(name, "category" if isinstance(domain, Choice) else "log" if isinstance(domain, Log) else "linear")
                cells[name] = cells.get(name, 0) + 1
        return {name: scales[name] for name in sorted(scales, key=lambda n: -cells[n])}

    @once
    def confirmed(self) -> pd.DataFrame:
        """Return the completed confirm runs that count for their cells at present, and the lines to beat, one row per question they
        stand for.

        A search that grew may have replaced some runs. A question may be confirmed at a longer budget, where one of the runs was the
        budget check's.
        """
        t = self.trials
        if not len(t):
            return t
        speaking = {trial_id for own in self.planned.values() for trial_id in own}
        lines = (t.origin == Origin.LINE) & t.cell.isin(list(self.lines_beside))
        done = t[(t.trial_id.isin(speaking) | lines) & (t.outcome == "completed")]
        if all(len(own) == 1 and own[0].id == source for source, own in self.lines_beside.items()):
            return done
        beside = {source: [c.id for c in own] for source, own in self.lines_beside.items()}
        return done.assign(cell=[beside.get(c, [c]) for c in done["cell"]]).explode("cell", ignore_index=True)

    def confirmed_protocol(self, question: Question) -> Protocol:
        """Return the protocol of the question's confirm runs: the study's, or one with longer training or more pixels."""
        factors = factors_of(self.study, self.budgets, self.confirmed_trials)
        own = self.asked(question)
        cell = own[0] if own else self.study.cells[0]
        return self.study.confirmed_protocol(cell, next((factors[c.id] for c in own if c.id in factors), 1))

    def asked(self, question: Question) -> list[Cell]:
        """Return the study's cells of a question."""
        return [c for c in self.study.cells if self.question_of(c) == question]

    @once
    def at_largest(self) -> pd.DataFrame:
        """Return the trained runs of `confirmed` at the largest size of each data set, with a column `question`.

        The explanations are asked for at that size.
        """
        done = self.confirmed()
        return self._largest(done[~done.strategy.isin(list(LINES))] if len(done) else done)

    def _largest(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Return those of `runs` with the largest share of their data set, the longest budget and the largest images there, with their
        question.
        """
        if not len(runs):
            return runs
        runs = runs.assign(question=self.questions(runs))
        largest: dict[Question, Question] = {}
        for q in dict.fromkeys(runs["question"]):
            largest[q.base] = max(q, largest.get(q.base, q), key=lambda own: own.size)
        return runs[[largest[q.base] == q for q in runs["question"]]]

    @once
    def training_images(self) -> dict[Question, float]:
        """Return by question the number of training images that its confirm runs saw, the median where folds differ."""
        done = self.confirmed()
        if not len(done):
            return {}
        once = done["images"] / done["epochs"]  # where a record does not say so itself, an epoch is one pass
        own = done["train_images"].fillna(once) if "train_images" in done else once
        return {q: float(v) for q, v in own.groupby(pd.Series(self.questions(done), index=own.index), sort=False).median().items()}

    def subsets(self, question: Question) -> int:
        """Return the number of different parts of the training images that the question's confirm runs were trained on, 0 where all saw
        the same.
        """
        done = self.confirmed()
        if not len(done) or "subset" not in done:
            return 0
        own = done["subset"][[q == question for q in self.questions(done)]].dropna()
        return int(own.nunique()) if own.nunique() > 1 else 0

    def explained(self, origin: str) -> pd.DataFrame:
        """Return the completed runs of one origin ("memorisation", "control", "default") that were trained to explain, with their
        question.

        They are those at the largest size, and never candidates for a verdict.
        """
        t = self.trials
        return self._largest(t[(t.stage == "explain") & (t.origin == origin) & (t.outcome == "completed")]) if len(t) else t

    def predictions(self, trial_id: str) -> dict[str, Predictions]:
        """Return the run's predictions by split ("val", "test"), empty where none were made.

        Raises EnvironmentProblem for a file that cannot be trusted.
        """
        if trial_id not in self._cache:
            self._cache[trial_id] = read_predictions(self.ledger, trial_id)
        return self._cache[trial_id]

    def measured(self, name: str) -> pd.DataFrame:
        """Return the results of measurement `name` for all runs in one frame with a column trial_id, empty where no run has any."""
        tables = [t.to_pandas().assign(trial_id=trial_id) for trial_id, t in self._measured(name).items() if t.num_rows]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def measured_runs(self, name: str) -> pd.DataFrame:
        """Return the results of measurement `name` for the runs of `at_largest`, with each run's question, strategy and seed."""
        found, runs = self.measured(name), self.at_largest()
        return (
            found.merge(runs[["trial_id", "question", "strategy", "seed"]], on="trial_id") if len(found) and len(runs) else pd.DataFrame()
        )

    def left_out(self, name: str) -> dict[str, str]:
        """Return by trial why measurement `name` has no result for a run."""
        reasons = {trial_id: (t.schema.metadata or {}).get(LEFT_OUT.encode()) for trial_id, t in self._measured(name).items()}
        return {trial_id: shown(reason.decode("utf-8", "replace")) for trial_id, reason in reasons.items() if reason}

    def _measured(self, name: str) -> dict[str, pa.Table]:
        """Return by trial the table of measurement `name`. Only confirm runs are measured.

        Raises EnvironmentProblem for a file that cannot be trusted.
        """
        if name not in self._tables:
            runs = self.trials[self.trials["stage"].isin(CONFIRMING)]["trial_id"] if len(self.trials) else ()
            tables = {trial_id: read_measured(self.ledger, trial_id, name) for trial_id in runs}
            self._tables[name] = {trial_id: t for trial_id, t in tables.items() if t is not None}
        return self._tables[name]
