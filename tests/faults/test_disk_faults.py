"""Disks that fill up, refuse or lie; clocks that jump; limits of the machine. Real mounts, in a namespace of the test's own."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis import report
from study.question.studies import QUICKSTART
from study.records import OBJECTIVE, Origin, Outcome
from study.search import optuna_cells
from study.search.optuna_cells import SearchPlan
from study.tracking.ledger import Ledger
from tests import tiny

ROOT = Path(__file__).parent.parent.parent


class Namespace:
    """A namespace with mounts that only the commands run in it see."""

    def __init__(self, script: str) -> None:
        self.holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"{script} && echo ready && exec sleep 3600"], stdout=subprocess.PIPE, text=True
        )
        if (self.holder.stdout.readline() or "").strip() != "ready":
            pytest.skip("needs the right to mount (root)")

    def command(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-m", f"--wd={ROOT}", *command]

    def run(self, *command: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*command), capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT)

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(self.command(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)

    def close(self) -> None:
        self.holder.send_signal(signal.SIGKILL)
        self.holder.wait()


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Namespace]:
    """Mount a disk of 400 MB at `tmp_path/disk`."""
    (tmp_path / "disk").mkdir()
    space = Namespace(f"mount -t tmpfs -o size=400m tmpfs {tmp_path / 'disk'}")
    ENVIRONMENT["STUDY_CACHE"] = os.environ["STUDY_CACHE"]
    yield space
    space.close()


def whole(results: Path, planned: int) -> None:
    """Check a study of `planned` trained trials. The line to beat is solved on each of the two parts of the images besides."""
    ledger = Ledger(results, "tiny")
    assert len(ledger.asks()) == len(ledger.results()) == planned + 2
    assert all(r.outcome is Outcome.COMPLETED for r in ledger.results().values())
    for ask in ledger.asks():
        assert [e.epoch for e in ledger.epochs(ask.trial_id)] == ([1] if ask.origin is Origin.LINE else [1, 2])


FILL = """
import sys
with open(sys.argv[1] + "/ballast", "wb", buffering=0) as file:  # others may write at the same time: until there is no more
    try:
        while file.write(b"x" * 100_000):
            pass
    except OSError:
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["search: 2 trials", "[1/2]"])
def test_W1_a_disk_that_fills_up_ends_it_with_a_line_and_it_goes_on_with_room(when: str, disk: Namespace, tmp_path: Path) -> None:
    study, root = tiny.write(tmp_path, ("linear_probe",)), tmp_path / "disk"
    command = tiny.command(study, root / "results", "--local", "--mlflow", "off")
    process = disk.start(*command)
    for line in process.stdout:
        if when in line:
            assert disk.run(sys.executable, "-c", FILL, str(root)).returncode == 0
            break
    _, error = process.communicate(timeout=120)
    assert process.returncode == 4 and "no space left on" in error and "Traceback" not in error, (process.returncode, error)
    assert disk.run("rm", str(root / "ballast")).returncode == 0
    done = disk.run(*command)
    assert done.returncode == 0, done.stderr
    disk.run("cp", "-r", str(root / "results"), str(tmp_path / "seen"))
    whole(tmp_path / "seen", 4)

    # and the report: what stands is kept whole
    report = root / "results/tiny/report.html"
    before = disk.run("sha256sum", str(report)).stdout
    assert disk.run(sys.executable, "-c", FILL, str(root)).returncode == 0
    again = disk.run(sys.executable, "-m", "analysis.report", str(root / "results"), "--out", str(report))
    assert again.returncode == 4 and "no space left" in again.stderr, again.stderr
    assert disk.run("sha256sum", str(report)).stdout == before != ""


def test_W2_too_small_a_disk_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    space = Namespace(f"mount -t tmpfs -o size=20m tmpfs {tmp_path / 'disk'}")
    try:
        study = tiny.write(tmp_path, ("linear_probe",))
        done = space.run(*tiny.command(study, tmp_path / "disk/results", "--mlflow", "off"))
        assert done.returncode == 4 and "GB free and the study may write" in done.stderr, done.stderr
        assert space.run("ls", str(tmp_path / "disk")).stdout == "", "nothing was begun"
    finally:
        space.close()


def test_W3_a_folder_that_cannot_be_written_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    space = Namespace(f"mount --bind {tmp_path}/disk {tmp_path}/disk && mount -o remount,ro,bind {tmp_path}/disk")
    try:
        study = tiny.write(tmp_path, ("linear_probe",))
        done = space.run(*tiny.command(study, tmp_path / "disk/results", "--mlflow", "off"))
        assert done.returncode == 4 and "read-only" in done.stderr and "--results" in done.stderr, done.stderr
    finally:
        space.close()


def test_W3_a_folder_of_somebody_else_is_a_line(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")
    code = "from study.storage.folder import Folder; Folder('/root-only/results').write('a', b'1')"
    os.makedirs("/root-only", mode=0o755, exist_ok=True)
    try:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    finally:
        shutil.rmtree("/root-only")
    assert "no permission to write /root-only/results" in done.stderr, done.stderr


@pytest.mark.slow
def test_W4_broken_state_of_the_tuner_is_not_even_read(tmp_path: Path) -> None:
    study, results = tiny.write(tmp_path, ("linear_probe",)), tmp_path / "results"
    assert tiny.run(study, results, "--local", "--mlflow", "off").returncode == 0
    for name in (".ray/tune/experiment_state-1.json", ".ray/tune/tuner.pkl", ".ray/train-x/checkpoint_manager_snapshot.json"):
        (results / "tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (results / "tiny" / name).write_bytes(b'{"cut')
    done = tiny.run(study, results, "--local", "--mlflow", "off")
    assert done.returncode == 0, done.stderr
    whole(results, 4)


@pytest.mark.parametrize("jump", [-3600.0, 86400.0])
def test_W7_a_clock_that_jumps_changes_neither_order_nor_cost(jump: float, tmp_path: Path, monkeypatch) -> None:
    from study.sweep import main

    study, results = tiny.write(tmp_path, ("linear_probe",)), tmp_path / "results"
    monkeypatch.setenv("STUDY_FAILPOINT", "")
    real, calls = time.time, [0]

    def jumping() -> float:
        calls[0] += 1
        return real() + (jump if calls[0] > 12 else 0.0)

    monkeypatch.setattr(time, "time", jumping)
    assert main([str(study), "--results", str(results), "--local", "--mlflow", "off"]) == 0
    whole(results, 4)
    ledger = Ledger(results, "tiny")
    assert [a.sequence for a in ledger.asks()] == [0, 1, 2, 3, 4, 5]
    assert all(e.train_seconds >= 0 and e.eval_seconds >= 0 for a in ledger.asks() for e in ledger.epochs(a.trial_id))
    assert all(r.seconds >= 0 for r in ledger.results().values())


def test_W9_a_space_that_repeats_itself_asks_no_trial_twice(tmp_path: Path, monkeypatch) -> None:
    study = dataclasses.replace(QUICKSTART, trials=6, random_trials=2)
    plan = SearchPlan(study, Ledger(tmp_path, "nine"))
    real = optuna_cells.suggest

    def always(trial, study, cell, seed):
        real(trial, study, cell, seed)
        return optuna_cells.TrialConfig.default(cell, study.protocol, seed)

    monkeypatch.setattr(optuna_cells, "suggest", always)
    asks = [plan.ask() for _ in range(plan.total)]
    assert len({a.trial_id for a in asks}) == plan.total and plan.ask() is None


@pytest.mark.slow
def test_W11_few_open_files_are_enough_or_said(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",))
    command = " ".join(tiny.command(study, tmp_path / "results", "--local", "--mlflow", "off"))
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 256; exec {command}"], capture_output=True, text=True, timeout=200, env=os.environ, cwd=ROOT
    )
    assert done.returncode == 0 or (done.returncode == 4 and "ulimit" in done.stderr), done.stderr
    whole(tmp_path / "results", 4)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_W11_little_shared_memory_is_enough_under_ray(tmp_path: Path) -> None:
    space = Namespace("mount -t tmpfs -o size=1m tmpfs /dev/shm")
    try:
        study = tiny.write(tmp_path, ("linear_probe",))
        done = space.run(*tiny.command(study, tmp_path / "results", "--mlflow", "off", "--ray"), timeout=500)
        assert done.returncode == 0 or (done.returncode == 4 and "/dev/shm" in done.stderr), done.stderr
        if done.returncode == 0:
            whole(tmp_path / "results", 4)
    finally:
        space.close()


def test_K15_a_report_killed_while_it_is_written_is_never_cut(tmp_path: Path) -> None:
    golden = Path(__file__).parent.parent / "golden" / "study" / "golden"
    out = tmp_path / "report.html"
    line = [str(golden), "--no-images", "--out", str(out)]
    assert report.main(line) == 0
    before = out.read_bytes()
    command = [sys.executable, "-m", "analysis.report", *line]
    killed = subprocess.run(command, capture_output=True, cwd=ROOT, env={**os.environ, "STUDY_FAILPOINT": "mid_report_write:1"})
    assert killed.returncode == -signal.SIGKILL
    assert out.read_bytes() == before


@pytest.mark.slow
def test_values_of_the_killed_and_the_spared_agree(tmp_path: Path) -> None:
    """A damaged last line of a trial's epochs is cut, and the trial's numbers are those it would have had."""
    study, results = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=0), tmp_path / "results"
    assert tiny.run(study, results, "--local", "--mlflow", "off").returncode in (0, 5)
    ledger = Ledger(results, "tiny")
    (trial,) = ledger.results()
    value = ledger.results()[trial].metrics[OBJECTIVE]
    folder = results / "tiny/trials" / trial
    (folder / "result.json").unlink()
    lines = (folder / "epochs.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "epochs.jsonl").write_bytes(lines[0] + lines[1][:40])
    assert tiny.run(study, results, "--local", "--mlflow", "off").returncode in (0, 5)
    assert ledger.results()[trial].metrics[OBJECTIVE] == value
    assert [json.loads(x)["epoch"] for x in (folder / "epochs.jsonl").read_bytes().splitlines()] == [1, 2]
