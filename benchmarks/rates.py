"""Do learning rates carry over from small images to large ones? Every rate at every size, on validation.

    python -m benchmarks.rates --data DATA --more FOLDER... --out RUNS.jsonl
    python -m benchmarks.rates --out RUNS.jsonl --table

`mine` searches at fewer pixels than it confirms at. That is fair where the rate that is best at the small size is about as good as any
at the large one. Every training is the product's own, with published settings except for the rate. Its score is validation macro-F1 at
the last epoch, the mean over seeds. The cost of carrying over is the best score at a size less the score there of the rate that was
best at the smallest.

RUNS.jsonl is continued where it was left, one line per training, the most expensive sizes last.
"""

import argparse
import dataclasses
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import arguments
from study.datasets import open_dataset
from study.question.cell import Cell
from study.question.naming import DataName
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import OBJECTIVE, EpochRecord
from study.run import run_trial
from study.storage.places import Places

RATES = {"linear_probe": (1e-3, 3e-3, 1e-2, 3e-2), "partial": (1e-4, 3e-4, 1e-3, 3e-3), "full": (1e-4, 3e-4, 1e-3, 3e-3)}
SIZES = (64, 128, 224)


def main() -> None:
    parser = arguments.parser(__doc__, "--data", "--weights", "--backbone", "--more", "--out")
    parser.add_argument("--datasets", nargs="*", default=["deepweeds"])
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, default=300, help="training images, at most")
    parser.add_argument("--table", action="store_true", help="print what the file holds, and train nothing")
    args = parser.parse_args()
    if not args.table:
        names = arguments.datasets(args)
        for config in [config for size in args.sizes for name in names for config in configs(name, size, args)]:
            fill(config, args)
    print("\n".join(table(finished(args.out))))


def configs(dataset: str, size: int, args: argparse.Namespace) -> Iterator[TrialConfig]:
    data = DataName.parse(dataset)
    train = sum(open_dataset(data.dataset, splits=data.splits, root=Path(args.data) if args.data else None).counts()["train"])
    protocol = Protocol(max_epochs=args.epochs, image_size=size, views=args.epochs, train_eval_images=32)
    for seed in range(args.seeds):
        for strategy, rates in RATES.items():
            fraction = min(1.0, round(args.images / train, 3))
            cell = Cell(dataset=data.dataset, splits=data.splits, backbone=args.backbone, strategy=strategy, train_fraction=fraction)
            for rate in rates:
                yield TrialConfig.default(cell, protocol, seed).with_values({"lr": rate})


def fill(config: TrialConfig, args: argparse.Namespace) -> None:
    """Train the configuration, unless the file has it."""
    if config.id in {run["trial"] for run in finished(args.out)}:
        return
    cache, records = args.out.with_suffix(".cache"), list[EpochRecord]()
    here = Places(folder="", data=args.data, weights=args.weights, cache=str(cache)).of_trial(str(cache / "trainings" / config.id))

    def report(record: EpochRecord) -> bool:
        records.append(record)
        return False

    ending = run_trial(config, here, report, measurements=(), curve=False)
    shutil.rmtree(cache / "trainings" / config.id)
    run = {
        "trial": config.id,
        "data": Path(config.cell.dataset).name,
        "strategy": config.cell.strategy,
        "size": config.protocol.image_size,
        "rate": dataclasses.asdict(config.strategy)["lr"],
        "seed": config.seed,
        "outcome": ending.outcome.value,
        "val": records[-1].metrics.get(OBJECTIVE) if ending.outcome.value == "completed" else None,
    }
    with args.out.open("a") as file:
        file.write(json.dumps(run) + "\n")
    print(run, flush=True)


def finished(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one row per data set and strategy: the best rate of every size with its score, and the cost there of the smallest size's
    best rate.
    """
    sizes = sorted({run["size"] for run in runs})
    yield f"| data | strategy | {' | '.join(f'{size} px: best rate (score)' for size in sizes)} | cost of the {sizes[0]} px rate |"
    yield f"| --- | --- |{' --- |' * (len(sizes) + 1)}"
    costs = defaultdict[int, list[float]](list)
    for data, strategy in dict.fromkeys((run["data"], run["strategy"]) for run in runs):
        scores = {size: _means([r for r in runs if (r["data"], r["strategy"], r["size"]) == (data, strategy, size)]) for size in sizes}
        best = {size: max(own, key=own.__getitem__) for size, own in scores.items() if own}
        cells = [f"{best[size]:g} ({100 * scores[size][best[size]]:.1f})" if size in best else "" for size in sizes]
        carried = []
        for size in sizes[1:]:
            if size in best and best[sizes[0]] in scores[size]:
                costs[size].append(scores[size][best[size]] - scores[size][best[sizes[0]]])
                carried.append(f"{size} px: {100 * costs[size][-1]:.1f}")
        yield f"| {data} | {strategy} | {' | '.join(cells)} | {', '.join(carried)} |"
    every = ", ".join(f"{size} px: {100 * fmean(own):.1f} (at most {100 * max(own):.1f})" for size, own in costs.items())
    yield f"| mean | |{' |' * len(sizes)} {every} |"


def _means(runs: Sequence[Mapping[str, Any]]) -> dict[float, float]:
    """Return the mean score over seeds by rate. A training that diverged scores 0."""
    by = defaultdict[float, list[float]](list)
    for run in runs:
        by[run["rate"]].append(run["val"] or 0.0)
    return {rate: fmean(own) for rate, own in by.items()}


if __name__ == "__main__":
    main()
