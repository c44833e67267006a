"""A kept network is itself under timm's own name, and one picture gives one answer, whichever way it comes."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open

from study.inference.pixels import plain
from study.networks import kept
from study.networks.pretrained import create
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.run import run_trial
from study.storage.folder import Folder
from study.storage.places import Places
from study.use.predictor import Predictor

NETWORKS = ("efficientnet_lite0", "resnet18", "mobilenetv3_small_050")


def keep(network: str, folder: Path, weights: Path, channels: int = 3) -> Predictor:
    backbone = create(network, 3, weights=None if network == "efficientnet_lite0" else weights, seed=4)
    values = kept.Kept(
        trial="0" * 16, backbone=timm_name_of(network), classes=["a", "b", "c"], image_size=64, channels=channels, precision="fp32",
        epoch=1,
        arguments=backbone.arguments, side=80,
    )  # fmt: skip
    kept.keep(Folder(str(folder)), values, backbone.model.state_dict())
    return Predictor.from_folder(folder)


def timm_name_of(network: str) -> str:
    return {"efficientnet_lite0": "tf_efficientnet_lite0"}.get(network, network)


@pytest.mark.parametrize("network", NETWORKS)
def test_timm_builds_the_same_network_from_the_folder_alone(network: str, tmp_path: Path, weights: Path) -> None:
    predictor = keep(network, tmp_path, weights)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'best'}", pretrained=True).eval()
    images = np.random.default_rng(0).integers(0, 256, (4, 80, 80, 3), dtype=np.uint8)
    config = timm.data.resolve_model_data_config(theirs)
    assert tuple(config["input_size"]) == (3, 64, 64) and config["crop_pct"] == 1.0 and tuple(config["mean"]) == predictor.mean
    with torch.no_grad():
        batch = plain(torch.from_numpy(images), size=64, mean=config["mean"], std=config["std"])
        np.testing.assert_allclose(theirs(batch).numpy(), predictor.logits(images), atol=1e-5)
    assert theirs.pretrained_cfg["label_names"] == ["a", "b", "c"]


def test_the_manifest_and_the_file_name_the_network_as_timm_does(tmp_path: Path, weights: Path) -> None:
    """The library timm has an `efficientnet_lite0` of its own: another network, which would load these tensors without a word."""
    keep("efficientnet_lite0", tmp_path, weights)
    assert json.loads((tmp_path / "best" / "manifest.json").read_text())["backbone"] == "tf_efficientnet_lite0"
    with safe_open(tmp_path / "best" / "model.safetensors", framework="pt") as file:
        inside = json.loads(file.metadata()["kept"])
    assert inside["backbone"] == "tf_efficientnet_lite0" and inside["classes"] == ["a", "b", "c"]


def test_a_trial_keeps_the_side_its_images_were_stored_at(tmp_path: Path) -> None:
    protocol = Protocol(max_epochs=1, image_size=32, batch_size=64, train_eval_images=16)
    config = TrialConfig.default(
        Cell(dataset="digits", backbone="efficientnet_lite0", strategy="linear_probe", train_fraction=0.1), protocol
    )
    run_trial(config, Places(folder=str(tmp_path)), lambda record: False)
    predictor = Predictor.from_folder(tmp_path)
    assert predictor.kept.side == 8, "digits are 8 pixels wide: the cache holds them so"
    assert predictor.kept.backbone == "tf_efficientnet_lite0"


@pytest.mark.parametrize("shape", [(48, 200), (200, 48), (90, 160), (64, 64), (30, 30)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_and_an_array_are_one_picture(shape: tuple[int, int], channels: int, tmp_path: Path, weights: Path) -> None:
    """They agree to the last digit, whatever the shape. An image 48 wide and 200 high was once shown unresized."""
    predictor = keep("mobilenetv3_small_050", tmp_path, weights, channels)
    colour = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    from_file = predictor(predictor.read(str(tmp_path / "a.png"))[None])
    np.testing.assert_array_equal(from_file, predictor(colour[None]))
    assert predictor.read(str(tmp_path / "a.png")).shape == (80, 80, channels)


def test_plain_resizes_by_both_sides() -> None:
    tall = torch.randint(0, 255, (1, 200, 64, 3), dtype=torch.uint8)
    assert plain(tall, size=64, mean=(0.5,) * 3, std=(0.5,) * 3).shape == (1, 3, 64, 64)
