"""Every file a study leaves, every damage, every command: a line that names the file, or the same verdict, or the loss on the report."""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from analysis import compare, report
from analysis.load import load
from analysis.verdict import findings
from analysis.words.panel import title
from study import predict, sweep
from study.measure import __main__ as measure_command
from study.records import Origin, Stage
from study.tracking import __main__ as tracking_command
from study.tracking.ledger import Ledger
from tests import tiny

CODES = {0, 2, 3, 4}


def edited(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    """Return a change of the JSON in a file, or of its first line."""

    def damage(data: bytes) -> bytes:
        first, _, rest = data.partition(b"\n") if b"\n{" in data else (data, b"", b"")
        values = json.loads(first)
        change(values)
        return json.dumps(values).encode() + b"\n" + rest

    return damage


ANYTHING: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda data: None,
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbage": lambda data: b"\x00\x9d\x01\x02" * 64,
    "garbage lines": lambda data: b"garbage\n" * 3,
    "bad UTF-8": lambda data: b'{"a": "\xff\xfe"}\n',
    "a list": lambda data: b"[]\n",
    "an empty object": lambda data: b"{}\n",
    "deep": lambda data: b"[" * 100_000 + b"\n",
    "a huge float": lambda data: b'{"schema": 1e999}\n',
    "a huge integer": lambda data: b'{"schema": ' + b"1" + b"0" * 400 + b"}\n",
}


def other_schema(values: dict) -> None:
    (values["study"] if "study" in values else values)["schema"] = 99


JSON: dict[str, Callable[[bytes], bytes]] = {
    "other schema": edited(other_schema),
    "NaN inside": edited(lambda values: values.update(more=float("nan"))),
    "every value a list": edited(lambda values: values.update(dict.fromkeys(values, []))),
    "every value null": edited(lambda values: values.update(dict.fromkeys(values))),
    "every value huge": lambda data: edited(lambda v: v.update(dict.fromkeys(v, "HUGE")))(data).replace(b'"HUGE"', b"1" + b"0" * 400),
}


def rows(change: Callable[[pd.DataFrame], object]) -> Callable[[bytes], bytes]:
    """Return the same Parquet file with other rows or columns, whatever their types become."""

    def damage(data: bytes) -> bytes:
        frame = pq.read_table(io.BytesIO(data)).to_pandas()
        changed = change(frame)
        frame = changed if isinstance(changed, pd.DataFrame) else frame
        frame["group"] = frame["group"].astype("Int64")  # as it was: pandas takes whole numbers that are missing for floats
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
        return buffer.getvalue()

    return damage


def logit(value: float) -> Callable[[pd.DataFrame], None]:
    def change(frame: pd.DataFrame) -> None:
        frame["logits"] = [np.r_[value, np.asarray(row)[1:]].astype("float32") for row in frame["logits"]]

    return change


PARQUET: dict[str, Callable[[bytes], bytes]] = {
    "NaN logits": rows(logit(float("nan"))),
    "infinite logits": rows(logit(float("inf"))),
    "no labels": rows(lambda f: f.drop(columns="label")),
    "labels as texts": rows(lambda f: f.assign(label=f.label.astype(str))),
    "labels shifted": rows(lambda f: f.assign(label=(f.label + 1) % 10)),
    "labels beyond the classes": rows(lambda f: f.assign(label=f.label + 5)),
    "labels below 0": rows(lambda f: f.assign(label=f.label - 1)),
    "40 rows fewer": rows(lambda f: f.iloc[:-40]),
    "no rows": rows(lambda f: f.iloc[:0]),
    "an image twice": rows(lambda f: pd.concat([f, f.iloc[-1:]])),
    "other images": rows(lambda f: f.assign(image=f.image + "x")),
    "no test": rows(lambda f: f[f.split == "val"]),
    "an unknown split": rows(lambda f: f.assign(split=f.split.replace("val", "train"))),
    "other classes": rows(lambda f: f.assign(logits=[np.r_[r, -9.0].astype("float32") for r in f.logits])),
    "logits of two widths": rows(lambda f: f.assign(logits=[r[: 10 - (k == 0)] for k, r in enumerate(f.logits)])),
    "logits as texts": rows(lambda f: f.assign(logits="0.5")),
    "some groups": rows(lambda f: f.assign(group=pd.array([1, *[None] * (len(f) - 1)], "Int64"))),
    "images as numbers": rows(lambda f: f.assign(image=range(len(f)))),
    "an image without a name": rows(lambda f: f.assign(image=[None, *f.image[1:]])),
}

STUDY = ("study.json", "selection.json", "test_lock.json", "data_report.json", ".lock", "mlflow.json")
TRIAL = ("config.json", "epochs.jsonl", "result.json", "attempts.jsonl")
BEST = ("best/manifest.json", "best/config.json", "best/model.safetensors")
FILES = (
    *STUDY,
    *(f"confirm/{name}" for name in (*TRIAL, "measured/predictions.parquet", *BEST)),
    *(f"search/{name}" for name in (*TRIAL, *BEST)),
)
UNREAD = {f for f in FILES if "/best/" in f or "attempts" in f} | {".lock", "mlflow.json"}  # by a report
OURS_NOT = {".lock", "mlflow.json"}  # not left by this study: anything may lie there


class Case(NamedTuple):
    file: str
    damage: str

    def __str__(self) -> str:
        return f"{self.file}-{self.damage}".replace(" ", "_")


def damages(file: str) -> dict[str, Callable[[bytes], bytes | None]]:
    kinds = {".parquet": PARQUET, ".safetensors": {}}.get(Path(file).suffix, {} if file in OURS_NOT else JSON)
    return {**ANYTHING, **kinds}


CASES = [Case(file, damage) for file in FILES for damage in damages(file)]
rng = random.Random(8)


def some(share: float, always: tuple[str, ...] = ()) -> list:
    """Return all cases, where those not drawn are slow ones. `always` names files of which every case is drawn."""
    drawn = {c for c in CASES if rng.random() < share or c.file in always}
    return [pytest.param(c, id=str(c), marks=() if c in drawn else pytest.mark.slow) for c in CASES]


RUNS = 6
"""The number of confirm runs that decide the study between its one strategy and the line to beat."""


class Done(NamedTuple):
    root: Path  # holds my_study.py, image.png, results/tiny
    verdict: list[str]
    warnings: set[str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    root = tmp_path_factory.mktemp("whole")
    study = tiny.write(root, ("linear_probe",), trials=2, seeds=RUNS)
    with contextlib.redirect_stdout(io.StringIO()):
        assert sweep.main([str(study), "--local", "--mlflow", "off", "--results", str(root / "results")]) == 0
    shutil.rmtree(root / "results/tiny/tables")
    Image.fromarray(np.full((40, 40), 99, np.uint8)).save(root / "image.png")
    found = findings(load(str(root / "results")))
    assert "features beats linear_probe" in found.sentences[0].text, "a verdict that damage could move"
    return Done(root, [text for a in found.answers for text in (f"== {title(a)} ==", a.do, *a.why)], set(found.warnings))


@pytest.fixture
def copy(done: Done, tmp_path: Path) -> Path:
    """Return the same study with its files linked, since damage replaces a file and never writes into one."""
    shutil.copytree(done.root, tmp_path / "w", copy_function=os.link)
    return tmp_path / "w"


def place(root: Path, case: Case) -> tuple[Path, str]:
    """Return (the file, its trial's id): of the first confirm run that was trained, or of the trial chosen for its cell."""
    ledger = Ledger(root / "results", "tiny")
    ask = next(a for a in ledger.asks(Stage.CONFIRM) if a.origin is not Origin.LINE)
    kind, _, name = case.file.partition("/")
    trial = ask.trial_id if kind != "search" else ledger.selection()["chosen"][ask.cell]
    folder = root / "results/tiny"
    return (folder / "trials" / trial / name if name and kind in ("confirm", "search") else folder / case.file), trial


def damage(root: Path, case: Case) -> tuple[Path, str]:
    path, trial = place(root, case)
    data = damages(case.file)[case.damage](path.read_bytes() if path.exists() else b"{}")
    path.unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)
    return path, trial


class Ended(NamedTuple):
    code: int
    out: str
    error: str

    @property
    def warnings(self) -> set[str]:
        return {line.removeprefix("warning: ") for line in self.error.splitlines() if line.startswith("warning: ")}


def run(main: Callable[[list[str]], int], *arguments: object) -> Ended:
    """Run a command. A traceback fails the test by itself."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main([str(a) for a in arguments])
    return Ended(code, out.getvalue(), error.getvalue())


def local_in(root: Path) -> tuple:
    return "--local", "--mlflow", "off", "--results", root / "results"


def check_end(ended: Ended, path: Path, codes: set[int] = CODES) -> None:
    """Check that the output is one line that names the file, or at least its folder, or none, and nothing that a terminal would obey."""
    lines = [line for line in ended.error.splitlines() if line.startswith("error:")]
    assert ended.code in codes and len(lines) == (ended.code in (2, 3, 4)), ended
    assert "Traceback" not in ended.error
    if lines:
        named = {str(path), *(str(p) for p in path.parents if "results" in str(p))}
        assert any(n in lines[0] for n in named), lines[0]
        assert lines[0].isprintable()


def check_verdict(root: Path, done: Done, ended: Ended, warned: set[str]) -> None:
    """Check that the verdict is that of the whole study, or that a line says why it is not."""
    if ended.code == 0 and any(line not in " ".join(ended.out.split()) for line in done.verdict):
        assert warned - done.warnings, f"a verdict changed in silence: {ended.out}"


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Draw no figure except the one whose rows are in the verdict's JSON."""
    monkeypatch.setattr(report, "FIGURES", tuple(f for f in report.FIGURES if f.name == "class_differences"))


@pytest.mark.parametrize("case", some(0.05, tuple(f for f in FILES if f not in UNREAD)))
def test_a_report(case: Case, copy: Path, done: Done, no_figures: None) -> None:
    path, _ = damage(copy, case)
    ended = run(report.main, copy / "results", "--out", copy / "r.html")
    check_end(ended, path)
    check_verdict(copy, done, ended, ended.warnings)
    assert (copy / "r.html").exists() == (ended.code == 0)


@pytest.mark.parametrize("case", some(0.015))
def test_a_report_with_figures_and_tables(case: Case, copy: Path, done: Done) -> None:
    path, _ = damage(copy, case)
    ended = run(report.main, copy / "results", "--out", copy / "r.html", "--tables", copy / "t")
    check_end(ended, path)
    check_verdict(copy, done, ended, ended.warnings)


@pytest.mark.parametrize("case", some(0.04))
def test_two_studies_compared(case: Case, copy: Path, done: Done) -> None:
    path, _ = damage(copy, case)
    ended = run(compare.main, copy / "results/tiny", copy / "results/tiny", "--out", copy / "c.html")
    check_end(ended, path)


@pytest.mark.parametrize("case", some(0.025))
def test_a_sweep_that_resumes(case: Case, copy: Path, done: Done) -> None:
    """Lost files may be trained again, and then the verdict is the old one."""
    path, _ = damage(copy, case)
    ended = run(sweep.main, copy / "my_study.py", *local_in(copy))
    check_end(ended, path, CODES | ({4} if path.name == ".lock" else set()))
    if ended.code == 0:
        found = findings(load(str(copy / "results")))
        check_verdict(copy, done, ended, set(found.warnings))
        assert len(Ledger(copy / "results", "tiny").asks()) == 2 + 2 * RUNS, "nothing was asked twice"


@pytest.mark.parametrize("case", some(0.015))
def test_a_dry_run(case: Case, copy: Path) -> None:
    path, _ = damage(copy, case)
    before = {p: p.stat().st_mtime_ns for p in (copy / "results").rglob("*")}
    check_end(run(sweep.main, copy / "my_study.py", "--dry-run", "--results", copy / "results"), path)
    assert {p: p.stat().st_mtime_ns for p in (copy / "results").rglob("*")} == before, "nothing is written"


@pytest.mark.parametrize("case", some(0.03, ("confirm/best/manifest.json",)))
def test_a_prediction(case: Case, copy: Path) -> None:
    path, trial = damage(copy, case)
    ended = run(predict.main, copy / "results/tiny/trials" / trial, copy / "image.png")
    check_end(ended, path)
    assert "nan" not in ended.out


@pytest.mark.parametrize("case", some(0.02))
def test_a_measurement(case: Case, copy: Path, done: Done) -> None:
    path, _ = damage(copy, case)
    ended = run(measure_command.main, copy / "results/tiny", "predictions")
    if ended.code == 5:
        assert ended.warnings and "Traceback" not in ended.error, ended
    else:
        check_end(ended, path)


@pytest.mark.parametrize("case", some(0.01))
def test_a_mirror(case: Case, copy: Path) -> None:
    path, _ = damage(copy, case)
    ended = run(tracking_command.main, "sync", copy / "results/tiny", "--mlflow", f"sqlite:///{copy}/m.db")
    if ended.code == 4 and "error:" not in ended.error:
        assert "pending: " in ended.out and "Traceback" not in ended.out + ended.error, ended
    else:
        check_end(ended, path)


def trials_of(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the trials, the trained ones first, the line to beat last."""
    for ask in sorted(Ledger(root / "results", "tiny").asks(Stage.CONFIRM), key=lambda a: a.origin is Origin.LINE):
        yield ask.trial_id, root / "results/tiny/trials" / ask.trial_id


@pytest.mark.parametrize(
    ("lost", "said"),
    [("", "its folder is gone"), ("result.json", "no result.json"), ("measured/predictions.parquet", "no predictions")],
    ids=["folder", "result", "predictions"],
)
def test_a_confirm_run_that_is_gone_is_named_with_its_cell(lost: str, said: str, copy: Path, no_figures: None) -> None:
    trial, folder = next(trials_of(copy))
    cell = Ledger(copy / "results", "tiny").ask(trial).cell
    (folder / lost).unlink() if lost else shutil.rmtree(folder)
    ended = run(report.main, copy / "results", "--out", copy / "r.html")
    assert ended.code == 0 and f"{cell}: {RUNS - 1} of {RUNS} confirm runs count ({trial}: {said})" in ended.warnings, ended
    assert f"{RUNS - 1} of {RUNS} confirm runs count ({trial}: {said})" in (copy / "r.html").read_text()


@pytest.mark.parametrize(
    ("lost", "said"), [("", "its folder is gone"), ("measured/predictions.parquet", "no predictions")], ids=["folder", "predictions"]
)
def test_a_run_of_the_line_to_beat_that_is_gone_is_named(lost: str, said: str, copy: Path, no_figures: None) -> None:
    *_, (trial, folder) = trials_of(copy)
    (folder / lost).unlink() if lost else shutil.rmtree(folder)
    ended = run(report.main, copy / "results", "--out", copy / "r.html")
    assert ended.code == 0 and f"{trial}, which the test set was opened for, does not count: {said}" in ended.warnings, ended


def test_damaged_predictions_name_the_way_out_and_it_leads_there(copy: Path, done: Done, no_figures: None) -> None:
    path, _ = damage(copy, Case("confirm/measured/predictions.parquet", "NaN logits"))
    ended = run(report.main, copy / "results", "--out", copy / "r.html")
    assert ended.code == 4 and f"{path} is damaged (logits in it are not finite)" in ended.error
    assert f"run python -m study.measure {copy}/results/tiny predictions --again." in ended.error
    assert run(measure_command.main, copy / "results/tiny", "predictions", "--again").code == 0
    ended = run(report.main, copy / "results", "--out", copy / "r.html")
    assert ended.code == 0 and done.verdict[0] in " ".join(ended.out.split())


@pytest.mark.parametrize("kind", ["labels shifted", "40 rows fewer", "other images", "other classes"])
def test_the_one_run_on_other_images_is_named(kind: str, copy: Path, no_figures: None) -> None:
    """This holds whichever of them it is, since the others agree."""
    for trial, folder in trials_of(copy):
        path = folder / "measured/predictions.parquet"
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(PARQUET[kind](whole))
        ended = run(report.main, copy / "results", "--out", copy / "r.html")
        assert ended.code == 4 and f"{path} holds other" in ended.error and "of the same question (digits" in ended.error, (trial, ended)
        path.write_bytes(whole)


def test_names_reach_a_terminal_as_text(copy: Path) -> None:
    """The names are a class and a line of warning that would ring, colour or move the cursor."""
    trial, folder = next(trials_of(copy))
    manifest = json.loads((folder / "best/manifest.json").read_text())
    manifest |= {"classes": [f"\x1b[31m{k}\a\n" for k in range(10)]}
    said = {k: v for k, v in manifest.items() if k not in ("bytes", "sha256")}
    weights = save(load_tensors((folder / "best/model.safetensors").read_bytes()), {"kept": json.dumps(said)})
    manifest |= {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    for name, data in (("model.safetensors", weights), ("manifest.json", json.dumps(manifest).encode())):
        (folder / "best" / name).unlink()
        (folder / "best" / name).write_bytes(data)
    ended = run(predict.main, folder, copy / "image.png")
    assert ended.code == 2 and ended.out == "" and "not names that differ and that a terminal can show" in ended.error
    assert all(c.isprintable() or c == "\n" for c in ended.error), ended.error
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").unlink()
    (folder / "result.json").write_text(json.dumps({**result, "outcome": "failed", "reason": "\x1b[2J\rgone\n"}))
    for command in ((report.main, copy / "results", "--out", copy / "r.html"), (sweep.main, copy / "my_study.py", *local_in(copy))):
        ended = run(*command)
        assert ended.code == 0 and all(c.isprintable() or c == "\n" for c in ended.out + ended.error), ended
        if command[0] is report.main:
            assert f"{trial}: failed, \\x1b[2J\\rgone\\n" in ended.error, ended
