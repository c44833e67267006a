"""From ranges to values: one walk over a cell's searched fields, for Optuna to fill in."""

import dataclasses
import hashlib
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.config import Cell, Protocol, Recipe, TrialConfig
from study.space import Choice, Domain, Integer, Log, domains
from study.strategies import STRATEGIES


def ranges(cell: Cell) -> dict[str, Domain]:
    """Every searched field of the cell, strategy first. Names do not collide: a law test sees to it."""
    return {**domains(STRATEGIES[cell.strategy]), **domains(Recipe)}


def distributions(cell: Cell) -> dict[str, BaseDistribution]:
    return {name: _distribution(domain) for name, domain in ranges(cell).items()}


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high)
    return FloatDistribution(domain.low, domain.high, log=isinstance(domain, Log))


def suggest(trial: optuna.Trial, cell: Cell, protocol: Protocol, seed: int) -> TrialConfig:
    """Draws every searched field, rounded to 6 digits so that a config reads well and its id is stable."""
    values: dict[str, Any] = {}
    for name, domain in ranges(cell).items():
        if isinstance(domain, Choice):
            values[name] = trial.suggest_categorical(name, domain.options)
        elif isinstance(domain, Integer):
            values[name] = trial.suggest_int(name, domain.low, domain.high)
        else:
            drawn = trial.suggest_float(name, domain.low, domain.high, log=isinstance(domain, Log))
            values[name] = min(max(float(f"{drawn:.6g}"), domain.low), domain.high)
    return TrialConfig.default(cell, protocol, seed).with_values(values)


def seed_for(*parts: object) -> int:
    """A 32-bit seed that is a pure function of its parts: trial n of a cell draws the same wherever and whenever it is asked."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def default_values(cell: Cell) -> dict[str, Any]:
    """The published default of the cell's searched fields."""
    strategy, recipe = STRATEGIES[cell.strategy](), Recipe()
    both = {**dataclasses.asdict(recipe), **dataclasses.asdict(strategy)}
    return {name: both[name] for name in ranges(cell)}
