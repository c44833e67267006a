"""The connection to Ray, or its start here; the resources of its nodes and those that a trial takes."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import ray

from study.console.progress import warn
from study.errors import EnvironmentProblem, StudyError
from study.search import RayDoesNotStart
from study.search.on_ray.nodes import Wanted, alive, ask, check, first_line, problems
from study.search.on_ray.python_of_workers import check_python
from study.search.resources import Nodes
from study.storage.options import check_address

LOST = "Ray's head at {} is lost. Start it and run the same command again."
NO_NODE = (
    "no node of the Ray cluster at {} has been alive for {:.0f} s. Look at them with `ray status`, start one and run the "
    "same command again."
)
NO_NODE_S = 60  # the head lives, but knows no node that does: Tune would wait for one for ever, without a word
PASSED_ON = ("STUDY_", "RAY_TRAIN_", "TUNE_", "GLOO_", "NCCL_", "OMP_WAIT_POLICY")  # variables of this shell that hold for every worker
REACHED_S = 12.0  # most time until a wrong address is said
HEAD_LOST_S = 20  # the head answers nothing for so long: it is lost (Ray's own driver waits a minute and dies without a word)


def _worth_saying(record: logging.LogRecord) -> bool:
    """Return False for Ray's note that tokens are required, as they should be; the opposite note is shown."""
    return "Token authentication is enabled" not in record.getMessage()


logging.getLogger("ray._private.authentication.authentication_token_setup").addFilter(_worth_saying)


class Connected:
    """A connected cluster. Nodes that join later are checked as the first were; `on_unfit` is called with one that is not fit."""

    def __init__(self, dashboard: str, started: bool) -> None:
        self.started = started  # here, for this study alone
        self.dashboard = dashboard  # HOST:PORT, as Ray says it; empty where there is none
        self.nodes: Nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.on_unfit: Callable[[str], None] = warn
        self.seen = time.monotonic()  # when a node was last known to live
        self._wanted: Wanted | None = None
        self._fit: set[str] = set()

    def check(self, wanted: Wanted) -> None:
        """Raise EnvironmentProblem unless every node is fit for a study; from then on each that joins is checked too."""
        nodes = alive()
        check(wanted, nodes)
        self._fit, self._wanted = set(nodes), wanted

    def watch(self, over: threading.Event) -> None:
        """Watch for new nodes in a thread of its own, since a request may hang as long as the head does."""
        while not over.wait(HEAD_LOST_S / 4):
            with contextlib.suppress(Exception):  # an answer that does not come is none, whatever is raised in its place
                nodes = alive()
                if nodes:
                    self.seen = time.monotonic()
                joined = {n: a for n, a in nodes.items() if n not in self._fit}
                if self._wanted is not None and joined:
                    self._fit |= set(joined)
                    threading.Thread(target=self._look_at, args=(joined, self._wanted, over), name="ray-joined", daemon=True).start()

    def _look_at(self, joined: dict[str, str], wanted: Wanted, over: threading.Event) -> None:
        for node, address in joined.items():
            try:
                found = problems(wanted, ask(wanted, {node: address}))
            except StudyError as error:
                found = []
                if not over.is_set():
                    warn(f"a node that joined was not looked at: {error}")
            if found and node in alive() and not over.is_set():  # one that went again harms nobody
                self.on_unfit(f"a node that joined is not fit: {found[0]}")


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Connected]:
    """Connect to a cluster, or start one on this machine. Raises EnvironmentProblem, also for Ray's own errors."""
    option = "--address" if address else "RAY_ADDRESS"  # who named it, for what is advised
    address = address or os.environ.get("RAY_ADDRESS") or None
    started = address is None
    if address is not None:
        _require_ray_at(address, option)
    env = {k: os.environ[k] for k in os.environ if k.startswith(PASSED_ON)}
    env.setdefault("PYTHONPATH", os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")])))
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        context = ray.init(
            address=address,
            runtime_env={"env_vars": env},
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=False if started else None,
            object_store_memory=200_000_000 if started else None,
        )
    except Exception as error:  # a node that starts too slowly is a plain Exception
        ray.shutdown()  # what was half connected could not be tried again
        if started:
            raise RayDoesNotStart(f"Ray does not start on this machine ({first_line(error).rstrip('.')}).") from None
        if str(error).startswith("Version mismatch"):  # the lines after the first say which
            told = " ".join(str(error).split())
            raise EnvironmentProblem(f"Ray at {address} is not the Ray here. {told}. Install requirements.lock on both.") from None
        raise EnvironmentProblem(  # Ray says neither
            f"cannot reach Ray at {address}: {first_line(error)}. Check {option} and that this shell has the cluster's token "
            f"(RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token){_token_mode()}."
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray puts its own in their place, which dump a stack and die
                signal.signal(number, handler)
    over = threading.Event()
    try:
        check_python(ray.get_runtime_context().runtime_env, job="RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ)
        gcs, connected = ray.get_runtime_context().gcs_address, Connected(context.dashboard_url or "", started)
        threading.Thread(target=connected.watch, args=(over,), name="ray-nodes", daemon=True).start()
        threading.Thread(target=_watch_head, args=(gcs, address or gcs, connected, over), name="ray-head", daemon=True).start()
        yield connected
    except ray.exceptions.RayError as error:
        raise EnvironmentProblem(
            f"Ray at {address or 'this machine'} broke off: {first_line(error)}. Run the same command again."
        ) from None
    finally:
        over.set()
        ray.shutdown()


def _token_mode() -> str:
    """Return a hint on RAY_AUTH_MODE where no token is sent: Ray does not know that a cluster started elsewhere needs one (2.60)."""
    return "" if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" else " and RAY_AUTH_MODE=token, without which none is sent"


def _require_ray_at(address: str, option: str) -> None:
    """Raise ConfigError for an invalid address, EnvironmentProblem within REACHED_S where no Ray head answers: Ray would try for
    minutes. `option`: what named the address."""
    check_address(address)
    if address in ("auto", "local"):
        return
    if not _answers(address.rpartition("://")[2].partition("/")[0]):
        raise EnvironmentProblem(
            f"nothing answers at {address}: start the head there (`ray start --head`), or correct {option}."
        )
    if "://" in address:
        return
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return  # a plain question would be refused
    import grpc  # comes with Ray

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=REACHED_S / 2)
        except grpc.FutureTimeoutError:
            raise EnvironmentProblem(
                f"what answers at {address} is no Ray head: {option} takes the head's own port (6379 by default), not the dashboard's."
            ) from None


def _watch_head(address: str, named: str, nodes: Connected, over: threading.Event) -> None:
    """End the process with 4 when the head or every node is lost: calls into Ray would hang or abort, and the ledger is on disk
    already. `named`: the address as it was given."""
    silent = 0
    while not over.wait(HEAD_LOST_S / 4):
        silent = 0 if _answers(address) else silent + 1
        lost = LOST.format(named) if silent >= 4 else ""
        if not silent and time.monotonic() - nodes.seen > NO_NODE_S:
            lost = NO_NODE.format(named, NO_NODE_S)
        if lost and not over.is_set():
            print("error: " + lost, file=sys.stderr, flush=True)
            os._exit(EnvironmentProblem.exit_code)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_LOST_S / 4).close()
    except (OSError, ValueError, OverflowError):  # also for what is no port
        return False
    return True


def require_head() -> None:
    address = ray.get_runtime_context().gcs_address
    if not _answers(address):
        raise EnvironmentProblem(LOST.format(address))
