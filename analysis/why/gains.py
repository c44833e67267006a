"""Findings beside the explanations: the gain from pretrained weights, and networks on the way back to them that lose nothing."""

import pandas as pd

from analysis.data.frames import Frames
from analysis.findings.short import shorts, were_cut_short
from analysis.why.contrasts import paired
from analysis.why.measures import Measure
from study.scoring.metric import DEFAULT
from study.strategies import STRATEGIES

VALIDATION = Measure(
    name="validation", short="the validation score", title="validation {metric} from pretrained against from random weights",
    claim=+1, points=True,
    of_runs=lambda frames, runs: pd.Series(dtype=float),
)  # fmt: skip


def controls(frames: Frames) -> list[str]:
    """Return one line per question and control: the gain of starting from the pretrained weights, on validation, paired over runs."""
    random, confirmed = frames.explained("control"), frames.at_largest()
    if not len(random) or not len(confirmed):
        return []
    lines, cut = [], {**shorts(frames), **shorts(frames, random)}
    for (question, control), own in random.groupby(["question", "strategy"], sort=False):
        of = STRATEGIES[str(control)].control_of
        both = pd.concat([own, confirmed[(confirmed.question == question) & (confirmed.strategy == of)]])
        values = both.set_index("trial_id")[frames.scored_by.recorded].dropna()
        found = paired(frames, both, values, of, str(control), VALIDATION)
        if found is not None:
            short = [s for s in (of, str(control)) if (question, s) in cut]
            doubt = f"; {were_cut_short(short)}, so longer training may change this" if short else ""
            lines.append(f"{question.name}: {found.text(of, str(control))}{doubt}")
    return lines


def free_networks(frames: Frames) -> list[str]:
    """Return one line per question and strategy: the network furthest back towards the start that costs nothing worth having on
    validation.

    It is not shown to lose as much as the margin. It is named where it keeps more of the original answers.
    """
    found, runs = frames.measured("way_back"), frames.at_largest()
    if not len(found) or not len(runs) or frames.scored_by != DEFAULT:  # what was measured on the way is macro-F1
        return []
    lines = []
    for (question, strategy), own in runs.groupby(["question", "strategy"], sort=False):
        back = found[found.trial_id.isin(own.trial_id)]
        if back.agreement.max() - back.agreement.min() < 1e-9:
            continue  # nothing below the head moved
        for share in sorted(set(back.share) - {1.0}):
            there, tuned = (back[back.share == s].set_index("trial_id") for s in (share, 1.0))
            pair = pd.concat([own.assign(strategy="there"), own.assign(strategy="tuned", trial_id=own.trial_id + "'")])
            values = pd.concat([there.macro_f1, tuned.macro_f1.rename(lambda t: t + "'")])
            lost = paired(frames, pair, values, "there", "tuned", VALIDATION)
            kept = float(there.agreement.mean() - tuned.agreement.mean())
            if lost is not None and 100 * lost.low > -frames.study.margin and kept > 0:
                lines.append(
                    f"{question.name}, {strategy}: the network {share:.0%} of the way from the pretrained weights to the tuned ones keeps "
                    f"{100 * kept:.1f} % more of the old answers and loses nothing worth having on validation "
                    f"({100 * lost.mean:+.1f} points of macro-F1, {100 * lost.low:+.1f} to {100 * lost.high:+.1f}): a better "
                    "network for free"
                )
                break
    return lines
