"""The schedules of the learning rate: closed forms, laws of each, and that a trial follows the one it names."""

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from analysis.words.protocol import SCHEDULES as IN_WORDS
from study.errors import ConfigError
from study.question.cell import Cell
from study.question.training_settings import Protocol, Schedule
from study.question.trial_config import TrialConfig
from study.run import open_inputs
from study.storage.places import Places
from study.training.loop import fine_tune
from study.training.schedule import SCHEDULES, factor


def rates(schedule: str, epochs: int, warmup: float, steps: int) -> np.ndarray:
    return np.array([factor(k / steps, warmup, epochs, steps, schedule) for k in range(epochs * steps)])


def trial(**values: object) -> TrialConfig:
    cell = Cell(dataset="digits", backbone="mobilenetv3_small_050", strategy="linear_probe", train_fraction=0.1)
    protocol = Protocol(max_epochs=3, image_size=32, batch_size=64, train_eval_images=16)
    return TrialConfig.default(cell, protocol, seed=3).with_values({"lr": 1e-2, **values})


def test_every_name_that_a_protocol_takes_is_a_schedule_and_has_words_on_the_page() -> None:
    assert set(SCHEDULES) == set(get_args(Schedule)) == set(IN_WORDS)
    with pytest.raises(ConfigError, match="schedule must be cosine or wsd, not 'step'"):
        Protocol(schedule="step")
    assert "schedule" not in trial().as_dict()["protocol"] and trial(schedule="wsd").id != trial().id == trial(schedule="cosine").id


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.0), (1, 1.0), (2, 5.0), (10, 1.0), (40, 0.5)])
def test_every_schedule_warms_up_falls_and_ends_near_zero(schedule: str, epochs: int, warmup: float) -> None:
    found, steps = rates(schedule, epochs, warmup, 20), 20
    up = round(min(warmup, epochs / 2) * steps)
    assert (found > 0).all() and (found <= 1).all() and found[up] == 1
    assert (np.diff(found[: up + 1]) > 0).all() and (np.diff(found[up:]) <= 1e-12).all() and found[-1] <= 0.201


def test_wsd_stays_constant_and_falls_in_a_straight_line_in_its_last_tenth() -> None:
    found = rates("wsd", 41, 1.0, 10)
    assert (found[10:370] == 1).all(), "from the warm-up to the last tenth of 40 epochs"
    np.testing.assert_allclose(found[370:], 1 - np.arange(40) / 40, atol=1e-12)


@pytest.mark.parametrize(("epochs", "falls"), [(1, 0.5), (3, 1.0), (10, 1.0), (20, 2.0)])
def test_wsd_falls_over_an_epoch_at_least_or_half_of_what_is_shorter(epochs: int, falls: float) -> None:
    found = rates("wsd", epochs, 0.0, 100)
    assert (found < 1).sum() == pytest.approx(100 * falls, abs=1)


def test_cosine_is_its_closed_form_to_the_bit() -> None:
    """It is as it was before there was another, so a training begun under it goes on with the same rates."""
    assert [factor(k / 7, 1.0, 10, 7) for k in range(7, 70)] == [
        0.5 * (1 + math.cos(math.pi * (k / 7 - 1.0) / (10 - 1.0))) for k in range(7, 70)
    ]


def test_a_trial_follows_the_schedule_it_names(weights: Path, tmp_path: Path) -> None:
    """It is looked at in the last of three steps an epoch, with one epoch of warm-up."""
    ends: dict[str, list[float]] = {}
    for schedule in SCHEDULES:
        config = trial(schedule=schedule)
        epochs = fine_tune(config, open_inputs(config, Places(folder="", cache=str(tmp_path))), weights=str(weights))
        ends[schedule] = [state.run.optimizer.param_groups[0]["lr"] for _, state in epochs]
    steps = -(-len(open_inputs(config, Places(folder="", cache=str(tmp_path))).train) // 64)
    for schedule, own in ends.items():
        assert own == pytest.approx([1e-2 * factor(k - 1 / steps, 1.0, 3, steps, schedule) for k in (1, 2, 3)])
    assert ends["wsd"][1] == pytest.approx(1e-2) and ends["cosine"][1] < 0.9e-2
