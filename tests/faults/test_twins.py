"""Lost, doubled and unequal in the words of the benchmark of kills: each kind of damage is seen, and none where there is none."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.twins import differences
from study.tracking.client import KEY

GOLDEN = next(p.parent for p in (Path(__file__).parents[1] / "golden").rglob("study.json"))
SCHEMA = """
CREATE TABLE runs (run_uuid, status, lifecycle_stage); CREATE TABLE tags (run_uuid, key, value);
CREATE TABLE params (run_uuid, key, value);
CREATE TABLE metrics (run_uuid, key, step, value); CREATE TABLE model_versions (name, version);
INSERT INTO runs VALUES ('r1', 'FINISHED', 'active'); INSERT INTO tags VALUES ('r1', '{key}', '{study}:t1');
INSERT INTO metrics VALUES ('r1', 'val/macro_f1', 1, 0.5), ('r1', 'seconds', 1, 3.0); INSERT INTO model_versions VALUES ('m', 1)
"""


def studied(root: Path) -> Path:
    shutil.copytree(GOLDEN, root / GOLDEN.name)
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        store.executescript(SCHEMA.format(key=KEY, study=GOLDEN.name))
    return root


def a_trial(root: Path, name: str) -> Path:
    return min((root / GOLDEN.name / "trials").glob(f"*/{name}"))


def change(root: Path, sql: str) -> None:
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        store.execute(sql)
        store.commit()


def test_equal_studies_do_not_differ_whatever_time_they_took(tmp_path: Path) -> None:
    ours, twin = studied(tmp_path / "a"), studied(tmp_path / "b")
    change(ours, "UPDATE metrics SET value = 9 WHERE key = 'seconds'")
    found = differences(ours, twin, GOLDEN.name)
    assert not (found.lost or found.doubled or found.unequal), found


def without_result(root: Path) -> None:
    a_trial(root, "result.json").unlink()


def twice_an_epoch(root: Path) -> None:
    file = a_trial(root, "epochs.jsonl")
    file.write_text(file.read_text() + file.read_text().splitlines()[-1] + "\n")


def one_bit(root: Path) -> None:
    file = a_trial(root, "epochs.jsonl")
    lines = file.read_text().splitlines()
    record = json.loads(lines[0])
    record["metrics"]["val/macro_f1"] += 2**-52
    file.write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n")


def other_choice(root: Path) -> None:
    file = root / GOLDEN.name / "selection.json"
    values = json.loads(file.read_text())
    values["chosen"] = dict(zip(values["chosen"], [*values["chosen"].values()][::-1], strict=True))
    file.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("lost", without_result),
        ("doubled", twice_an_epoch),
        ("unequal", one_bit),
        ("unequal", other_choice),
        ("lost", lambda root: change(root, "DELETE FROM metrics WHERE key = 'val/macro_f1'")),
        ("doubled", lambda root: change(root, "INSERT INTO metrics VALUES ('r1', 'val/macro_f1', 1, 0.5)")),
        ("unequal", lambda root: change(root, "UPDATE metrics SET value = 0.6 WHERE key = 'val/macro_f1'")),
        ("unequal", lambda root: change(root, "UPDATE runs SET status = 'RUNNING'")),
        ("doubled", lambda root: change(root, "INSERT INTO model_versions VALUES ('m', 2)")),
    ],
)
def test_a_damage_is_seen(kind: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    ours, twin = studied(tmp_path / "a"), studied(tmp_path / "b")
    damage(ours)
    found = vars(differences(ours, twin, GOLDEN.name))
    assert len(found.pop(kind)) == 1 and not any(found.values()), found
