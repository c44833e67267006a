"""Faults on a real Ray cluster: dead workers, heads and nodes, hung and slow workers, memory, signals to jobs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from study.records import Outcome
from study.tracking.ledger import Ledger
from tests import raycluster, tiny

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


def ledger_of(root: Path) -> Ledger:
    return Ledger(root / "results", "tiny")


def nothing_lost(root: Path, planned: int, failed: int = 0) -> None:
    ledger = ledger_of(root)
    results = {trial: result for trial, result in tiny.trained(ledger).items() if result is not None}
    assert len(tiny.trained(ledger)) == len(results) == planned, "every planned trial, once"
    assert sum(r.outcome is Outcome.FAILED for r in results.values()) == failed, [r.reason for r in results.values()]
    for trial, result in results.items():
        if result.outcome is Outcome.COMPLETED:
            assert [e.epoch for e in ledger.epochs(trial)] == [1, 2]
    assert len(ledger.test_openings()) == 1


def faults(root: Path, point: str, times: int = 1, **more: str) -> dict[str, str]:
    marks = root / "fired"
    marks.mkdir(exist_ok=True)
    return {"STUDY_FAILPOINT": point, "STUDY_FAILPOINT_TIMES": f"{marks}:{times}", **more}


def fired(root: Path) -> list[tuple[int, float]]:
    """Return (pid, unix time) of every fault that was injected."""
    return [(int(p), float(t)) for p, t in (f.read_text().split() for f in sorted((root / "fired").iterdir()))]


def start(root: Path, study: Path, *more: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    command = tiny.command(study, root / "results", "--mlflow", "off", "--ray", *more)
    full = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=full)


def until(process: subprocess.Popen, text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"ended without {text!r}: {process.stderr.read()}")


def test_K3_ten_workers_killed_ten_trials_recovered(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=20)
    # the third middle of an epoch in a process: never twice in the same trial
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--ray", env=faults(tmp_path, "mid_epoch:3:kill", 10), timeout=800)
    assert done.returncode == 0, done.stderr
    nothing_lost(tmp_path, 22)
    assert all(r.facts["micro_batches"] == 1 for r in ledger_of(tmp_path).results().values()), "a killed worker is not one out of memory"
    kills = len(fired(tmp_path))
    assert kills == 10
    again = [r.attempts for r in ledger_of(tmp_path).results().values() if r.attempts > 1]
    assert sum(again) - len(again) == kills, "one more attempt for every kill, no more"
    print(f"\nK3: {kills} workers killed, {len(again)} trials went on, 0 lost")


def test_K4_a_trial_whose_worker_always_dies_fails_alone(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=3)
    done = tiny.run(
        study, tmp_path / "results", "--mlflow", "off", "--concurrent", "1", env=faults(tmp_path, "mid_epoch:*:kill", 3), timeout=600
    )
    assert done.returncode == 0, done.stderr
    nothing_lost(tmp_path, 5, failed=1)
    (failed,) = (r for r in ledger_of(tmp_path).results().values() if r.outcome is Outcome.FAILED)
    assert "died" in failed.reason and failed.attempts == 3, failed


@pytest.mark.parametrize(("action", "said"), [("raise", "a fault was injected here"), ("abort", "died"), ("exit", "")])
def test_K17_an_odd_ending_is_a_failure_with_its_text(action: str, said: str, tmp_path: Path) -> None:
    """An error that cannot be pickled, os._exit(1), sys.exit(0): none of them is a success."""
    study = tiny.write(tmp_path, ("linear_probe",), trials=2, seeds=1)
    env = faults(tmp_path, f"mid_epoch:*:{action}", 3)
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--concurrent", "1", env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    nothing_lost(tmp_path, 3, failed=1)
    (failed,) = (r for r in ledger_of(tmp_path).results().values() if r.outcome is Outcome.FAILED)
    assert said in failed.reason and failed.reason, failed


def workers_of(process: subprocess.Popen, name: str) -> list[psutil.Process]:
    return [p for p in psutil.Process(process.pid).children(recursive=True) if name in " ".join(p.cmdline())]


def test_K5_a_stopped_worker_is_found_and_its_group_restarted(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1, protocol=", views=0").with_suffix(".py")
    text = study.read_text().replace("max_epochs=2", "max_epochs=40").replace("views=1, ", "")
    study.write_text(text)
    process = start(tmp_path, study, "--workers", "2")
    until(process, "epoch 3/40")
    group = workers_of(process, "RayTrainWorker")
    assert len(group) == 2, [p.cmdline() for p in group]
    group[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    ledger = ledger_of(tmp_path)
    (trial,) = [a.trial_id for a in ledger.asks()]
    while ledger.attempts(trial) < 2:
        assert time.monotonic() - began < 200, "a stopped worker was not found"
        time.sleep(0.5)
    seconds = time.monotonic() - began
    if group[1].is_running():
        group[1].send_signal(signal.SIGCONT)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    assert all(r.outcome is Outcome.COMPLETED and r.epochs == 40 for r in ledger.results().values())
    print(f"\nK5: a stopped worker was found and its group training again after {seconds:.0f} s")


def test_K6_a_worker_that_skips_a_collective_is_found(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=0)
    env = faults(tmp_path, "mid_epoch:1:hang", 1, STUDY_FAILPOINT_RANK="1")
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--workers", "2", env=env, timeout=800)
    assert done.returncode == 0, done.stderr
    ledger = ledger_of(tmp_path)
    (result,) = ledger.results().values()
    assert result.outcome is Outcome.COMPLETED and result.attempts == 2
    lines = (tmp_path / "results/tiny/trials" / result.trial_id / "attempts.jsonl").read_text().splitlines()
    seconds = json.loads(lines[1])["at"] - fired(tmp_path)[0][1]
    print(f"\nK6: a skipped collective was found and the group training again after {seconds:.0f} s")


def test_K8_a_stopped_job_checkpoints_and_the_same_job_goes_on(tmp_path: Path) -> None:
    with raycluster.head(RAY_JOB_STOP_WAIT_TIME_S="60") as head:
        study = tiny.write(tmp_path, ("partial",))
        submit = ("job", "submit", "--address", head.url, "--working-dir", ".")
        more = ("--", sys.executable, "-m", "study.sweep", str(study), "--results", str(tmp_path / "results"), "--mlflow", "off", "--ray")
        done = head.cli(*submit, "--no-wait", "--submission-id", "first", *more)
        assert done.returncode == 0, done.stdout + done.stderr
        for _ in range(180):
            time.sleep(1)
            if any(ledger_of(tmp_path).epochs(a.trial_id) for a in ledger_of(tmp_path).asks()):
                break
        assert head.cli("job", "stop", "--address", head.url, "first").returncode == 0
        logs = head.cli("job", "logs", "--address", head.url, "first").stdout
        assert "Resume with the same command" in logs, logs[-2000:]
        done = head.cli(*submit, *more)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        nothing_lost(tmp_path, 4)


HOLDER = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR")
@ray.remote(num_cpus=1)
class Holder:
    def holds(self): return True
held = [Holder.remote()]
print(ray.get(held[0].holds.remote()), flush=True)
sys.stdin.read()
"""


def test_a_trial_waits_audibly_while_others_hold_the_processors(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1)
    with raycluster.head(1) as head:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, head.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=head.env
        )
        try:
            assert holder.stdout is not None and holder.stdout.readline().strip() == "True"
            process = start(tmp_path, study, "--address", head.address, env=head.env)
            for line in process.stdout:
                assert "epoch" not in line, line
                if "waiting for a worker" in line:
                    break
            else:
                pytest.fail(process.stderr.read())
            holder.communicate("")
            _, error = process.communicate(timeout=300)
        finally:
            holder.kill()
        assert process.returncode == 0, error
    nothing_lost(tmp_path, 2)


def test_K9_a_lost_head_ends_the_sweep_with_a_line_and_a_rerun_finishes(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("partial",), trials=4)
    with raycluster.head() as head:
        process = start(tmp_path, study, "--address", head.address, env=head.env)
        until(process, "epoch 1/2")
        began = time.monotonic()
        head.pid_of("gcs_server").kill()
        _, error = process.communicate(timeout=90)
        seconds = time.monotonic() - began
        assert process.returncode == 4 and "is lost. Start it and run the same command again" in error, (process.returncode, error)
        assert "Traceback" not in error
        print(f"\nK9: a lost head was named after {seconds:.0f} s")
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--ray", timeout=600)
    assert done.returncode == 0, done.stderr
    nothing_lost(tmp_path, 6)


SOON_DEAD = {"RAY_health_check_timeout_ms": "2000", "RAY_health_check_period_ms": "2000", "RAY_health_check_failure_threshold": "3"}


@pytest.mark.parametrize("goes_on", [True, False])
def test_K9_the_only_node_stopped_is_never_silence(goes_on: bool, tmp_path: Path) -> None:
    """It is stopped for a minute, or for good, which Ray calls dead: it would wait for another node for ever.

    The sweep ends right or with 4 and a line, and a rerun finishes.
    """
    study = tiny.write(tmp_path, ("partial",), trials=4)
    process = start(tmp_path, study, env={} if goes_on else SOON_DEAD)
    until(process, "epoch 1/2")
    (raylet,) = [p for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "raylet"]
    began = time.monotonic()
    raylet.send_signal(signal.SIGSTOP)
    if goes_on:
        time.sleep(60)
        raylet.send_signal(signal.SIGCONT)
    try:
        _, error = process.communicate(timeout=240)
    finally:
        process.kill()
        with contextlib.suppress(psutil.NoSuchProcess):
            raylet.kill()  # a stopped one hears nothing else
    print(
        f"\nK9: {time.monotonic() - began:.0f} s after its only node was stopped the sweep ended with {process.returncode} {error[-200:]}"
    )
    assert "Traceback" not in error
    assert process.returncode in (0, 4), (process.returncode, error)
    assert process.returncode == 0 or "error: no node of the Ray cluster" in error or "is lost" in error, error
    assert goes_on or process.returncode == 4
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--ray", timeout=600)
    assert done.returncode == 0, done.stderr
    nothing_lost(tmp_path, 6)


def test_K10_K12_nodes_are_removed_and_nothing_is_lost(tmp_path: Path) -> None:
    """Trials run on nodes that die under them. Their ledger folder is shared, so they go on elsewhere."""
    study = tiny.write(tmp_path, ("partial",), trials=12)
    removals = 0
    with raycluster.head(cpus=1) as head:
        nodes = [head.node()]
        process = start(tmp_path, study, "--address", head.address, env=head.env)
        for line in process.stdout:
            if "epoch 1/2" in line and removals < 5:
                raycluster.kill_tree(nodes.pop())
                removals += 1
                nodes.append(head.node())
        error = process.stderr.read()
        assert process.wait(60) == 0, error
    nothing_lost(tmp_path, 14)
    print(f"\nK10: {removals} nodes removed, 0 trials lost")


def drain(head: raycluster.Head, seconds: int) -> None:
    """Give notice to the node that is not the head's that it will be gone in so many seconds."""
    listed = head.cli("list", "nodes", "--address", head.address, "--format", "json")
    known = json.loads(listed.stdout[listed.stdout.index("[") :])
    worker = next(n["node_id"] for n in known if not n["is_head_node"] and n["state"] == "ALIVE")
    notice = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", str(seconds))
    drained = head.cli("drain-node", "--address", head.address, "--node-id", worker, *notice)
    assert drained.returncode == 0, drained.stderr


ON_NOTICE = """
import sys, time
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

@ray.remote(num_cpus=0)
def worker(whole):
    from study.search.on_ray.notice import leaving
    asked, end = leaving(whole), time.time() + 60
    said = [asked()]
    while not said[-1] and time.time() < end:
        time.sleep(0.2)
        said.append(asked())
    return said[0], said[-1]

ray.init(address=sys.argv[1], log_to_driver=False)
while sum(n["Alive"] for n in ray.nodes()) < 2:
    time.sleep(0.5)
head = ray.get_runtime_context().get_node_id()
other = next(n["NodeID"] for n in ray.nodes() if n["Alive"] and n["NodeID"] != head)
on = lambda node, whole: worker.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(whole)
asked = [on(other, False), on(head, True), on(head, False)]
print("asking", flush=True)
print(ray.get(asked), flush=True)
"""


def test_K11_workers_know_that_a_node_is_on_notice(tmp_path: Path) -> None:
    """Its own workers know it, and those of a group that reaches over several nodes, but not others."""
    with raycluster.head(cpus=2) as head:
        head.node()
        process = subprocess.Popen([sys.executable, "-c", ON_NOTICE, head.address], stdout=subprocess.PIPE, text=True, env=head.env)
        until(process, "asking")
        time.sleep(10)
        drain(head, 90)
        answers = process.communicate(timeout=200)[0].strip().splitlines()[-1]
        assert answers == "[(False, True), (False, True), (False, False)]", answers


def test_K11_a_node_drained_for_preemption_loses_no_trial(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("partial",), trials=8)
    with raycluster.head(cpus=1) as head:
        node = head.node()
        process = start(tmp_path, study, "--address", head.address, env=head.env)
        until(process, "[1/8]")
        drain(head, 10)
        time.sleep(10)
        raycluster.kill_tree(node)
        process.stdout.read()
        assert process.wait(300) == 0, process.stderr.read()
    nothing_lost(tmp_path, 10)


def test_K13_a_worker_out_of_memory_goes_on_with_half_the_batch(tmp_path: Path) -> None:
    used = psutil.virtual_memory()
    threshold = (used.total - used.available) / used.total + 0.2  # room for the cluster, the sweep and a worker
    if threshold > 0.9:
        pytest.skip("this machine's memory is nearly full already")
    env = {"RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    study = tiny.write(tmp_path, ("linear_probe",), trials=3)
    more = faults(tmp_path, "mid_epoch:1:eat", 1)
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--concurrent", "1", env=env | more, timeout=600)
    assert done.returncode == 0, done.stderr
    nothing_lost(tmp_path, 5)
    again = [r for r in ledger_of(tmp_path).results().values() if r.attempts > 1]
    assert len(again) == 1 and again[0].facts["micro_batches"] == 2, again


def test_K20_a_slow_worker_is_named_on_the_report(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1)
    study.write_text(study.read_text().replace("max_epochs=2", "max_epochs=5"))
    env = {"STUDY_FAILPOINT": "mid_epoch:*:sleep", "STUDY_FAILPOINT_RANK": "1"}
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--workers", "2", env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "straggler" in (tmp_path / "results/tiny/report.html").read_text() and "worker 1 of 2" in done.stderr


def test_X9_the_jobs_interface_wants_its_token(tmp_path: Path) -> None:
    token = (Path.home() / ".ray/auth_token").read_text().strip()
    with raycluster.head() as head:

        def post(**headers: str) -> int:
            request = urllib.request.Request(
                f"{head.url}/api/jobs/",
                data=json.dumps({"entrypoint": "true"}).encode(),
                headers={"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
            )
            try:
                return urllib.request.urlopen(request, timeout=60).status
            except urllib.error.HTTPError as error:
                return error.code

        assert post() == 401
        assert post(Authorization="Bearer wrong") == 403
        assert post(Authorization=f"Bearer {token}") == 200
        browser = {"User_Agent": "Mozilla/5.0", "Origin": "http://evil.example", "Sec_Fetch_Mode": "cors"}
        assert post(**browser) in (401, 403, 405)
        assert head.cli("job", "submit", "--address", head.url, "--", "true").returncode == 0
