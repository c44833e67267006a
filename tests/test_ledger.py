"""Damaged files of the ledger: whatever the damage, the reader says so in one line that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from study.errors import ConfigError, EnvironmentProblem, StudyError
from study.records import EpochRecord
from study.tracking.ledger import Ledger
from tests.goldens import GOLDEN

TRIAL = "trials/{trial}/"

READERS: dict[str, tuple[str, Callable[[Ledger, str], object]]] = {
    "study": ("study.json", lambda ledger, trial: ledger.study()),
    "facts": ("study.json", lambda ledger, trial: ledger.facts()),
    "amendments": ("study.json", lambda ledger, trial: ledger.amendments()),
    "begin": ("study.json", lambda ledger, trial: ledger.begin(Ledger(GOLDEN, "golden").study(), {})),
    "ask": (TRIAL + "config.json", lambda ledger, trial: ledger.ask(trial)),
    "asks": (TRIAL + "config.json", lambda ledger, trial: ledger.asks()),
    "epochs": (TRIAL + "epochs.jsonl", lambda ledger, trial: ledger.epochs(trial)),
    "result": (TRIAL + "result.json", lambda ledger, trial: ledger.result(trial)),
    "results": (TRIAL + "result.json", lambda ledger, trial: ledger.results()),
    "trials": (TRIAL + "result.json", lambda ledger, trial: list(ledger.trials())),
    "selection": ("selection.json", lambda ledger, trial: ledger.selection()),
    "winners": ("selection.json", lambda ledger, trial: ledger.winners()),
    "openings": ("test_lock.json", lambda ledger, trial: ledger.test_openings()),
    "data_report": ("data_report.json", lambda ledger, trial: ledger.data_report()),
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "blank": lambda data: b" \n",
    "no JSON": lambda data: b"{",
    "garbage": lambda data: b"\x00\x01\x02" * 50,
    "a list": lambda data: b"[]",
    "null": lambda data: b"null",
    "a number": lambda data: b"7",
    "a text": lambda data: b'"x"',
    "cut": lambda data: data[: len(data) // 2],
    "deep": lambda data: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "bad UTF-8": lambda data: b'{"a": "\xff\xfe"}',
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "half a surrogate": lambda data: data.replace(b"{", b'{"\\ud800": 1, ', 1),
    "NaN": lambda data: data.replace(b"{", b'{"more": NaN, ', 1),
    "a number of 5000 digits": lambda data: data.replace(b"{", b'{"more": ' + b"9" * 5000 + b", ", 1),
}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    root = tmp_path_factory.mktemp("ledger")
    shutil.copytree(GOLDEN, root / "results")
    ledger = Ledger(root / "results", "golden")
    whole = json.loads(ledger.folder.read("study.json")) | {"amendments": [{"at": 1.0, "changes": ["trials: 1 -> 2"], "test_open": True}]}
    ledger.folder.write("study.json", json.dumps(whole).encode())
    return ledger


def refusal(ledger: Ledger, reader: str, change: Callable[[bytes], bytes]) -> StudyError:
    """Return the error that the reader raises while its file is changed."""
    name, read = READERS[reader]
    trial = ledger.asks()[0].trial_id
    path = Path(ledger.folder.path(name.format(trial=trial)))
    sound = path.read_bytes()
    end = b"\n" if name.endswith("jsonl") else b""
    try:
        path.write_bytes(change(sound) + end)
        with pytest.raises(StudyError) as caught:
            read(ledger, trial)
    finally:
        path.write_bytes(sound)
    line = str(caught.value)
    assert str(path) in line and "\n" not in line and len(line) < 1000, line
    return caught.value


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
def test_damage_is_a_line_that_names_the_file_and_the_way_out(reader: str, damage: str, ledger: Ledger) -> None:
    error = refusal(ledger, reader, DAMAGES[damage])
    assert type(error) is EnvironmentProblem and "is damaged (" in str(error) and "restore it from a backup, or" in str(error)
    assert ("lose what it holds" in str(error)) == (reader == "openings"), "nothing else is lost for good"


def changed(**fields: object) -> Callable[[bytes], bytes]:
    """Return a change of fields by their path, a__b for b within a, where `...` removes one."""

    def change(data: bytes) -> bytes:
        values = json.loads(data.partition(b"\n")[0] if data.count(b"\n{") else data)
        for path, value in fields.items():
            *outer, last = path.split("__")
            inner = values
            for part in outer:
                inner = inner[part]
            inner.pop(last) if value is ... else inner.__setitem__(last, value)
        return json.dumps(values).encode()

    return change


FIELDS = [
    ("study", {"study": ...}), ("study", {"study": []}), ("study", {"study__cells": 3}), ("study", {"study__cells": [1]}),
    ("study", {"study__protocol": None}), ("study", {"study__trials": "six"}), ("study", {"study__schema": None}),
    ("study", {"study__margin": "wide"}), ("study", {"study__space": []}), ("study", {"study__measure": 3}),
    ("facts", {"facts": []}), ("facts", {"facts__finished_at": "today"}), ("facts", {"facts__verdicts": "we won"}),
    ("amendments", {"amendments": {}}), ("amendments", {"amendments": [1]}), ("amendments", {"amendments": [{"at": 1.0}]}),
    ("ask", {"schema": ...}), ("ask", {"schema": "1"}), ("ask", {"trial_id": ...}), ("ask", {"trial_id": "f" * 16}),
    ("ask", {"trial_id": 3}),
    ("ask", {"stage": "later"}), ("ask", {"origin": []}), ("ask", {"number": "0"}), ("ask", {"number": 1.5}), ("ask", {"config": []}),
    ("ask", {"config__cell": ...}), ("ask", {"config__cell__dataset": 3}), ("ask", {"config__cell__strategy": "unheard-of"}),
    ("ask", {"config__seed": None}), ("ask", {"sequence": True}),
    ("epochs", {"epoch": "1"}), ("epochs", {"epoch": ...}), ("epochs", {"metrics": []}), ("epochs", {"metrics": {"val/macro_f1": "high"}}),
    ("epochs", {"metrics": {"val/macro_f1": 10**400}}), ("epochs", {"facts": None}), ("epochs", {"confusion": [1]}),
    ("epochs", {"confusion": [["a"]]}), ("epochs", {"ended_at": None}),
    ("result", {"outcome": "fine"}), ("result", {"outcome": ...}), ("result", {"trial_id": "f" * 16}), ("result", {"classes": "ab"}),
    ("result", {"val": 3}), ("result", {"val": {}}), ("result", {"val__confusion": [[1.5]]}), ("result", {"val__recall": ["a"]}),
    ("result", {"best_epoch": "1"}), ("result", {"metrics": None}), ("result", {"seconds": None}), ("result", {"schema": ...}),
    ("selection", {"chosen": ...}), ("selection", {"chosen": []}), ("selection", {"chosen": {"a": 1}}), ("selection", {"rule": 1}),
    ("selection", {"earlier": [1]}), ("openings", {"openings": ...}), ("openings", {"openings": [1]}),
    ("openings", {"openings": [{"hash": 1}]}),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "fields"), FIELDS, ids=lambda v: v if isinstance(v, str) else str(v)[:40])
def test_a_field_that_is_missing_or_of_a_wrong_type_is_named(reader: str, fields: dict, ledger: Ledger) -> None:
    error = refusal(ledger, reader, changed(**fields))
    assert type(error) is EnvironmentProblem and "is damaged (" in str(error)


@pytest.mark.parametrize("data", [b'{"epoch": 1e999', b'{"facts": {"a": 1e999}, "epoch": 1', b'{"epoch": -Infinity'])
def test_a_number_without_end_is_damage(data: bytes, ledger: Ledger) -> None:
    rest = b', "metrics": {}, "train_seconds": 1, "eval_seconds": 1, "images": 1, "ended_at": 1}'
    assert type(refusal(ledger, "epochs", lambda _: data + rest)) is EnvironmentProblem


def test_what_is_sound_but_not_for_us_is_a_matter_of_configuration(ledger: Ledger) -> None:
    for reader, field in (
        ("study", "study__schema"),
        ("ask", "schema"),
        ("result", "schema"),
        ("selection", "schema"),
        ("openings", "schema"),
    ):
        assert "schema 99" in str(error := refusal(ledger, reader, changed(**{field: 99}))) and isinstance(error, ConfigError)
    assert isinstance(refusal(ledger, "study", changed(study__trials=-1)), ConfigError)
    assert isinstance(refusal(ledger, "study", changed(study__newer=1)), ConfigError)


def test_a_choice_that_is_no_trial_is_named(ledger: Ledger) -> None:
    assert {cell: ask.trial_id for cell, ask in ledger.winners().items()} == ledger.selection()["chosen"]
    cell = "digits/official/efficientnet_lite0/partial/1"
    assert "is damaged" in str(refusal(ledger, "selection", changed(chosen={cell: "../../elsewhere"})))
    error = refusal(ledger, "winners", changed(chosen={cell: "0" * 16}))
    assert "0000 for digits/" in str(error) and "which is not here" in str(error) and isinstance(error, EnvironmentProblem)


def test_some_runs_of_an_opening_are_no_further_opening(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "s")
    first = ledger.open_test(["a", "b", "c"])
    assert ledger.open_test(["c", "a"]) == first and len(ledger.test_openings()) == 1
    assert ledger.open_test(["a", "d"]) != first and len(ledger.test_openings()) == 2


def test_absent_is_not_empty(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "none")
    assert ledger.study() is None and ledger.facts() == {} and ledger.asks() == [] and ledger.selection() is None
    assert ledger.trial("0" * 16) is None and ledger.epochs("0" * 16) == [] and ledger.data_report() == {} and ledger.test_openings() == []


def test_all_of_a_trial_in_one_call() -> None:
    ledger = Ledger(GOLDEN, "golden")
    trials = list(ledger.trials())
    assert sorted(t.ask.trial_id for t in trials) == sorted(a.trial_id for a in ledger.asks()) and len(trials) == 18
    for trial in trials:
        assert trial == ledger.trial(trial.ask.trial_id)
        assert trial.epochs == ledger.epochs(trial.ask.trial_id) and trial.result == ledger.result(trial.ask.trial_id)


def test_a_field_of_a_later_version_is_left_out() -> None:
    values = {"epoch": 1, "metrics": {}, "train_seconds": 1, "eval_seconds": 1.5, "images": 1, "ended_at": 0.0}
    assert EpochRecord.from_dict({**values, "newer": {}}) == EpochRecord.from_dict(values)
