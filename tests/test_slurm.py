"""cluster/slurm.sh on a real Slurm (tests/slurm.py): to its end, stopped and resumed, with a part that dies, and beside other jobs."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.records import Outcome
from study.tracking.ledger import Ledger
from tests import tiny
from tests.hosts import ROOT, STUDY_S, until
from tests.slurm import Slurm, processes_of, slurm, stand_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * STUDY_S)]
SCRIPT = "cluster/slurm.sh"


@pytest.fixture(scope="module")
def batch() -> Iterator[Slurm]:
    with slurm("n1", "n2") as made:
        yield made


def ledger_of(root: Path) -> Ledger:
    return Ledger(root / "results", "tiny")


def submit(batch: Slurm, root: Path, study: Path, *slurms: str, script: str = SCRIPT, **env: str) -> str:
    sizes = ("--nodes=2", "--cpus-per-task=1", "--time=30", f"--output={root}/%j.log")
    return batch.submit(*sizes, *slurms, script, str(study), "--results", str(root / "results"), "--mlflow", "off", **env)


def log(root: Path, job: str) -> str:
    path = root / f"{job}.log"
    return path.read_text() if path.exists() else ""


def nothing_is_left(batch: Slurm, job: str) -> None:
    for name in batch.nodes:
        left = [
            p
            for p in processes_of(batch.machines, name)
            if any(word in p for word in ("/ray/", "ray::", "study.sweep", "stand-in", "slurm_node"))
        ]
        assert left == [], (name, left)
        assert batch.machines.run(name, "test", "-e", f"/tmp/ray-{job}").returncode == 1
    assert not (batch.folder / "home" / ".ray" / f"slurm-{job}").exists(), "its token"


def whole(root: Path, planned: int) -> None:
    ledger = ledger_of(root)
    assert len(tiny.trained(ledger)) == planned and len(ledger.asks()) == len(ledger.results())
    assert all(r.outcome is Outcome.COMPLETED for r in ledger.results().values())
    assert ledger.finished()


def training(root: Path) -> bool:
    ledger = ledger_of(root)
    return any(ledger.epochs(trial_id) for trial_id in tiny.trained(ledger))


@pytest.mark.quick
def test_a_job_on_two_nodes_runs_a_study_to_its_end(batch: Slurm, tmp_path: Path) -> None:
    job = submit(batch, tmp_path, tiny.write(tmp_path))
    assert batch.ended(job, STUDY_S) == "COMPLETED 0:0", log(tmp_path, job)
    whole(tmp_path, 8)
    said = log(tmp_path, job)
    assert "report: " in said and "Traceback" not in said, said
    nothing_is_left(batch, job)
    # one CPU a node was asked for, and Ray was told so: never more trials at once than CPUs
    ledger = ledger_of(tmp_path)
    hosts = [
        json.loads(line)["host"]
        for a in ledger.asks()
        for line in (ledger.trial_folder(a.trial_id).read("attempts.jsonl") or b"").splitlines()
    ]
    assert set(hosts) == {"n1", "n2"}
    spans = sorted((r.started_at, r.ended_at) for r in tiny.trained(ledger).values())
    assert max(sum(a <= t < b for a, b in spans) for t, _ in spans) <= 2


def test_a_job_that_is_stopped_closes_its_ledger_and_the_same_line_goes_on(alone: Ledger, batch: Slurm, tmp_path: Path) -> None:
    """It gets what `--signal=B:TERM@120` sends before the limit: a TERM to the batch script alone.

    No number differs from one process's.
    """
    study = tiny.in_any_order(tmp_path)
    job = submit(batch, tmp_path, study)
    until("an epoch", lambda: training(tmp_path), STUDY_S)
    batch.signal(job)
    assert batch.ended(job).split()[1] in ("143:0", "0:15"), log(tmp_path, job)
    assert "Resume with the same command" in log(tmp_path, job) and not ledger_of(tmp_path).folder.exists(".lock")
    nothing_is_left(batch, job)
    job = submit(batch, tmp_path, study)
    assert batch.ended(job, STUDY_S) == "COMPLETED 0:0", log(tmp_path, job)
    whole(tmp_path, 10)
    tiny.same(alone, ledger_of(tmp_path))


def test_two_jobs_on_one_node_have_each_their_own(batch: Slurm, tmp_path: Path) -> None:
    """They have own ports, folders, tokens, CPUs and GPUs, as elements of an array that Slurm puts on one node."""
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1)
    wrapped = tmp_path / "each.sh"
    wrapped.write_text(
        '#!/bin/bash\nset -e\nexec bash cluster/slurm.sh "$1" --name "tiny-$SLURM_ARRAY_TASK_ID" "${@:2}" --gpus-per-trial 0\n'
    )
    job = submit(batch, tmp_path, study, "--nodes=1", "--nodelist=n1", "--gpus-per-node=1", "--array=0-1", script=str(wrapped))
    jobs = until("both run", lambda: running(batch, job))
    both = until("both have a head", lambda: heads(batch), 600)
    assert len({h for h in both}) == 2
    for one in jobs:
        assert batch.ended(one, STUDY_S) == "COMPLETED 0:0", log(tmp_path, one)
    for k in (0, 1):
        assert Ledger(tmp_path / "results", f"tiny-{k}").finished()


def running(batch: Slurm, job: str) -> list[str]:
    said = batch.squeue("-j", job, "-h", "-t", "RUNNING", "-o", "%A").split()
    return said if len(said) == 2 else []


def heads(batch: Slurm) -> list[str]:
    """Return where the clusters on the first node keep their files, once there are two."""
    found = {a for p in processes_of(batch.machines, "n1") if "gcs_server" in p for a in p.split() if a.startswith("--log_dir=")}
    return sorted(found) if len(found) == 2 else []


# ---- the script alone: Slurm is real, Ray and the sweep are stood in for --------------------------------------


@pytest.fixture
def light(tmp_path: Path) -> dict[str, str]:
    return {"VIRTUAL_ENV": str(stand_in(tmp_path / "env"))}


def starts(tmp_path: Path, job: str, node: str) -> list[str]:
    """Return the arguments that `ray start` was given on a node."""
    path = tmp_path / "env" / "log" / f"{job}.{node}"
    return path.read_text().splitlines() if path.exists() else []


def both_up(batch: Slurm) -> bool:
    return all(any("stand-in" in p for p in processes_of(batch.machines, name)) for name in ("n1", "n2"))


@pytest.mark.quick
@pytest.mark.parametrize("code", [0, 5])
def test_the_sweep_gets_its_arguments_and_the_job_its_code(code: int, batch: Slurm, light: dict[str, str], tmp_path: Path) -> None:
    job = submit(batch, tmp_path, Path("quickstart"), SWEEP_CODE=str(code), **light)
    assert batch.ended(job) == f"{'FAILED' if code else 'COMPLETED'} {code}:0", log(tmp_path, job)
    said = log(tmp_path, job)
    assert f"sweep quickstart --results {tmp_path}/results --mlflow off; address n1:" in said and "token 64" in said
    assert not any(word in said for word in ("Killed", "CANCELLED", "error:", "aborted")), said
    (head,), (node,) = starts(tmp_path, job, "n1"), starts(tmp_path, job, "n2")
    assert "--head" in head and "--num-cpus=1" in head and "--num-gpus=0" in head and f"--temp-dir=/tmp/ray-{job}" in head
    assert "--address=n1:" in node and "--num-cpus=1" in node
    nothing_is_left(batch, job)


@pytest.mark.quick
def test_a_term_reaches_the_sweep_and_the_job_ends_with_its_code(batch: Slurm, light: dict[str, str], tmp_path: Path) -> None:
    job = submit(batch, tmp_path, Path("quickstart"), SWEEP_S="600", **light)
    until("the sweep runs", lambda: "sweep quickstart" in log(tmp_path, job))
    batch.signal(job)
    assert batch.ended(job) == "FAILED 143:0" and "stopped" in log(tmp_path, job), log(tmp_path, job)
    nothing_is_left(batch, job)


@pytest.mark.parametrize(("node", "deaf"), [("n1", ""), ("n2", ""), ("n1", "1")])
def test_a_part_that_dies_ends_the_job_and_frees_its_nodes(
    node: str, deaf: str, batch: Slurm, light: dict[str, str], tmp_path: Path
) -> None:
    """The part is the head, or the Ray of another node, also when the sweep hangs in Ray and hears no TERM."""
    job = submit(batch, tmp_path, Path("quickstart"), SWEEP_S="600", DEAF=deaf, **light)
    until("the sweep runs", lambda: "sweep quickstart" in log(tmp_path, job) and both_up(batch))
    assert batch.machines.run(node, "pkill", "-KILL", "-f", "stand-in-").returncode == 0
    assert batch.ended(job) == "FAILED 4:0", log(tmp_path, job)
    assert "the same line resumes" in log(tmp_path, job) and f"Ray ended on {node}" in log(tmp_path, job)
    nothing_is_left(batch, job)


def test_a_ray_that_gives_up_on_a_busy_node_is_started_again_so_many_times(batch: Slurm, light: dict[str, str], tmp_path: Path) -> None:
    job = submit(batch, tmp_path, Path("quickstart"), FAILS="2", RAY_TRIES="3", **light)
    assert batch.ended(job) == "COMPLETED 0:0", log(tmp_path, job)
    assert len(starts(tmp_path, job, "n1")) == len(starts(tmp_path, job, "n2")) == 3
    assert (tmp_path / "env" / f"order.{job}").read_text().split() == ["n1"] * 3 + ["n2"] * 3, "nobody joins a head that is not up"
    job = submit(batch, tmp_path, Path("quickstart"), FAILS="3", RAY_TRIES="3", **light)
    assert batch.ended(job) == "FAILED 4:0" and "Ray ended on n1" in log(tmp_path, job), log(tmp_path, job)
    nothing_is_left(batch, job)


def test_jobs_on_one_node_share_no_port_folder_or_token(batch: Slurm, light: dict[str, str], tmp_path: Path) -> None:
    """They are elements of an array, and each is told the CPUs and GPUs that are its own."""
    sizes = ("--nodes=1", "--nodelist=n1", "--gpus-per-node=1", "--cpus-per-task=2", "--array=0-1", f"--output={tmp_path}/%A.log")
    array = submit(batch, tmp_path, Path("quickstart"), *sizes, SWEEP_S="20", **light)
    until("both have ended", lambda: batch.squeue("-h", "-j", array, "-o", "%A") == "" or log(tmp_path, array).count("sweep quick") == 2)
    lines = [line for path in (tmp_path / "env" / "log").iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == 2 and all("--num-cpus=2" in line and "--num-gpus=1" in line for line in lines), lines
    for option in ("--port=", "--temp-dir=", "--dashboard-agent-listen-port=", "--ray-client-server-port="):
        assert len({w for line in lines for w in line.split() if w.startswith(option)}) == 2, option
    assert all("--include-dashboard=false" in line and "--min-worker-port=0" in line for line in lines)
    until("the array has ended", lambda: batch.squeue("-h", "-j", array) == "")


@pytest.mark.quick
def test_an_environment_that_a_node_lacks_is_one_line(batch: Slurm, tmp_path: Path) -> None:
    study = tiny.write(tmp_path)
    job = submit(batch, tmp_path, study, VIRTUAL_ENV=str(tmp_path / "none"))
    assert batch.ended(job) == "FAILED 4:0"
    assert f"slurm.sh: n1 has no {tmp_path}/none/bin/ray" in log(tmp_path, job) and "make install" in log(tmp_path, job)
    assert not (tmp_path / "results").exists()


@pytest.mark.quick
def test_the_script_leaves_sizes_to_the_command_line_and_asks_to_be_requeued() -> None:
    text = (ROOT / SCRIPT).read_text()
    asked = {line.split()[1].partition("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")}
    assert asked == {"--job-name", "--ntasks-per-node", "--signal", "--output", "--open-mode", "--requeue"}
    assert "sleep 15" not in text and os.access(ROOT / SCRIPT, os.X_OK)
