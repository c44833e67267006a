"""The answer at a glance for a terminal: at most twelve lines of 80 columns per data set, with the frame."""

import textwrap
from collections.abc import Sequence

from analysis.words.answer import Answer, Standing

WIDTH = 76  # of a line within a frame of 80 columns
MOST = 12  # lines of a panel, with its frame or title and its command
FEWEST = 3  # strategies that are shown before another line is spent
NAMES = 37  # columns of a strategy's name, longer ones are cut
BAR = 20  # columns of the picture of an interval


def title(answer: Answer) -> str:
    """Return the data set and the mark: "birds: not decided"."""
    return f"{answer.dataset}: {answer.said.lower()}"


def body(answer: Answer) -> list[str]:
    """Return the lines between title and command, of WIDTH columns at most. Where they are too many, strategies are left out first."""
    step = answer.next_step
    do, worth = _wrapped("", answer.do, 2), _wrapped("", answer.worth.short if answer.worth else "", 1)
    after = _wrapped("Next: ", step.text + (f" Cost: {step.price}." if step.price else ""), 2)
    within, shown = MOST - 2 - bool(step.command) - len(after), min(len(answer.strategies), FEWEST)  # two lines are the frame's
    why = max(within - len([*do, *worth]) - shown - 1, 2)  # a line says what it rests on
    above = [*do, *_wrapped("", " ".join(answer.why), why), *worth]
    rests = f"Rests on {answer.rests_on}."
    room = within - len(above)
    lines = 2 if room - 2 >= shown else 1
    below = _wrapped("", rests, lines)
    return [*above, *_forest(answer.strategies, room - len(below)), *below, *after]


def summary(answers: Sequence[Answer]) -> str:
    """Return one line over several data sets with the number of decided ones, or "" for a single data set."""
    if len(answers) < 2:
        return ""
    marks: dict[str, int] = {}
    for a in answers:
        marks[a.said.lower()] = marks.get(a.said.lower(), 0) + 1
    return f"{len(answers)} data sets: {', '.join(f'{n} {mark}' for mark, n in marks.items())}."


def _wrapped(start: str, text: str, most: int) -> list[str]:
    """Wrap the text into at most `most` lines, with `start` before the first."""
    return textwrap.wrap(start + text, WIDTH, subsequent_indent=" " * len(start), max_lines=most, placeholder=" ...") if text else []


def _forest(rows: Sequence[Standing], room: int) -> list[str]:
    """Return one line per strategy: name, mean, interval drawn and in numbers. The strategy to use is always among them."""
    if room < 1 or not rows:
        return []
    kept = list(rows[:room])
    used = next((r for r in rows if r.used), None)
    if used is not None and used not in kept:
        kept[-1] = used
    ends = [v for r in kept for v in ((r.low, r.high) if r.interval else (r.mean, r.mean))]
    low, high = min(ends), max(ends)
    return [_row(r, low, max(high - low, 0.01 * rows[0].metric.margin)) for r in kept]


def _row(r: Standing, start: float, span: float) -> str:
    def at(value: float) -> int:
        return min(round((value - start) / span * (BAR - 1)), BAR - 1)

    bar = [" "] * BAR
    if r.interval:
        for k in range(at(r.low), at(r.high) + 1):
            bar[k] = "-"
    bar[at(r.mean)] = "o"
    score, low, high = r.shown
    interval = f"{low:.0f} to {high:.0f}" if r.interval else ""
    name = f"{'> ' if r.used else '  '}{r.name}{f', {r.aside}' if r.aside else ''}"
    name = name if len(name) <= NAMES else f"{name[: NAMES - 3]}..."
    return f"{name:<{NAMES}} {score:5.1f} {''.join(bar)} {interval}".rstrip()
