"""Early stopping: how many image passes it saves, and what it risks.

    python -m benchmarks.study --trials 24 --epochs 27 --json

Every trial of a small search is trained to its end once. Then the search is replayed with the product's own rule (successive
halving over the trials in the order they were asked for) in hundreds of other orders: image passes spent, how often the winner is
the one full training finds, and the regret, the macro-F1 lost against it. With --plain the same trials are also run as Ray's guide
shows it, a TorchTrainer under a Tuner with no early stopping, and the seconds are compared.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import SuccessiveHalvingPruner

from study.config import Protocol, Study, TrialConfig, grid
from study.records import OBJECTIVE
from study.search.optuna_cells import SearchPlan
from study.signals import interruptible
from study.tracking.ledger import Ledger
from study.training.run import Workspace, run_trial


def curves(study: Study, folder: str) -> tuple[np.ndarray, list[TrialConfig], float]:
    """Validation macro-F1 [trials, epochs] of every random trial, trained to its end; seconds it took."""
    plan, configs, rows = SearchPlan(study, Ledger(folder, study.name)), [], []
    began = time.perf_counter()
    while (ask := plan.ask()) is not None:
        config, seen = TrialConfig.from_dict(ask.config), []

        def report(record: Any, seen: list[float] = seen) -> bool:
            seen.append(record.metrics[OBJECTIVE])
            return False

        run_trial(config, Workspace(folder=f"{folder}/{ask.trial_id}"), report)
        rows.append(seen + [seen[-1]] * (study.protocol.max_epochs - len(seen)) if seen else [0.0] * study.protocol.max_epochs)
        configs.append(config)
    return np.array(rows), configs, time.perf_counter() - began


def replay(scores: np.ndarray, grace: int, factor: int, first_random: int, workers: int, rng: np.random.Generator) -> tuple[int, float]:
    """(epochs spent, regret) of one search in a random order, `workers` trials at a time, the first `first_random` never stopped."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", pruner=SuccessiveHalvingPruner(min_resource=grace, reduction_factor=factor))
    queue, running, spent, best = list(rng.permutation(len(scores))), [], 0, -1.0
    asked = 0
    while queue or running:
        while queue and len(running) < workers:
            running.append([study.ask(), queue.pop(0), 0, asked < first_random])
            asked += 1
        for slot in list(running):
            trial, row, epoch, safe = slot
            slot[2] = epoch = epoch + 1
            spent += 1
            trial.report(float(scores[row, epoch - 1]), epoch)
            best = max(best, float(scores[row, epoch - 1]))
            done = epoch == scores.shape[1]
            if done or (trial.should_prune() and not safe):
                study.tell(
                    trial, float(scores[row, :epoch].max()) if done else None, state=None if done else optuna.trial.TrialState.PRUNED
                )
                running.remove(slot)
    return spent, float(scores.max()) - best


def plain_ray(configs: list[TrialConfig], folder: str) -> float:
    """Seconds of the same trials, one TorchTrainer each under a Tuner, as Ray's guide has it."""
    import ray
    import ray.train
    from ray import tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    def worker(config: dict[str, Any]) -> None:
        run_trial(
            TrialConfig.from_dict(config["config"]),
            Workspace(folder=config["folder"]),
            lambda record: bool(ray.train.report({"objective": record.objective})),
        )

    def trial(config: dict[str, Any]) -> None:
        TorchTrainer(
            worker, train_loop_config=config["trial"], scaling_config=ray.train.ScalingConfig(num_workers=1),
            run_config=ray.train.RunConfig(storage_path=folder, callbacks=[TuneReportCallback()]),
        ).fit()  # fmt: skip

    ray.init(
        include_dashboard=False, log_to_driver=False, configure_logging=False, runtime_env={"env_vars": {"PYTHONPATH": str(Path.cwd())}}
    )
    began = time.perf_counter()
    grid_of = [{"config": c.as_dict(), "folder": f"{folder}/plain-{c.id}"} for c in configs]
    tune.Tuner(
        tune.with_resources(trial, {"CPU": 0, "node:__internal_head__": 0.001}),
        param_space={"trial": tune.grid_search(grid_of)},
        tune_config=tune.TuneConfig(max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    ).fit()
    seconds = time.perf_counter() - began
    ray.shutdown()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--strategy", default="partial")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--plain", type=int, default=0, help="so many of the trials also through plain Ray, and through the sweep")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    study = Study(
        name="stopping", cells=grid(["mini_faces"], ["efficientnet_lite0"], [args.strategy]),
        protocol=Protocol(max_epochs=args.epochs, image_size=48, batch_size=32, views=2), trials=args.trials, random_trials=args.trials, confirm_seeds=0,
    )  # fmt: skip
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, interruptible():
        scores, configs, seconds = curves(study, folder)
        print(
            f"{args.trials} trials of {args.epochs} epochs, all to their end: {seconds:.0f} s, best macro-F1 {scores.max():.3f}, median {np.median(scores.max(1)):.3f}"
        )
        print("grace  factor  never stopped   image passes saved   same winner   regret (points): mean / 95th percentile")
        rows = []
        for grace, factor, safe in ((3, 3, args.trials // 2), (3, 3, 1), (1, 3, 1), (1, 2, 1)):
            rng = np.random.default_rng(0)
            runs = [replay(scores, grace, factor, safe, 2, rng) for _ in range(args.orders)]
            saved = scores.size / statistics.mean(s for s, _ in runs)
            regret = [100 * r for _, r in runs]
            same = float(np.mean([r < 1e-9 for r in regret]))
            rows.append({"grace": grace, "factor": factor, "never_stopped": safe, "saved": saved, "same_winner": same, "regret_mean": float(np.mean(regret)), "regret_95": float(np.quantile(regret, 0.95))})  # fmt: skip
            print(
                f"{grace:5d} {factor:7d} {safe:14d} {saved:19.2f}x {same:13.0%} {np.mean(regret):18.2f} / {np.quantile(regret, 0.95):.2f}"
            )
        out |= {"rows": rows, "seconds": seconds}
        if args.plain:
            own = sum(1 for _ in configs[: args.plain])
            plain = plain_ray(configs[:own], folder)
            out["plain_ray_seconds"] = plain
            print(f"{own} of them through plain Tuner + TorchTrainer, two at a time: {plain:.0f} s")
    if args.json:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
