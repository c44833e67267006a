"""A command leaves and loses nothing where a signal, a limit of memory, a missing stream or an odd width meets it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from study.console.wide import NARROWEST, make_console
from tests.faults.test_quiet_ends import STUDY, environment

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BLOCKS = {
    "in a command": "",
    "while libraries load": "with early.at_once(): time.sleep(60)",
    "while a study runs": "from study.console.signals import interruptible\nwith interruptible(): time.sleep(60)",
}


def ended(code: str, number: signal.Signals, folder: Path, times: int = 1) -> subprocess.CompletedProcess[str]:
    """Run Python code, send signals once it says that it is ready, and return how it ended."""
    (folder / "tmp").mkdir()
    env = environment(TMPDIR=str(folder / "tmp"))
    running = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    for _ in range(times):
        time.sleep(0.2)
        if running.poll() is None:
            running.send_signal(number)
    out, err = running.communicate(timeout=60)
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
@pytest.mark.parametrize("where", BLOCKS)
def test_a_temporary_folder_goes_however_its_process_is_ended(where: str, number: signal.Signals, tmp_path: Path) -> None:
    block = (BLOCKS[where] or "time.sleep(60)").replace("\n", "\n    ")
    code = (
        "import signal, sys, time\nsys.orig_argv = ['python', '-m', 'study.replay']\nfrom study import early\n"
        "signal.signal(signal.SIGINT, early._end)\n"
        f"with early.temporary('left-'):\n    print('ready', flush=True)\n    {block}\n"
    )
    times = 2 if where == "while a study runs" else 1  # its first signal waits for what is being done
    done = ended(code, number, tmp_path, times)
    assert done.returncode in (-number, 128 + number) and os.listdir(tmp_path / "tmp") == [], done.stderr


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_replay_that_is_ended_leaves_no_folder(number: signal.Signals, seconds: float, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "study.replay", STUDY, "--all-confirm"]
    running = subprocess.Popen(command, env=environment(TMPDIR=str(tmp_path)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    running.send_signal(number)
    running.wait(60)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("megabytes", [100, 300, 900, 1200, 1500])
@pytest.mark.parametrize("words", [("analysis.report", STUDY, "--out", "page.html"), ("study.predict", STUDY, ".")], ids=lambda w: w[0])
def test_too_little_memory_is_one_line(words: tuple[str, ...], megabytes: int, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    shell = f"ulimit -v {1024 * megabytes}; exec {sys.executable} -m {' '.join(words)}"
    done = subprocess.run(["sh", "-c", shell], env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr and done.returncode in (0, 3, 4), (done.returncode, done.stderr[-2000:])
    if done.returncode == 4:
        assert done.stderr.startswith("error: ") and "memory" in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_follower_without_stdin_makes_its_last_pass(tmp_path: Path) -> None:
    place = tmp_path / "golden"
    shutil.copytree(STUDY, place)
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m study.tracking follow {place} <&-"],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr and '"pending"' in done.stdout


@pytest.mark.parametrize("columns", ["0", "1", "20", "-5", "abc", ""])
def test_a_table_is_as_wide_as_it_can_be_read(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert make_console(120, markup=False).width >= 120
    assert make_console(120, force_terminal=True).width >= NARROWEST


@pytest.mark.parametrize(("words", "said"), [
    (("study.label", STUDY, ""), "folder: is empty"),
    (("study.label", STUDY, "--labels", ""), "--labels: is empty"),
    (("study.predict", STUDY, "-x.jpg"), "-x.jpg was read as an option: a file whose name begins with - is given as ./-x.jpg"),
    (("study.predict", STUDY, ".", "--csv", "/dev/stdout"), "/dev/stdout is a pipe"),
    (("study", ""), "an empty word is no command"),
])  # fmt: skip
def test_what_is_not_meant_is_refused_by_name(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *words], env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said_with_the_one_it_would_be_in(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "study.datasets", "check", "mini_faces"], env=environment(STUDY_CACHE="/proc/x/y"), cwd=tmp_path,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 4 and "cannot be made in /proc" in done.stderr and "STUDY_CACHE" in done.stderr, done.stderr


def test_a_locale_that_is_not_utf8_is_named_and_not_the_folder(tmp_path: Path) -> None:
    (tmp_path / "ünï" / "a").mkdir(parents=True)
    env = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    command = [sys.executable.encode(), b"-m", b"study.datasets", b"check", "folder:ünï".encode()]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 3 and b"Set PYTHONUTF8=1" in done.stderr, done.stderr
