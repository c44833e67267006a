"""Values as JSON, and the way they grow: a later field is not written while it holds what all values meant before it came.

So a new field changes no trial's id and no study's question until a study uses it, and an older study can be continued. That holds where
today's default is another one, too: an older value keeps its meaning.
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from study.errors import ConfigError, nearest

T = TypeVar("T")
BEFORE = "before"


def added(
    default: Any = dataclasses.MISSING,
    *,
    since: int,
    factory: Callable[[], Any] | None = None,
    before: Any = dataclasses.MISSING,
) -> Any:
    """Return a dataclass field that came with version `since` of the fields (CHANGELOG.md lists them).

    `before`: the value that was meant before the field came, where it is not today's default. Then the field is left out where it equals
    `before`, written where it is the default, and read as `before` where it is missing.
    """
    metadata = {"since": since} if before is dataclasses.MISSING else {"since": since, BEFORE: before}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def canonical(value: Any) -> Any:
    """Return plain JSON values of a dataclass and all it holds. Unused late fields are left out; infinity is null (JSON has none)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        unused = {f.name for f in late_fields(type(value))} - used_late(value).keys()
        return {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in unused}
    if isinstance(value, dict):
        return {k: canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(v) for v in value]
    return None if value == math.inf else value


def late_fields(cls: type) -> list["dataclasses.Field[Any]"]:
    return [f for f in dataclasses.fields(cls) if "since" in f.metadata]


def used_late(value: Any) -> dict[str, Any]:
    """Return the late fields of a dataclass that hold anything else than what was meant before they came."""
    return {f.name: own for f in late_fields(type(value)) if (own := getattr(value, f.name)) != _meant_before(f)}


def restore(cls: type[T], values: dict[str, Any]) -> T:
    """Return the dataclass that `canonical` wrote. Raises ConfigError for a field that is missing or that this version does not know."""
    hints = _hints(cls)  # type: ignore[arg-type]  # mypy takes a class for unhashable
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - fields.keys()):
        raise ConfigError(
            f"{cls.__name__} has no field {unknown[0]!r}. It has {nearest(unknown[0], list(fields))}. "
            "A newer version wrote this: use that version or a later one."
        )
    if missing := [n for n, f in fields.items() if n not in values and not _has_default(f)]:
        raise ConfigError(f"{cls.__name__} needs {', '.join(missing)}. What was read lacks it.")
    earlier = {f.name: f.metadata[BEFORE] for f in fields.values() if BEFORE in f.metadata}
    return cls(**earlier | {k: math.inf if v is None and hints[k] is float else v for k, v in values.items()})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Return the type hints of a class, computed once: a study is made of few classes and many values."""
    return typing.get_type_hints(cls)


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _meant_before(field: "dataclasses.Field[Any]") -> Any:
    if BEFORE in field.metadata:
        return field.metadata[BEFORE]
    return default_of(field)


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """Return the field's value where nothing is said."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
