"""docker/compose.yaml on a real Docker daemon, with a small image in the place of the large ones: rights, mounts, secret and the stop."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import containers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
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
print("FOUND", os.stat(os.environ["PGPASSFILE"]).st_mode & 0o777, len(pathlib.Path(os.environ["PGPASSFILE"]).read_text().strip()), flush=True)
while True:
    time.sleep(1)
"""


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Compose"]:
    if reason := containers.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("d")
    shutil.copytree(containers.DOCKER, folder / "docker", ignore=shutil.ignore_patterns("secrets", ".env"))
    subprocess.run([folder / "docker" / "setup.sh", "localhost/small", "localhost/small"], check=True, capture_output=True)
    try:
        with containers.daemon(folder) as address:
            containers.small_image(address, "localhost/small")
            yield Compose(folder / "docker", address)
    except RuntimeError as error:
        pytest.skip(f"Docker does not start here: {error}")


class Compose:
    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.env = folder, os.environ | {"DOCKER_HOST": address}
        (folder / "mlflow").write_text(MLFLOW.lstrip())
        (folder / "mlflow").chmod(0o755)
        (folder / "small.yaml").write_text(
            yaml.safe_dump(
                {
                    "services": {
                        "postgres": {"entrypoint": ["sleep", "1000"], "healthcheck": {"test": ["CMD", "id"]}},
                        "mlflow": {
                            "image": "localhost/small",
                            "entrypoint": ["sh", "/mlflow.sh"],
                            "volumes": [f"{folder}/mlflow.sh:/mlflow.sh:ro", f"{folder}/mlflow:/usr/bin/mlflow:ro"],
                            "healthcheck": {"test": ["CMD", "cat", "/artifacts/x"]},
                        },
                        "study": {"image": "localhost/small", "entrypoint": ["python", "-c", STUDY.replace("$", "$$")], "command": []},
                    }
                }
            )
        )

    def __call__(self, *verb: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker-compose", "-p", "small", "-f", "compose.yaml", "-f", "small.yaml", *verb],
            cwd=self.folder, env=self.env, capture_output=True, text=True,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def found(self, service: str) -> str:
        for _ in range(300):
            lines = [line for line in self("logs", "--no-color", service).splitlines() if "FOUND" in line]
            if lines:
                return lines[0].partition("FOUND ")[2]
            subprocess.run(["sleep", "0.3"])
        raise AssertionError(self("logs"))


def test_compose_gives_what_is_needed_and_no_more_and_lets_the_study_close(compose: Compose) -> None:
    compose("up", "-d", "--no-build")
    try:
        study = json.loads(compose.found("study"))
        assert study["writes"] == ["/tmp", "/results", "/cache", "/tmp"], study  # the first is HOME
        assert study["uid"] == 1000 and study["caps"] == 0 and study["no_new_privileges"] == 1
        assert study["pid"] != 1 and not study["secret"], "init is first; the password is MLflow's and Postgres' alone"
        mode, length = compose.found("mlflow").split()
        assert int(mode) == 0o600 and int(length) == 32 + len("*:*:*:*:")
        compose("stop", "study")
        assert "CLOSED" in compose("logs", "--no-color", "study")
    finally:
        compose("down", "-v", check=False)
