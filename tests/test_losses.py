"""The losses: known answers, the effect of image weights on each, and that a trial trains with the one it names."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from study.errors import ConfigError
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Loss, Protocol
from study.question.trial_config import TrialConfig
from study.run import open_inputs
from study.space import Choice
from study.storage.places import Places
from study.training import losses
from study.training.inputs import Inputs
from study.training.loop import fine_tune
from study.training.losses import LOSSES
from study.training.mixup import Blend

LOGITS = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32))
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])
VOTES = torch.from_numpy(np.random.default_rng(1).dirichlet((1, 1, 1), size=6).astype(np.float32))
WEIGHTS = torch.tensor([0.0, 1.0, 2.0, 0.5, 3.0, 1.0])
BY_CLASS = torch.tensor([0.5, 2.0, 1.0])


def trial(**values: object) -> TrialConfig:
    cell = Cell(dataset="digits", backbone="mobilenetv3_small_050", strategy="linear_probe", train_fraction=0.1)
    protocol = Protocol(max_epochs=1, image_size=32, batch_size=512, train_eval_images=16)
    return TrialConfig.default(cell, protocol, seed=3).with_values({"lr": 0.0, "augmentation": 0.0, **values})


def first_loss(config: TrialConfig, weights: Path, cache: Path, by_image: np.ndarray | None = None) -> float:
    """Return the loss of the first step, which is the whole epoch. `by_image` holds weights [training images], by position."""
    inputs = open_inputs(config, Places(folder="", cache=str(cache)))
    if by_image is not None:
        own = np.ones(len(inputs.table.labels), np.float32)
        own[inputs.train] = by_image
        inputs = Inputs(replace(inputs.images, table=replace(inputs.table, weights=own)), config, cache)
    return next(fine_tune(config, inputs, weights=str(weights)))[0].metrics["train/loss"]


def test_every_name_that_a_recipe_takes_is_a_loss() -> None:
    assert set(LOSSES) == set(get_args(Loss))
    with pytest.raises(ConfigError, match="loss must be cross_entropy or focal, not 'hinge'"):
        trial(loss="hinge")
    with pytest.raises(ConfigError, match="loss must be cross_entropy or focal, not 'hinge'"):
        Study(name="s", cells=grid(["digits"], ["resnet18"], ["full"]), space={"recipe.loss": Choice("hinge")})


def test_the_focal_loss_by_hand() -> None:
    """Equation 5 of the paper: p = 0.8 costs (1 - 0.8)^2 * -ln 0.8. Smoothed by 0.2, the other class has a tenth of the target."""
    logits = torch.tensor([[0.8, 0.2]]).log()
    plain = losses.focal(logits, torch.tensor([0]), None, None, 0.0)
    assert float(plain) == pytest.approx(0.04 * -np.log(0.8), rel=1e-5)
    smooth = losses.focal(logits, torch.tensor([0]), None, None, 0.2)
    assert float(smooth) == pytest.approx(0.9 * 0.04 * -np.log(0.8) + 0.1 * 0.64 * -np.log(0.2), rel=1e-5)


@pytest.mark.parametrize("targets", [LABELS, VOTES], ids=["labels", "votes"])
@pytest.mark.parametrize("by_class", [None, BY_CLASS], ids=["alike", "by class"])
@pytest.mark.parametrize("by_image", [None, WEIGHTS], ids=["equal", "weighted"])
def test_a_focal_loss_that_focuses_on_nothing_is_cross_entropy(
    targets: Tensor, by_class: Tensor | None, by_image: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "GAMMA", 0.0)
    both = [loss(LOGITS, targets, by_image, by_class, 0.1) for loss in (losses.focal, losses.cross_entropy)]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_multiplies_an_images_whole_loss(name: str) -> None:
    """An image of weight 2 counts as two, one of weight 0 as none, and weights of one change nothing."""
    loss = LOSSES[name]
    each = torch.stack([loss(LOGITS[k : k + 1], LABELS[k : k + 1], None, BY_CLASS, 0.1) for k in range(6)])
    torch.testing.assert_close(loss(LOGITS, LABELS, WEIGHTS, BY_CLASS, 0.1), (WEIGHTS * each).sum())
    torch.testing.assert_close(loss(LOGITS, LABELS, torch.ones(6), None, 0.1), loss(LOGITS, LABELS, None, None, 0.1))


def test_without_weights_cross_entropy_is_torchs_own_to_the_bit() -> None:
    own = F.cross_entropy(LOGITS, LABELS, weight=BY_CLASS, label_smoothing=0.1, reduction="sum")
    assert torch.equal(losses.cross_entropy(LOGITS, LABELS, None, BY_CLASS, 0.1), own)


def test_a_blends_loss_is_the_weighted_ones_of_both_images_in_their_shares() -> None:
    blend, others = Blend(share=0.7), torch.tensor([1.0, 0.0, 4.0, 0.0, 1.0, 2.0])
    targets = blend.targets(LABELS, LABELS.flip(0), 3, WEIGHTS, others)
    found = losses.cross_entropy(LOGITS, targets, blend.weights(WEIGHTS, others), BY_CLASS, 0.1)
    own, other = (losses.cross_entropy(LOGITS, t, w, BY_CLASS, 0.1) for t, w in ((LABELS, WEIGHTS), (LABELS.flip(0), others)))
    torch.testing.assert_close(found, 0.7 * own + 0.3 * other)
    nothing = torch.zeros(6)
    assert blend.targets(LABELS, LABELS, 3, nothing, nothing).isfinite().all()


@pytest.mark.parametrize("values", [{}, {"mixup": 0.4}], ids=["as they are", "blended"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_trial_weighs_its_images_whatever_its_loss(name: str, values: dict[str, float], weights: Path, tmp_path: Path) -> None:
    config = trial(loss=name, **values)
    count = len(open_inputs(config, Places(folder="", cache=str(tmp_path))).train)
    plain = first_loss(config, weights, tmp_path)
    doubled = first_loss(config, weights, tmp_path, np.full(count, 2.0))
    assert doubled == pytest.approx(2 * plain, rel=1e-5)
    halves = [first_loss(config, weights, tmp_path, (np.arange(count) % 2 == k).astype(np.float32)) for k in (0, 1)]
    assert sum(halves) == pytest.approx(plain, rel=1e-5 if not values or name == "cross_entropy" else 0.2)
    assert halves[0] != pytest.approx(plain / 2, rel=1e-4)


def test_a_trial_trains_with_the_loss_it_names(weights: Path, tmp_path: Path) -> None:
    """A focal loss counts less than all of it and more than nothing, where well over a half is still to be learnt."""
    usual, focal = (first_loss(trial(**v), weights, tmp_path) for v in ({}, {"loss": "focal"}))
    assert 0.3 * usual < focal < 0.95 * usual
