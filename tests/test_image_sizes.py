"""An image size reaches timm: networks built for one size are built for the study's, their positions resampled, and kept so."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

from study import trial
from study.conduct.checks import check_models
from study.conduct.plan_tables import print_plan
from study.errors import ConfigError
from study.networks.image_sizes import check_forward
from study.networks.pretrained import create
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.run import run_trial
from study.storage.places import Places
from study.tracking.ledger import Ledger
from study.use.predictor import Predictor


def test_positions_are_resampled_as_timm_does_it(weights: Path) -> None:
    stored = torch.load(weights / "test_vit.pth", weights_only=True)
    backbone = create("test_vit", 7, weights=weights, image_size=64)
    assert backbone.arguments == {"img_size": 64} and backbone.input_size == (3, 64, 64)
    expected = resample_abs_pos_embed(stored["pos_embed"], (4, 4), num_prefix_tokens=1)
    torch.testing.assert_close(backbone.model.state_dict()["pos_embed"], expected)
    torch.testing.assert_close(backbone.model.state_dict()["blocks.0.attn.qkv.weight"], stored["blocks.0.attn.qkv.weight"])


def test_at_its_own_size_and_where_any_size_serves_nothing_is_said(weights: Path) -> None:
    """So a study that was begun before has the same arguments and the same kept network."""
    assert create("test_vit", 7, weights=weights, image_size=160).arguments == {}
    assert create("resnet18", 7, weights=weights, image_size=48).arguments == {}
    assert create("efficientnet_lite0", 7, image_size=48).arguments == {}


def study_of(backbone: str, size: int, **protocol) -> Study:
    cells = grid(["digits"], [backbone], ["linear_probe", "partial"], (0.1,))
    return Study(
        name="s", cells=cells, protocol=Protocol(max_epochs=2, image_size=size, batch_size=64, **protocol), trials=1, random_trials=0
    )


@pytest.mark.parametrize(
    ("backbone", "size", "says"),
    [
        ("test_vit", 70, "test_vit does not take images of 70 px.*leave 6 px out.*patches of 16 px.*160 is its own size"),
        ("test_maxvit", 70, "windows of .* patches, so image_size must be a multiple"),
        ("small_two_headed", 64, "in training it gives a tuple, not logits"),
    ],
)
def test_a_size_or_a_network_that_cannot_serve_is_refused_before_anything_starts(
    backbone: str, size: int, says: str, tmp_path: Path
) -> None:
    torch.save(timm.create_model(backbone).state_dict(), tmp_path / f"{backbone}.pth")
    with pytest.raises(ConfigError, match=says) as caught:
        check_models(study_of(backbone, size), Places(folder="", weights=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_one_trial_is_refused_in_one_line_too(weights: Path, capsys) -> None:
    line = ["digits/test_vit/full", "--weights", str(weights), "--set", "image_size=70"]
    assert trial.main(line) == ConfigError.exit_code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "patches of 16 px" in error


def test_every_mode_is_left_as_it_was(weights: Path) -> None:
    backbone = create("resnet18", 7, weights=weights, image_size=64)
    backbone.model.eval()
    check_forward(backbone.model, "resnet18", (3, 64, 64))
    assert not backbone.model.training


def test_a_transformer_of_another_size_is_trained_reused_kept_and_read_again(tmp_path: Path, weights: Path) -> None:
    """It goes the whole way: stored token activations, the record's words on the cut, a kept network that knows its size."""
    cell = study_of("test_vit", 64).cells[1]
    protocol = Protocol(max_epochs=2, image_size=64, batch_size=64, train_eval_images=32, views=1)
    records = []
    places = Places(folder=str(tmp_path / "trial"), weights=str(weights), cache=str(tmp_path / "cache"))
    run_trial(TrialConfig.default(cell, protocol), places, lambda record: bool(records.append(record)))
    facts = records[-1].facts
    assert (facts["cut"], facts["cut_by"], facts["activations_reused"]) == (1, "replay", True) and "why_whole" not in facts
    (stored,) = {np.load(p, mmap_mode="r").shape[1:] for p in (tmp_path / "cache" / "activations").glob("*.npy")}
    assert stored == (17, 64), "a class token and 4 x 4 patches"
    predictor = Predictor.from_folder(tmp_path / "trial")
    assert predictor.kept.arguments == {"img_size": 64}
    theirs = timm.create_model(f"local-dir:{tmp_path / 'trial' / 'best'}", pretrained=True).eval()
    batch = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs(batch), predictor.model.cpu()(batch))


def test_the_plan_says_where_each_cell_is_cut_and_why_one_is_not(tmp_path: Path, weights: Path, capsys) -> None:
    from study.datasets import open_dataset

    for backbone, says in (("test_vit", ("cut 0", "cut 1")), ("small_mean_resnet", ("whole: the two halves",))):
        study = study_of(backbone, 64)
        places = Places(folder=str(tmp_path), weights=str(weights))
        print_plan(study, Ledger(str(tmp_path), study.name), {("digits", "official"): open_dataset("digits")}, places)
        shown = " ".join(capsys.readouterr().out.split())
        assert all(words in shown for words in says), shown
