"""The first line of a command: its wrong arguments, before it loads PyTorch, or else, within two seconds, that it loads it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.console import progress
from study.console.progress import busy, load
from study.use import FORMATS, formats
from tests.goldens import GOLDEN
from tests.test_architecture import ROOT

SLOW = f"""
import importlib.abc, os, runpy, sys, time

class Torch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            time.sleep({2 * progress.SOON_S})
            sys.stderr.flush()
            os._exit(99)

sys.meta_path.insert(0, Torch())
"""
COMMAND = SLOW + "sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
STUDY = str(GOLDEN / "golden")


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("study.predict NOWHERE examples", "NOWHERE holds no study"),
        (f"study.predict {STUDY} NOWHERE", "NOWHERE does not exist"),
        (f"study.predict {STUDY} examples --batch 0", "--batch must be a whole number >= 1"),
        ("study.export NOWHERE --to OUT", "NOWHERE holds no study"),
        (f"study.export {STUDY} --to OUT --format onx", "Unknown format 'onx'"),
        (f"study.export {STUDY} --to OUT --check NOWHERE", "NOWHERE does not exist"),
        ("study.demo NOWHERE", "NOWHERE holds no study"),
        ("study.replay NOWHERE a1", "NOWHERE holds no study"),
        (f"study.replay {STUDY} nobody", "'nobody' names 0 trials"),
        ("study.measure NOWHERE cka", "NOWHERE holds no study"),
        ("study.datasets check NOWHERE", "NOWHERE"),
        ("study.datasets check digits --study NOWHERE", "NOWHERE holds no study"),
    ],
)
def test_wrong_arguments_are_said_before_pytorch_is_loaded(arguments: str, said: str) -> None:
    done = run(COMMAND, *arguments.split())
    assert done.returncode == 2 and said in done.stderr and "loading" not in done.stderr, done


@pytest.mark.parametrize(
    "arguments",
    [
        f"study.predict {STUDY} docs",
        f"study.export {STUDY} --to OUT",
        f"study.demo {STUDY}:mini_weeds/full",
        f"study.replay {STUDY} --all-confirm",
        f"study.measure {STUDY} cka",
        "study.sweep digits.py",
    ],
)
def test_right_ones_are_followed_by_what_is_loaded(arguments: str, tmp_path: Path) -> None:
    from tests import tiny

    if "digits.py" in arguments:
        arguments = f"study.sweep {tiny.write(tmp_path)} --results {tmp_path}"
    done = run(COMMAND, *arguments.split())
    assert done.returncode == 99 and re.search(r"loading PyTorch, for \d s", done.stderr + done.stdout), done
    assert "sweep" in arguments or done.stdout == "", "what is asked for stands on stdout"


def test_in_python_too() -> None:
    done = run(SLOW + "from study import Predictor")
    assert done.returncode == 99 and re.search(r"loading PyTorch, for \d s", done.stderr), done
    done = run(SLOW + f"from study import load_study; print(load_study({STUDY!r}).study.name)")
    assert done.returncode == 0 and done.stdout == "golden\n", "a study is read without PyTorch"


def test_soon_and_then_seldom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SOON_S", 0.05)
    with busy("reading", soon=True, stream=sys.stderr):
        time.sleep(0.4)
    out, err = capsys.readouterr()
    assert out == "" and err.count("reading, for 0 s") == 1, "again only after QUIET_S"
    load("json")
    assert capsys.readouterr() == ("", "")


def test_formats_are_known_by_name_before_they_are_loaded() -> None:
    assert [*formats.FORMATS] == [*FORMATS]


HIDDEN = [
    *((package, "study.sweep quickstart --dry-run") for package in ("psutil", "rich", "numpy", "pyarrow", "torch", "timm", "optuna")),
    *((package, "analysis.report nowhere") for package in ("psutil", "pandas", "scipy")),
    ("pandas", "analysis.judge a.csv b.csv labels.csv"),
    *((package, "cluster.preflight") for package in ("psutil", "ray", "numpy")),
    *((package, "study.predict nowhere x") for package in ("psutil", "PIL", "safetensors")),
]


@pytest.mark.parametrize(("package", "words"), HIDDEN)
def test_a_python_without_a_package_says_so_in_a_line(package: str, words: str, tmp_path: Path) -> None:
    """It is the commonest slip: the environment was not activated. Where the command ends before it needs the package, that is well."""
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(name={package!r})")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    said = done.stderr.splitlines()
    assert "Traceback" not in done.stderr and done.returncode in (2, 4), done.stderr
    assert any(f"has no package {package}" in line and "make install" in line for line in said) or package not in done.stderr
    if package in ("psutil", "numpy"):  # nothing begins without them
        assert done.returncode == 4 and len(said) == 1
