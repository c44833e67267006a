"""K1: the sweep's process is killed at every failpoint; the same command, until it is done, leaves every trial exactly once."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from study.errors import EnvironmentProblem
from study.failpoints import NAMES
from study.records import OBJECTIVE, Origin
from study.search import RayDoesNotStart
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from tests import tiny

AT_ONCE = ("mid_epoch", "before_tell")
NEEDS_MLFLOW = ("after_mlflow_start", "before_mlflow_end")
NEEDS_A_CHECK = ("before_budgets", "after_budgets")


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    root = tmp_path_factory.mktemp("unkilled")
    result = tiny.run(tiny.write(root, ("linear_probe",)), root / "results", "--local", "--mlflow", "off")
    assert result.returncode == 0, result.stderr
    return scores(root)


def scores(root: Path) -> dict[str, float]:
    ledger = Ledger(root / "results", "tiny")
    return {k: r.metrics[OBJECTIVE] for k, r in ledger.results().items()}


def check(root: Path, unkilled: dict[str, float]) -> None:
    ledger = Ledger(root / "results", "tiny")
    assert scores(root) == unkilled, "every trial once, with the numbers of an uninterrupted study"
    assert {a.trial_id for a in ledger.asks()} == set(unkilled)
    for ask in ledger.asks():
        assert [e.epoch for e in ledger.epochs(ask.trial_id)] == ([1] if ask.origin is Origin.LINE else [1, 2])
    assert len(ledger.test_openings()) == 1
    assert (root / "results" / "tiny" / "report.html").read_text().endswith("</html>")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in AT_ONCE else pytest.mark.slow) for n in NAMES if n not in (*NEEDS_MLFLOW, *NEEDS_A_CHECK)]
)
def test_K1_killed_at_a_failpoint(name: str, tmp_path: Path, unkilled: dict[str, float]) -> None:
    study = tiny.write(tmp_path, ("linear_probe",))
    killed = tiny.run(study, tmp_path / "results", "--local", "--mlflow", "off", env={"STUDY_FAILPOINT": f"{name}:1"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = tiny.run(study, tmp_path / "results", "--local", "--mlflow", "off")
    assert again.returncode == 0, again.stderr
    check(tmp_path, unkilled)


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS_A_CHECK)
def test_K1_killed_while_the_budget_is_settled(name: str, tmp_path: Path) -> None:
    study = tiny.write(tmp_path, ("linear_probe",), seeds=3, check=3)
    study.write_text(study.read_text().replace("max_epochs=2", "max_epochs=1"))
    whole = tiny.run(study, tmp_path / "whole", "--local", "--mlflow", "off")
    assert whole.returncode == 0, whole.stderr
    killed = tiny.run(study, tmp_path / "results", "--local", "--mlflow", "off", env={"STUDY_FAILPOINT": f"{name}:1"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ledger = Ledger(tmp_path / "results", "tiny")
    assert not ledger.test_openings() and bool(ledger.budgets()) == (name == "after_budgets")
    again = tiny.run(study, tmp_path / "results", "--local", "--mlflow", "off")
    assert again.returncode == 0, again.stderr
    tiny.same(ledger, Ledger(tmp_path / "whole", "tiny"))
    assert ledger.budgets() == Ledger(tmp_path / "whole", "tiny").budgets() != [] and len(ledger.test_openings()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS_MLFLOW)
def test_T7_the_mirror_killed_in_the_middle_goes_on_with_the_same_runs(name: str, tmp_path: Path, unkilled: dict[str, float]) -> None:
    study = tiny.write(tmp_path, ("linear_probe",))
    done = tiny.run(study, tmp_path / "results", "--local", env={"STUDY_FAILPOINT": f"{name}:2"})
    assert done.returncode == 0 and "events not sent" in done.stdout, "the sweep itself is not touched"
    assert scores(tmp_path) == unkilled
    mirror = Mirror(Ledger(tmp_path / "results", "tiny"))
    assert mirror.sync().pending == 0
    runs = [
        r.data.tags["trial"] for r in mirror.runs.client.search_runs([mirror.runs.experiment], max_results=100) if "trial" in r.data.tags
    ]
    assert sorted(runs) == sorted(unkilled), "one run a trial"


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_K2_killed_at_a_random_moment(attempt: int, tmp_path: Path, unkilled: dict[str, float]) -> None:
    study = tiny.write(tmp_path, ("linear_probe",))
    random.seed(attempt)
    for _ in range(2):
        process = subprocess.Popen(
            tiny.command(study, tmp_path / "results", "--local", "--mlflow", "off"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(random.uniform(4, 14))
        process.kill()
        process.wait()
    assert tiny.run(study, tmp_path / "results", "--local", "--mlflow", "off").returncode == 0
    check(tmp_path, unkilled)


@pytest.mark.parametrize("error", [Exception("The current node timed out during startup."), ConnectionError("no"), RuntimeError("")])
def test_K9_a_ray_that_does_not_start_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from study.search.on_ray import cluster

    def refuse(**_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Ray puts its own handlers in before it fails
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(cluster, "_require_ray_at", lambda address, option: None)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RayDoesNotStart, match=r"^Ray does not start on this machine \(.+\)\.$"), cluster.cluster(None):
        pass
    with pytest.raises(EnvironmentProblem, match="cannot reach Ray at .*. Check --address and that this shell has") as raised:
        with cluster.cluster("10.0.0.1:6379"):
            pass
    assert not isinstance(raised.value, RayDoesNotStart), "an address that was given is not done without"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_K7_a_signal_ends_it_with_its_code_and_the_way_to_go_on(number: int, code: int, tmp_path: Path, unkilled) -> None:
    study = tiny.write(tmp_path, ("linear_probe",))
    process = subprocess.Popen(
        tiny.command(study, tmp_path / "results", "--local", "--mlflow", "off"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "epoch 1/2" in line:
            process.send_signal(number)
            break
    _, error = process.communicate(timeout=60)
    assert process.returncode == code and "Resume with the same command" in error
    assert tiny.run(study, tmp_path / "results", "--local", "--mlflow", "off").returncode == 0
    check(tmp_path, unkilled)
