"""docker/compose.yaml on a real Docker daemon: rights, mounts, secret and stop with one small image, and a study with the images
themselves.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from study.tracking.ledger import Ledger
from tests import containers, images, tiny
from tests.hosts import need_hosts, until

SAME_NUMBERS = ("OMP_NUM_THREADS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]
STUDY = """
import json, os, pathlib, signal, time
def can(path):
    try:
        pathlib.Path(path, "x").write_text("x")
        return True
    except OSError:
        return False
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("FOUND", json.dumps({
    "writes": [p for p in (os.environ.get("HOME", "/"), "/results", "/cache", "/artifacts", "/tmp", "/", "/etc") if can(p)],
    "uid": os.getuid(), "caps": int(status["CapEff"], 16), "no_new_privileges": int(status["NoNewPrivs"]), "pid": os.getpid(),
    "secret": os.path.exists("/run/secrets/postgres_password"),
}), flush=True)
def stop(*_):
    time.sleep(12)  # longer than an engine's own grace
    print("CLOSED", flush=True)
    raise SystemExit(143)
signal.signal(signal.SIGTERM, stop)
while True:
    time.sleep(0.2)
"""
MLFLOW = """
#!/usr/bin/python
import os, pathlib, sys, time
pathlib.Path("/artifacts/x").write_text("x")
secret = pathlib.Path(os.environ["PGPASSFILE"])
print("FOUND", secret.stat().st_mode & 0o777, len(secret.read_text().strip()), flush=True)
while True:
    time.sleep(1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield the folder that compose reads, with settings and a password of its own, and a daemon's files beside it."""
    if reason := containers.missing():
        pytest.skip(reason)
    need_hosts()
    shutil.copytree(containers.DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets", ".env"))
    yield tmp_path
    for data in ("data", "exec"):  # gigabytes; pytest would keep three of them
        shutil.rmtree(tmp_path / data, ignore_errors=True)


@contextlib.contextmanager
def daemon(folder: Path, network: bool = False) -> Iterator[str]:
    started = contextlib.ExitStack()
    try:
        address = started.enter_context(containers.daemon(folder, network))
    except RuntimeError as error:
        pytest.skip(f"Docker does not start here: {error}")
    with started:
        yield address


class Compose:
    """The command `docker-compose` as docs/cluster.md calls it, with what a test lays over compose.yaml."""

    def __init__(self, folder: Path, address: str, services: dict[str, dict[str, object]]) -> None:
        self.folder, self.env = folder, os.environ | {"DOCKER_HOST": address}
        (folder / "over.yaml").write_text(yaml.safe_dump({"services": services}))

    def __call__(self, *verb: str, check: bool = True) -> str:
        return self.run("docker-compose", "-p", "test", "-f", "docker/compose.yaml", "-f", "over.yaml", *verb, check=check)

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def found(self, service: str) -> str:
        def said() -> str:
            lines = [line for line in self("logs", "--no-color", service).splitlines() if "FOUND" in line]
            return lines[0].partition("FOUND ")[2] if lines else ""

        return until(f"{service} says what it found", said, 300)


def small(folder: Path) -> dict[str, dict[str, object]]:
    """Return one small image in the place of all three, with programs that say what they may do."""
    (folder / "mlflow").write_text(MLFLOW.lstrip())
    (folder / "mlflow").chmod(0o755)
    return {
        "postgres": {"entrypoint": ["sleep", "1000"], "healthcheck": {"test": ["CMD", "id"]}},
        "mlflow": {
            "image": "localhost/small",
            "entrypoint": ["sh", "/mlflow.sh"],
            "volumes": [f"{folder}/docker/mlflow.sh:/mlflow.sh:ro", f"{folder}/mlflow:/usr/bin/mlflow:ro"],
            "healthcheck": {"test": ["CMD", "cat", "/artifacts/x"]},
        },
        "study": {"image": "localhost/small", "entrypoint": ["python", "-c", STUDY.replace("$", "$$")], "command": []},
    }


@pytest.mark.quick
def test_compose_gives_what_is_needed_and_no_more_and_lets_the_study_close(folder: Path) -> None:
    subprocess.run([folder / "docker" / "setup.sh", "localhost/small", "localhost/small"], check=True, capture_output=True)
    with daemon(folder) as address:
        containers.small_image(address, "localhost/small")
        compose = Compose(folder, address, small(folder))
        compose("up", "-d", "--no-build")
        study = json.loads(compose.found("study"))
        assert study["writes"] == ["/tmp", "/results", "/cache", "/tmp"], study  # the first is HOME
        assert study["uid"] == 1000 and study["caps"] == 0 and study["no_new_privileges"] == 1
        assert study["pid"] != 1 and not study["secret"], "init is first; the password is MLflow's and Postgres' alone"
        mode, length = compose.found("mlflow").split()
        assert int(mode) == 0o600 and int(length) == 32 + len("*:*:*:*:")
        compose("stop", "study")
        assert "CLOSED" in compose("logs", "--no-color", "study")


def test_a_study_in_the_real_images_against_postgres(alone: Ledger, folder: Path) -> None:
    """It runs as docs/cluster.md has it: images, MLflow on Postgres, a study to the verdict of one process. The same line resumes it."""
    if reason := images.unbuilt():
        pytest.skip(reason)
    torch = os.environ.get("STUDY_TORCH", "cuda")  # cpu asks PyTorch's own index
    with daemon(folder, network=True) as address:
        settings = images.bases(address, folder)
        sizes = {
            target: images.build(address, settings["BASE"], target, f"localhost/{target}", TORCH=torch, COMMIT="c0ffee")
            for target in ("mlflow", "study")
        }
    print(f"sizes in GB, torch for {torch}: " + ", ".join(f"{k} {v / 1e9:.2f}" for k, v in sizes.items()))
    assert sizes["mlflow"] <= 1e9
    subprocess.run([folder / "docker" / "setup.sh", *settings.values(), torch], check=True, capture_output=True)
    tiny.in_any_order(folder)
    with daemon(folder) as address:
        study = {
            "image": "localhost/study",
            "command": ["study.sweep", "/my_study.py", "--results", "/results", "--mlflow", "http://mlflow:5000"],
            "volumes": [f"{folder}/my_study.py:/my_study.py:ro"],
            "environment": {k: v for k, v in os.environ.items() if k in SAME_NUMBERS} | {"RAY_worker_niceness": "0"},
        }
        compose = Compose(folder, address, {"mlflow": {"image": "localhost/mlflow"}, "study": study})
        for _ in range(2):  # the second time there is nothing left to do
            compose("up", "-d", "--no-build")
            assert compose.run("docker", "wait", "test_study_1").strip() == "0", compose("logs", "--no-color")
        said = compose("logs", "--no-color", "study")
        assert said.count("report: ") == 2 and "Traceback" not in said, said
        asked = ("exec", "-T", "postgres", "psql", "-U", "mlflow", "-h", "/run/postgresql", "-tAc")
        trained = compose(*asked, "SELECT count(DISTINCT run_uuid) FROM metrics").strip()
        assert int(trained) >= 10, "every trial's metrics are in Postgres"
        compose.run("docker", "cp", "test_study_1:/results", str(folder / "results"))
        compose("stop")
        states = compose.run("docker", "inspect", "-f", "{{.Name}} {{.State.ExitCode}}", "test_postgres_1", "test_mlflow_1").split()
        assert states[1] == "0" and states[3] in ("0", "143"), f"nobody is shot: {states}"
    ledger = Ledger(folder / "results", "tiny")
    assert ledger.facts()["commit"] == "c0ffee"
    tiny.same(alone, ledger)
