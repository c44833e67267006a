"""Does reusing activations change the answer, and what does it save? On real images, paired by seed.

    python -m benchmarks.reuse --data DATA --seeds 12 --json

The same trial runs with `views = 0` (every epoch sees fresh augmented images) and with `views = V` (each image has V of them, whose
frozen activations are kept), with the same seed, head and order of images.

The table shows the best validation macro-F1 of each, their paired difference with its 90 % interval, and the seconds of an epoch of the
next trial, which finds the views stored. With two one-sided tests at 5 %, both are equivalent within m points when the interval lies
inside [-m, m].
"""

import json
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks import arguments
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.question.which_epoch import kept_epoch
from study.run import open_inputs
from study.storage.places import Places
from study.training.loop import fine_tune


def trial(cell: Cell, protocol: Protocol, seed: int, data: Path) -> tuple[float, list[float]]:
    """Return (validation macro-F1 of the kept epoch, training seconds of every epoch)."""
    config = TrialConfig.default(cell, protocol, seed)
    records = [record for record, _ in fine_tune(config, open_inputs(config, Places(folder="", data=str(data))))]
    kept = kept_epoch(protocol, records)
    assert kept is not None
    return kept.objective, [r.train_seconds for r in records]


def main() -> None:
    parser = arguments.parser(__doc__, "--data", "--backbone", "--json")
    parser.add_argument("--datasets", nargs="+", default=["deepweeds", "fer2013"])
    parser.add_argument("--strategies", nargs="+", default=["linear_probe", "partial"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the training images")
    parser.add_argument("--margin", type=float, default=0.5, help="points of macro-F1")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data FOLDER, or set STUDY_DATA")
    rows = []
    print(f"{args.backbone}, {args.size} px, {args.epochs} epochs, V = {args.views}, {args.seeds} seeds; macro-F1 in points")
    print("data       strategy       fresh   reused   difference [90 % interval]   within margin   seconds an epoch: fresh, reused, ratio")
    for dataset in args.datasets:
        for strategy in args.strategies:
            cell = Cell(dataset=dataset, backbone=args.backbone, strategy=strategy, train_fraction=args.fraction)
            scores: dict[int, list[float]] = {0: [], args.views: []}
            seconds: dict[int, list[float]] = {0: [], args.views: []}
            for seed in range(args.seeds):
                with tempfile.TemporaryDirectory() as cache:  # every seed pays for its own views
                    os.environ["STUDY_ACTIVATIONS_GB"] = "4"
                    for views in (0, args.views):
                        protocol = Protocol(max_epochs=args.epochs, image_size=args.size, views=views, train_eval_images=64)
                        os.environ["STUDY_CACHE"] = cache
                        best, taken = trial(cell, protocol, seed, Path(args.data))
                        scores[views].append(100 * best)
                        if views:  # the next trial of the machine finds every view stored
                            _, taken = trial(cell, protocol, seed, Path(args.data))
                        seconds[views].append(statistics.median(taken))
            difference = np.subtract(scores[args.views], scores[0])
            mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
            half = float(stats.t.ppf(0.95, len(difference) - 1)) * error
            within = abs(mean) + half <= args.margin
            ratio = statistics.median(a / b for a, b in zip(seconds[0], seconds[args.views], strict=True))
            fresh, reused = statistics.median(seconds[0]), statistics.median(seconds[args.views])
            found = {"difference": mean, "low": mean - half, "high": mean + half, "within": within, "speedup": ratio}
            rows.append({"dataset": dataset, "strategy": strategy, **found})
            print(
                f"{dataset:10s} {strategy:12s} {np.mean(scores[0]):7.1f} {np.mean(scores[args.views]):8.1f} {mean:+10.2f} "
                f"[{mean - half:+.2f}, {mean + half:+.2f}] {'yes' if within else 'no':>15s} {fresh:20.2f} {reused:8.3f} {ratio:7.1f}x",
                flush=True,
            )
    if args.json:
        print(json.dumps({"rows": rows, "margin": args.margin, "views": args.views, "seeds": args.seeds}))


if __name__ == "__main__":
    main()
