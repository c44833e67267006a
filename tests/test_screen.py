"""Networks ranked by a probe: cross-validated without a look at the predicted fold, kept like the line to beat, errors in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from study.conduct import lines
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.screen import at_hand, probe
from study.screen.__main__ import main
from study.screen.cross_validate import predict_each
from study.screen.probe import Probed, Task
from study.screen.ranked import rank
from tests import own

NETWORKS = ("small_resnet", "small_efficientnet")
HELD = (*NETWORKS, "small_mean_resnet", "test_vit")


def folds(images: int) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(0).permutation(images), 5)


def test_each_image_is_predicted_by_what_was_not_fitted_on_it() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(150) % 3
    rows = (rng.normal(size=(150, 6)) + 1.2 * rng.normal(size=(3, 6))[labels]).astype(np.float32)
    said, strengths = predict_each(rows, labels, 3, folds(150))
    for fold, strength in zip(folds(150), strengths, strict=True):
        rest = np.setdiff1d(np.arange(150), fold)
        centre, scale = rows[rest].mean(axis=0), rows[rest].std(axis=0)
        alone = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit((rows[rest] - centre) / scale, labels[rest])
        assert (alone.predict((rows[fold] - centre) / scale) == said[fold]).mean() > 0.95
    assert f1_score(labels, said, average="macro") > 0.6


def test_noise_scores_as_noise() -> None:
    """Over twenty noise tasks the mean accuracy is not above guessing. It is (0.39) where the strength is chosen on the fold itself."""
    right = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(60) % 3)
        said, _ = predict_each(rng.normal(size=(60, 30)).astype(np.float32), labels, 3, folds(60))
        right.append((said == labels).mean())
    assert 0.25 < np.mean(right) < 0.36


def made(name: str, said: np.ndarray, parameters: int = 1) -> Probed:
    return Probed(
        network=name, said=said, strengths=(1.0,), image_size=32, pass_seconds=0, probe_seconds=0, parameters=parameters, weights="",
        licence=""
    )  # fmt: skip


def test_the_order_is_that_of_the_scores_and_who_may_be_first_is_said() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(400) % 4
    task = Task(dataset="d", splits="official", classes=tuple("abcd"), labels=labels, groups=None, folds=(), said="")
    said = {n: np.where(rng.random(400) < share, labels, (labels + 1) % 4) for n, share in (("poor", 0.4), ("good", 0.8), ("like", 0.79))}
    found = rank(task, [made(n, s) for n, s in said.items()], 400)
    scores = {n: f1_score(labels, s, average="macro") for n, s in said.items()}
    assert [r.probed.network for r in found] == sorted(scores, key=lambda n: -scores[n]) and [r.rank for r in found] == [1, 2, 3]
    assert [r.mean for r in found] == pytest.approx(sorted(scores.values(), reverse=True))
    assert [r.may_be_best for r in found] == [True, True, False] and all(r.low < r.mean < r.high for r in found)
    assert found[2].behind == pytest.approx(found[0].mean - found[2].mean) and found[2].behind_low > 0
    alike = rank(task, [made("large", said["good"], 9), made("small", said["good"], 3)], 100)
    assert [r.probed.network for r in alike] == ["small", "large"]


def test_what_a_study_s_line_to_beat_has_kept_is_used() -> None:
    cells = grid(["digits"], ["resnet50"], ["full"])
    study = Study(name="s", cells=cells, protocol=Protocol(max_epochs=3, image_size=64))
    theirs = lines.line_config(lines.line_cells(study)[0], study)
    assert theirs == probe.line_config("resnet50", "digits", "official", None)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for name in HELD:
        torch.manual_seed(0)
        torch.save(timm.create_model(name).state_dict(), folder / f"{name}.pth")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two classes whose colour tells them apart."""
    folder = own.classes(tmp_path_factory.mktemp("leaves") / "leaves", {"ash": 25, "oak": 25})
    for path in folder.rglob("*.png"):
        tint = np.array([60, 0, 0] if path.parent.name == "ash" else [0, 0, 60])
        Image.fromarray(np.clip(np.asarray(Image.open(path)) * 0.7 + tint, 0, 255).astype(np.uint8)).save(path)
    return folder


def test_networks_are_ranked_and_nothing_is_computed_twice(images: Path, weights: Path, capsys, cache: Path) -> None:
    arguments = ["--datasets", f"folder:{images}", "--weights", str(weights), "--image-size", "32", "--backbones", *NETWORKS]
    assert main([*arguments, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["datasets"]
    assert found["images"] == 40 and found["classes"] == ["ash", "oak"] and found["folds"] == 5 and not found["left_out"]
    assert {n["network"] for n in found["networks"]} == set(NETWORKS) and [n["rank"] for n in found["networks"]] == [1, 2]
    assert found["networks"][0]["mean"] > 0.8
    assert all(n["parameters"] and n["licence"] and n["image_size"] == 32 for n in found["networks"])
    kept = {p.name: p.stat().st_mtime_ns for p in (cache / "activations").glob("*.npy")}
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert {p.name: p.stat().st_mtime_ns for p in (cache / "activations").glob("*.npy")} == kept
    assert "not tuned networks" in out and "small_resnet" in out and "test images were not looked at" in out


def test_by_default_all_whose_weights_are_at_hand(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "models--timm--resnet18.a1_in1k" / "snapshots" / "1"
    hub.mkdir(parents=True)
    (hub / "model.safetensors").touch()
    (tmp_path / "models--timm--resnet34.a1_in1k" / "snapshots" / "1").mkdir(parents=True)  # a download that was broken off
    monkeypatch.setattr(at_hand.huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert at_hand.networks_at_hand(str(weights)) == [*sorted(HELD), "efficientnet_lite0", "resnet18.a1_in1k"]


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (["--backbones", "resnet5000"], "Unknown backbone 'resnet5000'. Nearest", 2),
        (["--backbones", "small_resnet", "small_resnet"], "names small_resnet twice", 2),
        (["--backbones", "small_swin"], "No pretrained weights for 'small_swin'", 2),
        (["--backbones", "test_vit", "--image-size", "33"], "left out: test_vit: test_vit does not take images of 33 px", 2),
        (["--image-size", "0"], "--image-size must be", 2),
        (["--datasets", "nosuch"], "Unknown dataset 'nosuch'", 2),
        (["--datasets", "folder:/nowhere"], "/nowhere", 3),
        (["--datasets", "digits", "digits"], "names digits twice", 2),
        (["--weights", "/nowhere"], "Weights folder /nowhere does not exist", 2),
    ],
)
def test_what_is_wrong_is_one_line(more: list[str], said: str, code: int, images: Path, weights: Path, capsys) -> None:
    words = ["--datasets", f"folder:{images}", "--weights", str(weights), "--image-size", "32", "--backbones", "small_resnet", *more]
    assert main(words) == code
    out, err = capsys.readouterr()
    assert said in err and "Traceback" not in err and len([x for x in err.splitlines() if x.startswith(("error", "left out"))]) == 1, err


def test_a_network_that_cannot_be_probed_is_left_out_by_name(images: Path, weights: Path, capsys) -> None:
    words = [
        "--datasets",
        f"folder:{images}",
        "--weights",
        str(weights),
        "--image-size",
        "32",
        "--backbones",
        "small_mean_resnet",
        "small_resnet",
    ]
    assert main([*words, "--json"]) == 2, "it was asked for by name"
    (found,) = json.loads(capsys.readouterr().out)["datasets"]
    assert found["left_out"][0]["reason"].startswith("no linear head") and "line to beat" not in found["left_out"][0]["reason"]
    assert [n["network"] for n in found["networks"]] == ["small_resnet"] and [n["network"] for n in found["left_out"]] == [
        "small_mean_resnet"
    ]


def test_more_images_than_the_memory_holds_are_refused(images: Path, weights: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MOST", 11 * 40 * 2 - 1)
    assert main(["--datasets", f"folder:{images}", "--weights", str(weights), "--image-size", "32", "--backbones", "small_resnet"]) == 3
    assert "40 images of 2 classes are more than are screened at once. Give a table of a part" in capsys.readouterr().err
