"""The budget check: its arithmetic against simulated truth, its flow whatever interrupts it, its records, its words and its doubts."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis import report
from analysis.data.question import Question
from analysis.findings import budget_check
from analysis.findings.fairness import Fairness
from analysis.load import load
from analysis.verdict import findings
from study import sweep
from study.conduct import settle_budget, stages
from study.conduct.after_search import confirm_asks
from study.conduct.lines import line_asks
from study.conduct.settle_budget import next_rounds, settle
from study.conduct.workplace import Workplace
from study.console.signals import Interrupted
from study.datasets import open_dataset
from study.datasets.spec import VAL
from study.metrics import Counts, macro_f1
from study.question.budget_decision import Compared, Gain, Scored, decide
from study.question.cell import Cell, grid
from study.question.growth import grow
from study.question.study_config import Study
from study.question.training_settings import Protocol, stretched
from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Origin, Outcome, Stage
from study.scoring.metric import DEFAULT, Said
from study.search.conductor import Conductor
from study.search.seeds import confirm_config
from study.tracking.ledger import Ledger
from tests import tiny
from tests.sized import predict

# ---- the arithmetic ------------------------------------------------------------------------------------------


def score(said: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    w, classes = np.ones(len(labels)) if weights is None else weights, int(max(labels.max(), said.max())) + 1
    weighed = ((labels, w * (said == labels)), (said, w), (labels, w))
    hits, named, truth = (np.bincount(x, weights=v, minlength=classes) for x, v in weighed)
    return float((2 * hits / np.maximum(named + truth, 1e-12))[truth > 0].mean())


def test_an_influence_is_the_derivative_of_macro_f1_by_an_images_weight() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    said = np.where(rng.random(60) < 0.6, labels, rng.integers(0, 5, 60))  # class 4 occurs in no label
    found = DEFAULT.influences(labels, Said(named=said), 5)
    assert abs(found.sum()) < 1e-12
    for k in range(60):
        weights = np.ones(60)
        weights[k] += 1e-6
        numeric = (score(said, labels, weights) - score(said, labels)) / 1e-6
        assert found[k] == pytest.approx(numeric, abs=1e-6)


def runs(rng: np.random.Generator, labels: np.ndarray, ease: np.ndarray, count: int, seed_sd: float = 0.08) -> list[Scored]:
    """Draw runs. `ease` [N] holds the log odds with which an image is predicted correctly, and each run has its own luck on top."""
    found = []
    for _ in range(count):
        right = rng.random(len(labels)) < 1 / (1 + np.exp(-(ease + seed_sd * rng.standard_normal())))
        said = np.where(right, labels, (labels + rng.integers(1, 5, len(labels))) % 5)
        found.append(Scored(score=score(said, labels), said=said))
    return found


def simulated(images: int, gain: float, studies: int = 120) -> tuple[Counter, list[Gain]]:
    """Simulate three strategies with five seeds, where the effect of longer training differs between images."""
    rng, states, found = np.random.default_rng(images), Counter(), []
    for _ in range(studies):
        labels, hard = rng.integers(0, 5, images), 1.5 * rng.standard_normal(images)
        compared = {}
        for s in "abc":
            ease = hard + 0.5 * rng.standard_normal(images)
            longer = ease + 6.3 * gain + 0.6 * rng.standard_normal(images)
            compared[s] = Compared(longer=runs(rng, labels, longer, 1), shorter=runs(rng, labels, ease, 5))
        for own in decide(compared, labels).values():
            states[own.state] += 1 / (3 * studies)
            found.append(own)
    return states, found


@pytest.mark.parametrize(
    ("images", "gain", "gains", "flat"),
    [
        # of how many studies it says so: at least, at most. Nominal: a gain is claimed falsely, or missed as flat, in one of ten
        (60, 0.0, (0, 0.17), (0.4, 1)),
        (60, 0.10, (0.4, 1), (0, 0.17)),
        (240, 0.0, (0, 0.13), (0.4, 1)),
        (240, 0.05, (0.35, 1), (0, 0.17)),
        (240, 0.10, (0.8, 1), (0, 0.02)),
        (1000, 0.0, (0, 0.15), (0.7, 1)),
        (1000, 0.05, (0.65, 1), (0, 0.2)),
    ],
)
def test_the_states_keep_their_word_on_simulated_studies(images: int, gain: float, gains: tuple, flat: tuple) -> None:
    states, found = simulated(images, gain)
    assert gains[0] <= states["gains"] <= gains[1] and flat[0] <= states["flat"] <= flat[1], states
    se = np.sqrt(np.mean([g.se**2 for g in found]))
    assert se == pytest.approx(np.std([g.gain for g in found]), rel=0.15), "what is claimed to be its error is its error"


def plain(scores: list[float]) -> list[Scored]:
    return [Scored(score=s) for s in scores]


def test_states_by_hand_where_no_predictions_are_known() -> None:
    short = [0.40, 0.42, 0.44, 0.42, 0.42]  # sd 0.01414
    compared = {
        "up": Compared(longer=plain([0.51]), shorter=plain(short)),
        "level": Compared(longer=plain([0.425]), shorter=plain(short)),
        "down": Compared(longer=plain([0.36]), shorter=plain(short)),
    }
    found = decide(compared, None, images=240)
    assert [found[s].state for s in compared] == ["gains", "flat", "flat"]
    assert [found[s].falls for s in compared] == [False, False, True]
    up = found["up"]
    assert up.gain == pytest.approx(0.09) and up.se == pytest.approx(0.0141421 * 1.2**0.5, rel=1e-5) and up.df == 12 and up.images == 0
    assert up.gain - up.low == pytest.approx(1.35622 * up.se, rel=1e-4), "Student's t with 12 degrees of freedom, 90 % one-sided"
    wide = {s: dataclasses.replace(c, shorter=plain([0.30, 0.54, 0.42])) for s, c in compared.items()}
    assert [decide(wide, None, images=240)[s].state for s in wide] == ["not known"] * 3
    assert [decide(wide, None, images=239)[s].state for s in wide] == ["not known", "flat", "flat"], "few images: as it came out"


def test_what_cannot_be_known_is_not_known() -> None:
    one = {"a": Compared(longer=plain([0.9]), shorter=plain([0.1])), "b": Compared(longer=[], shorter=plain([0.1]))}
    found = decide(one, None, images=500)
    assert found["a"].state == found["b"].state == "not known"
    assert "one run" in found["a"].why and "longer budget" in found["b"].why and found["b"].gain is None
    searched = Compared(longer=plain([0.9]), shorter=plain([0.1]), others=[plain([0.12]), plain([0.11])])
    assert decide({"a": searched}, None)["a"].state == "gains", "one run a search: their spread holds the searches' too"


def test_sessions_go_together() -> None:
    """There are forty images of eight sessions, and in each session longer training gets all right or none.

    So eight facts are known, not forty.
    """
    rng = np.random.default_rng(1)
    labels, groups = np.tile(np.arange(5), 8), np.repeat(np.arange(8), 5)
    short = [Scored(score=score(s, labels), said=s) for s in [np.where(rng.random(40) < 0.5, labels, (labels + 1) % 5) for _ in range(5)]]
    said = np.where(np.isin(groups, [0, 1, 2, 3, 4, 5]), labels, (labels + 1) % 5)
    compared = {"a": Compared(longer=[Scored(score=score(said, labels), said=said)], shorter=short)}
    alone, together = decide(compared, labels)["a"], decide(compared, labels, groups)["a"]
    assert together.se > 1.3 * alone.se


def test_a_stretched_protocol_costs_no_strategy_a_view() -> None:
    p = Protocol(max_epochs=5, views=5, min_steps=42, warmup_epochs=2)
    long = stretched(p, 3)
    assert (long.max_epochs, long.views, long.min_steps, long.warmup_epochs) == (15, 15, 126, 2) and stretched(p, 1) == p
    assert long.steps(100) == 3 * p.steps(100)
    cell = grid(["digits"], ["resnet18"], ["full"])[0]
    study = Study(name="s", cells=(cell,), protocol=Protocol(max_epochs=2, image_size=32), confirm_size=96)
    config = confirm_config(study, TrialConfig.default(cell, study.protocol), 0, factor=3)
    assert (config.protocol.max_epochs, config.protocol.image_size) == (6, 96)


# ---- the flow, through a runner that makes its numbers up -------------------------------------------------------

ONCE = 2
CELLS = grid(["digits"], ["efficientnet_lite0"], ["linear_probe", "full"])
STUDY = Study(name="s", cells=CELLS, protocol=Protocol(max_epochs=ONCE, image_size=32), trials=2, random_trials=1, grace_epochs=1,
    confirm_seeds=3)  # fmt: skip
LEVEL = {"linear_probe": {2: 0.6, 6: 0.6, 18: 0.6}, "full": {2: 0.4, 6: 0.7, 18: 0.72}}
"""The share of validation images predicted correctly, by strategy and epochs: full gains by three times the epochs."""


class Killed(Exception):
    pass


class Made:
    """A runner without training. `log` holds (what, stage, epochs) of everything it did, and the n-th event may be the last."""

    def __init__(self, ledger: Ledger, level: dict = LEVEL, last: int | None = None, act: Callable[[], None] | None = None) -> None:
        self.ledger, self.level, self.left, self.act = ledger, level, last, act
        self.log: list[tuple[str, str, int]] = []
        table = open_dataset("digits")
        self.labels = table.labels[table.split == VAL]

    def event(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    def __call__(
        self, conductor: Conductor, places: object, *, total: int, measurements: tuple[str, ...], interrupted: Interrupted
    ) -> None:
        while not interrupted.is_set() and (ask := conductor.ask()) is not None:
            self.event()
            epochs = ask.config["protocol"]["max_epochs"]
            if self.ledger.result(ask.trial_id) is None:
                for epoch in range(len(self.ledger.epochs(ask.trial_id)) + 1, epochs + 1):
                    conductor.epoch(ask.trial_id, self.record(ask, epoch, epochs))
                    self.event()
                self.log.append(("trained", ask.stage.value, epochs))
            if measurements:
                assert ask.trial_id in self.ledger.test_openings()[-1]["trials"], "the lock is asked before"
                predict(self.ledger, ask.trial_id, self.labels, self.said(ask, epochs, epochs), 10)
                self.log.append(("measured", ask.stage.value, epochs))
                self.event()
            conductor.end(ask.trial_id, Outcome.COMPLETED)
            self.event()

    def said(self, ask: Ask, epoch: int, epochs: int) -> np.ndarray:
        """Return predictions in which images are about as hard in every run, so that no level depends on a run's luck or id."""
        rng, hard = np.random.default_rng([int(ask.trial_id, 16) % 2**32, epoch]), np.random.default_rng(0).random(len(self.labels))
        right = hard + 0.05 * rng.standard_normal(len(hard)) < self.level[ask.config["cell"]["strategy"]][epochs] * epoch / epochs
        return np.where(right, self.labels, (self.labels + 1) % 10)

    def record(self, ask: Ask, epoch: int, epochs: int) -> EpochRecord:
        said = self.said(ask, epoch, epochs)
        own = score(said, self.labels)
        return EpochRecord(
            epoch=epoch, metrics={"val/macro_f1": own, "val/accuracy": own, "train/loss": 1.0, "train/macro_f1": own, "val/nll": 1.0},
            train_seconds=1.0,
            eval_seconds=0.1, images=100, ended_at=1.0, said=said.tolist() if epoch == epochs and ask.stage is not Stage.SEARCH else None,
        )  # fmt: skip


def executor_of(run: Made, ledger: Ledger, interrupted: Interrupted) -> stages.Executor:
    return stages.Executor(run, Workplace.of(ledger), {("digits", "official"): open_dataset("digits")}, interrupted)


def go(study: Study, ledger: Ledger, run: Made, interrupted: Interrupted | None = None) -> bool:
    """Run the stages of a sweep between its checks and its report."""
    interrupted = interrupted or Interrupted()
    study = ledger.begin(study, {"command": "python -m study.sweep my_study.py"})
    executor = executor_of(run, ledger, interrupted)
    stages.search(executor)
    chosen = stages.choose(ledger, study.searches)
    if settle(executor, chosen) and not interrupted.is_set():
        stages.confirm(executor, chosen)
    return not interrupted.is_set()


def finish(study: Study, root: Path, level: dict = LEVEL) -> tuple[Ledger, Made]:
    ledger = Ledger(root, study.name)
    run = Made(ledger, level)
    assert go(study, ledger, run)
    ledger.add_facts(finished_at=1.0)
    return ledger, run


def everything(ledger: Ledger) -> dict:
    trials = {
        t.ask.trial_id: (t.ask.cell, t.ask.number, t.ask.stage, t.result and t.result.metrics, len(t.epochs)) for t in ledger.trials()
    }
    openings = [o["trials"] for o in ledger.test_openings()]
    measured = {a.trial_id: ledger.measurements(a.trial_id) for a in ledger.asks()}
    return {"trials": trials, "openings": openings, "budgets": ledger.budgets(), "selection": ledger.selection(), "measured": measured}


def test_where_a_strategy_gains_its_whole_question_is_confirmed_longer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ledger, run = finish(STUDY, tmp_path)
    done = Counter(run.log)
    assert done["trained", "search", 2] == 4
    assert done["trained", "confirm", 2] == 6 and done["trained", "budget", 6] == 2, "each winner once, the test set closed"
    assert done["trained", "confirm", 6] == 4, "two of the six are the check's"
    assert done["measured", "confirm", 6] == 4 and done["measured", "budget", 6] == 2 and not done["measured", "confirm", 2]
    (record,) = ledger.budgets()
    ((part),) = record["rounds"]
    assert record["factor"] == 3 and (part["against"], part["factor"]) == (1, 3)
    assert [part["strategies"][s]["state"] for s in ("linear_probe", "full")] == ["flat", "gains"]
    (opening,) = ledger.test_openings()
    speak = {a.trial_id for a in confirm_asks(STUDY, ledger, ledger.confirmed_trials())}
    line = {a.trial_id for a in line_asks(STUDY, ledger.asks())}
    assert set(opening["trials"]) == speak | line and (len(speak), len(line)) == (6, 2)
    frames = load(ledger)
    assert set(frames.confirmed().trial_id) == speak and set(frames.confirmed().stage) == {"confirm", "budget"}
    assert frames.confirmed_protocol(Question.of(vars(CELLS[0]))).max_epochs == 6
    assert "budget check, 6 epochs instead of 2: " in (out := capsys.readouterr().out) and "Confirmed at 6 epochs" in out
    assert findings(frames).strategies.query("metric == 'macro_f1'").seeds.tolist() == [3, 3]


def test_a_completed_run_is_measured_as_it_was_recorded(tmp_path: Path) -> None:
    """Its result says when and how long it was trained, not when it was measured."""
    flat = {s: dict.fromkeys((2, 6), 0.6) for s in LEVEL}
    ledger = Ledger(tmp_path, "s")
    stopped = Made(ledger, flat)
    study = ledger.begin(STUDY, {})
    executor = executor_of(stopped, ledger, Interrupted())
    stages.search(executor)
    chosen = stages.choose(ledger)
    assert settle(executor, chosen) and not ledger.test_openings()
    asks = confirm_asks(study, ledger, chosen)
    seen = {a.trial_id: ledger.trial_folder(a.trial_id).read("result.json") for a in asks}
    assert all(seen.values()) and not any(ledger.measurements(t) for t in seen)
    stages.confirm(executor, chosen)
    assert {t: ledger.trial_folder(t).read("result.json") for t in seen} == seen
    assert all(ledger.measurements(t) == ["predictions"] for t in seen)
    assert Counter(stopped.log)["measured", "confirm", 2] == 6 and not Counter(stopped.log)["trained", "confirm", 6]
    assert {a.stage for a in ledger.asks() if ledger.measurements(a.trial_id)} == {Stage.CONFIRM}, (
        "the check's own runs never see the test set"
    )


def test_off_trains_and_measures_in_one_go(tmp_path: Path) -> None:
    ledger, run = finish(dataclasses.replace(STUDY, budget_check=0), tmp_path)
    assert {(what, stage, epochs) for what, stage, epochs in run.log} == {("trained", "search", 2), ("trained", "confirm", 2),
        ("measured", "confirm", 2)}  # fmt: skip
    assert ledger.budgets() == [] and not ledger.folder.exists("budgets.json") and len(load(ledger).confirmed()) == 6


def test_killed_anywhere_it_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole, run = finish(STUDY, tmp_path / "whole")
    expected = everything(whole)
    events = sum(2 + epochs for what, _, epochs in run.log if what == "trained") + 2 * 6 + 2 * 2
    kills = 0
    for last in range(1, events, 7):
        ledger = Ledger(tmp_path / str(last), "s")
        try:
            go(STUDY, ledger, Made(ledger, last=last))
        except Killed:
            kills += 1
        settled = any(b["factor"] == 3 for b in ledger.budgets())
        assert settled or not ledger.test_openings(), "closed until every budget is settled"
        go(STUDY, Ledger(tmp_path / str(last), "s"), Made(ledger))
        assert everything(ledger) == expected, last
    assert kills > 8


@pytest.mark.parametrize("where", ["_decide", "_tidy", "open_test"])
def test_killed_between_its_steps_it_ends_as_if_nothing_had_been(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = finish(STUDY, tmp_path / "whole")
    ledger = Ledger(tmp_path / "cut", "s")

    def cut(*args: object, **more: object) -> None:
        raise Killed

    with monkeypatch.context() as m:
        m.setattr(*((Ledger, "open_test", cut) if where == "open_test" else (settle_budget, where, cut)))
        with pytest.raises(Killed):
            go(STUDY, ledger, Made(ledger))
    assert not ledger.test_openings()
    go(STUDY, ledger, again := Made(ledger))
    assert everything(ledger) == everything(whole)
    assert not [e for e in again.log if e[:2] in (("trained", "search"), ("trained", "budget"))], "what was done is not done again"


def test_a_signal_stops_before_anything_is_decided(tmp_path: Path) -> None:
    ledger, interrupted = Ledger(tmp_path, "s"), Interrupted()
    run = Made(ledger)
    ledger.begin(STUDY, {})
    executor = executor_of(run, ledger, interrupted)
    stages.search(executor)
    chosen = stages.choose(ledger)
    run.record, plain = (lambda *a: (interrupted.set(), plain(*a))[1]), run.record  # type: ignore[method-assign]
    assert not settle(executor, chosen)
    assert ledger.budgets() == [] and not ledger.test_openings()


def test_never_longer_bars_the_loser_that_gains_and_says_what_would_decide(tmp_path: Path) -> None:
    ledger, run = finish(dataclasses.replace(STUDY, longest=1), tmp_path)
    assert not Counter(run.log)["trained", "confirm", 6] and Counter(run.log)["measured", "confirm", 2] == 6
    frames, question = load(ledger), Question.of(vars(CELLS[0]))
    assert budget_check.states(frames) == {(question, "linear_probe"): "flat", (question, "full"): "gains"}
    doubts = Fairness(frames).doubts(question, "linear_probe", "full")
    assert not any("epochs" in d for d in doubts.of_a) and "by 6 epochs instead of 2" in doubts.of_b[-1] and doubts.both == ()
    (pair,) = findings(frames).pairs.to_dict("records")
    assert pair["verdict"] == "not_comparable" and "full gained" in pair["reasons"], "full has the lower score, and would gain"
    (sentence,) = findings(frames).sentences
    assert sentence.steps[0].text == "Train longer: full would gain on validation. This confirms all at 6 epochs"
    assert sentence.steps[0].command == "python -m study.sweep results/s --set longest=3"
    page = tmp_path / "r.html"
    summary = report.write_report(ledger, page, tables=str(tmp_path / "t"))
    assert any("its verdicts are about short training" in w for w in summary.warnings)
    assert "Would longer training help?" in (text := page.read_text()) and "full would gain by longer training" in text
    rows = (tmp_path / "t" / "budgets.csv").read_text().splitlines()
    assert len(rows) == 3 and "gains" in rows[2]
    # what it says brings the answer, at the price of a second look
    grown, changes = grow(ledger.study(), dataclasses.replace(ledger.study(), longest=3), "here")
    assert [c.text for c in changes] == ["longest: 1 -> 3"]
    go(grown, ledger, more := Made(ledger))
    assert Counter(more.log)["trained", "confirm", 6] == 4 and not Counter(more.log)["trained", "budget", 6]
    frames = load(ledger)
    assert len(frames.openings) == 2 and frames.amendments[0]["test_open"]
    assert budget_check.states(frames)[question, "full"] == "not known", "nobody looked beyond six epochs"
    assert not budget_check.open_gains(frames) and set(frames.confirmed().epochs) == {6}


def test_the_budget_climbs_as_far_as_it_is_allowed_and_gains(tmp_path: Path) -> None:
    level = {"linear_probe": {2: 0.6, 6: 0.6, 18: 0.6}, "full": {2: 0.3, 6: 0.5, 18: 0.8}}
    ledger, run = finish(dataclasses.replace(STUDY, longest=9), tmp_path, level)
    (record,) = ledger.budgets()
    assert record["factor"] == 9 and [(r["against"], r["factor"]) for r in record["rounds"]] == [(1, 3), (3, 9)]
    assert Counter(run.log)["measured", "confirm", 18] == 4 and Counter(run.log)["measured", "budget", 18] == 2
    assert not [e for e in run.log if e[0] == "measured" and e[2] < 18], "one opening, for the runs that speak"
    assert [line.rpartition(". ")[2] for line in budget_check.budget_lines(load(ledger))] == ["So all were trained longer",
        "So all were confirmed at 18 epochs"]  # fmt: skip


def test_a_score_that_falls_is_said_and_equal_epochs_stay(tmp_path: Path) -> None:
    level = {"linear_probe": {2: 0.8, 6: 0.5}, "full": {2: 0.4, 6: 0.7}}
    ledger, _ = finish(STUDY, tmp_path, level)
    frames = load(ledger)
    assert ledger.budgets()[0]["rounds"][0]["strategies"]["linear_probe"]["falls"] and set(frames.confirmed().epochs) == {6}
    assert any("score of linear_probe falls with longer training" in w for w in findings(frames).warnings)
    assert budget_check.budget_lines(frames)[0].endswith("The score of linear_probe falls with longer training")


def test_more_seeds_train_at_the_budget_that_was_decided_and_a_new_strategy_is_decided_on_anew(tmp_path: Path) -> None:
    ledger, _ = finish(STUDY, tmp_path)
    before = ledger.budgets()
    go(dataclasses.replace(STUDY, confirm_seeds=4), ledger, run := Made(ledger))
    assert Counter(run.log) == {("trained", "confirm", 6): 2, ("measured", "confirm", 6): 2} and ledger.budgets() == before
    more = dataclasses.replace(STUDY, confirm_seeds=4, cells=(*CELLS, *grid(["digits"], ["efficientnet_lite0"], ["partial"])))
    go(more, ledger, run := Made(ledger, {**LEVEL, "partial": {2: 0.5, 6: 0.5}}))
    (record,) = ledger.budgets()
    assert len(record["on"]) == 3 and record["earlier"] == [{k: before[0][k] for k in ("factor", "on", "rounds")}]
    assert Counter(run.log)["trained", "budget", 6] == 1 and Counter(run.log)["trained", "search", 2] == 2
    assert set(load(ledger).confirmed().groupby("strategy").size()) == {4}


def test_with_several_searches_the_best_winner_is_checked_against_its_own_runs(tmp_path: Path) -> None:
    study = dataclasses.replace(STUDY, trials=4, random_trials=2, searches=2, confirm_seeds=4)
    ledger, _ = finish(study, tmp_path)
    best, chosen = ledger.selection()["chosen"], ledger.confirmed_trials()
    for cell in CELLS:
        own = ledger.budgets()[0]["rounds"][0]["strategies"][cell.strategy]["runs"]
        ask = ledger.ask(own["longer"][0])
        search = chosen[cell.id].index(best[cell.id])
        assert ask.number == search and ask.config["strategy"] == ledger.ask(best[cell.id]).config["strategy"]
        short = [ledger.ask(t) for t in own["shorter"]]
        assert [a.number % 2 for a in short] == [search] * 2 and short[0].config["seed"] == ask.config["seed"]


def test_what_is_left_is_known_at_every_step(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "s")
    study = ledger.begin(STUDY, {})
    left = stages.remaining(study, ledger).todo
    assert [left[CELLS[0].id, k] for k in (0, 1, 3)] == [2, 3, 1], "search, confirm runs, one of three times the epochs"
    with pytest.raises(Killed):
        go(STUDY, ledger, Made(ledger, last=60))
    finish(STUDY, tmp_path)
    assert sum(stages.remaining(study, ledger).todo.values()) == 0
    done = stages.ended(study, ledger)
    assert [done[CELLS[0].id, s] for s in (Stage.SEARCH, Stage.CONFIRM, Stage.BUDGET)] == [2, 3, 1]
    assert next_rounds(study, ledger, ledger.confirmed_trials()) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.update(questions={}), "'questions' is an object, not a list"),
        (lambda v: v["questions"][0].update(factor=0), "'questions.0.factor' is 0, not greater than or equal to 1"),
        (lambda v: v["questions"][0]["rounds"][0]["strategies"]["full"].update(state="wins"),
            "strategies.full.state' is \"wins\", not 'gains', 'flat' or 'not known'"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_the_way_out(change: Callable, said: str, tmp_path: Path) -> None:
    ledger, _ = finish(STUDY, tmp_path)
    values = json.loads(ledger.folder.read("budgets.json"))
    change(values)
    ledger.folder.write("budgets.json", json.dumps(values).encode())
    with pytest.raises(Exception, match="budgets.json is damaged .*remove it to have it written again") as refused:
        load(ledger)
    assert said in str(refused.value)
    ledger.folder.remove("budgets.json")
    go(STUDY, ledger, again := Made(ledger))
    assert again.log == [] and ledger.budgets()[0]["factor"] == 3, "decided again from the same runs"


# ---- with networks that are trained ------------------------------------------------------------------------------


def test_a_sweep_checks_confirms_longer_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One epoch of two steps is too few for anything, so the probe gains by three. One word turns all of it off."""
    file = tiny.write(tmp_path, strategies=("linear_probe",), seeds=4, check=3)
    file.write_text(file.read_text().replace("max_epochs=2", "max_epochs=1"))
    line = [str(file), "--local", "--mlflow", "off"]
    assert sweep.main([*line, "--results", str(tmp_path / "r"), "--dry-run"]) == 0
    plan = " ".join(capsys.readouterr().out.split())
    assert "budget check, before the test set is opened: each winner once at 3 epochs" in plan and "at most" in plan
    assert sweep.main([*line, "--results", str(tmp_path / "r")]) == 0
    ledger = Ledger(tmp_path / "r", "tiny")
    (record,) = ledger.budgets()
    assert record["rounds"][0]["strategies"]["linear_probe"]["state"] == "gains" and record["factor"] == 3
    runs = [ledger.trial(a.trial_id) for a in confirm_asks(ledger.study(), ledger, ledger.confirmed_trials())]
    assert [len(t.epochs) for t in runs] == [3] * 4 and Counter(t.ask.stage for t in runs) == {Stage.BUDGET: 1, Stage.CONFIRM: 3}
    for trial in runs:
        said, config = np.array(trial.epochs[-1].said), TrialConfig.from_dict(trial.ask.config)
        assert trial.epochs[0].said is None and config.protocol.views == 3
        labels = (table := open_dataset("digits")).labels[table.split == VAL]
        hits, named, truth = (np.bincount(x, minlength=10).astype(float) for x in (labels[said == labels], said, labels))
        assert float(macro_f1(Counts(hits=hits, said=named, truth=truth))) == trial.epochs[-1].metrics["val/macro_f1"]
        assert ledger.measurements(trial.ask.trial_id) == ["predictions"] and ledger.trial_folder(trial.ask.trial_id).exists("best")
    short = [a for a in ledger.asks(Stage.CONFIRM) if a.origin is not Origin.LINE and a.config["protocol"]["max_epochs"] == 1]
    assert len(short) == 4 and not any(ledger.trial_folder(a.trial_id).exists("best") for a in short), "what does not speak is not kept"
    page = (tmp_path / "r" / "tiny" / "report.html").read_text()
    assert "at 3 epochs" in page and "Would longer training help?" in page
    assert sweep.main([*line, "--results", str(tmp_path / "off"), "--budget-check", "off", "--dry-run"]) == 0
    assert "budget check: off" in capsys.readouterr().out


def test_cells_name_the_question_they_belong_to() -> None:
    a, b = Cell(dataset="d", backbone="b", strategy="full"), Cell(dataset="d", backbone="b", strategy="partial")
    assert (
        a.question == b.question
        and dataclasses.replace(a, budget=3).question != a.question != dataclasses.replace(a, image_size=64).question
    )


def test_no_stage_is_announced_after_an_interrupt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(tmp_path, "s")
    study = ledger.begin(Study(name="s", cells=grid(["digits"], ["resnet18"], ["full"])), {})
    interrupted = Interrupted()
    interrupted.set()
    execute = stages.Executor(lambda *_, **__: pytest.fail("nothing runs"), Workplace.of(ledger), {}, interrupted)
    stages.set_line(execute)
    stages.search(execute)
    assert study.name == "s" and capsys.readouterr().out == ""
