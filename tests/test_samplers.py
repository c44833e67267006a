"""The sampler that proposes the guided trials of a search is the study's choice: laws of each sampler, and where its name stands."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import get_args

import optuna
import pytest
from optuna.samplers import GPSampler

from analysis.load import load
from analysis.words import protocol
from study.errors import ConfigError
from study.question.cell import grid
from study.question.growth import grow
from study.question.studies import narrow
from study.question.study_config import Sampler, Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Origin, Outcome, TrialResult
from study.search.optuna_cells import SearchPlan
from study.search.samplers import SAMPLERS
from study.space import Log
from study.tracking.ledger import Ledger
from tests import tiny

HIDDEN = 3e-4  # the best rate of the bowl


def study(**fields) -> Study:
    cells = grid(["digits"], ["resnet18"], ["full"])
    return Study(name="s", cells=cells, protocol=Protocol(max_epochs=3), **{"trials": 10, "random_trials": 4, "sampler": "gp", **fields})


def score(ask: Ask) -> float:
    lr = TrialConfig.from_dict(ask.config).tuned()["lr"]
    return 1 - abs(Log(1e-6, 1e-1).position(lr) - Log(1e-6, 1e-1).position(HIDDEN))


def ended(ask: Ask) -> TrialResult:
    return TrialResult(
        trial_id=ask.trial_id, outcome=Outcome.COMPLETED, reason="", epochs=3, best_epoch=3, metrics={"val/macro_f1": score(ask)},
        classes=[],
        val=None, seconds=1.0, images=1, workers=1, device="cpu", attempts=1,
    )  # fmt: skip


def epochs(ask: Ask) -> list[EpochRecord]:
    values = {"train_seconds": 1.0, "eval_seconds": 0.0, "images": 1, "ended_at": 0.0}
    return [EpochRecord(epoch=k, metrics={"val/macro_f1": score(ask) * k / 3}, **values) for k in (1, 2, 3)]


def searched(plan: SearchPlan, ledger: Ledger | None = None, most: int = 100) -> list[Ask]:
    """Run one trial after the other, each to its end."""
    found = list[Ask]()
    while len(found) < most and (ask := plan.ask()) is not None:
        found.append(ask)
        for record in epochs(ask):
            plan.report(ask, record)
            if ledger:
                ledger.write_ask(ask)
                ledger.append_epoch(ask.trial_id, record)
        plan.tell(ask, ended(ask))
        if ledger:
            ledger.write_result(ended(ask))
    return found


def test_every_name_that_a_study_takes_is_a_sampler_an_origin_and_has_words_on_the_page() -> None:
    assert set(SAMPLERS) == set(get_args(Sampler)) == set(protocol.SAMPLERS) == {o.value for o in Origin if o.guided}
    with pytest.raises(ConfigError, match="sampler must be tpe or gp, not 'cmaes'"):
        study(sampler="cmaes")
    assert narrow(study(sampler="tpe"), sampler="gp").sampler == "gp"


def test_the_usual_sampler_is_not_written_and_another_is_another_question() -> None:
    usual = study(sampler="tpe")
    assert "sampler" not in usual.as_dict() and Study.from_dict(json.loads(json.dumps(study().as_dict()))) == study()
    with pytest.raises(ConfigError, match="sampler: tpe -> gp"):
        grow(usual, study(), "here")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guided_trials_follow_the_random_ones_and_learn_from_them(sampler: str, tmp_path: Path) -> None:
    """The last guided trials lie nearer to the best rate than the random ones, and the same search gives the same."""
    own = study(sampler=sampler, trials=24, random_trials=8)
    asks = searched(SearchPlan(own, Ledger(tmp_path, "s")))
    assert [a.origin for a in asks] == [Origin.DEFAULT, *[Origin.RANDOM] * 8, *[Origin(sampler)] * 15]
    assert len({a.trial_id for a in asks}) == 24
    drawn, guided = asks[1:9], asks[-8:]
    assert sum(map(score, guided)) / 8 > sum(map(score, drawn)) / 8 + 0.05
    assert [a.trial_id for a in searched(SearchPlan(own, Ledger(tmp_path, "s")))] == [a.trial_id for a in asks]


def test_samplers_share_the_default_and_the_random_trials_and_propose_others(tmp_path: Path) -> None:
    tpe, gp = (searched(SearchPlan(study(sampler=name), Ledger(tmp_path, "s"))) for name in ("tpe", "gp"))
    assert [a.trial_id for a in tpe[:5]] == [a.trial_id for a in gp[:5]]
    assert not {a.trial_id for a in tpe[5:]} & {a.trial_id for a in gp[5:]}


def test_a_guided_trial_of_any_sampler_may_be_stopped_and_a_random_one_may_not(tmp_path: Path) -> None:
    plan = SearchPlan(study(grace_epochs=1, reduction_factor=2), Ledger(tmp_path, "s"))
    asks = searched(plan, most=5)
    guided = plan.ask()
    assert guided is not None and guided.origin is Origin.GP and plan.stops(guided) == (1, 2) and plan.stops(asks[1]) == ()
    bad = dataclasses.replace(epochs(guided)[0], metrics={"val/macro_f1": 0.0})
    assert plan.report(guided, bad)


def test_a_search_goes_on_from_the_ledger_with_its_sampler(tmp_path: Path) -> None:
    whole = searched(SearchPlan(study(), Ledger(tmp_path / "whole", "s")))
    ledger = Ledger(tmp_path / "half", "s")
    ledger.begin(study(), {})
    first = searched(SearchPlan(study(), ledger), ledger, most=7)
    rest = searched(SearchPlan(study(), Ledger(tmp_path / "half", "s")))
    assert [a.trial_id for a in [*first, *rest]][:7] == [a.trial_id for a in whole][:7] and [a.origin for a in rest] == [Origin.GP] * 3


def test_the_sampler_stands_in_the_tables_and_on_the_page(tmp_path: Path) -> None:
    from study import sweep

    path = tiny.write(tmp_path)
    line = [str(path), "--local", "--mlflow", "off", "--no-images", "--results", str(tmp_path / "results")]
    own = ["--strategies", "linear_probe", "--trials", "4", "--set", "sampler=gp", "random_trials=2", "budget_check=0", "longest=1"]
    assert sweep.main([*line, *own]) == 0
    frames = load(Ledger(tmp_path / "results", "tiny"))
    searched = frames.trials[frames.trials.stage == "search"].sort_values("number")
    assert searched.origin.tolist() == ["default", "random", "random", "gp"]
    assert "then a Gaussian process with successive halving" in (tmp_path / "results" / "tiny" / "report.html").read_text()


def test_optunas_sampler_says_nothing_on_a_persons_terminal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = SAMPLERS["gp"](1)
        search = optuna.create_study(direction="maximize", sampler=made)
        search.optimize(
            lambda t: t.suggest_float("x", 0, 1) + t.suggest_int("n", 1, 3) + t.suggest_categorical("c", (0.0, 1.0)), n_trials=4
        )
    assert isinstance(made, GPSampler)
