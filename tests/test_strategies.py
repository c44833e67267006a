"""Laws over every strategy, on several networks."""

import copy
import itertools
import pickle

import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay

from study.errors import ConfigError
from study.networks.cutting.cut import split
from study.networks.cutting.halves import Split
from study.networks.fits import phases_on
from study.networks.pretrained import create, slots_of
from study.networks.weights import timm_name
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.search.sample import distributions
from study.strategies import STRATEGIES, Phase
from study.training.activations import to_device
from study.training.distance import distances
from study.training.optimizers import OPTIMIZERS, group_slots, make_optimizer, pull_back

NETWORKS = (
    "resnet18",
    "efficientnet_lite0",
    "mobilenetv3_small_050",
    "convnext_atto",
    "test_vit",
    "small_swin",
    "small_distilled",  # two heads; cut by replay
    "small_mean_resnet",  # cannot be cut
)
SIZE = 64
SMALL = ("small_resnet", "small_efficientnet", "test_vit", "small_swin", "small_mean_resnet")
"""Networks: one of each kind, and one that no way can cut."""
EVERY = [*itertools.product(STRATEGIES, SMALL), *itertools.product(("linear_probe", "partial", "full", "layer_decay", "lora"), NETWORKS)]


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
    backbone = create(network, 7, weights=weights, image_size=SIZE)
    assert [s.name for s in backbone.slots] == [n for n, _ in backbone.model.named_parameters()]
    assert all(n.startswith(backbone.heads) for n in backbone.names(0))
    assert all(any(n.startswith(head) for n in backbone.names(0)) for head in backbone.heads)
    assert {s.stage for s in backbone.slots} == set(range(backbone.num_stages + 1))


@pytest.mark.parametrize("network", NETWORKS)
def test_kinds_are_what_they_say(network: str, weights) -> None:
    backbone = create(network, 7, weights=weights)
    parameters = dict(backbone.model.named_parameters())
    assert all(parameters[s.name].ndim > 1 for s in backbone.slots if s.kind == "weight")
    norms = {f"{n}.{p}" for n, m in backbone.model.named_modules() if hasattr(m, "eps") for p, _ in m.named_parameters(recurse=False)}
    assert norms and norms <= {s.name for s in backbone.slots if s.kind == "norm"}
    embeddings = {s.name for s in backbone.slots if s.kind == "embedding"}
    tables = {"test_vit": {"cls_token", "pos_embed"}, "small_distilled": {"cls_token", "dist_token", "pos_embed"}}
    if network == "small_swin":
        assert embeddings and all(n.endswith("relative_position_bias_table") for n in embeddings)
    else:
        assert embeddings == tables.get(network, set())


@pytest.mark.parametrize("network", [*NETWORKS, "xcit_nano_12_p8_224", "levit_128s", "coat_tiny", "hiera_tiny_224", "volo_d1_224"])
def test_what_is_decayed_is_what_timms_authors_decay(network: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(timm_name(network))
    listed = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    theirs = param_groups_weight_decay(model, 0.1, no_weight_decay_list=listed)
    decayed = {id(p) for group in theirs if group["weight_decay"] for p in group["params"]}
    assert {s.name for s in slots_of(model) if s.kind == "weight"} == {n for n, p in model.named_parameters() if id(p) in decayed}


def step_of(network: str, phase: Phase, weights, optimizer: str = "adamw") -> tuple[Split, dict[str, torch.Tensor]]:
    """Return the network after one step of `phase`, and its state before."""
    backbone = create(network, 7, weights=weights, image_size=SIZE)
    model = split(backbone, phase.cut)
    made = make_optimizer(model, phase, Recipe(), optimizer)
    grouped = {id(p): p.numel() for g in made.param_groups for p in g["params"]}
    assert sum(grouped.values()) == phase.size(backbone.slots)
    assert phase.rank or grouped.keys() == {id(p) for p in model.parameters() if p.requires_grad}
    before = {k: v.clone() for k, v in model.network_state().items()}
    model.set_training(phase, "train")
    model(torch.randn(4, 3, SIZE, SIZE)).square().mean().backward()
    made.step()
    return model, before


def moved(model: Split, before: dict[str, torch.Tensor]) -> set[str]:
    return {k for k, v in model.network_state().items() if not torch.equal(before[k], v)}


def may_move(model: Split, phase: Phase) -> set[str]:
    """Return the parameters that the phase trains, and the statistics of modules that hold one."""
    training = {s.name for s in model.slots.values() if phase.moves(s)}
    modules = set() if phase.freeze_statistics else {n.rpartition(".")[0] for n in training}
    return training | {k for k in model.network_state() if k not in model.slots and k.rpartition(".")[0] in modules}


@pytest.mark.parametrize(("name", "network"), EVERY)
def test_one_step_moves_what_is_trained_and_nothing_frozen(name: str, network: str, weights) -> None:
    """It looks parameter by parameter, at batch-norm statistics too, where code that freezes usually has its bugs."""
    backbone = create(network, 7, weights=weights, image_size=SIZE)
    if name.endswith("bn_freeze") and network in ("test_vit", "small_swin", "convnext_atto"):
        with pytest.raises(ConfigError, match="statistics of batch norm, and .* has none"):
            phases_on(STRATEGIES[name](), backbone, 4)
        return
    for phase in phases_on(STRATEGIES[name](), backbone, 4):
        model, before = step_of(network, phase, weights)
        assert moved(model, before) <= may_move(model, phase)
        assert {s.stage for s in model.slots.values() if s.name in moved(model, before)} == {k for k, lr in enumerate(phase.lrs) if lr}


@pytest.mark.parametrize(
    "kinds", [frozenset({"norm"}), frozenset({"bias"}), frozenset({"norm", "bias"})], ids=lambda k: "+".join(sorted(k))
)
@pytest.mark.parametrize("network", ["resnet18", "convnext_atto"])
def test_a_phase_may_move_some_kinds_alone(network: str, kinds, weights) -> None:
    stages = create(network, 7, weights=weights).num_stages
    phase = Phase(epochs=1, lrs=(1e-3,) * (stages + 1), kinds=kinds)
    model, before = step_of(network, phase, weights)
    parameters = {s for s in model.slots.values() if s.name in moved(model, before)}
    assert {s.kind for s in parameters if s.stage > 0} <= kinds and {s.stage for s in parameters} >= {0}
    assert moved(model, before) <= may_move(model, phase)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_what_moves(optimizer: str, weights) -> None:
    phase = Phase(epochs=1, lrs=(1e-3, 1e-3) + (None,) * 4)
    model, before = step_of("resnet18", phase, weights, optimizer)
    assert {"fc.weight", "fc.bias", "layer4.1.bn2.weight"} <= moved(model, before) <= may_move(model, phase)


def test_a_pull_leads_back_to_the_start(weights) -> None:
    """L2-SP's gradient is pull * (w - start), below the head alone. Pulled parameters are not decayed."""
    phase = Phase(epochs=1, lrs=(1e-3, 1e-3) + (None,) * 4, pull=0.5)
    model = split(create("resnet18", 7, weights=weights), phase.cut)
    start = {s.name: p.detach().clone() for s, p in model.named()}
    groups = group_slots(model, phase, Recipe(weight_decay=0.1))
    assert {(g["stage"], g["weight_decay"]) for g in groups} == {(0, 0.1), (0, 0.0), (1, 0.0)}
    for _, p in model.named():
        p.data.add_(1.0)
        p.grad = torch.zeros_like(p)
    pull_back(model, phase, start)
    assert all(torch.allclose(p.grad, torch.full_like(p, 0.5 if s.stage else 0.0), atol=1e-5) for s, p in model.named())


def test_a_random_start_is_drawn_from_its_seed_and_needs_no_weights() -> None:
    one, again, other = (create("resnet34", 7, start="random", seed=s) for s in (1, 1, 2))
    assert one.fingerprint == again.fingerprint != other.fingerprint and "drawn from seed 1" in one.weights
    state, same, differs = (b.model.state_dict() for b in (one, again, other))
    assert all(torch.equal(state[k], same[k]) for k in state) and not torch.equal(state["conv1.weight"], differs["conv1.weight"])


def test_the_head_it_came_with(weights) -> None:
    backbone = create("resnet18", None, weights=weights)
    stored = torch.load(weights / "resnet18.pth", weights_only=True)
    assert torch.equal(backbone.model.state_dict()["fc.weight"], stored["fc.weight"])


def test_distances_count_from_the_start_by_stage(weights) -> None:
    model = split(create("resnet18", 7, weights=weights), 1)
    start = {s.name: p.detach().clone() for s, p in model.named()}
    assert distances(model, start) == {"distance/head": 0.0, "distance/stage_1": 0.0}
    for slot, p in model.named():
        p.data.mul_(1.5 if slot.stage else 1.0)
    assert distances(model, start) == {"distance/head": 0.0, "distance/stage_1": pytest.approx(0.5)}


@pytest.mark.parametrize("network", [n for n in NETWORKS if n != "small_mean_resnet"])
def test_the_two_halves_are_the_whole(network: str, weights) -> None:
    for cut in range(3):
        backbone = create(network, 7, weights=weights, image_size=SIZE)
        reference = create(network, 7, weights=weights, image_size=SIZE).model.eval()
        model = split(backbone, cut).eval()
        assert model.frozen is not None, "this family can be cut"
        x = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-4)
        assert model.network_state().keys() == reference.state_dict().keys()
        assert not any(p.requires_grad for p in model.frozen.parameters())
        assert not model.activations(x).requires_grad, "no autograd graph below the cut"


HOW = {
    "resnet18": ("head", "chain"),
    "efficientnet_lite0": ("head", "chain"),
    "convnext_atto": ("head", "chain"),
    "small_swin": ("head", "chain"),
    "test_vit": ("head", "replay"),
    "small_distilled": ("replay", "replay"),
}


@pytest.mark.parametrize("network", HOW)
def test_every_stage_can_be_cut_and_says_how(network: str, weights) -> None:
    backbone = create(network, 7, weights=weights, image_size=SIZE)
    models = [split(backbone, cut) for cut in range(backbone.num_stages)]
    assert [m.where for m in models] == list(range(backbone.num_stages))
    assert (models[0].how, *{m.how for m in models[1:]}) == HOW[network]


def test_a_network_whose_images_are_not_their_own_stays_whole_and_says_why(weights) -> None:
    backbone = create("small_mean_resnet", 7, weights=weights)
    models = [split(backbone, cut) for cut in range(2)]
    assert all(m.frozen is None and m.where == "whole" and "did not reproduce" in m.why_whole for m in models)


@pytest.mark.parametrize("network", ["test_vit", "small_distilled"])
def test_halves_of_a_replayed_network_are_copied_pickled_and_trained_like_the_whole(network: str, weights) -> None:
    """Trained weights may go anywhere: the frozen half does not depend on them, and the trained half follows the whole network."""
    for cut in (0, 1, 2):
        reference = create(network, 7, weights=weights, image_size=SIZE).model.eval()
        model = split(create(network, 7, weights=weights, image_size=SIZE), cut).eval()
        with torch.no_grad():
            for slot, parameter in model.named():
                if slot.stage <= cut:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        assert reference.load_state_dict(model.network_state()).missing_keys == []
        x = torch.randn(3, 3, SIZE, SIZE)
        rows = model.activations(x)
        stored = to_device(rows.half().numpy(), rows.device)
        for again in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            with torch.no_grad():
                torch.testing.assert_close(again(x), reference(x), rtol=1e-4, atol=1e-4)
                torch.testing.assert_close(again.trained(stored), reference(x), rtol=1e-2, atol=1e-2)
        parts = torch.cat([model.activations(x[k : k + 1]) for k in range(3)])
        torch.testing.assert_close(parts, rows, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("network", "last"), [("resnet50", ["layer4"]), ("efficientnet_b0", ["blocks.6", "conv_head", "bn2"])])
def test_parameter_counts_are_those_of_timms_modules(network: str, last: list[str], weights) -> None:
    """The two networks of the study, Strategy A against Strategy B, are compared with timm's own modules."""
    reference = timm.create_model(network, num_classes=7)
    total = sum(p.numel() for p in reference.parameters())
    head = sum(p.numel() for p in reference.get_classifier().parameters())
    block = sum(p.numel() for n in last for p in reference.get_submodule(n).parameters())
    for strategy, expected in (("linear_probe", head), ("partial", head + block), ("full", total)):
        backbone = create(network, 7, weights=weights)
        phase = STRATEGIES[strategy]().phases(backbone.num_stages, 2)[0]
        model = split(backbone, phase.cut)
        optimizer = make_optimizer(model, phase, Recipe(), "adamw")
        assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == expected
        assert sum(p.numel() for p in model.parameters()) == total


def test_offline_without_weights_is_one_line_with_three_ways_out(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="Three ways out"):
        create("resnet34", 7)
    with pytest.raises(ConfigError, match="efficientnet_b0"):
        create("eficientnet_b0", 7)


def test_what_fits_is_counted_node_by_node() -> None:
    from study.errors import EnvironmentProblem
    from study.search.resources import Resources

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
    from study.search.on_ray.gpu_share import gpu_share

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
