"""Training on a part of the images: which part, how many steps, and what is refused before anything starts."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from study import sweep
from study.conduct.after_search import confirm_asks
from study.conduct.checks import open_tables
from study.datasets import open_dataset
from study.datasets.spec import TRAIN, kept_by_class, subsample
from study.errors import ConfigError
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Stage
from study.run import open_images, open_inputs
from study.search.seeds import confirm_config
from study.storage.places import Places, find_places
from study.tracking.ledger import Ledger
from study.training.inputs import Features
from study.training.loop import fine_tune

CELL = Cell(dataset="digits", backbone="efficientnet_lite0", strategy="partial", train_fraction=0.1)
PROTOCOL = Protocol(max_epochs=3, image_size=32, batch_size=64, train_eval_images=64)


def config(protocol: Protocol = PROTOCOL, **fields) -> TrialConfig:
    return dataclasses.replace(TrialConfig.default(CELL, protocol), **fields)


def trained_on(own: TrialConfig) -> set[int]:
    table, _ = open_images(own, Places(folder=""))
    return set(np.flatnonzero(table.split == TRAIN))


def test_a_subset_changes_the_id_once_it_is_used_and_survives_a_file() -> None:
    own = config(subset=3)
    assert "subset" not in config().as_dict() and config(subset=0).id == config().id != own.id
    assert TrialConfig.from_dict(json.loads(json.dumps(own.as_dict()))) == own


def test_subsets_differ_are_nested_and_leave_other_splits_alone() -> None:
    whole = open_dataset("digits")
    one, other = trained_on(config(subset=1)), trained_on(config(subset=2))
    larger = set(np.flatnonzero(subsample(whole, 0.5, seed=1).split == TRAIN))
    assert one != other and len(one) == len(other) == sum(kept_by_class(whole, 0.1)) and one < larger
    for own in (config(), config(subset=1)):
        table, _ = open_images(own, Places(folder=""))
        assert np.array_equal(table.split[whole.split > 0], whole.split[whole.split > 0])


def study(**fields) -> Study:
    cells = grid(["digits"], ["efficientnet_lite0"], ["partial", "full"], (0.1, 0.5, 1.0))
    return Study(
        **{
            "name": "s",
            "cells": cells,
            "protocol": PROTOCOL,
            "trials": 2,
            "random_trials": 1,
            "confirm_seeds": 3,
            "budget_check": 0,
            **fields,
        }
    )


def test_a_confirm_seed_has_one_subset_whatever_strategy_and_size() -> None:
    s = study()
    for number in range(3):
        found = {(c.train_fraction, confirm_config(s, TrialConfig.default(c, PROTOCOL), number).subset) for c in s.cells}
        assert found == {(0.1, number + 1), (0.5, number + 1), (1.0, 0)}


def test_every_confirm_seed_asks_for_a_subset_of_its_own(tmp_path: Path) -> None:
    s, ledger = study(), Ledger(tmp_path, "s")
    ledger.begin(s, {})

    chosen = {}
    for own in (TrialConfig.default(c, PROTOCOL) for c in s.cells):
        plain = {"number": 0, "stage": Stage.SEARCH, "origin": Origin.DEFAULT, "sequence": 0}
        ledger.write_ask(Ask(trial_id=own.id, cell=own.cell.id, config=own.as_dict(), **plain))
        chosen[own.cell.id] = [own.id]
    assert {a.config.get("subset", 0) for a in confirm_asks(s, ledger, chosen)} == {0, 1, 2, 3}


# ---- steps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "passes"), [(32, 8), (33, 4), (128, 2), (129, 2), (256, 1), (1000, 1)])
def test_passes_are_as_few_as_give_the_steps_asked_for(images: int, passes: int) -> None:
    p = Protocol(max_epochs=5, batch_size=32, min_steps=40)
    assert p.passes(images) == passes and p.steps(images) == 5 * passes * -(-images // 32) >= 40
    assert passes == 1 or p.steps(images) * (passes - 1) / passes < 40
    assert Protocol(max_epochs=5, batch_size=32).passes(images) == 1


@pytest.mark.parametrize("bad", [-1, 1.5, True])
def test_steps_are_a_whole_number(bad: object) -> None:
    with pytest.raises(ConfigError, match="min_steps"):
        Protocol(min_steps=bad)


STEPS = dataclasses.replace(PROTOCOL, min_steps=14)  # 108 images are 2 steps: 3 epochs of 3 passes


def test_more_passes_show_other_views_in_other_orders_and_are_counted(monkeypatch) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []
    real = Features.train
    monkeypatch.setattr(Features, "train", lambda self, part, turn: (seen.append((turn, tuple(part))), real(self, part, turn))[1])
    own = config(STEPS)
    records = [r for r, _ in fine_tune(own, open_inputs(own, Places(folder="")))]
    images = len(trained_on(own))
    assert [r.images for r in records] == [3 * images] * 3 and records[0].facts["train_images"] == images
    assert len(seen) == STEPS.steps(images) == 18 and [turn for turn, _ in seen] == [t for t in range(1, 10) for _ in range(2)]
    passes = {turn: sum((part for t, part in seen if t == turn), ()) for turn in range(1, 10)}
    assert all(sorted(p) == list(range(images)) for p in passes.values()) and len(set(passes.values())) == 9


@pytest.mark.parametrize("views", [0, 2])
def test_a_trial_of_several_passes_resumes_bit_exact(views: int, tmp_path: Path) -> None:
    own = config(dataclasses.replace(STEPS, views=views))
    inputs = open_inputs(own, Places(folder="", cache=str(tmp_path)))
    whole = list(fine_tune(own, inputs))
    for record, state in fine_tune(own, inputs):
        if record.epoch == 2:
            saved = {k: ({n: t.clone() for n, t in v.items()} if k == "model" else v) for k, v in state.as_dict().items()}
            break
    (again,) = fine_tune(own, inputs, saved=saved)
    assert again[0].metrics == whole[-1][0].metrics
    if views:
        assert len(list((tmp_path / "activations").glob("*.npy"))) == views + 2, "the views of the first passes, and two plain ones"


# ---- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fractions", "protocol", "said"),
    [
        ((0.03, 1.0), {}, r"train_fraction 0.03 leaves class disgust \(14 training images\) without any; take 0.036 or more"),
        ((0.1, 0.1001), {}, "train_fraction 0.1 and 0.1001 keep the same 43 images"),
        ((0.9999, 1.0), {}, "keep the same 426 images"),
        ((0.1, 1.0), {"max_epochs": 1, "warmup_epochs": 0.0}, "keeps 43 images, so a trial has 1 step"),
        ((0.1, 1.0), {"workers": 32}, "2 images a worker"),
    ],
    ids=["class", "twice", "whole", "steps", "workers"],
)
def test_sizes_that_cannot_be_are_one_line(fractions: tuple[float, ...], protocol: dict, said: str, tmp_path: Path) -> None:
    cells = grid(["mini_faces"], ["efficientnet_lite0"], ["partial", "full"], fractions)
    s = study(cells=cells, protocol=dataclasses.replace(PROTOCOL, **protocol))
    with pytest.raises(ConfigError, match=said) as refused:
        open_tables(s, find_places(str(tmp_path)))
    assert "\n" not in str(refused.value)


def test_the_plan_prices_a_fraction_by_its_passes(tmp_path: Path, capsys) -> None:
    file = tmp_path / "my_study.py"
    file.write_text(
        "from study import Protocol, Study, grid\n"
        "S = Study(name='s', cells=grid(['digits'], ['efficientnet_lite0'], ['full'], (0.1, 1.0)), trials=2, random_trials=1,\n"
        "    protocol=Protocol(max_epochs=3, image_size=32, batch_size=64, min_steps=60))\n"
    )
    assert sweep.main([str(file), "--dry-run", "--local", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "at least 60 steps a trial" in out and "/full/0.1" in out
