"""A results folder that was copied, moved or fetched: the copy's files are the copy's, and what has gone on is not set back."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.errors import ConfigError, EnvironmentProblem
from study.storage.folder import Folder
from study.tracking import __main__ as command
from study.tracking import fetched, moved
from study.tracking.from_mlflow import read
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from tests.goldens import GOLDEN


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Send results of the golden study's chosen trials, with MLflow's database beside them."""
    results = tmp_path_factory.mktemp("with blank é") / "results"
    shutil.copytree(GOLDEN, results)
    ledger = Ledger(results, "golden")
    keep = set(ledger.selection()["chosen"].values())
    for name in ledger.folder.names("trials"):
        if name not in keep:
            ledger.trial_folder(name).remove("")
    assert Mirror(ledger).sync().pending == 0
    return results


@pytest.mark.parametrize("how", ["copied", "moved", "only the database is copied"])
def test_what_a_copy_sends_stays_in_it(how: str, sent: Path, tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    shutil.copytree(sent, original)
    moved.bring_along(f"sqlite:///{original}/mlflow.db", "golden")
    before = contents(original)
    if how == "moved":
        original.rename(copy)
    else:
        shutil.copytree(original, copy)
    if how == "only the database is copied":
        shutil.rmtree(copy / "mlartifacts")
        (copy / "golden" / "mlflow.json").unlink()
    ledger = Ledger(copy, "golden")
    ledger.add_facts(verdicts=["of the copy"])
    sync = [sys.executable, "-m", "study.tracking", "sync", str(copy)]  # a process of its own: MLflow remembers a run's folder
    assert "0 pending" in subprocess.run(sync, capture_output=True, text=True, check=True, timeout=120).stdout
    assert how == "moved" or contents(original) == before
    found = [p for p in (copy / "mlartifacts").rglob("study.json")]
    assert found and all(b"of the copy" in p.read_bytes() for p in found)
    with closing(sqlite3.connect(copy / "mlflow.db")) as database:
        for table, column in moved.COLUMNS:
            places = [r[0] for r in database.execute(f"select {column} from {table}") if r[0]]
            assert all("/mlartifacts/" not in p or p.startswith((copy / "mlartifacts").as_uri()) for p in places), table
    fetch = ["fetch", str(tmp_path / "fetched"), "--study", "golden", "--mlflow", f"sqlite:///{copy}/mlflow.db"]
    assert command.main(fetch) == 0
    assert b"of the copy" in (tmp_path / "fetched" / "golden" / "study.json").read_bytes()


def test_what_was_put_elsewhere_on_purpose_stays_there(tmp_path: Path) -> None:
    from study.tracking.client import connect

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for name, place in (("s", "file:///data/other/s"), ("u", "s3://bucket/mlartifacts/v"), ("w", "mlflow-artifacts:/1")):
        connect(uri).create_experiment(name, artifact_location=place)
        assert moved.moved(uri, name) is None
    assert moved.moved("http://127.0.0.1:1", "s") is None and moved.moved(f"sqlite:///{tmp_path}/none.db", "s") is None
    (tmp_path / "torn.db").write_bytes(b"SQLite format 3\0 torn")
    assert moved.moved(f"sqlite:///{tmp_path}/torn.db", "s") is None


CHANGES = {
    "study.json": lambda p: p.write_text(json.dumps({**json.loads(p.read_text()), "later": 1})),
    "test_lock.json": lambda p: p.write_text("[]"),
    "selection.json": lambda p: p.write_bytes(b"torn"),
    "a trial": lambda p: p.write_bytes(p.read_bytes() + b"{}\n"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_fetch_replaces_nothing_that_has_gone_on(what: str, sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(GOLDEN, tmp_path / "results")
    folder = tmp_path / "results" / "golden"
    path = next(folder.glob("trials/*/epochs.jsonl")) if what == "a trial" else folder / what
    if what == "a trial":
        path = folder / "trials" / next(iter(Ledger(sent, "golden").selection()["chosen"].values())) / "epochs.jsonl"
    CHANGES[what](path)
    before = {k: v for k, v in contents(folder).items() if not k.startswith(".lock")}
    fetch = ["fetch", str(tmp_path / "results"), "--study", "golden", "--mlflow", f"sqlite:///{sent}/mlflow.db"]
    assert command.main(fetch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert path.name in line and "--overwrite" in line
    assert {k: v for k, v in contents(folder).items() if not k.startswith(".lock")} == before
    assert command.main([*fetch, "--overwrite"]) == 0 and path.read_bytes() != before[str(path.relative_to(folder))][1]


NAMES = ["study.json", "selection.json", "trials/a/epochs.jsonl"]
STEP = st.tuples(st.sampled_from(["server", "here", "fetch"]), st.sampled_from(NAMES), st.binary(max_size=2))


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=12))
def test_only_what_is_as_it_was_fetched_is_replaced(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]]) -> None:
    folder = Folder(tmp_path_factory.mktemp("drawn"))
    server, own = dict[str, bytes](), set[str]()  # what was written here since it was fetched
    for who, name, data in steps:
        if who == "server":
            server[name] = data
        elif who == "here":
            folder.write(name, data)
            own.add(name)
        else:
            before = {n: folder.read(n) for n in NAMES}
            given_before = fetched._known(folder)
            lost = {
                n for n in own & server.keys() if before[n] != server[n] and fetched.mark(before[n] or b"") not in given_before.get(n, [])
            }
            try:
                fetched.write(folder, server.items(), fetched.check(folder, server.items(), overwrite=False))
            except ConfigError:
                assert lost and {n: folder.read(n) for n in NAMES} == before
            else:
                assert not lost and all(folder.read(n) == server[n] for n in server)
                assert all(folder.read(n) == before[n] for n in before if n not in server)
                own -= server.keys()


def test_a_study_is_not_fetched_into_its_own_folder(sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of its name once lay in it then."""
    shutil.copytree(GOLDEN, tmp_path / "results")
    fetch = ["fetch", str(tmp_path / "results" / "golden"), "--study", "golden", "--mlflow", f"sqlite:///{sent}/mlflow.db"]
    assert command.main(fetch) == 2 and f"into the one that holds it: {tmp_path / 'results'}." in capsys.readouterr().err
    assert not (tmp_path / "results" / "golden" / "golden").exists()


@pytest.mark.parametrize("name", ["config.json", "epochs.jsonl", "result.json"])
@pytest.mark.parametrize("how", ["gone", "torn"])
def test_a_trial_that_is_not_whole_on_the_server_is_left_out_and_said(
    how: str, name: str, sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report once rested on fewer runs, and nothing said so."""
    shutil.copytree(sent, tmp_path / "results")
    trials = set(Ledger(sent, "golden").trial_ids())
    lost = min(trials)
    runs = json.loads((sent / "golden" / "mlflow.json").read_text())["runs"]
    (file,) = (tmp_path / "results" / "mlartifacts").rglob(f"{runs[lost]}/artifacts/{name}")
    file.unlink() if how == "gone" else file.write_bytes(file.read_bytes()[:-9])
    assert command.main(["fetch", str(tmp_path / "to"), "--mlflow", f"sqlite:///{tmp_path}/results/mlflow.db"]) == 0
    assert f"the records of 1 finished trials are not whole there ({lost})" in capsys.readouterr().err
    assert set(Ledger(tmp_path / "to", "golden").trial_ids()) == trials - {lost}


def test_a_torn_file_of_a_study_on_a_server_is_named_with_the_server(sent: Path, tmp_path: Path) -> None:
    shutil.copytree(sent, tmp_path / "results")
    (file,) = (tmp_path / "results" / "mlartifacts").rglob("selection.json")
    file.write_bytes(file.read_bytes()[:-9])
    uri = f"sqlite:///{tmp_path}/results/mlflow.db"
    with pytest.raises(EnvironmentProblem, match=f"{uri}: selection.json of golden is damaged .*Send all anew"):
        read(uri, "golden", tmp_path / "to")


def test_what_a_copy_from_a_server_lacks_is_to_be_mended_there(sent: Path, tmp_path: Path) -> None:
    """The way out once led into a folder that went with the command."""
    uri = f"sqlite:///{sent}/mlflow.db"
    ledger = read(uri, "golden", tmp_path)
    ledger.trial_folder(next(iter(ledger.selection()["chosen"].values()))).remove("")
    with pytest.raises(EnvironmentProblem, match=f"it comes from {uri}.*study.tracking sync RESULTS/golden --mlflow {uri}"):
        ledger.winners()


def test_a_renamed_folder_is_the_study_of_that_name(tmp_path: Path) -> None:
    """Asked to go on by its folder, a study once began anew beside it, under its old name."""
    from study.conduct.asked import _found

    shutil.copytree(GOLDEN, tmp_path / "results")
    (tmp_path / "results" / "golden").rename(tmp_path / "results" / "renamed")
    ledger = Ledger(tmp_path / "results", "renamed")
    study, results = _found(ledger.folder.location, None)
    assert (study.name, results) == ("renamed", str(tmp_path / "results"))
    before = contents(tmp_path)
    assert ledger.begin(study, {}) == study and contents(tmp_path) == before, "it goes on as it is"


def test_a_fetch_by_command_ends_when_its_time_is_up(sent: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STUDY_MLFLOW_DEADLINE", "0.01")
    assert command.main(["fetch", str(tmp_path / "to"), "--mlflow", f"sqlite:///{sent}/mlflow.db"]) == 4
    assert "within 0.01 s" in capsys.readouterr().err and not (tmp_path / "to").exists()
