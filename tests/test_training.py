"""The loop: exact resume, equal numbers on one and two workers, nothing owed below the cut, reuse that changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from study.config import Cell, Protocol, TrialConfig
from study.datasets import open_dataset
from study.files import Folder
from study.records import EpochRecord, Outcome
from study.training import augment, checkpoint
from study.training.inputs import Inputs
from study.training.loop import fine_tune
from study.training.metrics import score
from study.training.run import Workspace, run_trial

QUICK = Protocol(max_epochs=3, image_size=32, batch_size=64, train_eval_images=64)


def trial(strategy: str, protocol: Protocol = QUICK, **values) -> TrialConfig:
    cell = Cell(dataset="digits", backbone="efficientnet_lite0", strategy=strategy, train_fraction=0.2)
    return TrialConfig.default(cell, protocol).with_values(values)


def numbers(record: EpochRecord) -> dict[str, float]:
    return record.metrics


@pytest.mark.parametrize("strategy", ["partial", "full", "lp_ft"])
def test_resume_is_bit_exact(strategy: str) -> None:
    """Stopped after any epoch, saved to bytes and resumed, a trial ends with the numbers of an uninterrupted one."""
    config = trial(strategy)
    whole = list(fine_tune(config, Inputs(config)))
    for stop in (1, 2):
        for record, state in fine_tune(config, Inputs(config)):
            if record.epoch == stop:
                saved = {k: v for k, v in torch.load(_bytes(state.as_dict()), weights_only=True).items()}
                break
        resumed = list(fine_tune(config, Inputs(config), saved=saved))
        assert [r.epoch for r, _ in resumed] == list(range(stop + 1, 4))
        assert numbers(resumed[-1][0]) == numbers(whole[-1][0])
    final, again = whole[-1][1].model.network_state(), resumed[-1][1].model.network_state()
    assert all(torch.equal(final[k], again[k]) for k in final)


def _bytes(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("strategy", ["linear_probe", "partial"])
def test_reused_activations_give_the_scores_of_computed_ones(strategy: str, tmp_path: Path, monkeypatch) -> None:
    """The same views, once from the store and once computed at every step (a budget of zero refuses the store)."""
    from dataclasses import replace

    config = trial(strategy, replace(QUICK, views=2))
    stored = [r.metrics for r, _ in fine_tune(config, Inputs(config, cache=tmp_path / "a"))]
    monkeypatch.setenv("STUDY_ACTIVATIONS_GB", "1e-9")
    computed = [r.metrics for r, _ in fine_tune(config, Inputs(config, cache=tmp_path / "b"))]
    assert (tmp_path / "a" / "activations").glob("*.npy")
    assert not list((tmp_path / "b" / "activations").glob("*.npy"))
    for a, b in zip(stored, computed, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=2e-3)
        assert a["val/accuracy"] == pytest.approx(b["val/accuracy"], abs=0.02)


def test_the_store_is_shared_and_built_once(tmp_path: Path) -> None:
    from dataclasses import replace

    config = trial("linear_probe", replace(QUICK, views=2))
    list(fine_tune(config, Inputs(config, cache=tmp_path)))
    files = {p: p.stat().st_ino for p in (tmp_path / "activations").glob("*.npy")}
    other = config.with_values({"lr": 1e-2})
    list(fine_tune(other, Inputs(other, cache=tmp_path)))
    assert files and {p: p.stat().st_ino for p in (tmp_path / "activations").glob("*.npy")} == files


def test_no_gradient_memory_below_the_cut() -> None:
    config = trial("partial")
    for _, state in fine_tune(config, Inputs(config)):
        assert state.model.frozen is not None
        assert all(p.grad is None for p in state.model.frozen.parameters())
        trained = sum(p.numel() for p in state.model.trained.parameters())
        kept = sum(v.numel() for s in state.optimizer.state.values() for v in s.values() if v.ndim)
        assert kept == 2 * trained
        break


def test_K18_diverged_trials_end_at_the_first_bad_step(tmp_path: Path) -> None:
    config = trial("full", lr=1e30)
    seen: list[EpochRecord] = []
    ending = run_trial(config, Workspace(folder=str(tmp_path)), lambda r: bool(seen.append(r)))
    assert ending.outcome is Outcome.DIVERGED and "step 2 of epoch 1" in ending.reason and not seen


def test_a_trial_stops_when_told_and_resumes_from_its_checkpoint(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("study.training.run.CHECKPOINT_SECONDS", 0.0)
    config = trial("partial")
    work = Workspace(folder=str(tmp_path))
    assert run_trial(config, work, lambda r: r.epoch == 2).outcome is Outcome.STOPPED
    epochs: list[int] = []
    assert run_trial(config, work, lambda r: bool(epochs.append(r.epoch))).outcome is Outcome.COMPLETED
    assert epochs == [1, 2, 3], "what was done is reported again, the rest is trained"
    assert Folder(str(tmp_path)).names("checkpoint") == ["000002", "000003"]


def test_training_inputs_hold_no_test_image() -> None:
    config = trial("partial")
    inputs = Inputs(config)
    table = open_dataset("digits")
    test = set(np.flatnonzero(table.split == 2))
    assert not test & (set(inputs.train) | set(inputs.val) | set(inputs.train_eval))


def test_augmentation_is_a_function_of_seed_epoch_and_image() -> None:
    pixels = torch.randint(0, 255, (8, 24, 24, 3), dtype=torch.uint8)
    shown = {"policy": augment.POLICIES["strong"], "size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    ids = np.arange(8)
    whole = augment.augment(pixels, ids, strength=0.7, seed=1, epoch=3, **shown)
    parts = torch.cat([augment.augment(pixels[k::2], ids[k::2], strength=0.7, seed=1, epoch=3, **shown) for k in (0, 1)])
    torch.testing.assert_close(whole, parts[torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])])
    assert not torch.equal(whole, augment.augment(pixels, ids, strength=0.7, seed=1, epoch=4, **shown))
    plain = augment.plain(pixels, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.testing.assert_close(augment.augment(pixels, ids, strength=0.0, seed=1, epoch=3, **shown), plain)
    assert float(whole.std()) > 0 and whole.shape == (8, 3, 16, 16)


def test_metrics_on_perfect_chance_and_absent_classes() -> None:
    labels = np.array([0, 0, 1, 1, 3])
    perfect, _ = score(np.eye(4)[labels] * 20, labels)
    assert perfect["accuracy"] == perfect["macro_f1"] == perfect["balanced_accuracy"] == 1 and perfect["ece"] < 1e-6
    constant, confusion = score(np.tile([1.0, 0, 0, 0], (5, 1)), labels)
    assert constant["accuracy"] == pytest.approx(0.4) and constant["macro_recall"] == pytest.approx(1 / 3)
    assert constant["macro_f1"] == pytest.approx((2 * 2 / 7) / 3)
    from study.training.metrics import class_scores

    scores = class_scores(confusion)
    assert scores.recall[2] is None and scores.f1[2] is None and scores.precision[1] is None and scores.support == [2, 2, 0, 1]


def test_W5_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    """W5: cut at four lengths, a flipped bit, a missing manifest, another trial."""
    folder = Folder(str(tmp_path))
    for epoch in (1, 2):
        checkpoint.save_newest(folder, epoch, {"epoch": epoch, "t": torch.arange(5.0)}, {"trial": "x"})
    path = tmp_path / "checkpoint" / "000002" / "state.pt"
    good = path.read_bytes()
    for bad in (b"", good[:10], good[: len(good) // 2], good[:-1], good[:99] + bytes([good[99] ^ 1]) + good[100:]):
        path.write_bytes(bad)
        assert checkpoint.load_newest(folder, trial="x")["epoch"] == 1
    path.write_bytes(good)
    assert checkpoint.load_newest(folder, trial="x")["epoch"] == 2
    assert checkpoint.load_newest(folder, trial="other") is None
    (tmp_path / "checkpoint" / "000002" / "manifest.json").unlink()
    assert checkpoint.load_newest(folder, trial="x")["epoch"] == 1


def test_H3_two_processes_and_one_give_equal_metrics() -> None:
    """H3: gloo, an odd number of validation images, linear probe; equal to 1e-4."""
    line = [
        "-m",
        "study.trial",
        "digits/efficientnet_lite0/linear_probe",
        "--json",
        "--set",
        "image_size=32",
        "max_epochs=2",
        "batch_size=64",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517", *line, "workers=2"]
    two = subprocess.run(torchrun, capture_output=True, text=True, env=env, timeout=240)
    one = subprocess.run([sys.executable, *line], capture_output=True, text=True, env=env, timeout=240)
    assert two.returncode == 0, two.stderr[-2000:]
    a, b = ([json.loads(x)["metrics"] for x in r.stdout.splitlines() if x.startswith("{")] for r in (one, two))
    assert len(a) == len(b) == 2
    for x, y in zip(a, b, strict=True):
        for key in x:
            assert x[key] == pytest.approx(y[key], abs=1e-4), key


def test_memory_does_not_grow_with_epochs() -> None:
    import psutil

    config = TrialConfig.default(Cell(dataset="digits", backbone="efficientnet_lite0", strategy="full", train_fraction=0.2), QUICK)
    config = config.with_values({"max_epochs": 8})
    used = [psutil.Process().memory_full_info().uss for _ in fine_tune(config, Inputs(config))]
    assert used[-1] - used[2] < 30e6, [round(u / 1e6) for u in used]
