"""The growth of a study under its own name: more seeds, trials, cells or measurements. Changes of its question are refused.

A study that was chosen for a number of hours may give up parts that do not fit, before any of them is trained (`MAY_FALL`).
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from study.canonical import canonical
from study.errors import ConfigError
from study.question.study_config import Study
from study.records import dumps

MAY_RISE = ("trials", "random_trials", "confirm_seeds", "longest")
MAY_BEGIN = ("budget_check",)
"""Fields that may begin to be used. A budget check may confirm a question anew at a longer budget, which is a further look at an open
test set."""
MAY_GAIN = ("cells", "measure", "explain")
MAY_FALL = ("confirm_seeds", "confirm_size", "budget_check", "longest")
"""Fields that may fall, by the study's own plan alone."""
MAY_MOVE = ("confirm_size",)
"""Fields that may also rise by the study's own plan, before what they concern was trained."""
FREE = ("about", "worth")
"""Fields that may change at any time. A bound of a loss holds for every worth of a cheaper strategy."""
NO_QUESTION = ("deliver",)  # what is done after the verdict: it may come and go, and is no growth


@dataclass(frozen=True, kw_only=True)
class Change:
    """One field that differs: `was` and `now` as JSON values; for a field that holds many, the values lost and gained."""

    field: str
    was: Any
    now: Any

    @property
    def text(self) -> str:
        if self.field in MAY_GAIN:
            signs = [f"+ {_shown(v)}" for v in self.now] + [f"- {_shown(v)}" for v in self.was]
            return f"{self.field}: {', '.join(signs)}"
        return f"{self.field}: {_shown(self.was)} -> {_shown(self.now)}"

    def allowed(self, *, planned: bool) -> bool:
        """Return True where the change is allowed. `planned`: by the study's own plan, before anything that it concerns was trained."""
        if self.field in MAY_GAIN:
            return not self.was
        begins = self.field in MAY_BEGIN and not self.was
        rises = self.field in MAY_RISE and self.now > self.was
        moves = planned and (self.field in MAY_MOVE or (self.field in MAY_FALL and self.now < self.was))
        return self.field in FREE or begins or rises or moves


def compare(old: Study, new: Study) -> list[Change]:
    """Return every field in which two studies differ, those of the protocol by their own names."""
    found: list[Change] = []
    for part, a, b in (("", old, new), ("protocol.", old.protocol, new.protocol)):
        for name in [f.name for f in fields(a) if f.name not in ("protocol", "published", *NO_QUESTION)]:
            was, now = _plain(name, getattr(a, name)), _plain(name, getattr(b, name))
            if name in MAY_GAIN:
                was, now = [v for v in was if v not in now], [v for v in now if v not in was]
            if was != now:
                found.append(Change(field=part + name, was=was, now=now))
    return found


def grow(old: Study, new: Study, where: str, *, planned: bool = False) -> tuple[Study, list[Change]]:
    """Return the grown study, its cells in the order in which they came, and the changes.

    `planned`: by the study's own plan, which may give up parts that do not fit its hours. Raises ConfigError naming the changes that are
    refused.
    """
    changes = compare(old, new)
    _check_passes(changes, old, new, where)
    if refused := [c for c in changes if not c.allowed(planned=planned) and not (c.field == "searches" and old.folds == new.folds > 1)]:
        raise ConfigError(
            f"{where} holds a study with other settings ({'; '.join(c.text for c in refused)}). A study may gain "
            f"{', '.join((*MAY_RISE, *MAY_GAIN))}, "
            f"and begin a {MAY_BEGIN[0]} where it had none, nothing else: python -m study.sweep {where} goes on with its own "
            "settings, and another --name begins anew."
        )
    later = tuple(c for c in new.cells if c not in old.cells)
    grown = replace(
        new,
        cells=(*old.cells, *later),
        measure=tuple(dict.fromkeys((*old.measure, *new.measure))),
        explain=tuple(dict.fromkeys((*old.explain, *new.explain))),
    )
    return grown.begun(old.published), changes  # a strategy that joins brings its ranges of today


def _check_passes(changes: list[Change], old: Study, new: Study, where: str) -> None:
    """Raise ConfigError where a study by outer folds gains part of a pass: the number of a trial says which pass it belongs to."""
    asked = {c.field for c in changes} & {"searches", "trials", "random_trials"}
    if not asked or not old.folds == new.folds > 1 or old.searches == new.searches == old.folds:
        return
    sizes = ("trials", "random_trials", "confirm_seeds")
    whole = all(getattr(new, name) * old.searches == getattr(old, name) * new.searches for name in sizes[:2])
    if whole and new.searches > old.searches:
        return
    trials, drawn, seeds = (getattr(old, name) * (old.searches + old.folds) // old.searches for name in sizes)
    raise ConfigError(
        f"{where} has {old.folds} outer folds and {old.searches} searches, and grows by whole passes over the images, each with as "
        f"many trials: --searches {old.searches + old.folds} --trials {trials} --confirm-seeds {seeds} --set random_trials={drawn}."
    )


def _plain(name: str, value: Any) -> Any:
    return [c.id for c in value] if name == "cells" else canonical(value)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)
