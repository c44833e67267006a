"""Readers of the ledger's JSON files. A file that is no sound record of ours gives one line with the file and the way out.

The functions `..._of` take a file's values apart. They raise ValueError, KeyError or ConfigError, which `damaged` turns into that line.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from study.bounds import BOUNDS
from study.errors import ConfigError, EnvironmentProblem
from study.question.budget_decision import STATES
from study.question.config import QUESTION, WHO_READS, Cell, Study
from study.records import SCHEMA, Ask, TrialResult
from study.strategies import EVERY

TRIAL_ID = re.compile(r"[0-9a-f]{16}")

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


def parse(data: bytes, *, records: bool = False) -> dict[str, Any]:
    """Return an object of strict JSON. Raises ValueError or RecursionError.

    `records`: Record.from_dict checks the values, so they are read at twice the speed.
    """
    if not data.strip():
        raise ValueError("it is empty")
    values = (_PLAIN if records else _STRICT).decode(data.decode())
    if not isinstance(values, dict):
        raise ValueError(f"not an object of JSON but {_kind(values)}")
    if b"\\u" in data:  # we write none but for control characters; half of a surrogate pair could not be printed
        json.dumps(values, ensure_ascii=False).encode()
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond a number's range")
    return value


_PLAIN = json.JSONDecoder(parse_constant=_finite)  # the standard takes NaN and Infinity, which JSON has not
_STRICT = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def check_schema(schema: Any, path: str) -> None:
    """Raise ConfigError, saying which versions read it, for a file of another schema; ValueError where the schema is no number."""
    if type(schema) is not int:
        raise ValueError("it names no schema")
    if schema != SCHEMA:
        raise OtherSchema(f"{path} was written with schema {schema}; {WHO_READS}")


class OtherSchema(ConfigError):
    """A sound file that this version cannot read."""


def study_of(values: dict[str, Any]) -> Study:
    """Return the study. A word in the place of a number is damage: ValueError. A number out of bounds is a matter of configuration."""
    told = values["study"]
    for part in (told, told.get("protocol", {})):
        for name in part.keys() & BOUNDS.keys():
            _require(part, name, lambda v: v is None or _is_number(v), "a number")  # None: infinity
    return Study.from_dict(told)


def facts_of(values: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = _require({"facts": {}, **values}, "facts", _is_object, "an object")
    for name, fits, kind in (
        ("started_at", _is_number, "a time"),
        ("finished_at", _is_number, "a time"),
        ("answers", _is_texts, "texts"),
        ("verdicts", _is_texts, "texts"),
        ("scores", _is_object, "an object"),
        ("arguments", _are_words, "options with their values"),
    ):
        if name in facts:
            _require(facts, name, fits, kind)
    return facts


def asked_of(values: dict[str, Any]) -> Study | None:
    """Return the study as it was last asked for; None where it never grew by its own plan."""
    return study_of({"study": values["asked"]}) if "asked" in values else None


def amendments_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _require({"amendments": [], **values}, "amendments", _is_objects, "a list of objects")
    for amendment in found:
        _require(amendment, "at", _is_number, "a time")
        _require(amendment, "changes", _is_texts, "a list of texts")
        for name in ("test_open", "beside"):
            _require({"beside": False, **amendment}, name, lambda v: isinstance(v, bool), "true or false")
    return found


def ask_of(values: dict[str, Any], trial_id: str) -> Ask:
    ask = Ask.from_dict(values)
    if ask.trial_id != trial_id:
        raise ValueError(f"it is of trial {ask.trial_id[:40]!r}")
    for part in ("cell", "strategy", "recipe", "protocol"):
        _require(ask.config, part, _is_object, "an object")
    _require(ask.config, "seed", lambda v: type(v) is int, "a whole number")
    cell = ask.config["cell"]
    _require(cell, "strategy", _is_text, "a text")
    _requires_question(cell)
    if cell["strategy"] not in EVERY:
        raise ValueError(f"it tunes by {cell['strategy'][:40]!r}, which this version does not know")
    return ask


def result_of(values: dict[str, Any], trial_id: str) -> TrialResult:
    result = TrialResult.from_dict(values)
    if result.trial_id != trial_id:
        raise ValueError(f"it is of trial {result.trial_id[:40]!r}")
    return result


def selection_of(values: dict[str, Any]) -> dict[str, Any]:
    _require(values, "rule", _is_text, "a text")
    _require(values, "chosen", _is_named_ids, "an object of trials' ids")
    _require({"by_search": {}, **values}, "by_search", _is_named_lists, "an object of lists of trials' ids")
    _require({"earlier": [], **values}, "earlier", _is_objects, "a list of objects")
    return values


def budgets_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _require(values, "questions", _is_objects, "a list of objects")
    for question in found:
        _requires_question(question)
        _require(question, "factor", _is_factor, "a whole number >= 1")
        _require(question, "on", _is_named_lists, "an object of lists of trials' ids")
        for part in _require(question, "rounds", _is_objects, "a list of objects"):
            _require(part, "factor", _is_factor, "a whole number >= 1")
            _require(part, "against", _is_factor, "a whole number >= 1")
            for strategy in _require(part, "strategies", _is_object, "an object"):
                own = _require(part["strategies"], strategy, _is_object, "an object")
                _require(own, "state", lambda v: v in STATES, f"one of {', '.join(STATES)}")
                for name in ("gain", "se", "low", "high", "longer", "shorter"):
                    _require({name: 0.0, **own}, name, _is_number, "a number")
    return found


def _requires_question(values: dict[str, Any]) -> None:
    """Require the fields of a cell that make its question, each of its kind. Fields that came late may be missing."""
    for f in fields(Cell):
        if f.name in QUESTION:
            late = {f.name: f.default} if "since" in f.metadata else {}
            fits, kind = KINDS[f.type]
            _require({**late, **values}, f.name, fits, kind)


def data_report_of(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        own = _require(values, name, _is_object, "an object")
        _require(own, "form", _is_text, "a text")
        known = _require({"contents": {"decoder": "", "digests": ""}, **own}, "contents", _is_object, "an object")
        for part in ("decoder", "digests"):
            _require(known, part, _is_text, "a text")
    return values


def delivered_of(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = _require(values, "delivered", _is_object, "an object")
    for key in found:
        own = _require(found, key, _is_object, "an object")
        _require(own, "trial", lambda v: isinstance(v, str) and TRIAL_ID.fullmatch(v) is not None, "a trial's id")
        for name in ("cell", "reason"):
            _require(own, name, _is_text, "a text")
        for name in ("epochs", "images"):
            _require(own, name, lambda v: type(v) is int and v > 0, "a whole number above 0")
        for name in ("at", "validation", "temperature"):
            _require(own, name, _is_number, "a number")
        if not own["temperature"] > 0:
            raise ValueError(f"its temperature {own['temperature']:g} is not above 0")
        if (rule := _require({"threshold": None, **own}, "threshold", lambda v: v is None or _is_object(v), "an object")) is not None:
            _require(rule, "at", lambda v: _is_number(v) and 0 <= v <= 1, "a probability")
            _require(rule, "of", lambda v: v in (0, 1), "0 or 1")
        for length in _require(own, "lengths", _is_objects, "a list of objects"):
            _require(length, "epochs", lambda v: type(v) is int, "a whole number")
            _require(length, "validation", lambda v: isinstance(v, list) and all(map(_is_number, v)), "a list of numbers")
        _require({"earlier": [], **own}, "earlier", _is_objects, "a list of objects")
        calibration = _require({"calibration": {}, **own}, "calibration", _is_object, "an object")
        for name in calibration:
            _require(calibration, name, lambda v: v is None or _is_number(v), "a number or null")
    return found


def labelled_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _require(values, "draws", _is_objects, "a list of objects")
    for draw in found:
        _requires_question(draw)
        for name in ("at", "worth"):
            _require(draw, name, _is_number, "a number")
        _require(draw, "filled", lambda v: v is None or _is_number(v), "a time or null")
        _require(draw, "folder", _is_text, "a text")
        _require(draw, "asked", _is_texts, "a list of texts")
        _require(draw, "pictures", lambda v: type(v) is int and v > 0, "a whole number above 0")
        images = _require(draw, "images", _is_objects, "a list of objects")
        for image in images:
            for name in ("image", "sha256"):
                _require(image, name, _is_text, "a text")
            _require(image, "probability", lambda v: _is_number(v) and 0 < v <= 1, "a probability above 0")
            _require(image, "label", lambda v: v is None or _is_text(v), "a text or null")
        if draw["filled"] is not None and any(image["label"] is None for image in images):
            raise ValueError("a picture of a draw that is filled in has no label")
        of_each = (_require(draw, "fold", _is_counts, "a list of whole numbers"), *_require(draw, "said", _is_object, "an object").values())
        if any(not _is_counts(v) or len(v) != len(images) for v in of_each):
            raise ValueError(f"'fold' or 'said' is not {len(images)} whole numbers, one an image")
    return found


def openings_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _require(values, "openings", _is_objects, "a list of objects")
    for opening in found:
        _require(opening, "hash", _is_text, "a text")
        _require(opening, "trials", _is_texts, "a list of texts")
        _require(opening, "at", _is_number, "a time")
    return found


def _require(values: dict[str, Any], name: str, fits: Callable[[Any], bool], kind: str) -> Any:
    """Return the field of this name. Raises ValueError where it is missing or `fits` returns False."""
    if name not in values:
        raise ValueError(f"no {name!r} in it")
    if not fits(values[name]):
        raise ValueError(f"{name!r} is {_kind(values[name])}, not {kind}")
    return values[name]


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_factor(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(_is_texts(words) and words for words in value)


def _is_named_ids(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) and TRIAL_ID.fullmatch(v) for v in value.values())


def _is_named_lists(value: Any) -> bool:
    """Return True for lists of trial ids by cell. An empty id stands for a search that found none; a cell has one search that did."""
    return isinstance(value, dict) and all(
        isinstance(v, list) and any(v) and all(isinstance(t, str) and (not t or TRIAL_ID.fullmatch(t)) for t in v) for v in value.values()
    )


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) for v in value)


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
    return " ".join(str(error).split())[:200]


KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    str: (_is_text, "a text"),
    float: (_is_number, "a number"),
    int: (lambda value: type(value) is int, "a whole number"),
}
