"""One Slurm node's part of a job's own Ray cluster, started by slurm.sh: `python -m cluster.slurm_node RAY PORT [HEAD]`.

With HEAD the node joins, else it is the head. The job's parts know each other by files in one folder, which holds its token too: `up`
once the head is there, `over` once all have to end, and `away.*` for each node that joined and has ended.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from study.console.arguments import Parser
from study.console.command import command
from study.errors import EnvironmentProblem

TRIES = 6  # starts; Ray gives up on a busy machine after 15 and 30 s, fixed in its code
STARTED = "Ray runtime started"
OTHERS_S = 25  # how long the head waits for the others: a node that ends tells the head, and waits 30 s for one that is gone
KIND_S = 10.0  # until what is left over is killed


@dataclass(frozen=True, kw_only=True)
class Part:
    """The part of a node, from the variables of Slurm and slurm.sh."""

    ray: str  # the program
    port: str  # of the head
    head: str  # its host; empty where this is the head
    folder: Path  # Ray's own, on this node's disk
    shared: Path  # of the whole job
    nodes: int  # of the job
    number: str  # of this node
    cpus: str
    gpus: str
    tries: int

    @classmethod
    def of(cls, args: argparse.Namespace, env: Mapping[str, str]) -> Self:
        """Return the part. Raises EnvironmentProblem where no job of slurm.sh started it."""
        if missing := [name for name in ("SLURM_JOB_ID", "RAY_AUTH_TOKEN_PATH") if name not in env]:
            raise EnvironmentProblem(f"{missing[0]} is not set: this is started by cluster/slurm.sh on each node of its job.")
        return cls(
            ray=args.ray,
            port=args.port,
            head=args.head,
            folder=Path(f"/tmp/ray-{env['SLURM_JOB_ID']}"),  # noqa: S108  # on the node's own disk, and as short as sockets' paths must be
            shared=Path(env["RAY_AUTH_TOKEN_PATH"]).parent,
            nodes=int(env.get("SLURM_JOB_NUM_NODES") or 1),
            number=env.get("SLURM_NODEID") or "0",
            cpus=env.get("SLURM_CPUS_PER_TASK") or env.get("SLURM_CPUS_ON_NODE") or "1",
            gpus=env.get("SLURM_GPUS_ON_NODE") or "0",
            tries=int(env.get("RAY_TRIES") or TRIES),
        )

    @property
    def over(self) -> bool:
        return (self.shared / "over").exists()

    def command(self) -> list[str]:
        """Return what starts Ray. What would be a fixed number is drawn, and sizes are told: another job may run on this very node."""
        sizes = [f"--num-cpus={self.cpus}", f"--num-gpus={self.gpus}", "--min-worker-port=0", "--max-worker-port=0"]
        sizes += ["--object-store-memory=200000000", "--log-color", "false"]  # trials pass nothing through the store
        own = [f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={self.folder}"]
        if self.head:
            where = [f"--address={self.head}:{self.port}"]
        else:
            where = ["--head", f"--port={self.port}", "--include-dashboard=false", f"--ray-client-server-port={free_port()}"]
        return [self.ray, "start", "--block", *sizes, *own, *where]


class Started:
    """A started Ray and its output, which is kept in its folder and passed on."""

    def __init__(self, part: Part) -> None:
        log = part.folder / "start.log"
        niceness = os.environ.get("RAY_worker_niceness") or "0"  # 15 without: trials would wait for every other job on the node
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                part.command(), stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "RAY_worker_niceness": niceness}
            )
        self._log, self._said = log.open(errors="replace"), ""

    @property
    def up(self) -> bool:
        return STARTED in self._said

    def runs(self) -> bool:
        """Return whether it still runs, having passed on what it said."""
        ended = self.process.poll() is not None
        new = self._log.read()
        print(new, end="", flush=True)
        self._said += new
        return not ended

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def left(folder: Path) -> list[psutil.Process]:
    """Return the processes of this node's Ray that go on without it: they write into the job's own folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if process.pid != os.getpid() and ("ray::" in line or "/ray/" in line):
                found += [process] if any(f.path.startswith(f"{folder}/") for f in process.open_files()) else []
        except psutil.Error:  # it has ended, or is another user's
            continue
    return found


def clear_up(folder: Path) -> None:
    """End what is left: an agent may not notice for minutes that its Ray has ended."""
    end = time.monotonic() + KIND_S
    while processes := left(folder):
        for process in processes:
            try:
                process.send_signal(signal.SIGTERM if time.monotonic() < end else signal.SIGKILL)
            except psutil.Error:
                continue
        time.sleep(0.5)


def run(part: Part, stopped: list[int]) -> int:
    """Run this node's Ray until the job is over, or a signal came (`stopped`); return the exit code.

    A Ray that did not start is started again; one that was up and ended is lost.
    """
    part.folder.mkdir(parents=True, exist_ok=True)
    for again in reversed(range(part.tries)):
        ray = Started(part)
        while ray.runs():
            if stopped or part.over:  # a step that slurm.sh ended by a signal would be shot, and called failed
                if not stopped:
                    wait_for_others(part)
                ray.end()
                if part.head:
                    (part.shared / f"away.{part.number}.{socket.gethostname()}").touch()
                return 0
            if not part.head and ray.up:
                (part.shared / "up").touch()
            time.sleep(1)
        code, host = ray.process.returncode, socket.gethostname()
        if not again or ray.up:
            print(f"slurm_node.py: Ray ended on {host} ({code})", file=sys.stderr)
            return code if code > 0 else 128 - code if code else 1
        print(f"slurm_node.py: Ray did not start on {host}. Again", file=sys.stderr)
        time.sleep(2)
    return 1


def wait_for_others(part: Part) -> None:
    """Wait until the head is the last, not for long."""
    end = time.monotonic() + OTHERS_S
    while not part.head and len(list(part.shared.glob("away.*"))) < part.nodes - 1 and time.monotonic() < end:
        time.sleep(1)


def parser() -> Parser:
    p = Parser(prog="python -m cluster.slurm_node", description=__doc__.split("\n")[0])
    p.add_argument("ray", help="the program")
    p.add_argument("port", help="of the head")
    p.add_argument("head", nargs="?", default="", help="the head's host. Without it this node is the head")
    return p


@command(parser, "")
def main(args: argparse.Namespace) -> int:
    part, stopped = Part.of(args, os.environ), list[int]()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    try:
        return run(part, stopped)
    finally:
        clear_up(part.folder)


if __name__ == "__main__":
    sys.exit(main())
