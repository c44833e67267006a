"""MLflow as a mirror of the ledger: study > cell > trial, found again by tag, so replaying never doubles anything.

It runs in a process of its own (`Follower`), so a slow or dead server costs training nothing; what was not sent is sent
by `python -m study.tracking sync RESULTS`. Every metric carries the time of its epoch: sent twice, it is stored once.
"""

import contextlib
import functools
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

for _name, _value in {  # read by the client when it is imported: never longer than 15 s for a try
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)

from study.config import TrialConfig  # noqa: E402
from study.facts import redact  # noqa: E402
from study.failpoints import failpoint  # noqa: E402
from study.records import Ask, Outcome, TrialResult, dumps  # noqa: E402
from study.tracking.ledger import Ledger  # noqa: E402

log = logging.getLogger(__name__)
KEY = "study.key"
STUDY_FILES = ("study.json", "selection.json", "test_lock.json", "data_report.json", "report.html")
TRIAL_FILES = ("config.json", "epochs.jsonl", "result.json", "predictions.parquet")


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    sent: int = 0  # events delivered: run starts, epochs, endings, files of the study
    pending: int = 0
    problem: str | None = None  # one line; the way out in it


def default_uri(ledger: Ledger) -> str:
    """SQLite beside the studies; for a results URL, in the working folder."""
    root = "." if ledger.folder.remote else os.path.dirname(ledger.folder.root)
    return f"sqlite:///{os.path.abspath(root)}/mlflow.db"


class Mirror:
    """One study, one server."""

    def __init__(self, ledger: Ledger, uri: str | None = None) -> None:
        self.ledger, self.uri = ledger, uri or default_uri(ledger)
        self.sent = 0
        self.cursor: dict[str, Any] = self._load_cursor()
        self._experiment: str | None = None

    @functools.cached_property
    def client(self) -> "MlflowClient":
        """Made where its errors are caught: a store that is no database refuses here."""
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def sync(self) -> SyncReport:
        """Sends everything in the ledger that the server has not got; stops at the first refusal. Never raises for a server's fault."""
        self.sent, self.refused = 0, ""
        try:
            study = self.ledger.study()
            if study is not None:
                for _ in self._events():
                    pass
        except Exception as error:  # whatever the client raises, training goes on and the ledger keeps the events
            self._save_cursor()
            return SyncReport(sent=self.sent, pending=self.pending(), problem=explain(error, self.uri))
        self._save_cursor()
        return SyncReport(sent=self.sent, pending=self.pending(), problem=self.refused or None)

    def pending(self) -> int:
        """Events in the ledger that have not been delivered."""
        count = 0
        for ask in self.ledger.asks():
            count += ask.trial_id not in self.cursor["runs"]
            count += len(self.ledger.epochs(ask.trial_id)) - self.cursor["epochs"].get(ask.trial_id, 0)
            count += ask.trial_id not in self.cursor["ended"] and self.ledger.result(ask.trial_id) is not None
        unclosed = self.ledger.finished() and "" not in self.cursor["ended"]
        return count + unclosed + sum(1 for name in STUDY_FILES if self._changed(name))

    # -- one pass ----------------------------------------------------------------------------------
    def _events(self) -> Iterator[None]:
        study, facts = self.ledger.study(), self.ledger.facts()
        assert study is not None
        parent = self._run("", study.name, None, {"study": study.name, **_fact_tags(facts)}, facts.get("started_at"))
        chosen = set((self.ledger.selection() or {"chosen": {}})["chosen"].values())
        for ask in self.ledger.asks():
            if ask.trial_id in self.cursor["ended"] and not (ask.trial_id in chosen and ask.trial_id not in self.cursor["models"]):
                continue
            cell = TrialConfig.from_dict(ask.config).cell
            tags = {"dataset": cell.dataset, "splits": cell.splits, "backbone": cell.backbone, "strategy": cell.strategy}
            home = self._run(ask.cell, f"{cell.strategy}, {cell.dataset}", parent, tags, None)
            self._trial(ask, home, tags)
            if ask.trial_id in chosen:
                self._model(ask, tags)
            yield
        for name in STUDY_FILES:
            if self._changed(name):
                data = self.ledger.folder.read(name)
                assert data is not None
                if self._artifact(parent, name, data):
                    self.cursor["files"][name] = _mark(data)
                    self.sent += 1
        if facts.get("finished_at") and "verdicts" in facts and "" not in self.cursor["ended"] and not self.refused:
            self._finish(parent, facts)
        yield

    def _trial(self, ask: Ask, home: str, tags: dict[str, str]) -> None:
        config = TrialConfig.from_dict(ask.config)
        epochs, result = self.ledger.epochs(ask.trial_id), self.ledger.result(ask.trial_id)
        started = result.started_at if result else (epochs[0].ended_at - epochs[0].seconds if epochs else None)
        tags |= {
            "stage": ask.stage.value,
            "origin": ask.origin.value,
            "trial": ask.trial_id,
            "seed": str(config.seed),
            "number": str(ask.number),
        }
        run = self._run(ask.trial_id, f"{config.cell.strategy} {ask.stage} #{ask.number}", home, tags, started)
        failpoint("after_mlflow_start")
        if ask.trial_id not in self.cursor["epochs"]:
            self._params(run, config)
        done = self.cursor["epochs"].get(ask.trial_id, 0)
        if fresh := epochs[done:]:
            self._metrics(run, fresh)
            self.sent += len(fresh)
        self.cursor["epochs"][ask.trial_id] = len(epochs)
        if result is not None and ask.trial_id not in self.cursor["ended"]:
            if not self._end(ask, run, result):
                return  # a run without its files is not finished
            failpoint("before_mlflow_end")
            self.client.set_terminated(run, _status(result), end_time=int(result.ended_at * 1000))
            self.cursor["ended"].append(ask.trial_id)
            self.sent += 1

    def _params(self, run: str, config: TrialConfig) -> None:
        from mlflow.entities import Param

        values = {
            **config.tuned(),
            **asdict(config.cell),
            **{f"protocol.{k}": v for k, v in asdict(config.protocol).items()},
            "seed": config.seed,
        }
        self.client.log_batch(run, params=[Param(k, redact(str(v))) for k, v in values.items()])

    def _metrics(self, run: str, epochs: list[Any]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(k, v, int(e.ended_at * 1000), e.epoch)
            for e in epochs
            for k, v in {**e.metrics, "train_seconds": e.train_seconds, "eval_seconds": e.eval_seconds}.items()
        ]
        for start in range(0, len(metrics), 900):  # the server takes 1,000 at a time
            self.client.log_batch(run, metrics=metrics[start : start + 900])

    def _end(self, ask: Ask, run: str, result: TrialResult) -> bool:
        """False when the artifact store refused a file: the run stays open, the rest goes on."""
        files = {name: self.ledger.trial_folder(ask.trial_id).read(name) for name in TRIAL_FILES}
        if result.val is not None:
            rows = "\n".join(",".join(map(str, row)) for row in result.val.confusion)
            files["confusion_matrix.csv"] = (rows + "\n").encode()
        missing = [name for name, data in files.items() if data is not None and not self._artifact(run, name, data)]
        if result.val is not None:
            from mlflow.entities import Metric

            named = [("recall", result.val.recall), ("precision", result.val.precision), ("f1", result.val.f1)]
            # keyed by class index: names may hold anything, and servers refuse some of it
            per_class = [
                Metric(f"val/{n}_c{k:03d}", v, int(result.ended_at * 1000), result.best_epoch or 0)
                for n, values in named
                for k, v in enumerate(values)
                if v is not None
            ]
            for start in range(0, len(per_class), 900):
                self.client.log_batch(run, metrics=per_class[start : start + 900])
        tags = {
            "outcome": result.outcome.value,
            "reason": redact(result.reason),
            "device": result.device,
            "attempts": str(result.attempts),
            **_fact_tags(self.ledger.facts()),
        }
        for k, v in tags.items():
            self.client.set_tag(run, k, v)
        return not missing

    def _model(self, ask: Ask, tags: dict[str, str]) -> None:
        """Registers the chosen trial's network as a model version, loadable by mlflow.pyfunc.load_model."""
        from study.tracking.model import register

        folder = self.ledger.trial_folder(ask.trial_id)
        if ask.trial_id in self.cursor["models"] or not folder.exists("best/manifest.json"):
            return
        name = re.sub(
            r"[^A-Za-z0-9._-]+", "-", f"{self.ledger.study_name}-{tags['dataset']}-{tags['splits']}-{tags['backbone']}-{tags['strategy']}"
        )
        register(self.client, name, self.cursor["runs"][ask.trial_id], folder, {"trial": ask.trial_id, **tags})
        self.cursor["models"].append(ask.trial_id)
        self.sent += 1

    def _finish(self, parent: str, facts: dict[str, Any]) -> None:
        for k, sentence in enumerate(facts.get("verdicts", [])):
            self.client.set_tag(parent, f"verdict.{k + 1}", str(sentence)[:5000])
        tables = self.ledger.folder / "tables"
        for name in tables.names():
            data = tables.read(name)
            if data is not None and not self._artifact(parent, f"tables/{name}", data):
                return  # the study's run stays open until everything is there
        end = int(float(facts["finished_at"]) * 1000)
        for key, run in self.cursor["runs"].items():
            if key not in self.cursor["ended"]:
                is_trial = "/" not in key and key != ""
                self.client.set_terminated(run, "KILLED" if is_trial else "FINISHED", end_time=end)
                self.cursor["ended"].append(key)
        self.sent += 1

    # -- finding and making -----------------------------------------------------------------------------
    def _run(self, key: str, name: str, parent: str | None, tags: dict[str, str], started: float | None) -> str:
        """The run of this key: known, else found by tag, else made."""
        if (known := self.cursor["runs"].get(key)) is not None:
            return str(known)
        full = f"{self.ledger.study_name}:{key}"
        found = self.client.search_runs([self.experiment()], f"tags.`{KEY}` = '{full}'", max_results=1)
        if found:
            run = found[0].info.run_id
        else:
            extra = {"mlflow.parentRunId": parent} if parent else {}
            made = self.client.create_run(
                self.experiment(), start_time=int((started or time.time()) * 1000), run_name=name, tags={KEY: full, **tags, **extra}
            )
            run = made.info.run_id
        self.cursor["runs"][key] = run
        self._save_cursor()
        self.sent += 1
        return str(run)

    def experiment(self) -> str:
        if self._experiment is None:
            known = self.client.get_experiment_by_name(self.ledger.study_name)
            if known is None:
                location = None
                if self.uri.startswith("sqlite:///"):
                    location = Path(self.uri.removeprefix("sqlite:///")).parent.joinpath("mlartifacts", self.ledger.study_name).as_uri()
                self._experiment = self.client.create_experiment(self.ledger.study_name, artifact_location=location)
            else:
                self._experiment = known.experiment_id
        assert self._experiment is not None
        return self._experiment

    def _artifact(self, run: str, name: str, data: bytes) -> bool:
        """False, and remembered, when the artifact store alone refuses: metrics go on, the file is tried again next time."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, os.path.basename(name))
            file.write_bytes(data)
            for last in (False, True):
                try:
                    self.client.log_artifact(run, str(file), os.path.dirname(name) or None)
                    return True
                except Exception as error:
                    if last:
                        self.refused = f"missing in the artifact store: {name} of run {run}; {explain(error, self.uri)}"
                        self.client.get_run(run)  # raises where the whole server is away
        return False

    # -- the cursor: an optimisation; without it everything is found by tag -------------------------------
    def _load_cursor(self) -> dict[str, Any]:
        fresh: dict[str, Any] = {"uri": redact(self.uri), "runs": {}, "epochs": {}, "ended": [], "models": [], "files": {}}
        with contextlib.suppress(ValueError):
            known = json.loads(self.ledger.folder.read("mlflow.json") or b"{}")
            if known.get("uri") == fresh["uri"]:
                return {**fresh, **known}
        return fresh

    def _save_cursor(self) -> None:
        with contextlib.suppress(Exception):  # a full disk: found by tag next time
            self.ledger.folder.write("mlflow.json", dumps(self.cursor).encode())

    def _changed(self, name: str) -> bool:
        data = self.ledger.folder.read(name)
        return data is not None and self.cursor["files"].get(name) != _mark(data)


def _mark(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()[:16]


def _status(result: TrialResult) -> str:
    return "FINISHED" if result.outcome in (Outcome.COMPLETED, Outcome.STOPPED) else "FAILED"


def _fact_tags(facts: dict[str, Any]) -> dict[str, str]:
    versions = {f"version.{k}": str(v) for k, v in facts.get("versions", {}).items()}
    return {k: redact(str(facts[k])) for k in ("commit", "host", "python", "command") if k in facts} | versions


def explain(error: Exception, uri: str) -> str:
    """One line with the way out; passwords never in it."""
    whole = " ".join(str(error).split())
    text, where = whole[:300], redact(uri)
    if "ReadTimeout" in whole or "timed out" in whole:
        return f"{where} accepts but does not answer (timed out)"
    if "Connection refused" in whole:
        return f"{where} refuses connections; is the server running?"
    if "401" in text or "UNAUTHORIZED" in text.upper():
        return f"{where} refused the login (401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if "RESOURCE_DOES_NOT_EXIST" in text or "Run with id=" in text or "not a database" in text:
        return f"{where} has lost its runs ({text[:120]}); restore its backup, or give it an empty store and send all anew: remove mlflow.json from the study's folder, then sync"
    if "403" in text or "FORBIDDEN" in text.upper():
        return f"{where} refused (403): no permission, or the server's --allowed-hosts lacks this host name"
    return redact(f"{where}: {type(error).__name__}: {text}")


class Follower:
    """The mirror as a child process, which polls the ledger while a sweep runs."""

    def __init__(self, ledger: Ledger, uri: str | None = None) -> None:
        self.ledger, self.uri, self.is_default = ledger, uri or default_uri(ledger), uri is None
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = {**os.environ, "STUDY_MLFLOW_URI": self.uri}  # not an argument: it may hold a password
        environment.setdefault("PYTHONPATH", os.pathsep.join(sys.path[:1] + [os.getcwd()]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study.tracking", "follow", self.ledger.folder.location],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def close(self, timeout: float = 60.0) -> SyncReport:
        """Lets it send the rest, for at most `timeout` seconds."""
        assert self.process is not None
        try:
            output, _ = self.process.communicate(timeout=timeout)  # closes its stdin: the sign to finish
            return SyncReport(**json.loads(output.strip().splitlines()[-1]))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            problem = f"{redact(self.uri)} did not take everything within {timeout:.0f} s"
        except (ValueError, IndexError):
            problem = "the tracking process ended early"
        pending = sum(1 + len(self.ledger.epochs(a.trial_id)) for a in self.ledger.asks())
        return SyncReport(pending=pending, problem=problem)

    def how_to_look(self) -> str:
        if self.uri.startswith("sqlite"):
            return f"mlflow ui --backend-store-uri {self.uri}"
        return redact(self.uri)
