"""Strategies that were cut short, and images that are too small: the findings, and that no verdict rests on them."""

import dataclasses
import itertools
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.data.frames import Checked, Frames
from analysis.data.predictions import Predictions
from analysis.data.question import Question
from analysis.figures import sizes
from analysis.findings.answers import answer
from analysis.findings.over_datasets import over_datasets
from analysis.findings.short import Short, below_the_head, shorts
from analysis.findings.too_few_pixels import Small
from analysis.findings.verdict_pairs import Pair, judge
from analysis.load import load
from analysis.report import write_report
from analysis.statistics.decisions import Doubts, decide
from analysis.verdict import Findings, findings
from analysis.why.explanations import explain
from analysis.why.gains import controls
from analysis.words.commands import larger, longer
from analysis.words.sentences import Sentence
from study import sweep
from study.conduct.asked import given_fields
from study.question.studies import narrow
from study.question.training_settings import Protocol
from study.strategies import STRATEGIES
from tests import sized
from tests.browser import page
from tests.goldens import began
from tests.planted import plant
from tests.test_statistics import estimate

THREE = Protocol(max_epochs=3, image_size=48, views=3, precision="fp32")
FAR, NEAR = {"partial": [0.75], "full": [0.40]}, {"partial": [0.61], "full": [0.60]}
NO_BETTER = [[29, 1, 0, 0], [10, 0, 0, 0], [10, 0, 0, 0], [9, 1, 0, 0]]  # of 60 images 29 right; the commonest class has 30
LEARNT = [[25, 3, 1, 1], [2, 7, 1, 0], [2, 1, 6, 1], [2, 0, 1, 7]]


def made(folder: Path, right: Any = FAR, fitted: dict[str, float] | None = None, fractions: Any = (1.0,), **more: Any) -> Frames:
    """Return a study where partial is far better than full, or nearly as good (NEAR)."""
    more = {"protocol": THREE, "spread": 0.04, **more}
    return load(sized.write(folder, right, fractions, tests=300, fitted=fitted or {}, **more))


def found_of(frames: Frames) -> dict[str, Short]:
    return {strategy: found for (_, strategy), found in shorts(frames).items()}


def said(frames: Frames) -> tuple[Findings, Sentence]:
    found = findings(frames, 100)
    return found, found.sentences[0]


# ---- what is found --------------------------------------------------------------------------------------


def test_a_loser_that_was_cut_short_has_not_lost(tmp_path: Path) -> None:
    """The numbers are those of a quickstart of three epochs: full at 63 % of its own training images, 35 points behind."""
    trained, short = (
        made(tmp_path / "a", fitted={"partial": 0.95, "full": 0.95}),
        made(tmp_path / "b", fitted={"partial": 0.95, "full": 0.63}),
    )
    assert said(trained)[1].head == "partial beats full by at least 1 point"
    found, sentence = said(short)
    assert sentence.head == (
        "Not comparable: full had learned 63 % of its own training images after 3 epochs, so longer training may change this"
    )
    assert sentence.mark == "open" and "beats" not in sentence.text and set(found.pairs.verdict) == {"not_comparable"}
    first, last = sentence.steps
    assert first.text == "First train 3 times as long, for about 3 times the compute"
    assert first.command == "python -m study.sweep my_study.py:SIZED --name sized-9-epochs --set max_epochs=9 views=9"
    assert last.text == "Until then name no winner"
    assert found.picks[0].cell.strategy and {p.reason for p in found.picks} >= {
        "no verdict yet: full was cut short. The best on validation"
    }
    assert (
        "digits, resnet18: full had learned 63 % of its own training images after 3 epochs, so longer training may raise its score"
        in found.warnings
    )


def test_a_winner_that_was_cut_short_wins_all_the_same(tmp_path: Path) -> None:
    found, sentence = said(made(tmp_path, fitted={"partial": 0.63, "full": 0.95}))
    assert (sentence.head, sentence.mark) == ("partial beats full by at least 1 point", "decided")
    take, more = sentence.steps
    assert take.text.startswith("Take partial") and more.text.startswith("partial had learned 63 %") and "sized-9-epochs" in more.command
    assert {p.reason for p in found.picks if p.leads} == {"the verdict's"}


def test_where_nothing_is_decided_longer_training_comes_before_more_repeats(tmp_path: Path) -> None:
    trained, short = made(tmp_path / "a", NEAR, {"full": 0.95}), made(tmp_path / "b", NEAR, {"full": 0.63})
    before, after = (said(frames)[1] for frames in (trained, short))
    assert "Take partial: the cheapest that is good enough" in before.text
    assert (
        after.head == "Undecided between partial and full"
        and before.head.startswith("Undecided between partial and full. Taking ")
        and "cheapest" not in after.text
        and "costs at most" not in after.text
    )
    assert after.steps[0].text.startswith(
        "The comparison was cut short: full had learned 63 % of its own training images after 3 epochs. First train"
    )
    assert after.steps[1:] == before.steps[1:], "what more seeds and images would bring is said after it"
    assert "Undecided between partial and full (full was cut short): " in after.rest[0]
    assert {p.reason for p in findings(short, 50).picks if p.leads} == {"no verdict yet: full was cut short. The best on validation"}


def test_several_that_were_cut_short_are_said_in_few_words(tmp_path: Path) -> None:
    frames = made(
        tmp_path,
        {"partial": [0.6], "full": [0.6], "linear_probe": [0.6]},
        {"partial": 0.78, "full": 0.63},
        validation={"linear_probe": NO_BETTER},
    )
    first = said(frames)[1].steps[0].text
    assert (
        "partial had learned 78 % and full 63 % of their own training images after 3 epochs. linear_probe is not shown to be better"
        in first
    )
    assert first.endswith("against 50 %) after 3 epochs. First train 3 times as long, for about 3 times the compute")


def test_what_the_headline_says_is_not_said_twice(tmp_path: Path) -> None:
    sentence = said(made(tmp_path, fitted={"partial": 0.79, "full": 0.63}))[1]
    assert sentence.head.startswith("Not comparable: full had learned 63 %")
    assert sentence.steps[0].text.startswith(
        "partial had learned 79 % of its own training images after 3 epochs, as well. First train 3 times"
    )


def test_training_that_learned_nothing_is_seen_on_validation(tmp_path: Path) -> None:
    frames = made(tmp_path, {"linear_probe": [0.4], "full": [0.7]}, {"full": 0.95}, validation={"linear_probe": NO_BETTER, "full": LEARNT})
    (found,) = found_of(frames).values()
    assert (found.strategy, found.kind) == ("linear_probe", "nothing learnt")
    assert found.found == (
        "linear_probe is not shown to be better than always naming the commonest class (48 % of the validation images right, "
        "against 50 %) "
        "after 3 epochs"
    )
    assert said(frames)[1].head.startswith("Not comparable: linear_probe is not shown")


@pytest.mark.parametrize(
    ("confusion", "short"),
    [
        ([[36, 44], [0, 20]], False),  # 56 % right where 80 % are well, and 44 paid where calling all of them sick takes 80
        ([[2, 78], [0, 20]], True),  # 78 paid: as good as calling all of them sick
        ([[80, 0], [20, 0]], True),  # 200 paid, though 80 % are right
    ],
)
def test_where_costs_decide_nothing_learnt_is_held_against_the_cheapest_answer(
    tmp_path: Path, confusion: list[list[int]], short: bool
) -> None:
    size = np.pad(np.array(confusion), (0, 2)).tolist()
    metric = 'cost:[["0","1","2","3"],[0,1,1,1],[10,0,1,1],[1,1,0,1],[1,1,1,0]]'
    found = found_of(made(tmp_path, {"linear_probe": [0.4]}, validation={"linear_probe": size}, metric=metric))
    assert [*found] == ["linear_probe"] * short
    if short:
        assert "is not shown to cost less than the same answer to every image (" in found["linear_probe"].found
        assert "against 80.0)" in found["linear_probe"].found


@pytest.mark.parametrize(("metric", "shift", "short"), [("auroc", 1.0, False), ("auroc", 0.0, True), ("log_loss", 1.0, False),
    ("brier", 0.0, True), ("macro_f1", 1.0, True)])  # fmt: skip
def test_where_probabilities_decide_what_orders_the_images_has_learnt(tmp_path: Path, metric: str, shift: float, short: bool) -> None:
    """It names the commonest class alone, yet an image of another class has more of that class's logit by `shift`."""
    frames = made(tmp_path, {"linear_probe": [0.4]}, validation={"linear_probe": [[30, 0, 0, 0], *([[10, 0, 0, 0]] * 3)]}, metric=metric)
    labels = np.repeat([0, 1, 2, 3], [30, 10, 10, 10])
    logits = np.random.default_rng(0).normal(size=(60, 4)) + shift * np.eye(4)[labels] + [9, 0, 0, 0]
    val = Predictions(images=np.arange(60), labels=labels, groups=None, logits=logits)
    for trial in frames.confirmed().trial_id:
        frames.predictions(trial)["val"] = val
    assert [*found_of(frames)] == ["linear_probe"] * short


@pytest.mark.parametrize(
    ("confusion", "weighs", "short"),
    [
        (NO_BETTER, False, True),
        (LEARNT, False, False),
        ([[33, 0], [0, 0]], False, False),  # one class: nothing to tell apart
        ([[95, 0], [5, 0]], False, True),  # 95 % right, by saying one thing
        ([[91, 1], [3, 5]], False, False),  # 96 % where 92 % are of one class, yet most of the rare class is found
        ([[30, 30], [4, 36]], True, False),  # trained for recall: 66 % right where 60 % are of one class
        ([[30, 30], [4, 36]], False, True),
        ([[30, 30], [5, 5]], True, True),  # guessing
    ],
)
def test_what_nothing_learnt_is_held_against(tmp_path: Path, confusion: list[list[int]], weighs: bool, short: bool) -> None:
    size = np.pad(np.array(confusion), (0, 4 - len(confusion))).tolist()
    frames = made(tmp_path, {"linear_probe": [0.4]}, validation={"linear_probe": size})
    frames = dataclasses.replace(frames, trials=frames.trials.assign(**{"hp/class_weighting": 0.99 if weighs else np.nan}))
    assert bool(found_of(frames)) == short


def test_folds_are_taken_together(tmp_path: Path) -> None:
    """20 of 40 images are right where the commonest class has 16. One fold alone would not show it, three do."""
    fold = [[4, 4, 4, 4], [2, 6, 0, 0], [2, 0, 6, 0], [4, 0, 0, 4]]
    frames = made(tmp_path, {"linear_probe": [0.4]}, validation={"linear_probe": fold})
    assert set(found_of(frames)) == {"linear_probe"}
    confirmed = frames.trials.stage == "confirm"
    folds = frames.trials.splits.where(~confirmed, [f"official:{k % 3}" for k in range(len(frames.trials))])
    assert not found_of(dataclasses.replace(frames, trials=frames.trials.assign(splits=folds)))


def test_a_head_need_not_fit_its_training_images_and_what_was_not_recorded_says_nothing(tmp_path: Path) -> None:
    names = ["linear_probe", "random_probe", "partial", "full"]
    frames = made(tmp_path, {n: [0.5] for n in names}, dict.fromkeys(names, 0.5))
    assert set(found_of(frames)) == {"partial", "full"}
    old = dataclasses.replace(frames, epochs=frames.epochs.drop(columns="train/accuracy"))
    assert found_of(old) == {} and found_of(dataclasses.replace(frames, epochs=pd.DataFrame())) == {}
    earlier = frames.epochs[frames.epochs.epoch < 3]
    assert found_of(dataclasses.replace(frames, epochs=earlier)) == {}, "of the last epoch, not of any other"
    assert {n for n in STRATEGIES if not getattr(STRATEGIES[n], "exact", False) and not below_the_head(n)} == {
        "linear_probe",
        "random_probe",
    }


def test_the_median_run_decides_and_a_limit_that_is_reached_is_enough(tmp_path: Path) -> None:
    frames = made(tmp_path, {"full": [0.5]}, {"full": 0.63})
    runs = list(frames.confirmed().trial_id)
    for fitted, short in (
        ([0.95, 0.95, 0.95, 0.5, 0.5], False),
        ([0.95, 0.95, 0.5, 0.5, 0.5], True),
        ([0.9] * 5, False),
        ([0.8999] * 5, True),
    ):
        values = frames.epochs.trial_id.map(dict(zip(runs, fitted, strict=True)))
        found = found_of(dataclasses.replace(frames, epochs=frames.epochs.assign(**{"train/accuracy": values})))
        assert bool(found) == short, fitted
    assert found["full"].found.startswith("full had learned 89 %"), "never said to have reached what it has not"


def test_labels_made_wrong_are_not_to_be_learned(tmp_path: Path) -> None:
    frames = made(tmp_path, {"full": [0.5]}, {"full": 0.75}, protocol=dataclasses.replace(THREE, wrong_labels=0.2))
    assert found_of(frames) == {}, "0.8 of the labels are true, 0.9 of these are 0.72"


def test_a_strategy_that_is_solved_exactly_is_never_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = made(tmp_path, {"full": [0.4]}, {"full": 0.5}, validation={"full": NO_BETTER})
    assert found_of(frames)
    monkeypatch.setattr(STRATEGIES["full"], "exact", True, raising=False)
    assert not found_of(frames)


def test_a_budget_check_has_the_last_word_on_fitting(tmp_path: Path) -> None:
    frames = made(tmp_path / "a", fitted={"partial": 0.95, "full": 0.63}, validation={"full": LEARNT})
    (question,) = {q for q, _ in shorts(frames)}
    flat = dataclasses.replace(frames, checked={(question, "full"): Checked(gains=False)})
    assert shorts(flat) == {} and said(flat)[1].head == "partial beats full by at least 1 point"
    gains = Checked(gains=True, found="full gains 9 points on validation from 3 times the epochs")
    fitted = made(tmp_path / "b", fitted={"partial": 0.95, "full": 0.95})
    head = said(dataclasses.replace(fitted, checked={(question, "full"): gains}))[1].head
    assert head == "Not comparable: full gains 9 points on validation from 3 times the epochs, so longer training may change this"
    nothing = made(tmp_path / "c", fitted={"full": 0.63}, validation={"full": NO_BETTER})
    kinds = {s.kind for s in shorts(dataclasses.replace(nothing, checked=flat.checked)).values()}
    assert kinds == {"nothing learnt"}, "flat at nothing is no plateau"


# ---- what is said of it ---------------------------------------------------------------------------------

ELSEWHERE = Question(dataset="made_up", splits="official", backbone="resnet18", train_fraction=1.0)
GRID = list(itertools.product((12.0, 2.0, 0.5, 0.0), (1, -1), (0.2, 1.0, 4.0), ("", "a", "b", "ab")))


@pytest.mark.parametrize(("points", "sign", "sd", "short"), GRID)
def test_the_loser_may_not_be_short_and_the_winner_may(points: float, sign: int, sd: float, short: str) -> None:
    e = estimate(sign * points / 100, sd / 100, 0.001, images=3500)
    doubts = Doubts(of_a=("a",) if "a" in short else (), of_b=("b",) if "b" in short else ())
    (plain,), (doubted,) = decide([e], 0.01), decide([e], 0.01, [doubts])
    loser = "" if plain.winner is None else {"a": "b", "b": "a"}[plain.winner]
    if loser and loser in short or (plain.kind == "equivalent" and short):
        assert (
            doubted.kind == "not_comparable" and doubted.winner is None and set(doubted.suspects) == (set(short) if not loser else {loser})
        )
    else:
        assert (doubted.kind, doubted.winner, doubted.suspects) == (plain.kind, plain.winner, ())


def answered(differences: dict[tuple[str, str], float], short: str, sd: float = 1.0) -> Any:
    """Return the answer on strategies named by single letters, in the order of the alphabet, where those in `short` were cut short."""
    estimates = {pair: estimate(points / 100, sd / 100, 0.001, images=3500) for pair, points in differences.items()}
    found = {s: Short(strategy=s, kind="still fitting", found=f"{s} had learned little") for s in short}
    own = {pair: tuple(found[s] for s in pair if s in found) for pair in differences}
    reasons = {s: (found[s].reason,) if s in found else () for s in "abc"}
    decisions = decide([*estimates.values()], 0.01, [Doubts(of_a=reasons[a], of_b=reasons[b]) for a, b in differences])
    pairs = [
        Pair(question=ELSEWHERE, a=a, b=b, estimate=estimates[a, b], decision=d, seeds=5, confidence=0.95, needs=(), short=own[a, b])
        for (a, b), d in zip(differences, decisions, strict=True)
    ]
    return answer(ELSEWHERE, pairs, "abc", dict.fromkeys("abc", 1.0))


@pytest.mark.parametrize(
    ("gaps", "short", "comparable", "standing", "cut", "mark"),
    [
        ((10, 20, 10), "", "abc", "a", "", "decided"),
        ((10, 20, 10), "a", "abc", "a", "", "decided"),  # the winner alone
        ((10, 20, 10), "c", "ab", "a", "c", "decided"),  # a is better than b, and c has not lost
        ((10, 20, 10), "b", "ac", "a", "b", "decided"),
        ((10, 10, 0), "bc", "a", "a", "bc", "open"),  # the one that was trained is not the one to leave
        ((0, 10, 10), "a", "bc", "b", "a", "decided"),  # a and b would be alike: a leaves
        ((0, 10, 10), "", "abc", "ab", "", "equal"),
        ((0.5, 10, 10), "a", "abc", "ab", "a", "open"),  # better by less than the margin is as good as alike
    ],
)
def test_who_leaves_and_who_stands(
    gaps: tuple[float, float, float], short: str, comparable: str, standing: str, cut: str, mark: str
) -> None:
    found = answered(dict(zip((("a", "b"), ("a", "c"), ("b", "c")), gaps, strict=True)), short, sd=0.2)
    assert ("".join(found.comparable), "".join(found.standing), found.mark) == (comparable, standing, mark)
    assert "".join(s.strategy for s in found.cut_short) == cut


def test_the_others_are_compared_without_one_that_was_cut_short(tmp_path: Path) -> None:
    frames = made(tmp_path, {"partial": [0.8], "linear_probe": [0.6], "full": [0.4]}, {"partial": 0.95, "full": 0.63})
    found, sentence = said(frames)
    assert sentence.head == "partial beats linear_probe by at least 1 point. Not comparable: full" and sentence.mark == "decided"
    assert [s.text.partition(" ")[0] for s in sentence.steps] == ["The", "Until"] and "Until then take partial" in sentence.steps[1].text
    assert {p.reason for p in found.picks if p.leads} == {"the verdict's among those comparable (full was cut short)"}


def test_no_explanation_rests_on_a_strategy_that_was_cut_short(tmp_path: Path) -> None:
    ledger = sized.write(tmp_path, FAR, (1.0,), fitted={"partial": 0.95, "full": 0.63}, protocol=THREE)
    plant(ledger)
    frames = load(ledger)
    why = explain(frames, findings(frames, 50).seeds)
    assert why and {w.verdict for w in why} == {"not judged"} and {w.because for w in why} == {"full was cut short"}
    assert all("not judged: full was cut short." in w.text for w in why) and {w.mark for w in why} == {"open"}
    fitted = dataclasses.replace(frames, epochs=frames.epochs.assign(**{"train/accuracy": 0.95}))
    assert "not judged" not in {w.verdict for w in explain(fitted, findings(fitted, 50).seeds)}


def test_the_page_shows_it(tmp_path: Path) -> None:
    ledger = sized.write(tmp_path, FAR, (1.0,), fitted={"partial": 0.95, "full": 0.63}, protocol=THREE)
    plant(ledger)
    summary = write_report(ledger, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "? Not judged" in text and "Full was cut short." in text and "First train 3 times as long" in text and summary.warnings
    with page() as p:
        p.goto((tmp_path / "r.html").as_uri())
        p.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        marks = p.locator("#why .mark").all_inner_texts()
        assert marks and set(marks) == {"? Not judged"} and not p.problems_seen
        assert "Not comparable: full had learned 63 %" in p.locator("#verdict .head").inner_text()
        first = p.locator("#verdict .steps li").first.inner_text()
        assert first.startswith("First train 3 times as long") and "max_epochs=9" in first


def test_curves_of_strategies_that_were_cut_short_cross_nowhere(tmp_path: Path) -> None:
    curves = {"linear_probe": [0.5, 0.5, 0.5, 0.5], "partial": [0.55, 0.59, 0.65, 0.70], "full": [0.45, 0.53, 0.65, 0.75]}
    frames = made(tmp_path, curves, {"full": 0.95}, sized.FRACTIONS, spread=0.01)
    (before,) = findings(frames, 100).advice
    assert "full is the pick; below" in before.head
    smallest = frames.trials[(frames.trials.train_fraction < 0.2) & (frames.trials.strategy == "full")].trial_id
    values = frames.epochs["train/accuracy"].where(~frames.epochs.trial_id.isin(smallest), 0.5)
    cut = dataclasses.replace(frames, epochs=frames.epochs.assign(**{"train/accuracy": values}))
    found = findings(cut, 100)
    (after,) = found.advice
    assert "full is the pick; whether it changes with their number is not judged: full was cut short at 50 and 100 images" in after.head
    assert "partial and full: not judged: full was cut short at 50 and 100 images" in after.pairs
    assert "what ten times the images would bring is not judged: full was cut short" in after.more
    assert [w for w in found.warnings if "cut" in w or "learned" in w] == [
        "digits, resnet18: full had learned 50 % of its own training images after 3 epochs (the same at 1 more size of the "
        "training set), so "
        "longer training may raise its score"
    ]
    stars = sizes.compute(cut, found)
    assert not stars[(stars.kind == "crossing") & ((stars.strategy == "full") | (stars.other == "full"))].shown.any()


def test_means_over_data_sets_say_how_many_were_cut_short(tmp_path: Path) -> None:
    frames = made(tmp_path, FAR, {"full": 0.63})
    pairs = judge([c for c in _compared(frames)], frames)
    second = [dataclasses.replace(p, question=dataclasses.replace(p.question, dataset="other"), short=()) for p in pairs]
    (one,) = over_datasets([*pairs, *second])
    assert "cut short in 1; mean difference" in one.text and "Longer training may change this." in one.text
    (none,) = over_datasets([dataclasses.replace(p, short=()) for p in pairs] + second)
    assert "cut short" not in none.text


def _compared(frames: Frames) -> Any:
    from analysis.findings.comparisons import compare_all, gather_all

    return compare_all(gather_all(frames), 50).pairs


def test_a_control_that_was_cut_short_is_said_to_be(tmp_path: Path) -> None:
    frames = made(tmp_path, {"full": [0.5]}, {"full": 0.95})
    t = frames.trials
    random = t[t.stage == "confirm"].assign(stage="explain", origin="control", strategy="scratch")
    random = random.assign(trial_id=random.trial_id + "s", cell=random.cell.str.replace("/full/", "/scratch/"), **{"val/macro_f1": 0.3})
    t = pd.concat([t.assign(**{"val/macro_f1": np.linspace(0.5, 0.6, len(t))}), random], ignore_index=True)
    theirs = frames.epochs.assign(trial_id=frames.epochs.trial_id + "s", **{"train/accuracy": 0.4})
    both = dataclasses.replace(frames, trials=t, epochs=pd.concat([frames.epochs, theirs], ignore_index=True))
    (line,) = controls(both)
    assert line.endswith("; scratch was cut short, so longer training may change this")


# ---- the command that trains longer ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        ("quickstart --local", "quickstart --local --name sized-9-epochs --set max_epochs=9 views=9"),
        ("quickstart --set max_epochs=3 image_size=48 --name x --local",
            "quickstart --local --name sized-9-epochs --set image_size=48 max_epochs=9 views=9"),
        ("--name=x --set=views=3", "--name sized-9-epochs --set max_epochs=9 views=9"),
        ("quickstart --datasets 'folder:/my data' faces",
            "quickstart --datasets 'folder:/my data' faces --name sized-9-epochs --set max_epochs=9 views=9"),
        ("mine --datasets folder:x --hours 0.4 --local", "results/sized --local --name sized-9-epochs --set max_epochs=9 views=9"),
    ],
)  # fmt: skip
def test_the_same_question_is_asked_with_more_epochs(tmp_path: Path, asked: str, command: str) -> None:
    frames = made(tmp_path, fitted={"full": 0.63})
    frames = dataclasses.replace(frames, facts={**frames.facts, **began(asked)})
    step = said(frames)[1].steps[0]
    assert step.command == f"python -m study.sweep {command}"
    told = given_fields(sweep.parser().parse_args(shlex.split(step.command)[3:]))
    longer = narrow(frames.study, **{k: v for k, v in told.items() if k != "image_size"})
    assert (longer.name, longer.protocol.max_epochs, longer.protocol.views) == ("sized-9-epochs", 9, 9)


def test_the_command_of_python_of_a_grown_study_and_of_a_second_time(tmp_path: Path) -> None:
    frames = made(tmp_path, fitted={"full": 0.63}, protocol=dataclasses.replace(THREE, views=0, min_steps=42))

    def command(**changes: Any) -> str:
        return said(dataclasses.replace(frames, **changes))[1].steps[0].command

    assert command(facts={"command": "my_notebook.py"}) == (
        "run_study(dataclasses.replace(STUDY, name='sized-9-epochs', protocol=dataclasses.replace(STUDY.protocol, "
        "max_epochs=9, min_steps=126)))"
    )
    grown = command(amendments=[{"at": 1.0, "changes": ["trials: 4 -> 6"], "test_open": True}])
    assert grown == "python -m study.sweep results/sized --name sized-9-epochs --set max_epochs=9 min_steps=126"
    nine = dataclasses.replace(frames.study.protocol, max_epochs=9)
    again = dataclasses.replace(frames, study=dataclasses.replace(frames.study, name="sized-9-epochs", protocol=nine))
    assert "--name sized-27-epochs " in longer(again)
    long = dataclasses.replace(frames, study=dataclasses.replace(frames.study, name="n" * 64))
    assert f"--name {'n' * 55}-9-epochs " in longer(long)


# ---- pixels ---------------------------------------------------------------------------------------------


def with_sizes(frames: Frames, images: int | None, network: int | None) -> Frames:
    return dataclasses.replace(
        frames,
        data_report={"digits@official": {"form": "f", **({"median_side": images} if images else {})}},
        facts={**frames.facts, **({"own_sizes": {"resnet18": network}} if network else {})},
    )


def test_small_images_are_said_in_the_scope_among_the_warnings_and_before_more_repeats(tmp_path: Path) -> None:
    frames = made(tmp_path / "a", NEAR, protocol=dataclasses.replace(THREE, image_size=64))
    found, sentence = said(with_sizes(frames, 384, 224))
    assert sentence.scope.endswith(". All of it at 64 px, while the images have 384 px and the network was made for 224")
    assert (
        "digits, resnet18: trained at 64 px, while the images have 384 px and the network was made for 224. 128 px would "
        "take about 4 times the compute"
    ) in found.warnings
    larger = [s for s in sentence.steps if s.text.startswith("Larger images may decide it")]
    assert [s.command for s in larger] == ["python -m study.sweep my_study.py:SIZED --name sized-128-px --set image_size=128"]
    assert sentence.steps.index(larger[0]) < next(k for k, s in enumerate(sentence.steps) if "80 %" in s.text)
    decided = said(with_sizes(made(tmp_path / "b", FAR, {"full": 0.95}), 384, 224))[1]
    assert "All of it at 48 px" in decided.text and "Larger images may" not in decided.text


@pytest.mark.parametrize(("images", "network", "said_of_it"),
    [(384, 224, True), (96, 224, False), (128, 224, False), (129, 224, True), (384, 112, False), (384, None, False),
        (None, 224, False)])  # fmt: skip
def test_below_half_of_the_smaller_of_both(tmp_path: Path, images: int | None, network: int | None, said_of_it: bool) -> None:
    frames = with_sizes(made(tmp_path, NEAR, protocol=dataclasses.replace(THREE, image_size=64)), images, network)
    found, sentence = said(frames)
    assert ("All of it at" in sentence.scope) == any("px" in w for w in found.warnings) == said_of_it


@pytest.mark.parametrize(("sizes", "side", "times"),
    [((64, 384, 224), 128, "4"), ((100, 384, 224), 224, "5"), ((112, 300, 240), 240, "4.6"), ((64, 130, 224), 128, "4"),
        ((110, 384, 224), 224, "4.1"), ((10, 40, 224), 20, "4")])  # fmt: skip
def test_the_next_size_and_what_it_costs(sizes: tuple[int, int, int], side: int, times: str) -> None:
    small = Small(trained=sizes[0], images=sizes[1], network=sizes[2])
    assert small.larger == side and small.cost == f"{side} px would take about {times} times the compute"


def against_the_line(folder: Path, line: float, network: int, **more: Any) -> Frames:
    """Return a study at 48 px whose strategies name 40 and 41 % of the test images rightly, beside a line to beat."""
    right = {"partial": [0.40], "full": [0.41]}
    return with_sizes(made(folder, right, {"partial": 1.0, "full": 1.0}, line=line, **more), 48, network)


def test_what_was_trained_on_smaller_images_may_not_lose_to_the_line_to_beat(tmp_path: Path) -> None:
    found, sentence = said(against_the_line(tmp_path, 0.75, 224))
    by_pair = found.pairs.set_index(["a", "b"])
    lost = by_pair[[("features" in pair) for pair in by_pair.index]]
    assert len(lost) == 2 and (lost.verdict == "not_comparable").all() and (lost.winner == "").all()
    assert sentence.head.startswith(("Not comparable: full was trained at 48 px and features saw images of 224 px, so larger images may",
        "Not comparable: partial was trained at 48 px and features saw images of 224 px, so larger images may"))  # fmt: skip
    larger = [s for s in sentence.steps if s.text.startswith("Larger images may decide it")]
    assert [s.command for s in larger] == ["python -m study.sweep my_study.py:SIZED --name sized-96-px --set image_size=96"]
    assert sentence.steps[-1].text == "Until then take features"
    (answer,) = found.answers
    assert answer.mark == "open" and answer.next_step.command == larger[0].command
    assert "But it saw images of 224 px, and training 48 px. Larger images may change this." in answer.why
    assert {s.strategy: s.aside for s in answer.strategies} == {"features": "", "full": "smaller images", "partial": "smaller images"}


def test_the_line_wins_where_it_saw_no_larger_images(tmp_path: Path) -> None:
    found, sentence = said(against_the_line(tmp_path, 0.75, 48))
    assert sentence.head.startswith("Training is not shown to beat frozen features (the line to beat); features beats partial and full by")
    assert {s.aside for s in found.answers[0].strategies} == {""} and "Larger images" not in sentence.text


def test_what_beats_the_line_on_smaller_images_beats_it(tmp_path: Path) -> None:
    found, sentence = said(against_the_line(tmp_path, 0.10, 224))
    by_pair = found.pairs.set_index(["a", "b"])
    assert set(by_pair[[("features" in pair) for pair in by_pair.index]].verdict) == {"beats"}
    assert found.answers[0].mark == "open" and "Larger images" not in sentence.text, "full and partial are alike, at equal pixels"


def test_nothing_bounds_what_the_line_costs_where_others_were_trained_on_smaller_images(tmp_path: Path) -> None:
    alike = against_the_line(tmp_path, 0.43, 224)
    found, sentence = said(alike)
    assert "costs at most" not in sentence.text and "On average it loses" not in sentence.text
    assert "it loses" not in " ".join(found.answers[0].why)
    assert found.answers[0].next_step.text.startswith("Train at 96 px"), "before repeats"
    fair = said(with_sizes(alike, 48, 48))[1].text
    assert "Taking features costs at most" in fair and "On average it loses" in fair


def test_a_study_that_confirms_at_more_pixels_goes_on_so(tmp_path: Path) -> None:
    frames = against_the_line(tmp_path, 0.75, 224)
    for searched, confirmed, pixels, said_of_it in [
        (48, 96, 192, "--set image_size=96 confirm_size=192"),
        (64, 128, 224, "--set image_size=128 confirm_size=224"),
        (128, 160, 224, "--set image_size=128 confirm_size=224"),
    ]:
        own = dataclasses.replace(frames.study.protocol, image_size=searched)
        study = dataclasses.replace(frames.study, protocol=own, confirm_size=confirmed)
        command = larger(dataclasses.replace(frames, study=study), pixels)
        assert set(said_of_it.split()) <= set(command.split()) and f"--name sized-{pixels}-px" in command
