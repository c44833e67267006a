"""The images of a pass: every image once, or classes nearer to equally often."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.findings.short import weighs_classes
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.run import open_inputs
from study.storage.places import Places
from study.training.inputs import Inputs
from study.training.loop import fine_tune
from study.training.sampling import draw_order

LABELS = np.repeat([0, 1, 2], [81, 16, 3])


def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[1, 2]))


def test_unbalanced_every_image_is_shown_once_in_the_order_it_always_was() -> None:
    assert (draw_order(LABELS, rng()) == rng().permutation(100)).all()


def test_a_balanced_pass_shows_every_class_equally_often_and_is_as_long() -> None:
    labels = np.repeat([0, 1, 2], [90, 9, 1])
    order = draw_order(labels, rng(), 1.0)
    assert len(order) == 100 and sorted(np.bincount(labels[order])) == [33, 33, 34]
    assert len(set(order[labels[order] == 0])) >= 33, "no image of a large class comes twice"


def test_a_balanced_pass_is_drawn_as_it_always_was() -> None:
    """Every class's images have an own order, small classes start again from the front, classes take turns, and all is shuffled.

    Numbers rest on it.
    """
    one, other = rng(), rng()
    each = -(-100 // 3)
    chosen = [np.resize(one.permutation(np.flatnonzero(LABELS == c)), each) for c in range(3)]
    before = one.permutation(np.stack(chosen, axis=1).ravel()[:100])
    assert (draw_order(LABELS, other, 1.0) == before).all()


def test_half_balanced_is_by_the_square_root_by_hand() -> None:
    """The roots are 9, 4 and 1.732 of 14.732 in all: 61.09, 27.15 and 11.76 of a hundred."""
    order = draw_order(LABELS, rng(), 0.5)
    assert np.bincount(LABELS[order]).tolist() == [61, 27, 12]
    assert np.bincount(order[LABELS[order] == 2], minlength=100)[97:].tolist() == [4, 4, 4], "each image of a small class as often"


@pytest.mark.parametrize("balance", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_a_pass_is_as_long_as_there_are_images_and_every_class_is_in_it(balance: float) -> None:
    for images in ([1, 1], [7, 0, 2], [500, 20, 3, 1], [10] * 7):
        labels = np.repeat(np.arange(len(images)), images)
        order = draw_order(labels, rng(), balance)
        assert len(order) == len(labels) and set(labels[order]) == set(labels)


@pytest.mark.parametrize(
    ("strategy", "balance", "expected"), [("linear_probe", 0.5, 0.5), ("linear_probe", 0.0, 0.0), ("retrain_head", 0.5, 1.0)]
)
def test_a_trial_is_sampled_as_its_recipe_says_and_a_balanced_phase_says_it_for_all(
    strategy: str, balance: float, expected: float, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    whole = Inputs.batches
    monkeypatch.setattr(Inputs, "batches", lambda own, seed, turn, steps, b=0.0: asked.append(b) or whole(own, seed, turn, steps, b))
    cell = Cell(dataset="digits", backbone="mobilenetv3_small_050", strategy=strategy, train_fraction=0.1)
    config = TrialConfig.default(cell, Protocol(max_epochs=2, image_size=32, batch_size=64, train_eval_images=16)).with_values(
        {"balanced_sampling": balance}
    )
    assert len(list(fine_tune(config, open_inputs(config, Places(folder="", cache=str(tmp_path))), weights=str(weights)))) == 2
    assert asked[-1] == expected


def test_a_balanced_run_is_known_to_count_rare_classes_for_more() -> None:
    """A strategy without it may be told of small classes that it never names."""
    assert weighs_classes("partial", pd.DataFrame({"hp/balanced_sampling": [0.5]}))
    assert not weighs_classes("partial", pd.DataFrame({"hp/balanced_sampling": [0.0]}))
