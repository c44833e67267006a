"""Results in an object store, on real S3 servers on loopback: nothing hidden, one sweep at a time, few requests, errors in one line."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from study.errors import EnvironmentProblem
from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.records import Ask, EpochRecord, Outcome, TrialResult
from study.search.optuna_cells import SearchPlan
from study.storage import lock
from study.storage.folder import Folder
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from tests import s3server, tiny


@pytest.fixture(scope="module")
def moto() -> Iterator[s3server.Server]:
    with s3server.moto() as server:
        yield server


@pytest.fixture(scope="module", params=["moto", "s3rver"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3server.Server]:
    if request.param == "moto":
        yield request.getfixturevalue("moto")
        return
    with s3server.s3rver(tmp_path_factory.mktemp("s3rver")) as other:
        yield other


@pytest.fixture
def url(server: s3server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return of(server, tmp_path, monkeypatch)


@pytest.fixture
def slow(moto: s3server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a URL of the server whose trouble a test chooses."""
    yield of(moto, tmp_path, monkeypatch)
    moto.trouble()


def of(server: s3server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # made for another server
    return f"s3://{server.bucket}/{tmp_path.name}"


def study(trials: int = 4) -> Study:
    cells = grid(["digits"], ["efficientnet_lite0"], ["partial", "full"])
    return Study(name="s", cells=cells, protocol=Protocol(max_epochs=3, image_size=32), trials=trials, random_trials=trials // 2)


def record(epoch: int, score: float = 0.5) -> EpochRecord:
    metrics = {"val/macro_f1": score + epoch / 100, "train/loss": 1.0}
    return EpochRecord(
        epoch=epoch, metrics=metrics, train_seconds=1, eval_seconds=1, images=1, ended_at=float(epoch), confusion=[[1, 0], [0, 1]]
    )


def result(ask: Ask, epochs: int) -> TrialResult:
    return TrialResult(
        trial_id=ask.trial_id, outcome=Outcome.COMPLETED, epochs=epochs, best_epoch=epochs, metrics=record(epochs).metrics,
        classes=["a", "b"], val=None, seconds=2.0 * epochs, images=epochs,
    )  # fmt: skip


def filled(url: str, trials: int, epochs: int = 3) -> Ledger:
    """Write a search that ended, as a sweep writes it."""
    ledger = Ledger(url, "s")
    plan = SearchPlan(ledger.begin(study(trials // 2), {}), ledger)

    def one(ask: Ask) -> None:
        ledger.write_ask(ask)
        for epoch in range(1, epochs + 1):
            ledger.append_epoch(ask.trial_id, record(epoch))
        ledger.write_result(result(ask, epochs))

    asks = []
    while (ask := plan.ask()) is not None:
        plan.tell(ask, result(ask, epochs))
        asks.append(ask)
    ledger.folder.each(one, asks)
    return ledger


def test_a_folder_in_a_store_is_a_folder(url: str) -> None:
    here, there = Folder(url), Folder(url)
    assert there.names() == [] and there.read("a/b") is None and there.marks("a") == {} and not there.exists("a")
    here.write("a/b", b"1")
    before = there.marks("a")
    here.write("a/b", b"2")
    here.append_line("a/log", b"x")
    assert there.read("a/b") == b"2" and there.names("a") == ["b", "log"] and there.size("a/b") == 1
    assert set(before) == {"b"} and there.marks("a")["b"] != before["b"] and there.marks("a") == here.marks("a")
    assert here.each(there.read, ["a/log", "none", "a/b"]) == [b"x\n", None, b"2"]
    here.remove("a")
    assert there.names() == []


def test_epochs_are_a_file_each_until_their_trial_ends(url: str) -> None:
    ledger = Ledger(url, "s")
    (ask,) = filled_asks(ledger, 1)
    assert [ledger.append_epoch(ask.trial_id, record(epoch)) for epoch in (1, 2, 2, 3)] == [True, True, False, True]
    reader = Ledger(url, "s")
    assert reader.epochs(ask.trial_id) == [record(k) for k in (1, 2, 3)] == ledger.epochs(ask.trial_id)
    assert reader.folder.names(f"trials/{ask.trial_id}") == ["config.json", "epochs"]
    ledger.append_epoch(ask.trial_id, record(4))
    ledger.write_result(result(ask, 4))
    assert reader.result(ask.trial_id) == result(ask, 4) and reader.epochs(ask.trial_id, ended=True) == [record(k) for k in (1, 2, 3, 4)]
    assert reader.folder.names(f"trials/{ask.trial_id}") == ["config.json", "epochs.jsonl", "result.json"]
    assert reader.trial(ask.trial_id) == Ledger(url, "s").trial(ask.trial_id)


def filled_asks(ledger: Ledger, count: int) -> list[Ask]:
    plan = SearchPlan(ledger.begin(study(), {}), ledger)
    asks = [plan.ask() for _ in range(count)]
    for ask in asks:
        ledger.write_ask(ask)
    return asks


@pytest.mark.parametrize("where", ["before the result", "before the files go"])
def test_a_kill_while_epochs_are_gathered_loses_and_doubles_none(where: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(url, "s")
    (ask,) = filled_asks(ledger, 1)
    for epoch in (1, 2):
        ledger.append_epoch(ask.trial_id, record(epoch))

    def killed(self: Folder, name: str, *data: bytes) -> None:
        if name.endswith("result.json" if where == "before the result" else "/epochs"):
            raise KeyboardInterrupt
        write(self, name, *data)

    write, remove = Folder.write, Folder.remove
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Folder, *(("write", killed) if where == "before the result" else ("remove", killed)))
        ledger.write_result(result(ask, 2))
    assert Folder.remove is remove
    resumed = Ledger(url, "s")
    if where == "before the result":  # it goes on, one epoch further than it had come
        assert resumed.result(ask.trial_id) is None and not resumed.append_epoch(ask.trial_id, record(2))
        resumed.append_epoch(ask.trial_id, record(3))
        assert Ledger(url, "s").epochs(ask.trial_id) == [record(k) for k in (1, 2, 3)]
        resumed.write_result(result(ask, 3))
    expected = [record(k) for k in range(1, (4 if where == "before the result" else 3))]
    assert Ledger(url, "s").trial(ask.trial_id).epochs == expected


def test_an_epoch_costs_one_request(slow: str, moto: s3server.Server) -> None:
    ledger = Ledger(slow, "s")
    (ask,) = filled_asks(ledger, 1)
    ledger.append_epoch(ask.trial_id, record(1))
    moto.trouble()
    for epoch in range(2, 12):
        ledger.append_epoch(ask.trial_id, record(epoch))
        assert len(ledger.epochs(ask.trial_id)) == epoch
    assert moto.trouble() == {"PUT": 10}


def test_resuming_costs_three_requests_a_trial_many_at_a_time(slow: str, moto: s3server.Server) -> None:
    filled(slow, 60)
    moto.trouble(latency=0.1)
    ledger = Ledger(slow, "s")
    assert len(ledger.results()) == len(ledger.asks()) == 60
    plan = SearchPlan(ledger.study(), ledger)
    asked = sum(moto.trouble().values())
    assert plan.done == plan.total == 60
    assert asked <= 3 * 60 + 10
    assert moto.at_once > 1, "one after the other"


def test_of_many_that_want_a_lock_one_gets_it(slow: str) -> None:
    got, lines, all_tried = [], [], threading.Barrier(8)

    def want() -> None:
        try:
            with lock.held(Folder(slow)):
                got.append(1)
                all_tried.wait(60)
        except EnvironmentProblem as error:
            lines.append(str(error))
            all_tried.wait(60)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and len(lines) == 7 and all("\n" not in line and f"{slow}/.lock" in line for line in lines), lines
    assert Folder(slow).names() in ([], [".lock.guard"])


def left(url: str, **fields: object) -> None:
    values = {"host": socket.gethostname(), "pid": 2**22 + 1, "since": 1.0, "started": 1.0, "machine": lock.machine(), **fields}
    Folder(url).write(".lock", json.dumps(values).encode())


def test_a_lock_in_a_store_is_honoured_while_its_holder_may_live(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock.held(Folder(url)), pytest.raises(EnvironmentProblem, match=f"in use by pid {os.getpid()} .*{url}/.lock.*--name"):
        lock.held(Folder(url)).__enter__()
    left(url)  # dead, and of this machine
    with lock.held(Folder(url)):
        pass
    left(url, machine="another")
    with pytest.raises(EnvironmentProblem, match="cannot be seen from here"):
        lock.held(Folder(url)).__enter__()
    monkeypatch.setattr(lock, "STALE_S", 1.0)
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    time.sleep(2.1)
    with lock.held(Folder(url)):
        time.sleep(2.1)
        with pytest.raises(EnvironmentProblem, match="in use"):  # it shows that it lives
            lock.held(Folder(url)).__enter__()
    assert ".lock" not in Folder(url).names()


def test_a_sweep_that_lost_its_lock_leaves_the_others_alone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.1)
    with lock.held(Folder(url)):
        left(url, machine="another")
        time.sleep(0.5)
    assert json.loads(Folder(url).read(".lock"))["machine"] == "another"


@pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
def test_what_a_store_fails_at_is_tried_again(code: str, slow: str, moto: s3server.Server) -> None:
    moto.trouble(code=code, every=4)
    ledger = filled(slow, 4, epochs=2)
    plan = SearchPlan(ledger.study(), Ledger(slow, "s"))
    moto.trouble()
    assert plan.done == 4 and [len(t.epochs) for t in Ledger(slow, "s").trials()] == [2] * 4


@pytest.mark.parametrize(
    ("code", "way_out"), [("AccessDenied", "check the credentials"), ("QuotaExceeded", "free some room there or raise the quota")]
)
def test_what_a_store_refuses_is_a_line_with_its_url(code: str, way_out: str, slow: str, moto: s3server.Server) -> None:
    moto.trouble(code=code, every=1, methods=["PUT"])
    for act in (lambda: Folder(slow).write("study.json", b"{}"), lambda: lock.held(Folder(slow)).__enter__()):
        with pytest.raises(EnvironmentProblem, match=f"^cannot write {slow}/.*{code}, as asked; .*{way_out}") as caught:
            act()
        assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named_and_not_made(url: str) -> None:
    for act in (lambda f: f.write("study.json", b"{}"), lambda f: f.append_line("a", b"1"), lambda f: lock.held(f).__enter__()):
        with pytest.raises(EnvironmentProblem, match="^cannot write s3://studis/r/.*check the spelling of the bucket") as caught:
            act(Folder("s3://studis/r"))
        assert "\n" not in str(caught.value)
    assert not Folder("s3://studis").exists()


def test_a_mirror_misses_nothing_of_a_store(url: str, tmp_path: Path) -> None:
    """It looks again and again while another process writes. In the end its server has everything, once."""
    writer = filled(url, 4)
    mirror = Mirror(Ledger(url, "s"), f"sqlite:///{tmp_path}/m.db")
    assert mirror.sync().pending == 0
    (late,) = [a for a in [SearchPlan(writer.begin(study(3), {}), writer).ask()] if a]
    writer.write_ask(late)
    writer.append_epoch(late.trial_id, record(1))
    assert mirror.pending() > 0 and mirror.sync().pending == 0
    writer.append_epoch(late.trial_id, record(2))
    writer.write_result(result(late, 2))
    assert mirror.sync().pending == 0 and mirror.sync().sent == 0
    runs = mirror.runs.client.search_runs([mirror.runs.experiment])
    own = {r.data.tags["trial"]: r for r in runs if "trial" in r.data.tags}
    assert set(own) == {a.trial_id for a in writer.asks()} and len(runs) == 1 + 2 + 5
    history = mirror.runs.client.get_metric_history(own[late.trial_id].info.run_id, "val/macro_f1")
    assert sorted(m.step for m in history) == [1, 2] and own[late.trial_id].info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_study_in_a_store_is_the_same_study(server: s3server.Server, url: str, tmp_path: Path) -> None:
    """It is killed in its search and in its confirm runs, and resumed by the same line: ids, metrics and verdict equal those on a disk."""
    path = tiny.write(tmp_path, trials=3)
    here = tiny.run(path, tmp_path / "results", "--local", "--mlflow", "off")
    assert here.returncode == 0, here.stderr
    for point in ("after_report:3", "before_tell:7"):
        killed = tiny.run(path, url, "--local", "--mlflow", "off", env={**server.env, "STUDY_FAILPOINT": point})  # type: ignore[arg-type]
        assert killed.returncode not in (0, 4), killed.stderr
    there = tiny.run(path, url, "--local", "--mlflow", "off", env=server.env)  # type: ignore[arg-type]
    assert there.returncode == 0, there.stderr
    a, b = Ledger(tmp_path / "results", "tiny"), Ledger(url, "tiny")
    tiny.same(a, b)
    assert len(a.asks()) == 10
    assert len(b.test_openings()) == 1 and ".lock" not in b.folder.names()
