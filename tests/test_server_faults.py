"""A server's fault is told by code, whatever digits and words its text has. Deleted things are named, with a way out that works."""

import errno
import http.server
import itertools
import json
import os
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException, RestException
from requests.exceptions import TooManyRedirects
from urllib3.exceptions import ResponseError

from study import Results
from study.errors import ConfigError, EnvironmentProblem
from study.storage.options import check_receiver, check_tracking, server_and_study
from study.tracking import __main__ as tracking
from study.tracking.client import BEGUN, KEY, connect
from study.tracking.explain import explain
from study.tracking.from_mlflow import fetch, read
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from study.tracking.tracker import SyncReport
from tests.goldens import GOLDEN

URI = "http://h:5000"
WAYS = {  # what of the line says which way out it is
    "INVALID_PARAMETER_VALUE": None,
    "INTERNAL_ERROR": None,
    "BAD_REQUEST": None,
    "UNAUTHENTICATED": "refused the login (401)",
    "CUSTOMER_UNAUTHORIZED": "refused the login (401)",
    "PERMISSION_DENIED": "refused (403)",
    "RESOURCE_DOES_NOT_EXIST": "has lost its runs",
    "NOT_FOUND": "has lost its runs",
    "ENDPOINT_NOT_FOUND": "knows no MLflow at that path",
    "RESOURCE_EXHAUSTED": "takes no more requests",
    "TEMPORARILY_UNAVAILABLE": "is not ready (503)",
}
TEXTS = (
    "run 8f4012c7 of 403",
    "API request to http://h:4010/api failed to resolve",
    "FORBIDDEN words, UNAUTHORIZED ones",
    "Run with id=7 timed out",
    "RESOURCE_DOES_NOT_EXIST: Connection refused",
    "file is not a database",
    "ReadTimeout 404 503 429",
)


def line_of(code: str, text: str) -> str:
    return explain(RestException({"error_code": code, "message": text}), URI)


def told(line: str) -> set[str]:
    """Return the ways out that a line gives, without the text of the error itself."""
    return {way for way in WAYS.values() if way and way in line}


@pytest.mark.parametrize(("code", "text"), list(itertools.product(WAYS, TEXTS)))
def test_the_code_decides_and_no_text_does(code: str, text: str) -> None:
    assert told(line_of(code, text)) == {WAYS[code]} - {None}
    for other in ("refuses connections", "accepts but"):
        assert other not in line_of(code, text)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(WAYS)), st.text(max_size=60) | st.from_regex(r"[0-9a-f]{0,8}40[134][0-9a-f]{0,8}", fullmatch=True))
def test_no_text_makes_another_way_out_of_a_code(code: str, text: str) -> None:
    line = line_of(code, text)
    assert "\n" not in line and told(line) == {WAYS[code]} - {None}


def raised(*causes: BaseException, wrap: type[Exception] = MlflowException) -> Exception:
    """Return an error as MLflow's client raises it: a text, and the cause as what was handled."""
    error: BaseException = causes[0]
    for outer in (*causes[1:], wrap("API request to http://h:4010/x failed with exception 403 401 404")):
        outer.__context__ = error
        error = outer
    assert isinstance(error, Exception)
    return error


def sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("401 403 words")
    error.sqlite_errorcode = code
    return error


class Answer:
    def __init__(self, status: int) -> None:
        self.status_code = status


def http_error(held: Any) -> Exception:
    error = RuntimeError("words with 401, 403 and 404")
    error.response = held  # type: ignore[attr-defined]
    return error


CAUSES = [
    (socket.gaierror(socket.EAI_NONAME, "401"), "host name that is not known"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "403"), "Is the server running?"),
    (TimeoutError("404"), "timed out"),
    (ssl.SSLCertVerificationError("401"), "certificate"),
    (ssl.SSLError("403"), "rather than https"),
    (sqlite(sqlite3.SQLITE_NOTADB), "lost its runs"),
    (sqlite(sqlite3.SQLITE_CORRUPT), "lost its runs"),
    (sqlite(sqlite3.SQLITE_CORRUPT | 1 << 8), "lost its runs"),
    (sqlite(sqlite3.SQLITE_CANTOPEN), os.getcwd()),
    (sqlite(sqlite3.SQLITE_READONLY), "may not be written"),
    (sqlite(sqlite3.SQLITE_FULL), "full disk"),
    (sqlite(sqlite3.SQLITE_BUSY), "held by another process"),
    (sqlite(sqlite3.SQLITE_CONSTRAINT), "MlflowException: API request"),
    (http_error(Answer(401)), "(401)"),
    (http_error(Answer(403)), "(403)"),
    (http_error({"ResponseMetadata": {"HTTPStatusCode": 403}}), "(403)"),
    (http_error(Answer(502)), "not ready (502)"),
    (http_error(Answer(500)), "failed inside (500)"),
    (ResponseError("too many 429 error responses"), "(429)"),
    (ResponseError("too many 500 error responses"), "failed inside (500)"),
    (TooManyRedirects("401"), "not as MLflow does"),
    (ModuleNotFoundError("403", name="psycopg2"), "needs the package psycopg2"),
    (http_error(Answer(418)), "MlflowException: API request"),
    (http_error("no answer"), "MlflowException: API request"),
]


@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.parametrize(("cause", "words"), CAUSES)
def test_the_cause_is_found_however_deep_it_lies(cause: Exception, words: str, depth: int) -> None:
    line = explain(raised(cause, *(RuntimeError(f"layer {k}, 403") for k in range(depth))), URI)
    assert words in line and line.startswith(URI)
    ways = [w for _, w in CAUSES if w not in words and words not in w and "MlflowException" not in w]
    assert not [w for w in ways if w in line.partition(" ")[2]]


def test_what_the_client_itself_raises_is_known_by_its_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (("MAX_RETRIES", "0"), ("TIMEOUT", "2")):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for uri, words in (
            ("http://127.0.0.1:9", "refuses connections"),
            ("http://nosuch.invalid:4010", "host name"),
            (f"http://127.0.0.1:{silent.getsockname()[1]}", "does not answer"),
        ):
            with pytest.raises(Exception) as error:
                MlflowClient(uri).search_experiments()
            assert words in explain(error.value, uri)


@pytest.fixture
def late(copy: Ledger, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that brings a trial of which the server knows nothing yet."""
    trial = copy.asks("confirm")[-1].trial_id
    away, place = tmp_path / trial, Path(copy.folder.path(f"trials/{trial}"))
    shutil.move(place, away)
    yield lambda: shutil.move(away, place)


def test_a_deleted_experiment_is_named_and_restoring_it_is_enough(copy: Ledger, late: Callable[[], None]) -> None:
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    client, number = mirror.runs.client, mirror.runs.experiment
    client.delete_experiment(number)
    late()
    for _ in range(2):  # as a new process, and as the one that had sent
        problem = Mirror(copy).sync().problem or ""
        assert "was deleted there" in problem and "403" not in problem.replace(mirror.uri, "") and "lost its runs" not in problem
    found = re.search(r"experiments restore --experiment-id (\d+)", problem)
    assert found and "rename the study's folder" in problem
    client.restore_experiment(found[1])
    assert Mirror(copy).sync().pending == 0
    copy.folder.remove("mlflow.json")  # a study that knows nothing of its runs there
    client.delete_experiment(number)
    assert "was deleted there" in (Mirror(copy).sync().problem or "")


def test_what_the_server_kept_hangs_below_what_is_made_anew(copy: Ledger) -> None:
    """A person deleted the study's own run, and the first cell's, and then sends all anew as the message says."""
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    client, runs = mirror.runs.client, dict(mirror._sender.cursor.runs)
    cell = copy.asks()[0].cell
    for key in ("", cell):
        client.delete_run(runs[key])
    copy.folder.remove("mlflow.json")
    again = Mirror(copy)
    assert again.sync().pending == 0
    made = again._sender.cursor.runs
    assert made[""] != runs[""] and made[cell] != runs[cell] and made[copy.asks()[0].trial_id] == runs[copy.asks()[0].trial_id]
    for ask in copy.asks():
        assert client.get_run(made[ask.trial_id]).data.tags["mlflow.parentRunId"] == made[ask.cell]
        assert client.get_run(made[ask.cell]).data.tags["mlflow.parentRunId"] == made[""]


def test_a_folder_whose_name_is_no_studys_is_not_sent(copy: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("it's mine", "mini%", "ä"):
        other = shutil.copytree(copy.folder.location, tmp_path / name)
        assert tracking.main(["sync", str(other)]) == 2
        assert "cannot be a study's name: it must match" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["restore", "anew"])
def test_deleted_runs_are_named_and_both_ways_out_lead_out(way: str, copy: Ledger) -> None:
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    client, number = mirror.runs.client, mirror.runs.experiment
    trial = copy.asks("confirm")[-1].trial_id
    client.delete_run(mirror._sender.cursor.runs[trial])
    mirror._sender.cursor.ended.discard(trial)  # as while it trains
    mirror._sender.cursor.save(copy.folder)
    problem = Mirror(copy).sync().problem or ""
    found = re.search(r"1 run of the study golden was deleted there.*--run-id (\w+)\)", problem)
    assert found, problem
    if way == "restore":
        client.restore_run(found[1])
    else:
        assert "remove mlflow.json from the study's folder, then sync" in problem
        copy.folder.remove("mlflow.json")
    assert Mirror(copy).sync().pending == 0
    runs = client.search_runs([number], f"tags.`{KEY}` = 'golden:{trial}'", ViewType.ACTIVE_ONLY)
    assert len(runs) == 1


def test_what_was_deleted_after_all_was_sent_is_said_when_sending_and_reading(
    copy: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, nothing was left to send, nothing was said, and a report from there rested on fewer runs."""
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    gone = mirror._sender.cursor.runs[copy.asks("confirm")[-1].trial_id]
    assert Mirror(copy).sync().problem is None
    mirror.runs.client.delete_run(gone)
    report = Mirror(copy).sync()
    assert report.sent == report.pending == 0 and f"--run-id {gone})" in (report.problem or "")
    assert tracking.main(["sync", copy.folder.location]) == 4, "a problem is no success, with all sent"
    read(mirror.uri, "golden", tmp_path / "to")
    assert "warning: " in (said := capsys.readouterr().err) and f"--run-id {gone})" in said and "They are left out" in said
    more = [mirror.runs.find(a.trial_id) for a in copy.asks("confirm")[:4]]
    for run in filter(None, more):
        mirror.runs.client.delete_run(run)
    command = re.search(r"\(for id in (.*); do .* mlflow runs restore --run-id \$id; done\)", Mirror(copy).sync().problem or "")
    assert command and set(command[1].split()) == {gone, *more}, "a line that is whole"
    for run in command[1].split():
        mirror.runs.client.restore_run(run)
    read(mirror.uri, "golden", tmp_path / "again")
    assert Mirror(copy).sync().problem is None and "deleted" not in capsys.readouterr().err


def test_a_study_is_found_under_whatever_name_its_experiment_has(copy: Ledger, tmp_path: Path) -> None:
    """People rename experiments: once, another one was made, and what was sent before could not be read any more."""
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    mirror.runs.client.rename_experiment(mirror.runs.experiment, "our weeds, final")
    copy.folder.remove("mlflow.json")
    again = Mirror(copy)
    assert again.sync().pending == 0 and again.runs.experiment == mirror.runs.experiment
    assert {e.name for e in again.runs.client.search_experiments(ViewType.ALL)} == {"Default", "our weeds, final"}
    assert read(again.uri, None, tmp_path / "to").study() == copy.study()


def test_a_folder_of_somebody_else_loses_nothing_to_a_fetch(copy: Ledger, tmp_path: Path) -> None:
    """Once, without a study.json in it, its report.html was replaced."""
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    copy.folder.write("selection.json", copy.folder.read("selection.json") or b"")
    own = tmp_path / "to" / "golden"
    own.mkdir(parents=True)
    (own / "selection.json").write_text("my own")
    (own / "notes.txt").write_text("notes")
    with pytest.raises(ConfigError, match="selection.json differs, and not by a fetch. Nothing was changed"):
        read(mirror.uri, "golden", tmp_path / "to")
    assert sorted(os.listdir(own)) == ["notes.txt", "selection.json"] and (own / "selection.json").read_text() == "my own"
    (own / "selection.json").unlink()
    assert read(mirror.uri, "golden", tmp_path / "to").study() == copy.study() and (own / "notes.txt").read_text() == "notes"


def test_a_study_copied_under_another_name_gets_runs_of_its_own(copy: Ledger) -> None:
    """Once, it went on in the runs of the one it was copied from, and wrote over what they say."""
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    place = Path(copy.folder.location)
    shutil.copytree(place, place.parent / "second")
    other = Mirror(Ledger(str(place.parent), "second"))
    assert other.sync().sent > 10 and other.runs.experiment != mirror.runs.experiment
    assert not set(other._sender.cursor.runs.values()) & set(mirror._sender.cursor.runs.values())


def test_a_server_whose_files_are_gone_gives_no_study_in_silence(copy: Ledger, tmp_path: Path) -> None:
    """The fetch once ended with the study's name and an empty folder."""
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    shutil.rmtree(Path(copy.folder.root).parent / "mlartifacts")
    with pytest.raises(EnvironmentProblem, match="has the runs of golden and not its files.*tracking sync RESULTS/golden"):
        fetch(mirror.uri, None, tmp_path / "to")
    copy.folder.remove("mlflow.json")
    assert Mirror(copy).sync().pending == 0  # as the line says
    assert tracking.main(["fetch", str(tmp_path / "to"), "--mlflow", f"{mirror.uri}#golden"]) == 0  # as a report is told of it
    assert Ledger(str(tmp_path / "to"), "golden").study() is not None


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab #/.%", max_size=12), st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)))
def test_a_study_is_named_behind_the_last_hash_and_a_path_may_hold_others(path: str, study: str | None) -> None:
    """In "sqlite:////home/a #b/mlflow.db", "b/mlflow.db" was once taken for a study."""
    uri = f"sqlite:////{path}/mlflow.db"
    assert server_and_study(f"{uri}#{study}" if study else uri) == (uri, study)


def begin_another(ledger: Ledger, of: str, at: float) -> Ledger:
    """Return another study of the same name, in another results folder: as the golden one, but begun at another time."""
    results = Path(ledger.folder.root).parent.parent / of
    shutil.copytree(GOLDEN, results)
    other = Ledger(results, "golden")
    other.add_facts(started_at=at, verdicts=[f"of {of}"])
    return other


def state(mirror: Mirror) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return everything that the server shows of the mirror's study: tags of its experiment; status, tags and metrics of its runs."""
    experiment = mirror.runs.client.get_experiment(mirror.runs.experiment)
    return experiment.tags, {r.info.run_id: (r.info.status, r.data.tags, r.data.metrics) for r in mirror.runs.there()}


def test_studies_of_one_name_do_not_mix(copy: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second once wrote into the runs of the first, over its verdict and its report."""
    uri = f"sqlite:///{tmp_path}/server.db"
    first = Mirror(copy, uri)
    assert (report := first.sync()).pending == 0 and report.problem is None is report.note
    before = state(first)
    others = [begin_another(copy, of, at) for of, at in (("other", 5.25), ("third", 5.5))]
    for number, other in enumerate(others, 2):
        for _ in range(2):  # as it is made, and as it is found again
            report = Mirror(other, uri).sync()
            assert report.pending == 0 and report.problem is None and f"so this study is golden-{number} there" in (report.note or "")
        assert state(first) == before and Mirror(copy, uri).sync() == SyncReport()
        ledger = read(uri, f"golden-{number}", tmp_path / "back")
        assert ledger.facts()["verdicts"] == other.facts()["verdicts"] and len(ledger.asks()) == len(copy.asks())
        assert Mirror(ledger, uri).sync().note is None, "it is found under the name by which it was fetched"
    assert tracking.main(["sync", others[0].folder.location, "--mlflow", uri]) == 0
    assert "so this study is golden-2 there" in capsys.readouterr().out


@pytest.mark.parametrize("sent_by", ["this version", "an earlier one"])
def test_an_experiment_without_our_mark_is_ours_where_its_run_began_with_the_study(sent_by: str, copy: Ledger) -> None:
    mirror = Mirror(copy)
    assert mirror.sync().pending == 0
    client, number = mirror.runs.client, mirror.runs.experiment
    if sent_by == "an earlier one":
        for tag in (BEGUN, KEY):
            client.delete_experiment_tag(number, tag)
    again = Mirror(copy)
    assert again.sync() == SyncReport() and again.runs.experiment == number
    other = begin_another(copy, "other", 5.25)
    if sent_by == "an earlier one":
        client.delete_experiment_tag(number, BEGUN)
    assert Mirror(other, mirror.uri).runs.study == "golden-2"


def test_what_a_person_made_under_the_name_stays_theirs(copy: Ledger, tmp_path: Path) -> None:
    """A colleague's experiment of the study's name was once taken over, and its description written over."""
    uri = f"sqlite:///{tmp_path}/server.db"
    client = connect(uri)
    theirs = client.create_experiment("golden", tags={"mlflow.note.content": "my own"})
    client.create_run(theirs, run_name="mine")
    before = client.get_experiment(theirs)
    report = Mirror(copy, uri).sync()
    assert report.pending == 0 and "another golden" in (report.note or "")
    after = client.get_experiment(theirs)
    assert after.tags == before.tags and len(client.search_runs([theirs])) == 1


@pytest.mark.parametrize("lacks", ["a trial", "an amendment", "the verdict"])
@pytest.mark.parametrize("cursor", ["kept", "lost"])
def test_an_older_copy_changes_nothing_of_the_newer_study(cursor: str, lacks: str, copy: Ledger, tmp_path: Path) -> None:
    """It once set back what the server says, and the newer folder, sent again, did not mend that."""
    uri, place = f"sqlite:///{tmp_path}/server.db", Path(copy.folder.location)
    finished = copy.facts()["finished_at"]
    if lacks == "the verdict":
        copy.add_facts(finished_at=0.0)
    trial, away = copy.asks("confirm")[-1].trial_id, tmp_path / "away"
    if lacks == "a trial":
        shutil.move(place / "trials" / trial, away)
    assert Mirror(copy, uri).sync().pending == 0
    old = tmp_path / "old" / "golden"
    shutil.copytree(place, old)
    if lacks == "a trial":
        shutil.move(away, place / "trials" / trial)
    elif lacks == "an amendment":
        copy.amend("something")
    else:
        copy.add_facts(finished_at=finished)
    newer = Mirror(copy, uri)
    assert newer.sync().pending == 0
    before = state(newer)
    if cursor == "lost":
        (old / "mlflow.json").unlink()
    report = Mirror(Ledger(old.parent, "golden"), uri).sync()
    assert "an older copy of the study, or another one" in (report.problem or "") and report.sent == 0 and state(newer) == before
    old.rename(old.parent / "beside")
    assert Mirror(Ledger(old.parent, "beside"), uri).sync().pending == 0 and state(newer) == before, "as the line says"


def synced(results: Path) -> str:
    """Send from a process of its own, since MLflow remembers a store and the folders of runs; return what was printed."""
    code = "import sys; from study.tracking.__main__ import main; sys.exit(main(['sync', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, str(results)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names_of_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("what", ["the store", "a run, for good", "the artifacts", "a network"])
def test_what_the_server_lost_is_sent_again(what: str, used: Results, tmp_path: Path) -> None:
    """Nothing was pending once, whatever had become of what was sent."""
    results = tmp_path / "results"
    shutil.copytree(used.folder, results / used.study.name)
    ledger = Ledger(results, used.study.name)
    assert " 0 events sent" not in synced(results)
    files, uri = names_of_files(results / "mlartifacts"), f"sqlite:///{results}/mlflow.db"
    pick, runs = ledger.facts()["picks"][0], json.loads((results / ledger.study_name / "mlflow.json").read_text())["runs"]
    if what == "the store":
        (results / "mlflow.db").unlink()
        shutil.rmtree(results / "mlartifacts")
    elif what == "the artifacts":
        shutil.rmtree(results / "mlartifacts")
    elif what == "a network":
        shutil.rmtree(next((results / "mlartifacts").rglob("model_calibrated")))
    else:
        connect(uri).delete_run(runs[pick["trial"]])
        gc = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri]
        subprocess.run(gc, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, check=True, capture_output=True, timeout=300)
    assert " 0 events sent" not in synced(results)
    assert names_of_files(results / "mlartifacts") == files
    again = Mirror(ledger)
    assert {again.runs.key(r) for r in again.runs.there()} == runs.keys()
    version = again.runs.client.get_model_version_by_alias(f"{used.study.name}-{pick['of']}", "best")
    assert version.run_id == again.runs.find(pick["trial"])
    assert Path(unquote(urlsplit(version.source).path), "MLmodel").is_file()
    assert " 0 events sent, 0 pending" in synced(results)


ODD = {
    "a page": (200, b"<html>", "not as MLflow does"),
    "an empty object": (200, b"{}", "not as MLflow does"),
    "a list": (200, b"[]", "not as MLflow does"),
    "its own address again": (302, b"", "not as MLflow does"),
    "too much": (429, b"slow", "(429). Sync later"),
    "no room": (503, b"slow", "(503)"),
    "a fault in words": (500, b"oops", "failed inside (500)"),
    "a fault of MLflow's": (500, b'{"error_code": "INTERNAL_ERROR", "message": "401"}', "failed inside (500)"),
}


@pytest.mark.parametrize("retries", ["0", "1"])
@pytest.mark.parametrize("what", ODD)
def test_what_answers_otherwise_than_mlflow_is_named_with_a_way_out(
    what: str, retries: str, copy: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, body, words = ODD[what]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", retries)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")

    class Odd(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in (("Content-Length", str(len(body))), ("Location", "/"), ("Retry-After", "3600")):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        report = Mirror(copy, f"http://127.0.0.1:{server.server_port}").sync()
        server.shutdown()
    assert words in (report.problem or "") and report.sent == 0 < report.pending


NO_ADDRESS = {
    "localhost:5000": "Did you mean http://localhost:5000?",
    "host:5000/mlflow": "Did you mean http://host:5000/mlflow?",
    "mlruns": "Did you mean sqlite:///mlruns/mlflow.db?",
    "/a/folder": "Did you mean sqlite:////a/folder/mlflow.db?",
    "sqlite:x.db": "Did you mean sqlite:///x.db?",
    "ftp://x": "no address of MLflow",
    "file:///tmp/x": "no address of MLflow",
    **dict.fromkeys(("sqlite://", "sqlite:///", "sqlite://x.db", "sqlite:///:memory:"), "keeps nothing"),
    **dict.fromkeys(("sqlite+pysqlite:///q.db", "SQLITE:///q.db"), "SQLite is named with sqlite:///"),
    **dict.fromkeys(
        ("http:///", "http://h:abc", "http://h:99999", "http://h:0", "http://h:5000 ", "http://h:5000\n", "http://[::1", "http://h/?x=1"),
        "no server's address",
    ),
    "sqlite:///file:x?mode=memory&uri=true": "keeps nothing",
}


@pytest.mark.parametrize("uri", NO_ADDRESS)
def test_what_is_no_address_is_refused_before_anything_is_sent(uri: str) -> None:
    for check in (check_tracking, check_receiver):
        with pytest.raises(ConfigError, match=re.escape(NO_ADDRESS[uri])):
            check(uri)


def test_a_study_is_sent_to_an_address_alone(copy: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for uri in ("off", "http://h:5000#tiny", "sqlite:///x.db#tiny"):
        assert tracking.main(["sync", copy.folder.location, "--mlflow", uri]) == 2
        assert f"--mlflow {uri}" in capsys.readouterr().err
    for uri in (None, "", "databricks", "http://h:5000", "sqlite:////a #b/x.db", "postgresql+psycopg2://u:p@h/x"):
        check_receiver(uri)


def test_a_file_that_cannot_be_made_or_is_none_of_sqlites_is_said_at_once(
    copy: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow tries it ten times, for two minutes."""
    monkeypatch.setattr("mlflow.store.db.utils.create_sqlalchemy_engine_with_retry", lambda uri: pytest.fail("MLflow was asked"))
    (tmp_path / "text.db").write_text("my notes\n" * 100)
    (tmp_path / "file").touch()
    for place, words in (("text.db", "is no database. Name another"), ("file/x.db", "--mlflow"), ("/proc/none/x.db", "--mlflow")):
        assert words in (Mirror(copy, f"sqlite:///{tmp_path / place}").sync().problem or "")
    assert (tmp_path / "text.db").read_text() == "my notes\n" * 100


def test_a_registry_elsewhere_is_named_for_its_own_faults(copy: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = next(iter(copy.selection()["chosen"].values()))
    copy.folder.write(f"trials/{trial}/best/manifest.json", b"{}")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert (Mirror(copy).sync().problem or "").startswith("MLFLOW_REGISTRY_URI http://127.0.0.1:9 refuses connections")
