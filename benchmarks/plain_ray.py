"""Trials as Ray's guide to tuning with Ray Train shows them: a Tuner whose function makes a TorchTrainer, every trial in new processes.

    python -m benchmarks.plain_ray PLAN.json        prints one JSON row a trial

PLAN.json: {"configs": [...], "folder": ..., "workers": n, "at_once": n}. Ray's settings are its own defaults. The training function is
the product's, so the difference is how a trial is started and reported.

Beyond the guide there is a searcher that hands out the given configs and records the time. Drivers take no CPU, since two of them and
their workers would wait for each other on two cores.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.question.trial_config import TrialConfig
from study.question.which_epoch import kept_epoch
from study.records import EpochRecord, dumps


def run(configs: list[dict[str, Any]], folder: Path, *, workers: int, at_once: int, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Run the configs in a process of its own.

    A row has the times at which the trial was asked for, took its first step and ended, its best score, and its image passes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "plan.json"
    plan.write_text(dumps({"configs": configs, "folder": str(folder), "workers": workers, "at_once": at_once}))
    done = subprocess.run([sys.executable, "-m", "benchmarks.plain_ray", str(plan)], capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"plain Ray ended with {done.returncode}: {done.stderr[-2000:]}")
    rows: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows


def _worker(config: dict[str, Any]) -> None:
    import ray.train

    from study.run import run_trial
    from study.storage.places import Places
    from study.training import distributed

    def report(record: EpochRecord) -> bool:
        if distributed.rank() == 0:
            with open(f"{config['folder']}/seen.jsonl", "a") as seen:
                seen.write(dumps(record.as_dict()) + "\n")
        ray.train.report({"objective": record.objective})
        return False

    Path(config["folder"]).mkdir(parents=True, exist_ok=True)
    run_trial(TrialConfig.from_dict(config["config"]), Places(folder=config["folder"]), report)


def _driver(config: dict[str, Any]) -> None:
    import ray.train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        _worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(num_workers=config["workers"]),
        run_config=ray.train.RunConfig(
            name=f"train-trial_id={tune.get_context().get_trial_id()}",
            storage_path=config["storage"],
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
        ),
    ).fit()


def main() -> None:
    import ray
    from ray import tune
    from ray.tune.search import Searcher

    plan = json.loads(Path(sys.argv[1]).read_text())
    given = [
        {"config": c, "folder": f"{plan['folder']}/{TrialConfig.from_dict(c).id}", "workers": plan["workers"], "storage": plan["folder"]}
        for c in plan["configs"]
    ]

    class InOrder(Searcher):
        asked: dict[str, tuple[int, float]] = {}
        ended: dict[int, float] = {}

        def suggest(self, trial_id: str) -> dict[str, Any] | None:
            if len(self.asked) == len(given):
                return None
            number = len(self.asked)
            self.asked[trial_id] = (number, time.time())
            return given[number]

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            if not error:
                self.ended[self.asked[trial_id][0]] = time.time()

        def save(self, checkpoint_path: str) -> None: ...

        def restore(self, checkpoint_path: str) -> None: ...

    ray.init(log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.getcwd()}})
    tune.Tuner(
        tune.with_resources(_driver, {"CPU": 0, "node:__internal_head__": 0.001}),
        tune_config=tune.TuneConfig(
            search_alg=InOrder(metric="objective", mode="max"), num_samples=len(given), max_concurrent_trials=plan["at_once"]
        ),
        run_config=tune.RunConfig(storage_path=plan["folder"], verbose=0),
    ).fit()
    ray.shutdown()
    rows = []
    for number, asked in InOrder.asked.values():
        lines = Path(given[number]["folder"], "seen.jsonl").read_text().splitlines()
        records = [EpochRecord.from_json(line) for line in lines]
        kept = kept_epoch(TrialConfig.from_dict(given[number]["config"]).protocol, records)
        assert kept is not None
        rows.append({
            "asked": asked, "first_step": records[0].ended_at - records[0].seconds, "ended": InOrder.ended[number],
            "score": kept.objective, "images": sum(r.images for r in records),
        })  # fmt: skip
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
