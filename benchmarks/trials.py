"""The cost of a trial before it trains: seconds from asking to its first step, and to its end, for a trial of three tiny epochs.

    python -m benchmarks.trials --json

It runs through this process, through Ray with one worker (reused actors) and with two (Ray Train), and as in Ray's guide, with a
TorchTrainer per trial (benchmarks/plain_ray.py). Each starts with an empty cache: its first trial decodes images and computes
activations, and later ones find them. The times at which a trial was asked for and its first epoch began are read from the ledger.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import arguments, plain_ray
from study.tracking.ledger import Ledger

STUDY = """
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
TINY = Study(name="tiny", cells=grid(["digits"], ["efficientnet_lite0"], ["linear_probe"], (0.1,)),
    protocol=Protocol(max_epochs=3, image_size=32, batch_size=64, views=1, train_eval_images=32), trials={trials}, random_trials={trials},
    confirm_seeds=0, line_size=32)
"""
Rows = list[dict[str, float]]


def through_sweep(trials: int, *more: str) -> tuple[Rows, list[dict[str, Any]]]:
    """Return the rows, and the configs that it ran."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tiny.py").write_text(STUDY.format(trials=trials))
        command = [sys.executable, "-m", "study.sweep", f"{folder}/tiny.py", "--results", folder, "--mlflow", "off", *more]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"STUDY_CACHE": f"{folder}/cache"})
        assert done.returncode == 0, done.stderr
        ledger, rows = Ledger(folder, "tiny"), []
        for ask in ledger.asks():
            asked = Path(ledger.folder.path(f"trials/{ask.trial_id}/config.json")).stat().st_mtime
            epochs, result = ledger.epochs(ask.trial_id), ledger.result(ask.trial_id)
            assert result is not None and epochs, f"trial {ask.trial_id} left nothing: {result}"
            rows.append({"first_step": epochs[0].ended_at - epochs[0].seconds - asked, "whole": result.ended_at - asked})
        return rows, [a.config for a in ledger.asks()]


def through_plain_ray(configs: list[dict[str, Any]], workers: int) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"STUDY_CACHE": f"{folder}/cache"}
        rows = plain_ray.run(configs, Path(folder, "plain"), workers=workers, at_once=1, env=env)
        return [{"first_step": r["first_step"] - r["asked"], "whole": r["ended"] - r["asked"]} for r in rows]


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--trials", type=int, default=6, help="of ways with one worker. At least 2")
    parser.add_argument("--slow-trials", type=int, default=3, help="of ways that start processes for every trial. At least 2")
    args = parser.parse_args()
    if min(args.trials, args.slow_trials) < 2:
        parser.error("--trials and --slow-trials must be at least 2: a first trial and a later one")
    print(f"{'seconds from asking':42s} first trial: first step / whole     later trials: first step / whole (median)")
    out: dict[str, Any] = {}

    def show(name: str, rows: Rows) -> None:
        later = {k: statistics.median(r[k] for r in rows[1:]) for k in rows[0]}
        out[name] = {"first": rows[0], "later": later, "trials": len(rows)}
        print(
            f"{name:42s} {rows[0]['first_step']:10.2f} / {rows[0]['whole']:6.2f} {later['first_step']:27.2f} / {later['whole']:6.2f}",
            flush=True,
        )

    show("in this process", through_sweep(args.trials, "--local")[0])
    rows, configs = through_sweep(args.trials, "--concurrent", "1")
    show("Ray, 1 worker (reused actor)", rows)
    show("a TorchTrainer a trial, 1 worker", through_plain_ray(configs[: args.slow_trials], 1))
    rows, configs = through_sweep(args.slow_trials, "--workers", "2")
    show("Ray Train, 2 workers", rows)
    show("a TorchTrainer a trial, 2 workers", through_plain_ray(configs, 2))
    if args.json:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
