"""Hosts for a test, each with its own address, name, processes, /tmp/ray and shared memory, on a switch of their own.

They are Linux namespaces without names, so that nothing is left when their last process ends. Each ends with the test that started it,
however that ends. They share the machine's disk: a folder that one of them must not share gets a mount of its own.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.need import missing

ROOT = Path(__file__).parent.parent
VENV = Path(sys.executable).parent
T = TypeVar("T")
LIMIT_S = 900  # for what takes seconds on an idle machine
STUDY_S = 2400  # for a whole tiny study, which takes two minutes there


def until(what: str, look: Callable[[], T], seconds: float = LIMIT_S) -> T:
    """Call `look` until it returns something, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.5)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


class Hosts:
    """A switch and the hosts on it: `up`, `run` and `start` commands there, `down` as a power cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = folder / "hosts"  # every machine's /etc/hosts, one file
        self.names.write_text("127.0.0.1 localhost\n")
        self._inside: dict[str, subprocess.Popen[bytes]] = {}
        self.addresses: dict[str, str] = {}
        self._switch = self._spawn("switch", "ip link add br0 type bridge && ip link set br0 up")

    def up(self, name: str) -> str:
        """Start a host and return its address, which is the same whenever it is started again."""
        address = self.addresses.setdefault(name, f"10.77.0.{11 + len(self.addresses)}")
        known = "".join(f"{a} {n}\n" for n, a in self.addresses.items())
        with open(self.names, "r+") as file:  # in place: it is mounted
            file.truncate()
            file.write("127.0.0.1 localhost\n" + known)
        own = self.folder / f"{name}.ray"
        own.mkdir(exist_ok=True)
        self._inside[name] = self._spawn(
            name,
            f"hostname {name} && mkdir -p /tmp/ray && mount --bind {own} /tmp/ray && mount --bind {self.names} /etc/hosts && "
            f"{{ [ ! -e /etc/resolv.conf ] || mount --bind /dev/null /etc/resolv.conf; }} && "  # nobody there answers
            "mount -t tmpfs -o size=2g tmpfs /dev/shm && mount -t tmpfs tmpfs /run && ip link set lo up",
        )
        port, switch, inside = f"v-{name}", child(self._switch), child(self._inside[name])
        _enter(switch, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(inside))
        _enter(switch, "ip", "link", "set", port, "master", "br0", "up")
        _enter(inside, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        _enter(inside, "ip", "link", "set", "eth0", "up")
        return address

    def command(self, name: str, *command: str) -> list[str]:
        """Return the command in the form that runs it on the host."""
        return [*_into(child(self._inside[name])), *command]

    def run(
        self, name: str, *command: str, env: dict[str, str] | None = None, timeout: float = LIMIT_S, cwd: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(name, *command), capture_output=True, text=True, env=env, timeout=timeout, cwd=cwd)

    def start(self, name: str, *command: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> "subprocess.Popen[str]":
        return subprocess.Popen(self.command(name, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd)

    def down(self, name: str) -> None:
        """End all processes of the host at once, without telling anybody."""
        process = self._inside.pop(name)
        os.kill(child(process), signal.SIGKILL)
        process.wait(30)

    def close(self) -> None:
        for name in list(self._inside):
            self.down(name)
        os.kill(child(self._switch), signal.SIGKILL)
        self._switch.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self, name: str, prepare: str) -> "subprocess.Popen[bytes]":
        """Start namespaces with a first process that collects the dead. With --pdeathsig a killed test leaves no host behind."""
        ready = self.folder / f"{name}.up"
        ready.unlink(missing_ok=True)
        script = f"{prepare} && touch {ready} && while :; do sleep 1000 & wait; done"
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "-n", "-u", "-m", "-p", "-f", "--kill-child", "--mount-proc", "bash", "-c",
                script],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

        def there() -> bool:
            assert process.poll() is None, f"{name}: {process.stderr.read().decode()}"
            return ready.exists()

        until(f"host {name} is up", there, 60)
        return process


def child(process: "subprocess.Popen[bytes]") -> int:
    """Return the first process of the namespaces that `unshare` made."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def _into(pid: int) -> Sequence[str]:
    return ("nsenter", "-t", str(pid), "-n", "-u", "-m", "-p", "--wd=.", "--")


def _enter(pid: int, *command: str) -> None:
    """Run a command in the process's network only, so that process numbers mean the same as here."""
    subprocess.run(["nsenter", "-t", str(pid), "-n", "--", *command], check=True, capture_output=True)


def need_hosts() -> None:
    """Skip the test, with the reason, where this machine cannot start hosts."""
    for tool, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux"), ("setpriv", "util-linux")):
        if shutil.which(tool) is None:
            missing(f"{tool} (Debian: apt-get install {package})")
    if os.geteuid() != 0:
        pytest.skip("needs root: machines of their own are network namespaces")
    tried = subprocess.run(
        ["unshare", "-n", "-u", "-m", "-p", "-f", "--mount-proc", "ip", "link", "add", "br0", "type", "bridge"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"this machine gives no network namespaces: {tried.stderr.strip()}")


SERVERS = {"dockerd", "containerd", "slurmctld", "slurmd", "slurmstepd", "munged", "raylet", "gcs_server", "postgres", "mlflow"}


def traces() -> set[str]:
    """Return everything that these tests could leave on this machine: servers, mounts, networks, folders."""
    found = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}
    found |= {f"network {p.name}" for p in Path("/sys/class/net").iterdir()}
    found |= {str(p) for pattern in ("ray", "ray-*", "hosts-*") for p in Path("/tmp").glob(pattern) if p.is_dir()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if (name := (process / "comm").read_text().strip()) in SERVERS:
                found.add(f"process {process.name} {name}")
    return found


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Yield running hosts of these names."""
    need_hosts()
    made_ray = not os.path.isdir("/tmp/ray")
    machines = Hosts(Path(tempfile.mkdtemp(prefix="hosts-", dir="/tmp")))
    try:
        for name in names:
            machines.up(name)
        yield machines
    finally:
        machines.close()
        if made_ray:
            with contextlib.suppress(OSError):
                os.rmdir("/tmp/ray")


class RayHosts:
    """A Ray cluster over hosts, started as docs/cluster.md says: `python -m` and `ray` are those of one environment on every node."""

    def __init__(self, machines: Hosts, head: str, dashboard: bool = True, **env: str) -> None:
        self.machines, self.head, self.address = machines, head, f"{head}:6379"
        token = machines.folder / "token"
        token.write_text("a" * 64)
        token.chmod(0o600)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
        self.env = {
            **kept,
            "PATH": f"{VENV}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # 15 without: beside anything else that computes, a trial would never get its turn
            "RAY_ADDRESS": "",
            **env,
        }
        # a dashboard is ten processes: only where a test asks for it
        self.ray(head, "start", "--head", "--port=6379", "--dashboard-host=127.0.0.1" if dashboard else "--include-dashboard=false")

    def ray(self, name: str, *arguments: str, cpus: int = 1) -> None:
        """Run `ray start` there, again where a busy machine made it give up: its own limits of 15 and 30 s are fixed in its code."""
        sizes = (f"--num-cpus={cpus}", "--num-gpus=0", "--object-store-memory=100000000")
        for left in reversed(range(6)):
            done = self.machines.run(name, str(VENV / "ray"), *arguments, *sizes, env=self.env)
            if done.returncode == 0:
                return
            assert left, done.stdout + done.stderr
            self.machines.run(name, str(VENV / "ray"), "stop", "--force", env=self.env)

    def join(self, name: str, cpus: int = 1) -> None:
        self.ray(name, "start", f"--address={self.address}", cpus=cpus)

    def sweep(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "study.sweep", *arguments, "--address", self.address, "--mlflow", "off"]


@contextlib.contextmanager
def ray_hosts(head: str, *nodes: str, dashboard: bool = True, **env: str) -> Iterator[RayHosts]:
    with hosts(head, *nodes) as machines:
        cluster = RayHosts(machines, head, dashboard, **env)
        for name in nodes:
            cluster.join(name)
        yield cluster
