"""An interrupt is answered as it comes, a second one ends the process, and the same command goes on."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study import sweep
from study.console.signals import interruptible
from study.records import Origin, Outcome
from study.tracking.ledger import Ledger
from tests import tiny

LONG_STEP = """
import hashlib, sys
from study.console.signals import interruptible
with interruptible() as interrupted, interrupted.during("this epoch"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2_000_000_000)  # minutes in which the main thread runs no Python, as in a step of training
"""


@contextlib.contextmanager
def started(command: list[str], **env: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that is ended whatever becomes of the test."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | env)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answered(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal that is answered on stderr while what it stops goes on."""
    process.send_signal(number)
    assert process.stderr is not None
    assert "stopping after this epoch (again: at once)\n" in process.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_in_the_middle_of_a_long_step_the_first_is_answered_and_the_second_ends_it(number: int, code: int) -> None:
    with started([sys.executable, "-c", LONG_STEP]) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        answered(process, number)
        process.send_signal(number)
        assert process.wait(timeout=60) == code


def test_who_waits_for_others_is_broken_off(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible() as interrupted:
        interrupted.raises = True
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    assert interrupted.is_set() and interrupted.code == 130
    assert capfd.readouterr().err == "stopping (again: at once)\n"


def test_a_wait_that_another_thread_breaks_off_is_no_interrupt_of_the_users(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible() as interrupted:
        interrupted.raises = True
        threading.Timer(0.1, interrupted.break_off).start()
        time.sleep(10)
    assert interrupted.is_set() and capfd.readouterr().err == ""


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)
    with interruptible() as interrupted:
        assert signal.getsignal(signal.SIGINT) != before[0] and not interrupted.is_set()
    assert (signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)) == before
    assert not [t for t in threading.enumerate() if t.name == "study-signals"]


def test_a_study_that_hangs_is_ended_by_a_second_interrupt_and_goes_on(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1)
    command = tiny.command(study, tmp_path / "results", "--local", "--mlflow", "off")
    with started(command, STUDY_FAILPOINT="mid_epoch:2:hang") as process:
        assert process.stdout is not None
        assert any("epoch 1/2" in line for line in process.stdout)
        time.sleep(1)  # the second epoch hangs
        answered(process, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert sweep.main(command[3:]) == 0
    ledger = Ledger(tmp_path / "results", "tiny")
    asks = ledger.asks()
    assert [ledger.result(a.trial_id).outcome for a in asks] == [Outcome.COMPLETED] * 3
    trained = [a for a in asks if a.origin is not Origin.LINE]
    assert len(trained) == 2 and all([e.epoch for e in ledger.epochs(a.trial_id)] == [1, 2] for a in trained)
