"""The epoch to keep: the test score of the epoch that was best on validation beside that of the last one, from the same trainings.

    python -m benchmarks.which_epoch --data DATA --more FOLDER --out RUNS.jsonl

Every training is the product's own (`run_trial`), with published defaults and fresh augmented images, and both rules are applied to it.
The network is written after every epoch, the best one so far is put aside, and at the end both are measured on the same test images.
The difference is paired by training. RUNS.jsonl is continued where it was left, one line per training. Nothing is chosen on test
images.
"""

import dataclasses
import io
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import arguments
from study.metrics import score
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.question.which_epoch import kept_epoch
from study.records import EpochRecord, Outcome
from study.run import measure_trial, run_trial
from study.storage.folder import Folder
from study.storage.places import Places

FRACTION = {"fer2013": 0.2}  # of the training images, to be affordable


def main() -> None:
    parser = arguments.parser(__doc__, "--data", "--backbone", "--more", "--out")
    parser.add_argument("--datasets", nargs="*", default=["deepweeds", "fer2013"])
    parser.add_argument("--strategies", nargs="+", default=["partial", "full"])
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    protocol = Protocol(max_epochs=args.epochs, image_size=args.size, train_eval_images=32)
    cells = [
        Cell(dataset=dataset, backbone=args.backbone, strategy=strategy, train_fraction=FRACTION.get(dataset, 1.0))
        for dataset in arguments.datasets(args)
        for strategy in args.strategies
    ]
    wanted = {(c.id, seed): TrialConfig.default(c, protocol, seed) for seed in range(args.seeds) for c in cells}
    for line in fill(args.out, list(wanted.values()), args.data):
        print(line, flush=True)
    print("\n".join(table([run for run in finished(args.out) if run["trial"] in {c.id for c in wanted.values()}])))


def fill(path: Path, configs: Sequence[TrialConfig], data: str | None) -> Iterator[str]:
    """Train what `path` lacks, and yield a line after each training."""
    done = {run["trial"] for run in finished(path)}
    for config in (c for c in configs if c.id not in done):
        began = time.perf_counter()
        cache = path.with_suffix(".cache")
        run = train(config, Places(folder="", data=data, cache=str(cache)), cache / "trainings" / config.id)
        with path.open("a") as file:
            file.write(json.dumps(run) + "\n")
        yield f"{run['data']} {run['strategy']} seed {config.seed}: {run} in {time.perf_counter() - began:.0f} s"


def finished(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(config: TrialConfig, places: Places, folder: Path) -> dict[str, Any]:
    """Train once in `folder`, or continue what was left there.

    Return by rule the epoch, its validation and its test macro-F1 (None where it diverged).
    """
    best, records, own, aside = dataclasses.replace(config.protocol, keep="best"), list[EpochRecord](), folder / "trial", folder / "aside"

    def report(record: EpochRecord) -> bool:
        records.append(record)
        if kept_epoch(best, records) is record and _epoch_of(own) == record.epoch:  # told again, it was put aside before
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(own / "best", aside / "best")
        return False

    here = places.of_trial(str(own))
    ending = run_trial(config, here, report, measurements=("predictions",), curve=False, stops=range(1, config.protocol.max_epochs))
    name = Path(config.cell.dataset).name
    run: dict[str, Any] = {
        "trial": config.id,
        "data": name,
        "strategy": config.cell.strategy,
        "seed": config.seed,
        "best": None,
        "last": None,
    }
    if ending.outcome is Outcome.COMPLETED:
        measure_trial(config, here, ("predictions",), Folder(str(aside)))
        for protocol, kept_in in ((best, aside), (config.protocol, own)):
            kept = kept_epoch(protocol, records)
            assert kept is not None and kept.epoch == _epoch_of(kept_in)
            run[protocol.keep] = {"epoch": kept.epoch, "val": kept.objective, "test": on_test(kept_in)}
    shutil.rmtree(folder)
    return run


def _epoch_of(folder: Path) -> int:
    """Return the epoch of the network in a trial's folder."""
    return int(json.loads((folder / "best" / "manifest.json").read_text())["epoch"])


def on_test(folder: Path) -> float:
    """Return macro-F1 on the test images, from the predictions measured in `folder`."""
    table = pq.read_table(io.BytesIO((folder / "measured" / "predictions.parquet").read_bytes())).to_pandas()
    test = table[table.split == "test"]
    return score(np.stack([*test.logits]), test.label.to_numpy())[0]["macro_f1"]


def table(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield one row per data set and strategy: means and standard deviations over its trainings, in points.

    The last row joins them, the deviations as the root of their mean square.
    """
    yield "| data | strategy | trainings | best epoch, mean (range) | best on validation (sd) | last (sd) | last - best (standard error) |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    apart, joined = [], []
    for data, strategy in dict.fromkeys((run["data"], run["strategy"]) for run in runs):
        own = [run for run in runs if (run["data"], run["strategy"]) == (data, strategy)]
        scores = 100 * np.array([[run[rule]["test"] for rule in ("best", "last")] for run in own if run["last"]]).reshape(-1, 2)
        epochs = [run["best"]["epoch"] for run in own if run["last"]]
        lost = f", {len(own) - len(epochs)} diverged" if len(own) > len(epochs) else ""
        if len(epochs) < 2:
            yield f"| {data} | {strategy} | {len(epochs)}{lost} | | | | |"
            continue
        apart.append(scores[:, 1] - scores[:, 0])
        joined.append(scores.var(axis=0, ddof=1))
        shown = " | ".join(f"{m:.1f} ({s:.2f})" for m, s in zip(scores.mean(axis=0), scores.std(axis=0, ddof=1), strict=True))
        yield (
            f"| {data} | {strategy} | {len(epochs)}{lost} | {np.mean(epochs):.1f} ({min(epochs)} to {max(epochs)}) | {shown} "
            f"| {apart[-1].mean():+.1f} ({_error(apart[-1]):.1f}) |"
        )
    if joined:
        every = np.concatenate(apart)
        sds = " | ".join(f"({sd:.2f})" for sd in np.sqrt(np.mean(joined, axis=0)))
        yield f"| all | | {len(every)} | | {sds} | {every.mean():+.1f} ({_error(every):.1f}) |"


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
