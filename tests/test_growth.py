"""A study may grow, and so may the code: late fields change no id, a finished study is extended in place, its question never changes."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from analysis.load import load
from study import sweep
from study.canonical import added, canonical, restore
from study.conduct.after_search import confirm_asks
from study.conduct.stages import choose, ended
from study.errors import ConfigError
from study.question.cell import Cell, grid
from study.question.growth import grow
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.records import Stage
from study.search.optuna_cells import SearchPlan
from study.space import Choice, Integer, Log, Uniform
from study.strategies import STRATEGIES
from study.tracking.ledger import Ledger
from tests import tiny
from tests.goldens import GOLDEN


@pytest.mark.parametrize("cls", [Cell, Recipe, Protocol, Study, *STRATEGIES.values()], ids=lambda c: c.__name__)
def test_a_late_field_that_says_nothing_new_is_not_written(cls: type) -> None:
    fixed = {"name": "s", "cells": grid(["digits"], ["resnet18"], ["full"])} if cls is Study else {}
    value = cls(dataset="digits", backbone="resnet18", strategy="full") if cls is Cell else cls(**fixed)
    late = {f.name: f.metadata for f in dataclasses.fields(cls) if "since" in f.metadata}
    was = dataclasses.replace(value, **{name: known["before"] for name, known in late.items() if "before" in known})
    assert canonical(was).keys() == {f.name for f in dataclasses.fields(cls)} - late.keys()
    assert all("before" in late[name] for name in canonical(value).keys() & late.keys()), "at its default, only where that is new"
    if cls is not Study:  # which holds others, and reads itself
        assert restore(cls, canonical(was)) == was and restore(cls, canonical(value)) == value


def test_a_late_field_is_written_and_read_back_once_it_is_used() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Later:
        old: float = 1.0
        new: float = added(2.0, since=3)

    assert canonical(Later()) == {"old": 1.0} and canonical(Later(new=float("inf"))) == {"old": 1.0, "new": None}
    assert restore(Later, canonical(Later(new=float("inf")))) == Later(new=float("inf"))
    with pytest.raises(ConfigError, match="no field 'newer'.*newer version"):
        restore(Later, {"newer": 1})


def test_a_late_field_whose_default_is_another_one_today_is_read_as_it_was_meant_before() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Now:
        old: float = 1.0
        new: str = added("today", since=3, before="then")
        many: dict = added(since=3, factory=lambda: {"a": 1}, before={})

    assert canonical(Now(new="then", many={})) == {"old": 1.0} and restore(Now, {"old": 1.0}) == Now(new="then", many={})
    assert canonical(Now()) == {"old": 1.0, "new": "today", "many": {"a": 1}}
    assert canonical(Now(new="other", many={})) == {"old": 1.0, "new": "other"}
    for value in (Now(), Now(new="then"), Now(new="other", many={}), Now(old=float("inf"))):
        assert restore(Now, json.loads(json.dumps(canonical(value)))) == value


BEFORE_KEEP = {
    "schema": 1,
    "cell": {"dataset": "digits", "splits": "official", "backbone": "resnet18", "strategy": "full", "train_fraction": 1.0},
    "strategy": {"lr": 0.001},
    "recipe": {"augmentation": 0.5, "weight_decay": 0.0001, "label_smoothing": 0.1},
    "protocol": {
        "max_epochs": 10, "warmup_epochs": 1.0, "batch_size": 32, "image_size": 224, "precision": "fp32", "batch_norm": "train",
        "grad_clip": 1.0, "workers": 1, "views": 0, "train_eval_images": 1024,
    },
    "seed": 0,
}  # fmt: skip
"""A configuration and its id as they were written before a protocol said which epoch it keeps."""


def test_what_kept_the_best_epoch_before_there_was_a_choice_keeps_it_under_its_own_id() -> None:
    old = TrialConfig.from_dict(BEFORE_KEEP)
    assert old.protocol.keep == "best" and old.as_dict() == BEFORE_KEEP and old.id == "b058f75cc6f5bc29"
    cell = Cell(dataset="digits", backbone="resnet18", strategy="full")
    assert TrialConfig.default(cell, Protocol(keep="best")) == old
    new = TrialConfig.default(cell, Protocol())
    assert new.protocol.keep == "last" and new.id != old.id and TrialConfig.from_dict(new.as_dict()) == new
    assert new.as_dict()["protocol"] == {**BEFORE_KEEP["protocol"], "keep": "last"}
    with pytest.raises(ConfigError, match="keep must be last .* or best .*, not 'first'"):
        Protocol(keep="first")
    with pytest.raises(ConfigError, match="keep"):
        new.with_values({"keep": "newest"})
    assert new.with_values({"keep": "best"}).id == old.id


def test_a_study_that_kept_the_best_epoch_does_not_grow_into_one_that_keeps_the_last() -> None:
    old = study(protocol=Protocol(keep="best"))
    assert Study.from_dict(json.loads(json.dumps(old.as_dict()))) == old and "keep" not in old.as_dict()["protocol"]
    with pytest.raises(ConfigError, match="protocol.keep: best -> last"):
        grow(old, study(), "here")


def test_what_was_written_before_a_field_came_goes_on_as_it_was() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Later:
        old: float = 1.0
        check: int = added(3, since=3, before=0)

    assert canonical(Later(check=0)) == {"old": 1.0} and restore(Later, {"old": 1.0}).check == 0
    assert canonical(Later()) == {"old": 1.0, "check": 3} and restore(Later, canonical(Later())) == Later()
    begun = {k: v for k, v in study().as_dict().items() if k not in ("budget_check", "longest")}
    was = Study.from_dict(begun)
    assert (was.budget_check, was.longest, was.confirm_size) == (0, 1, 0) and was.as_dict() == begun
    assert Study.from_dict(study().as_dict()) == study() and study().budget_check == 3


def test_a_budget_check_may_begin_and_may_not_end() -> None:
    off = study(budget_check=0, longest=1)
    grown, changes = grow(off, study(), "here")
    assert grown == study().begun({}) and [c.text for c in changes] == ["budget_check: 0 -> 3", "longest: 1 -> 3"]
    assert grow(study(), study(longest=9), "here")[0].longest == 9
    for fields in ({"budget_check": 0}, {"budget_check": 2}, {"longest": 1}, {"confirm_size": 96}):
        with pytest.raises(ConfigError, match=f"{next(iter(fields))}: .*begin a budget_check where it had none"):
            grow(study(), study(**fields), "here")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"budget_check": 1}, "budget_check must be a whole number >= 2 of times max_epochs, or 0 (off), not 1."),
        ({"budget_check": True}, "not True"),
        ({"longest": 0}, "longest must be a whole number >= 1 (1 = never longer), not 0."),
        ({"longest": 2}, "longest 2 must be 1 (never longer), or at least budget_check 3"),
        ({"confirm_size": -1}, "confirm_size must be a whole number >= 0 pixels (0 = the protocol's image_size), not -1."),
    ],
)
def test_a_budget_that_cannot_be_is_refused_in_one_line(fields: dict, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        study(**fields)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_every_id_of_the_golden_study_is_what_it_was_when_its_folder_was_named() -> None:
    asks = Ledger(GOLDEN, "golden").asks()
    assert len(asks) == 18
    for ask in asks:
        config = TrialConfig.from_dict(ask.config)
        assert config.id == ask.trial_id and config.as_dict() == ask.config


def study(**fields) -> Study:
    values = {"name": "s", "cells": grid(["digits"], ["resnet18"], ["partial"]), "trials": 6, "random_trials": 3, "confirm_seeds": 5}
    return Study(**{**values, **fields})


def test_what_may_grow_grows_and_the_cells_keep_their_order() -> None:
    more = grid(["digits"], ["resnet18"], ["full", "partial"])
    grown, changes = grow(study(), study(cells=more, confirm_seeds=8, about="more"), "here")
    assert [c.strategy for c in grown.cells] == ["partial", "full"]
    assert {c.field for c in changes} == {"cells", "confirm_seeds", "about"}
    assert grow(study(), study(), "here")[1] == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"trials": 5}, "trials: 6 -> 5"),
        ({"confirm_seeds": 3}, "confirm_seeds: 5 -> 3"),
        (
            {"cells": grid(["digits"], ["resnet18"], ["full"])},
            "cells: + digits/official/resnet18/full/1, - digits/official/resnet18/partial/1",
        ),
        ({"protocol": Protocol(views=2, image_size=64)}, "protocol.image_size: 224 -> 64; protocol.views: 0 -> 2"),
        ({"space": {"partial.lr": Log(1e-4, 1e-1)}}, "space: {} -> "),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"margin": 2.0}, "margin: 1.0 -> 2.0"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_would_change_the_question_is_refused_in_full(fields: dict, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        grow(study(), study(**fields), "here")
    assert said in str(refused.value) and "--name" in str(refused.value)


def test_a_study_has_ranges_of_its_own(tmp_path: Path) -> None:
    space = {"partial.lr": Log(1e-2, 1e-1), "recipe.weight_decay": Log(1e-3, 1e-2), "partial.unfreeze_depth": Integer(2, 2)}
    own = study(space=space, trials=4)
    assert Study.from_dict(json.loads(json.dumps(own.as_dict()))) == own
    plan = SearchPlan(own, Ledger(tmp_path, "s"))
    drawn = [TrialConfig.from_dict(plan.ask().config).tuned() for _ in range(4)]
    assert drawn[0]["lr"] == 1e-2, "the published default is 1e-3: the nearest end of the study's range stands for it"
    assert all(1e-2 <= d["lr"] <= 1e-1 and d["unfreeze_depth"] == 2 and 1e-3 <= d["weight_decay"] <= 1e-2 for d in drawn)
    with pytest.raises(ConfigError, match="partial.lr"):
        study(space={"partial.rate": Log(1, 2)})
    with pytest.raises(ConfigError, match="must be Log"):
        study(space={"partial.lr": 3})


def test_a_study_keeps_the_ranges_that_were_published_when_it_was_begun(tmp_path: Path) -> None:
    before, ledger = {"partial.lr": Log(1e-9, 1e-8)}, Ledger(tmp_path, "s")
    ledger.begin(study().begun(before), {})
    path = tmp_path / "s" / "study.json"
    values = json.loads(path.read_text())
    values["study"]["published"] = {"partial.lr": {"log": [1e-9, 1e-8]}}  # as an earlier version of the strategy would have left it
    path.write_text(json.dumps(values))
    grown = ledger.begin(study(cells=grid(["digits"], ["resnet18"], ["partial", "full"])), {})
    partial, full = grown.cells
    assert ledger.study() == grown and grown.ranges(partial)["lr"] == Log(1e-9, 1e-8)
    assert grown.ranges(full) == study(cells=(full,)).ranges(full), "what joins brings today's"
    assert [c.split(":")[0] for a in ledger.amendments() for c in a["changes"]] == ["cells"]


@pytest.mark.parametrize("domain", [Log(1e-3, 1.0), Uniform(0, 2), Integer(1, 4), Choice(1e-3, 1)], ids=lambda d: type(d).__name__)
def test_every_kind_of_range_survives_a_file(domain) -> None:
    key = "partial.lr"
    assert Study.from_dict(json.loads(json.dumps(study(space={key: domain}).as_dict()))).space == {key: domain}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Run the tiny study, which keeps the best epoch, to its end. Then grow it to three seeds instead of two and one more strategy."""
    root = tmp_path_factory.mktemp("grown")
    tail = ["--local", "--mlflow", "off", "--results", str(root / "results")]
    best = ', keep="best"'
    assert sweep.main([str(tiny.write(root, protocol=best)), *tail]) == 0
    before = {str(p): p.read_bytes() for p in (root / "results").rglob("*") if p.name in ("epochs.jsonl", "result.json", "attempts.jsonl")}
    more = tiny.write(root, strategies=("linear_probe", "partial", "full"), protocol=best)
    assert sweep.main([str(more), "--confirm-seeds", "3", *tail]) == 0
    return root, before


def test_a_begun_study_goes_on_by_its_folder_whatever_its_name_means_today(grown: tuple[Path, dict[str, bytes]], capsys) -> None:
    root, before = grown
    assert sweep.main([str(root / "results" / "tiny"), "--dry-run", "--confirm-seeds", "4", "--mlflow", "off", "--local"]) == 0
    assert str(root / "results" / "tiny") in capsys.readouterr().out.replace("\n", "")
    assert sweep.main([str(root / "results" / "tiny"), "--mlflow", "off", "--local"]) == 0
    assert {p: Path(p).read_bytes() for p in before} == before and not Ledger(root / "results", "tiny").amendments()[1:]


def test_a_folder_is_a_study_wherever_it_is_named_and_goes_on_where_it_lies(grown: tuple[Path, dict[str, bytes]], capsys) -> None:
    results = grown[0] / "results"
    for name in (results, results / "tiny", results / "tiny" / "study.json"):
        assert sweep.main([str(name), "--dry-run"]) == 0
        assert str(results / "tiny") in capsys.readouterr().out.replace("\n", "")
    for arguments, said in (
        ([results / "tinny"], "tinny holds no study"),
        ([results / "tiny" / "trials"], "trials holds no study"),
        ([results / "tiny", "--results", grown[0] / "elsewhere"], "goes on where it lies"),
    ):
        assert sweep.main([str(a) for a in arguments] + ["--dry-run"]) == 2
        assert said in capsys.readouterr().err and not (grown[0] / "elsewhere").exists()


def test_a_dry_run_says_what_the_run_would_gain_or_why_it_would_refuse(grown: tuple[Path, dict[str, bytes]], capsys) -> None:
    folder = grown[0] / "results" / "tiny"
    before = (folder / "study.json").read_bytes()
    assert sweep.main([str(folder), "--confirm-seeds", "4", "--dry-run"]) == 0
    assert "the study would grow: confirm_seeds: 3 -> 4" in capsys.readouterr().out
    assert sweep.main([str(folder), "--strategies", "partial", "--dry-run"]) == 2
    assert "other settings (cells: - digits/official/efficientnet_lite0/linear_probe/0.1" in capsys.readouterr().err
    assert (folder / "study.json").read_bytes() == before


def test_runs_of_an_earlier_choice_are_not_counted_as_done(grown: tuple[Path, dict[str, bytes]], tmp_path: Path, capsys) -> None:
    """Counted as done, they made the disk a study still needs a number below zero."""
    shutil.copytree(grown[0] / "results", tmp_path / "results")
    ledger = Ledger(tmp_path / "results", "tiny")
    study, chosen = ledger.study(), ledger.selection()["chosen"]
    cells = [c.id for c in study.cells]
    assert [ended(study, ledger)[c, Stage.CONFIRM] for c in cells] == [3, 3, 3]
    others = {c: next(a.trial_id for a in ledger.asks(Stage.SEARCH) if a.cell == c and a.trial_id != t) for c, t in chosen.items()}
    ledger.write_selection("another rule", {**chosen, cells[0]: others[cells[0]]}, 6)
    assert [ended(study, ledger)[c, Stage.CONFIRM] for c in cells] == [0, 3, 3]
    assert [ended(dataclasses.replace(study, trials=3), ledger)[c, Stage.CONFIRM] for c in cells] == [0, 0, 0], "it may choose again"
    for trial in (a for a in ledger.asks(Stage.CONFIRM) if a.cell == cells[0]):  # twice the runs that are planned
        other = TrialConfig.from_dict({**trial.config, "seed": trial.config["seed"] + 1})
        ledger.write_ask(dataclasses.replace(trial, trial_id=other.id, config=other.as_dict()))
        ledger.write_result(dataclasses.replace(ledger.result(trial.trial_id), trial_id=other.id))
    assert ended(study, ledger)[cells[0], Stage.CONFIRM] == 0
    ledger.write_selection("the first rule", chosen, 6)
    assert sweep.main([str(tmp_path / "results"), "--dry-run"]) == 0
    assert "Disk: about 0.00 GB" in capsys.readouterr().out


def test_nothing_that_was_done_is_done_again(grown: tuple[Path, dict[str, bytes]]) -> None:
    root, before = grown
    assert len(before) == 3 * (8 + 2) and {p: Path(p).read_bytes() for p in before} == before
    ledger = Ledger(root / "results", "tiny")
    assert len(ledger.asks(Stage.SEARCH)) == 3 * 2 and len(ledger.asks(Stage.CONFIRM)) == 3 * 3 + 3  # the line to beat
    assert set(ledger.results()) == {a.trial_id for a in ledger.asks()} and ledger.finished()


def test_the_amendment_stands_in_the_ledger_and_on_the_page(grown: tuple[Path, dict[str, bytes]]) -> None:
    root, _ = grown
    ledger = Ledger(root / "results", "tiny")
    (amendment,) = ledger.amendments()
    assert amendment["test_open"] and len(ledger.test_openings()) == 2
    assert amendment["changes"] == ["cells: + digits/official/efficientnet_lite0/full/0.1", "confirm_seeds: 2 -> 3"]
    page = (root / "results" / "tiny" / "report.html").read_text()
    assert "was extended on" in page and "confirm_seeds: 2 -&gt; 3" in page and "opened 2 times" in page
    assert set(load(ledger).confirmed().groupby("strategy").size()) == {3}


@pytest.mark.slow
def test_more_trials_choose_again_and_old_confirm_runs_no_longer_speak(grown: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    root, _ = grown
    shutil.copytree(root / "results", tmp_path / "results")
    line = [str(root / "my_study.py"), "--confirm-seeds", "3", "--trials", "5", "--local", "--mlflow", "off"]
    assert sweep.main([*line, "--results", str(tmp_path / "results")]) == 0
    ledger = Ledger(tmp_path / "results", "tiny")
    selection = ledger.selection()
    assert selection["considered"] == 15 and len(selection["earlier"]) == 2
    changed = [c for c, t in selection["chosen"].items() if selection["earlier"][-1]["chosen"][c] != t]
    assert changed, "more trials found nothing better: choose another study for this test"
    frames = load(ledger)
    assert set(frames.confirmed().groupby("cell").size()) == {3}
    assert (frames.trials.stage == "confirm").sum() == 9 + 3 * len(changed)


def test_the_golden_study_is_extended(tmp_path: Path) -> None:
    """It is read, and grown by a seed without retraining what is there."""
    shutil.copytree(GOLDEN, tmp_path / "results")
    ledger = Ledger(tmp_path / "results", "golden")
    old, done = ledger.study(), set(ledger.results())
    assert old is not None
    assert ledger.begin(dataclasses.replace(old, confirm_seeds=4), {}).confirm_seeds == 4
    assert not ledger.finished() and ledger.amendments()[0]["test_open"]
    assert SearchPlan(ledger.study(), ledger).ask() is None, "the search is done"
    left = [a.trial_id for a in confirm_asks(ledger.study(), ledger, choose(ledger)) if a.trial_id not in done]
    assert len(left) == 2, "one seed more for each of two cells"
