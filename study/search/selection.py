"""The choice of the trial that represents a cell. The rule is part of the claim, so every table states it."""

from collections.abc import Sequence

from study.question.study_config import Study
from study.records import Ask, Outcome, Stage, TrialResult
from study.scoring.metric import DEFAULT, metric_of

Trials = Sequence[tuple[Ask, TrialResult]]


RULE = "best validation {} of the kept checkpoint; ties go to the cheaper trial, then to the earlier one"


def rank(ask: Ask, result: TrialResult) -> tuple[float, ...]:
    """Return a key that orders the trials of one cell as `RULE` says; the greatest is chosen."""
    assert result.objective is not None, "it was asked of trials with a score"
    return (result.objective, -float(result.images), -float(ask.number))


def select(trials: Trials) -> tuple[str, dict[str, str]]:
    """Return (the rule's text, cell id -> trial id) over search trials that ended with a checkpoint. Stopped trials may be chosen."""
    chosen: dict[str, tuple[tuple[float, ...], str]] = {}
    for ask, result in trials:
        usable = ask.stage is Stage.SEARCH and result.outcome in (Outcome.COMPLETED, Outcome.STOPPED) and result.objective is not None
        if usable:
            own = rank(ask, result)
            if ask.cell not in chosen or own > chosen[ask.cell][0]:
                chosen[ask.cell] = (own, ask.trial_id)
    words = next((metric_of(ask.config).words for ask, _ in trials), DEFAULT.words)
    return RULE.format(words), {cell: trial_id for cell, (_, trial_id) in chosen.items()}


def select_by_search(trials: Trials, study: Study) -> dict[str, list[str]]:
    """Return the winner of each independent search, by cell: R ids, an empty one for a search without a usable trial, so that places
    stay."""
    found = [select([(a, r) for a, r in trials if study.place_of(a.number)[0] == search])[1] for search in range(study.searches)]
    return {cell: [own.get(cell, "") for own in found] for cell in dict.fromkeys(cell for own in found for cell in own)}
