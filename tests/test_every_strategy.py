"""Laws over whole trials of every strategy: nothing frozen moves, counts, exact resume after each phase, reuse that changes nothing."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from study import trial
from study.errors import ConfigError
from study.networks.cutting.cut import split
from study.networks.fits import phases_on
from study.networks.pretrained import Backbone, create
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import EpochRecord
from study.run import open_inputs
from study.storage.places import Places
from study.strategies import STRATEGIES, LoRA, LpFt, NormOnly, Phase, RetrainHead, Surgical
from study.training.loop import State, fine_tune
from study.training.lora import ALPHA, Factors
from tests.networks import serves
from tests.test_strategies import SMALL

QUICK = Protocol(max_epochs=3, image_size=64, batch_size=64, train_eval_images=16, views=1)  # two steps an epoch
FAST = ("small_resnet",)
CASES = [
    pytest.param(s, n, marks=() if n in FAST or s == "lora" else pytest.mark.slow)
    for s, n in itertools.product(STRATEGIES, SMALL)
    if serves(n, s)
]
Trained = list[tuple[EpochRecord, State]]


def config_of(strategy: str, network: str, **values: Any) -> TrialConfig:
    cell = Cell(dataset="digits", backbone=network, strategy=strategy, train_fraction=0.1)
    return TrialConfig.default(cell, QUICK).with_values(values)


def train(config: TrialConfig, weights: Path, cache: Path, saved: Any = None) -> Iterator[tuple[EpochRecord, State]]:
    return fine_tune(config, open_inputs(config, Places(folder="", cache=str(cache))), weights=str(weights), saved=saved)


def saved_of(state: State) -> Any:
    buffer = io.BytesIO()
    torch.save(state.as_dict(), buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def made(config: TrialConfig, weights: Path) -> Backbone:
    return create(config.cell.backbone, 10, weights=weights, seed=config.seed, start=config.strategy.start, image_size=QUICK.image_size)


@pytest.mark.parametrize(("strategy", "network"), CASES)
def test_a_trial_keeps_the_laws(strategy: str, network: str, weights: Path, tmp_path: Path, monkeypatch) -> None:
    config, records, saves = config_of(strategy, network), [], []
    for record, state in train(config, weights, tmp_path / "a"):
        records.append(record)
        saves.append(saved_of(state))
    final = {k: v.clone() for k, v in state.run.model.network_state().items()}

    backbone = made(config, weights)
    phases = phases_on(config.strategy, backbone, QUICK.max_epochs)
    assert sum(p.epochs for p in phases) == len(records) == QUICK.max_epochs
    began, may = backbone.model.state_dict(), allowed(backbone, phases)
    assert final.keys() == began.keys(), "what is kept is a plain timm network"
    assert {k for k, v in final.items() if not torch.equal(v, began[k])} <= may, "what is frozen stays, statistics included"
    assert records[-1].facts["trained_parameters"] == max(p.size(backbone.slots) for p in phases)
    if network != "small_mean_resnet":
        cuts = [p.cut if p.cut < backbone.num_stages else "whole" for p in phases for _ in range(p.epochs)]
        assert [r.facts["cut"] for r in records] == cuts

    ends = {int(e) for e in np.cumsum([p.epochs for p in phases])}
    for done in sorted({1, *ends} - {len(records)}):  # after each phase, and within the first
        rest = list(train(config, weights, tmp_path / "a", saves[done - 1]))
        assert [r.epoch for r, _ in rest] == list(range(done + 1, len(records) + 1))
        assert rest[-1][0].metrics == records[-1].metrics
        assert all(torch.equal(final[k], v) for k, v in rest[-1][1].run.model.network_state().items())

    if any(r.facts["activations_reused"] for r in records):
        monkeypatch.setenv("STUDY_ACTIVATIONS_GB", "1e-9")
        for a, (b, _) in zip(records, train(config, weights, tmp_path / "b"), strict=True):
            assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=5e-3)


def allowed(backbone: Backbone, phases: tuple[Phase, ...]) -> set[str]:
    """Return the parameters that some phase trains, and the statistics of their modules where that phase moves them."""
    names: set[str] = set()
    for phase in phases:
        training = {s.name for s in backbone.slots if phase.moves(s)}
        modules = {n.rpartition(".")[0] for n in training} if not phase.freeze_statistics else set()
        names |= training | {n for n, _ in backbone.model.named_buffers() if n.rpartition(".")[0] in modules}
    return names


@pytest.mark.parametrize("network", ["resnet50", "efficientnet_b0"])
def test_what_is_trained_of_the_papers_networks_is_counted_by_timms_modules(network: str, weights: Path) -> None:
    backbone = create(network, 7, weights=weights)
    model = timm.create_model(network, num_classes=7)
    head = {id(p) for p in model.get_classifier().parameters()}
    heads, sizes = (
        sum(p.numel() for p in model.get_classifier().parameters()),
        {n: p for n, p in model.named_parameters() if id(p) not in head},
    )
    norms = sum(p.numel() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters(recurse=False))
    thin = [m.weight.shape for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1)]
    expected = {
        "norm_only": norms,
        "bias_only": sum(p.numel() for n, p in sizes.items() if n.endswith("bias")),
        "lora": sum(8 * (rows + columns) for rows, columns, *_ in thin),
        "retrain_head": sum(p.numel() for p in sizes.values()),
    }
    for strategy, below in expected.items():
        phases = phases_on(STRATEGIES[strategy](), backbone, 4)
        assert max(p.size(backbone.slots) for p in phases) == heads + below, strategy


def test_a_head_is_kept_by_lp_ft_and_drawn_anew_by_retrain_head(weights: Path, tmp_path: Path) -> None:
    """A rate of zero leaves the head as its phase found it."""
    for strategy, rates in (("lp_ft", {"lr": 0.0}), ("retrain_head", {"head_lr": 0.0})):
        config = config_of(strategy, "small_resnet", **rates)
        heads = [
            {k: v.clone() for k, v in s.run.model.network_state().items() if k.startswith("fc.")}
            for _, s in train(config, weights, tmp_path)
        ]
        drawn = made(config, weights).model.state_dict()
        began = heads[0] if strategy == "lp_ft" else drawn
        assert all(torch.equal(heads[-1][k], began[k]) for k in began if k.startswith("fc."))
        assert any(not torch.equal(heads[0][k], drawn[k]) for k in heads[0]), "the phase before trained it"


def test_factors_have_the_gradient_of_the_sum_and_change_no_more_than_their_rank(weights: Path) -> None:
    backbone = create("small_resnet", 7, weights=weights, image_size=64)
    phase = Phase(epochs=1, lrs=(1e-3,) * (backbone.num_stages + 1), rank=2)
    model = split(backbone, phase.cut)
    factors = Factors(model, phase, seed=3)
    name, f = next(iter(factors.by_name.items()))
    with torch.no_grad():
        f.up.normal_()
    factors.merge()
    target = torch.randn_like(f.weight)
    (f.weight * target).sum().backward()
    factors.take_gradients()
    up, down = f.up.detach().clone().requires_grad_(), f.down.detach().clone().requires_grad_()
    ((f.base + (ALPHA / 2 * (up @ down)).view_as(f.base)) * target).sum().backward()
    torch.testing.assert_close(f.up.grad, up.grad)
    torch.testing.assert_close(f.down.grad, down.grad)
    assert f.weight.grad is None and int(torch.linalg.matrix_rank((f.weight - f.base).detach().flatten(1))) == 2
    again, other = Factors(model, phase, seed=3).by_name[name], Factors(model, phase, seed=4).by_name[name]
    assert torch.equal(again.down, f.down) and not torch.equal(other.down, f.down)


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5, 8, 13])
def test_surgical_blocks_cover_the_stages(stages: int) -> None:
    blocks = [{k for k, lr in enumerate(Surgical(block=b).phases(stages, 2)[0].lrs) if lr is not None and k} for b in (1, 2, 3, 4)]
    assert all(blocks) and set.union(*blocks) == set(range(1, stages + 1))
    assert stages < 4 or sum(map(len, blocks)) == stages
    if stages == 5:
        assert blocks == [{1}, {2}, {3}, {4, 5}], "the blocks of a residual network, its stem with the first"


def test_what_a_network_cannot_serve_is_refused_in_one_line(weights: Path) -> None:
    backbone = create("small_resnet", 7, weights=weights, image_size=64)
    bare = replace(backbone, slots=tuple(s for s in backbone.slots if s.stage == 0 or not (s.shift or s.matrix)))
    for name, what in (("bias_only", "biases"), ("lora", "linear and 1x1 convolutional weights")):
        with pytest.raises(ConfigError, match=f"^digits: {name} trains {what}, and small_resnet has none"):
            phases_on(STRATEGIES[name](), bare, 4, "digits")
    with pytest.raises(ConfigError, match="full_bn_freeze keeps the statistics of batch norm, and test_vit has none"):
        trial.check(config_of("full_bn_freeze", "test_vit"), Places(folder="", weights=str(weights)))
    for strategy in (LpFt(), RetrainHead(), STRATEGIES["gradual"]()):
        with pytest.raises(ConfigError, match="needs at least 2 epochs"):
            phases_on(strategy, backbone, 1)


def test_what_lies_below_all_that_moves_is_cut_off(weights: Path) -> None:
    """A transformer's patch embedding has no norms and no matrix of a linear layer."""
    backbone = create("test_vit", 7, weights=weights, image_size=64)
    for strategy in (NormOnly(), LoRA()):
        (phase,) = phases_on(strategy, backbone, 2)
        assert phase.cut == backbone.num_stages - 1
    (near,) = phases_on(LoRA(reach=0.25), backbone, 2)
    assert near.cut < phase.cut
