"""Reasons not to compare strategies: a search that ended at the edge of its range, unequal search budgets, training that was too short
or on smaller images."""

from collections.abc import Iterator

from analysis.data.frames import Frames
from analysis.data.question import Question
from analysis.findings.short import Short, shorts
from analysis.findings.too_few_pixels import Fewer, fewer
from analysis.statistics.decisions import Doubts
from study.space import Choice
from study.strategies import LINES

EDGE = 0.1  # of the range, at either end


def range_edges(frames: Frames) -> Iterator[tuple[str, str]]:
    """Yield (cell, finding) for every learning rate that most of a cell's searches chose within a tenth of the same end of its range.

    A wider range might have given a better one.
    """
    trials = frames.trials.set_index("trial_id")
    for cell, winners in frames.confirmed_trials.items():
        here = [w for w in winners if w in trials.index]
        if not here or cell not in frames.cells:
            continue
        for name, domain in frames.study.ranges(frames.cells[cell]).items():
            if not name.endswith("lr") or isinstance(domain, Choice):
                continue
            values = [float(trials.at[w, f"hp/{name}"]) for w in here]
            for end, near in (
                ("lower", [v for v in values if domain.position(v) < EDGE]),
                ("upper", [v for v in values if domain.position(v) > 1 - EDGE]),
            ):
                if 2 * len(near) > len(here):
                    found = (
                        f"best {name} {near[0]:.2g} lies" if len(here) == 1 else f"best {name} of {len(near)} of {len(here)} searches lies"
                    )
                    yield cell, f"{found} at the {end} end of its range [{domain.low:g}, {domain.high:g}]"


def trial_counts(frames: Frames) -> dict[str, int]:
    """Return the number of search trials that ended, by cell, 0 where none did. It is empty for a study without search trials."""
    search = frames.trials[frames.trials.stage == "search"] if len(frames.trials) else frames.trials
    if not len(search):
        return {}
    ended = search[search.outcome != "running"].groupby("cell").size()
    return {c.id: int(ended.get(c.id, 0)) for c in frames.study.cells}


class Fairness:
    """Doubts about the strategies of a study: the reasons why two of them may not be compared."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._edges: dict[tuple[Question, str], list[str]] = {}
        for cell, text in range_edges(frames) if len(frames.trials) else ():
            self._edges.setdefault(_place(frames, cell), []).append(text)
        self._empty = {
            _place(frames, cell): f"{own.count('')} of {len(own)} searches found nothing that can be used"
            for cell, own in frames.confirmed_trials.items()
            if "" in own and cell in frames.cells
        }
        self._shorts = shorts(frames)
        self._counts = {_place(frames, cell): n for cell, n in trial_counts(frames).items()}

    def doubts(self, question: Question, a: str, b: str) -> Doubts:
        """Return the doubts about comparing two strategies. They are empty for a fair comparison."""
        both = [f"of {s}, {self._empty[question, s]}" for s in (a, b) if (question, s) in self._empty]
        of_a, of_b = (self._counts.get((question, s)) for s in (a, b))
        if of_a != of_b and not (a in LINES or b in LINES):  # what is solved needs no search
            both.append(f"{a} had {of_a or 0} trials, {b} {of_b or 0}")
        return Doubts(both=tuple(both), of_a=self._of(question, a, b), of_b=self._of(question, b, a))

    def short(self, question: Question, *strategies: str) -> tuple[Short, ...]:
        """Return those of the strategies that were cut short, with the reasons."""
        return tuple(self._shorts[question, s] for s in strategies if (question, s) in self._shorts)

    def fewer(self, question: Question, a: str, b: str) -> tuple[Fewer, ...]:
        """Return the one of them that was trained on smaller images than the other saw, if the other is the line to beat."""
        return tuple(found for s, other in ((a, b), (b, a)) if (found := fewer(self._frames, question, s, other)))

    def _of(self, question: Question, strategy: str, other: str) -> tuple[str, ...]:
        edges = (f"{strategy}'s {text}" for text in self._edges.get((question, strategy), []))
        pixels = (f.reason for f in self.fewer(question, strategy, other) if f.strategy == strategy)
        return (*edges, *(s.reason for s in self.short(question, strategy)), *pixels)


def _place(frames: Frames, cell: str) -> tuple[Question, str]:
    own = frames.cells[cell]
    return frames.question_of(own), own.strategy
