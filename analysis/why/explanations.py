"""The paper's explanations, each compared with what was measured: supported, contradicted or undecided, with its numbers.

- Supported: a measure differs between the strategies as the explanation claims (paired over runs, Holm over all measures of the
  question), and none differs the other way. Also, the strategy that trains less scores better, and over the trials, going that way is
  shown to go with lower scores.
- Contradicted: measures differ only the other way, or as claimed while the strategy they speak for scores worse.
- Undecided: otherwise, with the reason.
- Not measured: no measure of the explanation's own was taken. The distance of the weights tells neither what a network answers nor what
  it sees.
- Not judged: one of the strategies was cut short. A network that has not learned yet explains nothing.

`benchmarks/why.py` measures how often two strategies that do not differ are told apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.frames import Frames
from analysis.data.question import COLUMNS, Question
from analysis.findings.short import shorts, were_cut_short
from analysis.statistics.resampling import holm
from analysis.why.contrasts import ALPHA, Contrast, paired
from analysis.why.measures import EXPLANATIONS, SATURATED, Explanation, trial_figures
from study.console.text import joined
from study.scoring.metric import Metric

Verdict = Literal["supported", "contradicted", "undecided", "not judged", "not measured"]
FEWEST_TRIALS = 6  # for a rank correlation


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A partial rank correlation over the trials of one strategy; NaN where there are too few."""

    value: float
    low: float  # 95 %
    high: float
    trials: int

    @property
    def text(self) -> str:
        return f"rank correlation {self.value:+.2f}, 95 % interval {self.low:+.2f} to {self.high:+.2f}"


@dataclass(frozen=True, kw_only=True)
class Why:
    """The verdict on one explanation for one question, with its measures."""

    question: Question
    explanation: Explanation
    less: str  # the strategy that trains less
    more: str
    verdict: Verdict
    because: str
    score: Contrast | None  # test score
    contrasts: tuple[Contrast, ...]
    relation: Relation  # over the trials of `more`

    @property
    def mark(self) -> str:
        """Return the mark that the page gives a verdict of this kind."""
        return {"supported": "decided", "contradicted": "equal"}.get(self.verdict, "open")

    @property
    def numbers(self) -> list[str]:
        """Return every measure, the score and the relation over trials, in words."""
        shown = [*self.contrasts, *([self.score] if self.score else [])]
        lines = [c.text(self.less, self.more) for c in shown]
        if not math.isnan(self.relation.value):
            lines.append(
                f"over {self.relation.trials} trials of {self.more}, {RELATIONS[self.explanation.relation]} with the "
                f"validation score, given the training score: {self.relation.text}"
            )
        return lines

    @property
    def text(self) -> str:
        """Return the verdict and its reason on one line."""
        return (
            f"{self.question.name}: {self.explanation.title} (the paper's {self.explanation.section}): "
            f"{self.verdict}{':' if self.verdict.startswith('not') else ';'} {self.because}."
        )


def explain(frames: Frames, seeds: pd.DataFrame) -> list[Why]:
    """Return one verdict per data set (at its largest size) and explanation that anything was measured for.

    `seeds` holds test scores by run, as in Findings.
    """
    confirmed = frames.at_largest()
    if not len(confirmed) or not len(seeds):
        return []
    figures, short = trial_figures(frames), shorts(frames)
    out = []
    for question, runs in confirmed.groupby("question", sort=False):
        pair = less_and_more(runs)
        if pair is None:
            continue
        score = paired(frames, runs, _scores(seeds, runs, frames.scored_by), *pair)
        for explanation, contrasts in adjusted([(e, _contrasts(frames, runs, e, *pair)) for e in EXPLANATIONS]):
            if contrasts:
                relation = _relation(figures, frames, question, pair[1], explanation.relation)
                verdict, because = judge(explanation, contrasts, score, relation, *pair)
                if frames.study.folds > 1:
                    verdict, because = "not judged", "explanations are not judged in studies by outer folds"
                if cut := [s for s in pair if (question, s) in short]:
                    verdict, because = "not judged", were_cut_short(cut)
                out.append(
                    Why(
                        question=question,
                        explanation=explanation,
                        less=pair[0],
                        more=pair[1],
                        verdict=verdict,
                        because=because,
                        score=score,
                        contrasts=contrasts,
                        relation=relation,
                    )
                )
    return out


def less_and_more(runs: pd.DataFrame) -> tuple[str, str] | None:
    """Return the two strategies that the explanations are about: the paper's A and B, else those that train the fewest and the most
    parameters.
    """
    known = list(dict.fromkeys(runs.strategy))
    if {"partial", "full"} <= set(known):
        return "partial", "full"
    if len(known) < 2:
        return None
    order = runs.groupby("strategy").trained_parameters.median().sort_values(kind="stable")
    return (str(order.index[0]), str(order.index[-1])) if order.iloc[0] < order.iloc[-1] else None


def _scores(seeds: pd.DataFrame, runs: pd.DataFrame, metric: Metric) -> pd.Series:
    """Return the test score by trial_id. The folds of one seed share its score."""
    own = seeds[seeds.metric == metric.key].set_index([*COLUMNS, "strategy", "seed"]).score
    first = runs.question.iloc[0]
    keys = [(*first.columns.values(), s, k) for s, k in zip(runs.strategy, runs.seed, strict=True)]
    return pd.Series([float(own.get(key, math.nan)) for key in keys], index=runs.trial_id).dropna()


def _contrasts(frames: Frames, runs: pd.DataFrame, explanation: Explanation, less: str, more: str) -> list[Contrast]:
    found = []
    for measure in explanation.measures:
        values = measure.of_runs(frames, runs)
        values = values[values.index.isin(runs.trial_id)].dropna()
        if (contrast := paired(frames, runs, values, less, more, measure)) is None:
            continue
        if not (measure.saturates and max(contrast.less, contrast.more) < SATURATED):
            found.append(contrast)
    return found


def adjusted(found: Sequence[tuple[Explanation, Sequence[Contrast]]]) -> list[tuple[Explanation, tuple[Contrast, ...]]]:
    """Return the contrasts with Holm's p over all measures of the question on which verdicts rest.

    One of several explanations is found by luck more often than a single one.
    """
    tested = [c for _, own in found for c in own if not c.measure.beside]
    p = dict(zip(map(id, tested), holm([c.p for c in tested]), strict=True))
    return [(e, tuple(replace(c, holm=float(p.get(id(c), math.nan))) for c in own)) for e, own in found]


RELATIONS = {
    "distance": "the distance gone",
    "first_distance": "the distance gone in the first epoch",
    "gap": "the training minus validation gap",
}


def _relation(figures: pd.DataFrame, frames: Frames, question: Question, strategy: str, column: str) -> Relation:
    """Return the rank correlation of `column` with the validation score, given the training score, over all trials of the strategy."""
    cells = [c.id for c in frames.study.cells if c.strategy == strategy and frames.question_of(c) == question]
    own = figures
    if len(figures):
        own = figures[figures.cell.isin(cells) & (figures.stage != "explain")][[column, "score", "train"]].dropna()
    if len(own) < FEWEST_TRIALS:
        return Relation(value=math.nan, low=math.nan, high=math.nan, trials=len(own))
    return relation_of(own[column].to_numpy(), own.score.to_numpy(), own.train.to_numpy())


def relation_of(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> Relation:
    """The partial rank correlation of a and b [N], N of 6 and more, with its interval: Student's t of N - 3 degrees of freedom on Fisher's
    scale, where its variance is 1.06 / (N - 4) (Fieller, Hartley and Pearson 1957)."""
    value, n = partial_rank_correlation(a, b, given), len(a)
    reach = float(stats.t.ppf(1 - ALPHA / 2, n - 3)) * math.sqrt(1.06 / (n - 4))
    z = math.atanh(min(max(value, -1 + 1e-9), 1 - 1e-9))
    return Relation(value=value, low=math.tanh(z - reach), high=math.tanh(z + reach), trials=n)


def partial_rank_correlation(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    """Return Spearman's correlation of a and b [N] with the ranks of `given` taken out of both."""
    ranks = [stats.rankdata(v) for v in (a, b, given)]
    design = np.column_stack([np.ones(len(a)), ranks[2]])
    left = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    norm = float(np.linalg.norm(left[0]) * np.linalg.norm(left[1]))
    return float(left[0] @ left[1]) / norm if norm > 1e-9 else math.nan


def judge(
    explanation: Explanation, contrasts: Sequence[Contrast], score: Contrast | None, relation: Relation, less: str, more: str
) -> tuple[Verdict, str]:
    """Return the verdict on an explanation, and its reason in words."""
    if all(c.measure.beside for c in contrasts):
        return "not measured", f"{_listed(contrasts)} alone tells nothing of what the networks answer or see"
    as_claimed = [c for c in contrasts if c.direction > 0]
    against = [c for c in contrasts if c.direction < 0]
    if not as_claimed and not against:
        return "undecided", f"nothing measured is shown to differ between {less} and {more}{_more_runs(contrasts)}"
    if not as_claimed:
        return "contradicted", f"{_named(against)} the other way"
    if against:
        return "undecided", f"{_named(as_claimed)} as claimed, {_named(against)} the other way"
    said = f"{_named(as_claimed)} as claimed"
    if score is not None and score.high < 0:
        return "contradicted", f"{said}, yet {more} scores better"
    if score is None or score.low <= 0:
        return "undecided", f"{said}, but {less} is not shown to score better"
    if math.isnan(relation.value):
        return (
            "undecided",
            f"{said} and {less} scores better, but {relation.trials} trials of {more} are too few to see whether scores go with it",
        )
    along = f"over {relation.trials} trials of {more}, {RELATIONS[explanation.relation]}"
    if relation.high >= 0:
        goes = "goes with higher scores, not lower ones" if relation.value >= 0 else "is not shown to go with lower scores"
        return "undecided", f"{said} and {less} scores better, but {along} {goes} ({relation.text})"
    return "supported", f"{said}, {less} scores better, and {along} goes with lower scores ({relation.text})"


def _listed(contrasts: Sequence[Contrast]) -> str:
    return joined([c.measure.short for c in contrasts])


def _named(contrasts: Sequence[Contrast]) -> str:
    """Return the measures in words: "the probe on its own task and the alignment of the last stage differ"."""
    return f"{_listed(contrasts)} {'differs' if len(contrasts) == 1 else 'differ'}"


def _more_runs(contrasts: Sequence[Contrast]) -> str:
    """Return in words about how many runs would show the clearest difference, if it is as large as it looks."""
    needed = []
    for c in (c for c in contrasts if not c.measure.beside):
        error = (c.high - c.mean) / float(stats.t.ppf(1 - ALPHA / 2, c.units - 1)) * math.sqrt(c.units)
        for n in range(c.units + 1, 101):
            if error > 0 and abs(c.mean) / (error / math.sqrt(n)) > stats.t.ppf(1 - ALPHA / 2 / len(contrasts), n - 1) + 0.85:
                needed.append(n)
                break
    return f". About {min(needed)} runs of each would show the clearest difference, were it as large as it looks" if needed else ""


def why_rows(found: Sequence[Why]) -> pd.DataFrame:
    """Return one row per measure, for the tables."""
    return pd.DataFrame(
        [
            {
                **w.question.columns,
                "explanation": w.explanation.name,
                "verdict": w.verdict,
                "measure": c.measure.name,
                "less": w.less,
                "more": w.more,
                "mean_less": c.less,
                "mean_more": c.more,
                "difference": c.mean,
                "low": c.low,
                "high": c.high,
                "p": c.p,
                "holm_p": c.holm,
                "claimed_sign": c.measure.claim,
                "direction": c.direction,
                "units": c.units,
                "relation": w.relation.value,
                "relation_low": w.relation.low,
                "relation_high": w.relation.high,
                "trials": w.relation.trials,
            }
            for w in found
            for c in w.contrasts
        ]
    )
