"""Verdicts: their numbers computed anew by other means, their words, and their warnings."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from analysis import compare, report
from analysis.data.question import Question
from analysis.figures import cost
from analysis.findings.comparisons import Compared
from analysis.findings.verdict_pairs import judge
from analysis.load import load
from analysis.statistics.intervals import Estimate, Part
from analysis.verdict import findings
from analysis.words.commands import extend
from analysis.words.sentences import Sentence, answers, describe_pair, sentences
from analysis.words.warnings import warnings
from study import sweep
from study.conduct.asked import given_fields
from study.tracking.ledger import Ledger
from tests.browser import page
from tests.goldens import GOLDEN, began, widened


def test_scores_are_those_of_scikit_learn_on_the_parquet_files(tmp_path: Path) -> None:
    """It takes an independent way: pandas reads the files, scikit-learn scores them. They are equal to 1e-9."""
    report.write_report(str(GOLDEN), tmp_path / "r.html", tables=str(tmp_path / "t"))
    seeds = pd.read_csv(tmp_path / "t" / "seeds.csv")
    strategies = pd.read_csv(tmp_path / "t" / "strategies.csv")
    found: dict[tuple[str, int, str], float] = {}
    for path in (GOLDEN / "golden" / "trials").glob("*/measured/predictions.parquet"):
        config = json.loads((path.parent.parent / "config.json").read_text())["config"]
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
    """Return the sentence on strategies that differ so, in points.

    `sd` is that of one run of each, in points, with five runs (or searches).
    """
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
    scored = pd.DataFrame([m for m in means if m["strategy"] in names])
    (sentence,) = sentences(answers(judge(compared, frames), scored, frames), frames)
    return sentence


@pytest.mark.parametrize(
    ("points", "sd", "mark", "head"),
    [
        (12.0, 1.0, "decided", "partial beats full by at least 1 point"),
        (-12.0, 1.0, "decided", "full beats partial by at least 1 point"),
        (2.0, 1.0, "decided", "partial is better than full; whether by 1 point is open"),
        (0.5, 0.2, "equal", "partial is better than full, by less than is worth having (1 point)"),
        (0.0, 0.2, "equal", "No difference worth 1 point between partial and full"),
        (2.0, 4.0, "open", "Undecided between partial and full. Taking partial costs at most 2.8 points (95 %)"),
    ],
)
def test_verdicts_in_words(points: float, sd: float, mark: str, head: str) -> None:
    found = made_up({("partial", "full"): points}, sd)
    assert (found.mark, found.head) == (mark, head)
    assert found.text.startswith(f"made_up, resnet18: {head} (") and found.text.count("\n") == 0
    assert "If the search were repeated, it might choose other settings" in found.scope and "macro-F1" in found.numbers


def test_a_verdict_that_may_not_be_given_says_why() -> None:
    found = made_up({("partial", "full"): 12.0}, 1.0, collapses=("of full, 1 of 5 runs collapsed",))
    assert (found.mark, found.head) == ("open", "Not comparable: of full, 1 of 5 runs collapsed")
    assert "beats" not in found.text and found.steps[0].command.endswith(" --confirm-seeds 10")


def test_many_strategies_have_one_headline() -> None:
    pairs = {("partial", "full"): 0.0, ("partial", "linear_probe"): 10.0, ("full", "linear_probe"): 10.0}
    assert made_up(pairs, 0.1).head == "No difference worth 1 point between partial and full; linear_probe is worse"
    assert (
        made_up(pairs, 3.0).head
        == "Undecided between partial and full; linear_probe is worse. Taking partial costs at most 4.4 points (95 %)"
    )
    assert made_up({**pairs, ("partial", "full"): 9.0}, 0.5).head == "partial beats full and linear_probe by at least 1 point"


def test_what_would_decide_is_said_with_the_command_that_extends_the_study() -> None:
    found = made_up({("partial", "full"): 2.0}, 1.6, **began("pilot --confirm-seeds 3 --local"))
    (step,) = [s for s in found.steps if "80 %" in s.text]
    more = int(step.text.split()[0])
    assert step.command == f"python -m study.sweep pilot --local --confirm-seeds {3 + more}" and step.command in found.text
    hopeless = made_up({("partial", "full"): 0.9}, 8.0)
    (step,) = [s for s in hopeless.steps if "80 %" in s.text]
    assert step.text.startswith("More repeats will not settle it: 100 more seeds or ") and not step.command


@pytest.mark.parametrize(
    "options",
    ["--local", "--searches 1 --name old --set random_trials=3 image_size=32 --trials=9 --local", "--set random_trials=3 --local"],
)
def test_more_searches_are_a_study_of_their_own_and_the_command_asks_for_it(options: str) -> None:
    found = made_up({("partial", "full"): 2.0}, 1.6, searches=5, **began(f"pilot {options}"))
    (step,) = [s for s in found.steps if "Run them as a new one" in s.text]
    more = int(re.search(r"(\d+) more search", found.text)[1])  # type: ignore[index]
    told = sweep.parser().parse_args(step.command.split("study.sweep ")[1].split())
    golden = load(GOLDEN.as_posix()).study  # one search a cell
    fields = given_fields(told)
    wanted = {n: getattr(golden, n) * (1 + more) for n in ("searches", "trials", "random_trials", "confirm_seeds")}
    assert fields.pop("name") == f"golden-{1 + more}-searches" and told.local
    assert fields.pop("image_size", 32) == 32 and fields == wanted
    by_python = made_up({("partial", "full"): 2.0}, 1.6, searches=5, command="my_notebook.py")
    assert any(s.command.startswith("run_study(dataclasses.replace(STUDY, name='golden-") for s in by_python.steps)


def test_a_study_that_has_grown_is_extended_by_its_folder() -> None:
    """Its first command asks for the study as it was, which is refused."""
    frames = load(GOLDEN.as_posix())
    for first, said in (
        ("pilot --data '/my data' --trials 6 --results=out/ --local --strategies full partial", "out/golden --data '/my data' --local"),
        ("my.py:A --mlflow http://x:1 --concurrent 2 --confirm-seeds 3", "results/golden --mlflow http://x:1 --concurrent 2"),
        ("'it is.py' --local", "results/golden --local"),
    ):
        facts = {**frames.facts, **began(first)}
        grown = dataclasses.replace(frames, facts=facts, amendments=[{"at": 1.0, "changes": ["trials: 4 -> 6"], "test_open": True}])
        assert extend(grown, 8) == f"python -m study.sweep {said} --confirm-seeds 8"


def test_repeated_searches_speak_of_strategies() -> None:
    scope = made_up({("partial", "full"): 12.0}, 1.0, searches=5).scope
    assert "5 searches, seeds and test images; one training set" in scope and "other settings" not in scope


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
    confirmed = frames.trials[(frames.trials.stage == "confirm") & (frames.trials.strategy == "partial")]
    own = own[confirmed.set_index("number").seed].to_numpy()
    mean = found.strategies[(found.strategies.strategy == "partial") & (found.strategies.metric == "macro_f1")]["mean"].iloc[0]
    assert mean == pytest.approx(((own[0] + own[2]) / 2 + own[1]) / 2), "every search counts once"


def test_few_sessions_are_warned_of() -> None:
    frames = load(GOLDEN.as_posix())
    part = Part(variance=1e-4, df=4, count=5)
    few = Estimate(mean=0.1, runs=(part, part), images=Part(variance=1e-4, df=6.5, count=10), unit="run", searches=1, resampled=240)
    pairs = judge([Compared(question=ELSEWHERE, a="partial", b="full", estimate=few, seeds=5, collapses=())], frames)
    (warning,) = [w for w in warnings(frames, pairs) if "sessions" in w]
    assert "10 sessions that tell as much as 7.5 of equal size" in warning


@pytest.mark.parametrize("mean", [0.338, -0.338, 0.002, -0.002])
@pytest.mark.parametrize("doubts", [(), ("of full, 1 of 5 runs collapsed",)])
@pytest.mark.parametrize("seeds", [1, 5])
def test_a_difference_is_said_in_the_order_of_its_names(mean: float, doubts: tuple[str, ...], seeds: int) -> None:
    """A pair was once said to be not comparable: partial and full, with +33.8 of full over partial."""
    part = Part(variance=1e-5, df=40, count=50)
    e = Estimate(mean=mean, runs=(part, part), images=Part(variance=1e-5, df=400, count=500), unit="image", searches=1, resampled=240)
    (pair,) = judge(
        [Compared(question=ELSEWHERE, a="partial", b="full", estimate=e, seeds=seeds, collapses=doubts)], load(GOLDEN.as_posix())
    )
    text = describe_pair(pair, 1)
    first, other, by = re.search(r"(partial|full) .*?(partial|full)\b.*?([+-][0-9.]+) points", text).groups()  # type: ignore[union-attr]
    if named := re.search(r"(partial|full) minus (partial|full): ([+-][0-9.]+)", text):
        first, other, by = named.groups()
    assert {first, other} == {"partial", "full"} and float(by) == pytest.approx(100 * mean * (1 if first == "partial" else -1))


def test_a_wider_margin_makes_differences_not_worth_having(copy: Ledger, tmp_path: Path, capsys) -> None:
    source, out = str(widened(copy).folder.root), ["--out", str(tmp_path / "r.html")]
    (said,) = report.write_report(source, tmp_path / "r.html").verdicts
    assert "partial beats linear_probe by at least 1 point (+12.9" in said
    assert report.main([source, *out, "--margin", "30"]) == 0
    assert "== digits: good enough ==\n  Freeze the network and train only the head." in capsys.readouterr().out
    (said,) = report.write_report(source, tmp_path / "r.html", margin=30).verdicts
    assert (
        "partial is better than linear_probe, by less than is worth having (30 points)" in said
        and "Take linear_probe: the cheapest" in said
    )
    assert report.main([source, *out, "--margin", "-1"]) == 2


def test_a_search_that_ended_at_its_ranges_edge_is_no_comparison(tmp_path: Path) -> None:
    (said,) = report.write_report(str(GOLDEN), tmp_path / "r.html").verdicts
    assert "Not comparable: linear_probe's best lr 0.061 lies at the upper end" in said and "beats" not in said


def test_one_run_has_a_score_and_no_interval(copy: Ledger, tmp_path: Path, capsys) -> None:
    for ask in copy.asks("confirm"):
        if ask.number:
            copy.trial_folder(ask.trial_id).remove("")
    assert compare.main([str(GOLDEN), copy.folder.root, "--out", str(tmp_path / "c.html")]) == 0
    said = capsys.readouterr().out
    assert said.count(", no interval  ") == 2 and "nan" not in said + (tmp_path / "c.html").read_text()


def test_two_folders_of_one_name_are_two_questions() -> None:
    rest = {"splits": "official", "backbone": "resnet18", "train_fraction": 0.05}
    here, there = (Question(dataset=f"folder:/{d}/leaves", **rest) for d in ("a", "b"))
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
