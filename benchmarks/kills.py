"""Killing the driver again and again: this system, and Ray's own restore, under the same kills.

    python -m benchmarks.kills --kills 10 --json

A small study is started, killed with SIGKILL at a random moment, and started again, until it has been killed so often; then it is
let finish. Counted at the end, against what was planned: trials lost, trials or tracking runs there twice, and trials or runs that
nobody works on but that are called running. The baseline is what Ray's guides show: Tuner.restore, OptunaSearch with SQLite storage,
MLflowLoggerCallback; it trains the same trials with the same function.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

STUDY = """
from study.config import Protocol, Study, grid
TINY = Study(name="tiny", cells=grid(["digits"], ["efficientnet_lite0"], ["partial"], (0.3,)),
    protocol=Protocol(max_epochs=4, image_size=32, batch_size=64, train_eval_images=32), trials={trials}, random_trials={trials},
    confirm_seeds=0)
"""

BASELINE = """
import sys
from pathlib import Path
import optuna
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch
from study.config import Cell, Protocol, TrialConfig
from study.training.run import Workspace, run_trial

root, trials = Path(sys.argv[1]), int(sys.argv[2])

def trainable(config):
    cell = Cell(dataset="digits", backbone="efficientnet_lite0", strategy="partial", train_fraction=0.3)
    protocol = Protocol(max_epochs=4, image_size=32, batch_size=64, train_eval_images=32)
    setting = TrialConfig.default(cell, protocol).with_values({"lr": config["lr"]})
    run_trial(setting, Workspace(folder=str(root / "work" / setting.id)), lambda r: bool(tune.report({"f1": r.objective})))

search = OptunaSearch({"lr": optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True)}, metric="f1", mode="max", study_name="tiny",
    storage=optuna.storages.RDBStorage(f"sqlite:///{root}/optuna.db"))
kept = str(root / "tune")
if tune.Tuner.can_restore(kept):
    tuner = tune.Tuner.restore(kept, trainable, resume_unfinished=True, resume_errored=True)
else:
    tuner = tune.Tuner(trainable, tune_config=tune.TuneConfig(search_alg=search, num_samples=trials, max_concurrent_trials=2),
        run_config=tune.RunConfig(name="tune", storage_path=str(root), verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{root}/mlflow.db", experiment_name="tiny")]))
tuner.fit()
"""


def killed_until_done(command: list[str], kills: int, rng: np.random.Generator) -> tuple[int, float]:
    """(kills that hit a living process, seconds in all)."""
    began, hit = time.monotonic(), 0
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(rng.uniform(12, 40))
        hit += process.poll() is None
        process.kill()
        process.wait()
        time.sleep(3)  # its cluster ends with it
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
        if done.returncode == 0:
            break
        print("   the last start ended with", done.returncode, (done.stderr or done.stdout).strip().splitlines()[-1:], flush=True)
    return hit, time.monotonic() - began


def mlflow_runs(uri: str, key: str) -> tuple[int, int, int]:
    """(different trials, runs, runs called running)."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id], max_results=5000)]
    runs = [r for r in runs if key in r.data.tags]
    return len({r.data.tags[key] for r in runs}), len(runs), sum(r.info.status == "RUNNING" for r in runs)


def ours(root: Path, trials: int, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    from study.tracking.ledger import Ledger

    (root / "tiny.py").write_text(STUDY.format(trials=trials))
    hit, seconds = killed_until_done(
        [sys.executable, "-m", "study.sweep", str(root / "tiny.py"), "--results", str(root / "results")], kills, rng
    )
    ledger = Ledger(root / "results", "tiny")
    asks, results = ledger.asks(), ledger.results()
    seen, runs, running = mlflow_runs(f"sqlite:///{root}/results/mlflow.db", "trial")
    epochs = [[e.epoch for e in ledger.epochs(a.trial_id)] for a in asks]
    return {
        "kills": hit, "seconds": seconds, "planned": trials, "lost": trials - len(results),
        "doubled": len(asks) - len({a.trial_id for a in asks}) + sum(len(e) - len(set(e)) for e in epochs) + runs - seen,
        "zombies": len(asks) - len(results) + running,
    }  # fmt: skip


def baseline(root: Path, trials: int, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    import optuna

    (root / "baseline.py").write_text(BASELINE)
    hit, seconds = killed_until_done([sys.executable, str(root / "baseline.py"), str(root), str(trials)], kills, rng)
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{root}/optuna.db")
    states = [t.state.name for t in study.trials]
    seen, runs, running = mlflow_runs(f"sqlite:///{root}/mlflow.db", "trial_name")
    return {
        "kills": hit, "seconds": seconds, "planned": trials, "lost": max(trials - states.count("COMPLETE"), 0),
        "doubled": runs - seen, "zombies": states.count("RUNNING") + running, "optuna": {s: states.count(s) for s in set(states)}, "mlflow_runs": runs,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = {}
    for name, run in (("this system", ours), ("Tuner.restore + OptunaSearch + MLflowLoggerCallback", baseline)):
        with tempfile.TemporaryDirectory() as folder:
            out[name] = run(Path(folder), args.trials, args.kills, np.random.default_rng(args.seed))
        r = out[name]
        print(f"{name}: {r['kills']} kills, {r['planned']} trials planned: {r['lost']} lost, {r['doubled']} doubled, {r['zombies']} called running that are not; {r['seconds']:.0f} s", flush=True)  # fmt: skip
    print("zero in N bounds the rate only below 3/N (95 %)")
    if args.json:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
