"""The experiment of one study on one MLflow server: its runs, found by tag or made, and their contents."""

import functools
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import early
from study.console.text import redact
from study.errors import EnvironmentProblem
from study.records import dumps
from study.scoring.metric import DEFAULT, Metric
from study.tracking.client import BEGUN, KEY, PAGE, connect, deleted_there, find_experiments, is_of
from study.tracking.explain import NO_MLFLOW
from study.tracking.moved import beside, bring_along
from study.tracking.names import first

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

Row = tuple[str, float, float, int]  # name, value, unix time, step
PARENT = "mlflow.parentRunId"
METRICS_A_BATCH = 900  # a server takes 1,000
TAGS_A_BATCH = 90  # and 100
LONGEST_TAG = 5000
MOST_NAMESAKES = 1000
LONGEST = 63  # characters of a study's name, without the hyphen before a number
KIND = "mlflow.experimentKind"
OF_THE_STUDY = {
    KIND: "custom_model_development",  # "model training"; else its page opens on traces of language models, and is empty
}


def of_the_study(study: str, begun: str, metric: Metric) -> dict[str, str]:
    """Return the tags of its experiment."""
    return {
        **OF_THE_STUDY,
        KEY: study,
        BEGUN: begun,
        "mlflow.experiment.primaryMetric.name": f"{first(metric)}/test",
        "mlflow.experiment.primaryMetric.greaterIsBetter": str(metric.higher),
    }


GUESSED = ("_inferred", "no_inferred_type")  # kinds that a page which was opened too early has put there
NOTE = "mlflow.note.content"  # Markdown, shown at the top of a run's page, and of an experiment's
TRAINING = "workflowType=machine_learning"  # MLflow's pages about training, not those about language models
VIEW = "mlflow.sharedViewState."  # + a key: columns and order of the table of runs, for a link that names the key


class Runs:
    """The runs of a study. Every method raises what MLflow's client raises."""

    def __init__(self, study: str, begun: Callable[[], str], uri: str) -> None:
        self._study, self._begun, self.uri = study, begun, uri
        self.metric: Metric = DEFAULT  # the study's, known once its question is read

    @functools.cached_property
    def client(self) -> "MlflowClient":
        """Return the client. It is made here, where its errors are caught: a store that is no database refuses."""
        return connect(self.uri)

    @property
    def study(self) -> str:
        """Return the study's name on this server: a number is behind it where another study or a person's experiment has it."""
        return self._place[0]

    @property
    def experiment(self) -> str:
        """Return the id of the study's experiment, which is made if it is not there."""
        return self._place[1]

    @functools.cached_property
    def _place(self) -> tuple[str, str]:
        begun = self._begun()
        for number in range(1, MOST_NAMESAKES):
            name = self._study if number == 1 else f"{self._study[: LONGEST - len(str(number))]}-{number}"
            there = find_experiments(self.client, name)
            known = next((e for e in there if is_of(self.client, e, name, begun)), None)
            if known is not None or not there:
                break
        else:  # a server that has every name is none
            raise EnvironmentProblem(f"{redact(self.uri)} {NO_MLFLOW}")
        bring_along(self.uri, name)
        tags = of_the_study(name, begun, self.metric)
        if known is None:
            place = f"{folder}/{name}" if (folder := beside(self.uri)) else None
            made = self.client.create_experiment(name, artifact_location=place, tags=tags)
            if not made:
                raise EnvironmentProblem(f"{redact(self.uri)} {NO_MLFLOW}")
            return name, str(made)
        if known.lifecycle_stage == "active":  # what is deleted takes neither tags nor runs, and says so where that is tried
            for tag, value in tags.items():
                if tag not in known.tags or (tag == KIND and known.tags[tag].endswith(GUESSED)):
                    self.client.set_experiment_tag(known.experiment_id, tag, value)
        return name, str(known.experiment_id)

    def called(self) -> str | None:
        """Return a line that says by which name the study is found on the server, where that is not its own."""
        if self.study == self._study:
            return None
        return f"{redact(self.uri)} has another {self._study}, so this study is {self.study} there"

    def deleted(self) -> str | None:
        """Return a line that says what of the study was deleted on the server, with the way out; None where nothing was."""
        return deleted_there(self.client, self.uri, self.study, self.client.get_experiment(self.experiment))

    def describe(self, run: str, text: str) -> None:
        """Set the description of the study's run and of its experiment, since people open either."""
        self.set_tags(run, {NOTE: text})
        self.client.set_experiment_tag(self.experiment, NOTE, redact(text)[:LONGEST_TAG])

    def offer_view(self, key: str, columns: Sequence[str], order: str) -> str:
        """Store a table of the runs with these columns (metrics.`NAME`, params.`NAME`), the highest of `order` first.

        Returns its place in MLflow's pages.
        """
        view = {"selectedColumns": list(columns), "columnOrder": list(columns), "orderByKey": order, "orderByAsc": False}
        self.client.set_experiment_tag(self.experiment, VIEW + key, dumps(view))
        return f"#/experiments/{self.experiment}/runs?{TRAINING}&viewStateShareKey={key}"

    def page(self, run: str, artifact: str) -> str:
        """Return the place of a run's file in MLflow's pages."""
        return f"#/experiments/{self.experiment}/runs/{run}/artifacts/{artifact}?{TRAINING}"

    def add_inputs(self, run: str, inputs: "Sequence[DatasetInput]") -> None:
        """Log the inputs of a run. MLflow stores those it knows already once."""
        if inputs:
            self.client.log_inputs(run, datasets=list(inputs))

    def find(self, key: str) -> str | None:
        """Return the id of the run of this key, or None."""
        found = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{self.study}:{key}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def there(self) -> "list[Run]":
        """Return all runs of the study that the server has, deleted ones too, the newest first."""
        from mlflow.entities import ViewType

        found: list[Run] = []
        ours, token = f"tags.`{KEY}` LIKE '{self.study}:%'", None
        while True:
            page = self.client.search_runs([self.experiment], ours, ViewType.ALL, max_results=PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def key(self, run: "Run") -> str:
        """Return what the run is of: "" the study, a cell's id, a trial's id."""
        return str(run.data.tags[KEY].removeprefix(f"{self.study}:"))

    def has(self, run: str, names: Collection[str]) -> bool:
        """Return False where a run of the server has none of these files or folders; True where the artifact store cannot be asked."""
        try:
            return any(f.path in names for f in self.client.list_artifacts(run))
        except Exception:
            return True

    def make(self, key: str, name: str, parent: str | None, tags: Mapping[str, str], started: float | None) -> str:
        """Make a run and return its id."""
        extra = {PARENT: parent} if parent else {}
        begun = int((started or time.time()) * 1000)
        full = {KEY: f"{self.study}:{key}", **_shown(tags), **extra}
        return str(self.client.create_run(self.experiment, start_time=begun, run_name=name, tags=full).info.run_id)

    def log(self, run: str, params: Mapping[str, Any], rows: Sequence[Row], tags: Mapping[str, str]) -> None:
        """Log everything at once. The client splits what is more than a server takes (100 parameters and tags each, 1,000 of all)."""
        from mlflow.entities import Metric, Param, RunTag

        few = rows[:METRICS_A_BATCH]  # a request's size is limited too
        self.client.log_batch(
            run,
            metrics=[Metric(name, value, int(at * 1000), step) for name, value, at, step in few],
            params=[Param(k, redact(str(v))) for k, v in params.items()],
            tags=[RunTag(k, v) for k, v in _shown(tags).items()],
        )
        self.log_metrics(run, rows[METRICS_A_BATCH:])

    def log_metrics(self, run: str, rows: Sequence[Row]) -> None:
        """Log rows of (name, value, unix time, step). The time is the event's own, so a row that is sent twice is stored once."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, int(at * 1000), step) for name, value, at, step in rows]
        for start in range(0, len(metrics), METRICS_A_BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + METRICS_A_BATCH])

    def set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        found = [RunTag(k, v) for k, v in _shown(tags).items()]
        for start in range(0, len(found), TAGS_A_BATCH):
            self.client.log_batch(run, tags=found[start : start + TAGS_A_BATCH])

    def replace_tags(self, run: str, prefix: str, values: Sequence[str]) -> None:
        """Set tags prefix1, prefix2, ... to exactly `values` and remove those of an earlier, longer list."""
        tags = {f"{prefix}{k + 1}": value for k, value in enumerate(values)}
        for name in self.client.get_run(run).data.tags:
            if name.startswith(prefix) and name not in tags:
                self.client.delete_tag(run, name)
        self.set_tags(run, tags)

    def put_file(self, run: str, name: str, data: bytes) -> None:
        """Upload a file, with a second try after a failure."""
        with early.temporary() as folder:
            file = Path(folder, os.path.basename(name))
            file.write_bytes(data)
            try:
                self.client.log_artifact(run, str(file), os.path.dirname(name) or None)
            except Exception:
                self.client.log_artifact(run, str(file), os.path.dirname(name) or None)

    def reopen(self, run: str) -> None:
        self.client.update_run(run, status="RUNNING")

    def end(self, run: str, status: str, at: float) -> None:
        """End a run. `status`: FINISHED, FAILED or KILLED; `at`: unix time."""
        self.client.set_terminated(run, status, end_time=int(at * 1000))


def _shown(tags: Mapping[str, str]) -> dict[str, str]:
    return {k: redact(v)[:LONGEST_TAG] for k, v in tags.items()}
