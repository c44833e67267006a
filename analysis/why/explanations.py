"""The paper's explanations, each compared with what was measured: supported, contradicted or undecided, with its numbers.

- Supported: a measure differs between the strategies as the explanation claims (paired over runs, Holm within the explanation), and
  none differs the other way. Also, the strategy that trains less scores better, and over the trials, going that way goes with lower
  scores.
- Contradicted: measures differ only the other way, or as claimed while the strategy they speak for scores worse.
- Undecided: otherwise, with the reason.
- Not judged: one of the strategies was cut short. A network that has not learned yet explains nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
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

Verdict = Literal["supported", "contradicted", "undecided", "not judged"]
FEWEST_TRIALS = 6  # for a rank correlation


@dataclass(frozen=True, kw_only=True)
class Why:
    """The verdict on one explanation for one question, with its measures."""

    question: Question
    explanation: Explanation
    less: str  # the strategy that trains less
    more: str
    verdict: Verdict
    because: str
    score: Contrast | None  # test macro-F1
    contrasts: tuple[Contrast, ...]
    relation: float  # partial rank correlation over the trials of `more`; NaN where there are too few
    trials: int

    @property
    def mark(self) -> str:
        """Return the mark that the page gives a verdict of this kind."""
        return {"supported": "decided", "contradicted": "equal"}.get(self.verdict, "open")

    @property
    def numbers(self) -> list[str]:
        """Return every measure, the score and the relation over trials, in words."""
        shown = [*self.contrasts, *([self.score] if self.score else [])]
        lines = [c.text(self.less, self.more) for c in shown]
        if not math.isnan(self.relation):
            lines.append(
                f"over {self.trials} trials of {self.more}, rank correlation of {RELATIONS[self.explanation.relation]} with "
                "the validation score, "
                f"given the training score: {self.relation:+.2f}"
            )
        return lines

    @property
    def text(self) -> str:
        """Return the verdict and its reason on one line."""
        return (
            f"{self.question.name}: {self.explanation.title} (the paper's {self.explanation.section}): "
            f"{self.verdict}{':' if self.verdict == 'not judged' else ';'} {self.because}."
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
        score = paired(frames, runs, _scores(seeds, runs), *pair)
        for explanation in EXPLANATIONS:
            contrasts = _contrasts(frames, runs, explanation, *pair)
            if contrasts:
                relation, trials = _relation(figures, frames, question, pair[1], explanation.relation)
                verdict, because = judge(explanation, contrasts, score, relation, trials, *pair)
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
                        trials=trials,
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


def _scores(seeds: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    """Return test macro-F1 by trial_id. The folds of one seed share its score."""
    own = seeds[seeds.metric == "macro_f1"].set_index([*COLUMNS, "strategy", "seed"]).score
    first = runs.question.iloc[0]
    keys = [(*first.columns.values(), s, k) for s, k in zip(runs.strategy, runs.seed, strict=True)]
    return pd.Series([float(own.get(key, math.nan)) for key in keys], index=runs.trial_id).dropna()


def _contrasts(frames: Frames, runs: pd.DataFrame, explanation: Explanation, less: str, more: str) -> tuple[Contrast, ...]:
    found = []
    for measure in explanation.measures:
        values = measure.of_runs(frames, runs)
        values = values[values.index.isin(runs.trial_id)].dropna()
        if (contrast := paired(frames, runs, values, less, more, measure)) is None:
            continue
        if not (measure.saturates and max(contrast.less, contrast.more) < SATURATED):
            found.append(contrast)
    adjusted = holm([c.p for c in found])
    return tuple(Contrast(**{**vars(c), "holm": float(p)}) for c, p in zip(found, adjusted, strict=True))


RELATIONS = {
    "distance": "the distance gone",
    "first_distance": "the distance gone in the first epoch",
    "gap": "the training minus validation gap",
}


def _relation(figures: pd.DataFrame, frames: Frames, question: Question, strategy: str, column: str) -> tuple[float, int]:
    """Return (rank correlation of `column` with the validation score, given the training score; number of trials) over the strategy's
    trials.
    """
    cells = [c.id for c in frames.study.cells if c.strategy == strategy and frames.question_of(c) == question]
    own = figures
    if len(figures):
        own = figures[figures.cell.isin(cells) & (figures.stage != "explain")][[column, "score", "train"]].dropna()
    if len(own) < FEWEST_TRIALS:
        return math.nan, len(own)
    return partial_rank_correlation(own[column].to_numpy(), own.score.to_numpy(), own.train.to_numpy()), len(own)


def partial_rank_correlation(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    """Return Spearman's correlation of a and b [N] with the ranks of `given` taken out of both."""
    ranks = [stats.rankdata(v) for v in (a, b, given)]
    design = np.column_stack([np.ones(len(a)), ranks[2]])
    left = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    norm = float(np.linalg.norm(left[0]) * np.linalg.norm(left[1]))
    return float(left[0] @ left[1]) / norm if norm > 1e-9 else math.nan


def judge(
    explanation: Explanation, contrasts: Sequence[Contrast], score: Contrast | None, relation: float, trials: int, less: str, more: str
) -> tuple[Verdict, str]:
    """Return the verdict on an explanation, and its reason in words."""
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
    if math.isnan(relation):
        return "undecided", f"{said} and {less} scores better, but {trials} trials of {more} are too few to see whether scores go with it"
    along = f"over {trials} trials of {more}, {RELATIONS[explanation.relation]} goes with"
    if relation >= 0:
        correlation = f"rank correlation {relation:+.2f}"
        return "undecided", f"{said} and {less} scores better, but {along} higher scores, not lower ones ({correlation})"
    return "supported", f"{said}, {less} scores better, and {along} lower scores (rank correlation {relation:+.2f})"


def _named(contrasts: Sequence[Contrast]) -> str:
    """Return the measures in words: "the probe on its own task and the alignment of the last stage differ"."""
    names = [c.measure.short for c in contrasts]
    return f"{names[0]} differs" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} differ"


def _more_runs(contrasts: Sequence[Contrast]) -> str:
    """Return in words about how many runs would show the clearest difference, if it is as large as it looks."""
    needed = []
    for c in contrasts:
        error = (c.high - c.mean) / float(stats.t.ppf(1 - ALPHA / 2, c.units - 1)) * math.sqrt(c.units)
        for n in range(c.units + 1, 101):
            if error > 0 and abs(c.mean) / (error / math.sqrt(n)) > stats.t.ppf(1 - ALPHA / 2 / len(contrasts), n - 1) + 0.85:
                needed.append(n)
                break
    return f"; about {min(needed)} runs of each would show the clearest difference, were it as large as it looks" if needed else ""


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
                "relation": w.relation,
                "trials": w.trials,
            }
            for w in found
            for c in w.contrasts
        ]
    )
