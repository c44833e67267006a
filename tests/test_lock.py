"""The lock of a study: honoured while its holder may live, taken where it is certainly dead, never a traceback."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.errors import EnvironmentProblem
from study.storage import lock
from study.storage.folder import Folder

DEAD = 2**22 + 1  # beyond the largest number Linux gives


def left(path: Path, age: float = 0.0, **fields: object) -> None:
    """Write a lock as a sweep on this machine leaves it, except for `fields`, last touched `age` seconds ago."""
    values = {"host": socket.gethostname(), "pid": DEAD, "since": 1.0, "started": 1.0, "machine": lock.machine()}
    put(path, json.dumps({k: v for k, v in {**values, **fields}.items() if v is not ...}).encode(), age)


def put(path: Path, data: bytes, age: float) -> None:
    (path / ".lock").write_bytes(data)
    os.utime(path / ".lock", (time.time() - age,) * 2)


def taken(path: Path) -> bool:
    with lock.held(Folder(path)):
        return True


def test_the_dead_of_this_machine_hold_nothing(tmp_path: Path) -> None:
    left(tmp_path)
    assert taken(tmp_path)
    left(tmp_path, pid=os.getpid(), started=1.0)  # our number, given to another before us
    assert taken(tmp_path) and not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    "holder",
    [
        {"machine": "00000000-0000-0000-0000-000000000000 pid:[4026531836]"},  # a host of the same name
        {"machine": lock.machine().rpartition(" ")[0] + " pid:[1]"},  # a container on this host
        {"machine": "another", "pid": os.getpid()},
        {"host": "elsewhere", "machine": "another"},
    ],
)
def test_a_holder_that_cannot_be_seen_is_honoured_by_its_age(holder: dict, tmp_path: Path) -> None:
    left(tmp_path, **holder)
    with pytest.raises(EnvironmentProblem, match="in use by pid .* since .*--name"):
        taken(tmp_path)
    left(tmp_path, age=lock.STALE_S + 5, **holder)
    assert taken(tmp_path)


def test_a_living_holder_of_this_machine_is_honoured_however_long_it_is_silent(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from study.storage import lock; from study.storage.folder import Folder\n"
    code += "lock.BEAT_S = 1e6\nwith lock.held(Folder(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        os.utime(tmp_path / ".lock", (0, 0))
        with pytest.raises(EnvironmentProblem, match=f"in use by pid {other.pid} on {socket.gethostname()}"):
            taken(tmp_path)
        other.kill()
        other.wait()
    assert taken(tmp_path), "killed: taken at once"


def test_a_machine_that_was_given_another_name_still_sees_its_own(tmp_path: Path, monkeypatch) -> None:
    with lock.held(Folder(tmp_path)):
        monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
        with pytest.raises(EnvironmentProblem, match=f"in use by pid {os.getpid()}"):
            taken(tmp_path)


BROKEN = {
    "a list": b"[]", "an object": b"{}", "null": b"null", "a number": b"7", "a text": b'"x"', "empty": b"", "no JSON": b"{",
    "bad UTF-8": b"\xff\xfe\x00", "deep": b"[" * 100_000, "no pid": {"pid": ...}, "a pid in words": {"pid": "one"},
    "no process": {"pid": -1},
    "a pid beyond all": {"pid": 10**30}, "true": {"pid": True}, "no since": {"since": ...}, "since in words": {"since": "noon"},
    "since beyond the calendar": {"since": 1e300}, "since never": {"since": float("nan")}, "started in words": {"started": "then"},
    "no host": {"host": ...}, "a host in numbers": {"host": 5}, "a machine in numbers": {"machine": []}, "no machine": {"machine": ...},
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lock_is_named_while_fresh_and_nobodys_when_old(name: str, tmp_path: Path) -> None:
    contents = BROKEN[name]
    for age in (0.0, lock.STALE_S + 5):
        left(tmp_path, age, **contents) if isinstance(contents, dict) else put(tmp_path, contents, age)
        if age:
            assert taken(tmp_path) and not (tmp_path / ".lock").exists()
            continue
        with pytest.raises(EnvironmentProblem) as refused:
            taken(tmp_path)
        assert str(tmp_path / ".lock") in str(refused.value) and "remove it" in str(refused.value) and "\n" not in str(refused.value)


def test_age_is_by_the_clock_of_the_storage(tmp_path: Path, monkeypatch) -> None:
    left(tmp_path, machine="another")
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(EnvironmentProblem, match="in use"):
        taken(tmp_path)
