"""The mirror's faults: servers that are killed, hang, refuse, lose their store; logins and host names."""

import base64
import http.server
import json
import mmap
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from study.errors import EnvironmentProblem, StudyError
from study.tracking import from_mlflow
from study.tracking.from_mlflow import fetch
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from tests import mlflowserver, services, tiny
from tests.mlflowserver import Lies


def test_T3_a_server_that_accepts_and_says_nothing_is_given_up(copy: Ledger) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        code = (
            "import sys; from study.tracking.mirror import Mirror; from study.tracking.ledger import Ledger;"
            "r = Mirror(Ledger(sys.argv[1], 'golden'), sys.argv[2]).sync(); print(r.pending, r.problem)"
        )
        environment = {**os.environ, "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}  # ten by default: the same road, sooner
        done = subprocess.run(
            [sys.executable, "-c", code, str(Path(copy.folder.root).parent), f"http://127.0.0.1:{silent.getsockname()[1]}"],
            capture_output=True,
            text=True,
            env=environment,
            timeout=90,
        )
    pending, _, problem = done.stdout.partition(" ")
    assert int(pending) > 0 and "timed out" in problem, done.stdout + done.stderr
    print(f"\nT3: a hanging server was given up after {time.monotonic() - began:.0f} s")


def test_T4_a_locked_store_is_waited_for_or_said_and_then_delivered(copy: Ledger) -> None:
    assert Mirror(copy).sync().pending == 0
    db = Path(copy.folder.root).parent / "mlflow.db"
    copy.folder.remove("mlflow.json")
    lock = sqlite3.connect(db, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(5, lambda: (lock.execute("COMMIT"), lock.close()))
    release.start()
    Mirror(copy).sync()
    release.join()
    assert Mirror(copy).sync().pending == 0


class Refuses(http.server.BaseHTTPRequestHandler):
    """A proxy before a real server that refuses every upload whose path matches."""

    target, pattern = "", re.compile("confusion_matrix")

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "PUT" and self.pattern.search(self.path):
            self.send_response(500)
            self.end_headers()
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
        request = urllib.request.Request(self.target + self.path, data=body or None, method=self.command, headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        data = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = _pass

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_T8_a_refused_artifact_is_named_and_its_run_stays_open(copy: Ledger, tmp_path: Path) -> None:
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    with services.mlflow(f"sqlite:///{tmp_path}/server.db", tmp_path / "artifacts") as server:
        handler = type("Handler", (Refuses,), {"target": server.url})
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            uri = f"http://127.0.0.1:{proxy.server_port}"
            mirror = Mirror(copy, uri)
            report = mirror.sync()
            assert report.pending > 0 and "missing in the artifact store: confusion_matrix.csv" in (report.problem or "")
            running = [r for r in mirror.runs.client.search_runs([mirror.runs.experiment], max_results=100) if r.info.status == "RUNNING"]
            assert len(running) >= len(copy.asks()), "no run is finished without its files"
            handler.pattern = re.compile("(?!)")
            assert Mirror(copy, uri).sync().pending == 0
            proxy.shutdown()


@pytest.mark.parametrize("damage", ["random", pytest.param("empty", marks=pytest.mark.slow)])
def test_T10_a_damaged_store_is_named_and_left_alone(damage: str, copy: Ledger) -> None:
    assert Mirror(copy).sync().pending == 0
    db = Path(copy.folder.root).parent / "mlflow.db"
    db.write_bytes(os.urandom(40_000) if damage == "random" else b"")
    (Path(copy.folder.path("trials")) / copy.asks()[0].trial_id / "epochs.jsonl").touch()
    copy.add_facts(more="than the server knows")
    before = db.read_bytes()
    code = "import sys; from study.tracking.__main__ import main; sys.exit(main(['sync', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, str(Path(copy.folder.root).parent)], capture_output=True, text=True, timeout=200)
    if damage == "empty":  # what is gone is sent again
        assert done.returncode == 0 and " 0 pending" in done.stdout, done.stdout + done.stderr
    else:
        assert done.returncode == 4 and "lost its runs" in done.stdout, done.stdout + done.stderr
        assert db.read_bytes() == before, "not written over"


def test_T10_a_damaged_ledger_is_named_and_left_alone(copy: Ledger) -> None:
    path = Path(copy.folder.path(f"trials/{copy.asks()[0].trial_id}/epochs.jsonl"))
    path.write_bytes(b"{}garbage\n")
    with pytest.raises(EnvironmentProblem, match=r"epochs\.jsonl:1 is damaged"):
        copy.epochs(copy.asks()[0].trial_id)
    assert path.read_bytes() == b"{}garbage\n"


def rows(uri: str, ledger: Ledger) -> tuple[int, int, int]:
    """Return (trial runs, events, doubled events) on the server."""
    mirror = Mirror(ledger, uri)
    runs = [r for r in mirror.runs.client.search_runs([mirror.runs.experiment], max_results=1000) if "trial" in r.data.tags]
    seen = [(r.data.tags["trial"], m.step) for r in runs for m in mirror.runs.client.get_metric_history(r.info.run_id, "val/macro_f1")]
    return len(runs), len(set(seen)), len(seen) - len(set(seen))


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_T1_a_server_killed_in_the_middle_gets_every_event_once(tmp_path: Path) -> None:
    with services.mlflow(f"sqlite:///{tmp_path}/server.db", tmp_path / "artifacts") as server:
        study = tiny.write(tmp_path, ("linear_probe", "partial"), trials=6)
        process = subprocess.Popen(
            tiny.command(study, tmp_path / "results", "--local", "--mlflow", server.url), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        began, killed, back = time.monotonic(), 0.0, False
        for line in process.stdout:
            if "[3/12]" in line:
                server.kill()
                killed = time.monotonic()
            if killed and not back and time.monotonic() - killed > 8:
                server.start()
                back = True
        assert process.wait(120) == 0, process.stderr.read()
        print(f"\nT1: the sweep took {time.monotonic() - began:.0f} s with its server killed")
        if not back:
            server.start()
        ledger = Ledger(tmp_path / "results", "tiny")
        assert Mirror(ledger, server.url).sync().pending == 0
        trials, events, doubled = rows(server.url, ledger)
        sent = sum(len(ledger.epochs(a.trial_id)) for a in ledger.asks())
        assert (trials, events, doubled) == (len(ledger.asks()), sent, 0)
        print(f"T1: {sent} events, 0 lost, {doubled} doubled")


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_T6_postgres_killed_five_times_under_mlflow(tmp_path: Path) -> None:
    with (
        services.postgres(Path(f"/tmp/pg-{os.getpid()}")) as database,
        services.mlflow(database.url, tmp_path / "artifacts") as server,
    ):
        try:
            study = tiny.write(tmp_path, ("linear_probe", "partial"), trials=8)
            process = subprocess.Popen(
                tiny.command(study, tmp_path / "results", "--local", "--mlflow", server.url), stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True
            )  # fmt: skip
            kills = 0
            for line in process.stdout:
                if re.search(r"\[(2|5|8|11|14)/16\]", line):
                    database.kill()
                    time.sleep(1)
                    database.start()
                    kills += 1
            assert process.wait(120) == 0, process.stderr.read()
            ledger = Ledger(tmp_path / "results", "tiny")
            for _ in range(3):  # the pool may hold a dead connection
                if Mirror(ledger, server.url).sync().pending == 0:
                    break
            trials, events, doubled = rows(server.url, ledger)
            sent = sum(len(ledger.epochs(a.trial_id)) for a in ledger.asks())
            assert kills == 5 and (trials, events, doubled) == (len(ledger.asks()), sent, 0)
            print(f"\nT6: Postgres killed {kills} times: {sent} events, 0 lost, {doubled} doubled")
        finally:
            shutil.rmtree(database.folder, ignore_errors=True)


def ask(url: str, method: str = "GET", body: dict | None = None, login: str | None = None, host: str | None = None) -> int:
    request = urllib.request.Request(url, method=method, data=json.dumps(body).encode() if body is not None else None)
    request.add_header("Content-Type", "application/json")
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    if host:
        request.add_header("Host", host)
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


ENDPOINTS = [
    ("POST", "/api/2.0/mlflow/experiments/search", {"max_results": 10}),
    ("POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}),
    ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", None),
    ("POST", "/api/2.0/mlflow/experiments/create", {"name": "x"}),
    ("GET", "/api/2.0/mlflow/registered-models/search", None),
    ("GET", "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0", None),
    ("GET", "/ajax-api/3.0/jobs", None),
    ("POST", "/v1/traces", {}),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/x", {"path": "x", "num_parts": 1}),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=", None),
    ("POST", "/graphql", {"query": "{ __typename }"}),
    ("GET", "/api/2.0/mlflow/users/get?username=admin", None),
]


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_X7_nothing_answers_without_the_right_login(tmp_path: Path) -> None:
    password = "a-long-test-password-7"
    ini = tmp_path / "auth.ini"
    ini.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{tmp_path}/auth.db\n"
        "admin_username = admin\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {
        "MLFLOW_AUTH_CONFIG_PATH": str(ini),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-this-test",
    }
    with services.mlflow(f"sqlite:///{tmp_path}/server.db", tmp_path / "artifacts", "--app-name", "basic-auth", env=env) as server:
        for method, path, body in ENDPOINTS:
            assert ask(server.url + path, method, body) in (401, 403, 404), f"{path} answers without a login"
            assert ask(server.url + path, method, body, "admin:wrong") in (401, 403, 404), f"{path} answers a wrong login"
        right = [ask(server.url + p, m, b, f"admin:{password}") for m, p, b in ENDPOINTS]
        assert right[:3] == [200, 200, 200] and 401 not in right, right


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_X8_only_named_hosts_are_answered(tmp_path: Path) -> None:
    with services.mlflow(f"sqlite:///{tmp_path}/server.db", tmp_path / "artifacts") as server:
        port = server.url.rpartition(":")[2]
        url = f"{server.url}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert [ask(url, host=h) for h in ("evil.com", "10.evil.com", f"mlflow:{port}", f"localhost:{port}")] == [403, 403, 200, 200]


def test_an_honest_server_is_read_and_nothing_but_files_of_ours(tmp_path: Path) -> None:
    odd = {"notes.txt": b"no", "measured/x.pickle": b"no", "measured/UP.parquet": b"no", "best/manifest.json": b"no"}
    with mlflowserver.serve(Lies(files=Lies().files | odd)) as uri:
        ledger = fetch(uri, None, tmp_path / "cache")
    assert ledger.folder.read("study.json") == b"{}" and ledger.measured("0123456789abcdef", "cka") == b"cka"
    names = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {"study.json", "config.json", "cka.parquet", ".fetched.json"}


def test_memory_that_is_taken_already_is_not_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(from_mlflow, "LARGEST_MEMORY", 2**30)
    with mmap.mmap(-1, 2**33, prot=0), mlflowserver.serve(Lies()) as uri:
        assert fetch(uri, None, tmp_path / "cache").folder.read("study.json") == b"{}"


HOSTILE = {
    "a trial that climbs": (Lies(trial="../../../escaped"), "no trial of ours"),
    "a trial of another form": (Lies(trial="0123456789ABCDEF"), "no trial of ours"),
    "a study that climbs": (Lies(experiment="../../escaped"), "holds no study"),
    "a page for ever": (Lies(token="again"), "repeats a page"),
    "a size that is announced": (Lies(announced=2**40), "config.json of trial 0123456789abcdef is larger than"),
    "a file without end": (Lies(endless=True), "is larger than"),
    "a terminal that is played": (Lies(error="boom\x1b[2J\x1b]0;owned\x07\u202e"), r"boom\x1b[2J\x1b]0;owned\x07\u202e"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_is_refused_in_a_line_and_writes_nothing_outside(name: str, tmp_path: Path, monkeypatch) -> None:
    lies, words = HOSTILE[name]
    monkeypatch.setattr(from_mlflow, "LARGEST_FILE", 2**22)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    inside = tmp_path / "a" / "b" / "c"
    with mlflowserver.serve(lies) as uri, pytest.raises(StudyError) as refused:
        fetch(uri, None, inside / "cache")
    line = str(refused.value)
    assert words in line and line.isprintable() and refused.value.exit_code in (2, 4)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and inside not in p.parents]


@pytest.mark.slow
def test_a_server_that_drips_is_left_at_the_deadline(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("STUDY_MLFLOW_DEADLINE", "8")
    with mlflowserver.serve(Lies(drip_s=0.5)) as uri, pytest.raises(EnvironmentProblem, match="within 8 s.*STUDY_MLFLOW_DEADLINE"):
        from_mlflow.read(uri, None, tmp_path / "cache")


def test_what_reading_says_reaches_the_command_line(tmp_path: Path, capsys) -> None:
    from analysis import report

    with mlflowserver.serve(Lies(trial="../../../escaped")) as uri:
        assert report.main([uri, "--out", str(tmp_path / "r.html")]) == 4
        assert report.main([f"{uri}#../x", "--out", str(tmp_path / "r.html")]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("error: ") and "no trial of ours" in first
    assert second.startswith("error: ") and "cannot be a study's name" in second
