"""The ledger and its mirror: nothing doubled, nothing lost, the same tables from both."""

import http.server
import json
import sqlite3
import threading
from pathlib import Path

import pytest

from analysis.figures import FIGURES
from analysis.load import load
from analysis.report import all_tables
from analysis.verdict import findings
from study.errors import EnvironmentProblem
from study.files import Folder
from study.tracking.ledger import Ledger
from study.tracking.to_mlflow import Mirror, explain

GOLDEN = Path(__file__).parent / "golden" / "study"


@pytest.fixture
def copy(tmp_path: Path) -> Ledger:
    import shutil

    shutil.copytree(GOLDEN, tmp_path / "results")
    return Ledger(tmp_path / "results", "golden")


def count(db: Path, sql: str) -> int:
    with sqlite3.connect(db) as connection:
        return int(connection.execute(sql).fetchone()[0])


def test_T7_replaying_doubles_nothing_and_analysis_is_the_same_from_both(copy: Ledger, tmp_path: Path) -> None:
    """A law: from the ledger or from the server alone, the same tables to the byte."""
    report = Mirror(copy).sync()
    assert report.pending == 0 and report.problem is None
    db = Path(copy.folder.root).parent / "mlflow.db"
    trials, epochs = len(copy.asks()), sum(len(copy.epochs(a.trial_id)) for a in copy.asks())
    assert count(db, "select count(*) from runs") == 1 + 2 + trials
    rows = count(db, "select count(*) from metrics where key = 'val/macro_f1'")
    assert rows == epochs
    copy.folder.remove("mlflow.json")  # the cursor is lost: everything is found by tag
    assert Mirror(copy).sync().pending == 0
    assert count(db, "select count(*) from runs") == 1 + 2 + trials
    assert count(db, "select count(*) from metrics where key = 'val/macro_f1'") == rows
    assert Mirror(copy).sync().sent == 0

    frames = [load(str(GOLDEN)), load(f"sqlite:///{db}#golden", cache=tmp_path / "back")]
    for a, b in zip(*(tables(f) for f in frames), strict=True):
        assert a == b


def tables(frames):
    from analysis.export import csv_bytes

    found = findings(frames, resamples=50)
    return [(k, csv_bytes(v)) for k, v in all_tables(frames, found, {s.name: s.compute(frames, found) for s in FIGURES}).items()]


def test_runs_are_nested_study_cell_trial(copy: Ledger) -> None:
    mirror = Mirror(copy)
    mirror.sync()
    runs = {r.info.run_id: r for r in mirror.client.search_runs([mirror.experiment()], max_results=100)}
    depth = {}
    for run_id, run in runs.items():
        parents, at = 0, run
        while parent := at.data.tags.get("mlflow.parentRunId"):
            at, parents = runs[parent], parents + 1
        depth[run_id] = parents
    assert sorted(depth.values()) == [0, 1, 1] + [2] * len(copy.asks())
    trial = next(r for r in runs.values() if "trial" in r.data.tags)
    assert {"strategy", "dataset", "backbone", "seed", "commit", "device", "version.torch"} <= set(trial.data.tags)
    assert {"lr", "weight_decay", "protocol.max_epochs"} <= set(trial.data.params)


def test_T2_server_down_costs_nothing_and_is_delivered_later(copy: Ledger) -> None:
    down = Mirror(copy, "http://127.0.0.1:9").sync()
    assert down.pending > 0 and down.problem and "\n" not in down.problem
    assert Mirror(copy).sync().pending == 0


@pytest.mark.parametrize(("status", "words"), [(401, "MLFLOW_TRACKING_USERNAME"), (403, "--allowed-hosts"), (500, "127.0.0.1")])
def test_T3_refusals_are_named_with_the_way_out(status: int, words: str, copy: Ledger) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        report = Mirror(copy, f"http://127.0.0.1:{server.server_port}").sync()
        server.shutdown()
    assert report.pending > 0 and words in (report.problem or "")


def test_X11_passwords_never_reach_a_line() -> None:
    line = explain(RuntimeError("cannot connect to postgresql://user:hunter2@host/db"), "postgresql://user:hunter2@host/db")
    assert "hunter2" not in line and "user" in line


def test_X10_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "a"))
    folder.write("b/c.json", b"{}")
    folder.append_line("b/d.jsonl", b"{}")
    for path in (tmp_path / "a").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_torn_last_line_is_not_read_and_is_cut_before_the_next(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.append_line("x", b"one")
    with open(tmp_path / "x", "ab") as file:
        file.write(b"tw")
    folder.append_line("x", b"three")
    assert folder.read("x") == b"one\nthree\n"


def test_a_remote_ledger_reads_as_it_was_written() -> None:
    remote, local = Folder("memory://results/golden"), Folder(str(GOLDEN / "golden"))
    names = [
        "study.json",
        "selection.json",
        *(f"trials/{t}/{n}" for t in local.names("trials") for n in ("config.json", "epochs.jsonl", "result.json", "predictions.parquet")),
    ]
    for name in names:
        if (data := local.read(name)) is not None:
            remote.write(name, data)
    a, b = Ledger("memory://results", "golden"), Ledger(GOLDEN, "golden")
    assert a.asks() == b.asks() and a.results() == b.results() and a.study() == b.study()


def test_T9_a_study_of_another_schema_or_a_damaged_one_is_named(copy: Ledger) -> None:
    path = Path(copy.folder.path("study.json"))
    values = json.loads(path.read_text())
    values["study"]["schema"] = 99
    path.write_text(json.dumps(values))
    with pytest.raises(Exception, match="schema 99"):
        load(copy)
    path.write_text("{")
    with pytest.raises(EnvironmentProblem, match="damaged"):
        load(copy)
