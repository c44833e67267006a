"""What makes strategies unfit to be compared: a search that ended at its range's edge, or had another budget."""

from collections.abc import Iterator

from analysis.frames import Frames
from analysis.question import Question
from study.space import Choice

EDGE = 0.1  # of the range, at either end


def range_edges(frames: Frames) -> Iterator[tuple[str, str]]:
    """(cell, what was found) where a chosen learning rate lies within a tenth of its range's end: a wider range may have given a better one."""
    trials = frames.trials.set_index("trial_id")
    for cell, trial_id in frames.chosen.items():
        if trial_id not in trials.index or cell not in frames.cells:
            continue
        for name, domain in frames.study.ranges(frames.cells[cell]).items():
            if not name.endswith("lr") or isinstance(domain, Choice):
                continue
            value = float(trials.at[trial_id, f"hp/{name}"])
            if not EDGE <= (position := domain.position(value)) <= 1 - EDGE:
                end = "lower" if position < 0.5 else "upper"
                yield cell, f"best {name} {value:.2g} lies at the {end} end of its range [{domain.low:g}, {domain.high:g}]"


def trial_counts(frames: Frames) -> dict[str, int]:
    """Search trials that ended, by cell; 0 where none did. Empty for a study without any."""
    search = frames.trials[frames.trials.stage == "search"] if len(frames.trials) else frames.trials
    if not len(search):
        return {}
    ended = search[search.outcome != "running"].groupby("cell").size()
    return {cell: int(ended.get(cell, 0)) for cell in frames.cells}


class Fairness:
    """Of a study: why two of its strategies may not be compared."""

    def __init__(self, frames: Frames) -> None:
        self._edges: dict[tuple[Question, str], list[str]] = {}
        for cell, text in range_edges(frames) if len(frames.trials) else ():
            self._edges.setdefault(_place(frames, cell), []).append(text)
        self._counts = {_place(frames, cell): n for cell, n in trial_counts(frames).items()}

    def reasons(self, question: Question, a: str, b: str) -> tuple[str, ...]:
        """None for a fair comparison."""
        out = [f"{s}'s {text}" for s in (a, b) for text in self._edges.get((question, s), [])]
        of_a, of_b = (self._counts.get((question, s)) for s in (a, b))
        if of_a != of_b:
            out.append(f"{a} had {of_a or 0} trials, {b} {of_b or 0}")
        return tuple(out)


def _place(frames: Frames, cell: str) -> tuple[Question, str]:
    own = frames.cells[cell]
    return Question.of(vars(own)), own.strategy
