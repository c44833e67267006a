"""Additions that may come next find a place: each is tried as a newcomer would make it, without a change of the loop."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
import torch

from study.networks.cutting import cut
from study.networks.cutting.cut import split
from study.networks.cutting.halves import Split
from study.networks.pretrained import Backbone, create
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import EpochRecord
from study.run import open_inputs
from study.space import Log
from study.storage.places import Places
from study.strategies import L2SP, STRATEGIES, Phase, Strategy
from study.training.loop import fine_tune

DOCS = Path(__file__).parent.parent / "docs"
QUICK = Protocol(max_epochs=2, image_size=32, batch_size=64, train_eval_images=32)


@dataclass(frozen=True, kw_only=True)
class Scratch(Strategy):
    name: ClassVar[str] = "scratch"
    title: ClassVar[str] = "nothing reused"
    start = "random"
    lr: Annotated[float, Log(1e-5, 3e-2)] = 1e-3

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=epochs, lrs=(self.lr,) * (stages + 1)),)


@dataclass(frozen=True, kw_only=True)
class LastLayerAgain(Strategy):
    """Everything, then the head alone: the frozen half of its second phase is no longer the pretrained one."""

    name: ClassVar[str] = "last_layer_again"
    title: ClassVar[str] = "everything, then the head"
    lr: Annotated[float, Log(1e-5, 3e-2)] = 1e-3

    def phases(self, stages: int, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs=1, lrs=(self.lr,) * (stages + 1)), Phase(epochs=epochs - 1, lrs=(self.lr,) + (None,) * stages))


def documented() -> type[Strategy]:
    """Return the strategy of the file that docs/strategy.md prints, as a newcomer would write it."""
    (source,) = re.findall(r"```python\n(.*?)```", (DOCS / "strategy.md").read_text(), re.S)
    assert source == (DOCS.parent / "study" / "strategies" / "norm_only.py").read_text()
    module = ModuleType("norm_only")
    sys.modules["norm_only"] = module  # dataclasses look their module up
    exec(compile(source, "docs/strategy.md", "exec"), vars(module))  # our own page
    return module.NormOnly


def train(strategy: type[Strategy], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: Protocol = QUICK, **more: Any):
    monkeypatch.setitem(STRATEGIES, strategy.name, strategy)
    cell = Cell(dataset="digits", backbone="efficientnet_lite0", strategy=strategy.name, train_fraction=0.1)
    config = TrialConfig.default(cell, protocol).with_values(more)
    assert TrialConfig.from_dict(config.as_dict()) == config
    return config, list(fine_tune(config, open_inputs(config, Places(folder="", cache=str(tmp_path)))))


def distance(record: EpochRecord) -> float:
    return sum(v for k, v in record.metrics.items() if k.startswith("distance/stage"))


def test_a_pull_to_the_start_keeps_nearer_to_it(monkeypatch, tmp_path: Path) -> None:
    near, far = (train(L2SP, monkeypatch, tmp_path, pull=a)[1][-1][0] for a in (100.0, 1e-4))
    assert distance(near) < 0.8 * distance(far)


def test_the_strategy_of_the_page_is_trained_as_it_stands(monkeypatch, tmp_path: Path) -> None:
    _, ((_, first), (_, last)) = train(documented(), monkeypatch, tmp_path)
    pretrained = create("efficientnet_lite0", 10, seed=0)
    state = last.run.model.network_state()
    still = [s for s in pretrained.slots if s.stage > 0 and s.kind != "norm"]
    assert still and all(torch.equal(state[s.name], pretrained.model.state_dict()[s.name]) for s in still)
    assert any(not torch.equal(state[s.name], pretrained.model.state_dict()[s.name]) for s in pretrained.slots if s.kind == "norm")
    assert first.run.index == 0


def test_scratch_starts_from_nothing_and_asks_for_no_weights(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("study.networks.pretrained.find_weights", lambda *a: pytest.fail("weights were asked for"))
    config, steps = train(Scratch, monkeypatch, tmp_path)
    assert steps[-1][0].facts["weights_sha256"] == f"random:{config.seed}"


def test_another_optimizer_is_a_setting_and_part_of_the_id(monkeypatch, tmp_path: Path) -> None:
    config, _ = train(Scratch, monkeypatch, tmp_path)
    other, steps = train(Scratch, monkeypatch, tmp_path, optimizer="sgd")
    assert other.id != config.id and isinstance(steps[-1][1].run.optimizer, torch.optim.SGD)
    with pytest.raises(ValueError, match="optimizer must be adamw or sgd, not 'lion'"):
        config.with_values({"optimizer": "lion"})


def test_a_phase_above_one_that_trained_all_resumes_exactly_and_reuses_nothing(monkeypatch, tmp_path: Path) -> None:
    views = Protocol(max_epochs=3, image_size=32, batch_size=64, train_eval_images=32, views=1)
    config, whole = train(LastLayerAgain, monkeypatch, tmp_path, views)
    assert [r.facts["activations_reused"] for r, _ in whole] == [False, False, False]
    for record, state in fine_tune(config, open_inputs(config, Places(folder="", cache=str(tmp_path)))):
        if record.epoch == 2:
            saved = state.as_dict()
            break
    ((resumed, _),) = fine_tune(config, open_inputs(config, Places(folder="", cache=str(tmp_path))), saved=saved)
    assert resumed.metrics == whole[-1][0].metrics


def test_a_new_cutter_is_asked_and_checked(monkeypatch, weights) -> None:
    asked: list[int] = []

    def wrong(backbone: Backbone, depth: int) -> Split:
        asked.append(depth)
        return Split(torch.nn.Flatten(), torch.nn.LazyLinear(7), cut=depth, slots=backbone.slots, arguments={})

    monkeypatch.setattr(cut, "CUTTERS", (wrong, *cut.CUTTERS))
    model = split(create("resnet18", 7, weights=weights), 1)
    assert asked == [1] and model.frozen is not None and isinstance(model.trained.get_classifier(), torch.nn.Linear)


def test_soft_targets_need_no_other_loop(monkeypatch, tmp_path: Path) -> None:
    """`Inputs.targets` may give probabilities, since cross-entropy takes both. One-hot rows give the numbers of labels."""
    config = TrialConfig.default(Cell(dataset="digits", backbone="efficientnet_lite0", strategy="linear_probe", train_fraction=0.1), QUICK)
    places = Places(folder="", cache=str(tmp_path))
    hard = [r.metrics["train/loss"] for r, _ in fine_tune(config, open_inputs(config, places))]
    inputs = open_inputs(config, places)
    labels = inputs.targets
    monkeypatch.setattr(inputs, "targets", lambda at: torch.eye(10)[labels(at)])
    assert np.allclose([r.metrics["train/loss"] for r, _ in fine_tune(config, inputs)], hard, rtol=1e-5)
