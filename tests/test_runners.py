"""The place where trials run: as asked, else wherever they are expected to end first. A Ray that does not start is done without."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from study import sweep
from study.budget.machine import Conditions
from study.conduct import runners
from study.conduct.checks import open_tables
from study.conduct.runners import LONGEST_HERE_S, check_machine, expected_seconds, here_first, in_this_process, open_runner
from study.conduct.same_images import Tables
from study.conduct.workplace import Workplace
from study.datasets.spec import kept_by_class
from study.errors import ConfigError, EnvironmentProblem
from study.question.cell import grid
from study.question.studies import narrow
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.search import RayDoesNotStart, local
from study.storage.options import Options
from study.tracking.ledger import find
from tests.goldens import GOLDEN

STUDY = Study(
    name="short", cells=grid(["digits"], ["efficientnet_lite0"], ["linear_probe", "full"], (0.1,)), trials=2, random_trials=1,
    confirm_seeds=2,
    grace_epochs=1, protocol=Protocol(max_epochs=2, image_size=32, train_eval_images=32),
)  # fmt: skip
Case = tuple[Workplace, Tables]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    work = Workplace.at(STUDY, Options(results=str(tmp_path)))
    return work, open_tables(STUDY, work.places)


def asking(work: Workplace, **changes: Any) -> Workplace:
    """The same place with a study narrowed so."""
    return replace(work, study=narrow(work.study, **changes))


def dear(*_: object) -> float:
    return 1e9


def unasked(*_: object) -> float:
    raise AssertionError("there is nothing to estimate")


# ---- the rule ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "at_once", "threads", "load", "here"),
    [
        (10, 2, 2, 1, True),
        (100, 2, 2, 1, True),  # two at once on one core each save a sixth of it
        (300, 2, 2, 1, False),
        (300, 2, 2, 4, True),  # Ray's start takes longer too
        (30, 16, 16, 1, True),
        (60, 16, 16, 1, False),
        (30, 16, 1, 1, False),  # here fifteen cores would idle
        (1000, 1, 8, 1, True),  # one at a time either way
        (LONGEST_HERE_S + 1, 1, 8, 1, False),
    ],
)
def test_the_rule(seconds: float, at_once: int, threads: int, load: float, here: bool) -> None:
    assert here_first(seconds, at_once, threads, load) is here


def test_longer_studies_never_come_back_from_ray() -> None:
    for at_once in (1, 2, 4, 16, 64):
        for load in (1.0, 3.0, 10.0):
            told = [here_first(s, at_once, at_once, load) for s in range(0, 4000, 10)]
            assert told[0] and told == sorted(told, reverse=True)


# ---- what decides before it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "here"),
    [
        (Options(local=True), True),
        (Options(ray=True), False),
        (Options(address="head:6379"), False),
        (Options(concurrent=2), False),
        (Options(gpus_per_trial=0.5), False),
        (Options(cpus_per_worker=2), False),
        (Options(local=True, address="head:6379"), True),
    ],
)
def test_what_is_asked_for_is_done_and_nothing_measured(options: Options, here: bool, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "expected_seconds", unasked)
    work, tables = case
    assert in_this_process(work, options, tables) is here


def test_several_workers_a_cluster_in_the_shell_and_several_gpus_go_to_ray(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    work, tables = case
    monkeypatch.setattr(runners, "expected_seconds", unasked)
    assert not in_this_process(asking(work, workers=2), Options(), tables)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert not in_this_process(work, Options(), tables)
    monkeypatch.undo()
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert not in_this_process(work, Options(), tables)


def test_both_are_refused() -> None:
    with pytest.raises(ConfigError, match="not both"):
        check_machine(STUDY, Options(local=True, ray=True))
    with pytest.raises(SystemExit) as ended:
        sweep.parser().parse_args(["quickstart", "--local", "--ray"])
    assert ended.value.code == 2


# ---- what is left, and how long it takes ---------------------------------------------------------------------


def test_few_short_trials_stay_here_and_say_so(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    work, tables = case
    backbone, _ = runners.forward("efficientnet_lite0", STUDY.protocol, None)
    monkeypatch.setattr(runners, "forward", lambda *_: (backbone, 0.001))  # of an idle machine; a busy one's trials are not short
    assert in_this_process(work, Options(), tables)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Running in this process: 10 trials of about ") and "--ray" in line
    monkeypatch.setattr(runners, "expected_seconds", dear)
    assert not in_this_process(work, Options(), tables) and capsys.readouterr().out == ""


def test_many_trials_go_to_ray_without_an_estimate(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    work, tables = case
    monkeypatch.setattr(runners, "expected_seconds", unasked)
    monkeypatch.setattr(runners, "conditions", lambda *_: Conditions(at_once=2, threads=1, ray=True))
    assert not in_this_process(asking(work, trials=10_000), Options(), tables)


def test_a_study_that_is_done_starts_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(runners, "expected_seconds", unasked)
    assert in_this_process(Workplace.of(find(str(GOLDEN))), Options(), {}) and capsys.readouterr().out == ""


def test_the_estimate_goes_by_images_epochs_and_trials(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It also goes by how far down a strategy trains, and measured seconds of ended trials take its place.

    Two runs of a search, two that confirm, and one that checks the budget with three times the epochs are seven runs' worth.
    """
    work, tables = case
    backbone, forward = runners.forward("efficientnet_lite0", STUDY.protocol, None)
    assert 0 < forward < 1
    monkeypatch.setattr(runners, "forward", lambda *_: (backbone, 0.01))
    probe, full = (expected_seconds(asking(work, strategies=[s]), tables) for s in ("linear_probe", "full"))
    train = sum(kept_by_class(tables["digits", "official"], 0.1))
    looked = sum(tables["digits", "official"].counts()["val"]) + 32
    assert probe == pytest.approx(5 * runners.TRIAL_S + 7 * 0.01 * (2 * train + looked)), (
        "what is only looked at is stored, and passes once"
    )
    assert full == pytest.approx(5 * runners.TRIAL_S + 7 * 0.01 * 2 * (3 * train + looked))
    golden = Workplace.of(find(str(GOLDEN)))
    more = asking(golden, confirm_seeds=golden.study.confirm_seeds + 2)
    monkeypatch.setattr(runners, "forward", unasked)
    assert expected_seconds(more, {}) > 0


# ---- a Ray that does not start -------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: object) -> None:
        raise Exception("The current node timed out during startup. More on another line\nand so on")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(runners, "in_this_process", lambda *_: False)


def test_a_ray_that_does_not_start_is_done_without(broken: None, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    work, tables = case
    with open_runner(work, Options(), tables) as run:
        assert run is local.run
    assert capsys.readouterr().err == (
        "Ray does not start on this machine (The current node timed out during startup. More on another line). "
        "Running in this process instead, one trial at a time.\n"
    )
    assert ".ray" not in work.ledger.folder.names()


@pytest.mark.parametrize(("options", "workers"), [(Options(ray=True), 1), (Options(), 2)])
def test_unless_it_was_asked_for_or_is_needed(options: Options, workers: int, broken: None, case: Case) -> None:
    work, tables = case
    way_out = "lower --workers to 1" if workers > 1 else "leave --ray out: trials then run in this process"
    with (
        pytest.raises(RayDoesNotStart, match=f"Mend what it names, or {way_out}"),
        open_runner(asking(work, workers=workers), options, tables),
    ):
        pass


def test_an_address_that_was_given_is_not_done_without(broken: None, case: Case) -> None:
    work, tables = case
    options = Options(address="127.0.0.1:1")
    with pytest.raises(EnvironmentProblem, match="nothing answers"), open_runner(work, options, tables):
        pass


def test_what_a_run_that_lost_its_head_left_is_removed_by_the_next_one_anywhere(case: Case) -> None:
    work, tables = case
    work.ledger.folder.write(".ray/tune/tuner.pkl", b"of the run before")
    with open_runner(replace(work), Options(results="", local=True), tables) as run:
        assert run is local.run
    assert ".ray" not in work.ledger.folder.names()


def test_a_machine_without_ray_runs_all_the_same(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    work, tables = case
    monkeypatch.setattr(runners, "in_this_process", lambda *_: False)
    monkeypatch.setitem(sys.modules, "study.search.on_ray.cluster", None)
    with open_runner(work, Options(), tables) as run:
        assert run is local.run
    assert "Ray cannot be loaded" in capsys.readouterr().err


def test_a_failure_of_the_trials_is_not_taken_for_one_of_the_start(case: Case) -> None:
    work, tables = case
    with pytest.raises(EnvironmentProblem, match="disk"), open_runner(work, Options(local=True), tables):
        raise EnvironmentProblem("the disk is full")


def test_ray_says_nothing_of_tokens_that_it_uses(caplog: pytest.LogCaptureFixture) -> None:
    from ray._private.authentication import authentication_token_setup as tokens

    import study.search.on_ray.cluster  # noqa: F401

    tokens._warn_token_auth_enabled()
    assert caplog.text == ""
    tokens._warn_token_auth_disabled()
    assert "Token authentication is disabled" in caplog.text
