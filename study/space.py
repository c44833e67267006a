"""Ranges of hyperparameters, written beside the type and the default on one line.

    lr: Annotated[float, Log(1e-5, 1e-2)] = 1e-3

Standard library only; `study.search.sample` turns ranges into values.
"""

import dataclasses
import functools
import math
import typing
from dataclasses import dataclass
from typing import Any

from study.bounds import BOUNDS, bound_of


@dataclass(frozen=True)
class Log:
    """A log-uniform range on [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"Log({self.low}, {self.high}): needs 0 < low < high < inf.")

    def position(self, value: float) -> float:
        """Return the position of `value` in the range: 0 = low end, 1 = high end."""
        return math.log(value / self.low) / math.log(self.high / self.low)


@dataclass(frozen=True)
class Uniform:
    """A uniform range on [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"Uniform({self.low}, {self.high}): needs finite low < high.")

    def position(self, value: float) -> float:
        """Return the position of `value` in the range: 0 = low end, 1 = high end."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Integer:
    """A uniform range on the whole numbers low..high, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"Integer({self.low}, {self.high}): needs low <= high.")

    def position(self, value: float) -> float:
        """Return the position of `value` in the range: 0 = low end, 1 = high end."""
        return (value - self.low) / max(self.high - self.low, 1)


@dataclass(frozen=True)
class Steps(Integer):
    """Whole numbers that count steps, `high` of them from the least to the most on every network: `of` names the field with their number.

    A value above 1 is written together with `high` in that field; where the field is left out, the number counts stages.
    """

    of: str = "depth_steps"


@dataclass(frozen=True)
class Choice:
    """A choice of one of `options`, without order."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any) -> None:
        if not options:
            raise ValueError("Choice(): needs at least one option.")
        object.__setattr__(self, "options", options)


Domain = Log | Uniform | Integer | Choice
_KINDS: dict[str, type[Any]] = {"log": Log, "uniform": Uniform, "integer": Integer, "steps": Steps, "choice": Choice}


@dataclass(frozen=True)
class Offered:
    """A range that is searched only where a study asks for its field."""

    domain: Domain


def range_as_dict(domain: Domain) -> dict[str, Any]:
    """Return the range as JSON: {"log": [1e-5, 1e-2]}."""
    kind = next(k for k, cls in _KINDS.items() if type(domain) is cls)
    return {kind: list(domain.options) if isinstance(domain, Choice) else list(dataclasses.astuple(domain))}


def range_from_dict(values: dict[str, Any]) -> Domain:
    """Return the range. Raises ValueError for values that `range_as_dict` never wrote."""
    ((kind, arguments),) = values.items()
    if kind not in _KINDS:
        raise ValueError(f"A range of kind {kind!r}. Known: {', '.join(_KINDS)}.")
    domain: Domain = _KINDS[kind](*arguments)
    return domain


def extremes(domain: Domain) -> tuple[Any, ...]:
    """Return the range's ends, or all its options."""
    return domain.options if isinstance(domain, Choice) else (domain.low, domain.high)


def in_words(domain: Domain) -> str:
    """Return the range in words: "0 to 0.8", "0, 0.9 or 0.99", "0.2"."""
    *others, last = [f"{v:g}" if isinstance(v, float) else str(v) for v in extremes(domain)]
    if isinstance(domain, Choice):
        return f"{', '.join(others)} or {last}" if others else last
    return f"{others[0]} to {last}{', log' if isinstance(domain, Log) else ''}"


def domains(cls: type) -> dict[str, Domain]:
    """Return the fields of a dataclass that every study searches, in order; fields without a range are not searched."""
    return {name: extra for name, extra in _extras(cls) if isinstance(extra, (Log, Uniform, Integer, Choice))}


def offered(cls: type) -> dict[str, Domain]:
    """Return the fields that are searched where a study asks for them, in order."""
    return {name: extra.domain for name, extra in _extras(cls) if isinstance(extra, Offered)}


@functools.cache
def _extras(cls: type) -> tuple[tuple[str, Any], ...]:
    """Return the fields with the extras of their annotations, computed once: a study has few classes and asks for their ranges often."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple((f.name, extra) for f in dataclasses.fields(cls) for extra in typing.get_args(hints[f.name])[1:])


def parse(cls: type, name: str, text: Any) -> Any:
    """Return `text` as a value for field `name` of `cls`: '1e-3' -> 0.001. Raises ValueError with the way out."""
    hints = typing.get_type_hints(cls)
    if name not in hints:
        raise ValueError(f"{cls.__name__} has no field {name!r}. It has {', '.join(sorted(hints))}.")
    kind = hints[name]
    if isinstance(text, bool) and kind is not bool:
        raise ValueError(f"{name} must be {_rule(cls, name, kind)}, not {text!r}.")
    try:
        if kind is int:
            value: Any = int(text)
            if isinstance(text, float) and text != value:
                raise ValueError
            return value
        if kind is float:
            return float(text)
        if kind is bool:
            return {"true": True, "false": False}[str(text).lower()]
        return str(text) if kind is str or typing.get_origin(kind) is typing.Literal else text
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{name} must be {_rule(cls, name, kind)}, not {text!r}.") from None


def _rule(cls: type, name: str, kind: Any) -> str:
    """Return the rule of a field, in words."""
    bound = BOUNDS.get(bound_of(cls.__name__, name))
    return bound.rule if bound else {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, str(kind))
