"""Trained numbers do not move by accident. The docstring of tests/pins.py says when it is right to move one."""

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from study.strategies import STRATEGIES, Phase
from study.strategies.lines import LINES
from study.training.schedule import set_rates
from tests import pins

PINNED: dict[str, Any] = json.loads(pins.FILE.read_text())
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def pinned_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pins.make_weights(tmp_path_factory.mktemp("pins"))


def near(value: Any, tolerance: float) -> Any:
    """Return nested numbers as pytest compares them."""
    if isinstance(value, dict):
        return {k: near(v, tolerance) for k, v in value.items()}
    if isinstance(value, list):
        return [near(v, tolerance) for v in value]
    tolerance = tolerance if pins.EXACT else 1e-2
    return pytest.approx(value, rel=tolerance, abs=tolerance * 1e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_first_step_of_every_strategy(strategy: str, pinned_weights: Path) -> None:
    assert strategy in PINNED["steps"], f"{strategy} is not pinned yet: python -m tests.pins"
    assert list(pins.step_of(strategy, pinned_weights)) == near(PINNED["steps"][strategy], 1e-6)


@pytest.mark.parametrize("strategy", pins.TRIALS)
def test_the_epochs_of_a_trial(strategy: str, pinned_weights: Path) -> None:
    pinned = PINNED["epochs"][strategy]
    epochs = pins.epochs_of(strategy, pins.TRIALS[strategy], pinned_weights)
    assert [{k: v for k, v in e.items() if k in p} for e, p in zip(epochs, pinned, strict=True)] == near(pinned, 1e-5)


def closed_form(epoch: float, warmup: float, epochs: int, steps: int) -> float:
    """Return the rate: linear from near zero to 1 within the warm-up, then half a cosine to zero.

    `epoch` counts from 0, with fractions.
    """
    warmup = min(warmup, epochs / 2)
    if epoch < warmup:
        return (epoch * steps + 1) / (warmup * steps + 1)
    return (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2


@pytest.mark.parametrize(("epochs", "warmup", "steps"), [(10, 1.0, 7), (3, 0.5, 4), (2, 5.0, 3), (5, 0.0, 2)])
def test_the_schedule_is_its_closed_form(epochs: int, warmup: float, steps: int) -> None:
    """Change it with the schedule itself, never otherwise."""
    weight = torch.nn.Parameter(torch.zeros(1))
    phase = Phase(epochs=epochs, lrs=(0.3, 0.1, None))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.1, "stage": 1}])
    for step in range(epochs * steps):
        set_rates(optimizer, phase, step / steps, warmup, steps)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * closed_form(step / steps, warmup, epochs, steps), rel=1e-12)


@pytest.mark.slow
def test_the_golden_study_retrained_gives_its_own_epochs(tmp_path: Path) -> None:
    """Search and confirm runs start from nothing and must equal the committed tables.

    Run `make golden` when numbers are meant to change.
    """
    (tmp_path / "golden").mkdir()  # begun, and nothing of it left: its ranges are those of when it was begun
    shutil.copy(HERE / "golden" / "study" / "golden" / "study.json", tmp_path / "golden")
    line = ["-m", "study.sweep", str(tmp_path / "golden"), "--local", "--mlflow", "off"]
    subprocess.run([sys.executable, *line], check=True, capture_output=True)
    tables = [HERE / "golden" / "tables" / "epochs.csv", tmp_path / "golden" / "tables" / "epochs.csv"]
    old, new = ({(r["trial_id"], r["epoch"]): r for r in csv.DictReader(t.open())} for t in tables)
    assert old.keys() <= new.keys()
    lines = {json.loads((tmp_path / "golden" / "trials" / t / "config.json").read_text())["cell"] for t, _ in new.keys() - old.keys()}
    assert lines == {f"digits/official/efficientnet_lite0/{name}/1" for name in LINES}, "every study has the line to beat today"
    for key, row in old.items():
        for name in (n for n in row if "/" in n):
            if not new[key][name]:
                assert name.startswith("train/"), "training images alone are scored in fewer epochs than they were"
                continue
            assert float(new[key][name]) == pytest.approx(float(row[name]), rel=1e-3, abs=2e-3), (key, name)
