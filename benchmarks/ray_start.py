"""The seconds before a trial of several workers takes its first step: each of its processes, part by part.

    python -m benchmarks.ray_start --trials 2 --json

A Tune trial drives a TorchTrainer, as in `study/search/on_ray/workers.py`. Its workers import what training imports and stop. Each
process reports when the system made it, when our code began in it, and the cost of its imports in wall and processor seconds. Processor
seconds are the ones that a busy machine does not change.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import arguments

IMPORTS = ("torch", "torch._dynamo", "torchvision", "timm", "study.run")
"""Imports in this order. torch._dynamo is loaded by torchvision.ops, and by the first optimizer of a process."""


def say(folder: str, who: str, **seen: Any) -> None:
    import psutil

    own = psutil.Process()
    spent = own.cpu_times()
    row = {"who": who, "made": own.create_time(), "at": time.time(), "busy": spent.user + spent.system, **seen}
    with open(f"{folder}/seen.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


def worker(config: dict[str, Any]) -> None:
    import importlib

    say(config["folder"], "worker begins", trial=config["trial"])
    for name in IMPORTS:
        wall, busy = time.perf_counter(), time.process_time()
        importlib.import_module(name)
        say(
            config["folder"], f"import {name}", trial=config["trial"], wall=time.perf_counter() - wall, cpu=time.process_time() - busy
        )  # fmt: skip


def driver(config: dict[str, Any]) -> None:
    say(config["folder"], "driver begins", trial=config["trial"])
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    say(config["folder"], "driver imported Ray Train", trial=config["trial"])
    TorchTrainer(
        worker,
        train_loop_config=config,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=config["workers"], resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(name=f"train-{config['trial']}", storage_path=config["folder"]),
    ).fit()
    say(config["folder"], "driver ends", trial=config["trial"])


def measure(trials: int, workers: int, folder: str) -> list[dict[str, Any]]:
    """Return the reports of every process, in order of time."""
    from ray import tune

    import study.search.on_ray  # noqa: F401 - Ray's settings
    from study.search.on_ray.cluster import cluster

    with cluster(None):
        for trial in range(trials):
            say(folder, "asked", trial=trial)
            tune.Tuner(
                tune.with_resources(driver, {"CPU": 0, "node:__internal_head__": 0.001}),
                param_space={"folder": folder, "trial": trial, "workers": workers},
                run_config=tune.RunConfig(name=f"tune-{trial}", storage_path=folder, verbose=0),
            ).fit()
    rows = [json.loads(line) for line in Path(folder, "seen.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: row["at"])


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args.trials, args.workers, folder)
    asked = {row["trial"]: row["at"] for row in rows if row["who"] == "asked"}
    print(f"{'':34s} trial   process made   said at   processor seconds of the process so far   of this import: wall, processor")
    for row in rows:
        since = asked[row["trial"]]
        cost = f"{row['wall']:8.2f} {row['cpu']:8.2f}" if "cpu" in row else ""
        print(f"{row['who']:34s} {row['trial']:5d} {row['made'] - since:14.2f} {row['at'] - since:9.2f} {row['busy']:12.2f} {cost}")
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.getcwd())
    main()
