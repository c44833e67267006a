"""The effect of newly labelled pictures on a verdict, in words."""

from collections.abc import Sequence

from analysis.data.frames import Frames
from analysis.findings.answers import answer, confirm_seconds
from analysis.findings.labelled import Relabelled
from analysis.words.sentences import describe_pair, headline

STAYS = "The verdict above stays as it was first given"


def label_lines(found: Sequence[Relabelled], frames: Frames) -> list[str]:
    """Return one line per question for which pictures were labelled."""
    return [f"{own.question.name}: {_what(own)}{_said(own, frames)}" for own in found]


def _what(own: Relabelled) -> str:
    several = " and ".join(f"{len(d['images'])} of {d['pictures']:,} pictures of {d['folder']}" for d in own.draws)
    tell = sum(d["worth"] for d in own.draws)
    return f"with labels of {several}, which tell as much as about {tell:,.0f} drawn at random"


def _said(own: Relabelled, frames: Frames) -> str:
    if own.problem:
        return f": {own.problem}, so no verdict rests on them. Draw anew with python -m study.label"
    ranked = sorted(own.means, key=lambda s: -own.means[s])
    ranking = answer(own.question, list(own.pairs), ranked, confirm_seconds(frames, own.question))
    best, *others = ranking.comparable if len(ranking.comparable) > 1 else ranking.ranked
    pair = describe_pair(ranking.pairs[best, others[0]], frames.study.margin)
    return f": {headline(ranking, frames.study.margin)}. {pair}. {STAYS}"
