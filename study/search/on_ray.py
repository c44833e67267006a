"""The search on a Ray cluster: Ray Tune runs the plan, Ray Train wraps trials of several workers. The only importer of Ray.

One Tuner for all cells, so that the cluster never idles. Tune's own state files are not used: the ledger is the state.
A trial of one worker is the loop inside a Tune actor that is reused; of several, a TorchTrainer inside a Tune trial.
"""

import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
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
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "3600",  # a stopped trial may end slowly on a busy machine: after 2 s Tune drops the next one, and waits for it for ever
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
from study.files import Folder  # noqa: E402
from study.records import Ask, EpochRecord, Outcome, dumps  # noqa: E402
from study.search.conductor import Conductor  # noqa: E402
from study.signals import Interrupted  # noqa: E402
from study.training.run import Workspace, mark_out_of_memory, run_trial  # noqa: E402

log = logging.getLogger(__name__)
COLLECTIVE_TIMEOUT_S = 120  # a hung worker is found within this time; torch's default is 30 minutes
MAX_FAILURES = 2
WORKER = "worker"  # in a trial's folder: the Ray actor that trains it, by which Ray names whom it killed
LOST = "Ray's head at {} is lost; start it and run the same command again."
HEAD_LOST_S = 20  # the head answers nothing for so long: it is lost (Ray's own driver waits a minute and dies without a word)


Nodes = list[dict[str, float]]
"""What each living node of a cluster has."""


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

    def fit(self, nodes: Nodes) -> int:
        """How many trials run at once. Raises EnvironmentProblem naming need and have: Ray would wait for ever."""
        if self.workers > 1 and 0 < self.gpus_per_trial < self.workers:
            raise EnvironmentProblem(
                f"{self.workers} workers a trial need {self.workers} GPUs, one each (NCCL shares none), not {self.gpus_per_trial:g}; "
                "lower --workers or raise --gpus-per-trial."
            )
        need = self.per_worker
        most = sum(min(int(node.get(k, 0) / v + 1e-6) for k, v in need.items()) for node in nodes) // self.workers
        if most < 1:
            said = ", ".join(f"{v:g} {k}" for k, v in need.items())
            there = "; ".join(", ".join(f"{node.get(k, 0):g} {k}" for k in need) for node in nodes)
            raise EnvironmentProblem(
                f"a trial needs {said}{f' for each of {self.workers} workers' if self.workers > 1 else ''} but the cluster's nodes have {there}; "
                "lower --workers, --cpus-per-worker or --gpus-per-trial."
            )
        return min(most, self.concurrent or most)


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Nodes]:
    """Connects to a cluster, or starts one on this machine; yields its nodes' resources. Raises EnvironmentProblem."""
    address = address or os.environ.get("RAY_ADDRESS") or None
    started = address is None
    env = {k: os.environ[k] for k in os.environ if k.startswith(("STUDY_", "RAY_TRAIN_", "TUNE_"))}
    env.setdefault("PYTHONPATH", os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")])))
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
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
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray puts its own in their place, which dump a stack and die
            signal.signal(number, handler)
    over = threading.Event()
    threading.Thread(target=_watch_head, args=(ray.get_runtime_context().gcs_address, over), daemon=True).start()
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        over.set()
        ray.shutdown()


def _watch_head(address: str, over: threading.Event) -> None:
    """Ends the process with 4 when the head is lost: calls into Ray would hang or abort, and the ledger is on disk already."""
    silent = 0
    while not over.wait(HEAD_LOST_S / 4):
        silent = 0 if _answers(address) else silent + 1
        if silent >= 4 and not over.is_set():
            print("error: " + LOST.format(address), file=sys.stderr, flush=True)
            os._exit(EnvironmentProblem.exit_code)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_LOST_S / 4).close()
    except OSError:
        return False
    return True


def run(
    conductor: Conductor,
    workspace: Callable[[Ask], Workspace],
    *,
    total: int,
    resources: Resources,
    nodes: Nodes,
    storage: str,
    predict_test: bool,
    interrupted: Interrupted,
) -> None:
    """Runs the plan to its end; `total` bounds the number of trials left. Errors end their trial as failed and the rest goes on.

    Tune itself breaks off when a worker is killed for want of memory, and drops a trial whose actor it cannot reuse in time: what
    was running then is asked for again, in another round. Raises EnvironmentProblem when the head is lost, or nothing moves any more.
    """
    driver = _Driver(conductor, workspace, resources, storage, predict_test, interrupted)
    stuck, deaths = 0, Counter[str]()
    while True:
        before = conductor.events
        said = _round(driver, total, resources.fit(nodes))
        if driver.problem:
            raise EnvironmentProblem(driver.problem)
        if interrupted.is_set() or not (conductor.running or said):
            return
        _require_head()
        for ask in list(conductor.running.values()):
            if _out_of_memory(said) and _worker_of(Folder(workspace(ask).folder)) in said:
                mark_out_of_memory(Folder(workspace(ask).folder))
                deaths[ask.trial_id] += 1
            if deaths[ask.trial_id] > MAX_FAILURES:
                conductor.end(ask.trial_id, Outcome.FAILED, "out of memory, with half the batch at a time too")
        stuck = 0 if conductor.events > before else stuck + 1
        if stuck > MAX_FAILURES:
            raise EnvironmentProblem(f"Ray Tune breaks off again and again: {_first_line(said)}; run the same command again.")
        conductor.ask_again()


def _round(driver: "_Driver", total: int, at_once: int) -> str:
    """One Tuner, to its end; what it said when it broke off, else nothing."""
    several = driver.resources.workers > 1
    if several:
        # the driver of a Train run holds nothing but must name something
        trainable = tune.with_resources(_ddp_trial, {"CPU": 0, "node:__internal_head__": 0.001})
    else:
        trainable = tune.with_resources(_trial, driver.resources.per_worker)
    for name in ("ray.tune", "ray.air"):  # they miss files of their own that nobody reads, and tell every error twice
        logging.getLogger(name).setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(driver),
            scheduler=_Scheduler(driver),
            num_samples=total,
            max_concurrent_trials=at_once,
            reuse_actors=not several,
            trial_dirname_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=driver.storage,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=1 if several else MAX_FAILURES),
            callbacks=[_Recoveries()],
        ),
    )
    driver.interrupted.raises = True
    try:
        tuner.fit()
    except KeyboardInterrupt:
        return ""  # workers have written their checkpoints; the cluster ends them as we leave
    except Exception as error:
        return str(error) or type(error).__name__
    finally:
        driver.interrupted.raises = False
    return ""


def _require_head() -> None:
    address = ray.get_runtime_context().gcs_address
    if not _answers(address):
        raise EnvironmentProblem(LOST.format(address))


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)


@dataclass(kw_only=False)
class _Driver:
    """What a plan's rounds, and in them Tune's searcher and scheduler share. Tune pickles both; nothing of ours lives in those files."""

    conductor: Conductor
    workspace: Callable[[Ask], Workspace]
    resources: Resources
    storage: str
    predict_test: bool
    interrupted: Interrupted
    problem: str = ""  # of the environment (a full disk): every other trial would meet it too, so the sweep ends

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @property
    def over(self) -> bool:
        return bool(self.problem) or self.interrupted.is_set()


class _Searcher(Searcher):
    """Ray Tune's way to ask. What Tune calls a trial id is its own; ours travels in the config."""

    def __init__(self, driver: _Driver) -> None:
        super().__init__(metric="objective", mode="max")
        self._driver = driver
        self._ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        d = self._driver
        if d.over:
            return Searcher.FINISHED
        try:
            ask = d.conductor.ask()
        except EnvironmentProblem as error:
            d.problem = str(error)
            return Searcher.FINISHED
        if ask is None:
            return Searcher.FINISHED
        self._ids[trial_id] = ask.trial_id
        return {
            "ask": ask.as_dict(),
            "work": dataclasses.asdict(d.workspace(ask)),
            "resources": dataclasses.asdict(d.resources),
            "storage": d.storage,
            "predict_test": d.predict_test,
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        d, ours = self._driver, self._ids.get(trial_id)
        if ours is None or d.over:
            return
        result = result or {}
        if result.get("problem"):
            d.problem = str(result["problem"])
            return
        try:
            if error:
                d.conductor.end(ours, Outcome.FAILED, _Scheduler.errors.pop(ours, "its worker died"))
            else:
                d.conductor.end(ours, Outcome(result.get("outcome", Outcome.FAILED)), str(result.get("reason", "ended without a word")))
        except EnvironmentProblem as problem:
            d.problem = str(problem)

    def save(self, checkpoint_path: str) -> None:
        del checkpoint_path

    def restore(self, checkpoint_path: str) -> None:
        del checkpoint_path


class _Scheduler(FIFOScheduler):
    """Ray Tune's way to stop a trial early: one successive halving per cell, kept by the plan."""

    errors: dict[str, str] = {}

    def __init__(self, driver: _Driver) -> None:
        super().__init__()
        self._driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = trial.config["ask"]["trial_id"]
        if self._driver.over:
            return TrialScheduler.STOP
        if "record" not in result or result.get("outcome"):
            return TrialScheduler.CONTINUE  # the last report: how it ended
        try:
            stop = self._driver.conductor.epoch(trial_id, EpochRecord.from_dict(json.loads(result["record"])))
        except EnvironmentProblem as error:
            self._driver.problem, stop = str(error), True
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        text = _error_of(trial)
        reason = "out of memory: its node ended its worker, again and again" if _out_of_memory(text) else _last_line(text)
        self.errors[trial.config["ask"]["trial_id"]] = reason


class _Recoveries(tune.Callback):
    """A trial whose worker ran out of memory goes on with half the batch at a time; the node's own killer leaves it no say."""

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _out_of_memory(_error_of(trial)):
            mark_out_of_memory(Folder(trial.config["work"]["folder"]))


def _error_of(trial: Any) -> str:
    try:
        return Path(trial.error_file).read_text() if trial.error_file else "its worker died"
    except OSError:
        return "its worker died"


def _out_of_memory(text: str) -> bool:
    # not "OOM": Ray names the kernel's OOM killer as a possible cause of every death
    return any(said in text for said in ("OutOfMemoryError", "memory pressure", "running low on memory"))


def _worker_of(trial: Folder) -> str:
    return (trial.read(WORKER) or b"?").decode()


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "no reason given"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "its worker died"


# ---- in the workers ----------------------------------------------------------------------------------


def _payload(record: EpochRecord) -> dict[str, Any]:
    # as text: Tune flattens nested values before it hands them to schedulers
    return {"record": dumps(record.as_dict()), "objective": record.objective, "epoch": record.epoch}


def _ending(config: dict[str, Any], report: Callable[[EpochRecord], bool]) -> dict[str, Any]:
    try:
        if (actor := ray.get_runtime_context().get_actor_id()) is not None:
            Folder(config["work"]["folder"]).write(WORKER, actor.encode())
        ending = run_trial(
            TrialConfig.from_dict(config["ask"]["config"]), Workspace(**config["work"]), report, predict_test=config["predict_test"]
        )
    except EnvironmentProblem as error:  # a full disk is no trial's fault: it stays unfinished
        return {"problem": str(error), "objective": -1.0}
    except StudyError as error:  # the configuration's own fault: trying again would not help
        return {"outcome": Outcome.FAILED.value, "reason": str(error), "objective": -1.0}
    except (Exception, SystemExit) as error:  # told in plain words: the error itself may not survive the way to the driver
        raise RuntimeError(f"{type(error).__name__}: {error}") from None
    return {"outcome": ending.outcome.value, "reason": ending.reason, "objective": -1.0}


class _Stopped(BaseException):
    """Tune ends a trial's thread by SystemExit from a report; training code that exits is a failure, and must not look alike."""


def _trial(config: dict[str, Any]) -> None:
    """One worker: the loop in the Tune actor itself."""

    def report(record: EpochRecord) -> bool:
        try:
            tune.report(_payload(record))
        except SystemExit:
            raise _Stopped from None
        return False

    try:
        tune.report(_ending(config, report))
    except _Stopped:
        sys.exit(0)  # as Tune meant it: returning instead would make it wait for one more report


def _ddp_worker(config: dict[str, Any]) -> None:
    """One of several workers; Ray Train has made the process group. Every worker reports: it is a barrier."""

    def report(record: EpochRecord) -> bool:
        ray.train.report(_payload(record))
        return False

    ray.train.report(_ending(config, report))


def _ddp_trial(config: dict[str, Any]) -> None:
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    class Reports(TuneReportCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            if any(_out_of_memory(str(e)) for e in worker_exceptions.values()):
                mark_out_of_memory(Folder(config["work"]["folder"]))

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
            callbacks=[Reports()],
            failure_config=ray.train.FailureConfig(max_failures=1, controller_failure_limit=3),  # and Tune's one around it
        ),
    ).fit()
