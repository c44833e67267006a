"""Every promise of docs/performance.md about GPUs, measured on the GPU at hand in about eight minutes. It writes the table.

    python -m benchmarks.gpu --write docs/gpu.md

It compares the loop with its ceiling at 224 px and with the peak of the GPU (MFU), bf16 with fp32, and the loop with the one that
people write. It measures memory layouts and compiled steps, images that do not fit into the GPU, one real trial, trials that share a
GPU by measured memory, and two workers where there are two GPUs.

Parts that fail, or that are not reached in time, are marked so in the table, and the exit code is 1. `--rehearse` does the same with
tiny networks on the processor and writes nothing, to show that the benchmark runs.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import timm
import torch

from benchmarks import contestants, loop
from benchmarks.marked import write_between_marks
from study.networks.weights import timm_name
from study.records import EpochRecord, Outcome
from study.tracking.ledger import Ledger
from study.training import inputs

Lines = Iterator[tuple[str, str]]
"""Rows of the table: (quantity, result)."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    networks: tuple[str, ...]
    size: int  # pixels
    images: int  # an epoch
    batch: int
    repetitions: int
    seconds: float  # the whole
    fraction: float  # of digits' training images, in the trials
    gpus: int

    @property
    def setting(self) -> contestants.Setting:
        return contestants.Setting(images=self.images, batch=self.batch)


def whole(gpus: int) -> Scale:
    networks = ("resnet50", "efficientnet_b0", "vit_small_patch16_224")
    return Scale(networks=networks, size=224, images=1024, batch=64, repetitions=3, seconds=450, fraction=0.5, gpus=gpus)


REHEARSAL = Scale(
    networks=("mobilenetv3_small_050",), size=32, images=16, batch=8, repetitions=1, seconds=450, fraction=0.05, gpus=0
)  # fmt: skip


def ranged(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def turns(loops: dict[str, contestants.Loop], repetitions: int) -> dict[str, list[float]]:
    """Return the images per second of each loop. The loops take turns, after one turn to warm up."""
    for one in loops.values():
        one()
    seen: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repetitions):
        for name, one in loops.items():
            seen[name].append(one())
    return seen


def ratio(a: list[float], b: list[float]) -> str:
    return ranged([x / y for x, y in zip(a, b, strict=True)])


# ---- the loop ------------------------------------------------------------------------------------------------


def loops(network: str, strategy: str, scale: Scale, weights: str) -> Lines:
    """Yield bf16 against its ceiling, against fp32 and, where something is frozen, against full and with stored activations."""
    at = (scale.size, "bf16", weights)
    made = {
        "ours": contestants.ours(scale.setting, network, strategy, *at, 0, Path(weights, "a")),
        "ceiling": contestants.ceiling(scale.setting, network, strategy, *at),
        "fp32": contestants.ours(scale.setting, network, strategy, scale.size, "fp32", weights, 0, Path(weights, "b")),
    }
    if strategy != "full":
        made["full"] = contestants.ours(scale.setting, network, "full", *at, 0, Path(weights, "c"))
        made["reused"] = contestants.ours(scale.setting, network, strategy, *at, 1, Path(weights, "d"))
    seen = turns(made, scale.repetitions)
    said = [f"{statistics.median(seen['ours']):.0f} images/s", f"of ceiling {ratio(seen['ours'], seen['ceiling'])}"]
    said.append(f"bf16 / fp32 {ratio(seen['ours'], seen['fp32'])}")
    if strategy != "full":
        said += [f"/ full {ratio(seen['ours'], seen['full'])}", f"reused / not {ratio(seen['reused'], seen['ours'])}"]
    if (peak := loop.peak_bf16()) is not None:
        flops = contestants.flops_of_a_step(network, strategy, scale.size, weights)
        said.append(f"MFU {statistics.median(seen['ours']) * flops / peak:.3f}")
    yield f"{network}, {strategy}, {scale.size} px, batch {scale.batch}, bf16", ", ".join(said)


def not_resident(network: str, scale: Scale, weights: str) -> Lines:
    """Yield the speed with images in the GPU's memory, fetched one batch ahead, and fetched when needed."""
    at = (network, "full", scale.size, "bf16", weights, 0)
    made = {"resident": contestants.ours(scale.setting, *at, Path(weights, "e"))}
    made["resident"]()  # places its images: the next ones find no room
    with room_for(0):
        made |= {
            "ahead": contestants.ours(scale.setting, *at, Path(weights, "f")),
            "at once": contestants.ours(scale.setting, *at, Path(weights, "g")),
        }
        made["ahead"]()
        with never_ahead():
            made["at once"]()
    seen = turns(made, scale.repetitions)
    yield (
        f"{network}, full: images that do not fit the GPU",
        (
            f"fetched a batch ahead {ratio(seen['ahead'], seen['resident'])} of resident, fetched when wanted "
            f"{ratio(seen['at once'], seen['resident'])}"
        ),
    )


def people_s(network: str, scale: Scale, weights: str) -> Lines:
    """Yield our loop against torchvision's transforms behind a DataLoader with one worker per processor, at most 16."""
    setting = dataclasses.replace(scale.setting, workers=min(os.cpu_count() or 1, 16))
    at = (network, "full", scale.size)
    made = {"ours": contestants.ours(setting, *at, "bf16", weights, 0, Path(weights, "h")), "plain": contestants.plain(setting, *at)}
    seen = turns(made, scale.repetitions)
    yield (
        f"{network}, full: against the loop people write ({setting.workers} DataLoader workers, fp32)",
        f"{ratio(seen['ours'], seen['plain'])}; it trains on {statistics.median(seen['plain']):.0f} images/s",
    )


def layouts(network: str, scale: Scale, weights: str) -> Lines:
    """Yield the arithmetic alone in the loop's memory layout, against contiguous memory and against a compiled step."""
    at = (network, "full", scale.size, "bf16", weights)
    made = {
        "ceiling": contestants.ceiling(scale.setting, *at),
        "contiguous": contestants.ceiling(scale.setting, *at, layout=torch.contiguous_format),
    }
    made["compiled"] = contestants.ceiling(scale.setting, *at, compiled=True)
    began = time.perf_counter()
    made["compiled"]()
    compiling = time.perf_counter() - began
    seen = turns(made, scale.repetitions)
    yield (
        f"{network}, full: arithmetic alone, bf16",
        f"channels-last / contiguous {ratio(seen['ceiling'], seen['contiguous'])}, compiled / not "
        f"{ratio(seen['compiled'], seen['ceiling'])} after a first epoch of {compiling:.0f} s",
    )


@contextmanager
def room_for(size: float) -> Iterator[None]:
    before, inputs.RESIDENT_BYTES = inputs.RESIDENT_BYTES, size
    try:
        yield
    finally:
        inputs.RESIDENT_BYTES = before


@contextmanager
def never_ahead() -> Iterator[None]:
    """Switch off fetching ahead for all inputs that are placed inside the context."""
    before, inputs.Ahead = inputs.Ahead, lambda read, device: None  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        inputs.Ahead = before  # type: ignore[misc]


# ---- trials, as users run them -------------------------------------------------------------------------------

STUDY = """
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
GPU = Study(name="gpu", cells=grid(["digits"], ["efficientnet_lite0"], ["partial"], ({fraction},)),
    protocol=Protocol(max_epochs=4, image_size={size}, batch_size=32, train_eval_images=64),
    trials={trials}, random_trials={trials}, confirm_seeds=0, line_size={size})
"""


def study(scale: Scale, trials: int, *more: str) -> tuple[Ledger, float]:
    """Run a search of `trials` trials on Ray, and return its ledger and the seconds from start to end. Raises RuntimeError."""
    folder = Path(tempfile.mkdtemp(prefix="gpu-"))
    (folder / "gpu_study.py").write_text(STUDY.format(fraction=scale.fraction, size=min(scale.size, 128), trials=trials))
    command = [sys.executable, "-m", "study.sweep", str(folder / "gpu_study.py"), "--results", str(folder), "--mlflow", "off", *more]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"STUDY_CACHE": str(folder / "cache")}, timeout=180)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"the sweep ended with {done.returncode}")
    return Ledger(str(folder), "gpu"), time.perf_counter() - began


def at_once(ledger: Ledger) -> int:
    """Return the largest number of trials that ran at the same time."""
    spans = [(r.started_at, r.ended_at) for r in ledger.results().values()]
    return max(sum(a <= start < b for a, b in spans) for start, _ in spans)


def epochs_of(ledger: Ledger) -> list[EpochRecord]:
    return [epoch for ask in ledger.asks() for epoch in ledger.epochs(ask.trial_id)]


def one_trial(scale: Scale) -> Lines:
    ledger, seconds = study(scale, 1)
    (result,) = ledger.results().values()
    facts = result.facts
    yield (
        "one trial of a study (digits, EfficientNet-Lite0, partial, 4 epochs), from the command to its end",
        f"{result.outcome} on {result.device} in {seconds:.0f} s, {result.seconds:.1f} s of it training; macro-F1 on validation "
        f"{result.metrics.get('val/macro_f1', float('nan')):.2f}; {facts.get('peak_gpu_bytes', 0) / 1e9:.2f} GB of GPU memory at most",
    )
    if result.outcome is not Outcome.COMPLETED:
        raise RuntimeError(f"the trial did not complete: {result.reason}")


def sharing(scale: Scale) -> Lines:
    """Yield the time of six trials, one at a time and as many at once as their measured memory allows."""
    (one, alone), (many, shared) = study(scale, 6, "--concurrent", "1"), study(scale, 6, "--gpus-per-trial", "auto", "--concurrent", "3")
    peak = max(e.facts["peak_gpu_bytes"] for e in epochs_of(many))
    scores = [{i: r.metrics.get("val/macro_f1", float("nan")) for i, r in ledger.results().items()} for ledger in (one, many)]
    later = statistics.median(sorted(r.seconds for r in one.results().values())[:-1])  # the slowest, the first, chose its kernels
    apart = max(abs(score - scores[1][i]) for i, score in scores[0].items())
    yield (
        "six trials that share a GPU by measured memory, three at most, against one at a time",
        f"{at_once(many)} at once (against {at_once(one)}), {alone / shared:.2f} times as fast in all ({alone:.0f} and "
        f"{shared:.0f} s, Ray's start "
        f"included); alone, the first took {max(r.seconds for r in one.results().values()):.1f} s of training, a later one "
        f"{later:.1f}; {peak / 1e9:.2f} GB a trial at most; the same trial's macro-F1 differs by {100 * apart:.2f} points at most",
    )


def two_workers(scale: Scale) -> Lines:
    if scale.gpus < 2:
        yield "two workers a trial (DDP, NCCL)", f"not measured: {scale.gpus} GPU"
        return
    (one, _), (two, _) = study(scale, 2), study(scale, 2, "--workers", "2", "--gpus-per-trial", "2")
    rates = [statistics.median(e.images / e.train_seconds for e in epochs_of(ledger) if e.epoch > 1) for ledger in (one, two)]
    yield "two workers a trial (DDP, NCCL)", f"{rates[1] / rates[0]:.2f} times the images a second of one"


# ---- all of it -----------------------------------------------------------------------------------------------


def parts(scale: Scale, weights: str) -> list[tuple[str, Callable[[], Lines]]]:
    """Return the parts, the cheapest first, so that a slow GPU leaves out those that say least."""
    found: list[tuple[str, Callable[[], Lines]]] = [("one trial", lambda: one_trial(scale))]
    for strategy in ("full", "partial"):
        for network in scale.networks:
            found.append((f"{network}, {strategy}", lambda n=network, s=strategy: loops(n, s, scale, weights)))  # type: ignore[misc]
    found.append(("not resident", lambda: not_resident(scale.networks[0], scale, weights)))
    if scale.gpus:
        found += [("sharing", lambda: sharing(scale)), ("two workers", lambda: two_workers(scale))]
    found.append(("the loop people write", lambda: people_s(scale.networks[0], scale, weights)))
    if scale.gpus:
        found.append(("layouts and compiled steps", lambda: layouts(scale.networks[0], scale, weights)))
    return found


def measure(scale: Scale, weights: str) -> tuple[list[tuple[str, str]], bool]:
    """Return the rows, and True where every part ended in time."""
    began, rows, good = time.perf_counter(), list[tuple[str, str]](), True
    for network in scale.networks:
        torch.save(timm.create_model(timm_name(network)).state_dict(), Path(weights, f"{network}.pth"))
    for name, part in parts(scale, weights):
        if time.perf_counter() - began > scale.seconds * 0.85:
            rows, good = [*rows, (name, "not measured: no time was left")], False
            continue
        try:
            since = time.perf_counter()
            for row in part():
                rows.append(row)
                print(f"{row[0]}: {row[1]} ({time.perf_counter() - since:.0f} s to measure)", flush=True)
        except Exception as error:  # the others' rows are worth having
            rows, good = [*rows, (name, f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")], False
            print(": ".join(rows[-1]), flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return rows, good


def page(rows: list[tuple[str, str]], seconds: float) -> str:
    device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "a processor"
    head = f"`make gpu`: {device}, torch {torch.__version__}, {seconds:.0f} s. Ratios are paired: median [lowest, highest].\n"
    return "\n".join([head, "| what | seen |", "| --- | --- |", *(f"| {name} | {said} |" for name, said in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--write", type=Path, help="page whose table, between its marks, is written anew; without it the table is only printed"
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the processor too; writes nothing")
    args = parser.parse_args()
    if not torch.cuda.is_available() and not args.rehearse:
        sys.exit("no GPU is at hand: torch sees none here, so there is nothing to measure")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as weights:
        rows, good = measure(REHEARSAL if args.rehearse else whole(torch.cuda.device_count()), weights)
    text = page(rows, time.perf_counter() - began)
    print(f"\n{text}")
    if args.write and not args.rehearse:
        write_between_marks(args.write, "make gpu", text)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
