"""Predictions made anywhere, judged as a study's are, to the last digit. Faults of a file are one line with the way out."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from analysis import compare, report
from analysis.figures import class_differences
from analysis.judge.__main__ import main
from analysis.judge.judged import METRICS, Side, judge
from analysis.judge.labels import read_labels
from analysis.load import load
from analysis.verdict import findings
from study.inference.softmax import softmax
from study.tracking.ledger import Ledger
from tests.goldens import GOLDEN, widened
from tests.test_compare import rewrite_predictions

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "verdict.schema.json").read_text())


def write(path: Path, rows: list) -> str:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def written(source, folder: Path, as_probabilities: bool) -> tuple[dict[str, list[str]], str]:
    """Write a study's predictions, and return ({strategy: one file per confirm run}, the labels)."""
    frames = load(source)
    sides: dict[str, list[str]] = {}
    for row in frames.confirmed().sort_values("seed").to_dict("records"):  # in the order of a study: sums of floats depend on it
        said = frames.predictions(row["trial_id"])["test"]
        own = sides.setdefault(row["strategy"], [])
        if as_probabilities:
            header = ["image", *map(str, range(10))]
            rows = [[i, *map(repr, p)] for i, p in zip(said.images, softmax(said.logits).tolist(), strict=True)]
        else:
            header, rows = ["image", "class"], [[i, int(k)] for i, k in zip(said.images, said.logits.argmax(axis=1), strict=True)]
        own.append(write(folder / f"{row['strategy']}_{len(own)}.csv", [header, *rows[::-1]]))
    return sides, write(folder / "labels.csv", [["image", "label"], *zip(said.images, said.labels, strict=True)])


def judged(arguments: list[str], folder: Path, capsys) -> dict:
    assert main([*arguments, "--json", "--out", str(folder / "v.html")]) == 0
    values = json.loads(capsys.readouterr().out)
    jsonschema.validate(values, SCHEMA)
    return values


# ---- as a study's ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_probabilities", [True, False])
def test_a_studys_own_predictions_get_its_own_numbers(as_probabilities: bool, copy: Ledger, tmp_path: Path, capsys) -> None:
    sides, labels = written(widened(copy), tmp_path, as_probabilities)
    frames = load(copy)
    found = findings(frames)
    (row,) = found.pairs.to_dict("records")
    values = judged(["--a", *sides[row["a"]], "--b", *sides[row["b"]], "--labels", labels], tmp_path, capsys)
    ((pair,), (question,)) = values["questions"][0]["pairs"], values["questions"]
    exact = ("a", "b", "difference", "low", "high", "simultaneous_low", "simultaneous_high", "a_better", "within_margin", "b_better",
        "p", "p_holm", "p_equivalent", "verdict", "winner")  # fmt: skip
    assert {k: pair[k] for k in exact} == {k: row[k] for k in exact} and pair["verdict"] == "beats"
    for side in question["sides"]:
        for metric, key in METRICS.items():
            (theirs,) = found.strategies[(found.strategies.strategy == side["name"]) & (found.strategies.metric == key)].to_dict("records")
            assert {k: side["metrics"][metric][k] for k in ("mean", "low", "high")} == {k: theirs[k] for k in ("mean", "low", "high")}
    by_class = class_differences.compute(frames, found)
    for own, theirs in zip(question["classes"], by_class.to_dict("records"), strict=True):
        sign = -1 if theirs["best"] == pair["b"] else 1
        assert (own["class"], own["images"]) == (theirs["class"], theirs["images"])
        assert (own["difference"], sorted([own["low"], own["high"]])) == (
            sign * theirs["difference"],
            sorted([sign * theirs["low"], sign * theirs["high"]]),
        )


def test_two_studies_are_told_apart_as_compare_does(copy: Ledger, tmp_path: Path, capsys) -> None:
    def worse(t: pd.DataFrame) -> pd.DataFrame:
        logits = np.stack(t.logits.to_numpy())
        logits[::10] = np.roll(logits[::10], 1, axis=1)
        return t.assign(logits=list(logits.astype(np.float32)))

    rewrite_predictions(copy, worse)
    table, _ = compare.side_by_side(load(GOLDEN.as_posix()), load(copy))
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    (ours, labels), (theirs, _) = written(GOLDEN.as_posix(), tmp_path / "a", False), written(copy, tmp_path / "b", False)
    for row in table.to_dict("records"):  # B minus A there, A minus B here
        files = ["--a", *theirs[row["strategy"]], "--b", *ours[row["strategy"]], "--labels", labels]
        (pair,) = judged(files, tmp_path, capsys)["questions"][0]["pairs"]
        assert (pair["difference"], pair["low"], pair["high"]) == (row["difference"], row["low"], row["high"]) and row["high"] < 0


# ---- a study's own verdict as JSON --------------------------------------------------------------------------------


def test_a_report_prints_its_verdict_as_the_schema_has_it(copy: Ledger, tmp_path: Path, capsys) -> None:
    arguments = [str(widened(copy).folder.root), "--out", str(tmp_path / "r.html"), "--json"]
    assert report.main(arguments) == 0
    values = json.loads(capsys.readouterr().out)
    jsonschema.validate(values, SCHEMA)
    found = findings(load(copy))
    (question,), (row,) = values["questions"], found.pairs.to_dict("records")
    (pair,) = question["pairs"]
    assert values["of"] == "study" and values["sentences"] == [s.text for s in found.sentences] and question["images"] == 360
    assert all(pair[k] == row[k] for k in ("a", "b", "difference", "low", "high", "p_holm", "verdict", "winner", "text"))
    assert [s["metrics"]["macro_f1"]["mean"] for s in question["sides"]] == list(
        found.strategies[found.strategies.metric == "macro_f1"]["mean"]
    )
    assert len(question["classes"]) == 10 and all(len(s["metrics"]["macro_f1"]["scores"]) == 3 for s in question["sides"])


def test_a_sweep_prints_json_alone_on_stdout(copy: Ledger, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from study import sweep
    from study.conduct import pipeline

    def conducted(study, *_) -> pipeline.Ended:
        print("a line that a person reads")
        return pipeline.Ended(study=study, ledger=copy, verdicts=["so it is"], values={"format": 1, "questions": []})

    monkeypatch.setattr(pipeline, "conduct", conducted)
    assert sweep.main([str(copy.folder.root), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"format": 1, "questions": []} and "a person reads" in err and "report: " in err
    assert sweep.main([str(copy.folder.root), "--json", "--dry-run"]) == 2 and "Leave one of them out" in capsys.readouterr().err


# ---- files of one's own ------------------------------------------------------------------------------------------


def made(folder: Path, right_a: float = 0.9, right_b: float = 0.6, images: int = 200) -> tuple[str, str, str]:
    rng = np.random.default_rng(1)
    truth = np.array(["ash", "oak", "yew"])[np.arange(images) % 3]
    wrong = np.roll(["ash", "oak", "yew"], -1)[np.arange(images) % 3]
    names = [f"{k:03}.jpg" for k in range(images)]
    for name, share in (("a", right_a), ("b", right_b)):
        said = np.where(rng.random(images) < share, truth, wrong)
        write(folder / f"{name}.csv", [["image", "class"], *zip(names, said, strict=True)])
    rows = [["image", "label", "patient"], *[[n, t, f"p{k // 5}"] for k, (n, t) in enumerate(zip(names, truth, strict=True))]]
    return str(folder / "a.csv"), str(folder / "b.csv"), write(folder / "labels.csv", rows)


@pytest.mark.parametrize("metric", list(METRICS))
def test_scores_are_those_of_scikit_learn(metric: str, tmp_path: Path, capsys) -> None:
    a, b, labels = made(tmp_path)
    values = judged([a, b, labels, "--metric", metric], tmp_path, capsys)
    truth = pd.read_csv(labels).label
    theirs = {"macro_f1": lambda t, s: metrics.f1_score(t, s, average="macro"), "accuracy": metrics.accuracy_score,
        "balanced_accuracy": metrics.balanced_accuracy_score}  # fmt: skip
    own = [theirs[metric](truth, pd.read_csv(f)["class"]) for f in (a, b)]
    (question,) = values["questions"]
    assert values["metric"] == metric and [s["metrics"][metric]["mean"] for s in question["sides"]] == pytest.approx(own)
    assert question["pairs"][0]["difference"] == pytest.approx(own[0] - own[1]) and question["pairs"][0]["winner"] == "a"


def test_one_file_a_side_speaks_of_the_files_and_holds_its_level(tmp_path: Path, capsys) -> None:
    """The interval is over images alone: for pairs of equally good networks it holds zero in 95 of 100."""
    a, b, labels = made(tmp_path)
    (pair,) = judged([a, b, labels], tmp_path, capsys)["questions"][0]["pairs"]
    assert pair["scope"] == "files" and pair["low"] > 0 and "these files" in (tmp_path / "v.html").read_text()
    truth, rng, held = read_labels(labels), np.random.default_rng(3), 0
    for _ in range(200):
        said = [np.where(rng.random(200) < 0.7, truth.labels, (truth.labels + 1) % 3) for _ in "ab"]
        sides = [Side(name=n, files=(n,), said=(s,)) for n, s in zip("ab", said, strict=True)]
        e = judge(truth, *sides, metric="accuracy", resamples=200).pair.decision
        held += e.low <= 0 <= e.high
    assert 181 <= held <= 199, held


def test_groups_are_drawn_whole(tmp_path: Path, capsys) -> None:
    a, b, labels = made(tmp_path)
    values = judged([a, b, labels], tmp_path, capsys)
    assert values["questions"][0]["groups"] == 40 and "column patient" in values["sentences"][1]
    rows = pd.read_csv(labels).rename(columns={"patient": "ward"})
    rows.to_csv(labels, index=False)
    assert judged([a, b, labels], tmp_path, capsys)["questions"][0]["groups"] is None
    assert judged([a, b, labels, "--groups", "ward"], tmp_path, capsys)["questions"][0]["groups"] == 40


def test_test_images_alone_are_judged_where_there_are_splits(tmp_path: Path, capsys) -> None:
    a, b, labels = made(tmp_path)
    rows = pd.read_csv(labels).assign(split=["train", "test"] * 100)
    rows.to_csv(labels, index=False)
    assert judged([a, b, labels], tmp_path, capsys)["questions"][0]["images"] == 100


def test_names_are_found_whatever_folder_they_were_predicted_in(tmp_path: Path, capsys) -> None:
    a, b, labels = made(tmp_path)
    before = judged([a, b, labels], tmp_path, capsys)["questions"][0]["pairs"]
    rows = pd.read_csv(a)
    rows.assign(image="/data/test/" + rows.image).to_csv(a, index=False)
    assert judged([a, b, labels], tmp_path, capsys)["questions"][0]["pairs"] == before


def test_study_predict_s_own_tables_are_read(tmp_path: Path, capsys) -> None:
    """They have the columns image, class, probability, p(CLASS), problem, network."""
    a, b, labels = made(tmp_path)
    before = judged([a, b, labels], tmp_path, capsys)["questions"][0]["pairs"]
    said = pd.read_csv(a)
    shares = {f"p({c})": np.where(said["class"] == c, 0.8, 0.1) for c in ("ash", "oak", "yew")}
    said.assign(probability=0.8, **shares, problem="", network="n").to_csv(a, index=False)
    assert judged([a, b, labels], tmp_path, capsys)["questions"][0]["pairs"] == before
    said.drop(columns="class").assign(**shares, label="ash").to_csv(a, index=False)  # what is true may stand beside probabilities
    assert judged([a, b, labels], tmp_path, capsys)["questions"][0]["pairs"] == before


def test_the_exit_code_says_the_verdict_where_it_is_asked_for(tmp_path: Path, capsys) -> None:
    a, b, labels = made(tmp_path)
    out = ["--out", str(tmp_path / "v.html"), "--exit-code"]
    assert [main([*own, *out]) for own in ([a, b, labels], [b, a, labels], [a, a, labels, "--names", "x", "y"])] == [10, 11, 0]
    made(tmp_path, 0.9, 0.89)
    assert main([a, b, labels, *out]) == 12
    capsys.readouterr()


def test_it_ends_in_seconds_and_loads_no_torch(tmp_path: Path) -> None:
    a, b, labels = made(tmp_path)
    script = (
        "import sys; from analysis.judge.__main__ import main; "
        f"code = main([{a!r}, {b!r}, {labels!r}, '--out', {str(tmp_path / 'v.html')!r}]); "
        "assert not {'torch', 'ray', 'timm', 'mlflow', 'optuna'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done.stderr


# ---- bad input ---------------------------------------------------------------------------------------------------


def changed(path: str, change) -> str:
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
    return path


BAD = {
    "unknown class": (lambda a, b, y: changed(a, lambda t: t.replace({"class": {"ash": "beech"}})), 3, "beech (", "--classes"),
    "image twice": (lambda a, b, y: changed(a, lambda t: pd.concat([t, t.head(1)])), 3, "a.csv:202: 000.jpg stands in", "Keep one"),
    "image missing": (lambda a, b, y: changed(b, lambda t: t.tail(198)), 3, "b.csv: 2 of 200 images", "labels.csv:2"),
    "image too many": (lambda a, b, y: changed(y, lambda t: t.head(198)), 3, "a.csv: 2 of its images are not in", "198.jpg"),
    "other images": (lambda a, b, y: changed(a, lambda t: t.assign(image="x" + t.image)), 3, "200 of 200 images", "Predict them too"),
    "no class": (lambda a, b, y: changed(a, lambda t: t.assign(**{"class": ""})), 3, "a.csv:2: says no class of 000.jpg", "Predict it"),
    "no image": (lambda a, b, y: changed(a, lambda t: t.assign(image="")), 3, "a.csv:2: names no image", "Fill it in"),
    "no label": (lambda a, b, y: changed(y, lambda t: t.assign(label=["", *t.label[1:]])), 3, "labels.csv:2: 000.jpg has no label",
        "Fill"),
    "labelled twice": (lambda a, b, y: changed(y, lambda t: pd.concat([t, t.head(1)])), 3, "labels.csv:202: 000.jpg stands", "Keep one"),
    "one class": (lambda a, b, y: changed(y, lambda t: t.assign(label="oak")), 3, "every image is labelled oak", "nothing to tell"),
    "few images": (lambda a, b, y: changed(y, lambda t: t.head(9)), 3, "9 labelled images", "needs 10"),
    "no columns": (lambda a, b, y: changed(a, lambda t: t.rename(columns={"class": "x", "image": "z"})), 2, "which column is the image",
        "?image="),
    "no class column": (lambda a, b, y: changed(a, lambda t: t.rename(columns={"class": "x"})), 2, "which column is the class", "?label="),
    "a class without probability": (lambda a, b, y: changed(a, lambda t: t.assign(ash=0.1, oak=0.9).drop(columns="class")), 3,
        "no column for yew", "every class"),
    "a strange column": (lambda a, b, y: changed(a, lambda t: t.assign(ash=0.1, oak=0.8, yew=0.1, elm=0).drop(columns="class")), 3,
        "column elm is no class", "--classes"),
    "logits": (lambda a, b, y: changed(a, lambda t: t.assign(ash=-3, oak=8, yew=1).drop(columns="class")), 3, "a.csv:2: ash is '-3'",
        "softmax"),
    "not a number": (lambda a, b, y: changed(a, lambda t: t.assign(ash="nan", oak=0, yew=1).drop(columns="class")), 3,
        "a.csv:2: ash is", "0 to 1"),
    "not there": (lambda a, b, y: Path(a).unlink(), 3, "does not exist", "Give a table of predictions"),
    "one group": (lambda a, b, y: changed(y, lambda t: t.assign(patient="p")), 3, "all images are of one group (patient)", "--groups"),
    "cut short": (lambda a, b, y: Path(a).write_text(Path(a).read_text()[:-6]), 3, "a.csv:201", "cut short"),
    "binary": (lambda a, b, y: Path(a).write_bytes(b"image,class\n\0\0"), 3, "NUL byte", "get it again"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_one_line_with_the_way_out(what: str, tmp_path: Path, capsys) -> None:
    change, code, *said = BAD[what]
    files = made(tmp_path)
    change(*files)
    assert main([*files, "--out", str(tmp_path / "v.html")]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and all(s in err for s in said), err
    assert not (tmp_path / "v.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("A B Y --metric auc", "Unknown metric 'auc'. Choose from auroc, accuracy"),
        ("A B Y --metric auroc", "has no probabilities (image, class), and the metric is of them"),
        ("A B Y --metric f1", "name it, f1:CLASS"),
        ("A B Y --metric f1:elm", "no class is called 'elm'. Choose from"),
        ("A B Y --metric quadratic_kappa", "needs an order of the classes: quadratic_kappa:ash,oak,yew"),
        ("A B Y --metric cost:nowhere.csv", "nowhere.csv: no costs to read"),
        ("A B", "2 files are given. Give A's predictions"),
        ("A B Y A", "4 files are given"),
        ("--a A --b B", "--labels is missing"),
        ("--a A --labels Y", "--b is missing"),
        ("--a A --b B Y X.csv --labels Y", "X.csv does not exist"),
        ("--a A A --b B B --labels Y", "twice. One training counts once"),
        ("A B Y --margin -1", "--margin must be"),
        ("A B Y --margin nan", "--margin must be"),
        ("A B Y --groups label", "is the column of the labels"),
        ("A B Y?label=image", "?image=COLUMN&label=COLUMN"),
        ("A B Y --groups ward", "has no column 'ward'. Choose from"),
        ("A B Y --classes ash oak", "--classes lacks yew"),
        ("A B Y --names x x", "a name of its own"),
        ("A B Y --out Y", "is there already and is no page"),
        ("A?label=nosuch B Y", "has no column 'nosuch'"),
        ("A B .", "is a folder"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_way_out(arguments: str, said: str, tmp_path: Path, capsys, monkeypatch) -> None:
    a, b, y = made(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"A": a, "B": b, "Y": y}
    words = [names.get(w, w.replace("A?", f"{a}?").replace("Y?", f"{y}?")) for w in arguments.split()]
    assert main([*words, *([] if "--out" in words else ["--out", "v.html"])]) in (2, 3)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err, err


def test_names_of_strangers_are_harmless_on_the_page_and_the_terminal(tmp_path: Path, capsys) -> None:
    a, b, labels = made(tmp_path)
    for path in (a, b, labels):
        text = Path(path).read_text()
        Path(path).write_text(text.replace("oak", "<i>\x1b[31m"))
    assert main([a, b, labels, "--names", "<b>A", "B\x1b", "--out", str(tmp_path / "v.html")]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "<i>" not in (tmp_path / "v.html").read_text() and "<b>A" not in (tmp_path / "v.html").read_text()


def test_labels_taken_for_predictions_and_copies_taken_for_repeats_are_said(tmp_path: Path, capsys) -> None:
    a, b, labels = made(tmp_path)
    out = ["--out", str(tmp_path / "v.html")]
    assert main([labels, a, b, *out]) == 2 and "are they the other way round?" in capsys.readouterr().err
    assert main([labels, b, labels, *out]) == 0 and "names every image rightly" in capsys.readouterr().err
    twin = write(tmp_path / "twin.csv", [row.split(",") for row in Path(a).read_text().split()])
    assert main(["--a", a, twin, "--b", b, b + "?label=class", "--labels", labels, *out]) == 0
    assert "Copies of one run are no repeats" in capsys.readouterr().err
