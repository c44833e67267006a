"""Gains of longer training on validation for each winner (budgets.json): in words, as rows and as a doubt.

The arithmetic is in `study.question.budget_decision`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from analysis.data.frames import Checked, Frames
from analysis.data.question import Question
from study.console.text import joined
from study.scoring.metric import Metric
from study.search.confirmed import record_of

State = Literal["gains", "flat", "not known"]


@dataclass(frozen=True, kw_only=True)
class Longer:
    """The check of one strategy at two budgets. Scores are those on validation, None where nothing is known."""

    question: Question
    strategy: str
    state: State
    epochs: int
    against: int  # epochs it is held against
    confirmed: int  # epochs at which its question is confirmed
    gain: float | None
    low: float | None  # one-sided 90 %
    high: float | None
    falls: bool  # by two standard errors
    why: str  # nothing is known; else empty

    @property
    def open(self) -> bool:
        """True where the strategy gains beyond the budget at which its question is confirmed."""
        return self.state == "gains" and self.epochs > self.confirmed

    @property
    def now(self) -> State:
        """Return the state at the confirmed budget.

        Nothing is known there of a strategy that was given the longer training it gained by.
        """
        return "not known" if self.state == "gains" and not self.open else self.state

    @property
    def points(self) -> str:
        return "n/a" if self.gain is None else f"{100 * self.gain:+.1f}"


def longer(frames: Frames) -> list[Longer]:
    """Return every check behind the study's present choice, in the order in which the checks were made."""
    found = []
    order = list(dict.fromkeys(c.strategy for c in frames.study.cells))  # that of the study: JSON's is the alphabet's
    for question, record in _records(frames).items():
        once = _once(frames, question)
        for part in record["rounds"]:
            for strategy, own in sorted(part["strategies"].items(), key=lambda item: order.index(item[0])):
                found.append(
                    Longer(
                        question=question,
                        strategy=strategy,
                        state=own["state"],
                        epochs=once * part["factor"],
                        against=once * part["against"],
                        confirmed=once * record["factor"],
                        gain=own.get("gain"),
                        low=own.get("low"),
                        high=own.get("high"),
                        falls=bool(own.get("falls")),
                        why=str(own.get("why", "")),
                    )
                )
    return found


def _records(frames: Frames) -> dict[Question, Any]:
    """Return by question what the budget check decided for the present winners."""
    found = {}
    for cell in frames.confirmed_trials if frames.budgets else ():
        record = record_of(frames.study, frames.budgets, frames.confirmed_trials, cell)
        if record is not None and cell in frames.cells:
            found[frames.question_of(frames.cells[cell])] = record
    return found


def _once(frames: Frames, question: Question) -> int:
    """Return the epochs of the question's search."""
    return frames.study.protocol_of(frames.asked(question)[0]).max_epochs


def states(frames: Frames) -> dict[tuple[Question, str], State]:
    """Return by (question, strategy) what is known of training longer than its confirm runs. A pair that was never checked is missing."""
    return {(own.question, own.strategy): own.now for own in longer(frames)}  # the last round speaks


def open_gains(frames: Frames) -> dict[tuple[Question, str], str]:
    """Return by (question, strategy) that gains beyond its confirmed budget why it may not be called worse than another."""
    last = {(own.question, own.strategy): own for own in longer(frames)}
    return {
        key: (
            f"{own.strategy} gained {own.points} {frames.scored_by.measured} on validation by {own.epochs} epochs instead of {own.against}"
        )
        for key, own in last.items()
        if own.open
    }


def checked(frames: Frames) -> dict[tuple[Question, str], Checked]:
    """Return by (question, strategy) the checks that say something: flat, or gaining beyond the confirmed budget."""
    gains = {key: Checked(gains=True, found=why) for key, why in open_gains(frames).items()}
    return gains | {key: Checked(gains=False) for key, state in states(frames).items() if state == "flat"}


def beyond(frames: Frames) -> dict[tuple[Question, str], tuple[int, int]]:
    """Return, for each (question, strategy) that gains beyond its confirmed budget, where it did: (multiple of the study's epochs,
    epochs).
    """
    last = {(own.question, own.strategy): own for own in longer(frames)}
    return {key: (own.epochs // _once(frames, own.question), own.epochs) for key, own in last.items() if own.open}


def confirmed_at(frames: Frames) -> list[str]:
    """Return one phrase for each way in which confirm runs differ from the search: more epochs or another image size.

    It is empty for none.
    """
    p, size = frames.study.protocol, frames.study.confirm_size
    moved = {q: r["factor"] for q, r in _records(frames).items() if r["factor"] > 1}
    found = [f"{q.name} at {factor * _once(frames, q)} epochs" for q, factor in moved.items()]
    return [*([f"at {size} px, where the search saw {p.image_size} px"] if size not in (0, p.image_size) else []), *found]


def budget_rows(frames: Frames) -> list[dict[str, Any]]:
    """Return the table behind the page, one row per check."""
    keys = ("strategy", "state", "epochs", "against", "confirmed", "gain", "low", "high", "falls", "why")
    return [{**own.question.columns, **{k: getattr(own, k) for k in keys}} for own in longer(frames)]


def budget_lines(frames: Frames) -> list[str]:
    """Return one line per check of a question, with what follows from it."""
    found: dict[tuple[Question, int, int], list[Longer]] = {}
    for own in longer(frames):
        found.setdefault((own.question, own.epochs, own.against), []).append(own)
    return [_line(question, epochs, against, parts, frames.scored_by) for (question, epochs, against), parts in found.items()]


def _line(question: Question, epochs: int, against: int, parts: list[Longer], metric: Metric) -> str:
    told = ", ".join(f"{p.strategy} {p.points} ({p.state}{f': {p.why}' if p.why else ''})" for p in parts)
    text = f"{question.name}: {epochs} epochs instead of {against} brought on validation, in {metric.measured}: {told}. "
    gaining = [p.strategy for p in parts if p.state == "gains"]
    confirmed = parts[0].confirmed
    at = f"{confirmed} epoch{'s' * (confirmed > 1)}"
    if not gaining:
        text += f"None is known to gain, so all were confirmed at {at}"
    elif confirmed >= epochs:
        text += f"So all were confirmed at {at}" if confirmed == epochs else "So all were trained longer"
    else:
        text += f"{joined(gaining)} would gain by longer training, but all were confirmed at {at}, as this study may not be longer"
    falls = [p.strategy for p in parts if p.falls]
    return text + (f". The score of {joined(falls)} falls with longer training" if falls else "")
