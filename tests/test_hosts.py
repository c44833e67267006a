"""A study on several hosts of a Ray cluster, each with an address of its own (tests/hosts.py).

Every node must have the same requirements, and a message names the node that lacks one.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.records import Outcome, Stage
from study.tracking.ledger import Ledger
from tests import tiny
from tests.hosts import ROOT, STUDY_S, Hosts, RayHosts, hosts, ray_hosts, until
from tests.need import missing

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * STUDY_S)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHosts]:
    """Yield a cluster of three hosts. A test that changes one of them changes it back, or takes a host of its own."""
    with ray_hosts("n1", "n2", "n3") as made:
        yield made


def ledger_of(root: Path) -> Ledger:
    return Ledger(root / "results", "tiny")


def sweep(cluster: RayHosts, root: Path, study: Path, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = cluster.sweep(str(study), "--results", str(root / "results"), *more)
    return cluster.machines.run("n1", *command, env={**cluster.env, **env}, timeout=STUDY_S)


def refused(done: subprocess.CompletedProcess[str], code: int = 4) -> str:
    """Return the one line of a refusal."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code and len(errors) == 1 and "Traceback" not in done.stderr, (done.returncode, done.stderr)
    return errors[0]


def whole(root: Path, planned: int) -> None:
    ledger = ledger_of(root)
    assert len(tiny.trained(ledger)) == planned and len(ledger.asks()) == len(ledger.results())
    assert all(r.outcome is Outcome.COMPLETED for r in ledger.results().values())
    for ask in ledger.asks(Stage.CONFIRM):
        assert ledger.measured(ask.trial_id, "predictions") is not None


def hosts_of(root: Path) -> set[str]:
    ledger = ledger_of(root)
    lines = [(ledger.trial_folder(a.trial_id).read("attempts.jsonl") or b"").splitlines() for a in ledger.asks()]
    return {json.loads(line)["host"] for found in lines for line in found}


# ---- it works ----------------------------------------------------------------------------------------------


def test_ray_on_one_host_changes_no_number(alone: Ledger, tmp_path: Path) -> None:
    """It runs the line of docs/cluster.md for one machine, where the sweep starts Ray by itself."""
    study = tiny.in_any_order(tmp_path)
    with hosts("n1") as machines:
        command = tiny.command(study, tmp_path / "results", "--mlflow", "off", "--ray")
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
        done = machines.run("n1", *command, env=env, timeout=STUDY_S)
    assert done.returncode == 0, done.stderr
    whole(tmp_path, 10)
    tiny.same(alone, ledger_of(tmp_path))


@pytest.mark.quick
def test_a_host_cut_off_and_one_that_joins_change_no_number(alone: Ledger, tmp_path: Path) -> None:
    """The same study runs on three hosts, of which one loses its power and another joins in the middle of it."""
    study = tiny.in_any_order(tmp_path)
    with ray_hosts("n1", "n2", "n3", dashboard=False) as cluster:
        process = cluster.machines.start("n1", *cluster.sweep(str(study), "--results", str(tmp_path / "results")), env=cluster.env)
        for line in process.stdout:
            if "epoch 1/2" in line:
                break
        cluster.machines.down("n3")
        cluster.machines.up("n4")
        joining = threading.Thread(target=cluster.join, args=("n4",))
        joining.start()
        out, error = process.communicate(timeout=STUDY_S)
        joining.join()
    assert process.returncode == 0, error
    whole(tmp_path, 10)
    tiny.same(alone, ledger_of(tmp_path))
    assert len(hosts_of(tmp_path)) > 1


@pytest.mark.quick
def test_two_ddp_workers_on_two_hosts(cluster: RayHosts, tmp_path: Path) -> None:
    """Each host has one CPU, so the two workers of a trial lie on two. Gloo finds the network between them by itself."""
    done = sweep(cluster, tmp_path, tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1), "--workers", "2")
    assert done.returncode == 0, done.stderr
    whole(tmp_path, 2)
    assert all(r.workers == 2 for r in tiny.trained(ledger_of(tmp_path)).values())


def test_gloo_takes_the_interface_it_is_told(cluster: RayHosts, tmp_path: Path) -> None:
    """GLOO_SOCKET_IFNAME of the shell that starts the sweep reaches the workers on every host.

    One that does not exist ends their trial.
    """
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=0)
    done = sweep(cluster, tmp_path, study, "--workers", "2", GLOO_SOCKET_IFNAME="none0")
    (result,) = tiny.trained(ledger_of(tmp_path)).values()
    assert done.returncode == 5 and result.outcome is Outcome.FAILED, (done.stderr, result)
    assert "none0" in result.reason, "not that a next try waited for the hosts that this one kept"
    done = sweep(cluster, tmp_path / "told", study, "--workers", "2", GLOO_SOCKET_IFNAME="eth0")
    assert done.returncode == 0, done.stderr
    assert all(r.outcome is Outcome.COMPLETED for r in ledger_of(tmp_path / "told").results().values())


def test_a_job_as_the_readme_submits_it(cluster: RayHosts, tmp_path: Path) -> None:
    """The `python` of a job is that of the shell in which the head was started."""
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1)
    job = ["ray", "job", "submit", "--address", "http://127.0.0.1:8265", "--working-dir", ".", "--"]
    command = [*job, "python", "-m", "study.sweep", str(study), "--results", str(tmp_path / "results"), "--mlflow", "off"]
    done = cluster.machines.run("n1", *command, env={**cluster.env, "RAY_ADDRESS": ""}, timeout=STUDY_S)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    whole(tmp_path, 2)


def test_hosts_that_ssh_reaches_become_a_cluster(tmp_path: Path) -> None:
    """It runs cluster/hosts.sh as in docs/cluster.md, with a real sshd on every host: start, a study, join, stop."""
    need_ssh()
    with hosts("n1", "n2", "n3") as machines:
        env = with_ssh(machines, tmp_path)

        def script(*arguments: str) -> subprocess.CompletedProcess[str]:
            return machines.run("n1", "cluster/hosts.sh", *arguments, env=env, timeout=STUDY_S)

        wrong = script("start", "n9")
        assert wrong.returncode == 4 and "n9 is not reached by ssh" in wrong.stderr, wrong.stderr
        begun = script("start", "n1", "n2")
        assert begun.returncode == 0 and "ready" in begun.stderr, begun.stdout + begun.stderr
        study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1)
        command = (sys.executable, "-m", "study.sweep", str(study), "--results", str(tmp_path / "results"), "--mlflow", "off")
        done = machines.run(
            "n1", *command, "--address", "n1:6379", "--workers", "2", env={**env, "RAY_AUTH_MODE": "token"}, timeout=STUDY_S
        )
        assert done.returncode == 0, done.stderr
        whole(tmp_path, 2)
        assert script("join", "n1", "n3").returncode == 0
        asked = machines.run(
            "n1", sys.executable, "-m", "cluster.preflight", "--address", "n1:6379", "--nodes", "3", "--results",
            str(tmp_path / "results"),
            env={**env, "RAY_AUTH_MODE": "token"},
        )  # fmt: skip
        assert asked.returncode == 0 and "on 3 node(s)" in asked.stdout, asked.stdout + asked.stderr
        assert script("stop", "n1", "n2", "n3").returncode == 0
        for name in ("n1", "n2", "n3"):
            until(f"no Ray on {name}", lambda name=name: machines.run(name, "pgrep", "-x", "raylet|gcs_server").returncode == 1, 60)


RAY = """#!/usr/bin/env bash
# Stands in for ray: says how it was called on which host; the first `start` on n2 gives up, as on a busy machine.
echo "$(hostname) $RAY_AUTH_MODE $(wc -c < "$RAY_AUTH_TOKEN_PATH") $RAY_USAGE_STATS_ENABLED $(command -v ray) $*" >> "{folder}/log"
[ "$1 $(hostname) $(grep -c '^n2.* start' "{folder}/log")" != "start n2 1" ]
"""


@pytest.mark.quick
def test_the_ssh_script_alone(tmp_path: Path) -> None:
    """The ssh client and server are real and Ray is a stand-in.

    It tests token, environment, order, a repeated start, and messages about what a host lacks.
    """
    need_ssh()
    env_of = tmp_path / "env"
    (env_of / "bin").mkdir(parents=True)
    for name, text in (
        ("ray", RAY.replace("{folder}", str(tmp_path))),
        ("python", f'#!/bin/sh\n[ "$1" = -m ] || exec {sys.executable} "$@"\n'),
    ):
        (env_of / "bin" / name).write_text(text)
        (env_of / "bin" / name).chmod(0o755)
    with hosts("n1", "n2") as machines:
        env = {**with_ssh(machines, tmp_path), "VIRTUAL_ENV": str(env_of)}
        done = machines.run("n1", "cluster/hosts.sh", "start", "n1", "n2", env=env)
        assert done.returncode == 0 and "ready: python -m study.sweep NAME --address n1:6379" in done.stderr, done.stdout + done.stderr
        assert machines.run("n2", "stat", "-c", "%a %s", str(Path.home() / ".ray/auth_token")).stdout.split() == ["600", "64"]
        began = f"token 64 0 {env_of}/bin/ray"
        calls = (tmp_path / "log").read_text().splitlines()
        assert [c.partition(" --log")[0].replace(f" {env['RAY_START']}", "") for c in calls] == [
            f"n1 {began} start --head --port=6379 --dashboard-host=127.0.0.1",
            f"n2 {began} start --address=n1:6379",
            f"n2 {began} stop --force",
            f"n2 {began} start --address=n1:6379",
        ]
        token = (tmp_path / "n1.home" / "auth_token").read_bytes()
        assert machines.run("n1", "cluster/hosts.sh", "join", "n1", "n2", env=env).returncode == 0
        assert (tmp_path / "n2.home" / "auth_token").read_bytes() == token, "one token, however often"
        assert machines.run("n1", "cluster/hosts.sh", "stop", "n1", "n2", env=env).returncode == 0
        for arguments, said, code in (
            (("start", "n9"), "n9 is not reached by ssh, or has no checkout at", 4),
            (("begin",), "start HEAD [NODE...], join HEAD NODE..., or stop HOST...; not 'begin'", 2),
        ):
            done = machines.run("n1", "cluster/hosts.sh", *arguments, env=env)
            assert done.returncode == code and said in done.stderr, done.stderr
        done = machines.run("n1", "cluster/hosts.sh", "join", "n1", "n2", env={**env, "VIRTUAL_ENV": "/none"})
        assert done.returncode == 4 and "with /none/bin/ray; make install there" in done.stderr, done.stderr


def need_ssh() -> None:
    if not Path("/usr/sbin/sshd").exists():
        missing("sshd (Debian: apt-get install openssh-server)")


def with_ssh(machines: Hosts, folder: Path) -> dict[str, str]:
    """Start sshd on every host, and return the environment in which `ssh` reaches them without touching this user's own files."""
    for key in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    home = Path.home() / ".ray"
    home.mkdir(exist_ok=True)
    for name in machines.addresses:
        own = folder / f"{name}.home"
        own.mkdir()
        options = [f"HostKey={folder}/host_key", f"AuthorizedKeysFile={folder}/key.pub", "StrictModes=no", "UsePAM=no", "PidFile=none"]
        start = f"mkdir -p /run/sshd && mount --bind {own} {home} && /usr/sbin/sshd {' '.join(f'-o {o}' for o in options)}"
        done = machines.run(name, "bash", "-c", start)
        assert done.returncode == 0, done.stderr
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    ssh = f"ssh -i {folder}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=20"
    sizes = "--num-cpus=1 --num-gpus=0 --object-store-memory=100000000"
    return {**kept, "SSH": ssh, "VIRTUAL_ENV": sys.prefix, "RAY_START": sizes, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


# ---- it is refused -----------------------------------------------------------------------------------------


@pytest.mark.quick
def test_results_that_a_node_does_not_share_are_named_with_it(cluster: RayHosts, tmp_path: Path) -> None:
    machines = cluster.machines
    assert machines.run("n3", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)).returncode == 0
    try:
        line = refused(sweep(cluster, tmp_path, tiny.write(tmp_path)))
        asked = preflight(cluster, "--results", str(tmp_path / "results"))
    finally:
        machines.run("n3", "umount", str(tmp_path))
    said = f"is not the same folder on node n3 ({machines.addresses['n3']}) as here. Choose --results on storage that every node shares."
    assert said in line and not ledger_of(tmp_path).asks(), line
    assert asked.returncode == 4 and said in asked.stdout, asked.stdout


def preflight(cluster: RayHosts, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "cluster.preflight", "--address", cluster.address, *arguments)
    return cluster.machines.run(cluster.head, *command, env={**cluster.env, **env})


@pytest.mark.quick
def test_other_code_of_ours_on_a_node_is_named(cluster: RayHosts, tmp_path: Path) -> None:
    """This holds also where the node lacks parts of the check itself, since the check travels with the question."""
    old = tmp_path / "old"
    (old / "search").mkdir(parents=True)
    (old / "__init__.py").touch()
    machines = cluster.machines
    assert machines.run("n2", "mount", "--bind", str(old), str(ROOT / "study")).returncode == 0
    try:
        asked = preflight(cluster, "--results", str(tmp_path / "results"))
        line = refused(sweep(cluster, tmp_path, tiny.write(tmp_path)))
    finally:
        machines.run("n2", "umount", str(ROOT / "study"))
    said = f"node n2 ({machines.addresses['n2']}) has other code of study ("
    assert asked.returncode == 4 and f"problem: {said}" in asked.stdout, asked.stdout + asked.stderr
    assert said in line and "Bring both to one commit" in line and not ledger_of(tmp_path).asks()


@pytest.mark.quick
def test_data_weights_and_cache_that_a_node_lacks_are_named(cluster: RayHosts, tmp_path: Path) -> None:
    machines, data = cluster.machines, tmp_path / "data"
    for name in ("data/fer2013", "weights", "cache", "results"):
        (tmp_path / name).mkdir(parents=True)
    (data / "fer2013" / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    (tmp_path / "weights" / "resnet18.safetensors").write_bytes(b"0")
    for name in ("data/fer2013", "weights"):
        assert machines.run("n2", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path / name)).returncode == 0
    assert machines.run("n2", "mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path / "cache")).returncode == 0
    try:
        paths = ("--results", str(tmp_path / "results"), "--data", str(data), "--weights", str(tmp_path / "weights"))
        asked = preflight(cluster, *paths, STUDY_CACHE=str(tmp_path / "cache"))
    finally:
        for name in ("data/fer2013", "weights", "cache"):
            machines.run("n2", "umount", str(tmp_path / name))
    problems = [line for line in asked.stdout.splitlines() if line.startswith("problem: ")]
    assert asked.returncode == 4 and len(problems) == 3 and all("node n2" in p for p in problems), asked.stdout + asked.stderr
    for name, way_out in (("data/fer2013", "Copy"), ("weights", "Copy"), ("cache", "STUDY_CACHE")):
        assert any(str(tmp_path / name) in p and way_out in p for p in problems), problems


def test_preflight_finds_nothing_where_nothing_is_wrong(cluster: RayHosts, tmp_path: Path) -> None:
    asked = preflight(cluster, "--results", str(tmp_path / "results"), "--nodes", "3")
    assert asked.returncode == 0 and "problem" not in asked.stdout, asked.stdout + asked.stderr
    assert "on 3 node(s)" in asked.stdout
    assert not list((tmp_path / "results").iterdir()), "it leaves nothing"


def test_a_node_that_joins_unfit_ends_the_sweep_with_its_name(cluster: RayHosts, tmp_path: Path) -> None:
    """Otherwise it would train, and its files would stay behind."""
    study = tiny.write(tmp_path, ("linear_probe",), trials=30)
    cluster.machines.up("n5")
    try:
        assert cluster.machines.run("n5", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "..")).returncode == 0
        process = cluster.machines.start("n1", *cluster.sweep(str(study), "--results", str(tmp_path / "results")), env=cluster.env)
        for line in process.stdout:
            if "epoch 1/2" in line:
                break
        cluster.join("n5", cpus=0)
        _, error = process.communicate(timeout=STUDY_S)
    finally:
        cluster.machines.down("n5")
    assert process.returncode == 4 and "error: a node that joined is not fit" in error and "node n5" in error, (process.returncode, error)
    assert not (tmp_path / "results" / "tiny" / ".lock").exists(), "it closed its ledger"
    assert all(r.outcome is not Outcome.FAILED for r in ledger_of(tmp_path).results().values())


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("n9:6379", "nothing answers at n9:6379: start the head there"),
        ("n1:1", "nothing answers at n1:1"),
        ("127.0.0.1:8265", "no Ray head: --address takes the head's own port"),  # the dashboard listens on the head's loopback alone
        ("n1:8265", "nothing answers at n1:8265"),
        ("n1", "--address n1 is not HOST:PORT"),
    ],
)
def test_a_wrong_address_is_said(address: str, said: str, cluster: RayHosts) -> None:
    """The product says it itself: Ray tries for minutes, and then says less."""
    code = (
        "from study.errors import StudyError; from study.search.on_ray.cluster import cluster\n"
        f"try:\n  with cluster({address!r}): print('reached')\n"
        "except StudyError as error: print(error)"
    )
    done = cluster.machines.run("n1", sys.executable, "-c", code, env=cluster.env)
    line = done.stdout.strip()
    assert said in line and "\n" not in line, done.stdout + done.stderr


def test_a_driver_without_a_node_of_its_own_and_one_without_the_token_are_told(cluster: RayHosts, tmp_path: Path) -> None:
    other = tmp_path / "token"
    other.write_text("b" * 64)
    line = refused(sweep(cluster, tmp_path, tiny.write(tmp_path), RAY_AUTH_TOKEN_PATH=str(other)))
    assert "oken" in line, line
    cluster.machines.up("n6")
    try:
        command = cluster.sweep(str(tiny.write(tmp_path)), "--results", str(tmp_path / "results"))
        line = refused(cluster.machines.run("n6", *command, env=cluster.env, timeout=STUDY_S))
    finally:
        cluster.machines.down("n6")
    assert "cannot reach Ray at n1:6379" in line, line


@pytest.mark.quick
def test_the_dashboard_itself_is_asked_whether_it_is_open(cluster: RayHosts, tmp_path: Path) -> None:
    """An answer of 401 without a token is right, whatever variables the asking shell has, and 200 is a problem."""
    from cluster.preflight import dashboard_is_open

    code = "from cluster.preflight import dashboard_is_open as f; print(f('127.0.0.1:8265'))"
    done = cluster.machines.run("n1", sys.executable, "-c", code, env={**cluster.env, "RAY_AUTH_MODE": "disabled"})
    assert done.stdout.strip() == "False", done.stdout + done.stderr
    assert dashboard_is_open("127.0.0.1:1") is False
    with ray_hosts("o1", RAY_AUTH_MODE="disabled") as opened:
        asked = preflight(opened, "--results", str(tmp_path / "results"), RAY_AUTH_MODE="disabled")
    assert asked.returncode == 4 and "asks nobody for a token" in asked.stdout, asked.stdout + asked.stderr
