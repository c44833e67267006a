"""The page: golden tables, a real browser, names that are shown and never run, sources that are bad, ten thousand trials."""

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis import report
from analysis.figures import FIGURES
from analysis.load import load
from analysis.page.write import csv_bytes
from analysis.words.protocol import protocol
from study.question.training_settings import Protocol
from study.records import Outcome
from study.tracking.ledger import Ledger
from tests.browser import page
from tests.edited import edit_config
from tests.goldens import GOLDEN, TABLES, on_folder, widened
from tests.planted import synthetic
from tests.test_figures import NEEDS_MORE


def test_golden_tables_to_the_byte(tmp_path: Path) -> None:
    """Run `make golden` to write them anew, when numbers are meant to change."""
    report.write_report(str(GOLDEN), tmp_path / "r.html", tables=str(tmp_path / "t"))
    expected = {p.name: p.read_bytes() for p in TABLES.iterdir()}
    assert {p.name for p in (tmp_path / "t").iterdir()} == set(expected)
    for name, data in expected.items():
        assert (tmp_path / "t" / name).read_bytes() == data, name


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(dark: bool, tmp_path: Path) -> None:
    """Every figure is drawn, nothing is asked of the network, the console is silent, the contents work by keyboard."""
    report.write_report(str(GOLDEN), tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 8e6
    with page(dark=dark) as p:
        p.goto((tmp_path / "r.html").as_uri())
        p.wait_for_timeout(1500)
        p.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        p.wait_for_timeout(1500)
        assert p.locator(".plotly-graph-div .main-svg").count() >= len(FIGURES) - len(NEEDS_MORE)
        assert p.locator("#figure-importance").count() == 0 and "mattered in the search: Needs" in p.locator("#protocol").inner_text()
        assert p.requests_seen == [] and p.problems_seen == []
        buttons = p.evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
        assert "Download plot as a PNG" in buttons
        assert [b for b in buttons if any(w in b.lower() for w in ("share", "cloud", "studio", "edit", "send", "upload"))] == []
        p.keyboard.press("Tab")
        assert p.evaluate("document.activeElement.getAttribute('href')") == "#answer"
        p.click("#theme")
        assert p.evaluate("document.documentElement.dataset.theme") == ("light" if dark else "dark")
        assert p.problems_seen == []


XSS = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "\"><svg onload=alert(1)>",
    "javascript:alert(1)", "{{7*7}}", "${alert(1)}", "<a href='http://evil.example'>x</a>", "';alert(1)//", "<b>bold</b>",
    "\u2028alert(1)", "=cmd|'/c calc'!A0"]  # fmt: skip


def test_X5_names_from_the_data_are_shown_never_run(copy: Ledger, tmp_path: Path) -> None:
    for k, trial in enumerate(copy.folder.names("trials")):
        result = copy.result(trial)
        assert result is not None
        classes = [XSS[i % len(XSS)] for i in range(len(result.classes))]
        reason = XSS[k % len(XSS)]
        outcome = Outcome.FAILED if k == 0 else result.outcome
        copy.write_result(dataclasses.replace(result, classes=classes, outcome=outcome, reason=reason))
    copy.add_facts(command=XSS[0], data_warnings=list(XSS), commit=XSS[1])
    report.write_report(copy, tmp_path / "r.html", tables=str(tmp_path / "t"))
    with page() as p:
        p.goto((tmp_path / "r.html").as_uri())
        p.wait_for_timeout(1500)
        assert p.requests_seen == [] and p.problems_seen == []
        shown = p.locator(".warnings li").all_text_contents()
        assert [x for x in XSS if x.strip() not in "\n".join(shown)] == []
        assert p.evaluate("document.querySelectorAll('.warnings b, .warnings img, svg a').length") == 0


def test_X6_tables_cannot_make_a_spreadsheet_run() -> None:
    cells = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\0x", "fine"]
    table = pd.DataFrame({"text": cells, "number": [-1.5, 1 / 3, 1e-300, 2.0, -0.0, 5.0, 6.0, 7.0]})
    back = pd.read_csv(io.BytesIO(csv_bytes(table).replace(b"\0", b"")), keep_default_na=False)
    assert all(t.startswith("'") for t in back.text[:7]) and back.text[7] == "fine"
    assert back.number.tolist() == table.number.tolist()


def test_X2_pickles_in_the_results_are_never_opened(copy: Ledger, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "marker"), "w"))

    for name in ("tuner.pkl", "error.pkl", "experiment_state-x.json"):
        Path(copy.folder.path(name)).write_bytes(pickle.dumps(Evil()))
    report.write_report(copy, tmp_path / "r.html")
    assert not (tmp_path / "marker").exists()


def test_K19_a_study_whose_trials_all_diverged_has_a_page_that_says_so(copy: Ledger, tmp_path: Path) -> None:
    for trial in copy.folder.names("trials"):
        if copy.ask(trial).stage == "confirm":
            copy.folder.remove(f"trials/{trial}")
        else:
            copy.write_result(
                dataclasses.replace(
                    copy.result(trial), outcome=Outcome.DIVERGED, metrics={}, best_epoch=None, val=None, reason="loss became nan"
                )
            )
    copy.write_selection("rule", {}, 0)
    summary = report.write_report(copy, tmp_path / "r.html")
    assert "no finished trial" in summary.verdicts[0] and "loss became nan" in (tmp_path / "r.html").read_text()


def test_an_unfinished_study_is_marked_and_one_seed_claims_nothing(copy: Ledger, tmp_path: Path) -> None:
    values = json.loads(Path(widened(copy).folder.path("study.json")).read_text())
    del values["facts"]["finished_at"]
    Path(copy.folder.path("study.json")).write_text(json.dumps(values))
    for ask in copy.asks("confirm"):
        if ask.number > 0:
            copy.folder.remove(f"trials/{ask.trial_id}")
    summary = report.write_report(copy, tmp_path / "r.html")
    assert summary.in_progress and "in progress" in (tmp_path / "r.html").read_text()
    assert "One run" in summary.verdicts[0] and "beats" not in summary.verdicts[0]
    assert "interval contains" not in summary.verdicts[0], "there is none"


@pytest.mark.parametrize("what", ["missing", "empty", "schema"])
def test_bad_sources_are_one_line(what: str, copy: Ledger, tmp_path: Path, capsys) -> None:
    source = {"missing": "/nowhere", "empty": str(tmp_path), "schema": str(copy.folder.root)}[what]
    if what == "empty":
        shutil.rmtree(tmp_path / "results")
    if what == "schema":
        text = Path(copy.folder.path("study.json")).read_text().replace('"schema": 1', '"schema": 7')
        Path(copy.folder.path("study.json")).write_text(text)
    assert report.main([source, "--out", str(tmp_path / "r.html")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and not (tmp_path / "r.html").exists()


def test_W10_reading_while_a_sweep_writes(copy: Ledger, tmp_path: Path) -> None:
    trial = copy.asks()[0].trial_id
    path = Path(copy.folder.path(f"trials/{trial}/epochs.jsonl"))
    whole = path.read_bytes()
    for cut in range(1, len(whole), max(len(whole) // 12, 1)):
        path.write_bytes(whole[:cut])
        assert len(load(copy).trials) == len(copy.asks())


def test_a_folder_may_be_named_as_sentences_are_written(copy: Ledger, tmp_path: Path) -> None:
    on_folder(widened(copy), "/long/way/to/a: b; c")
    (line,) = report.write_report(copy, tmp_path / "r.html", tables=str(tmp_path / "t")).verdicts
    head = "partial beats linear_probe by at least 1 point"
    assert line.startswith(f"a: b; c, efficientnet_lite0: {head} (+12.9 points of macro-F1")
    with page() as p:
        p.goto((tmp_path / "r.html").as_uri())
        assert p.locator(".verdict .question").all_text_contents() == ["a: b; c, efficientnet_lite0"]
        assert p.locator(".verdict .head").all_text_contents() == [f"✓ Decided {head}"]
        assert p.locator(".steps li").all_text_contents()[0].startswith("Take partial")
        (beside,) = p.locator(".each li").all_text_contents()
        assert beside.startswith(f"{head}: +12.9") and p.locator("#pairs td:last-child").all_text_contents() == [head]
    assert pd.read_csv(tmp_path / "t" / "figure_cost.csv").question.unique().tolist() == ["a: b; c, efficientnet_lite0"]


def test_a_trial_asked_for_before_a_field_existed_ran_with_its_default(copy: Ledger) -> None:
    trial = edit_config(Path(copy.folder.location), copy.asks()[0].trial_id, lambda c: c["recipe"].pop("label_smoothing"))
    trials = load(copy).trials.set_index("trial_id")
    assert trials.at[trial, "hp/label_smoothing"] == 0.1 and trials["hp/label_smoothing"].notna().all()


def test_measurements_of_all_trials_are_one_frame(copy: Ledger) -> None:
    frames = load(copy)
    said = frames.measured("predictions")
    assert set(said.trial_id) == set(frames.confirmed().trial_id) and len(said) == 6 * 720
    assert frames.measured("cka").empty
    one, other = frames.confirmed().trial_id[:2]
    buffer = io.BytesIO()
    pd.DataFrame({"stage": [1, 2], "cka": [0.5, 1.0]}).to_parquet(buffer)
    for trial in (one, other):
        copy.folder.write(f"trials/{trial}/measured/cka.parquet", buffer.getvalue())
    assert load(copy).measured("cka").groupby("trial_id").cka.sum().to_dict() == {one: 1.5, other: 1.5}


@pytest.mark.slow
def test_ten_thousand_trials_load_and_report(tmp_path: Path) -> None:
    """It checks behaviour. `python -m benchmarks.scale` measures seconds and bytes."""
    synthetic(tmp_path, 10_000)
    command = [sys.executable, "-m", "analysis.report", f"{tmp_path}/big", "--out", f"{tmp_path}/r.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.html").stat().st_size < 12e6


OTHER = {
    "max_epochs": 77, "warmup_epochs": 0.25, "batch_size": 48, "image_size": 61, "precision": "bf16", "batch_norm": "freeze",
    "grad_clip": 3.5,
    "workers": 4, "views": 9, "train_eval_images": 771, "optimizer": "sgd", "wrong_labels": 0.25, "min_steps": 333, "keep": "last",
    "schedule": "wsd", "fit": "pad", "metric": "accuracy",
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Protocol)])
def test_what_the_page_says_of_training_is_the_studys_own(name: str) -> None:
    """Another value of a field of the protocol makes another protocol on the page."""
    frames = load(str(GOLDEN))
    other = {name: OTHER[name]} | ({"batch_size": 48} if name == "workers" else {})
    assert getattr(frames.study.protocol, name) != OTHER[name]
    changed = dataclasses.replace(
        frames, study=dataclasses.replace(frames.study, protocol=dataclasses.replace(frames.study.protocol, **other))
    )
    assert protocol(changed) != protocol(frames)
    if name == "optimizer":
        assert "AdamW" in str(protocol(frames)) and "AdamW" not in str(protocol(changed))
