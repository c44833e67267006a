"""The search on a Ray cluster: Ray Tune runs the plan, Ray Train wraps trials of several workers. The only importer of Ray.

One Tuner for all cells, so that the cluster never idles. Tune's own state files are not used: the ledger is the state.
A trial of one worker is the loop inside a Tune actor that is reused; of several, a TorchTrainer inside a Tune trial.
"""

import contextlib
import dataclasses
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

SETTINGS = {  # read by Ray when it is imported or started
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # every report waits for a poll; the default of 2 s is felt
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "120",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # its state files are never read
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the sweep has its own
    "RAY_memory_usage_threshold": "0.95",
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
import ray.train  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from study.config import TrialConfig  # noqa: E402
from study.errors import EnvironmentProblem, StudyError  # noqa: E402
from study.records import Ask, EpochRecord, Outcome, dumps  # noqa: E402
from study.search.conductor import Conductor  # noqa: E402
from study.signals import Interrupted  # noqa: E402
from study.training.run import Workspace, run_trial  # noqa: E402

log = logging.getLogger(__name__)
COLLECTIVE_TIMEOUT_S = 120  # a hung worker is found within this time; torch's default is 30 minutes
MAX_FAILURES = 2


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial takes."""

    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_trial: float = 0.0  # a fraction lets small trials share a GPU
    concurrent: int | None = None

    @property
    def per_worker(self) -> dict[str, float]:
        needs = {"CPU": self.cpus_per_worker}
        return needs | {"GPU": self.gpus_per_trial / self.workers} if self.gpus_per_trial else needs

    def fit(self, have: dict[str, float]) -> int:
        """How many trials run at once. Raises EnvironmentProblem naming need and have: Ray would wait for ever."""
        need = {k: v * self.workers for k, v in self.per_worker.items()}
        most = min(int(have.get(k, 0) / v + 1e-6) for k, v in need.items())
        if most < 1:
            said = ", ".join(f"{v:g} {k}" for k, v in need.items())
            there = ", ".join(f"{have.get(k, 0):g} {k}" for k in need)
            raise EnvironmentProblem(
                f"a trial needs {said} but the cluster has {there}; lower --workers, --cpus-per-worker or --gpus-per-trial."
            )
        return min(most, self.concurrent or most)


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Connects to a cluster, or starts one on this machine; yields its resources. Raises EnvironmentProblem."""
    address = address or os.environ.get("RAY_ADDRESS") or None
    started = address is None
    env = {k: os.environ[k] for k in os.environ if k.startswith(("STUDY_", "RAY_TRAIN_", "TUNE_"))}
    env.setdefault("PYTHONPATH", os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")])))
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": env},
            log_to_driver=False,
            configure_logging=False,
            **({"include_dashboard": False, "object_store_memory": 200_000_000} if started else {}),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EnvironmentProblem(f"cannot reach Ray at {address or 'this machine'}: {first}; check --address, or use --local.") from None
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def run(
    conductor: Conductor,
    workspace: Callable[[Ask], Workspace],
    *,
    total: int,
    resources: Resources,
    have: dict[str, float],
    storage: str,
    predict_test: bool,
    interrupted: Interrupted,
) -> None:
    """Runs the plan to its end; `total` bounds the number of trials left. Errors end their trial as failed and the rest goes on."""
    several = resources.workers > 1
    if several:
        # the driver of a Train run holds nothing but must name something
        trainable = tune.with_resources(_ddp_trial, {"CPU": 0, "node:__internal_head__": 0.001})
    else:
        trainable = tune.with_resources(_trial, resources.per_worker)
    at_once = resources.fit(have)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it misses files of its own that nobody reads
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(conductor, workspace, resources, storage, predict_test, interrupted),
            scheduler=_Scheduler(conductor, interrupted),
            num_samples=total,
            max_concurrent_trials=at_once,
            reuse_actors=not several,
            trial_dirname_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=storage,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    interrupted.raises = True
    try:
        tuner.fit()
    except KeyboardInterrupt:
        return  # workers have written their checkpoints; the cluster ends them as we leave
    finally:
        interrupted.raises = False
    for trial_id in [] if interrupted.is_set() else list(conductor.running):
        conductor.end(trial_id, Outcome.FAILED, "its worker was lost")


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)


class _Searcher(Searcher):
    """Ray Tune's way to ask. What Tune calls a trial id is its own; ours travels in the config."""

    def __init__(
        self,
        conductor: Conductor,
        workspace: Callable[[Ask], Workspace],
        resources: Resources,
        storage: str,
        predict_test: bool,
        interrupted: threading.Event,
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._parts = (conductor, workspace, resources, storage, predict_test, interrupted)
        self._ids: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher; nothing of ours lives in that file

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        conductor, workspace, resources, storage, predict_test, interrupted = self._parts
        if interrupted.is_set():
            return Searcher.FINISHED
        ask = conductor.ask()
        if ask is None:
            return Searcher.FINISHED
        self._ids[trial_id] = ask.trial_id
        return {
            "ask": ask.as_dict(),
            "work": dataclasses.asdict(workspace(ask)),
            "resources": dataclasses.asdict(resources),
            "storage": storage,
            "predict_test": predict_test,
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        conductor = self._parts[0]
        if trial_id in self._ids and not self._parts[5].is_set():
            outcome = Outcome((result or {}).get("outcome", Outcome.FAILED)) if not error else Outcome.FAILED
            reason = str((result or {}).get("reason", "")) if not error else _Scheduler.errors.pop(self._ids[trial_id], "its worker died")
            conductor.end(self._ids[trial_id], outcome, reason)

    def save(self, checkpoint_path: str) -> None:
        del checkpoint_path

    def restore(self, checkpoint_path: str) -> None:
        del checkpoint_path


class _Scheduler(FIFOScheduler):
    """Ray Tune's way to stop a trial early: one successive halving per cell, kept by the plan."""

    errors: dict[str, str] = {}

    def __init__(self, conductor: Conductor, interrupted: threading.Event) -> None:
        super().__init__()
        self._conductor, self._interrupted = conductor, interrupted

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = trial.config["ask"]["trial_id"]
        if self._interrupted.is_set():
            return TrialScheduler.STOP
        if "record" not in result or result.get("outcome"):
            return TrialScheduler.CONTINUE  # the last report: how it ended
        stop = self._conductor.epoch(trial_id, EpochRecord.from_dict(json.loads(result["record"])))
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        trial_id = trial.config["ask"]["trial_id"]
        text = str(trial.get_pickled_error() or trial.error_file or "its worker died")
        self.errors[trial_id] = _last_line(text)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "its worker died"


# ---- in the workers ----------------------------------------------------------------------------------


def _payload(record: EpochRecord) -> dict[str, Any]:
    # as text: Tune flattens nested values before it hands them to schedulers
    return {"record": dumps(record.as_dict()), "objective": record.objective, "epoch": record.epoch}


def _ending(config: dict[str, Any], report: Callable[[EpochRecord], bool]) -> dict[str, Any]:
    try:
        ending = run_trial(
            TrialConfig.from_dict(config["ask"]["config"]), Workspace(**config["work"]), report, predict_test=config["predict_test"]
        )
    except StudyError as error:  # the configuration's own fault: trying again would not help
        return {"outcome": Outcome.FAILED.value, "reason": str(error), "objective": -1.0}
    return {"outcome": ending.outcome.value, "reason": ending.reason, "objective": -1.0}


def _trial(config: dict[str, Any]) -> None:
    """One worker: the loop in the Tune actor itself."""

    def report(record: EpochRecord) -> bool:
        tune.report(_payload(record))
        return False

    tune.report(_ending(config, report))


def _ddp_worker(config: dict[str, Any]) -> None:
    """One of several workers; Ray Train has made the process group. Every worker reports: it is a barrier."""

    def report(record: EpochRecord) -> bool:
        ray.train.report(_payload(record))
        return False

    ray.train.report(_ending(config, report))


def _ddp_trial(config: dict[str, Any]) -> None:
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    resources = Resources(**config["resources"])
    gpu = resources.gpus_per_trial > 0
    TorchTrainer(
        _ddp_worker,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ray.train.ScalingConfig(num_workers=resources.workers, use_gpu=gpu, resources_per_worker=resources.per_worker),
        run_config=ray.train.RunConfig(
            name=f"train-{config['ask']['trial_id']}",
            storage_path=config["storage"],
            callbacks=[TuneReportCallback()],
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES, controller_failure_limit=3),
        ),
    ).fit()
