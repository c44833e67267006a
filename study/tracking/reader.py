"""Readers of the ledger's JSON files. A file that is no sound record of ours gives one line with the file and the way out.

The functions `..._of` take a file's values apart. They raise ValueError, KeyError or ConfigError, which `damaged` turns into that line.
"""

import functools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from study.errors import ConfigError, EnvironmentProblem
from study.question.trial_config import WHO_READS, identity
from study.records import SCHEMA, Ask, EpochRecord, Record, TrialResult
from study.strategies import EVERY

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

R = TypeVar("R", bound=Record)
T = TypeVar("T", Ask, TrialResult)

DAMAGES = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)  # a record that cannot be made


@contextmanager
def damaged(path: str, way_out: str) -> Iterator[None]:
    """Turn errors about a file's contents into EnvironmentProblem, which names the file; a known value that is refused stays
    ConfigError."""
    try:
        yield
    except (OtherSchema, EnvironmentProblem):
        raise
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except DAMAGES as error:
        raise EnvironmentProblem(f"{path} is damaged ({_why(error)}); {way_out}") from None


def parse(data: bytes) -> dict[str, Any]:
    """An object in strict JSON. Raises ValueError or RecursionError."""
    _some(data)
    values = _STRICT.decode(data.decode())
    if not isinstance(values, dict):
        raise ValueError(f"not an object of JSON but {_kind(values)}")
    if b"\\u" in data:  # we write none but for control characters; half of a surrogate pair could not be printed
        json.dumps(values, ensure_ascii=False).encode()
    return values


def _some(data: bytes) -> None:
    if not data.strip():
        raise ValueError("it is empty")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond a number's range")
    return value


_STRICT = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)  # the standard takes NaN and Infinity, which JSON has not


def check_schema(schema: Any, path: str) -> None:
    """Raise ConfigError, saying which versions read it, for a file of another schema; ValueError where the schema is no number."""
    if type(schema) is not int:
        raise ValueError("it names no schema")
    if schema != SCHEMA:
        raise OtherSchema(f"{path} was written with schema {schema}; {WHO_READS}")


class OtherSchema(ConfigError):
    """A sound file that this version cannot read."""


# ---- files of a study: plain values ---------------------------------------------------------------------------


def values_of(data: bytes, shape: str, path: str) -> dict[str, Any]:
    """The file's values, which have this shape of `shapes` and are of our schema, where they name one."""
    values = parse(data)
    if shape != "DataReports":
        says = values.get("study") if shape == "StudyFile" else values
        check_schema(says.get("schema") if isinstance(says, dict) else None, path)
    _shape(shape).validate_json(data)
    return values


@functools.cache
def _shape(name: str) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    from study.tracking import shapes

    return TypeAdapter(getattr(shapes, name))


# ---- files of a trial: records --------------------------------------------------------------------------------


def epoch_of(data: bytes) -> EpochRecord:
    record = _record(EpochRecord, data)
    _check_finite(record.facts)
    return record


def ask_of(data: bytes, trial_id: str, path: str) -> Ask:
    ask = _of_trial(Ask, data, trial_id, path)
    strategy = _shape("AskFile").validate_json(data).config.cell.strategy
    if strategy not in EVERY:
        raise ValueError(f"it tunes by {strategy[:40]!r}, which this version does not know")
    _check_finite(ask.config)
    if (told := identity(ask.config)) != trial_id:
        raise ValueError(f"it was edited, and describes trial {told}, which was never asked for")
    return ask


def result_of(data: bytes, trial_id: str, path: str) -> TrialResult:
    result = _of_trial(TrialResult, data, trial_id, path)
    _check_finite(result.facts)
    return result


def _of_trial(cls: type[T], data: bytes, trial_id: str, path: str) -> T:
    """Return the record of a file of our schema, which must be of this trial."""
    _some(data)
    check_schema(_shape("Written").validate_json(data).schema, path)
    record = _record(cls, data)
    if record.trial_id != trial_id:
        raise ValueError(f"it is of trial {record.trial_id[:40]!r}")
    return record


def _record(cls: type[R], data: bytes) -> R:
    _some(data)
    if b"NaN" in data or b"Infinity" in data:  # pydantic takes them where anything may stand
        parse(data)
    return cls.from_json(data)


def _check_finite(values: Any) -> None:
    """Check values of any form for numbers beyond their range, of which a record has few."""
    if type(values) is float:
        if values - values != 0:
            raise ValueError("a number in it is beyond a number's range")
    elif type(values) is dict:
        for value in values.values():
            _check_finite(value)
    elif type(values) is list:
        for value in values:
            _check_finite(value)


# ---- what is wrong, in words ----------------------------------------------------------------------------------


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _why(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"no {str(error)[:80]} in it"
    if type(error).__name__ == "ValidationError":
        return _refused(error)  # type: ignore[arg-type]  # pydantic's, known by its name so that it is not loaded for others
    return " ".join(str(error).split())[:200]


NEEDED = {
    "int_type": "a whole number", "float_type": "a number", "string_type": "a text", "bool_type": "true or false", "list_type": "a list",
    "dict_type": "an object", "dataclass_type": "an object",
}  # fmt: skip


def _refused(error: "ValidationError") -> str:
    """The first thing that is wrong: the field by its path, what it holds, what it must be."""
    first = error.errors(include_url=False)[0]
    kind, said = first["type"], first["msg"]
    *outer, last = [str(part)[:60] for part in first["loc"]] or [""]
    if kind == "json_invalid":
        return said.replace("Invalid JSON", "not JSON", 1)
    if not last:
        return f"not an object of JSON but {_kind(first['input'])}"
    if kind == "missing":
        return f"no {last!r} in {'.'.join(outer) or 'it'}"
    value = json.dumps(first["input"])[:40] if isinstance(first["input"], str | int | float) else _kind(first["input"])
    needed = NEEDED.get(kind, said.removeprefix("Input should be "))
    return f"{'.'.join((*outer, last))!r} is {value}, not {needed}"[:300]
