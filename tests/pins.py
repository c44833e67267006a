"""Pinned results of training: one optimiser step of every strategy, and a few whole epochs. `python -m tests.pins` writes them anew.

Write them anew only when a change is meant to move a trained number (another schedule, loss, optimizer, augmentation or order of
images), or when torch or timm itself moves one. The commit says which and why. A change that only moves code never does.
"""

import json
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch

from study.networks.pretrained import create
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.run import open_inputs
from study.storage.places import Places
from study.strategies import STRATEGIES
from study.training.loop import State, fine_tune

FILE = Path(__file__).parent / "golden" / "pins.json"
NETWORK = "mobilenetv3_small_050"
STEP = Protocol(max_epochs=2, image_size=32, batch_size=64, train_eval_images=16)  # 22 training images: an epoch is one step
EPOCHS = Protocol(max_epochs=3, image_size=32, batch_size=16, train_eval_images=64)
EXACT = platform.machine() == "x86_64"  # where the numbers were made; another architecture rounds otherwise
RATES = {
    **dict.fromkeys(("linear_probe", "random_probe", "norm_only", "bias_only"), 3e-3),
    **dict.fromkeys(("partial", "partial_bn_freeze", "layer_decay", "gradual", "surgical", "lora"), 1e-3),
    **dict.fromkeys(("full", "full_bn_freeze", "fast_head", "l2_sp", "lp_ft", "retrain_head", "scratch"), 1e-4),
}
TRIALS = {"partial": 0, "full": 0, "lp_ft": 0, "linear_probe": 2}  # strategy -> views


def make_weights(folder: Path) -> Path:
    """Write weights that timm draws from a fixed seed."""
    torch.manual_seed(0)
    torch.save(timm.create_model(NETWORK).state_dict(), folder / f"{NETWORK}.pth")
    return folder


def config_of(strategy: str, protocol: Protocol, fraction: float) -> TrialConfig:
    config = TrialConfig.default(Cell(dataset="digits", backbone=NETWORK, strategy=strategy, train_fraction=fraction), protocol, seed=3)
    return config.with_values({"lr": RATES[strategy]})  # not today's default: that may move and train nothing otherwise


def step_of(strategy: str, weights: Path) -> Iterator[dict[str, Any]]:
    """Yield the effect of the first step of each phase: loss, rates by stage, and the distance of each stage of the network."""
    config = config_of(strategy, STEP, 0.02)
    before = create(NETWORK, 10, weights=weights, seed=config.seed).model.state_dict()
    phase = -1
    for record, state in fine_tune(config, open_inputs(config, Places(folder="")), weights=str(weights)):
        after = {k: v.detach().clone() for k, v in state.run.model.network_state().items()}
        if state.run.index != phase:
            yield {"loss": record.metrics["train/loss"], "lrs": rates(state), "moved": distances(before, after), "tensors": len(after)}
        before, phase = after, state.run.index


def rates(state: State) -> list[float]:
    return [float(g["lr"]) for g in state.run.optimizer.param_groups]


def distances(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the sum of absolute changes by top-level module, statistics included. Modules that did not move are left out."""
    total: dict[str, float] = {}
    for name, value in after.items():
        change = float((value.double() - before[name].double()).abs().sum())
        if change:
            top = ".".join(name.split(".")[: 2 if name.startswith("blocks") else 1])
            total[top] = total.get(top, 0.0) + change
    return total


def epochs_of(strategy: str, views: int, weights: Path) -> list[dict[str, float]]:
    config = config_of(strategy, replace(EPOCHS, views=views), 0.1)
    return [record.metrics for record, _ in fine_tune(config, open_inputs(config, Places(folder="")), weights=str(weights))]


def compute(weights: Path) -> dict[str, Any]:
    return {
        "steps": {name: list(step_of(name, weights)) for name in STRATEGIES},
        "epochs": {name: epochs_of(name, views, weights) for name, views in TRIALS.items()},
    }


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(json.dumps(compute(make_weights(Path(folder))), indent=1, sort_keys=True) + "\n")
