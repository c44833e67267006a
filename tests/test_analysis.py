"""The verdict's numbers recomputed by other means, the page in a real browser, ten thousand trials, bad input."""

import dataclasses
import io
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from analysis import compare, report, theme
from analysis.comparisons import Compared
from analysis.export import csv_bytes
from analysis.figures import FIGURES, cost, importance, parallel, slices, strategies, tuning_curves
from analysis.intervals import Estimate, Part
from analysis.judged import judge
from analysis.load import load
from analysis.question import Question
from analysis.sentences import Sentence, sentences
from analysis.steps import extend
from analysis.verdict import findings
from analysis.warnings import warnings
from study.config import Protocol, Study, TrialConfig, grid
from study.records import Ask, ClassScores, EpochRecord, Outcome, TrialResult
from study.search.seeds import seed_for
from study.space import Log
from study.tracking.ledger import Ledger
from tests.browser import page
from tests.planted import plant

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "study"


@pytest.fixture
def copy(tmp_path: Path) -> Ledger:
    shutil.copytree(GOLDEN, tmp_path / "results")
    return Ledger(tmp_path / "results", "golden")


def test_golden_tables_to_the_byte(tmp_path: Path) -> None:
    """`make golden` writes them anew, when numbers are meant to change."""
    report.write_report(str(GOLDEN), tmp_path / "r.html", tables=str(tmp_path / "t"))
    expected = {p.name: p.read_bytes() for p in (HERE / "golden" / "tables").iterdir()}
    assert {p.name for p in (tmp_path / "t").iterdir()} == set(expected)
    for name, data in expected.items():
        assert (tmp_path / "t" / name).read_bytes() == data, name


def test_scores_are_those_of_scikit_learn_on_the_parquet_files(tmp_path: Path) -> None:
    """An independent road: pandas reads the files, scikit-learn scores them; equal to 1e-9."""
    report.write_report(str(GOLDEN), tmp_path / "r.html", tables=str(tmp_path / "t"))
    seeds = pd.read_csv(tmp_path / "t" / "seeds.csv")
    strategies = pd.read_csv(tmp_path / "t" / "strategies.csv")
    found: dict[tuple[str, int, str], float] = {}
    for path in (GOLDEN / "golden" / "trials").glob("*/predictions.parquet"):
        config = json.loads((path.parent / "config.json").read_text())["config"]
        frame = pd.read_parquet(path)
        test = frame[frame.split == "test"]
        truth, said = test.label.to_numpy(), np.stack(test.logits.to_numpy()).argmax(axis=1)
        for name, average in (
            ("macro_f1", metrics.f1_score),
            ("macro_precision", metrics.precision_score),
            ("macro_recall", metrics.recall_score),
        ):
            found[config["cell"]["strategy"], config["seed"], name] = average(
                truth, said, average="macro", labels=np.unique(truth), zero_division=0
            )
        found[config["cell"]["strategy"], config["seed"], "accuracy"] = metrics.accuracy_score(truth, said)
    assert len(seeds) == len(found) == 2 * 3 * 4
    for row in seeds.to_dict("records"):
        assert row["score"] == pytest.approx(found[row["strategy"], row["seed"], row["metric"]], abs=1e-9)
    for row in strategies.to_dict("records"):
        own = [v for (s, _, m), v in found.items() if (s, m) == (row["strategy"], row["metric"])]
        assert row["mean"] == pytest.approx(np.mean(own), abs=1e-9) and row["sd_seeds"] == pytest.approx(np.std(own, ddof=1), abs=1e-9)
    pairs = pd.read_csv(tmp_path / "t" / "pairs.csv")
    (pair,) = pairs.to_dict("records")
    by_seed = {s: np.array([found[s, k, "macro_f1"] for k in sorted({k for _, k, _ in found})]) for s in (pair["a"], pair["b"])}
    difference = by_seed[pair["a"]] - by_seed[pair["b"]]
    assert pair["difference"] == pytest.approx(difference.mean(), abs=1e-9)
    a, b = pair["se_runs"] ** 2, pair["se_images"] ** 2
    spreads = [by_seed[s].var(ddof=1) / 3 for s in (pair["a"], pair["b"])]
    assert a == pytest.approx(sum(spreads), abs=1e-12)
    welch = sum(spreads) ** 2 / sum(v**2 / 2 for v in spreads)
    quantile = (a * stats.t.ppf(0.975, welch) + b * stats.t.ppf(0.975, int(strategies.units.iloc[0]) - 1)) / (a + b)
    assert pair["high"] - pair["difference"] == pytest.approx(quantile * np.sqrt(a + b), abs=1e-9)


def test_other_metrics_have_differences_and_no_verdict(tmp_path: Path) -> None:
    """The intervals are not much narrower than scipy's Welch intervals, which know nothing of the images."""
    report.write_report(str(GOLDEN), tmp_path / "r.html", tables=str(tmp_path / "t"))
    others, seeds = (pd.read_csv(tmp_path / "t" / f"{n}.csv") for n in ("pairs_secondary", "seeds"))
    assert set(others.metric) == {"accuracy", "macro_precision", "macro_recall"} and not {"verdict", "p", "p_holm"} & set(others)
    for row in others.to_dict("records"):
        a, b = (seeds[(seeds.strategy == row[s]) & (seeds.metric == row["metric"])].score for s in "ab")
        welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
        assert row["difference"] == pytest.approx(a.mean() - b.mean())
        assert row["high"] - row["low"] > 0.8 * (welch.high - welch.low) and row["low"] < row["difference"] < row["high"]
    with page() as p:
        p.goto((tmp_path / "r.html").as_uri())
        assert not p.locator("#secondary table").is_visible()
        p.click("#secondary summary")
        assert p.locator("#secondary tbody tr").count() == 3 and "unadjusted" in p.locator("#secondary").inner_text()


ELSEWHERE = Question(dataset="made_up", splits="official", backbone="resnet18", train_fraction=1.0)
NAMES = ("partial", "full", "linear_probe")


def made_up(differences: dict[tuple[str, str], float], sd: float, collapses: tuple[str, ...] = (), searches: int = 1, **facts) -> Sentence:
    """The sentence on strategies that differ so, in points; `sd`: of one run of each, in points; five runs (or searches)."""
    frames = load(GOLDEN.as_posix())
    frames = dataclasses.replace(frames, facts={**frames.facts, **facts})
    part = Part(variance=(sd / 100) ** 2 / 5, df=4, count=5)
    compared = [
        Compared(
            question=ELSEWHERE,
            a=a,
            b=b,
            estimate=Estimate(
                mean=points / 100,
                runs=(part, part),
                images=Part(variance=0.001**2, df=3499, count=3500),
                unit="search" if searches > 1 else "run",
                searches=searches,
                resampled=3500,
            ),
            seeds=5,
            collapses=collapses,
        )
        for (a, b), points in differences.items()
    ]
    means = [{**ELSEWHERE.columns, "strategy": s, "metric": "macro_f1", "mean": 0.9 - k / 10} for k, s in enumerate(NAMES)]
    names = {s for pair in differences for s in pair}
    (sentence,) = sentences(judge(compared, frames), pd.DataFrame([m for m in means if m["strategy"] in names]), frames)
    return sentence


@pytest.mark.parametrize(
    ("points", "sd", "mark", "head"),
    [
        (12.0, 1.0, "decided", "partial beats full by at least 1 point"),
        (-12.0, 1.0, "decided", "full beats partial by at least 1 point"),
        (2.0, 1.0, "decided", "partial is better than full; whether by 1 point is open"),
        (0.5, 0.2, "equal", "partial is better than full, by less than is worth having (1 point)"),
        (0.0, 0.2, "equal", "No difference worth 1 point between partial and full"),
        (2.0, 4.0, "open", "Undecided between partial and full"),
    ],
)
def test_verdicts_in_words(points: float, sd: float, mark: str, head: str) -> None:
    found = made_up({("partial", "full"): points}, sd)
    assert (found.mark, found.head) == (mark, head)
    assert found.text.startswith(f"made_up, resnet18: {head} (") and found.text.count("\n") == 0
    assert "another search may choose otherwise" in found.scope and "macro-F1" in found.numbers


def test_a_verdict_that_may_not_be_given_says_why() -> None:
    found = made_up({("partial", "full"): 12.0}, 1.0, collapses=("of full, 1 of 5 runs collapsed",))
    assert (found.mark, found.head) == ("open", "Not comparable: of full, 1 of 5 runs collapsed")
    assert "beats" not in found.text and found.steps[0].command.endswith(" --confirm-seeds 10")


def test_many_strategies_have_one_headline() -> None:
    pairs = {("partial", "full"): 0.0, ("partial", "linear_probe"): 10.0, ("full", "linear_probe"): 10.0}
    assert made_up(pairs, 0.1).head == "No difference worth 1 point between partial and full; linear_probe is worse"
    assert made_up(pairs, 3.0).head == "Undecided between partial and full; linear_probe is worse"
    assert made_up({**pairs, ("partial", "full"): 9.0}, 0.5).head == "partial beats full and linear_probe by at least 1 point"


def test_what_would_decide_is_said_with_the_command_that_extends_the_study() -> None:
    command = "python -m study.sweep pilot --confirm-seeds 3 --local"
    found = made_up({("partial", "full"): 2.0}, 1.6, command=command)
    (step,) = [s for s in found.steps if "80 %" in s.text]
    more = int(step.text.split()[0])
    assert step.command == f"python -m study.sweep pilot --local --confirm-seeds {3 + more}" and step.command in found.text
    hopeless = made_up({("partial", "full"): 0.9}, 8.0)
    (step,) = [s for s in hopeless.steps if "80 %" in s.text]
    assert step.text.startswith("Not even 100 more seeds") and not step.command


def test_a_study_that_has_grown_is_extended_by_its_folder() -> None:
    """Its first command asks for the study as it was, which is refused."""
    frames = load(GOLDEN.as_posix())
    for first, said in (
        ("pilot --data '/my data' --trials 6 --results=out/ --local --strategies full partial", "out/golden --data '/my data' --local"),
        ("my.py:A --mlflow http://x:1 --concurrent 2 --confirm-seeds 3", "results/golden --mlflow http://x:1 --concurrent 2"),
        ("it's.py --local", "results/golden --local"),
    ):
        facts = {**frames.facts, "command": f"python -m study.sweep {first}"}
        grown = dataclasses.replace(frames, facts=facts, amendments=[{"at": 1.0, "changes": ["trials: 4 -> 6"], "test_open": True}])
        assert extend(grown, 8) == f"python -m study.sweep {said} --confirm-seeds 8"


def test_repeated_searches_speak_of_strategies() -> None:
    scope = made_up({("partial", "full"): 12.0}, 1.0, searches=5).scope
    assert "5 searches, seeds and test images; one training set" in scope and "may choose otherwise" not in scope


def test_later_looks_are_held_to_a_stricter_level(copy: Ledger) -> None:
    once = findings(load(copy), 50).pairs.iloc[0]
    copy.open_test(["0" * 16])
    frames = load(copy)
    twice = findings(frames, 50)
    assert twice.pairs.simultaneous_high[0] > once.simultaneous_high and twice.pairs.high[0] == once.high
    assert any("opened 2 times" in w and "1.2 %" in w for w in twice.warnings)


def test_confirm_runs_belong_to_searches_in_turn(copy: Ledger) -> None:
    frames = load(copy)
    repeated = dataclasses.replace(frames.study, searches=2)
    found = findings(dataclasses.replace(frames, study=repeated), 50)
    assert set(found.strategies.searches) == {2} and found.pairs.scope[0] == "strategies"
    own = found.seeds[(found.seeds.strategy == "partial") & (found.seeds.metric == "macro_f1")].set_index("seed").score
    own = own[frames.trials[(frames.trials.stage == "confirm") & (frames.trials.strategy == "partial")].set_index("number").seed].to_numpy()
    mean = found.strategies[(found.strategies.strategy == "partial") & (found.strategies.metric == "macro_f1")]["mean"].iloc[0]
    assert mean == pytest.approx(((own[0] + own[2]) / 2 + own[1]) / 2), "every search counts once"


def test_few_sessions_are_warned_of() -> None:
    frames = load(GOLDEN.as_posix())
    part = Part(variance=1e-4, df=4, count=5)
    few = Estimate(mean=0.1, runs=(part, part), images=Part(variance=1e-4, df=6.5, count=10), unit="run", searches=1, resampled=240)
    pairs = judge([Compared(question=ELSEWHERE, a="partial", b="full", estimate=few, seeds=5, collapses=())], frames)
    (warning,) = [w for w in warnings(frames, pairs) if "sessions" in w]
    assert "10 sessions that tell as much as 7.5 of equal size" in warning


def test_tuning_curves_are_the_mean_best_of_all_subsets() -> None:
    scores = np.array([0.3, 0.9, 0.5, 0.4])
    for n, value in enumerate(tuning_curves.expected_best(scores), 1):
        assert value == pytest.approx(np.mean([max(s) for s in itertools.combinations(scores, n)]), abs=1e-12)


NEEDS_MORE = {
    "importance",
    "why_distance",
    "why_background",
    "why_memorisation",
    "sizes",
    "size_differences",
}  # than the golden study has: trials, distances (it is older), a mask, sizes


@pytest.mark.parametrize("spec", FIGURES, ids=lambda s: s.name)
def test_every_figure_computes_and_draws_with_data_and_without(spec, copy: Ledger) -> None:
    import plotly.graph_objects as go

    plant(copy)
    frames = load(copy)
    found = findings(frames, resamples=50)
    frame = spec.compute(frames, found)
    assert (len(frame) > 0) == (spec.name not in NEEDS_MORE) and isinstance(spec.draw(frame), go.Figure)
    assert isinstance(spec.draw(spec.compute(*nothing(copy))), go.Figure)
    blank = spec.draw(pd.DataFrame())
    assert blank.layout.annotations[0].text, "an empty figure says why"


def test_lines_join_the_runs_of_one_seed(copy: Ledger) -> None:
    frames = load(copy)
    frame = strategies.compute(frames, findings(frames, 50))
    lost = frame.seed == frame.seed.dropna().iloc[0]
    frame = frame[~(lost & (frame.strategy == "linear_probe"))]  # a seed that one strategy alone has joins nothing
    figure = strategies.draw(frame)
    lines = [t for t in figure.data if t.mode == "lines"]
    assert len(lines) == 1
    kept = (
        frame[(frame.kind == "seed") & (frame.metric == "macro_f1")].pivot(index="seed", columns="strategy", values="value").dropna() * 100
    )
    joined = {(a, b) for a, b in zip(lines[0].x[::3], lines[0].x[1::3], strict=True)}
    assert joined == set(zip(kept["linear_probe"], kept["partial"], strict=True)) and len(joined) == 2
    assert lines[0].y[:3] == (0, 1, None)
    assert [t.partition("<br>")[0] for t in figure.layout.yaxis.ticktext] == ["linear_probe", "partial"]


def nothing(ledger: Ledger):
    ledger.folder.remove("trials")
    ledger.folder.remove("selection.json")
    frames = load(ledger)
    return frames, findings(frames)


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(dark: bool, tmp_path: Path) -> None:
    """Every figure is drawn, nothing is asked of the network, the console is silent, the contents work by keyboard."""
    report.write_report(str(GOLDEN), tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 8e6
    with page(dark=dark) as p:
        p.goto((tmp_path / "r.html").as_uri())
        p.wait_for_timeout(1500)
        assert p.locator(".plotly-graph-div .main-svg").count() >= len(FIGURES) - len(NEEDS_MORE)
        assert (
            p.locator("#figure-importance").count() == 0 and "importance of hyperparameters: Needs" in p.locator("#protocol").inner_text()
        )
        assert p.requests_seen == [] and p.problems_seen == []
        buttons = p.evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
        assert "Download plot as a PNG" in buttons
        assert [b for b in buttons if any(w in b.lower() for w in ("share", "cloud", "studio", "edit", "send", "upload"))] == []
        p.keyboard.press("Tab")
        assert p.evaluate("document.activeElement.getAttribute('href')") == "#verdict"
        p.click("#theme")
        assert p.evaluate("document.documentElement.dataset.theme") == ("light" if dark else "dark")
        assert p.problems_seen == []


XSS = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "\"><svg onload=alert(1)>", "javascript:alert(1)", "{{7*7}}", "${alert(1)}", "<a href='http://evil.example'>x</a>", "';alert(1)//", "<b>bold</b>", "\u2028alert(1)", "=cmd|'/c calc'!A0"]  # fmt: skip


def test_X5_names_from_the_data_are_shown_never_run(copy: Ledger, tmp_path: Path) -> None:
    for k, trial in enumerate(copy.folder.names("trials")):
        result = copy.result(trial)
        assert result is not None
        classes = [XSS[i % len(XSS)] for i in range(len(result.classes))]
        reason = XSS[k % len(XSS)]
        copy.write_result(dataclasses.replace(result, classes=classes, outcome=Outcome.FAILED if k == 0 else result.outcome, reason=reason))
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
    assert "one seed" in summary.verdicts[0] and "beats" not in summary.verdicts[0]
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


def widened(ledger: Ledger) -> Ledger:
    """The golden study as if its ranges had been wide enough, so that its strategies may be compared."""
    path = Path(ledger.folder.path("study.json"))
    values = json.loads(path.read_text())
    values["study"]["space"] = {"linear_probe.lr": {"log": [1e-4, 10.0]}}
    path.write_text(json.dumps(values))
    return ledger


def test_a_wider_margin_makes_differences_not_worth_having(copy: Ledger, tmp_path: Path, capsys) -> None:
    source, out = str(widened(copy).folder.root), ["--out", str(tmp_path / "r.html")]
    assert report.main([source, *out]) == 0
    assert "partial beats linear_probe by at least 1 point (+12.9" in capsys.readouterr().out
    assert report.main([source, *out, "--margin", "30"]) == 0
    said = capsys.readouterr().out
    assert (
        "partial is better than linear_probe, by less than is worth having (30 points)" in said
        and "take linear_probe: the cheapest" in said
    )
    assert report.main([source, *out, "--margin", "-1"]) == 2


def test_a_search_that_ended_at_its_ranges_edge_is_no_comparison(tmp_path: Path, capsys) -> None:
    assert report.main([str(GOLDEN), "--out", str(tmp_path / "r.html")]) == 0
    said = capsys.readouterr().out
    assert "Not comparable: linear_probe's best lr 0.061 lies at the upper end" in said and "beats" not in said


def rewrite(ledger: Ledger, was: str, now: str) -> Ledger:
    """The same study as if it had been asked otherwise, in every file that says so."""
    for path in Path(ledger.folder.root).rglob("*.json"):
        path.write_text(path.read_text().replace(was, now))
    return ledger


def on_folder(ledger: Ledger, folder: str) -> Ledger:
    return rewrite(rewrite(ledger, '"digits"', f'"folder:{folder}"'), "digits/official", f"folder:{folder}/official")


def test_two_studies_side_by_side(tmp_path: Path, copy: Ledger) -> None:
    assert compare.main([str(GOLDEN), str(copy.folder.root), "--out", str(tmp_path / "c.html")]) == 0
    text = (tmp_path / "c.html").read_text()
    assert "partial" in text and "+0.0" in text
    on_folder(copy, "/data/<i>: x; y")
    assert compare.main([str(GOLDEN), str(copy.folder.root), "--out", str(tmp_path / "c.html")]) == 0
    text = (tmp_path / "c.html").read_text()
    assert "<i>" not in text and "&lt;i&gt;: x; y, efficientnet_lite0: Not comparable" in text and "not there" in text


def test_one_run_has_a_score_and_no_interval(copy: Ledger, tmp_path: Path, capsys) -> None:
    for ask in copy.asks("confirm"):
        if ask.number:
            copy.trial_folder(ask.trial_id).remove("")
    assert compare.main([str(GOLDEN), copy.folder.root, "--out", str(tmp_path / "c.html")]) == 0
    said = capsys.readouterr().out
    assert said.count(", no interval  ") == 2 and "nan" not in said + (tmp_path / "c.html").read_text()


def test_every_setting_that_differs_is_shown_whichever_of_two_studies_has_it(copy: Ledger, tmp_path: Path) -> None:
    """A late field is written only where it is not at its default: it is in the file of one study and not in the other's."""
    old = copy.study()
    own = dataclasses.replace(
        old, searches=2, confirm_seeds=4, space={"partial.lr": Log(1e-4, 1e-3)}, protocol=dataclasses.replace(old.protocol, optimizer="sgd")
    )
    copy.folder.write("study.json", json.dumps({**copy._json("study.json"), "study": own.as_dict()}).encode())
    for pair in ([str(GOLDEN), copy.folder.root], [copy.folder.root, str(GOLDEN)]):
        assert compare.main([*pair, "--out", str(tmp_path / "c.html")]) == 0
        text = (tmp_path / "c.html").read_text()
        assert all(f"<td>{k}</td>" in text for k in ("searches", "protocol.optimizer", "range of partial.lr"))
    settings = {k: (x, y) for k, x, y in compare.settings_that_differ(old, own)}
    assert settings["searches"] == (1, 2) and settings["protocol.optimizer"] == ("adamw", "sgd") and "seed" not in settings


def rewrite_predictions(ledger: Ledger, change) -> None:
    """`change`: from the table of one confirm run to another one."""
    for path in Path(ledger.folder.root).rglob("predictions.parquet"):
        table = change(pd.read_parquet(path))
        table.assign(group=table.group.astype("Int64")).to_parquet(path)  # pandas would make missing ones floats


def compared(copy: Ledger) -> dict[str, dict]:
    table, _ = compare.side_by_side(load(GOLDEN.as_posix()), load(copy))
    return {r["strategy"]: r for r in table.to_dict("records")}


def test_two_studies_are_paired_over_the_images_both_hold(copy: Ledger) -> None:
    """One strategy's runs are made worse: on a tenth of all images they say another class."""

    def worse(t: pd.DataFrame) -> pd.DataFrame:
        logits = np.stack(t.logits.to_numpy())
        logits[::10] = np.roll(logits[::10], 1, axis=1)
        return t.assign(logits=list(logits.astype(np.float32)))

    same = compared(copy)["partial"]
    assert same["difference"] == 0 and same["low"] == pytest.approx(-same["high"]) and same["why_not"] == ""
    rewrite_predictions(copy, worse)
    row = compared(copy)["partial"]
    assert row["difference"] == pytest.approx(row["mean_b"] - row["mean_a"]) and row["high"] < 0
    own = max(row["high_a"] - row["mean_a"], row["high_b"] - row["mean_b"])
    assert row["high"] - row["difference"] < 1.5 * own, "images are shared"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.assign(image=["x" + i for i in t.image]), "the test images differ (360 in A, 360 in B, 0 of one name)"),
        (lambda t: t[(t.split == "val") | (t.groupby("split").cumcount() >= 10)], "the test images differ (360 in A, 350 in B, 350 of one name)"),
        (lambda t: t.assign(label=(t.label + 1) % 10), "360 of 360 test images have another label"),
        (lambda t: t.assign(group=np.arange(len(t)) % 9), "the recording sessions of the test images differ"),
    ],
)  # fmt: skip
def test_studies_on_other_images_are_not_paired_and_say_why(change, why: str, copy: Ledger, tmp_path: Path, capsys) -> None:
    rewrite_predictions(copy, change)
    row = compared(copy)["partial"]
    assert row["why_not"] == why and np.isnan(row["difference"])
    assert compare.main([str(GOLDEN), str(copy.folder.root), "--out", str(tmp_path / "c.html")]) == 0
    assert f"cannot be paired: {why}" in capsys.readouterr().out and f"cannot be paired: {why}" in (tmp_path / "c.html").read_text()


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


def test_two_folders_of_one_name_are_two_questions() -> None:
    here, there = (Question(dataset=f"folder:/{d}/leaves", splits="official", backbone="resnet18", train_fraction=0.05) for d in ("a", "b"))
    assert here.name == there.name == "leaves, resnet18, 5% of the training images" and here.panel == "leaves, resnet18"
    assert here != there and len({here, there, Question.of(here.columns)}) == 2
    frame = pd.DataFrame(
        [
            {"question": q, "strategy": "full", "seconds": 1.0, "score": 0.5, "number": 0, "outcome": "completed", "front": True}
            for q in (here, there)
        ]
    )
    assert len({t.xaxis for t in cost.draw(frame).data}) == 2


def test_a_range_of_the_studys_own_is_the_one_that_warns(copy: Ledger) -> None:
    assert any("lr 0.061 lies at the upper end of its range [0.0001, 0.1]" in w for w in findings(load(copy), 50).warnings)
    path = Path(copy.folder.path("study.json"))
    values = json.loads(path.read_text())
    values["study"]["space"] = {"linear_probe.lr": {"log": [1e-5, 10.0]}, "partial.lr": {"log": [1e-3, 10.0]}}
    path.write_text(json.dumps(values))
    (warning,) = [w for w in findings(load(copy), 50).warnings if "of its range" in w]
    assert "/partial/" in warning and "lower end of its range [0.001, 10]" in warning


def test_a_trial_asked_for_before_a_field_existed_ran_with_its_default(copy: Ledger) -> None:
    trial = copy.asks()[0].trial_id
    path = Path(copy.folder.path(f"trials/{trial}/config.json"))
    values = json.loads(path.read_text())
    del values["config"]["recipe"]["label_smoothing"]
    path.write_text(json.dumps(values))
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


def test_no_two_strategies_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"partial": ("#0072B2", "circle"), "full": ("#D55E00", "diamond"), "linear_probe": ("#009E73", "square"), "layer_decay": ("#CC79A7", "triangle-up"), "lp_ft": ("#E69F00", "x")}  # fmt: skip
    assert {s: (theme.colour(s), theme.symbol(s)) for s in known} == known
    names = [*known, *(f"made_up_{k}" for k in range(24))]
    monkeypatch.setattr(theme, "STRATEGIES", dict.fromkeys(names))
    assert len({(theme.colour(s), theme.symbol(s)) for s in names}) == len(names)
    assert len({(theme.colour(s), theme.dash(s)) for s in names}) == len(names), "lines without marks"


def test_search_figures_show_every_field_whatever_its_name(tmp_path: Path, few_forests: None) -> None:
    """What they show is read from the ranges, the study's own included: nothing is listed anywhere."""
    ledger = synthetic(tmp_path, 80, ["layer_decay", "lp_ft"])
    frames = load(ledger)
    fields = {"lr", "decay", "probe_lr", "probe_share", "augmentation", "weight_decay", "label_smoothing"}
    assert set(frames.scales) == fields and [n for n, s in frames.scales.items() if s == "log"] == ["lr", "weight_decay", "probe_lr"]
    found = findings(frames)
    wide, long = parallel.compute(frames, found), slices.compute(frames, found)
    assert {c for c in wide if c.startswith("hp/")} == {f"hp/{f}" for f in fields} and set(long.hyperparameter) == fields
    assert set(importance.compute(frames, found).hyperparameter) == fields
    shown = {a.text.replace("<br>", "") for a in parallel.draw(wide).layout.annotations}
    assert {f"<b>{f}</b>" for f in fields} <= shown
    figure = slices.draw(long)
    axes = {t.xaxis.replace("x", "xaxis"): t.hovertemplate.split()[0] for t in figure.data}
    assert {axes[a] for a in axes if figure.layout[a].type == "log"} == {"lr", "weight_decay", "probe_lr"}


def test_a_choice_is_a_field_like_others(copy: Ledger, monkeypatch: pytest.MonkeyPatch, few_forests: None) -> None:
    monkeypatch.setattr(importance, "FEWEST", 4)
    path = Path(copy.folder.path("study.json"))
    values = json.loads(path.read_text())
    values["study"]["space"] = {"partial.unfreeze_depth": {"choice": [1, 2, 3, 4]}}
    path.write_text(json.dumps(values))
    frames = load(copy)
    found = findings(frames, 50)
    assert frames.scales["unfreeze_depth"] == "category"
    assert "unfreeze_depth" in set(importance.compute(frames, found).hyperparameter)
    for figure in (parallel, slices):
        assert figure.draw(figure.compute(frames, found)).data


@pytest.fixture
def few_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Permutations cost most of the figure's time."""
    monkeypatch.setattr(importance, "PERMUTATIONS", 4)


def test_importance_stands_beside_what_noise_reaches(tmp_path: Path, few_forests: None) -> None:
    """Scores that are noise, then scores that one hyperparameter makes."""
    frames = load(synthetic(tmp_path, 50, ["full"]))
    found = importance.compute(frames, findings(frames))
    assert set(found.trials) == {25} and (found.groupby("cell").by_chance.max() > 0.2).all()
    assert (found.importance > found.by_chance).mean() < 0.5
    assert found.groupby("cell").importance.sum().tolist() == pytest.approx([1, 1])
    t = frames.trials
    made = t.assign(**{"val/macro_f1": np.log10(t["hp/lr"]) / 10 + 0.6})
    real = importance.compute(dataclasses.replace(frames, trials=made), findings(frames)).set_index("hyperparameter")
    assert (real.loc["lr"].importance > 0.8).all() and (real.loc["lr"].importance > real.loc["lr"].by_chance).all()
    assert (real.drop("lr").importance <= real.drop("lr").by_chance).all()


def test_importance_knows_the_bad_region(tmp_path: Path, few_forests: None) -> None:
    """High rates diverge or are stopped; the others all score alike: without them there would be nothing to see."""
    frames = load(synthetic(tmp_path, 80, ["full"]))
    t = frames.trials.assign(**{"val/macro_f1": 0.6})
    high = t["hp/lr"] > t["hp/lr"].quantile(0.7)
    t.loc[high, ["outcome", "val/macro_f1"]] = ["diverged", np.nan]
    t.loc[high & (t.number % 2 == 0), ["outcome", "val/macro_f1"]] = ["stopped", 0.1]
    t.loc[t.number == 3, "outcome"] = "failed"
    found = importance.compute(dataclasses.replace(frames, trials=t), findings(frames))
    assert set(found.trials) == {39} and (found.unfinished > 5).all()
    assert (found[found.hyperparameter == "lr"].importance > 0.9).all()


def test_below_sixteen_trials_no_importance_is_drawn(tmp_path: Path) -> None:
    frames = load(synthetic(tmp_path, 30, ["full"]))
    assert importance.compute(frames, findings(frames)).empty and "16" in importance.draw(pd.DataFrame()).layout.annotations[0].text


def test_many_questions_wrap_and_a_strategy_is_named_once(tmp_path: Path) -> None:
    frames = load(synthetic(tmp_path, 140, ["full", "partial"], (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)))
    figure = cost.draw(cost.compute(frames, findings(frames)))
    assert len({t.xaxis for t in figure.data}) == 14
    titles = [a.text for a in figure.layout.annotations]
    assert titles[:2] + titles[6:8] == [
        "digits, resnet18<br>5% of the training images",
        "digits, resnet18<br>10% of the training images",
        "digits, resnet18",
        "mini_faces, resnet18<br>5% of the training images",
    ]
    assert len({figure.layout[t.xaxis.replace("x", "xaxis")].domain for t in figure.data}) == theme.MOST_ACROSS
    for marks in (figure, slices.draw(slices.compute(frames, findings(frames)))):
        assert sorted(t.name for t in marks.data if t.mode == "markers" and t.showlegend) == ["full", "partial"]


def synthetic(root: Path, trials: int, strategies: Sequence[str] = ("partial", "full"), sizes: tuple[float, ...] = (1.0,)) -> Ledger:
    """A ledger of `trials` search trials, as fast as files can be written."""
    cells = grid(["digits", "mini_faces"], ["resnet18"], [*strategies], sizes)
    study = Study(
        name="big",
        cells=cells,
        protocol=Protocol(max_epochs=5),
        trials=trials // len(cells),
        random_trials=trials // len(cells) // 2,
    )
    ledger = Ledger(root, "big")
    ledger.begin(study, {})
    rng = np.random.default_rng(0)
    confusion = ClassScores(precision=[0.5] * 7, recall=[0.5] * 7, f1=[0.5] * 7, support=[9] * 7, confusion=[[3] * 7] * 7)
    for k in range(trials):
        cell = cells[k % len(cells)]
        drawn = {"lr": float(10 ** rng.uniform(-4.5, -2.1)), "weight_decay": float(10 ** rng.uniform(-6, -1)), "seed": seed_for(k)}
        config = TrialConfig.default(cell, study.protocol).with_values(drawn)
        number = k // len(cells)
        origin = "default" if number == 0 else "random" if number <= study.random_trials else "tpe"
        folder = Path(ledger.folder.path(f"trials/{config.id}"))
        folder.mkdir(parents=True)
        ask = Ask(trial_id=config.id, cell=cell.id, number=number, stage="search", origin=origin, config=config.as_dict(), sequence=k)
        (folder / "config.json").write_text(json.dumps({"schema": 1, **ask.as_dict()}))
        scores = np.clip(0.4 + 0.1 * rng.standard_normal(5), 0, 1)
        lines = [
            EpochRecord(
                epoch=e + 1,
                metrics={"val/macro_f1": float(s), "val/accuracy": float(s), "val/nll": 1.0, "train/macro_f1": float(s), "train/loss": 1.0},
                train_seconds=1.0,
                eval_seconds=0.1,
                images=100,
                ended_at=float(k),
            )
            for e, s in enumerate(scores)
        ]
        (folder / "epochs.jsonl").write_text("".join(json.dumps(x.as_dict()) + "\n" for x in lines))
        result = TrialResult(
            trial_id=config.id,
            outcome="completed",
            epochs=5,
            best_epoch=1,
            metrics=lines[0].metrics,
            classes=[str(c) for c in range(7)],
            val=confusion,
            seconds=5.5,
            images=500,
        )
        (folder / "result.json").write_text(json.dumps({"schema": 1, **result.as_dict()}))
    return ledger


@pytest.mark.slow
def test_ten_thousand_trials_load_and_report(tmp_path: Path) -> None:
    """Behaviour here; the seconds and bytes are `python -m benchmarks.scale`'s to measure."""
    synthetic(tmp_path, 10_000)
    command = [sys.executable, "-m", "analysis.report", f"{tmp_path}/big", "--out", f"{tmp_path}/r.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.html").stat().st_size < 12e6
