"""From frames to the tables a verdict rests on: scores by seed, strategies with intervals, pairs, sentences, warnings."""

import math
import time
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis import statistics as st
from analysis.load import Frames
from study.space import Choice, domains
from study.strategies import STRATEGIES

COLUMNS = ("dataset", "splits", "backbone", "train_fraction")
"""What a comparison holds fixed: strategies are compared within."""

SETTLED = {
    "a": "{a} beats {b}",
    "b": "{b} beats {a}",
    "equivalent": "no difference worth {margin:g} points between {a} and {b}",
    "undecided": "undecided between {a} and {b}",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """Everything the page says, as tables. Scores are shares in [0, 1]; the page shows points."""

    seeds: pd.DataFrame  # one row a confirm run and metric, on test
    strategies: pd.DataFrame  # one row a strategy and metric: mean, low, high
    pairs: pd.DataFrame  # one row a pair: difference, interval, p values, verdict
    sentences: list[str]  # one a question, the answer first
    warnings: list[str]


def title(strategy: str) -> str:
    return STRATEGIES[strategy].name if strategy in STRATEGIES else strategy


def findings(frames: Frames, resamples: int = st.RESAMPLES) -> Findings:
    """All comparisons of a study. Tables are empty, never wrong, where nothing was confirmed."""
    seeds, strategies, pairs = [], [], []
    done = frames.confirmed()
    if len(done):
        cells = frames.trials[frames.trials.stage == "search"].groupby("cell")[[*COLUMNS, "strategy"]].first()
        done = done.merge(cells, left_on="cell", right_index=True, suffixes=("_run", ""))
        for key, block in done.groupby(list(COLUMNS), sort=False):
            question = dict(zip(COLUMNS, key, strict=True))  # type: ignore[arg-type]
            s, t, p = _question(frames, question, block, resamples)
            seeds += s
            strategies += t
            pairs += p
    table = pd.DataFrame(pairs)
    if len(table):
        table["p_holm"] = st.holm(table["p"])
        margin = frames.study.margin / 100
        verdicts = [st.decide(i, q, margin) for i, q in zip(table.pop("interval"), table["p_holm"], strict=True)]
        table["verdict"] = [v.kind for v in verdicts]
        table["more_seeds"] = [v.more_seeds for v in verdicts]
        table["text"] = [_sentence(row, frames.study.margin) for row in table.to_dict("records")]
    sentences = _sentences(table, pd.DataFrame(strategies), frames)
    return Findings(
        seeds=pd.DataFrame(seeds), strategies=pd.DataFrame(strategies), pairs=table, sentences=sentences, warnings=_warnings(frames, table)
    )


def _question(frames: Frames, question: dict[str, Any], block: pd.DataFrame, resamples: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Folds hold different images: they are put end to end, so a run of one seed covers all of them."""
    by_strategy: dict[str, list[np.ndarray]] = {}
    labels = groups = None
    seeds: list[dict[str, Any]] = []
    for strategy, own in block.groupby("strategy", sort=False):
        for seed, parts in own.sort_values(["seed", "splits_run"]).groupby("seed", sort=False):
            tests = [frames.predictions(t).get("test") for t in parts["trial_id"]]
            if any(t is None for t in tests) or len(parts) < frames.study.confirm_folds:
                continue
            truth = np.concatenate([t.labels for t in tests if t])
            if labels is None:
                labels = truth
                has = all(t is not None and t.groups is not None for t in tests)
                groups = np.concatenate([t.groups for t in tests if t and t.groups is not None]) if has else None
            if len(truth) != len(labels) or not np.array_equal(truth, labels):
                continue  # other images: cannot be paired
            by_strategy.setdefault(str(strategy), []).append(np.concatenate([t.logits.argmax(axis=1) for t in tests if t]))
            seeds.append({**question, "strategy": strategy, "seed": int(seed), "number": len(by_strategy[str(strategy)]) - 1})
    if labels is None:
        return [], [], []
    classes = max(int(labels.max()) + 1, *(int(p.max()) + 1 for ps in by_strategy.values() for p in ps))
    rng = np.random.Generator(np.random.Philox(key=[20, 21]))
    weights = st.image_weights(len(labels), groups, resamples, rng)
    units = len(labels) if groups is None else len(np.unique(groups))
    strategies, pairs, long = [], [], []
    for metric in st.METRICS:
        own_runs = {s: st.runs(p, labels, classes, weights, units, metric) for s, p in by_strategy.items()}
        for strategy, r in own_runs.items():
            i = st.mean_interval(r)
            strategies.append(
                {
                    **question,
                    "strategy": strategy,
                    "metric": metric,
                    "mean": i.mean,
                    "low": i.low,
                    "high": i.high,
                    "seeds": i.seeds,
                    "sd_seeds": math.sqrt(i.var_seeds) if i.seeds > 1 else math.nan,
                    "sd_images": math.sqrt(i.var_images),
                    "images": len(labels),
                    "units": units,
                }
            )
            mine = [row for row in seeds if row["strategy"] == strategy]
            long += [{**row, "metric": metric, "score": float(v)} for row, v in zip(mine, r.scores, strict=True)]
        if metric == "macro_f1":
            for a, b in combinations(own_runs, 2):
                c = st.compare(own_runs[a], own_runs[b])
                d = c.difference
                pairs.append(
                    {
                        **question,
                        "a": a,
                        "b": b,
                        "difference": d.mean,
                        "low": d.low,
                        "high": d.high,
                        "seeds": d.seeds,
                        "p": d.p,
                        "permutation_p": c.permutation_p,
                        "superiority": c.superiority,
                        "sd_seeds": math.sqrt(d.var_seeds) if d.seeds > 1 else math.nan,
                        "sd_images": math.sqrt(d.var_images),
                        "interval": d,
                    }
                )
    return long, strategies, pairs


def question_name(row: dict[str, Any]) -> str:
    splits = "" if row["splits"] == "official" else f" ({row['splits']} splits)"
    part = "" if row["train_fraction"] == 1 else f", {row['train_fraction']:.0%} of the training images"
    return f"{row['dataset']}{splits}, {row['backbone']}{part}"


def _sentence(row: dict[str, Any], margin: float) -> str:
    text = SETTLED[row["verdict"]].format(a=title(row["a"]), b=title(row["b"]), margin=margin)
    if row["verdict"] == "b":
        d, low, high, sup = -row["difference"], -row["high"], -row["low"], 1 - row["superiority"]
    else:
        d, low, high, sup = row["difference"], row["low"], row["high"], row["superiority"]
    if math.isnan(low):
        return f"{text}: one seed tells nothing of the spread ({100 * d:+.1f} points of macro-F1)"
    numbers = f"{100 * d:+.1f} points of macro-F1, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}, P(better) {sup:.2f}, Holm p {row['p_holm']:.3f}, {row['seeds']} seeds"
    if row["verdict"] != "undecided":
        return f"{text}: {numbers}"
    more = (
        "more test images are needed, seeds alone would not decide"
        if row["more_seeds"] is None or math.isnan(row["more_seeds"])
        else f"about {int(row['more_seeds'])} more seed{'s' if row['more_seeds'] > 1 else ''} would decide"
    )
    return f"{text}: {numbers} ({more})"


def _sentences(pairs: pd.DataFrame, strategies: pd.DataFrame, frames: Frames) -> list[str]:
    """One sentence a question: the best strategy and what can be said of it against each other one."""
    if not len(pairs):
        return [f"No verdict yet: {_why_none(frames)}"]
    out = []
    for _key, block in pairs.groupby(list(COLUMNS), sort=False):
        row = block.iloc[0].to_dict()
        mine = strategies[
            (strategies[list(COLUMNS)] == pd.Series({c: row[c] for c in COLUMNS})).all(axis=1) & (strategies.metric == "macro_f1")
        ]
        ranked = mine.sort_values("mean", ascending=False)
        best = ranked.iloc[0]
        texts = []
        for other in ranked["strategy"][1:]:
            pair = (
                block[((block.a == best.strategy) & (block.b == other)) | ((block.a == other) & (block.b == best.strategy))]
                .iloc[0]
                .to_dict()
            )
            texts.append(str(_facing(pair, best.strategy, frames.study.margin)))
        note = "" if not math.isnan(best.low) else ", one seed only"
        spread = f" [{100 * best.low:.1f}, {100 * best.high:.1f}]" if not math.isnan(best.low) else ""
        out.append(
            f"{question_name(row)}: {title(best.strategy)} has the highest test macro-F1, {100 * best['mean']:.1f}{spread}{note}; "
            + "; ".join(texts)
            + "."
        )
    return out


def _facing(row: dict[str, Any], best: str, margin: float) -> str:
    """The pair's sentence with the best strategy as A."""
    if row["a"] != best:
        row = {
            **row,
            "a": row["b"],
            "b": row["a"],
            "difference": -row["difference"],
            "low": -row["high"],
            "high": -row["low"],
            "superiority": 1 - row["superiority"],
            "verdict": {"a": "b", "b": "a"}.get(row["verdict"], row["verdict"]),
        }
    return _sentence(row, margin)


def _why_none(frames: Frames) -> str:
    trials = frames.trials
    if not len(trials) or not (trials.outcome != "running").any():
        return "no trial has finished."
    if not trials.outcome.isin(["completed", "stopped"]).any():
        return f"no finished trial; all {len(trials)} {', '.join(sorted(set(trials.outcome)))} (see reasons in the protocol section)."
    if (trials.stage == "confirm").any():
        return "the confirm runs of two strategies on the same data are not complete."
    return "the search's winners have not been confirmed with fresh seeds."


def _warnings(frames: Frames, pairs: pd.DataFrame) -> list[str]:
    """What a careful reader would ask about."""
    out, trials, study = [], frames.trials, frames.study
    if frames.in_progress:
        out.append("the study is in progress: figures will change")
    if len(frames.openings) > 1:
        out.append(f"the test set was opened {len(frames.openings)} times: later looks are no longer unbiased")
    for amendment in frames.amendments:
        day = time.strftime("%Y-%m-%d", time.gmtime(amendment["at"]))
        seen = ", when its test set was open already" if amendment["test_open"] else ""
        out.append(f"the study was extended on {day}{seen}: {'; '.join(amendment['changes'])}")
    if study.confirm_seeds < ENOUGH:
        out.append(f"{study.confirm_seeds} confirm seeds are few; {ENOUGH} or more are advised")
    if not len(trials):
        return out
    search = trials[trials.stage == "search"]
    counts = search[search.outcome != "running"].groupby("cell").size()
    if len(counts) and (counts.min() != counts.max() or len(counts) < len(study.cells)):
        out.append(f"budgets are unequal: {counts.min() if len(counts) == len(study.cells) else 0} to {counts.max()} trials a cell")
    for cell, own in search.groupby("cell"):
        lost = float(own.outcome.isin(["diverged", "failed"]).mean())
        if lost > 0.2:
            out.append(f"{cell}: {lost:.0%} of its trials diverged or failed")
    slow = trials.straggler.dropna() if "straggler" in trials else trials.head(0).trial_id
    if len(slow):
        out.append(f"{len(slow)} of {len(trials)} trials waited for a straggler ({slow.iloc[0]}); look at that machine")
    out += _edges(frames)
    out += [str(w) for w in frames.facts.get("data_warnings", [])]
    if len(pairs) and pairs["low"].isna().any():
        out.append("some comparisons rest on one seed and carry no interval")
    return out


ENOUGH = st.ENOUGH_SEEDS


def _edges(frames: Frames) -> list[str]:
    """A best learning rate within 10 % of its range's end: the range may be too narrow."""
    out = []
    for cell, trial_id in frames.chosen.items():
        row = frames.trials[frames.trials.trial_id == trial_id]
        if not len(row):
            continue
        for name, domain in domains(STRATEGIES[row.iloc[0].strategy]).items():
            if name.endswith("lr") and not isinstance(domain, Choice):
                value = float(row.iloc[0][f"hp/{name}"])
                position = domain.position(value)
                if not 0.1 <= position <= 0.9:
                    out.append(
                        f"{cell}: the best {name} {value:.2g} lies at the {'lower' if position < 0.5 else 'upper'} end of its range [{domain.low:g}, {domain.high:g}]; widen it and run again"
                    )
    return out
