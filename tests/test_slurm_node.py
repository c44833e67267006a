"""A node's part of a Slurm job (cluster/slurm_node.py), without Slurm: what it starts, how the parts end together, what it leaves."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.slurm_node import Part, main, parser
from tests.hosts import ROOT, until
from tests.slurm import stand_in

S = 30.0


class Job:
    """One job's parts on this machine, with a Ray that costs nothing."""

    def __init__(self, folder: Path, nodes: int = 1, **env: str) -> None:
        self.name, self.made = f"test-{os.getpid()}-{folder.name}", stand_in(folder / "env")
        self.own, self.shared, self.folder = Path(f"/tmp/ray-{self.name}"), folder / "shared", folder
        self.shared.mkdir()
        job = {"SLURM_JOB_ID": self.name, "RAY_AUTH_TOKEN_PATH": f"{self.shared}/token", "SLURM_JOB_NUM_NODES": str(nodes), **env}
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}, "PYTHONPATH": str(ROOT), **job}
        self.parts: list[subprocess.Popen[str]] = []

    def part(self, *head: str, **env: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "cluster.slurm_node", str(self.made / "bin" / "ray"), "6399", *head]
        one = subprocess.Popen(
            line, env={**self.env, **env}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.parts.append(one)
        return one

    def starts(self) -> list[str]:
        """Return the arguments that `ray start` was given, a line each."""
        return [line for path in sorted((self.made / "log").glob("*")) for line in path.read_text().splitlines()]

    def has(self, name: str) -> bool:
        return (self.shared / name).exists()

    def left(self) -> list[list[str]]:
        return [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if any(self.name in word for word in p.info["cmdline"] or ())]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path)
    yield made
    for one in made.parts:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
            one.communicate()
    for process in agents(made):
        process.kill()
    shutil.rmtree(made.own, ignore_errors=True)


def agents(job: Job) -> list[psutil.Process]:
    """Return the processes that outlive the Ray that made them: they hold a file in the job's folder."""
    found = [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] and p.info["cmdline"][0] == "ray::Agent"]
    return [p for p in found if any(f.path.startswith(f"{job.own}/") for f in p.open_files())]


def test_a_head_says_that_it_is_up_and_ends_with_the_job(job: Job) -> None:
    head = job.part(SLURM_CPUS_PER_TASK="3", SLURM_GPUS_ON_NODE="2")
    until("the head is up", lambda: job.has("up"), S)
    assert len(agents(job)) == 1
    (given,) = job.starts()
    assert given.startswith("start --block --num-cpus=3 --num-gpus=2 --min-worker-port=0") and f"--temp-dir={job.own}" in given
    assert "--head --port=6399 --include-dashboard=false" in given and "--address" not in given
    (job.shared / "over").touch()
    said, _ = head.communicate(timeout=S)
    assert head.returncode == 0 and "Ray runtime started." in said and agents(job) == []
    assert not list(job.shared.glob("away.*")), "the head is no node that joined"


def test_a_node_joins_and_the_head_ends_last(job: Job) -> None:
    head = job.part(SLURM_JOB_NUM_NODES="2")
    until("the head is up", lambda: job.has("up"), S)
    node = job.part("n1", SLURM_NODEID="1")
    until("both are up", lambda: len(agents(job)) == 2, S)
    node.send_signal(signal.SIGSTOP)
    (job.shared / "over").touch()
    with pytest.raises(subprocess.TimeoutExpired):
        head.wait(timeout=3)
    node.send_signal(signal.SIGCONT)
    assert node.wait(timeout=S) == 0 and head.wait(timeout=S) == 0
    assert [p.name.split(".")[1] for p in job.shared.glob("away.*")] == ["1"]
    assert "--address=n1:6399" in job.starts()[1] and "--head" not in job.starts()[1]


def test_a_ray_that_gives_up_is_started_again_and_one_that_was_up_is_lost(job: Job) -> None:
    node = job.part("n1", FAILS="1", RAY_TRIES="3")
    until("it is up", lambda: agents(job), S)
    assert len(job.starts()) == 2
    (ray,) = [p for p in psutil.Process(node.pid).children() if p.is_running()]
    ray.kill()
    _, said = node.communicate(timeout=S)
    assert node.returncode == 128 + signal.SIGKILL and len(job.starts()) == 2 and agents(job) == []
    first, last = said.splitlines()
    assert "Ray did not start on" in first and "Ray ended on" in last and "(-9)" in last


def test_one_that_never_starts_ends_with_its_code(job: Job) -> None:
    node = job.part("n1", FAILS="9", RAY_TRIES="2")
    said, problem = node.communicate(timeout=S)
    assert node.returncode == 1 and len(job.starts()) == 2 and "Ray ended on" in problem
    assert said.count("timed out during startup") == 2, "what Ray says is passed on"


def test_a_term_ends_it_and_only_what_is_the_jobs_own(job: Job, tmp_path: Path) -> None:
    other = tmp_path / "other.out"
    with other.open("w") as out:
        another = subprocess.Popen(["bash", "-c", "exec -a ray::Other sleep 60"], stdout=out)
    try:
        node = job.part("n1")
        until("it is up", lambda: agents(job), S)
        node.terminate()
        assert node.wait(timeout=S) == 0 and agents(job) == [] and job.left() == []
        assert another.poll() is None
    finally:
        another.kill()
        another.wait()


def test_what_slurm_says_of_a_node() -> None:
    env = {"SLURM_JOB_ID": "7", "RAY_AUTH_TOKEN_PATH": "/home/me/.ray/slurm-7/token", "SLURM_CPUS_ON_NODE": "64", "SLURM_GPUS_ON_NODE": ""}
    part = Part.of(parser().parse_args(["/venv/bin/ray", "6379"]), env)
    assert (str(part.folder), str(part.shared)) == ("/tmp/ray-7", "/home/me/.ray/slurm-7")
    assert (part.head, part.cpus, part.gpus, part.nodes, part.tries) == ("", "64", "0", 1, 6)


def test_without_a_job_it_says_who_starts_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert main(["/venv/bin/ray", "6379"]) == 4 and "cluster/slurm.sh" in capsys.readouterr().err
