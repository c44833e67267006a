"""Killing the driver again and again: this system and Ray's own restore, under the same kills.

    python -m benchmarks.restore_kills --kills 10 --json

A small study is started, killed with SIGKILL at a random moment, and started again until it has been killed the given number of times.
Then it may finish. The counts at the end are compared with the plan:

- lost: trials without a result,
- doubled: trials beyond the plan, and tracking runs of a trial that has one already,
- zombies: tracking runs and trials of the search that are called running though no process works on them,
- repeated: epochs trained more than once, or trained by a trial that is in no result,
- orphans: processes of a killed study that still live after `GRACE_S`, over all kills.

The baseline is benchmarks/ray_restore.py: Tuner.restore, OptunaSearch in SQLite, MLflowLoggerCallback.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import arguments
from study.records import Outcome
from study.tracking.client import KEY
from study.tracking.ledger import Ledger

STUDY = """
from study.question.study_config import Study
from benchmarks.ray_restore import CELL, PROTOCOL
TINY = Study(name="tiny", cells=(CELL,), protocol=PROTOCOL, trials={trials}, random_trials={trials}, confirm_seeds=0)
"""
GRACE_S = 30.0
STARTS = 3  # a start may fail on what the kill before it left; who cannot finish in three has lost the study


@dataclass(frozen=True, kw_only=True)
class Kills:
    """The moments of the kills, drawn for every contestant from the same seed."""

    times: int
    earliest: float  # seconds after the start
    latest: float
    seed: int


def killed_until_done(command: list[str], kills: Kills, after: Callable[[], None], env: dict[str, str]) -> dict[str, Any]:
    """Run `command` under `kills`, then to its end. `after` is called when the killed processes are gone."""
    rng, began, hit, orphans = np.random.default_rng(kills.seed), time.monotonic(), 0, 0
    for _ in range(kills.times):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=env)
        try:
            process.wait(rng.uniform(kills.earliest, kills.latest))
            break  # done before it could be killed
        except subprocess.TimeoutExpired:
            family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        hit += 1
        orphans += outlived(family)
        after()
    for start in range(1, STARTS + 1):
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=env)
        if done.returncode == 0:
            break
        print(f"   start {start} after the last kill ended with", done.returncode, (done.stderr or done.stdout).strip().splitlines()[-1:])
    return {"kills": hit, "orphans": orphans, "seconds": time.monotonic() - began}


def outlived(family: list[psutil.Process]) -> int:
    """Return the number of processes that still live after the grace, and end them, so that the next start meets none of them."""
    deadline = time.monotonic() + GRACE_S
    while (left := [p for p in family if lives(p)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        process.kill()
    return len(left)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def mlflow_runs(database: Path, key: str) -> tuple[int, int]:
    """Return (runs of a trial that has another one, runs called running)."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id], max_results=50_000)]
    runs = [r for r in runs if key in r.data.tags]
    return len(runs) - len({r.data.tags[key] for r in runs}), sum(r.info.status == "RUNNING" for r in runs)


def ours(root: Path, trials: int, kills: Kills, env: dict[str, str]) -> dict[str, Any]:
    (root / "tiny.py").write_text(STUDY.format(trials=trials))
    ledger, again = Ledger(root / "results", "tiny"), [0]

    def to_do_again() -> None:
        for ask in ledger.asks():
            if ledger.result(ask.trial_id) is None:
                checkpoints = [int(n) for n in ledger.trial_folder(ask.trial_id).names("checkpoint") if n.isdigit()]
                again[0] += max(len(ledger.epochs(ask.trial_id)) - max(checkpoints, default=0), 0)

    command = [sys.executable, "-m", "study.sweep", str(root / "tiny.py"), "--results", str(root / "results")]
    ran = killed_until_done(command, kills, to_do_again, env)
    asks, results = ledger.asks(), ledger.results()
    ended = [r for r in results.values() if r.outcome is not Outcome.FAILED]
    epochs = [[e.epoch for e in ledger.epochs(a.trial_id)] for a in asks]
    runs, running = mlflow_runs(root / "results" / "mlflow.db", KEY)
    return ran | {
        "planned": trials, "lost": max(trials - len(ended), 0), "doubled_trials": max(len(asks) - trials, 0), "doubled_runs": runs,
        "zombie_trials": len(asks) - len(results), "zombie_runs": running,
        "epochs_repeated": again[0] + sum(len(e) - len(set(e)) for e in epochs),
    }  # fmt: skip


def baseline(root: Path, trials: int, kills: Kills, env: dict[str, str]) -> dict[str, Any]:
    import optuna

    ran = killed_until_done([sys.executable, "-m", "benchmarks.ray_restore", str(root), str(trials)], kills, lambda: None, env)
    results, log = root / "results.json", root / "trained.log"
    ended = json.loads(results.read_text()) if results.exists() else []
    trained = log.read_text().splitlines() if log.exists() else []
    runs, running = mlflow_runs(root / "mlflow.db", "trial_name")
    asked = optuna.load_study(study_name="tiny", storage=f"sqlite:///{root}/optuna.db").trials
    return ran | {
        "planned": trials, "lost": max(trials - len(ended), 0), "doubled_trials": max(len(asked) - trials, 0), "doubled_runs": runs,
        "zombie_trials": sum(t.state.name == "RUNNING" for t in asked), "zombie_runs": running,
        "epochs_repeated": len(trained) - sum(r["epoch"] for r in ended),
    }  # fmt: skip


def main() -> None:
    parser = arguments.parser(__doc__, "--json")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--earliest", type=float, default=10.0, help="seconds from a start to its kill, at least")
    parser.add_argument("--latest", type=float, default=60.0, help="and at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    kills = Kills(times=args.kills, earliest=args.earliest, latest=args.latest, seed=args.seed)
    out: dict[str, Any] = {}
    print(
        f"{args.trials} trials planned             kills   lost   doubled trials / runs   zombie trials / runs   epochs "
        "repeated   orphans   seconds"
    )
    for name, title, run in (("ours", "this system", ours), ("baseline", "Tuner.restore and OptunaSearch", baseline)):
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {"STUDY_CACHE": f"{folder}/cache", "PYTHONPATH": os.getcwd()}
            r = run(Path(folder), args.trials, kills, env)
        out[name] = r | {"doubled": r["doubled_trials"] + r["doubled_runs"], "zombies": r["zombie_trials"] + r["zombie_runs"]}
        print(
            f"{title:30s} {r['kills']:8d} {r['lost']:6d} {r['doubled_trials']:16d} / {r['doubled_runs']:<4d} "
            f"{r['zombie_trials']:15d} / {r['zombie_runs']:<4d} {r['epochs_repeated']:17d} {r['orphans']:9d} {r['seconds']:9.0f}",
            flush=True,
        )
    print("zero in N kills bounds the rate only below 3/N (95 %)")
    if args.json:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
