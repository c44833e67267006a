"""Advice about a study that lost a file is followed here, as it stands in the message, and the network answers again."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study.console import progress
from study.export import main as export
from study.predict import main as predict
from tests import tiny
from tests.own import scene

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("advice")
    scene(1).save(root / "new.png")
    done = tiny.run(tiny.write(root, strategies=("linear_probe",), trials=1, seeds=2), root / "results", "--local", "--mlflow", "off")
    assert done.returncode == 0, done.stderr
    return root / "results" / "tiny"


def refusal(study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert predict([str(study), str(study.parent.parent / "new.png")]) == 2
    return capsys.readouterr().err


def follow(message: str) -> None:
    command = re.search(r"python -m (study\.sweep \S+)$", message.strip())
    assert command, message
    done = subprocess.run(
        [sys.executable, "-m", *command[1].split(), "--local", "--mlflow", "off"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_a_choice_that_is_gone_is_made_again_by_the_command_that_is_named(studied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict([str(studied), str(studied.parent.parent / "new.png")]) == 0
    (studied / "selection.json").unlink()
    message = refusal(studied, capsys)
    assert "selection.json is not there" in message and "finished yet" not in message
    follow(message)
    assert predict([str(studied), str(studied.parent.parent / "new.png")]) == 0


def test_a_network_that_is_gone_is_trained_again_as_it_is_said(studied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = predict([str(studied), str(studied.parent.parent / "new.png")]), capsys.readouterr().out
    for best in studied.glob("trials/*/best"):
        shutil.rmtree(best)
    message = refusal(studied, capsys)
    folder = re.search(r"remove (\S+) and run", message)
    assert folder and "name a trial's folder" not in message
    shutil.rmtree(folder[1])
    follow(message)
    assert (predict([str(studied), str(studied.parent.parent / "new.png")]), capsys.readouterr().out) == before


def test_an_export_says_what_it_writes(
    studied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SOON_S", 0.0)
    assert export([str(studied), "--format", "torch_export", "--to", str(tmp_path / "out")]) == 0
    assert "writing model.pt2" in capsys.readouterr().err
