"""Trials on an MLflow server, a run each, below the run of their cell: their epochs as they train, then their end and their files."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from study.failpoints import failpoint
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Outcome, Stage, TrialResult
from study.scoring.metric import metric_of
from study.tracking import events
from study.tracking.cursor import mark
from study.tracking.inputs import inputs
from study.tracking.ledger import Ledger
from study.tracking.names import names_by_cell, run_name
from study.tracking.sender import Sender

SIDE_BY_SIDE = 4  # trials sent at a time


class TrialRuns:
    """A study's cells and trials, as one pass sends them."""

    def __init__(self, ledger: Ledger, sender: Sender, study: Study, facts: dict[str, Any]) -> None:
        self._ledger, self._sender, self._facts = ledger, sender, facts
        self._names = names_by_cell(study.cells)

    def make_cells(self, asks: list[Ask], root: str) -> None:
        """Make the runs of the trials' cells, before they are needed side by side."""
        for ask in asks:
            if ask.cell not in self._sender.cursor.runs:
                tags = events.cell_tags(_config(ask).cell)
                self._sender.run(ask.cell, self._names.get(ask.cell, ask.cell), root, tags, self._facts.get("started_at"))

    def send(self, asks: list[Ask], data_report: dict[str, Any]) -> None:
        """Send the new parts of each trial: several trials at a time over a connection, one at a time into a local database."""
        if not self._sender.uri.startswith(("http://", "https://")):
            for ask in asks:
                self._send(ask, data_report)
            return
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="mirror") as pool:
            sent = [pool.submit(self._send, ask, data_report) for ask in asks]
            try:
                for future in sent:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)  # the first refusal ends the pass

    def put_file(self, ask: Ask, name: str) -> bool:
        """Send a trial's file; of a measurement, its summary too. Return False where the artifact store refuses it."""
        data, run = self._ledger.trial_folder(ask.trial_id).read(name), self._sender.cursor.runs[ask.trial_id]
        if data is None:
            return True
        if not self._sender.put(run, name, data):
            return False
        if name.startswith("measured/"):
            result = self._ledger.result(ask.trial_id)
            self._sender.runs.log_metrics(run, events.measured_rows(name, data, result) if result else [])
            with self._sender.got(ask.trial_id in self._sender.cursor.ended) as cursor:
                cursor.files[f"trials/{ask.trial_id}/{name}"] = mark(data)
        return True

    def _send(self, ask: Ask, data_report: dict[str, Any]) -> None:
        config, trial_id, cursor = _config(ask), ask.trial_id, self._sender.cursor
        result = self._ledger.result(trial_id)
        epochs = self._ledger.epochs(trial_id, ended=result is not None)
        started = result.started_at if result else (epochs[0].ended_at - epochs[0].seconds if epochs else None)
        tags = events.cell_tags(config.cell) | {"stage": ask.stage.value, "origin": ask.origin.value, "trial": trial_id}
        tags |= {"seed": str(config.seed), "number": str(ask.number)}
        run = self._sender.run(trial_id, run_name(ask, self._names.get(ask.cell, ask.cell)), cursor.runs[ask.cell], tags, started)
        failpoint("after_mlflow_start")
        params = dict[str, Any]()
        if trial_id not in cursor.epochs:
            params = events.params(config)
            looks = ask.stage is Stage.CONFIRM or ask.origin is Origin.REFIT
            self._sender.runs.add_inputs(run, inputs(config.cell, data_report, ("train", "val", "test") if looks else ("train", "val")))
        fresh = epochs[cursor.epochs.get(trial_id, 0) :]
        rows, ends = events.epoch_rows(fresh, metric_of(ask.config)), dict[str, str]()
        if result is not None:
            rows += events.class_rows(result)
            ends = {"outcome": result.outcome.value, "reason": result.reason, "device": result.device, "attempts": str(result.attempts)}
            ends |= events.fact_tags(self._facts)
        self._sender.runs.log(run, params, rows, ends)
        with self._sender.got(len(fresh)) as cursor:
            cursor.epochs[trial_id] = len(epochs)
        if result is not None:
            self._end(ask, run, result)

    def _end(self, ask: Ask, run: str, result: TrialResult) -> None:
        """End a trial's run. Where the artifact store refuses a file the run stays open, and the other trials continue."""
        whole = all([self.put_file(ask, name) for name in self._ledger.files(ask.trial_id)])
        if result.val is not None:
            rows = "\n".join(",".join(map(str, row)) for row in result.val.confusion) + "\n"
            whole &= self._sender.put(run, "confusion_matrix.csv", rows.encode())
        if not whole:
            return
        failpoint("before_mlflow_end")
        status = "FINISHED" if result.outcome in (Outcome.COMPLETED, Outcome.STOPPED) else "FAILED"
        self._sender.runs.end(run, status, result.ended_at)
        with self._sender.got(1) as cursor:
            cursor.ended.add(ask.trial_id)


def _config(ask: Ask) -> TrialConfig:
    return TrialConfig.from_dict(ask.config)
