"""A trial's configuration, identified by the hash of its canonical JSON."""

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from study.bounds import check_fields
from study.canonical import added, canonical, restore, used_late
from study.errors import ConfigError, nearest, require
from study.question.cell import Cell
from study.question.training_settings import Protocol, Recipe
from study.records import SCHEMA, dumps
from study.space import domains, parse
from study.strategies import EVERY, Strategy

TrainOn = Literal["train", "train+val", "all"]


def identity(values: dict[str, Any]) -> str:
    """Return 16 hex digits of sha256 over the canonical JSON of a configuration's plain values."""
    return hashlib.sha256(dumps(values).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides a trial's numbers. Equal configs have equal ids on every machine."""

    cell: Cell
    strategy: Strategy
    recipe: Recipe = field(default_factory=Recipe)
    protocol: Protocol = field(default_factory=Protocol)
    seed: int = 0
    subset: int = added(0, since=5)  # which training images a fraction keeps; nested within one subset
    train_on: TrainOn = added("train", since=7)  # with the validation images none are left to choose by; with all none to test on

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.train_on in get_args(TrainOn), f"train_on must be {' or '.join(get_args(TrainOn))}, not {self.train_on!r}.")
        require(
            self.strategy.name == self.cell.strategy,
            f"strategy {self.strategy.name!r} does not belong to cell {self.cell.id!r}.",
        )
        require(
            self.protocol.precision != "auto",
            "a trial's precision must be fp32 or bf16: it changes numbers, so 'auto' is a study's.",
        )

    @property
    def id(self) -> str:
        """Return the trial's id, by all of its settings."""
        return identity(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; unused late fields are left out, so that the id stays."""
        return {"schema": SCHEMA, **canonical(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the configuration. Raises ConfigError for another schema, an unknown strategy, a field this version does not know."""
        require_schema(values, "a trial's configuration")
        cell = restore(Cell, values["cell"])
        return cls(
            cell=cell,
            strategy=restore(EVERY[cell.strategy], values["strategy"]),
            recipe=restore(Recipe, values["recipe"]),
            protocol=restore(Protocol, values["protocol"]),
            seed=values["seed"],
            subset=values.get("subset", 0),
            train_on=values.get("train_on", "train"),
        )

    @classmethod
    def default(cls, cell: Cell, protocol: Protocol, seed: int = 0) -> Self:
        """Return the published default of the cell's strategy: trial 0."""
        return cls(cell=cell, strategy=EVERY[cell.strategy](), protocol=protocol, seed=seed)

    def with_values(self, values: dict[str, Any]) -> Self:
        """Return a copy with strategy, recipe, protocol or seed fields set by name. Raises ConfigError on an unknown name or a bad
        value."""
        parts: dict[str, Any] = {"strategy": self.strategy, "recipe": self.recipe, "protocol": self.protocol}
        owner = {f.name: part for part, value in parts.items() for f in dataclasses.fields(value)}
        if unknown := [name for name in values if name != "seed" and name not in owner]:
            raise ConfigError(f"Unknown setting {unknown[0]!r}. Choose from {nearest(unknown[0], ['seed', *owner])}.")
        given: dict[str, dict[str, Any]] = {part: {} for part in parts}
        try:
            for name in values.keys() - {"seed"}:
                given[owner[name]][name] = parse(type(parts[owner[name]]), name, values[name])
            parts = {part: dataclasses.replace(value, **given[part]) for part, value in parts.items()}
            return dataclasses.replace(self, seed=parse(TrialConfig, "seed", values.get("seed", self.seed)), **parts)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def tuned(self) -> dict[str, Any]:
        """Return by name the values that every search varies, and late ones in use; none for an exact solution."""
        if self.strategy.exact:
            return {}
        parts = (self.strategy, self.recipe)
        return self.values(name for part in parts for name in dict.fromkeys((*domains(type(part)), *used_late(part))))

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """Return fields of the strategy and the recipe, by name."""
        known = {f.name: part for part in (self.strategy, self.recipe) for f in dataclasses.fields(part)}
        return {name: getattr(known[name], name) for name in names}


def require_schema(values: dict[str, Any], what: str) -> None:
    """Raise ConfigError, saying which versions read it, for values that another schema wrote."""
    require(values.get("schema") == SCHEMA, f"{what} of schema {values.get('schema')!r}; {WHO_READS}")


WHO_READS = f"this version reads {SCHEMA}. Use the version that wrote it: CHANGELOG.md lists schemas by version."
