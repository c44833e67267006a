"""Real servers on loopback, started by the tests: MLflow, Postgres."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.need import missing
from tests.raycluster import free_port, kill_tree


class Service:
    """A process that can be killed and started again."""

    def __init__(self, command: list[str], url: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.command, self.url, self.env, self.cwd = command, url, {**os.environ, **(env or {})}, cwd
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.env, cwd=self.cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for _ in range(240):
            if self._up():
                return
            assert self.process.poll() is None, f"{self.command} ended with {self.process.returncode}"
            time.sleep(0.5)
        raise TimeoutError(f"{self.command} does not answer at {self.url}")

    def _up(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=2)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            kill_tree(self.process)


@contextlib.contextmanager
def mlflow(store: str, artifacts: Path, *more: str, env: dict[str, str] | None = None) -> Iterator[Service]:
    port = free_port()
    service = Service(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", store, "--artifacts-destination", str(artifacts),
         "--allowed-hosts", f"mlflow,mlflow:{port},localhost:{port},127.0.0.1:{port}", *more],
        f"http://127.0.0.1:{port}",
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(env or {})},
    )  # fmt: skip
    service.start()
    try:
        yield service
    finally:
        service.kill()


class Postgres(Service):
    """Debian's Postgres as an unprivileged user, with its data in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.binaries = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
        if self.binaries is None:
            missing("PostgreSQL (Debian: apt-get install postgresql)")
        assert self.binaries is not None
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        self.user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
        if self.user:
            shutil.chown(folder, 65534, 65534)
        self._run("initdb", "-D", str(folder / "data"), "-U", "mlflow", "--auth=trust", "-N")
        command = [
            *self.user,
            str(self.binaries / "postgres"),
            "-D",
            str(folder / "data"),
            "-p",
            str(self.port),
            "-h",
            "127.0.0.1",
            "-k",
            str(folder),
        ]
        super().__init__(command, f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow", {"HOME": str(folder)})

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([*self.user, str(self.binaries / name), *arguments], check=True, capture_output=True, cwd=self.folder)

    def _up(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(host="127.0.0.1", port=self.port, user="mlflow", dbname="postgres", connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def make(self) -> None:
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")

    def kill(self) -> None:
        """Send SIGKILL, as when a machine dies. Its children end with it."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            kill_tree(self.process)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    service = Postgres(folder)
    service.start()
    service.make()
    try:
        yield service
    finally:
        service.kill()
