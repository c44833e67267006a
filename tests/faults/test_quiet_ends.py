"""Terminals, pipes and disks under stdout that fail, and Ctrl-C at any time: one line at most, a documented code, no trial's fate."""

import dataclasses
import importlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study import __main__ as finetune_study
from study import sweep
from study.console.arguments import Parser
from study.console.command import OutputGone
from study.console.signals import Interrupted
from study.console.text import shown, utf8
from study.datasets.folder import display_path
from study.errors import ConfigError, DataError, EnvironmentProblem
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Origin, Outcome, Stage
from study.run import Ending
from study.search import local
from study.storage.places import Places
from study.tracking.ledger import Ledger
from tests import tiny
from tests.goldens import GOLDEN
from tests.test_architecture import ROOT

STUDY = str(GOLDEN / "golden")
COMMANDS = ["study", *sorted(module.removesuffix(".__main__") for module, _ in finetune_study.COMMANDS.values())]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (more.pop("first", ""), str(ROOT)) if p), **more}


# ---- stdout ------------------------------------------------------------------------------------------------------


def no_reader() -> int:
    out, into = os.pipe()
    os.close(out)
    return into


def no_terminal() -> int:
    main, other = pty.openpty()
    os.close(main)
    return other


STDOUT: dict[str, tuple[Callable[[], int], int]] = {
    "its reader has gone": (no_reader, 141),
    "its disk is full": (lambda: os.open("/dev/full", os.O_WRONLY), 4),
    "its terminal has gone": (no_terminal, 4),
}


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize("what", STDOUT)
def test_a_command_that_cannot_speak_ends_quietly(module: str, what: str) -> None:
    opened, code = STDOUT[what]
    number = opened()
    try:
        done = subprocess.run([sys.executable, "-m", module, "--help"], stdout=number, stderr=subprocess.PIPE, text=True,
            env=environment(COLUMNS="300"), timeout=120)  # fmt: skip
    finally:
        os.close(number)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == (code != 141) and "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize("words", [[], ["--help"], ["NOWHERE", "x"]])
def test_a_command_in_a_folder_that_was_removed_says_so(
    module: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell stands in a folder that another has removed, or made anew. Every command of ours was once a traceback there."""
    main = importlib.import_module(f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module).main
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(words) == EnvironmentProblem.exit_code
    said = capsys.readouterr()
    assert said.err.startswith("error: the folder that this shell is in was removed. Go to another one") and said.err.count("\n") == 1
    assert not said.out


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_a_stream_that_is_closed_becomes_no_files_number(closed: tuple[int, ...], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    line = [sys.executable, "-m", "analysis.report", STUDY, "--no-images", "--out", str(page)]
    shut = " ".join(f"{n}{'<' if n == 0 else '>'}&-" for n in closed)
    done = subprocess.run(["bash", "-c", f'"$@" {shut}', "bash", *line], capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0 and page.read_bytes().startswith(b"<!doctype html")
    assert "warning" not in done.stdout, "what belongs on stderr"
    assert ("report: " in done.stdout) == (1 not in closed)


# ---- and trials --------------------------------------------------------------------------------------------------

ERRORS: dict[str, Callable[[], BaseException]] = {
    "reader gone": lambda: BrokenPipeError(32, "Broken pipe"),
    "disk full": lambda: OSError(28, "No space left on device"),
    "terminal gone": lambda: OSError(5, "Input/output error"),
    "closed": lambda: ValueError("I/O operation on closed file."),
    "encoding": lambda: UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range(128)"),
    "no one to tell": lambda: OutputGone(BrokenPipeError()),
    "a bug": lambda: KeyError("x"),
    "usage": lambda: ConfigError("x"),
    "data": lambda: DataError("x"),
    "environment": lambda: EnvironmentProblem("x"),
    "memory": lambda: MemoryError(),
}
CONFIG = TrialConfig.default(Cell(dataset="digits", splits="official", backbone="efficientnet_lite0", strategy="partial"), Protocol())
EPOCH = EpochRecord(epoch=1, metrics={}, train_seconds=1.0, eval_seconds=1.0, images=1, ended_at=1.0)


class Told:
    """A conductor of three trials that fails at what it is told of one epoch."""

    def __init__(self, at: tuple[int, int] | None, error: BaseException) -> None:
        self.at, self.error, self.asked = at, error, 0
        self.ended: dict[str, Outcome] = {}
        self.plan = SimpleNamespace(stops=lambda ask: ())

    def ask(self) -> Ask | None:
        self.asked += 1
        config = {**CONFIG.as_dict(), "seed": self.asked}
        return Ask(sequence=0, number=0, stage=Stage.SEARCH, origin=Origin.RANDOM, cell=CONFIG.cell.id, config=config,
            trial_id=f"t{self.asked}") if self.asked <= 3 else None  # fmt: skip

    def begin(self, trial_id: str) -> None:
        pass

    def epoch(self, trial_id: str, record: EpochRecord) -> bool:
        if (int(trial_id[1:]), record.epoch) == self.at:
            raise self.error
        return False

    def end(self, trial_id: str, outcome: Outcome, reason: str = "") -> None:
        self.ended[trial_id] = outcome


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(ERRORS)), st.integers(1, 3), st.integers(1, 2), st.booleans())
def test_only_a_trials_own_errors_end_it(what: str, trial: int, epoch: int, own: bool) -> None:
    error = ERRORS[what]()
    conductor = Told(None if own else (trial, epoch), error)

    def run_trial(config: TrialConfig, places: Places, report: Callable[[EpochRecord], bool], **_: object) -> Ending:
        for n in (1, 2):
            if own and (config.seed, n) == (trial, epoch):
                raise error
            report(dataclasses.replace(EPOCH, epoch=n))
        return Ending(outcome=Outcome.COMPLETED)

    def places(ask: Ask) -> Places:
        return Places(folder=".")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "run_trial", run_trial)
        raised: BaseException | None = None
        try:
            local.run(conductor, places, total=3, measurements=(), interrupted=Interrupted())  # type: ignore[arg-type]
        except BaseException as found:
            raised = found
    everyone = own and not isinstance(error, EnvironmentProblem | SystemExit)  # the others would meet these too
    if everyone:
        assert raised is None
        assert conductor.ended == {f"t{n}": Outcome.FAILED if n == trial else Outcome.COMPLETED for n in (1, 2, 3)}
    else:
        assert raised is error
        assert conductor.ended == {f"t{n}": Outcome.COMPLETED for n in range(1, trial)}


@pytest.mark.parametrize("what", ERRORS)
def test_on_ray_too(what: str) -> None:
    from study.search.on_ray.tuner import _Driver, _Scheduler, _Searcher

    error = ERRORS[what]()

    def fails(*_: object, **__: object) -> Any:
        raise error

    conductor = SimpleNamespace(epoch=fails, ask=fails, end=fails)
    for call in ("epoch", "ask", "end"):
        driver = _Driver(conductor, lambda ask: Places(folder="."), None, "", (), Interrupted())  # type: ignore[arg-type]
        searcher = _Searcher(driver)
        searcher._ids["theirs"] = "ours"
        trial = SimpleNamespace(config={"ask": {"trial_id": "ours"}})
        if call == "epoch":
            assert _Scheduler(driver).on_trial_result(None, trial, {"record": json.dumps(EPOCH.as_dict())}) == "STOP"
        elif call == "ask":
            assert searcher.suggest("theirs") == "FINISHED"
        else:
            searcher.on_trial_complete("theirs", {"outcome": "completed"})
        assert driver.over and (driver.failure is error or (isinstance(error, EnvironmentProblem) and driver.problem == "x"))


@pytest.mark.parametrize("after", ["trials, ", "epoch 1/2"])
def test_a_study_whose_reader_leaves_is_gone_on_with_and_lacks_no_trial(after: str, tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=2, seeds=1)
    line = tiny.command(study, tmp_path / "results", "--local", "--mlflow", "off")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None and process.stderr is not None
    for said in process.stdout:
        if after in said:
            break
    process.stdout.close()
    assert process.wait(120) == 141
    assert all(s.startswith("warning: ") for s in process.stderr.read().splitlines())
    process.stderr.close()
    ledger = Ledger(tmp_path / "results", "tiny")
    assert all(r.outcome is Outcome.COMPLETED for r in ledger.results().values())
    assert sweep.main(line[3:]) == 0
    ended = list(tiny.trained(Ledger(tmp_path / "results", "tiny")).values())
    assert len(ended) == 3 and all(r is not None and r.outcome is Outcome.COMPLETED for r in ended)


# ---- Ctrl-C ------------------------------------------------------------------------------------------------------

STOPS = """
import importlib.abc, sys, time

class Stops(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {name!r} and "study" in sys.modules:
            sys.meta_path.remove(self)
            open({mark!r}, "w").close()
            time.sleep(60)

sys.meta_path.insert(0, Stops())
"""
LOADING = {
    "study.question.study_config": COMMANDS,  # our own first
    "numpy": ["study.sweep", "study.datasets", "analysis.report"],
    "torch": ["study.trial digits/efficientnet_lite0/full", f"study.predict {STUDY} docs/demo.png",
        "study.sweep quickstart --dry-run --local", f"study.measure {STUDY} cka", f"study.replay {STUDY} --all-confirm"],
    "pandas": ["analysis.report", "analysis.compare"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in LOADING.items() for line in lines])
def test_an_interrupt_while_libraries_are_loaded_is_one_line(name: str, line: str, tmp_path: Path) -> None:
    mark = tmp_path / "loading"
    (tmp_path / "sitecustomize.py").write_text(STOPS.format(name=name, mark=str(mark)))
    process = subprocess.Popen([sys.executable, "-m", *line.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=ROOT, env=environment(first=str(tmp_path)))  # fmt: skip
    began = time.monotonic()
    while not mark.exists() and process.poll() is None and time.monotonic() - began < 60:
        time.sleep(0.02)
    assert mark.exists(), process.communicate()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in said
    assert [s for s in said.splitlines() if "loading" not in s] == ["stopped. The same command starts again"]


# ---- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize("wrong", [["--nosuch"], ["--nosuch", "a\x1b[2Jb\nc"]])
def test_wrong_arguments_are_said_first_and_in_two_lines(module: str, wrong: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", module, *wrong], capture_output=True, text=True, env=environment(), timeout=120)
    reason, *usages = done.stderr.splitlines()
    if module == "study":  # its line says where the usage stands
        assert done.returncode == 2 and reason.startswith("error: ") and "finetune-study --help" in reason and not usages
        return
    (usage,) = usages
    assert done.returncode == 2 and reason.startswith("error: ") and usage.startswith(f"usage: python -m {module}")
    assert "\x1b" not in done.stderr and len(usage) < 140


def test_a_parser_shows_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="p")
    parser.add_argument("one")
    parser.add_argument("many", nargs="*")
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert capsys.readouterr().err.splitlines()[1] == "usage: p ONE [MANY ...] [options]; --help lists them"


SWALLOWS = """
import sys, time, types
class Mirror:
    def __init__(self, *_): pass
    def sync(self):
        print("sending", flush=True)
        try:
            time.sleep(60)
        except BaseException:
            return types.SimpleNamespace(sent=0, pending=1, problem="it did not answer")

if "study.tracking" in sys.orig_argv:
    fake = sys.modules["study.tracking.mirror"] = types.ModuleType("study.tracking.mirror")
    fake.Mirror = Mirror
"""


def test_what_takes_an_interrupt_for_a_servers_error_is_ended_too(tmp_path: Path) -> None:
    """MLflow's client may do so. What it takes is sent to it once only, so it may be ended anywhere."""
    (tmp_path / "sitecustomize.py").write_text(SWALLOWS)
    process = subprocess.Popen([sys.executable, "-m", "study.tracking", "sync", STUDY], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env=environment(first=str(tmp_path)))  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "sending\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "stopped. The same command starts again\n")


@pytest.mark.parametrize("name", [b"a\xffb.jpg", b"\xe9t\xe9.png", b"\x80\x81", b"ok-\xc3\xa4.png"])
def test_a_name_that_is_not_utf8_is_shown_in_one_way(name: bytes, tmp_path: Path) -> None:
    """In a terminal, in a table, and in what is written of a data set."""
    path = os.fsdecode(name)
    said = name.decode("utf-8", "backslashreplace")
    assert shown(path) == utf8(path) == display_path(tmp_path / path, tmp_path) == said
