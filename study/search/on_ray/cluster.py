"""Connecting to Ray, or starting it here; what its nodes have and what a trial takes of them."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.errors import EnvironmentProblem, StudyError
from study.files import Folder

LOST = "Ray's head at {} is lost; start it and run the same command again."
SHARED_S = 120  # a node that is asked for the first time starts a worker
NO_NODE = "no node of the Ray cluster at {} has been alive for {:.0f} s; look at them with `ray status`, start one and run the same command again."
NO_NODE_S = 60  # the head lives, but knows no node that does: Tune would wait for one for ever, without a word
HEAD_LOST_S = 20  # the head answers nothing for so long: it is lost (Ray's own driver waits a minute and dies without a word)

Nodes = list[dict[str, float]]
"""What each living node of a cluster has."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial takes."""

    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_trial: float = 0.0  # a fraction lets small trials share a GPU
    share_gpus: bool = False  # by the memory that the study's own trials were measured to take
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
            include_dashboard=False if started else None,
            object_store_memory=200_000_000 if started else None,
        )
    except Exception as error:  # a node that starts too slowly is a plain Exception
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EnvironmentProblem(f"cannot reach Ray at {address or 'this machine'}: {first}; check --address, or use --local.") from None
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray puts its own in their place, which dump a stack and die
            signal.signal(number, handler)
    over = threading.Event()
    gcs, nodes = ray.get_runtime_context().gcs_address, _Nodes()
    threading.Thread(target=nodes.watch, args=(over,), name="ray-nodes", daemon=True).start()
    threading.Thread(target=_watch_head, args=(gcs, nodes, over), name="ray-head", daemon=True).start()
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        over.set()
        ray.shutdown()


class _Nodes:
    """When a node was last known to live. Asked in a thread of its own: the question may hang as long as the head does."""

    def __init__(self) -> None:
        self.seen = time.monotonic()

    def watch(self, over: threading.Event) -> None:
        while not over.wait(HEAD_LOST_S / 4):
            with contextlib.suppress(Exception):  # an answer that does not come is none, whatever is raised in its place
                if any(node["Alive"] for node in ray.nodes()):
                    self.seen = time.monotonic()


def _watch_head(address: str, nodes: _Nodes, over: threading.Event) -> None:
    """Ends the process with 4 when the head or every node is lost: calls into Ray would hang or abort, and the ledger is on disk already."""
    silent = 0
    while not over.wait(HEAD_LOST_S / 4):
        silent = 0 if _answers(address) else silent + 1
        lost = LOST.format(address) if silent >= 4 else ""
        if not silent and time.monotonic() - nodes.seen > NO_NODE_S:
            lost = NO_NODE.format(address, NO_NODE_S)
        if lost and not over.is_set():
            print("error: " + lost, file=sys.stderr, flush=True)
            os._exit(EnvironmentProblem.exit_code)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_LOST_S / 4).close()
    except OSError:
        return False
    return True


def check_shared(folder: Folder) -> None:
    """Raises EnvironmentProblem naming the nodes that do not see `folder` as this process does: trials there would leave files behind."""
    name, mark = f".shared-{os.getpid()}", os.urandom(16)
    folder.write(name, mark)
    try:
        look = ray.remote(num_cpus=0)(_sees)
        nodes = [n for n in ray.nodes() if n["Alive"]]
        asked = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)).remote(folder.location, name, mark)
            for n in nodes
        ]
        blind = [n["NodeManagerAddress"] for n, seen in zip(nodes, ray.get(asked, timeout=SHARED_S), strict=True) if not seen]
    except ray.exceptions.GetTimeoutError:
        raise EnvironmentProblem(f"the cluster's nodes did not answer within {SHARED_S} s; look at them with `ray status`.") from None
    finally:
        folder.remove(name)
    if blind:
        raise EnvironmentProblem(
            f"{folder.location} is not the same folder on {', '.join(blind)} as here; choose --results on storage that every node shares."
        )


def _sees(location: str, name: str, mark: bytes) -> bool:
    try:
        return Folder(location).read(name) == mark
    except StudyError:
        return False


def require_head() -> None:
    address = ray.get_runtime_context().gcs_address
    if not _answers(address):
        raise EnvironmentProblem(LOST.format(address))
