"""A Ray cluster of processes that the test starts and may kill: a head and nodes, on ports and in folders of their own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

RAY = str(Path(sys.executable).with_name("ray"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Head:
    def __init__(self, cpus: int = 2, gpus: int = 0, **env: str) -> None:
        self.port, self.dashboard = free_port(), free_port()
        self.folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Unix sockets must have short names
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token", **env}
        self.processes: list[subprocess.Popen] = []
        self._start(
            "--head",
            f"--port={self.port}",
            f"--dashboard-port={self.dashboard}",
            "--dashboard-host=127.0.0.1",
            "--object-store-memory=80000000",
            f"--temp-dir={self.folder}",
            f"--num-gpus={gpus}",
            cpus=cpus,
        )
        self._wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    def _start(self, *arguments: str, cpus: int) -> subprocess.Popen:
        agent = f"--dashboard-agent-listen-port={free_port()}"  # its default is one a machine: a second cluster's head would take no jobs
        command = [RAY, "start", *arguments, agent, f"--num-cpus={cpus}", "--disable-usage-stats", "--block"]
        process = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.processes.append(process)
        return process

    def node(self, cpus: int = 1) -> subprocess.Popen:
        """Start another node of the cluster on this machine."""
        return self._start(f"--address={self.address}", "--object-store-memory=80000000", cpus=cpus)

    def _wait(self) -> None:
        """Wait until it takes jobs: the agent that starts them is the last of its processes to be ready."""
        for _ in range(30):
            time.sleep(3)
            if self.cli("job", "submit", "--address", self.url, "--", "true").returncode == 0:
                return
        raise TimeoutError(f"the Ray head at {self.url} takes no jobs")

    def pid_of(self, name: str) -> psutil.Process:
        """Return a process of the head by its name: gcs_server, raylet."""
        return next(p for p in psutil.Process(self.processes[0].pid).children(recursive=True) if name in p.name())

    def cli(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run([RAY, *arguments], env=self.env, capture_output=True, text=True, timeout=timeout)


def kill_tree(process: subprocess.Popen) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for p in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                p.send_signal(signal.SIGKILL)
    process.kill()
    process.wait()


@contextlib.contextmanager
def head(cpus: int = 2, gpus: int = 0, **env: str) -> Iterator[Head]:
    cluster = Head(cpus, gpus, **env)
    try:
        yield cluster
    finally:
        for process in cluster.processes:
            kill_tree(process)
        shutil.rmtree(cluster.folder, ignore_errors=True)
