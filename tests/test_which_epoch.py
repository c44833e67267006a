"""The epoch that speaks for a trial: by either rule, network, scores and result are of one epoch, however the trial ended."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.data.predictions import read_predictions
from study.console.signals import Interrupted
from study.metrics import class_scores, score
from study.networks.kept import keep as write
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.question.which_epoch import kept_epoch, may_be_kept
from study.records import Ask, EpochRecord, Origin, Outcome, Stage, TrialResult
from study.replay import replay
from study.run import run_trial
from study.search import local
from study.search.conductor import Conductor
from study.search.optuna_cells import SearchPlan
from study.search.plans import FixedPlan
from study.storage import checkpoint
from study.storage.folder import Folder
from study.storage.places import Places
from study.tracking.ledger import Ledger
from study.training.loop import fine_tune

KEEPS = ("last", "best")
PROTOCOL = Protocol(max_epochs=5, image_size=32, batch_size=64, train_eval_images=64)


def record(epoch: int, objective: float) -> EpochRecord:
    metrics = {} if objective == -np.inf else {"val/macro_f1": objective}
    return EpochRecord(epoch=epoch, metrics=metrics, train_seconds=1.0, eval_seconds=1.0, images=1, ended_at=float(epoch))


@pytest.mark.parametrize("keep", KEEPS)
def test_the_last_epoch_that_may_be_kept_is_the_one_that_is(keep: str) -> None:
    """Whatever the scores, ties and undefined ones too, and wherever among `stops` the trial ends, its network is that of its result."""
    rng, stops, protocol = np.random.default_rng(0), (2, 4), Protocol(max_epochs=6, keep=keep)
    for _ in range(200):
        epochs = [record(k, float(rng.choice([-np.inf, 0.1, 0.2, 0.3]))) for k in range(1, 7)]
        for end in (*stops, 6):
            own = epochs[:end]
            written = [e for k, e in enumerate(own) if may_be_kept(protocol, e.epoch, e.objective, own[:k], stops)]
            assert written[-1] is kept_epoch(protocol, own)
    assert kept_epoch(protocol, []) is None


def test_the_rules_differ_as_they_say() -> None:
    epochs = [record(k, score) for k, score in enumerate((0.1, 0.4, 0.4, 0.3), 1)]
    assert kept_epoch(Protocol(keep="last"), epochs).epoch == 4 and kept_epoch(Protocol(keep="best"), epochs).epoch == 2


# ---- through the local runner ----------------------------------------------------------------------


class Stopping(FixedPlan):
    """A rule that stops every trial after epoch `at`, as successive halving does."""

    def __init__(self, asks: list[Ask], at: int) -> None:
        super().__init__(asks, set())
        self.at = at

    def report(self, ask: Ask, record: EpochRecord) -> bool:
        return record.epoch == self.at

    def stops(self, ask: Ask) -> tuple[int, ...]:
        return (self.at,)


def asked(keep: str, stage: Stage = Stage.SEARCH) -> Ask:
    """Return a trial at a rate where the best epoch is not the last one."""
    cell = Cell(dataset="digits", backbone="efficientnet_lite0", strategy="linear_probe", train_fraction=0.2)
    config = TrialConfig.default(cell, dataclasses.replace(PROTOCOL, keep=keep)).with_values({"lr": 0.03})
    origin = Origin.TPE if stage is Stage.SEARCH else Origin.CONFIRM
    return Ask(trial_id=config.id, cell=cell.id, number=0, stage=stage, origin=origin, config=config.as_dict())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


class Run:
    """One trial in a ledger of its own, run as a sweep without Ray runs it. It goes on when run again with the same folder."""

    def __init__(self, root: Path, cache: str) -> None:
        self.ledger, self.places = Ledger(root, "s"), Places(folder=str(root), cache=cache)

    def __call__(
        self, plan: FixedPlan, measurements: tuple[str, ...] = (), interrupt_after: int = 0
    ) -> tuple[TrialResult | None, list[EpochRecord]]:
        interrupted, seen = Interrupted(), []

        def watch(event: str, ask: Ask, value: object) -> None:
            seen.append(ask)
            if event == "epoch" and value.epoch == interrupt_after:
                interrupted.set()

        conductor = Conductor(plan, self.ledger, lambda config: [str(k) for k in range(10)], watch, measurements)
        local.run(conductor, self.places_of, total=1, measurements=measurements, interrupted=interrupted)
        trial_id = seen[0].trial_id
        return self.ledger.result(trial_id), self.ledger.epochs(trial_id)

    def places_of(self, ask: Ask) -> Places:
        return self.places.of_trial(self.ledger.trial_folder(ask.trial_id).location)

    def network(self, ask: Ask) -> tuple[dict[str, torch.Tensor], dict]:
        found = checkpoint.load_weights(self.ledger.trial_folder(ask.trial_id), "best", trial=ask.trial_id)
        assert found is not None, "no network was kept"
        return found


def agree(run: Run, ask: Ask, result: TrialResult, epochs: list[EpochRecord]) -> EpochRecord:
    """Check that result and network are of the epoch that the protocol names, to the last digit, and return that epoch."""
    kept = kept_epoch(TrialConfig.from_dict(ask.config).protocol, epochs)
    assert result.best_epoch == kept.epoch and result.metrics == kept.metrics and "train/macro_f1" in kept.metrics
    assert result.val == class_scores(np.array(kept.confusion)) and np.array(kept.confusion).sum() == 360
    assert run.network(ask)[1]["epoch"] == kept.epoch
    return kept


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: str) -> dict[str, tuple[Run, TrialResult, list[EpochRecord]]]:
    """Return by rule an uninterrupted search trial."""
    found = {}
    for keep in KEEPS:
        run = Run(tmp_path_factory.mktemp(keep), cache)
        found[keep] = (run, *run(FixedPlan([asked(keep)], set())))
    return found


@pytest.mark.parametrize("keep", KEEPS)
def test_a_completed_trial_is_the_epoch_it_keeps(keep: str, whole) -> None:
    run, result, epochs = whole[keep]
    kept = agree(run, asked(keep), result, epochs)
    assert result.outcome is Outcome.COMPLETED and result.epochs == 5
    assert kept.epoch == (5 if keep == "last" else max(epochs, key=lambda e: e.objective).epoch)
    assert max(epochs, key=lambda e: e.objective).epoch < 5, "both rules would keep the same: choose another trial for these tests"
    looked = [e.epoch for e in epochs if e.confusion is not None]
    assert looked == [e.epoch for e in epochs if "train/macro_f1" in e.metrics]
    assert looked == [5] if keep == "last" else looked[-1] == kept.epoch


def test_both_rules_are_of_the_same_training(whole) -> None:
    (_, _, last), (_, _, best) = (whole[keep] for keep in KEEPS)
    for a, b in zip(last, best, strict=True):
        assert {k: a.metrics[k] for k in a.metrics.keys() & b.metrics.keys()} == {
            k: b.metrics[k] for k in a.metrics.keys() & b.metrics.keys()
        }


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(
    "seconds", [pytest.param(0.0, marks=pytest.mark.slow), 1e9], ids=["a checkpoint every epoch", "none but at the interrupt"]
)
def test_interrupted_and_resumed_it_ends_as_if_it_had_not_been(
    keep: str, seconds: float, whole, tmp_path: Path, cache: str, monkeypatch
) -> None:
    monkeypatch.setattr("study.run.CHECKPOINT_SECONDS", seconds)
    run, ask = Run(tmp_path, cache), asked(keep)
    assert run(FixedPlan([ask], set()), interrupt_after=3)[0] is None
    result, epochs = run(FixedPlan([ask], set()))
    agree(run, ask, result, epochs)
    unbroken, expected, _ = whole[keep]
    assert (result.metrics, result.val, result.best_epoch, result.epochs) == (expected.metrics, expected.val, expected.best_epoch, 5)
    ours, theirs = run.network(ask)[0], unbroken.network(ask)[0]
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], v) for k, v in theirs.items())


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("killed", ["before_ckpt_rename", "after_ckpt_rename"])
@pytest.mark.parametrize("epoch", [pytest.param(4, marks=pytest.mark.slow), 5])
def test_killed_while_it_writes_it_loses_nothing(
    keep: str, killed: str, epoch: int, whole, tmp_path: Path, cache: str, monkeypatch
) -> None:
    """It is killed within the writing of the network or of a checkpoint, of the last epoch too."""

    class Killed(BaseException):
        pass

    written = []

    def failpoint(name: str) -> None:
        written.append(name)
        if name == killed and reached and reached[-1] >= epoch - 1:
            raise Killed

    reached: list[int] = []
    monkeypatch.setattr("study.run.CHECKPOINT_SECONDS", 0.0)
    config, places = TrialConfig.from_dict(asked(keep).config), Places(folder=str(tmp_path), cache=cache)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("study.storage.checkpoint.failpoint", failpoint)
        run_trial(config, places, lambda r: bool(reached.append(r.epoch)), curve=False)
    assert reached[-1] == epoch - 1 and written
    again: list[int] = []
    assert run_trial(config, places, lambda r: bool(again.append(r.epoch)), curve=False).outcome is Outcome.COMPLETED
    assert again == [1, 2, 3, 4, 5], "what went before is reported again"
    ours, facts = checkpoint.load_weights(Folder(str(tmp_path)), "best", trial=config.id)
    theirs, expected = whole[keep][0].network(asked(keep))
    assert facts["epoch"] == expected["epoch"] and all(torch.equal(ours[k], v) for k, v in theirs.items())


@pytest.mark.parametrize("keep", KEEPS)
def test_a_stopped_trial_is_the_epoch_it_keeps_and_can_be_replayed(keep: str, tmp_path: Path, cache: str) -> None:
    run, ask = Run(tmp_path / "results", cache), asked(keep)
    result, epochs = run(Stopping([ask], at=3))
    kept = agree(run, ask, result, epochs)
    assert result.outcome is Outcome.STOPPED and result.epochs == 3 and result.reason == "stopped by the scheduler after epoch 3"
    assert kept.epoch == 3 or keep == "best"
    assert replay(run.ledger, ask, run.places, tmp_path / "scratch").equal


@pytest.mark.parametrize("keep", KEEPS)
def test_a_stop_lost_with_its_process_is_made_up_for(keep: str, tmp_path: Path, cache: str, monkeypatch) -> None:
    """The epoch is in the ledger and in a checkpoint, but has no answer yet. The trial is stopped there, with that epoch's network."""
    monkeypatch.setattr("study.run.CHECKPOINT_SECONDS", 0.0)
    run, ask = Run(tmp_path, cache), asked(keep)
    plan = Stopping([ask], at=3)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "report", lambda ask, record: False)
        assert run(plan, interrupt_after=3)[0] is None
    result, epochs = run(Stopping([ask], at=3))
    agree(run, ask, result, epochs)
    assert result.outcome is Outcome.STOPPED and [e.epoch for e in epochs] == [1, 2, 3]


@pytest.mark.parametrize("keep", KEEPS)
def test_what_went_on_past_a_rung_is_not_stopped_there_later(keep: str, tmp_path: Path, cache: str, monkeypatch) -> None:
    """Others may have overtaken it since. Its epochs and its network are those of a trial that was let go on."""
    monkeypatch.setattr("study.run.CHECKPOINT_SECONDS", 0.0)
    run, ask = Run(tmp_path, cache), asked(keep)
    plan = Stopping([ask], at=2)
    with monkeypatch.context() as patch:
        patch.setattr(plan, "report", lambda ask, record: False)
        run(plan, interrupt_after=3)
    result, epochs = run(Stopping([ask], at=2))
    agree(run, ask, result, epochs)
    assert result.outcome is Outcome.COMPLETED and result.epochs == 5


@pytest.mark.parametrize("keep", KEEPS)
def test_out_of_memory_it_goes_on_with_half_the_batch_to_the_same_epoch(keep: str, tmp_path: Path, cache: str, monkeypatch) -> None:
    attempts = []

    def short(config: TrialConfig, inputs, *, micro_batches: int, **rest):
        attempts.append(micro_batches)
        for found in fine_tune(config, inputs, micro_batches=micro_batches, **rest):
            if micro_batches == 1 and found[0].epoch == 3:
                raise torch.OutOfMemoryError("device")
            yield found

    monkeypatch.setattr("study.run.fine_tune", short)
    run, ask = Run(tmp_path, cache), asked(keep)
    result, epochs = run(FixedPlan([ask], set()))
    agree(run, ask, result, epochs)
    assert attempts == [1, 2] and result.outcome is Outcome.COMPLETED and result.facts["micro_batches"] == 2


@pytest.mark.parametrize("keep", KEEPS)
def test_a_confirm_run_is_measured_on_the_epoch_it_keeps_and_can_be_replayed(keep: str, tmp_path: Path, cache: str) -> None:
    run, ask = Run(tmp_path / "results", cache), asked(keep, Stage.CONFIRM)
    result, epochs = run(FixedPlan([ask], set()), measurements=("predictions",))
    agree(run, ask, result, epochs)
    assert all("train/macro_f1" in e.metrics for e in epochs), "its curve is drawn"
    val = read_predictions(run.ledger, ask.trial_id)["val"]
    assert score(val.logits, val.labels)[0]["macro_f1"] == pytest.approx(result.metrics["val/macro_f1"], abs=1e-9)
    again = replay(run.ledger, ask, run.places, tmp_path / "scratch")
    assert again.equal and again.answers.furthest == 0


@pytest.mark.parametrize("keep", KEEPS)
def test_the_network_is_written_when_it_may_be_the_one_that_is_kept(keep: str, tmp_path: Path, cache: str, monkeypatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(
        "study.run.keep",
        lambda folder, network, tensors: (written.append(network.epoch), write(folder, network, tensors)),
    )
    config = TrialConfig.from_dict(asked(keep).config)

    def run(name: str, report: Callable[[EpochRecord], bool], **more) -> tuple[list[int], int]:
        written.clear()
        run_trial(config, Places(folder=str(tmp_path / name), cache=cache), report, **more)
        return list(written), checkpoint.load_weights(Folder(str(tmp_path / name)), "best", trial=config.id)[1]["epoch"]

    seen: list[EpochRecord] = []
    (whole, _), (planned, _) = run("whole", lambda r: bool(seen.append(r))), run("planned", lambda r: False, stops=(2, 3))
    improved = [e.epoch for k, e in enumerate(seen) if e.objective > max((o.objective for o in seen[:k]), default=-1)]
    assert whole == ([5] if keep == "last" else improved) and planned == ([2, 3, 5] if keep == "last" else improved)
    stopped, last = run("stopped", lambda r: r.epoch == 4)
    assert last == kept_epoch(config.protocol, seen[:4]).epoch, "stopped where nobody had said that it might be"
    assert stopped == ([4] if keep == "last" else [k for k in improved if k <= 4])

    def ended_from_outside(record: EpochRecord) -> bool:
        if record.epoch == 3:
            raise SystemExit  # as Tune ends a trial
        return False

    with pytest.raises(SystemExit):
        run("outside", ended_from_outside, stops=(3,))
    assert checkpoint.load_weights(Folder(str(tmp_path / "outside")), "best")[1]["epoch"] == kept_epoch(config.protocol, seen[:3]).epoch


def test_ray_is_told_where_a_trial_may_be_stopped(tmp_path: Path) -> None:
    from study.search.on_ray.tuner import _Searcher
    from study.search.resources import Resources

    conductor = Conductor(Stopping([asked("last")], at=2), Ledger(tmp_path, "s"), lambda config: [], lambda *event: None)
    driver = SimpleNamespace(
        over=False, conductor=conductor, places=lambda ask: Places(folder=""), resources=Resources(), storage="", measurements=()
    )
    assert _Searcher(driver).suggest("1")["stops"] == [2]


# ---- the search ------------------------------------------------------------------------------------


def test_a_search_stops_trials_where_it_said_it_might_and_nowhere_else(tmp_path: Path) -> None:
    study = Study(
        name="s", cells=grid(["digits"], ["resnet18"], ["full"]), protocol=Protocol(max_epochs=12), trials=40, random_trials=4,
        grace_epochs=2, reduction_factor=2, confirm_seeds=0,
    )  # fmt: skip
    plan, rng, stopped = SearchPlan(study, Ledger(tmp_path, "s")), np.random.default_rng(0), []
    while (ask := plan.ask()) is not None:
        assert plan.stops(ask) == ((2, 4, 8) if ask.origin is Origin.TPE else ())
        level, epochs = rng.uniform(), []
        for epoch in range(1, 13):
            epochs.append(record(epoch, level + float(rng.normal(0, 0.3))))
            if plan.report(ask, epochs[-1]):
                assert epoch in plan.stops(ask)
                stopped.append(epoch)
                break
        outcome = Outcome.COMPLETED if len(epochs) == 12 else Outcome.STOPPED
        plan.tell(ask, TrialResult(
            trial_id=ask.trial_id, outcome=outcome, epochs=len(epochs), best_epoch=len(epochs), metrics=epochs[-1].metrics, classes=[],
            val=None,
            seconds=1.0, images=1,
        ))  # fmt: skip
    assert set(stopped) == {2, 4, 8}, "every rung stopped some"


@pytest.mark.parametrize("keep", KEEPS)
def test_optuna_is_told_what_the_trial_is_known_by(keep: str, whole, tmp_path: Path) -> None:
    run, result, epochs = whole[keep]
    config = TrialConfig.from_dict(asked(keep).config)
    study = Study(name="s", cells=(config.cell,), protocol=config.protocol, trials=1, random_trials=0)
    live, read = SearchPlan(study, Ledger(tmp_path, "none")), SearchPlan(study, run.ledger)
    ask = live.ask()
    for epoch in epochs:
        assert not live.report(ask, epoch)
    live.tell(ask, result)
    for plan in (live, read):
        ((cell, _),) = plan.cells
        (trial,) = plan.cells[cell, 0].study.trials
        assert trial.value == kept_epoch(config.protocol, epochs).objective == result.metrics["val/macro_f1"]
        assert trial.intermediate_values == {e.epoch: e.objective for e in epochs}, "rungs compare at equal epochs"
