"""The code that runs on the cluster's nodes: a trial of one worker in a reused Tune actor, a trial of several under Ray Train.

Heavy modules are imported where they are used: a trial of several workers is four processes or more, and those that train nothing would
spend seconds on loading torch.
"""

import functools
import platform
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ray

from study.errors import EnvironmentProblem, StudyError
from study.records import Ask, EpochRecord, Outcome, dumps
from study.search.on_ray.notice import leaving
from study.search.resources import Resources
from study.storage.folder import Folder

COLLECTIVE_TIMEOUT_S = 120  # a hung worker is found within this time; torch's default is 30 minutes
WORKER = "worker"  # in a trial's folder: the Ray actor that trains it, by which Ray names whom it killed


def out_of_memory(text: str) -> bool:
    # not "OOM": Ray names the kernel's OOM killer as a possible cause of every death
    return any(said in text for said in ("OutOfMemoryError", "memory pressure", "running low on memory"))


def _payload(record: EpochRecord) -> dict[str, Any]:
    # as text: Tune flattens nested values before it hands them to schedulers
    return {"record": dumps(record.as_dict()), "objective": record.objective, "epoch": record.epoch}


def ending(config: dict[str, Any], report: Callable[[EpochRecord], bool], whole_cluster: bool = False) -> dict[str, Any]:
    """Run a trial and return its ending as its last report: an outcome and its reason, or a fault of the node that ends the sweep.

    `whole_cluster`: a notice that any node will be taken away counts as a notice for this one.
    """
    from study.question.trial_config import TrialConfig
    from study.run import run_trial
    from study.search.plans import shows_curve
    from study.storage.places import Places

    if problem := _blind(config):
        return {"problem": problem, "objective": -1.0}
    try:
        if (actor := ray.get_runtime_context().get_actor_id()) is not None:
            Folder(config["places"]["folder"]).write(WORKER, actor.encode())
        ask = Ask.from_dict(config["ask"])
        done = run_trial(
            TrialConfig.from_dict(ask.config),
            Places(**config["places"]),
            report,
            measurements=tuple(config["measurements"]),
            curve=shows_curve(ask),
            stops=config["stops"],
            leaving=leaving(whole_cluster),
        )
    except EnvironmentProblem as error:  # a full disk is no trial's fault: it stays unfinished
        return {"problem": str(error), "objective": -1.0}
    except StudyError as error:  # the configuration's own fault: trying again would not help
        return {"outcome": Outcome.FAILED.value, "reason": str(error), "objective": -1.0}
    except (Exception, SystemExit) as error:  # told in plain words: the error itself may not survive the way to the driver
        raise RuntimeError(f"{type(error).__name__}: {error}") from None
    return {"outcome": done.outcome.value, "reason": done.reason, "objective": -1.0}


def _blind(config: dict[str, Any]) -> str:
    """Return why this node cannot see what the sweep wrote, or an empty text. Such a node must not train: its files would stay behind.

    Every training asks, so even the newest node is checked.
    """
    try:
        folder = Folder(config["places"]["folder"])
        if folder.exists("config.json"):
            return ""
        why = f"does not see {folder.shown('config.json')}, which the sweep wrote"
    except StudyError as error:
        why = f"cannot look at it ({error})"
    return (
        f"node {platform.node()} {why}: every node must see the same --results folder. Mend or end the node, then run the same "
        "command again."
    )


Call = Callable[[], dict[str, Any]]


@functools.cache
def _calls() -> "queue.SimpleQueue[tuple[Call, Future[dict[str, Any]]]]":
    """Return a queue whose calls run in one thread, where all trials of a reused actor train, one after the other.

    Tune starts a thread a trial, and cuDNN's choice of a kernel for each shape, seconds of trying, is kept by thread (`thread_local` in
    torch's Conv_v8.cpp). It is a daemon thread, as Tune's own are and an executor's is not: a process that should end does not wait for a
    trial.
    """
    calls: queue.SimpleQueue[tuple[Call, Future[dict[str, Any]]]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            call, ended = calls.get()
            try:
                ended.set_result(call())
            except BaseException as error:  # whoever waits for it raises it
                ended.set_exception(error)

    threading.Thread(target=work, name="trials", daemon=True).start()
    return calls


def in_one_thread(call: Call) -> dict[str, Any]:
    ended: Future[dict[str, Any]] = Future()
    _calls().put((call, ended))
    return ended.result()


class _Stopped(BaseException):
    """A stop from Tune, which ends a trial's thread by SystemExit from a report. Training code that exits is a failure and must look
    different."""


def one_worker(config: dict[str, Any]) -> None:
    """Train with one worker, in the Tune actor itself."""
    from ray import tune

    def report(record: EpochRecord) -> bool:
        try:
            tune.report(_payload(record))
        except SystemExit:
            raise _Stopped from None
        return False

    try:
        tune.report(in_one_thread(lambda: ending(config, report)))
    except _Stopped:
        sys.exit(0)  # as Tune meant it: returning instead would make it wait for one more report


def _ddp_worker(config: dict[str, Any]) -> None:
    """Train as one of several workers, for which Ray Train has made the process group. Every worker reports: it is a barrier."""
    import ray.train
    import torch.distributed

    told = [""] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(told, _blind(config))  # the others would wait for one that does not train
    if problem := next(filter(None, told), ""):
        ray.train.report({"problem": problem, "objective": -1.0})
        return

    def report(record: EpochRecord) -> bool:
        ray.train.report(_payload(record))
        return False

    ray.train.report(ending(config, report, whole_cluster=True))


def several_workers(config: dict[str, Any]) -> None:
    """Train with several workers in a Ray Train run, driven from a Tune trial."""
    import ray.train
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from study.search.on_ray.process_group import Released

    class Reports(TuneReportCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            if any(out_of_memory(str(e)) for e in worker_exceptions.values()):
                from study.run import mark_out_of_memory

                mark_out_of_memory(Folder(config["places"]["folder"]))

    resources = Resources(**config["resources"])
    gpu = resources.gpus_per_trial > 0
    TorchTrainer(
        _ddp_worker,
        train_loop_config=config,
        torch_config=Released(backend="nccl" if gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ray.train.ScalingConfig(num_workers=resources.workers, use_gpu=gpu, resources_per_worker=resources.per_worker),
        run_config=ray.train.RunConfig(
            name=f"train-{config['ask']['trial_id']}",
            storage_path=config["storage"],
            callbacks=[Reports()],  # type: ignore[list-item]  # Ray's stubs: a user callback is one too
            # Tune counts failures of its own around these
            failure_config=ray.train.FailureConfig(max_failures=1, controller_failure_limit=3),  # type: ignore[call-arg]
        ),
    ).fit()
