"""What a careful reader would ask about a study."""

import time
from collections.abc import Iterator

import pandas as pd

from analysis import statistics as st
from analysis.frames import Frames
from analysis.losses import losses
from study.space import Choice


def warnings(frames: Frames, pairs: pd.DataFrame) -> list[str]:
    """One line each, the gravest first."""
    out = [*_of_the_study(frames), *losses(frames)]
    if not len(frames.trials):
        return out
    out += [*_of_the_trials(frames), *_range_ends(frames), *(str(w) for w in frames.facts.get("data_warnings", []))]
    if len(pairs) and pairs["low"].isna().any():
        out.append("some comparisons rest on one seed and carry no interval")
    return out


def _of_the_study(frames: Frames) -> Iterator[str]:
    if frames.in_progress:
        yield "the study is in progress: figures will change"
    if len(frames.openings) > 1:
        yield f"the test set was opened {len(frames.openings)} times: later looks are no longer unbiased"
    for amendment in frames.amendments:
        day = time.strftime("%Y-%m-%d", time.gmtime(amendment["at"]))
        when = ", when its test set was open already" if amendment["test_open"] else ""
        yield f"the study was extended on {day}{when}: {'; '.join(amendment['changes'])}"
    if frames.study.confirm_seeds < st.ENOUGH_SEEDS:
        yield f"{frames.study.confirm_seeds} confirm seeds are few; {st.ENOUGH_SEEDS} or more are advised"


def _of_the_trials(frames: Frames) -> Iterator[str]:
    trials, cells = frames.trials, frames.study.cells
    search = trials[trials.stage == "search"]
    counts = search[search.outcome != "running"].groupby("cell").size()
    if len(counts) and (counts.min() != counts.max() or len(counts) < len(cells)):
        yield f"budgets are unequal: {counts.min() if len(counts) == len(cells) else 0} to {counts.max()} trials a cell"
    for cell, own in search.groupby("cell"):
        lost = float(own.outcome.isin(["diverged", "failed"]).mean())
        if lost > 0.2:
            yield f"{cell}: {lost:.0%} of its trials diverged or failed"
    slow = trials.straggler.dropna() if "straggler" in trials else trials.head(0).trial_id
    if len(slow):
        yield f"{len(slow)} of {len(trials)} trials waited for a straggler ({slow.iloc[0]}); look at that machine"


def _range_ends(frames: Frames) -> Iterator[str]:
    """A best learning rate within 10 % of its range's end: the range may be too narrow."""
    trials = frames.trials.set_index("trial_id")
    for cell, trial_id in frames.chosen.items():
        if trial_id not in trials.index:
            continue
        for name, domain in frames.study.ranges(frames.cells[cell]).items():
            if not name.endswith("lr") or isinstance(domain, Choice):
                continue
            value = float(trials.at[trial_id, f"hp/{name}"])
            if not 0.1 <= (position := domain.position(value)) <= 0.9:
                end = "lower" if position < 0.5 else "upper"
                yield f"{cell}: the best {name} {value:.2g} lies at the {end} end of its range [{domain.low:g}, {domain.high:g}]; widen it and run again"
