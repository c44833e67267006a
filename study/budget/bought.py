"""The changes of a ladder (`study.budget.ladder`) that some hours buy, those they do not, and the hours that would.

Nothing here reads a disk or a clock.
"""

import dataclasses
import math
from dataclasses import dataclass, replace

from study.budget.ladder import HEAD, STRATEGIES, Change, Ladder, reserved
from study.budget.price import Cost, Machine, cost_of
from study.errors import ConfigError
from study.question.study_config import Study


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A change, with the study made of it and everything before it, and its cost."""

    change: Change
    hours: float  # to give, so that this and all before it are bought, with what is set aside for delivery
    bought: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The result: what the hours bought, and what they did not."""

    hours: float
    study: Study
    cost: Cost
    smallest: Study
    least: float  # hours of the smallest
    rungs: tuple[Rung, ...]

    @property
    def left_out(self) -> dict[str, float]:
        """Return the strategies that did not fit the hours, with the hours that would suffice."""
        return {r.change.adds: r.hours for r in self.rungs if r.change.adds in STRATEGIES and not r.bought}

    @property
    def next(self) -> Rung | None:
        """Return the first change with a title that was not bought."""
        return next((r for r in self.rungs if not r.bought and r.change.title), None)

    @property
    def unspent(self) -> float:
        """Return the hours that neither the study nor its delivery takes."""
        return max(self.hours * (1 - reserved(self.study)) - self.cost.hours, 0.0)


def choose(ladder: Ladder, machine: Machine, hours: float) -> Choice:
    """Choose what to buy. Raises ConfigError, which names enough hours, where not even the smallest study fits."""
    plan, study = ladder.base()
    every = plan  # with everything so far, bought or not: for the hours that would buy it
    cost, smallest = cost_of(study, ladder.pictures, machine), study
    least = cost.hours
    if cost.hours > hours:
        raise ConfigError(_refusal(ladder, study, cost, machine, hours))
    every_study, rungs = study, list[Rung]()
    for change in ladder.changes():
        if change.whole and plan.folds > 1:
            continue
        apart = every.folds > plan.folds and (change.whole or change.fields.get("check"))  # what has no place beside folds
        tried = replace(plan, **change.fields)
        wider = tried if apart else replace(every, **change.fields)
        try:
            wider_study = ladder.study(wider)
            tried_study = ladder.study(tried) if tried != wider else wider_study
        except ConfigError:
            continue
        if wider_study == (study if apart else every_study) and tried_study == study:
            continue  # given by the user, or no change here
        if not apart:
            every, every_study = wider, wider_study
        in_all = cost_of(wider_study, ladder.pictures, machine)
        price = cost_of(tried_study, ladder.pictures, machine) if tried != wider else in_all
        bought = price.hours <= hours * (1 - reserved(tried_study)) and (not change.after or change.after in plan.strategies)
        if bought:
            plan, study, cost = tried, tried_study, price
        rungs.append(Rung(change=change, hours=in_all.hours / (1 - reserved(wider_study)), bought=bought))
    return Choice(hours=hours, study=study, cost=cost, smallest=smallest, least=least, rungs=tuple(rungs))


def _refusal(ladder: Ladder, study: Study, cost: Cost, machine: Machine, hours: float) -> str:
    needs = enough(cost.hours)
    strategies = " and ".join(dict.fromkeys(c.strategy for c in study.cells))
    why = f"That is the line to beat and {strategies} at {study.protocol.image_size} px, {study.protocol.max_epochs} epochs"
    busy = f" ({machine.busy})" if machine.busy else ""
    fewer = " Or leave --strategies out." if ladder.strategies and ladder.strategies != HEAD else ""
    return f"{hours:g} hours are not enough for this study. It needs about {needs:g}: --hours {needs:g}. {why}{busy}.{fewer}"


def enough(hours: float) -> float:
    """Return the hours rounded up to a number that people type: 0.07 -> 0.07, 0.37 -> 0.4, 2.31 -> 2.4, 37.2 -> 38."""
    step = 100 if hours < 0.1 else 10 if hours < 10 else 1
    return math.ceil(hours * step - 1e-9) / step


TRAINED = {"partial": "Training the last stages (partial)", "full": "Training everything (full)"}


def not_asked(strategy: str, hours: float) -> str:
    """Return a study's sentence about a strategy that did not fit its hours."""
    needed = enough(hours)
    length = f"{needed:g} hour{'s' * (needed != 1)}"
    return f"{TRAINED.get(strategy, strategy)} was left out: to train it fairly, the study needs about {length} (--hours {needed:g})."


def with_about(study: Study, choice: Choice, at_once: int) -> Study:
    """Return the study with a description of its purpose and of what it leaves out, unless the user described it."""
    if study.about:
        return study
    left = " ".join(not_asked(name, hours) for name, hours in choice.left_out.items())
    trials = f"{at_once} trial{'s' * (at_once != 1)} at once"
    return dataclasses.replace(
        study, about=f"Chosen for these images and {choice.hours:g} hours on a machine that runs {trials}. {left}".strip()
    )
