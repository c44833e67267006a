"""The same study on a real Ray cluster: equal plans, DDP workers, jobs, and workers that are killed."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from study.records import OBJECTIVE, Outcome, Stage
from study.tracking.ledger import Ledger
from tests import raycluster, tiny

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


def ledger_of(root: Path) -> Ledger:
    return Ledger(root / "results", "tiny")


def whole(root: Path, planned: int) -> None:
    ledger = ledger_of(root)
    assert len(tiny.trained(ledger)) == planned and len(ledger.asks()) == len(ledger.results())
    assert all(r.outcome is Outcome.COMPLETED for r in ledger.results().values())
    for trial_id in tiny.trained(ledger):
        assert [e.epoch for e in ledger.epochs(trial_id)] == [1, 2]


def test_ray_and_local_run_the_same_plan_to_the_same_numbers(tmp_path: Path) -> None:
    for name, more in (("local", ["--local"]), ("ray", ["--ray"])):
        (tmp_path / name).mkdir()
        done = tiny.run(tiny.write(tmp_path / name), tmp_path / name / "results", "--mlflow", "off", *more, timeout=600)
        assert done.returncode == 0, done.stderr
        whole(tmp_path / name, 8)
    local, ray = (ledger_of(tmp_path / n).results() for n in ("local", "ray"))
    spans = sorted((r.started_at, r.ended_at) for r in ray.values())
    assert any(b[0] < a[1] for a, b in zip(spans, spans[1:], strict=False)), "two cores run two trials at once"
    assert local.keys() == ray.keys()
    for trial in local:
        assert local[trial].metrics[OBJECTIVE] == pytest.approx(ray[trial].metrics[OBJECTIVE], abs=1e-6)


@pytest.mark.parametrize("longest", [1, 3])
def test_the_budget_is_settled_on_ray_as_it_is_here(longest: int, tmp_path: Path) -> None:
    """With `longest` 3 the question is confirmed longer and the check's run is only measured. With 1 all confirm runs are."""
    for name, more in (("local", ["--local"]), ("ray", [])):
        (tmp_path / name).mkdir()
        study = tiny.write(tmp_path / name, ("linear_probe",), seeds=4, check=3)
        study.write_text(study.read_text().replace("max_epochs=2", "max_epochs=1"))
        more = [*more, "--mlflow", "off", "--set", f"longest={longest}"]
        done = tiny.run(study, tmp_path / name / "results", *more, timeout=600)
        assert done.returncode == 0, done.stderr
    local, ray = (ledger_of(tmp_path / n) for n in ("local", "ray"))
    ((record,), (other,)) = local.budgets(), ray.budgets()
    assert record["factor"] == other["factor"] == longest and record["on"] == other["on"]
    assert local.results().keys() == ray.results().keys()
    for ledger in (local, ray):
        (opening,) = ledger.test_openings()
        assert {a.trial_id for a in ledger.asks() if ledger.measurements(a.trial_id)} == set(opening["trials"]) and len(
            opening["trials"]
        ) == 4
        assert all(r.outcome is Outcome.COMPLETED for r in ledger.results().values())


def test_two_ddp_workers_through_ray_train(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), trials=1, seeds=1)
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--workers", "2", timeout=600)
    assert done.returncode == 0, done.stderr + done.stdout
    whole(tmp_path, 2)
    for result in tiny.trained(ledger_of(tmp_path)).values():
        assert result.workers == 2 and result.facts["workers"] == 2
    assert ledger_of(tmp_path).trial_folder(ledger_of(tmp_path).asks(Stage.CONFIRM)[0].trial_id).exists("measured/predictions.parquet")


def actors(process: subprocess.Popen, name: str) -> list[psutil.Process]:
    found = []
    for p in psutil.Process(process.pid).children(recursive=True):
        try:
            if name in " ".join(p.cmdline()) or name in p.name():
                found.append(p)
        except psutil.Error:
            pass
    return found


def test_K3_a_killed_worker_is_replaced_and_its_trial_ends_once(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("partial",))
    process = subprocess.Popen(
        tiny.command(study, tmp_path / "results", "--mlflow", "off", "--ray"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "epoch 1/2" in line:
            for actor in actors(process, "ray::"):
                if "_trial" in " ".join(actor.cmdline()) or "ImplicitFunc" in " ".join(actor.cmdline()):
                    nice = actor.nice()
                    actor.send_signal(signal.SIGKILL)
                    break
            break
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error
    assert nice == psutil.Process().nice(), "a trial gets as much of a busy machine as whoever began it: its speed was measured so"
    whole(tmp_path, 4)


def test_K2_K16_the_driver_is_killed_under_ray_and_leaves_nothing_running(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("partial",))
    process = subprocess.Popen(
        tiny.command(study, tmp_path / "results", "--mlflow", "off", "--ray"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for line in process.stdout:
        if "epoch 1/2" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=120)  # Ray's agents notice by asking now and then
    assert alive == [], "orphans"
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--ray", timeout=600)
    assert done.returncode == 0, done.stderr
    whole(tmp_path, 4)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_K7_a_signal_ends_a_sweep_on_ray_and_the_same_command_goes_on(number: int, code: int, tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("partial",))
    process = subprocess.Popen(
        tiny.command(study, tmp_path / "results", "--mlflow", "off", "--ray"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "epoch 1/2" in line:
            process.send_signal(number)
            break
    _, error = process.communicate(timeout=60)
    assert process.returncode == code and "Resume with the same command" in error, error
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--ray", timeout=600)
    assert done.returncode == 0, done.stderr
    whole(tmp_path, 4)


def test_H4_what_does_not_fit_is_refused_at_once(tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",))
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--cpus-per-worker", "640", timeout=120)
    assert done.returncode == 4 and "needs 640 CPU" in done.stderr
    done = tiny.run(study, tmp_path / "results", "--mlflow", "off", "--gpus-per-trial", "3", timeout=120)
    assert done.returncode == 4 and "GPU" in done.stderr


def test_trials_that_share_gpus_begin_with_a_measuring_round(tmp_path: Path) -> None:
    """The cluster counts a GPU that no trial finds, so nothing is measured: every trial keeps a whole one, and all are done."""
    study = tiny.write(tmp_path, ("linear_probe", "partial"))
    with raycluster.head(gpus=1) as head:
        options = ("--mlflow", "off", "--address", head.address, "--gpus-per-trial", "auto")
        done = tiny.run(study, tmp_path / "results", *options, env=head.env, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("GPUs: a trial takes 1 of one") >= 2, "the round that measures, and the one that runs the rest"
    whole(tmp_path, 8)


def test_a_job_submitted_to_a_head_runs_the_study(tmp_path: Path) -> None:
    """It runs `ray start --head` and `ray job submit` as in the README, on ports of their own."""
    study = tiny.write(tmp_path, ("linear_probe",))
    sweep = [sys.executable, "-m", "study.sweep", str(study), "--results", str(tmp_path / "results"), "--mlflow", "off", "--ray"]
    with raycluster.head() as head:
        done = head.cli("job", "submit", "--address", head.url, "--working-dir", ".", "--", *sweep)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    whole(tmp_path, 4)
    assert "beats" in done.stdout or "verdict" in done.stdout.lower()
