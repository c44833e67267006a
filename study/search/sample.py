"""The way from ranges to values: one walk over a cell's searched fields, which Optuna fills in."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.question.cell import Cell
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.space import Choice, Domain, Integer, Log, Steps


def distributions(ranges: dict[str, Domain]) -> dict[str, BaseDistribution]:
    """Return a study's ranges as Optuna's distributions."""
    return {name: _distribution(domain) for name, domain in ranges.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high)
    return FloatDistribution(domain.low, domain.high, log=isinstance(domain, Log))


def suggest(trial: optuna.Trial, study: Study, cell: Cell, seed: int) -> TrialConfig:
    """Draw every searched field, rounded to 6 digits so that a config reads well and its id is stable."""
    values: dict[str, Any] = {}
    for name, domain in study.ranges(cell).items():
        if isinstance(domain, Choice):
            values[name] = trial.suggest_categorical(name, domain.options)
        elif isinstance(domain, Integer):
            values[name] = trial.suggest_int(name, domain.low, domain.high)
            if isinstance(domain, Steps) and values[name] > 1:
                values[domain.of] = domain.high
        else:
            drawn = trial.suggest_float(name, domain.low, domain.high, log=isinstance(domain, Log))
            values[name] = min(max(float(f"{drawn:.6g}"), domain.low), domain.high)
    return TrialConfig.default(cell, study.protocol_of(cell), seed).with_values(values)


def default_values(study: Study, cell: Cell) -> dict[str, Any]:
    """Return the published default of the cell's searched fields; where the study's own range excludes it, the nearest end of that
    range."""
    ranges = study.ranges(cell)
    published = TrialConfig.default(cell, study.protocol_of(cell)).values(ranges)
    return {name: within(domain, published[name]) for name, domain in ranges.items()}


def within(domain: Domain, value: Any) -> Any:
    """Return the value, or the nearest end of a range that excludes it."""
    if isinstance(domain, Choice):
        return value if value in domain.options else domain.options[0]
    return min(max(value, domain.low), domain.high)
