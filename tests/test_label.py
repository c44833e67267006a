"""Pictures drawn to be labelled, the page for that, and the verdict with them: worked out by hand, and never in the first one's place."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from analysis.load import load
from study import load_study, sweep
from study.label.__main__ import main
from study.label.filled import NOTHING, read_labels, table
from study.tracking.ledger import Ledger
from tests.browser import page
from tests.own import scene
from tests.test_folds import images

SOURCE = """
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
LABELLED = Study(
    name="asked", cells=grid([{name!r}], ["efficientnet_lite0"], ["linear_probe", "partial"]),
    protocol=Protocol(max_epochs=1, image_size=32, batch_size=8, views=1, train_eval_images=16, warmup_epochs=0.5),
    searches={searches}, trials={searches}, random_trials=0, confirm_seeds={seeds},
    grace_epochs=1, line_size=32, budget_check=0, folds={folds},
)
"""
POOL = 30


def begun(folder: Path, folds: int) -> Ledger:
    searches = 5 if folds > 1 else 1
    source = SOURCE.format(name=images(folder / "own", "folder", ()), searches=searches, seeds=5 if folds > 1 else 2, folds=folds)
    (folder / "my_study.py").write_text(source)
    assert sweep.main([str(folder / "my_study.py"), "--results", str(folder / "results"), "--local", "--mlflow", "off"]) == 0
    new = folder / "new" / "below"
    new.mkdir(parents=True)
    for k in range(POOL):
        scene(1000 + k).save(new / f"{k}.png")
    return Ledger(folder / "results", "asked")


@pytest.fixture(scope="module")
def one_split(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return begun(tmp_path_factory.mktemp("label"), 1)


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return begun(tmp_path_factory.mktemp("label_folds"), 5)


Copied = Callable[[Ledger], Ledger]


@pytest.fixture
def copied(tmp_path: Path) -> Copied:
    def copy(ledger: Ledger) -> Ledger:
        shutil.copytree(ledger.folder.location, tmp_path / "results" / "asked")
        return Ledger(tmp_path / "results", "asked")

    return copy


def pool(ledger: Ledger, of: Ledger) -> Path:
    return Path(of.folder.location).parent.parent / "new"


def draw(ledger: Ledger, folder: Path, out: Path, *more: str) -> int:
    return main([ledger.folder.location, str(folder), "--csv", str(out / "label.csv"), "--html", str(out / "label.html"), *more])


def fill(path: Path, label: Callable[[str], str]) -> Path:
    rows = list(csv.DictReader(path.open()))
    with path.with_name("filled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "probability", "label"])
        writer.writeheader()
        writer.writerows({**row, "label": label(row["image"])} for row in rows)
    return path.with_name("filled.csv")


def by_hand(ledger: Ledger, strategy: str) -> float:
    """Return macro-F1 of all runs on test images and labelled pictures, by scikit-learn, with weights from the ledger's probabilities."""
    frames = load(ledger)
    (record,) = ledger.labelled()
    shown = [k for k, i in enumerate(record["images"]) if i["label"]]
    inverse = np.array([1 / i["probability"] for i in record["images"]])
    weights = inverse[shown] * record["worth"] / inverse.sum()
    classes = list(frames.classes.values())[0]
    truth = [classes.index(record["images"][k]["label"]) for k in shown]
    done = frames.confirmed()
    runs = done[done.strategy == strategy].sort_values("number")
    labels, named, each = [], [], []
    scores = []
    for number, trial in zip(runs.number, runs.trial_id, strict=True):
        test = frames.predictions(trial)["test"]
        own = [k for k in shown if frames.study.folds == 1 or record["fold"][k] == number % 5]
        labels += [*test.labels, *(truth[shown.index(k)] for k in own)]
        named += [*test.logits.argmax(axis=1), *(record["said"][trial][k] for k in own)]
        each += [*np.ones(len(test.labels)), *(weights[shown.index(k)] for k in own)]
        if frames.study.folds == 1 or number % 5 == 4:
            scores.append(f1_score(labels, named, sample_weight=each, average="macro", zero_division=0))
            labels, named, each = [], [], []
    return float(np.mean(scores))


def test_a_draw_names_pictures_with_probabilities_and_shows_neither_them_nor_what_networks_say(
    one_split: Ledger, copied: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, folder = copied(one_split), tmp_path / "new"
    shutil.copytree(pool(ledger, one_split), folder)
    shutil.copy(folder / "below/3.png", folder / "again.png")
    shutil.copy(Path(one_split.folder.location).parent.parent / "own/ash/0.png", folder / "known.png")
    (folder / "broken.png").write_bytes(b"no picture")
    before = load_study(ledger.folder.location)
    assert draw(ledger, folder, tmp_path, "--most", "8") == 0
    said = capsys.readouterr()
    assert "8 of 30 pictures drawn" in said.out and "--labels" in said.out
    assert "1 picture that the study has already" in said.err and "1 picture equal to another" in said.err and "broken.png" in said.err
    (record,) = ledger.labelled()
    assert record["filled"] is None and record["pictures"] == POOL and 8 <= record["worth"] <= POOL and len(record["images"]) == 8
    runs = set(load(ledger).confirmed().trial_id)
    assert set(record["said"]) <= runs and len(record["said"]) == 5, "two runs of each strategy, and the line to beat"
    rows = list(csv.DictReader((tmp_path / "label.csv").open()))
    assert [(r["image"], r["label"]) for r in rows] == [(i["image"], "") for i in record["images"]]
    html = (tmp_path / "label.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html).group(1))  # type: ignore[union-attr]
    assert data["classes"] == ["ash", "oak"] and [i["image"] for i in data["images"]] == [r["image"] for r in rows]
    assert all(i["source"].startswith("data:image/jpeg;base64,") for i in data["images"])
    after = load_study(ledger.folder.location)
    pd.testing.assert_frame_equal(after.pairs, before.pairs)
    assert after.labelled == [] and not ledger.amendments()


@pytest.mark.parametrize("folds", [1, 5])
def test_labels_that_join_give_the_verdict_again_and_leave_the_first_one(
    folds: int, request: pytest.FixtureRequest, copied: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: Ledger = request.getfixturevalue("one_split" if folds == 1 else "folded")
    ledger = copied(made)
    assert draw(ledger, pool(ledger, made), tmp_path, "--most", "12") == 0
    order = [i["image"] for i in ledger.labelled()[0]["images"]]
    first = load_study(ledger.folder.location)
    filled = fill(tmp_path / "label.csv", lambda name: NOTHING if name == order[0] else "ash" if int(Path(name).stem) % 2 else " OAK")
    capsys.readouterr()
    assert main([ledger.folder.location, "--labels", str(filled)]) == 0
    said = capsys.readouterr().out
    again = load_study(ledger.folder.location)
    pd.testing.assert_frame_equal(again.pairs, first.pairs)
    assert [s.text for s in again.findings.sentences] == [s.text for s in first.findings.sentences]
    (line,) = again.labelled
    assert line in said and "with labels of 12 of 30 pictures of" in line and "The verdict above stays" in line
    (amendment,) = ledger.amendments()
    assert amendment["beside"] and amendment["test_open"] and amendment["changes"][0].startswith("labels: 12 of 30 pictures of")
    assert any("joined the study on" in w for w in again.warnings)
    report = (Path(ledger.folder.location) / "report.html").read_text()
    assert "With newly labelled pictures" in report and "as about" in report
    from analysis.findings.comparisons import compare_all, gather_all
    from analysis.findings.labelled import relabelled

    frames = load(ledger)
    gathered = list(gather_all(frames))
    (found,) = relabelled(frames, gathered, compare_all(gathered, 100).pairs, 100)
    assert set(found.means) == {"features", "linear_probe", "partial"}
    assert found.means == pytest.approx({s: by_hand(ledger, s) for s in found.means}, abs=1e-5)
    assert all(p.confidence == pytest.approx(0.9875) for p in found.pairs), "a second look"
    assert main([ledger.folder.location, "--labels", str(filled)]) == 3
    assert "labelled and joined before" in capsys.readouterr().err


def test_a_draw_replaces_no_table_and_no_page_with_labels_of_a_person(
    one_split: Ledger, copied: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table filled in by hand was once drawn over, and so was the only page that could save what a browser kept."""
    ledger, folder = copied(one_split), pool(one_split, one_split)
    assert draw(ledger, folder, tmp_path, "--most", "6") == 0
    written = (tmp_path / "label.csv").read_bytes()
    assert draw(ledger, folder, tmp_path, "--most", "5") == 2 and "label.html is there already" in capsys.readouterr().err
    (tmp_path / "label.html").unlink()
    for typed in (",ash\n", ",?\n", ",,a note\n"):
        (tmp_path / "label.csv").write_bytes(written.replace(b",\n", typed.encode(), 1))
        before = (tmp_path / "label.csv").read_bytes()
        assert draw(ledger, folder, tmp_path, "--most", "5") == 2
        assert "label.csv is there already and is no empty table" in capsys.readouterr().err
        assert (tmp_path / "label.csv").read_bytes() == before and len(ledger.labelled()) == 1 and not (tmp_path / "label.html").exists()
    assert draw(ledger, folder, tmp_path, "--most", "5", "--overwrite") == 0
    assert draw(ledger, folder, tmp_path, "--most", "5", "--html", str(tmp_path / "other.html")) == 0, "the table is empty again"


def test_labels_that_were_joined_can_be_corrected(
    one_split: Ledger, copied: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, folder = copied(one_split), pool(one_split, one_split)
    assert draw(ledger, folder, tmp_path, "--most", "6") == 0
    filled = fill(tmp_path / "label.csv", lambda name: "ash")
    assert main([ledger.folder.location, "--labels", str(filled)]) == 0
    assert draw(ledger, folder, tmp_path, "--most", "30") == 0, "an open draw that holds them too"
    assert main([ledger.folder.location, "--labels", str(filled)]) == 3
    assert "with these labels" in capsys.readouterr().err and not ledger.labelled()[0].get("corrected")
    lines = filled.read_text().splitlines()
    wrong = lines[2].split(",")[0]
    filled.write_text("\n".join([lines[0], lines[2].replace(",ash", f",{NOTHING}")]))
    assert main([ledger.folder.location, "--labels", str(filled)]) == 0
    for record in ledger.labelled():
        labels = {i["image"]: i["label"] for i in record["images"]}
        assert labels[wrong] == "" and list(labels.values()).count("ash") == 5
    assert [len(d.get("corrected", [])) for d in ledger.labelled()] == [1, 0] and ledger.labelled()[1]["filled"] is None
    assert ledger.amendments()[-1]["changes"][0].startswith("labels corrected: 1 of 6 pictures of")
    from analysis.findings.comparisons import compare_all, gather_all
    from analysis.findings.labelled import relabelled

    frames = load(ledger)
    gathered = list(gather_all(frames))
    (found,) = relabelled(frames, gathered, compare_all(gathered, 100).pairs, 100)
    assert all(p.confidence == pytest.approx(0.99375) for p in found.pairs), "a third look"


def test_a_second_draw_knows_what_was_labelled(one_split: Ledger, copied: Copied, tmp_path: Path) -> None:
    ledger, folder = copied(one_split), pool(one_split, one_split)
    assert draw(ledger, folder, tmp_path, "--most", "6") == 0
    assert main([ledger.folder.location, "--labels", str(fill(tmp_path / "label.csv", lambda name: "ash"))]) == 0
    assert draw(ledger, folder, tmp_path, "--most", "5") == 0
    first, second = ledger.labelled()
    names = {i["image"] for i in first["images"]}
    rows = list(csv.DictReader((tmp_path / "label.csv").open()))
    assert len(rows) == 5 and not names & {r["image"] for r in rows}
    known = {i["image"]: (i["probability"], i["label"]) for i in second["images"] if i["label"] is not None}
    assert known == dict.fromkeys(names, (1.0, "ash"))
    assert main([ledger.folder.location, "--labels", str(fill(tmp_path / "label.csv", lambda name: "oak"))]) == 0
    (line,) = load_study(ledger.folder.location).labelled
    assert "with labels of 11 of 30 pictures" in line, "the second draw takes the place of the first"
    assert len(ledger.amendments()) == 2


DRAWN = {"filled": None, "images": [{"image": f"{n}.jpg", "label": None, "probability": 0.5} for n in "abcd"]}
FAULTS = {
    "an unknown class": ("a.jpg,0.5,ash\nb.jpg,0.5,oka\nc.jpg,0.5,oak\nd.jpg,0.5,oak", "filled.csv:3: 'oka' is no class. Choose from oak"),
    "a row twice": ("a.jpg,0.5,ash\nb.jpg,0.5,oak\na.jpg,0.5,oak\nc.jpg,,ash\nd.jpg,,ash",
        "filled.csv:4: a.jpg stands in .*filled.csv:2 already"),
    "a row missing": ("a.jpg,0.5,ash\nc.jpg,0.5,oak", r"2 pictures that were drawn have no row \(b.jpg, d.jpg\)"),
    "no label": ("a.jpg,0.5,ash\nb.jpg,0.5,\nc.jpg,0.5,oak\nd.jpg,0.5,oak",
        "filled.csv:3: b.jpg has no label. Fill it in, with 'none of these'"),
    "another picture": ("a.jpg,1,ash\nb.jpg,1,ash\nc.jpg,1,oak\nd.jpg,1,oak\ne.jpg,1,oak",
        "filled.csv:6: e.jpg was not drawn. Take the row out"),
    "several faults": ("a.jpg,1,x\nb.jpg,1,y\nc.jpg,1,oak\nd.jpg,1,oak",
        "filled.csv:2: 'x' is no class.*; .*filled.csv:3: 'y' is no class"),
    "another draw": ("x.jpg,1,ash", "none of its 1 pictures was drawn"),
}  # fmt: skip


def test_a_table_is_of_the_draw_whose_rows_it_has(tmp_path: Path) -> None:
    """A whole table was once refused for the rows of a later, larger draw that held the same pictures."""
    larger = {**DRAWN, "images": [*DRAWN["images"], {"image": "e.jpg", "label": None, "probability": 0.5}]}  # type: ignore[misc]
    rows = [f"{n}.jpg,0.5,ash" for n in "abcde"]
    for draws in ([DRAWN, larger], [larger, DRAWN]):
        for count in (4, 5):
            (tmp_path / "filled.csv").write_text("\n".join(["image,probability,label", *rows[:count]]))
            place, found = read_labels(tmp_path / "filled.csv", draws, ["ash", "oak"])
            assert len(draws[place]["images"]) == len(found) == count


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_is_not_filled_in_as_it_should_be_is_refused_by_line(fault: str, tmp_path: Path) -> None:
    text, says = FAULTS[fault]
    (tmp_path / "filled.csv").write_text(f"image,probability,label\n{text}\n")
    with pytest.raises(Exception, match=says):
        read_labels(tmp_path / "filled.csv", [DRAWN], ["ash", "oak"])


def test_a_table_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    odd = {"filled": None, "images": [{"image": n, "label": None, "probability": 0.25} for n in ("=a.jpg", "b, c.jpg")]}
    written = table(odd).decode()
    assert "'=a.jpg" in written
    text = '\ufeffimage;probability;label\r\n\'=a.jpg;0,25;ASH\r\n"b, c.jpg";0,25;None of these\r\n'
    (tmp_path / "filled.csv").write_text(text, newline="")
    assert read_labels(tmp_path / "filled.csv", [odd], ["ash", "oak"]) == (0, {"=a.jpg": "ash", "b, c.jpg": ""})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a folder of pictures to draw from, or --labels"),
        (["nowhere"], "nowhere does not exist"),
        (["--labels", "nowhere.csv"], "no picture was drawn for"),
        (["nowhere", "--most", "0"], "--most must be"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], says: str, one_split: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([one_split.folder.location, *arguments]) != 0
    assert says in capsys.readouterr().err and one_split.labelled() == []


def test_the_page_labels_by_keys_goes_back_and_saves_the_table(one_split: Ledger, copied: Copied, tmp_path: Path) -> None:
    ledger = copied(one_split)
    assert draw(ledger, pool(ledger, one_split), tmp_path, "--most", "5") == 0
    with page() as browser:
        browser.goto((tmp_path / "label.html").as_uri())
        assert "1 of 5" in browser.inner_text("#name") and browser.inner_text("#count") == "5 left"
        for key in ("1", "2", "Backspace", "1", "-", "2"):
            browser.keyboard.press(key)
        assert browser.inner_text("#count") == "1 left"
        browser.wait_for_timeout(1000)  # the browser stores it behind the page's back
        browser.reload()
        assert browser.inner_text("#count") == "1 left" and "5 of 5" in browser.inner_text("#name"), "kept by the browser"
        browser.click("#classes button:nth-child(2)")
        assert browser.inner_text("#count") == "all labelled"
        with browser.expect_download() as got:
            browser.click("#save")
        got.value.save_as(tmp_path / "labels.csv")
        assert browser.problems_seen == [] and browser.requests_seen == []
    rows = [r["label"] for r in csv.DictReader((tmp_path / "labels.csv").open())]
    assert rows == ["ash", "ash", NOTHING, "oak", "oak"]
    assert main([ledger.folder.location, "--labels", str(tmp_path / "labels.csv")]) == 0
    assert ledger.labelled()[0]["filled"]
