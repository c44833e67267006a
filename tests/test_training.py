"""The loop: exact resume, equal numbers on one and two workers, no gradient below the cut, reuse that changes nothing."""

import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn import metrics

from study.bounds import BOUNDS, Bound
from study.datasets import open_dataset
from study.datasets.cache import pixels
from study.datasets.spec import TEST, TRAIN, VAL
from study.datasets.visible import cut_off_test
from study.errors import ConfigError
from study.inference.softmax import softmax
from study.metrics import score
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Outcome, Stage
from study.run import measure_trial, open_images, open_inputs, run_trial
from study.search.plans import shows_curve
from study.storage import checkpoint
from study.storage.folder import Folder
from study.storage.places import Places
from study.training import activations, augment
from study.training.activations import ActivationStore
from study.training.inputs import Features, Inputs
from study.training.loop import fine_tune
from study.training.prefetch import Ahead
from study.use.predictor import Predictor

QUICK = Protocol(max_epochs=3, image_size=32, batch_size=64, train_eval_images=64)


def trial(strategy: str, protocol: Protocol = QUICK, **values) -> TrialConfig:
    cell = Cell(dataset="digits", backbone="efficientnet_lite0", strategy=strategy, train_fraction=0.2)
    return TrialConfig.default(cell, protocol).with_values(values)


def inputs_of(config: TrialConfig, cache: Path | None = None) -> Inputs:
    return open_inputs(config, Places(folder="", cache=str(cache) if cache else None))


def numbers(record: EpochRecord) -> dict[str, float]:
    return record.metrics


@pytest.mark.parametrize("strategy", ["partial", *(pytest.param(s, marks=pytest.mark.slow) for s in ("full", "lp_ft"))])
def test_resume_is_bit_exact(strategy: str) -> None:
    """Stopped after any epoch, saved to bytes and resumed, a trial ends with the numbers of an uninterrupted one."""
    config = trial(strategy)
    whole = list(fine_tune(config, inputs_of(config)))
    for stop in (1, 2):
        for record, state in fine_tune(config, inputs_of(config)):
            if record.epoch == stop:
                saved = {k: v for k, v in torch.load(_bytes(state.as_dict()), weights_only=True).items()}
                break
        resumed = list(fine_tune(config, inputs_of(config), saved=saved))
        assert [r.epoch for r, _ in resumed] == list(range(stop + 1, 4))
        assert numbers(resumed[-1][0]) == numbers(whole[-1][0])
    final, again = whole[-1][1].run.model.network_state(), resumed[-1][1].run.model.network_state()
    assert all(torch.equal(final[k], again[k]) for k in final)


def _bytes(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("strategy", ["linear_probe", "partial"])
def test_reused_activations_give_the_scores_of_computed_ones(strategy: str, tmp_path: Path, monkeypatch) -> None:
    """The same views come once from the store and are once computed at every step (a budget of zero refuses the store)."""
    config = trial(strategy, replace(QUICK, views=2))
    stored = [r.metrics for r, _ in fine_tune(config, inputs_of(config, tmp_path / "a"))]
    monkeypatch.setenv("STUDY_ACTIVATIONS_GB", "1e-9")
    computed = [r.metrics for r, _ in fine_tune(config, inputs_of(config, tmp_path / "b"))]
    assert list((tmp_path / "a" / "activations").glob("*.npy")), "the store was used"
    assert not list((tmp_path / "b" / "activations").glob("*.npy"))
    for a, b in zip(stored, computed, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=2e-3)
        assert a["val/accuracy"] == pytest.approx(b["val/accuracy"], abs=0.02)


@pytest.mark.parametrize("strategy", ["linear_probe", "partial"])
def test_what_is_not_augmented_goes_through_the_frozen_half_once(strategy: str, tmp_path: Path, monkeypatch) -> None:
    """This holds without stored views too, over epochs and trials, and no score shows it: stored in full, it is what would be computed."""
    config, shown = trial(strategy), []
    through = Features._through
    monkeypatch.setattr(
        Features, "_through", lambda self, images, view: (shown.append((view, len(images))), through(self, images, view))[1]
    )
    first = [numbers(r) for r, _ in fine_tune(config, inputs_of(config, tmp_path / "a"))]
    looked = sum(n for view, n in shown if view is None)
    inputs = inputs_of(config)
    assert looked == len(inputs.val) + len(inputs.train_eval), "once, not every epoch"
    shown.clear()
    again = [numbers(r) for r, _ in fine_tune(config, inputs_of(config, tmp_path / "a"))]
    assert again == first and not any(view is None for view, _ in shown), "another trial finds it"
    monkeypatch.setenv("STUDY_ACTIVATIONS_GB", "0")
    assert [numbers(r) for r, _ in fine_tune(config, inputs_of(config, tmp_path / "b"))] == first


@pytest.mark.parametrize("keep", ["last", "best"])
def test_training_images_are_scored_where_somebody_looks(keep: str, tmp_path: Path) -> None:
    """A search reads the kept epoch alone, and whichever it keeps is what it would have been."""
    config = trial("linear_probe", replace(QUICK, max_epochs=5, keep=keep), lr=0.03)
    every, some = ([r for r, _ in fine_tune(config, inputs_of(config, tmp_path), curve=curve, stops=(2,))] for curve in (True, False))
    assert all("train/macro_f1" in r.metrics for r in every)
    for k, (a, b) in enumerate(zip(every, some, strict=True)):
        improved = a.objective > max((r.objective for r in every[:k]), default=-1)
        looked = a.epoch in (2, 5) if keep == "last" else improved
        assert ("train/macro_f1" in b.metrics) == (b.confusion is not None) == looked
        assert {n: v for n, v in a.metrics.items() if n in b.metrics} == b.metrics
    assert sum("train/macro_f1" in r.metrics for r in some) < 5
    ask = Ask(trial_id="t", cell="c", number=0, stage="search", origin="default", config={}, sequence=0)
    assert not shows_curve(ask) and shows_curve(replace(ask, stage=Stage.CONFIRM))


def test_images_fetched_ahead_are_the_images_asked_for(tmp_path: Path) -> None:
    config = trial("full")
    inputs = inputs_of(config, tmp_path)
    ahead = Ahead(inputs.images.pixels, torch.device("cpu"))
    rows = [np.arange(k, k + 5) for k in range(4)]
    for k in range(4):
        ahead.fetch(rows[k])
    assert ahead.take(rows[0]) is None and ahead.take(np.arange(7)) is None, "two wait at most; nobody is given other rows"
    assert all(np.array_equal(ahead.take(r).numpy(), inputs.images.pixels(r)) for r in rows[2:])
    assert ahead.take(rows[3]) is None, "given once"
    ahead.fetch(np.array([10**9]))
    with pytest.raises(IndexError):
        ahead.take(np.array([10**9]))


def test_a_trial_that_fetches_ahead_trains_as_one_that_does_not(tmp_path: Path, monkeypatch) -> None:
    config = trial("partial", replace(QUICK, max_epochs=2))
    plain = [numbers(r) for r, _ in fine_tune(config, inputs_of(config, tmp_path), micro_batches=2)]
    inputs = inputs_of(config, tmp_path)
    inputs._ahead = Ahead(inputs.images.pixels, torch.device("cpu"))
    taken, take = [], inputs._ahead.take
    monkeypatch.setattr(inputs._ahead, "take", lambda rows: (taken.append(take(rows)), taken[-1])[1])
    assert [numbers(r) for r, _ in fine_tune(config, inputs, micro_batches=2)] == plain
    steps = -(-len(inputs.train) // 64)
    assert sum(t is not None for t in taken) == 2 * (steps - 1), "of every step but an epoch's first"


@pytest.mark.parametrize("network", ["test_vit", "small_swin", "small_distilled"])
def test_every_kind_of_cut_resumes_exactly_and_reuses_what_it_would_compute(
    network: str, weights: Path, tmp_path: Path, monkeypatch
) -> None:
    """The kinds are token activations, those of images that are channels-last anyway, and several tensors side by side."""
    protocol = replace(QUICK, image_size=64, views=2, max_epochs=2)
    strategy = "linear_probe" if network == "small_distilled" else "partial"
    cell = Cell(dataset="digits", backbone=network, strategy=strategy, train_fraction=0.1)
    config = TrialConfig.default(cell, protocol)

    def train(cache: str, saved=None):
        return fine_tune(config, inputs_of(config, tmp_path / cache), weights=str(weights), saved=saved)

    whole = []
    for record, state in train("a"):
        whole.append(record)
        if record.epoch == 1:
            saved = torch.load(_bytes(state.as_dict()), weights_only=True)
    assert whole[0].facts["activations_reused"] and list((tmp_path / "a" / "activations").glob("*.npy"))
    ((resumed, _),) = train("a", saved)
    assert numbers(resumed) == numbers(whole[-1])
    monkeypatch.setenv("STUDY_ACTIVATIONS_GB", "1e-9")
    computed = [r for r, _ in train("b")]
    for a, b in zip(whole, computed, strict=True):
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], rel=2e-3)


def test_the_store_is_shared_and_built_once(tmp_path: Path) -> None:
    config = trial("linear_probe", replace(QUICK, views=2))
    list(fine_tune(config, inputs_of(config, tmp_path)))
    files = {p: p.stat().st_ino for p in (tmp_path / "activations").glob("*.npy")}
    other = config.with_values({"lr": 1e-2})
    list(fine_tune(other, inputs_of(other, tmp_path)))
    assert files and {p: p.stat().st_ino for p in (tmp_path / "activations").glob("*.npy")} == files


def ones(positions: np.ndarray) -> torch.Tensor:
    return torch.ones(len(positions), 4) * torch.from_numpy(positions)[:, None]


def bytes_of(rows: int) -> int:
    return rows * 4 * 2


def test_activations_dropped_by_others_between_two_reads_are_built_again(tmp_path: Path, monkeypatch) -> None:
    store, load = ActivationStore(tmp_path, 1e6), np.load
    expected = store.rows({"k": 1}, 100, ones)

    def dropped(path: Path, when: str) -> np.ndarray:
        monkeypatch.setattr(np, "load", load)  # once
        if when == "before":
            path.unlink()
        array = load(path, mmap_mode="r")
        path.with_suffix(".json").unlink()
        return array

    for when in ("before", "after"):
        monkeypatch.setattr(np, "load", lambda path, when=when, **_: dropped(path, when))
        np.testing.assert_array_equal(store.rows({"k": 1}, 100, ones), expected)
    monkeypatch.setattr(activations, "_used_at", lambda path: [p.unlink() for p in tmp_path.glob("*.npy")] and 0.0)
    assert store.rows({"k": 2}, 100, ones) is not None, "one dropped while room is made"


def built(folder: str, key: int, barrier, other_done, answers) -> None:
    def compute(positions: np.ndarray) -> torch.Tensor:
        counted.append(len(positions))
        if positions[0] == 10:  # room is made, nothing is finished: as long as it takes the other to be refused
            other_done.wait(1 if key == 1 else 30)
        return ones(positions)

    counted: list[int] = []
    barrier.wait()
    rows = ActivationStore(Path(folder), bytes_of(150)).rows({"k": key}, 100, compute, batch=10)
    other_done.set()
    answers.put((None if rows is None else float(rows.sum(dtype=np.float64)), sum(counted)))


@pytest.mark.parametrize("keys", [(1, 1), (2, 3)])
def test_two_builders_at_once_share_one_file_and_one_budget(keys: tuple[int, int], tmp_path: Path) -> None:
    """The same activations are computed once, and the bytes left are promised to one of two builders."""
    context = multiprocessing.get_context("fork")
    barrier, done, answers = context.Barrier(2), context.Event(), context.Queue()
    workers = [context.Process(target=built, args=(str(tmp_path), k, barrier, done, answers)) for k in keys]
    for worker in workers:
        worker.start()
    got = sorted((answers.get(timeout=60) for _ in workers), key=lambda a: (a[0] is None, -a[1]))
    for worker in workers:
        worker.join(timeout=60)
    whole = float(sum(range(100)) * 4)
    assert got == ([(whole, 100), (whole, 0)] if keys[0] == keys[1] else [(whole, 100), (None, 10)])
    assert len(list(tmp_path.glob("*.npy"))) == 1 and not list(tmp_path.glob("*.tmp"))


def test_a_full_budget_drops_the_least_recently_used_and_nothing_in_vain(tmp_path: Path) -> None:
    store = ActivationStore(tmp_path, 5 * bytes_of(100))
    for key in range(4):
        assert store.rows({"k": key}, 100, ones) is not None
        for path in tmp_path.glob("*.json"):
            os.utime(path, (path.stat().st_mtime - 100,) * 2)
    assert store.rows({"k": 9}, 1000, ones) is None and len(list(tmp_path.glob("*.npy"))) == 4
    store.rows({"k": 0}, 100, ones)
    assert store.rows({"k": 4}, 200, ones) is not None
    held = {p.name for p in tmp_path.glob("*.npy")}

    def forbidden(positions: np.ndarray) -> torch.Tensor:
        raise AssertionError

    assert store.rows({"k": 0}, 100, forbidden) is not None and len(held) == 3
    assert ActivationStore(tmp_path, 0).rows({"k": 7}, 1, ones) is None and {p.name for p in tmp_path.glob("*.npy")} == held


def test_what_dead_builders_left_is_removed_and_the_living_are_left_alone(tmp_path: Path) -> None:
    from filelock import FileLock

    for name in ("dead.npy.4194305.tmp", "dead.json.tmp", "orphan.npy", "alive.npy.1.tmp"):
        (tmp_path / name).write_bytes(b"x")
    with FileLock(tmp_path / "alive.lock"):
        assert ActivationStore(tmp_path, 1e6).rows({"k": 1}, 100, ones) is not None
    left = {p.name for p in tmp_path.iterdir() if p.suffix != ".lock"}
    assert "alive.npy.1.tmp" in left and len(left) == 3 and not {n for n in left if n.startswith(("dead", "orphan"))}


def test_a_store_that_fails_costs_no_trial(tmp_path: Path, monkeypatch) -> None:
    """On a disk that fills up while building, or a folder that is none, there is no reuse and nothing left behind.

    Other errors are not swallowed.
    """

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert ActivationStore(tmp_path / "a", 1e6).rows({"k": 1}, 100, ones) is None
    assert {p.suffix for p in (tmp_path / "a").iterdir()} == {".lock"}
    (tmp_path / "file").write_text("")
    assert ActivationStore(tmp_path / "file", 1e6).rows({"k": 1}, 100, ones) is None
    assert ActivationStore(tmp_path / "file" / "below", 1e6).rows({"k": 1}, 100, ones) is None

    def broken(positions: np.ndarray) -> torch.Tensor:
        if positions[0] > 0:
            raise torch.OutOfMemoryError("device")
        return ones(positions)

    with pytest.raises(torch.OutOfMemoryError):
        ActivationStore(tmp_path / "b", 1e6).rows({"k": 1}, 100, broken)
    assert {p.suffix for p in (tmp_path / "b").iterdir()} == {".lock"}
    monkeypatch.setenv("STUDY_ACTIVATIONS_GB", "lots")
    with pytest.raises(ConfigError, match="'lots', must be a number"):
        ActivationStore(tmp_path)


def test_no_gradient_memory_below_the_cut() -> None:
    config = trial("partial")
    for _, state in fine_tune(config, inputs_of(config)):
        assert state.run.model.frozen is not None
        assert all(p.grad is None for p in state.run.model.frozen.parameters())
        trained = sum(p.numel() for p in state.run.model.trained.parameters())
        kept = sum(v.numel() for s in state.run.optimizer.state.values() for v in s.values() if v.ndim)
        assert kept == 2 * trained
        break


def test_K18_diverged_trials_end_at_the_first_bad_step(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(BOUNDS, "lr", Bound())  # no rate that a study may have is lost within one step
    config = trial("full", lr=1e30)
    seen: list[EpochRecord] = []
    ending = run_trial(config, Places(folder=str(tmp_path)), lambda r: bool(seen.append(r)))
    assert ending.outcome is Outcome.DIVERGED and "step 2 of epoch 1" in ending.reason and not seen


def test_a_trial_stops_when_told_and_resumes_from_its_checkpoint(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("study.run.CHECKPOINT_SECONDS", 0.0)
    config = trial("partial")
    work = Places(folder=str(tmp_path))
    assert run_trial(config, work, lambda r: r.epoch == 2).outcome is Outcome.STOPPED
    epochs: list[int] = []
    worked: list[float] = []
    ending = run_trial(config, work, lambda r: bool(epochs.append(r.epoch) or worked.append(r.facts["cpu_seconds"])))
    assert ending.outcome is Outcome.COMPLETED
    assert epochs == [1, 2, 3], "what was done is reported again, the rest is trained"
    assert min(worked) > 0, "the processor's own seconds, whatever else ran"
    assert Folder(str(tmp_path)).names("checkpoint") == ["000002", "000003"]


@pytest.mark.parametrize("notice", [1, 2, 3, None])
def test_on_notice_every_epoch_leaves_a_checkpoint(notice: int | None, tmp_path: Path) -> None:
    """The machine is gone after epoch 2, ten seconds before a checkpoint would have been due."""
    config, work, epochs = trial("partial"), Places(folder=str(tmp_path)), list[int]()

    def gone(record: EpochRecord) -> bool:
        epochs.append(record.epoch)
        if record.epoch == 2:
            raise SystemExit
        return False

    with pytest.raises(SystemExit):
        run_trial(config, work, gone, leaving=lambda: notice is not None and len(epochs) + 1 >= notice)
    left = [epoch for epoch in (1, 2) if notice is not None and epoch >= notice]
    assert Folder(str(tmp_path)).names("checkpoint") == [f"{epoch:06d}" for epoch in left]
    again: list[EpochRecord] = []
    assert run_trial(config, work, lambda r: bool(again.append(r))).outcome is Outcome.COMPLETED
    assert [r.epoch for r in again] == [1, 2, 3]


def test_training_inputs_hold_no_test_image() -> None:
    """This holds by construction: the table has lost its test rows, and pixels go by rows of that table."""
    table, whole = open_images(trial("partial"), Places(folder=""))
    seen = cut_off_test(table, whole)
    assert len(seen.table.ids) == (table.split == TRAIN).sum() + (table.split == VAL).sum()
    assert set(seen.table.split) == {TRAIN, VAL} and not set(seen.table.ids) & {table.ids[k] for k in np.flatnonzero(table.split == TEST)}
    rows = np.arange(len(seen.table.ids))
    assert seen.pixels(rows).shape[0] == len(rows) and seen.num_bytes == seen.pixels(rows).nbytes
    with pytest.raises(IndexError):
        seen.pixels(np.array([len(rows)]))
    np.testing.assert_array_equal(seen.table.decode(3), table.decode(int(seen.numbers[3])))


def test_other_test_images_change_no_trained_number(tmp_path: Path) -> None:
    config = trial("partial", replace(QUICK, max_epochs=1))
    table, whole = open_images(config, Places(folder=""))
    other = np.where((table.split == TEST)[:, None, None, None], 255 - whole, whole)
    one, two = (
        [r.metrics for r, _ in fine_tune(config, Inputs(cut_off_test(table, pixels), config, tmp_path))] for pixels in (whole, other)
    )
    assert one == two


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


def test_scores_are_scikit_learns_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    for images, classes, scale in itertools.product((1, 7, 1000), (2, 9), (1.0, 300.0)):  # some are sure, and clipped
        logits = (scale * rng.normal(size=(images, classes))).astype(np.float32)
        labels, all_classes = rng.integers(0, classes, images), np.arange(classes)
        figures, confusion = score(logits, labels)
        assert figures["nll"] == metrics.log_loss(labels, softmax(logits.astype(np.float64)), labels=all_classes)
        assert np.array_equal(confusion, metrics.confusion_matrix(labels, logits.argmax(axis=1), labels=all_classes))
    with pytest.raises(ValueError, match="1 of 3 images"):
        score(np.array([[0, 1], [np.nan, 0], [1, 0]]), np.array([0, 1, 0]))


def test_metrics_on_perfect_chance_and_absent_classes() -> None:
    labels = np.array([0, 0, 1, 1, 3])
    perfect, _ = score(np.eye(4)[labels] * 20, labels)
    assert perfect["accuracy"] == perfect["macro_f1"] == perfect["balanced_accuracy"] == 1 and perfect["ece"] < 1e-6
    constant, confusion = score(np.tile([1.0, 0, 0, 0], (5, 1)), labels)
    assert constant["accuracy"] == pytest.approx(0.4) and constant["macro_recall"] == pytest.approx(1 / 3)
    assert constant["macro_f1"] == pytest.approx((2 * 2 / 7) / 3)
    from study.metrics import class_scores

    scores = class_scores(confusion)
    assert scores.recall[2] is None and scores.f1[2] is None and scores.precision[1] is None and scores.support == [2, 2, 0, 1]


def test_W5_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    """W5: it is cut at four lengths, has a flipped bit, a missing manifest, or another trial."""
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


@pytest.mark.slow
def test_H3_two_processes_and_one_give_equal_metrics() -> None:
    """H3: with gloo, an odd number of validation images and the linear probe they are equal to 1e-4."""
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


def predicted(rank: int, world: int, meeting: str, config: TrialConfig, folder: str, answers) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    logits, counted = Predictor.logits, []
    Predictor.logits = lambda self, images: (counted.append(len(images)), logits(self, images))[1]
    measure_trial(config, Places(folder=folder), ("predictions",), Folder(folder))
    answers.put(sum(counted))
    torch.distributed.destroy_process_group()


def test_workers_share_the_images_they_predict_and_the_file_is_that_of_one(tmp_path: Path, monkeypatch) -> None:
    table = open_dataset("digits")
    odd = np.delete(np.arange(len(table.ids)), np.flatnonzero(table.split == 2)[0])  # shards of unequal length
    odd_table = replace(table, ids=tuple(table.ids[i] for i in odd), labels=table.labels[odd], split=table.split[odd])
    monkeypatch.setattr("study.run.open_images", lambda *a: (odd_table, pixels(table, 40)[odd]))
    config = trial("partial", replace(QUICK, max_epochs=1))
    one, two = tmp_path / "one", tmp_path / "two"
    ending = run_trial(config, Places(folder=str(one)), lambda r: False, measurements=("predictions",))
    assert ending.outcome is Outcome.COMPLETED
    shutil.copytree(one / "best", two / "best")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=predicted, args=(r, 2, str(tmp_path / "meeting"), config, str(two), answers)) for r in range(2)]
    for worker in workers:
        worker.start()
    counts = sorted(answers.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(timeout=60)
    a, b = (pq.read_table(f / "measured" / "predictions.parquet") for f in (one, two))
    assert a.num_rows == 719 and counts == [359, 360] and a.schema == b.schema
    assert a.drop(["logits"]).equals(b.drop(["logits"]))
    x, y = (np.stack(t["logits"].to_numpy()) for t in (a, b))
    np.testing.assert_allclose(x, y, atol=1e-4)
    assert len(np.unique(x.round(3), axis=0)) > 500, "images differ, so their order shows"


@pytest.mark.slow
def test_memory_does_not_grow_with_epochs() -> None:
    import psutil

    config = TrialConfig.default(Cell(dataset="digits", backbone="efficientnet_lite0", strategy="full", train_fraction=0.2), QUICK)
    config = config.with_values({"max_epochs": 8})
    used = [psutil.Process().memory_full_info().uss for _ in fine_tune(config, inputs_of(config))]
    assert used[-1] - used[2] < 30e6, [round(u / 1e6) for u in used]


def test_trials_of_one_worker_process_train_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune starts a thread per trial. What torch keeps per thread (cuDNN's choice of kernels) would be lost with each."""
    from ray import tune

    from study.search.on_ray import workers

    seen: list[int] = []
    monkeypatch.setattr(tune, "report", lambda metrics: None)

    def ending(config: dict[str, str], report: object) -> dict[str, str]:
        seen.append(threading.get_ident())
        if config.get("stopped"):
            raise workers._Stopped  # as a report does when Tune ends a trial early
        return {}

    monkeypatch.setattr(workers, "ending", ending)

    def one(config: dict[str, str]) -> None:
        with contextlib.suppress(SystemExit):
            workers.one_worker(config)

    for config in ({}, {"stopped": "yes"}, {}):
        trial = threading.Thread(target=one, args=(config,))
        trial.start()
        trial.join()
    assert len(seen) == 3 and len(set(seen)) == 1
    with pytest.raises(SystemExit):
        workers.one_worker({"stopped": "yes"})
    assert all(t.daemon for t in threading.enumerate() if t.name == "trials"), "nobody waits for a trial to end a process"
