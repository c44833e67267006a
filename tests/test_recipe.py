"""Class weights, mixup, CutMix, drop path, running averages of weights: known answers, laws of training, and how a study asks for each."""

import io
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from timm.data.mixup import Mixup, mixup_target
from timm.layers import DropPath
from torch import nn
from torch.nn import functional as F

from analysis.load import load
from study.errors import ConfigError
from study.networks.cutting.cut import split
from study.networks.cutting.halves import Split
from study.networks.pretrained import create
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.run import open_inputs, run_trial
from study.search.optuna_cells import SearchPlan
from study.space import Choice, Integer, Steps, Uniform
from study.storage import checkpoint
from study.storage.folder import Folder
from study.storage.places import Places
from study.strategies import STRATEGIES, Phase
from study.strategies.partial import Partial
from study.tracking.ledger import Ledger
from study.training.class_weights import class_weights
from study.training.ema import Average
from study.training.loop import State, fine_tune
from study.training.mixup import Blend, draw
from study.trial import parse_trial
from tests.goldens import GOLDEN
from tests.networks import serves

QUICK = Protocol(max_epochs=2, image_size=32, batch_size=32, train_eval_images=16)
FIELDS = {"class_weighting": 0.99, "mixup": 0.4, "cutmix": 1.0, "drop_path": 0.3, "ema": 0.9, "balanced_sampling": 0.5}


def trial(strategy: str, protocol: Protocol = QUICK, network: str = "mobilenetv3_small_050", **values: Any) -> TrialConfig:
    cell = Cell(dataset="digits", backbone=network, strategy=strategy, train_fraction=0.1)
    return TrialConfig.default(cell, protocol, seed=3).with_values(values)


def train(config: TrialConfig, weights: Path, cache: Path, **more: Any):
    return fine_tune(config, open_inputs(config, Places(folder="", cache=str(cache))), weights=str(weights), **more)


def metrics(config: TrialConfig, weights: Path, cache: Path, **more: Any) -> list[dict[str, float]]:
    return [record.metrics for record, _ in train(config, weights, cache, **more)]


# ---- off -----------------------------------------------------------------------------------------


def test_what_is_off_is_not_written_and_changes_no_id() -> None:
    config = trial("partial")
    off = dict.fromkeys(FIELDS, 0.0)
    assert config.with_values(off).id == config.id and not config.as_dict()["recipe"].keys() & FIELDS.keys()
    ids = {config.with_values({name: value}).id for name, value in FIELDS.items()}
    assert len(ids | {config.id}) == len(FIELDS) + 1
    assert parse_trial("digits/resnet18/partial", ["mixup=0.2", "ema=0.99"]).tuned()["mixup"] == 0.2


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("class_weighting", 1.5, r"class_weighting must be in \[0, 1\]"),
        ("balanced_sampling", 1.1, r"balanced_sampling must be in \[0, 1\] .0 = as they are"),
        ("mixup", -1, "mixup must be finite and >= 0"),
        ("cutmix", float("inf"), "cutmix must be finite"),
        ("drop_path", 1.0, r"drop_path must be in \[0, 1\)"),
        ("ema", 1.0, r"ema must be in \[0, 1\)"),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        trial("partial", **{field: value})


# ---- class weights -------------------------------------------------------------------------------


def test_the_effective_number_of_samples_by_hand() -> None:
    """With beta = 0.9 one image counts as 1, two as 1 + 0.9, three as 1 + 0.9 + 0.81."""
    weights = class_weights(np.array([1, 2, 3]), 0.9)
    raw = np.array([1, 1 / 1.9, 1 / 2.71])
    np.testing.assert_allclose(weights, raw * 6 / (raw * [1, 2, 3]).sum(), rtol=1e-6)
    assert class_weights(np.array([1, 2, 3]), 0.0) is None


def test_inverse_frequency_is_scikit_learns_balanced_and_a_large_beta_comes_near_it() -> None:
    labels = np.repeat([0, 1, 2], [50, 5, 1])
    images = np.bincount(labels)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(images, 1.0), balanced, rtol=1e-6)
    np.testing.assert_allclose(class_weights(images, 0.999999), balanced, rtol=1e-4)
    for beta in (0.5, 0.9, 0.9999, 1.0):
        weights = class_weights(np.array([40, 0, 7]), beta)
        assert weights[1] == 0 and (weights * [40, 0, 7]).sum() == pytest.approx(47), "an image weighs one on average"


def test_classes_are_counted_as_training_is_told(tmp_path: Path) -> None:
    config = trial("linear_probe", replace(QUICK, wrong_labels=0.5))
    inputs = open_inputs(config, Places(folder="", cache=str(tmp_path)))
    told = np.bincount(inputs.targets(np.arange(len(inputs.train))).numpy(), minlength=10)
    assert (told != np.bincount(inputs.labels_of(inputs.train), minlength=10)).any()
    np.testing.assert_allclose(inputs.class_weights(0.9).numpy(), class_weights(told, 0.9))
    assert inputs.class_weights(0.0) is None


def test_a_weighted_loss_is_the_weighted_mean_by_hand(weights: Path, tmp_path: Path) -> None:
    """With one step a pass and a head at rate zero, the loss of the only batch, weighted and smoothed, is compared with the formula."""
    protocol = replace(QUICK, max_epochs=1, batch_size=512)
    config = trial("linear_probe", protocol, lr=0.0, augmentation=0.0, class_weighting=0.9, label_smoothing=0.2)
    ((record, state),) = train(config, weights, tmp_path)
    inputs = open_inputs(config, Places(folder="", cache=str(tmp_path)))
    from study.inference.pixels import plain

    made = create(config.cell.backbone, 10, weights=weights, seed=3)
    with torch.no_grad():
        log_p = state.run.model.eval()(plain(inputs.pixels_of(inputs.train), size=32, mean=made.mean, std=made.std)).log_softmax(1).numpy()
    labels = inputs.labels_of(inputs.train)
    w, target = class_weights(np.bincount(labels, minlength=10), 0.9), 0.8 * np.eye(10)[labels] + 0.02
    assert record.metrics["train/loss"] == pytest.approx(float(-(target * w * log_p).sum() / len(labels)), rel=1e-4)


# ---- mixup and CutMix ----------------------------------------------------------------------------


@pytest.mark.parametrize("pastes", [False, True])
def test_images_and_targets_are_blended_as_timm_blends_them(pastes: bool, monkeypatch) -> None:
    labels, images = torch.tensor([0, 2, 1, 2]), torch.randn(4, 3, 16, 16)
    theirs = Mixup(mixup_alpha=0.4, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=3)
    box, share = ((2, 10, 4, 16), 1 - 8 * 12 / 256) if pastes else (None, 0.3)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (share, pastes))
    monkeypatch.setattr("timm.data.mixup.rand_bbox", lambda *a, **k: box)
    expected, targets = theirs(images.clone(), labels)
    blend = Blend(share=share, box=box)
    torch.testing.assert_close(blend.images(images, images.flip(0)), expected)
    torch.testing.assert_close(blend.targets(labels, labels.flip(0), 3), targets)
    soft = torch.eye(3)[labels]
    torch.testing.assert_close(blend.targets(soft, soft.flip(0), 3), targets)


def test_blended_targets_by_hand_and_with_smoothing_as_timm_has_it() -> None:
    labels = torch.tensor([0, 1])
    mixed = Blend(share=0.75).targets(labels, labels.flip(0), 2)
    assert mixed.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    logits = torch.randn(2, 2)
    smooth = mixup_target(labels, 2, 0.75, smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, mixed, label_smoothing=0.1), -(smooth * logits.log_softmax(1)).sum(1).mean())


def draws(recipe: Recipe, count: int = 2000) -> list[Blend]:
    return [b for k in range(count) if (b := draw(recipe, seed=1, turn=1 + k // 50, step=k % 50, size=32))]


def test_shares_follow_their_beta_distribution_and_boxes_hold_what_the_share_says() -> None:
    shares = np.array([b.share for b in draws(Recipe(mixup=0.4))])
    assert shares.mean() == pytest.approx(0.5, abs=0.03) and shares.var() == pytest.approx(1 / (4 * 1.8), rel=0.06)
    assert draws(Recipe()) == []
    pasted = draws(Recipe(cutmix=1.0), 50)
    for blend in pasted:
        own = blend.images(torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32))
        assert float(own.mean()) == pytest.approx(1 - blend.share)
    both = [b.box is None for b in draws(Recipe(mixup=0.4, cutmix=1.0))]
    assert np.mean(both) == pytest.approx(0.5, abs=0.04)


def test_a_draw_is_a_function_of_seed_pass_and_step() -> None:
    recipe = Recipe(mixup=0.4)
    shares = {draw(recipe, seed=s, turn=t, step=k, size=8).share for s in (0, 1) for t in (1, 2) for k in (0, 1, 2)}
    assert len(shares) == 12
    assert draw(recipe, seed=1, turn=2, step=2, size=8) == draw(recipe, seed=1, turn=2, step=2, size=8)
    order, first = np.random.Generator(np.random.Philox(key=[1, 2])), draw(recipe, seed=1, turn=2, step=0, size=8).share
    assert first != float(order.beta(0.4, 0.4)), "the order of the images is drawn from another stream"


def test_half_a_batch_at_a_time_blends_the_same_pairs(weights: Path, tmp_path: Path) -> None:
    """The partner of an image belongs to its batch, whoever trains it: a worker, or the half of a batch that memory holds."""
    config = trial("linear_probe", mixup=0.4, cutmix=1.0)
    whole, halves = (metrics(config, weights, tmp_path, micro_batches=n) for n in (1, 2))
    for a, b in zip(whole, halves, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-4)


def test_blended_trials_reuse_nothing_and_say_why(weights: Path, tmp_path: Path) -> None:
    protocol = replace(QUICK, views=1, max_epochs=1)
    facts = [next(train(trial("linear_probe", protocol, mixup=m), weights, tmp_path))[0].facts for m in (0.0, 0.2)]
    assert facts[0]["activations_reused"] and "why_not_reused" not in facts[0]
    assert not facts[1]["activations_reused"] and "blend pixels" in facts[1]["why_not_reused"]


# ---- drop path -----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["vgg11", "hrnet_w18_small"])
def test_networks_without_paths_to_drop_are_refused_in_one_line(network: str) -> None:
    with pytest.raises(ConfigError, match=f"{network} has no paths to drop") as refused:
        create(network, 3, start="random", drop_path=0.1)
    assert "\n" not in str(refused.value)


def dropping(model: Split) -> dict[int, set[bool]]:
    """Return by stage the drop-path states of its modules."""
    stages = {s.name.rpartition(".")[0]: s.stage for s in model.slots.values()}
    found: dict[int, set[bool]] = {}
    for name, module in model.trained.named_modules():
        if isinstance(module, DropPath) and module.drop_prob:
            block = name.rpartition(".")[0]
            found.setdefault(next(k for n, k in stages.items() if n.startswith(f"{block}.")), set()).add(module.training)
    return found


def test_paths_are_dropped_where_training_moves_something_alone(weights: Path) -> None:
    """A network that cannot be cut holds its frozen blocks in the trained half."""
    made = create("small_mean_resnet", 7, weights=weights, drop_path=0.5)
    model, phase = split(made, 1), Phase(epochs=1, lrs=(1e-3, 1e-3) + (None,) * (made.num_stages - 1))
    model.set_training(phase, "train")
    assert model.frozen is None and dropping(model) == {1: {True}, 2: {False}, 3: {False}}
    model.set_training(Phase(epochs=1, lrs=(1e-3,) * (made.num_stages + 1), kinds=frozenset({"bias"})), "train")
    assert not made.arguments, "what is kept is built without it"


@pytest.mark.parametrize("network", ["resnet18", "test_vit", "small_swin"])
def test_the_frozen_half_is_the_same_whatever_is_drawn_and_the_trained_one_is_not(network: str, weights: Path) -> None:
    made = create(network, 7, weights=weights, image_size=64, drop_path=0.5)
    model = split(made, 1)
    model.set_training(Phase(epochs=1, lrs=(1e-3, 1e-3) + (None,) * (made.num_stages - 1)), "freeze")
    x = torch.randn(8, 3, 64, 64)
    rows = [model.activations(x) for _ in range(2)]
    assert model.frozen is not None and torch.equal(*rows)
    reference = split(create(network, 7, weights=weights, image_size=64), 1)
    torch.testing.assert_close(rows[0], reference.eval().activations(x))
    torch.manual_seed(0)
    with torch.no_grad():
        for half in (model.trained, reference.trained):  # of the ResNet's residual branches, the last norms begin at zero
            for parameter in half.parameters():
                parameter.add_(0.1 * (parameter.ndim == 1))
        assert not torch.equal(model.trained(rows[0]), model.trained(rows[0]))
        torch.testing.assert_close(model.eval()(x), reference(x))


# ---- the running average -------------------------------------------------------------------------


def test_the_average_by_hand() -> None:
    """A network goes 0, 1, 2, ... After step t it is averaged with min(decay, 1 - t^(-2/3)), which is 0 at the first."""
    layer = nn.BatchNorm1d(1)
    average = Average(Split(None, layer, cut=0, slots=(), arguments={}), 0.5)
    expected = None
    for step in range(1, 6):
        with torch.no_grad():
            layer.weight.fill_(step)
            layer.running_mean.fill_(10 * step)
            layer.num_batches_tracked.fill_(step)
        average.update(layer, step)
        decay = min(0.5, 1 - step ** (-2 / 3))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
        own = average.network.trained
        assert own.weight.item() == pytest.approx(expected) and float(own.running_mean) == pytest.approx(10 * expected)
        assert int(own.num_batches_tracked) == step, "a counter is no average"


def test_the_averaged_network_is_scored_and_kept(weights: Path, tmp_path: Path) -> None:
    config = trial("partial", ema=0.9, lr=1e-3)
    plain = trial("partial", lr=1e-3)
    scored, states = [], []
    for record, state in train(config, weights, tmp_path):
        scored.append(record)
        states.append({k: v.clone() for k, v in state.network.network_state().items()})
    raw = [(r, s) for r, s in train(plain, weights, tmp_path)]
    unlike = raw[-1][1].network.network_state()
    assert any(not torch.equal(states[-1][k], unlike[k]) for k in unlike)
    assert all(torch.equal(state.run.model.network_state()[k], v) for k, v in unlike.items()), "what is trained is what is trained without"
    assert scored[-1].metrics["val/nll"] != raw[-1][0].metrics["val/nll"]
    run_trial(config, Places(folder=str(tmp_path / "t"), cache=str(tmp_path), weights=str(weights)), lambda r: False)
    kept, facts = checkpoint.load_weights(Folder(str(tmp_path / "t")), "best")
    assert all(torch.equal(kept[k], v) for k, v in states[facts["epoch"] - 1].items())


# ---- laws with each field on ---------------------------------------------------------------------


def saved_after(config: TrialConfig, weights: Path, cache: Path, stop: int) -> tuple[list[dict[str, float]], State, dict[str, Any]]:
    """Return the whole trial, its last state, and what was saved after epoch `stop`."""
    found: list[dict[str, float]] = []
    for record, state in train(config, weights, cache):
        found.append(record.metrics)
        if record.epoch == stop:
            buffer = io.BytesIO()
            torch.save(state.as_dict(), buffer)
    return found, state, torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def obeys(config: TrialConfig, weights: Path, cache: Path, stop: int = 1) -> None:
    """Check that it resumes bit-exactly, gives the same numbers again, and moves nothing frozen."""
    whole, last, saved = saved_after(config, weights, cache, stop)
    again = list(train(config, weights, cache, saved=saved))
    assert [r.metrics for r, _ in again] == whole[stop:]
    for a, b in zip((last.run.model, last.network), (again[-1][1].run.model, again[-1][1].network), strict=True):
        assert all(torch.equal(v, b.network_state()[k]) for k, v in a.network_state().items())
    made = create(
        config.cell.backbone, 10, weights=weights, seed=config.seed, start=config.strategy.start, image_size=config.protocol.image_size
    )
    phases = config.strategy.phases(made.num_stages, config.protocol.max_epochs)
    still = {s.name for s in made.slots if not any(p.moves(s) for p in phases)}
    modules = {s.name.rpartition(".")[0] for s in made.slots if s.name not in still}
    before = made.model.state_dict()
    still |= {k for k in before if k not in last.run.model.slots and k.rpartition(".")[0] not in modules}
    assert all(torch.equal(before[k], last.network.network_state()[k]) for k in still)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_obeys_the_laws_with_the_whole_recipe(strategy: str, weights: Path, tmp_path: Path) -> None:
    """The strategy lp_ft is stopped where a phase ends: the next phase starts from the average."""
    obeys(trial(strategy, **FIELDS), weights, tmp_path)


NETWORKS = ("mobilenetv3_small_050", "test_vit", "resnet18", "small_swin", "small_mean_resnet")


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("strategy", "network"), [(s, n) for s, n in itertools.product(STRATEGIES, NETWORKS) if serves(n, s)])
def test_every_strategy_obeys_the_laws_with_each_field(strategy: str, field: str, network: str, weights: Path, tmp_path: Path) -> None:
    size = 64 if network in ("small_swin", "test_vit") else 32
    for stop in (1, 2):
        obeys(
            trial(strategy, replace(QUICK, max_epochs=3, image_size=size, views=1), network, **{field: FIELDS[field]}),
            weights, tmp_path, stop,
        )  # fmt: skip


# ---- how a study asks ----------------------------------------------------------------------------


def study(**fields: Any) -> Study:
    values = {"name": "s", "cells": grid(["digits"], ["resnet18"], ["partial", "full"]), "trials": 4, "random_trials": 3}
    return Study(**{**values, **fields})


def test_a_study_asks_by_name_by_a_range_or_with_one_value(tmp_path: Path) -> None:
    space = {"partial.cutmix": Uniform(0.2, 0.4), "recipe.ema": Choice(0.99)}
    own = study(search=("mixup",), space=space)
    partial, full = own.cells
    assert own.asked("partial") == ("mixup", "cutmix", "ema") and own.asked("full") == ("mixup", "ema")
    assert own.ranges(partial)["mixup"] == Uniform(0.0, 0.8) and own.ranges(partial)["cutmix"] == Uniform(0.2, 0.4)
    assert list(study().ranges(full)) == list(own.ranges(full))[:-2], "what is asked for is drawn last, so the other draws stay"
    assert Study.from_dict(json.loads(json.dumps(own.as_dict()))) == own
    ledger = Ledger(tmp_path, "s")
    begun = ledger.begin(own, {})
    assert begun.published["recipe.mixup"] == Uniform(0.0, 0.8) and ledger.study() == begun
    plan = SearchPlan(begun, ledger)
    asks = [plan.ask() for _ in range(8)]
    recipes = {c: [TrialConfig.from_dict(a.config).recipe for a in asks if a.cell == c.id] for c in (partial, full)}
    assert all(r.ema == 0.99 for rs in recipes.values() for r in rs) and recipes[full][0].mixup == 0 == recipes[full][1].cutmix
    assert recipes[partial][0].cutmix == 0.2 and len({r.mixup for r in recipes[partial]}) == 4
    for ask in asks:
        ledger.write_ask(ask)
    resumed = SearchPlan(begun, ledger)
    searches = [vars(s)["study"] for s in resumed.cells.values()]
    drawn = {round(t.params["mixup"], 6) for s in searches for t in s.trials}
    assert drawn == {r.mixup for rs in recipes.values() for r in rs}, "a search goes on from what it tried"


def test_what_a_study_may_not_ask_is_refused_before_it_starts() -> None:
    with pytest.raises(ConfigError, match="search cannot add 'mixupp'. Choose from.*mixup"):
        study(search=("mixupp",))
    with pytest.raises(ConfigError, match=r"drop_path must be in \[0, 1\), not 1.5"):
        study(space={"recipe.drop_path": Uniform(0.0, 1.5)})


def test_networks_that_a_study_cannot_drop_paths_of_are_refused_by_its_checks(weights: Path) -> None:
    from study.conduct.checks import check_models

    cells = grid(["digits"], ["vgg11"], ["scratch"])
    protocol = Protocol(image_size=32)
    with pytest.raises(ConfigError, match="vgg11 has no paths to drop"):
        check_models(study(cells=cells, protocol=protocol, search=("drop_path",)), Places(folder="", weights=str(weights)))


def test_what_is_searched_besides_stands_in_frames_and_figures(tmp_path: Path) -> None:
    """The golden study is changed as if it had asked: its trials ran with the field at its default."""
    from analysis.figures import importance
    from analysis.verdict import findings

    shutil.copytree(GOLDEN, tmp_path / "results")
    path = tmp_path / "results" / "golden" / "study.json"
    values = json.loads(path.read_text())
    values["study"]["search"] = ["mixup"]
    values["study"]["space"] = {"recipe.ema": {"choice": [0.0]}}
    path.write_text(json.dumps(values))
    frames = load(str(tmp_path / "results"))
    assert frames.scales["mixup"] == "linear" and (frames.trials["hp/mixup"] == 0).all()
    monkey = pytest.MonkeyPatch()
    monkey.setattr(importance, "FEWEST", 4)
    with monkey.context():
        found = importance.compute(frames, findings(frames, 20))
    monkey.undo()
    assert {"mixup", "ema", "lr"} <= set(found.hyperparameter)


# ---- depth ---------------------------------------------------------------------------------------

STAGES = {"resnet50": 5, "efficientnet_b0": 8, "vit_tiny_patch16_224": 13, "cait_xxs24_224": 25}
DEPTHS = {
    "resnet50": [1, 2, 3, 4],
    "efficientnet_b0": [1, 2, 3, 4],
    "vit_tiny_patch16_224": [1, 5, 8, 12],
    "cait_xxs24_224": [1, 9, 16, 24],
}


@pytest.mark.parametrize("network", STAGES)
def test_steps_lead_from_the_last_block_to_all_but_the_stem(network: str) -> None:
    stages = create(network, 3, start="random").num_stages
    assert stages == STAGES[network]
    assert [Partial(unfreeze_depth=d, depth_steps=4).phases(stages, 1)[0].cut for d in (1, 2, 3, 4)] == DEPTHS[network]
    assert [Partial(unfreeze_depth=d).phases(stages, 1)[0].cut for d in (1, 2, 3, 4)] == [1, 2, 3, 4], "without steps, stages are counted"


def test_a_search_counts_in_steps_and_one_begun_before_goes_on_counting_stages(tmp_path: Path) -> None:
    def tried(own: Study) -> list[Partial]:
        plan = SearchPlan(own, Ledger(tmp_path, own.name))
        asks = [plan.ask() for _ in range(8)]
        return [TrialConfig.from_dict(a.config).strategy for a in asks]

    cells = grid(["digits"], ["vit_tiny_patch16_224"], ["partial"])
    now = study(name="now", cells=cells, trials=8, random_trials=7)
    steps = tried(now.begun({}))
    drawn = {(p.unfreeze_depth, p.depth_steps) for p in steps}
    assert drawn <= {(1, 0), (2, 4), (3, 4), (4, 4)} and len(drawn) > 2
    before = tried(replace(now, name="before").begun({"partial.unfreeze_depth": Integer(1, 4)}))
    assert [p.unfreeze_depth for p in before] == [p.unfreeze_depth for p in steps] and {p.depth_steps for p in before} == {0}
    assert Study.from_dict(json.loads(json.dumps(now.begun({}).as_dict()))).published["partial.unfreeze_depth"] == Steps(1, 4)
    assert TrialConfig.default(cells[0], Protocol()).as_dict()["strategy"] == {"lr": 1e-3, "unfreeze_depth": 1}


def test_a_number_of_steps_that_cannot_be_is_refused() -> None:
    for values in ({"unfreeze_depth": 5, "depth_steps": 4}, {"depth_steps": 1}, {"depth_steps": -4}):
        with pytest.raises(ValueError, match="depth_steps must be (0|a whole number)"):
            Partial(**values)
