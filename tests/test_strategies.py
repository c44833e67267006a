"""Laws over every strategy, on several networks."""

import itertools

import pytest
import timm
import torch

from study import backbones
from study.config import Cell, Protocol, Study, TrialConfig
from study.search.sample import distributions
from study.strategies import STRATEGIES
from study.training.loop import _optimizer
from study.training.split import split

NETWORKS = ("resnet18", "efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224")
EVERY = list(itertools.product(STRATEGIES, NETWORKS))


def default(name: str, network: str = "resnet18") -> TrialConfig:
    return TrialConfig.default(Cell(dataset="digits", backbone=network, strategy=name), Protocol(max_epochs=4))


@pytest.mark.parametrize("name", STRATEGIES)
def test_json_round_trip_keeps_the_id(name: str) -> None:
    config = default(name)
    again = TrialConfig.from_dict(config.as_dict())
    assert again == config and again.id == config.id
    assert config.with_values({"seed": 1}).id != config.id


@pytest.mark.parametrize("name", STRATEGIES)
def test_names_of_searched_fields_do_not_collide_and_defaults_lie_in_range(name: str) -> None:
    config = default(name)
    ranges = Study(name="s", cells=(config.cell,)).ranges(config.cell)
    assert ranges.keys() == config.tuned().keys()
    for field, distribution in distributions(ranges).items():
        assert distribution._contains(distribution.to_internal_repr(config.tuned()[field])), field


@pytest.mark.parametrize("stages", [4, 5, 8, 13])
@pytest.mark.parametrize("name", STRATEGIES)
def test_phases_cover_all_epochs_and_always_train_the_head(name: str, stages: int) -> None:
    for epochs in (2, 3, 10):
        phases = STRATEGIES[name]().phases(stages, epochs)
        assert sum(p.epochs for p in phases) == epochs
        for p in phases:
            assert len(p.lrs) == stages + 1 and p.lrs[0] is not None
            assert all(lr is None for lr in p.lrs[p.cut + 1 :]) and p.lrs[p.cut] is not None


@pytest.mark.parametrize("network", NETWORKS)
def test_stages_cover_every_parameter_once(network: str, weights) -> None:
    backbone = backbones.create(network, 7, weights=weights)
    named = [n for stage in backbone.stages for n in stage]
    assert sorted(named) == sorted(n for n, _ in backbone.model.named_parameters())
    assert all(n.startswith(backbone.head) for n in backbone.stages[0])


@pytest.mark.parametrize(("name", "network"), EVERY)
def test_one_step_moves_what_is_trained_and_nothing_frozen(name: str, network: str, weights) -> None:
    """Batch-norm statistics included: the bug detector of every freezing code."""
    backbone = backbones.create(network, 7, weights=weights)
    for phase in STRATEGIES[name]().phases(backbone.num_stages, 4):
        stage_of = {n: k for k, names in enumerate(backbone.stages) for n in names}
        model = split(backbone, phase.cut)
        optimizer = _optimizer(model, phase, 1e-4)
        grouped = {id(p) for g in optimizer.param_groups for p in g["params"]}
        assert grouped == {id(p) for p in model.parameters() if p.requires_grad}
        before = {k: v.clone() for k, v in model.network_state().items()}
        model.set_training(phase.lrs, "train")
        side = 224 if network.startswith("vit") else 64
        model(torch.randn(4, 3, side, side)).square().mean().backward()
        optimizer.step()
        modules = dict(backbone.model.named_modules())
        for key, value in model.network_state().items():
            owner = next((k for n, k in stage_of.items() if n.rpartition(".")[0] == key.rpartition(".")[0]), None)
            frozen = owner is not None and phase.lrs[owner] is None
            if frozen:
                assert torch.equal(before[key], value), f"{key} is frozen and moved"
        moved = [k for k, v in model.network_state().items() if not torch.equal(before[k], v)]
        assert any(k.startswith(backbone.head) for k in moved)
        assert modules


@pytest.mark.parametrize("network", ["resnet18", "efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto"])
def test_the_two_halves_are_the_whole(network: str, weights) -> None:
    for cut in range(3):
        backbone = backbones.create(network, 7, weights=weights)
        reference = backbones.create(network, 7, weights=weights).model.eval()
        model = split(backbone, cut).eval()
        assert model.frozen is not None, "this family can be cut"
        x = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-4)
        assert model.network_state().keys() == reference.state_dict().keys()
        assert not any(p.requires_grad for p in model.frozen.parameters())
        assert not model.activations(x).requires_grad, "no autograd graph below the cut"


@pytest.mark.parametrize(("network", "last"), [("resnet50", ["layer4"]), ("efficientnet_b0", ["blocks.6", "conv_head", "bn2"])])
def test_parameter_counts_are_those_of_timms_modules(network: str, last: list[str], weights) -> None:
    """The two networks of the study, Strategy A against Strategy B, asserted against timm's own modules."""
    reference = timm.create_model(network, num_classes=7)
    total = sum(p.numel() for p in reference.parameters())
    head = sum(p.numel() for p in reference.get_classifier().parameters())
    block = sum(p.numel() for n in last for p in reference.get_submodule(n).parameters())
    for strategy, expected in (("linear_probe", head), ("partial", head + block), ("full", total)):
        backbone = backbones.create(network, 7, weights=weights)
        phase = STRATEGIES[strategy]().phases(backbone.num_stages, 2)[0]
        model = split(backbone, phase.cut)
        optimizer = _optimizer(model, phase, 0.0)
        assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == expected
        assert sum(p.numel() for p in model.parameters()) == total


def test_offline_without_weights_is_one_line_with_three_ways_out(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(backbones.ConfigError, match="Three ways out"):
        backbones.create("resnet34", 7)
    with pytest.raises(backbones.ConfigError, match="efficientnet_b0"):
        backbones.create("eficientnet_b0", 7)


def test_what_fits_is_counted_node_by_node() -> None:
    from study.errors import EnvironmentProblem
    from study.search.on_ray.cluster import Resources

    four = [{"CPU": 4.0}] * 4
    assert Resources(cpus_per_worker=2).fit(four) == 8
    assert Resources(cpus_per_worker=3, workers=2).fit(four) == 2, "one worker a node, though 16 CPUs would hold five"
    with pytest.raises(EnvironmentProblem, match="needs 8 CPU but the cluster's nodes have 4 CPU"):
        Resources(cpus_per_worker=8).fit(four)
    with pytest.raises(EnvironmentProblem, match="NCCL"):
        Resources(workers=2, gpus_per_trial=1).fit([{"CPU": 8.0, "GPU": 1.0}])
    assert Resources(gpus_per_trial=0.25).fit([{"CPU": 8.0, "GPU": 1.0}]) == 4


def test_trials_share_a_gpu_by_their_measured_memory() -> None:
    from study.records import Outcome, TrialResult
    from study.search.on_ray.sharing import gpu_share

    def result(peak: float, total: float = 80e9) -> TrialResult:
        facts = {"peak_gpu_bytes": peak, "gpu_bytes": total}
        return TrialResult(
            trial_id="0" * 16, outcome=Outcome.COMPLETED, epochs=1, best_epoch=1, metrics={}, classes=[], val=None, seconds=1, images=1,
            facts=facts,
        )  # fmt: skip

    assert gpu_share([]) is None and gpu_share([result(0, 0)]) is None, "a CPU has no share"
    assert gpu_share([result(60e9)]) == 1.0 and gpu_share([result(200e9)]) == 1.0
    share = gpu_share([result(2e9), result(7.2e9), result(3e9)])
    assert share == 0.125 and gpu_share([result(7.2e9), result(1e9, 40e9)]) == 0.25, "the hungriest trial, the smallest GPU"
    assert 7 * gpu_share([result(8e9)]) <= 1
