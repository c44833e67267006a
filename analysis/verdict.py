"""All that a page says, computed from the frames: scores by seed, strategies with intervals, pairs with verdicts, sentences, warnings."""

from dataclasses import dataclass

import pandas as pd

from analysis.data.frames import Frames
from analysis.findings.answers import Ranking
from analysis.findings.by_axis import When, when
from analysis.findings.choose_networks import pick_all
from analysis.findings.comparisons import Gathered, compare_all, gather_all
from analysis.findings.handed import with_delivered
from analysis.findings.labelled import relabelled
from analysis.findings.over_datasets import over_datasets, over_datasets_row
from analysis.findings.pick import Pick
from analysis.findings.tuning_gain import TuningGain, tuning_gains
from analysis.findings.verdict_pairs import judge, pair_row
from analysis.statistics import resampling as st
from analysis.why.explanations import Why, explain
from analysis.why.gains import controls, free_networks
from analysis.words.advice import Advice, advice
from analysis.words.answer import Answer, answers_of
from analysis.words.labelled import label_lines
from analysis.words.sentences import Sentence, answers, decision, describe_pair, sentences
from analysis.words.warnings import warnings


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """Everything that the page says, as tables. Scores are shares in [0, 1], which the page shows in points."""

    gathered: list[Gathered]  # one a question: its confirm runs on test, read once for all that follows
    seeds: pd.DataFrame  # one row a confirm run and metric, on test
    runs: pd.DataFrame  # one row a confirm trial and metric: its own score on test, low, high over test images
    strategies: pd.DataFrame  # one row a strategy and metric: mean, low, high, median, collapsed runs
    pairs: pd.DataFrame  # one row a pair: difference, intervals, p values, chances, verdict
    secondary: pd.DataFrame  # one row a pair and other metric: difference, 95 % interval of its own (unadjusted), no verdict
    over_datasets: pd.DataFrame  # one row a pair of strategies that several data sets compare: better, worse, mean difference
    when: When  # scores against the number of training images; empty where the study asks at one size
    answers: list[Answer]  # one a data set: the answer at a glance
    rankings: list[Ranking]  # one a question that compares strategies: who may be the best, what taking each costs at most
    sentences: list[Sentence]  # one a question, the answer first
    advice: list[Advice]  # one a data set and backbone that was asked about at several sizes
    warnings: list[str]
    free: list[str]  # networks on the way back that lose nothing, a line each
    tuned: list[TuningGain]  # what tuning brought over the published defaults, where these were trained besides
    controls: list[str]  # what starting from the pretrained weights is worth, a line each
    why: list[Why]  # the paper's explanations, where anything was measured for them
    labelled: list[str]  # the verdict again with pictures that were labelled since, a line a question; the first one stays
    picks: list[Pick]  # a network to use of every cell that has one, and those that were delivered


def findings(frames: Frames, resamples: int = st.RESAMPLES) -> Findings:
    """Compute all comparisons of a study. Where nothing was confirmed, tables are empty, never wrong."""
    gathered = list(gather_all(frames))
    tables = compare_all(gathered, resamples)
    margin = frames.study.margin
    strategies, judged = pd.DataFrame(tables.strategies), judge(tables.pairs, frames)
    seeds = pd.DataFrame(tables.seeds)
    sizes = when(frames, gathered, resamples)
    rankings = answers(judged, strategies, frames)
    picks = pick_all(frames, rankings, resamples)
    return Findings(
        gathered=gathered,
        seeds=seeds,
        runs=pd.DataFrame(tables.runs),
        strategies=strategies,
        pairs=pd.DataFrame([{**pair_row(p), "decision": decision(p, margin), "text": describe_pair(p, margin)} for p in judged]),
        secondary=pd.DataFrame(tables.secondary),
        over_datasets=pd.DataFrame([over_datasets_row(o) for o in over_datasets(judged)]),
        when=sizes,
        answers=answers_of(frames, strategies, rankings, picks),
        rankings=rankings,
        sentences=sentences(rankings, frames),
        advice=advice(sizes, judged, strategies, frames),
        warnings=warnings(frames, judged),
        free=free_networks(frames),
        tuned=tuning_gains(frames, resamples),
        controls=controls(frames),
        why=explain(frames, seeds),
        labelled=label_lines(relabelled(frames, gathered, tables.pairs, resamples), frames),
        picks=with_delivered(frames, picks, resamples),
    )
